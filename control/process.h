// What the program does to its own process before it serves: the cipher chosen, its memory hidden.
//
// Thread rules: the main thread, before others are started.
#pragma once

#include "dataplane/base/result.h"

namespace sallyport {

// Keys live in this process: no core file, no debugger of another user, no /proc/PID/mem.
void hide_memory();

// The fastest implementation of the AEAD that works here, or the one that SALLYPORT_AEAD names.
Result<void> choose_aead();

}  // namespace sallyport
