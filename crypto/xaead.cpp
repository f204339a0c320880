#include "crypto/xaead.h"

#include <cassert>

#include "crypto/sodium_ready.h"

namespace sallyport::crypto {

namespace {
constexpr size_t kTag = crypto_aead_xchacha20poly1305_ietf_ABYTES;
}  // namespace

void xaead_seal(std::span<uint8_t> sealed, Bytes plain, Bytes ad, const Key& key,
                std::span<const uint8_t, kXNonceSize> nonce) {
  assert(sealed.size() == plain.size() + kTag);
  sodium_ready();
  crypto_aead_xchacha20poly1305_ietf_encrypt(sealed.data(), nullptr, plain.data(), plain.size(),
                                             ad.data(), ad.size(), nullptr, nonce.data(),
                                             key.data());
}

bool xaead_open(std::span<uint8_t> plain, Bytes sealed, Bytes ad, const Key& key,
                std::span<const uint8_t, kXNonceSize> nonce) {
  if (sealed.size() < kTag || plain.size() != sealed.size() - kTag) {
    secure_zero(plain.data(), plain.size());
    return false;
  }
  sodium_ready();
  return crypto_aead_xchacha20poly1305_ietf_decrypt(plain.data(), nullptr, nullptr, sealed.data(),
                                                    sealed.size(), ad.data(), ad.size(),
                                                    nonce.data(), key.data()) == 0;
}

}  // namespace sallyport::crypto
