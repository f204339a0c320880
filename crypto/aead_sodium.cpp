// The portable implementation and the reference of the self-test: libsodium, one packet at a time.
#include <array>

#include "crypto/aead_backends.h"
#include "crypto/aead_stash.h"
#include "crypto/sodium_ready.h"

namespace sallyport::crypto {

namespace {

using Nonce = std::array<uint8_t, crypto_aead_chacha20poly1305_ietf_NPUBBYTES>;

Nonce nonce_of(uint64_t counter) {
  Nonce nonce{};
  for (size_t i = 0; i < 8; ++i) {
    nonce[4 + i] = static_cast<uint8_t>(counter >> (8 * i));
  }
  return nonce;
}

}  // namespace

void sodium_seal_many(std::span<SealItem> items) {
  sodium_ready();
  for (const SealItem& item : items) {
    const Stash stash(item);
    const Nonce nonce = nonce_of(item.counter);
    crypto_aead_chacha20poly1305_ietf_encrypt_detached(
        item.out, item.out + item.plain_len(), nullptr, stash.source(), item.plain_len(), nullptr,
        0, nullptr, nonce.data(), item.key->bytes);
  }
}

void sodium_open_many(std::span<OpenItem> items) {
  sodium_ready();
  for (OpenItem& item : items) {
    const Nonce nonce = nonce_of(item.counter);
    item.ok = item.len >= kTagSize &&
              crypto_aead_chacha20poly1305_ietf_decrypt_detached(
                  item.data, nullptr, item.data, item.len - kTagSize,
                  item.data + item.len - kTagSize, nullptr, 0, nonce.data(), item.key->bytes) == 0;
  }
}

void aead_seal_with_ad(std::span<uint8_t> sealed, Bytes plain, Bytes ad,
                       std::span<const uint8_t, 32> key, uint64_t counter) {
  sodium_ready();
  const Nonce nonce = nonce_of(counter);
  crypto_aead_chacha20poly1305_ietf_encrypt(sealed.data(), nullptr, plain.data(), plain.size(),
                                            ad.data(), ad.size(), nullptr, nonce.data(),
                                            key.data());
}

bool aead_open_with_ad(std::span<uint8_t> plain, Bytes sealed, Bytes ad,
                       std::span<const uint8_t, 32> key, uint64_t counter) {
  if (sealed.size() < kTagSize || plain.size() != sealed.size() - kTagSize) {
    secure_zero(plain.data(), plain.size());
    return false;
  }
  sodium_ready();
  const Nonce nonce = nonce_of(counter);
  return crypto_aead_chacha20poly1305_ietf_decrypt(plain.data(), nullptr, nullptr, sealed.data(),
                                                   sealed.size(), ad.data(), ad.size(),
                                                   nonce.data(), key.data()) == 0;
}

}  // namespace sallyport::crypto
