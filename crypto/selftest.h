// The self-test every AEAD implementation passes before a packet goes through it.
//
// It seals and opens a spread of lengths and batch sizes, split and in place, compares each byte
// with libsodium, and tampers with tags. About a millisecond an implementation. libsodium itself is
// held against the vectors of RFC 8439 by the unit tests.
#pragma once

#include <span>

#include "crypto/aead.h"

namespace sallyport::crypto {

// "" if it passed, else what differed.
const char* self_test(const AeadImplementation& implementation);

}  // namespace sallyport::crypto
