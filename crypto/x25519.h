// X25519 (RFC 7748) and random bytes, over libsodium.
//
// Costs about 35 us a multiplication, 20 us with the base point: never on a worker that carries
// data. Thread-safe.
#pragma once

#include <cstdint>
#include <span>

#include "crypto/secret.h"

namespace sallyport::crypto {

inline constexpr size_t kPublicKeySize = 32;

// shared = scalar * point. False (and shared all zero) if the result is zero: the point was of low
// order and the peer contributed nothing, so the handshake must stop.
[[nodiscard]] bool x25519(Key& shared, const Key& scalar,
                          std::span<const uint8_t, kPublicKeySize> point);

// The public key of a private key.
void x25519_base(std::span<uint8_t, kPublicKeySize> point, const Key& scalar);

// Clears and sets the bits a private key must have (RFC 7748, section 5). The multiplications do it
// anyway; clamping when a key is stored is what makes wg(8) show the key that is used.
void clamp(Key& scalar);

void random_bytes(std::span<uint8_t> bytes);

// A clamped random private key.
Key generate_private_key();

// A random number below bound, without bias. bound is at least 1.
uint32_t random_below(uint32_t bound);

}  // namespace sallyport::crypto
