// `sallyport status [INTERFACE] [--json]`: asks running daemons over their UAPI sockets and prints.
//
// With INTERFACE, that one, and an error if it does not answer; without, every socket in the directory
// that a Sallyport answers on. Needs to be whoever may open the socket: root. A short-lived process of
// its own: blocking calls with a time limit (control/limits.h).
#pragma once

#include <string>

#include "control/status.h"

namespace sallyport {

// The report of one daemon.
Result<Json> ask_status(const std::string& interface, const std::string& directory);

// Prints to stdout; what is wrong to stderr. Returns the program's exit status.
int run_status(const std::string& interface, bool json);

}  // namespace sallyport
