// The daemon: makes everything one interface needs, tells its parent, and runs until it is told to end.
//
// It ends with status 0 on SIGTERM and SIGINT (and SIGHUP in the foreground), when the TUN is deleted and
// when its socket file is removed; with 1 and one line on stderr when it cannot start. It leaves nothing:
// the TUN goes with its descriptors, the socket file is removed if it is still the one that was made.
//
// In the background: one fork before any thread exists. The child does all the work; the parent waits
// for its word and exits 0 only when TUN and socket are ready, else it prints the child's reason and exits
// 1. So whoever started it (wg-quick) can go on at once. The child has a session of its own, works in /,
// and has /dev/null for standard streams (but see control/log.h). Nobody may read its memory: no core
// dumps, not dumpable.
#pragma once

#include <string>

namespace sallyport {

struct DaemonOptions {
  std::string interface;
  bool foreground = false;
};

// Returns the program's exit status. Reads the environment: WG_TUN_FD, WG_UAPI_FD, WG_THREADS, LOG_LEVEL,
// SALLYPORT_AEAD.
int run_daemon(const DaemonOptions& options);

}  // namespace sallyport
