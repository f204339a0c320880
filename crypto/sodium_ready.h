// libsodium picks its fastest code for the CPU in sodium_init(); without it everything is right but
// slow, and random bytes are not safe from two threads. Every file that calls libsodium asks for
// this first.
#pragma once

#include <sodium.h>

#include <cstdlib>

namespace sallyport::crypto {

inline void sodium_ready() {
  // -1 means the machine gives no random bytes: there is nothing to go on with.
  static const int status = sodium_init();
  if (status < 0) {
    std::abort();
  }
}

}  // namespace sallyport::crypto
