// The independent oracle: ChaCha20-Poly1305 by OpenSSL, with WireGuard's counter nonce.
#pragma once

#include <openssl/evp.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace sallyport::crypto {

// Ciphertext and tag.
inline std::vector<uint8_t> openssl_seal(const uint8_t* key, uint64_t counter,
                                         std::span<const uint8_t> plain) {
  struct FreeContext {
    void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
  };
  static thread_local std::unique_ptr<EVP_CIPHER_CTX, FreeContext> context;
  if (context == nullptr) {
    context.reset(EVP_CIPHER_CTX_new());
    EVP_EncryptInit_ex(context.get(), EVP_chacha20_poly1305(), nullptr, nullptr, nullptr);
  }
  uint8_t nonce[12] = {};
  for (int i = 0; i < 8; ++i) {
    nonce[4 + i] = static_cast<uint8_t>(counter >> (8 * i));
  }
  std::vector<uint8_t> sealed(plain.size() + 16);
  int len = 0;
  EVP_EncryptInit_ex(context.get(), nullptr, nullptr, key, nonce);
  if (!plain.empty()) {
    EVP_EncryptUpdate(context.get(), sealed.data(), &len, plain.data(),
                      static_cast<int>(plain.size()));
  }
  EVP_EncryptFinal_ex(context.get(), sealed.data() + len, &len);
  EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, 16, sealed.data() + plain.size());
  return sealed;
}

}  // namespace sallyport::crypto
