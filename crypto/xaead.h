// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), one message at a time, over libsodium: the cookie
// reply of the WireGuard whitepaper, section 5.4.7. Not for data; thread-safe.
#pragma once

#include <cstdint>
#include <span>

#include "crypto/blake2s.h"
#include "crypto/secret.h"

namespace sallyport::crypto {

inline constexpr size_t kXNonceSize = 24;

// sealed has 16 bytes more than plain. They may start at the same address.
void xaead_seal(std::span<uint8_t> sealed, Bytes plain, Bytes ad, const Key& key,
                std::span<const uint8_t, kXNonceSize> nonce);

// plain has 16 bytes less than sealed. False if the tag is wrong or sealed is too short; plain is
// then zero.
[[nodiscard]] bool xaead_open(std::span<uint8_t> plain, Bytes sealed, Bytes ad, const Key& key,
                              std::span<const uint8_t, kXNonceSize> nonce);

}  // namespace sallyport::crypto
