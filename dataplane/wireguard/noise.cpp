#include "dataplane/wireguard/noise.h"

#include <string_view>

#include "crypto/aead.h"
#include "crypto/kdf.h"
#include "crypto/x25519.h"

namespace sallyport::wireguard {
namespace {

constexpr std::string_view kConstruction = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
constexpr std::string_view kIdentifier = "WireGuard v1 zx2c4 Jason@zx2c4.com";

crypto::Bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

const Hash& initial_chaining_key() {
  static const Hash value = [] {
    Hash hash;
    crypto::blake2s(hash, {bytes_of(kConstruction)});
    return hash;
  }();
  return value;
}

const Hash& initial_hash() {
  static const Hash value = [] {
    Hash hash;
    crypto::blake2s(hash, {initial_chaining_key(), bytes_of(kIdentifier)});
    return hash;
  }();
  return value;
}

void label_key(uint8_t out[32], std::span<const char, 9> label, const PublicKey& key) {
  crypto::blake2s(std::span<uint8_t, 32>(out, 32), {bytes_of({label.data(), 8}), key});
}

void mix_hash(Hash& hash, crypto::Bytes data) {
  crypto::blake2s(hash, {crypto::Bytes(hash), data});
}

void mix_ephemeral(crypto::Key& chaining_key, Hash& hash, crypto::Bytes ephemeral) {
  crypto::kdf1(chaining_key, ephemeral, chaining_key);
  mix_hash(hash, ephemeral);
}

bool mix_dh(crypto::Key& chaining_key, const crypto::Key& private_key,
            std::span<const uint8_t, kKeyBytes> public_key) {
  crypto::Key product;
  if (!crypto::x25519(product, private_key, public_key)) {
    return false;
  }
  crypto::kdf1(chaining_key, product, chaining_key);
  return true;
}

bool mix_dh(crypto::Key& chaining_key, crypto::Key& key, const crypto::Key& private_key,
            std::span<const uint8_t, kKeyBytes> public_key) {
  crypto::Key product;
  if (!crypto::x25519(product, private_key, public_key)) {
    return false;
  }
  crypto::kdf2(chaining_key, product, chaining_key, key);
  return true;
}

void mix_preshared(crypto::Key& chaining_key, Hash& hash, crypto::Key& key,
                   const crypto::Key& preshared) {
  crypto::Key blind;  // whitepaper: tau
  crypto::kdf3(chaining_key, preshared, chaining_key, blind, key);
  mix_hash(hash, blind);
}

void seal_field(std::span<uint8_t> sealed, crypto::Bytes plain, const crypto::Key& key,
                Hash& hash) {
  crypto::aead_seal_with_ad(sealed, plain, hash, key, 0);
  mix_hash(hash, sealed);
}

bool open_field(std::span<uint8_t> plain, crypto::Bytes sealed, const crypto::Key& key,
                Hash& hash) {
  if (!crypto::aead_open_with_ad(plain, sealed, hash, key, 0)) {
    return false;
  }
  mix_hash(hash, sealed);
  return true;
}

}  // namespace sallyport::wireguard
