// KDF_n of the WireGuard whitepaper, section 5.4: HKDF (RFC 5869) over HMAC-BLAKE2s.
//
//   t0 = HMAC(key, input)   t1 = HMAC(t0, 0x1)   t2 = HMAC(t0, t1 || 0x2)   t3 = HMAC(t0, t2 ||
//   0x3)
//
// An output may be the very Secret that key or input is a view of: both are consumed before the
// first write.
#pragma once

#include "crypto/blake2s.h"
#include "crypto/secret.h"

namespace sallyport::crypto {

void kdf1(Bytes key, Bytes input, Key& first);
void kdf2(Bytes key, Bytes input, Key& first, Key& second);
void kdf3(Bytes key, Bytes input, Key& first, Key& second, Key& third);

}  // namespace sallyport::crypto
