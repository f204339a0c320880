// What the program does to its own process before it serves: the cipher chosen, its memory hidden.
//
// Thread rules: the main thread, before others are started.
#pragma once

#include "dataplane/base/result.h"
#include "tun/tun_port.h"

namespace sallyport {

// Keys live in this process: no core file, no debugger of another user, no /proc/PID/mem.
void hide_memory();

// The fastest implementation of the AEAD that works here, or the one that SALLYPORT_AEAD names.
Result<void> choose_aead();

// Whether TUN devices are read and written by io_uring, where there is one: SALLYPORT_IO_URING=0 forbids it.
TunCalls choose_tun_calls();

}  // namespace sallyport
