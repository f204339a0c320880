#include "crypto/x25519.h"

#include "crypto/sodium_ready.h"

namespace sallyport::crypto {

bool x25519(Key& shared, const Key& scalar, std::span<const uint8_t, kPublicKeySize> point) {
  sodium_ready();
  // libsodium refuses some low-order points before it multiplies, so its status counts as well as
  // the result.
  Key result;
  const bool refused =
      crypto_scalarmult_curve25519(result.data(), scalar.data(), point.data()) != 0;
  if (refused || result.is_zero()) {
    shared.clear();
    return false;
  }
  shared = std::move(result);
  return true;
}

void x25519_base(std::span<uint8_t, kPublicKeySize> point, const Key& scalar) {
  sodium_ready();
  crypto_scalarmult_curve25519_base(point.data(), scalar.data());
}

void clamp(Key& scalar) {
  uint8_t* bytes = scalar.data();
  bytes[0] = static_cast<uint8_t>(bytes[0] & 248);
  bytes[31] = static_cast<uint8_t>((bytes[31] & 127) | 64);
}

void random_bytes(std::span<uint8_t> bytes) {
  sodium_ready();
  randombytes_buf(bytes.data(), bytes.size());
}

Key generate_private_key() {
  Key scalar;
  random_bytes(scalar);
  clamp(scalar);
  return scalar;
}

uint32_t random_below(uint32_t bound) {
  sodium_ready();
  return randombytes_uniform(bound);
}

}  // namespace sallyport::crypto
