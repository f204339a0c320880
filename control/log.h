// The program's log, set up once from LOG_LEVEL: verbose (or debug), info, error (the default of a lone tunnel) or
// silent. Any other word means error too, as with wireguard-go.
//
// In the foreground lines go to stderr. In the background stderr is kept when LOG_LEVEL is set, as
// wireguard-go keeps it, so that a supervisor gets what it asked for; else what there is to say goes to
// syslog, where it is found. Never on a worker: control's thread and start-up only. Every line carries a name: the
// interface's, or "run" for the daemon of a configuration.
#pragma once

#include <string>

namespace sallyport {

enum class LogTarget { standard_error, system_log };

// `level` is LOG_LEVEL's text, null or empty when it is not set.
void start_log(const char* level, const std::string& interface, LogTarget target);

}  // namespace sallyport
