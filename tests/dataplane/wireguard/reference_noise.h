// Section 5.4 of the whitepaper once more, written down step by step over libsodium and libb2 alone,
// so that the handshake is tested against something that shares no line with it. Names are the
// whitepaper's: C, H, k, t; i and r are the roles.
#pragma once

#include <blake2.h>
#include <sodium.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "dataplane/wireguard/message.h"

namespace sallyport::wireguard::reference {

using Bytes = std::vector<uint8_t>;
using Key = std::array<uint8_t, 32>;

inline Bytes letters(std::string_view text) {
  return {text.begin(), text.end()};
}

template <class Range>
Bytes bytes(const Range& range) {
  return {std::begin(range), std::end(range)};
}

inline Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

inline Key hash(const Bytes& input) {
  Key out;
  blake2s(out.data(), input.data(), nullptr, out.size(), input.size(), 0);
  return out;
}

inline std::array<uint8_t, 16> mac(const Bytes& key, const Bytes& input) {
  std::array<uint8_t, 16> out;
  blake2s(out.data(), input.data(), key.data(), out.size(), input.size(), key.size());
  return out;
}

inline Key hmac(const Key& key, const Bytes& input) {
  Bytes inner(64, 0x36), outer(64, 0x5c);
  for (size_t i = 0; i < key.size(); ++i) {
    inner[i] ^= key[i];
    outer[i] ^= key[i];
  }
  return hash(outer + bytes(hash(inner + input)));
}

template <size_t n>
std::array<Key, n> kdf(const Key& key, const Bytes& input) {
  const Key t0 = hmac(key, input);
  std::array<Key, n> out;
  Bytes last;
  for (size_t i = 0; i < n; ++i) {
    out[i] = hmac(t0, last + Bytes{static_cast<uint8_t>(i + 1)});
    last = bytes(out[i]);
  }
  return out;
}

inline Key dh(const Key& private_key, const Key& public_key) {
  Key out;
  if (crypto_scalarmult(out.data(), private_key.data(), public_key.data()) != 0) {
    throw std::runtime_error("low-order point");
  }
  return out;
}

inline Key dh_public(const Key& private_key) {
  Key out;
  crypto_scalarmult_base(out.data(), private_key.data());
  return out;
}

inline Bytes seal(const Key& key, const Bytes& plain, const Key& ad) {
  const uint8_t nonce[12] = {};
  Bytes out(plain.size() + 16);
  crypto_aead_chacha20poly1305_ietf_encrypt(out.data(), nullptr, plain.data(), plain.size(),
                                            ad.data(), ad.size(), nullptr, nonce, key.data());
  return out;
}

inline Bytes open(const Key& key, const Bytes& sealed, const Key& ad) {
  const uint8_t nonce[12] = {};
  Bytes out(sealed.size() - 16);
  if (crypto_aead_chacha20poly1305_ietf_decrypt(out.data(), nullptr, nullptr, sealed.data(),
                                                sealed.size(), ad.data(), ad.size(), nonce,
                                                key.data()) != 0) {
    throw std::runtime_error("does not open");
  }
  return out;
}

template <size_t n>
Key key_of(const uint8_t (&field)[n]) {
  static_assert(n == 32);
  Key out;
  std::memcpy(out.data(), field, n);
  return out;
}

// One handshake as seen by someone who plays either role with keys of his choice.
struct Transcript {
  Key c, h, k;

  explicit Transcript(const Key& responder_public) {
    c = hash(letters("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"));
    h = hash(bytes(c) + letters("WireGuard v1 zx2c4 Jason@zx2c4.com"));
    mix_hash(bytes(responder_public));
  }

  void mix_hash(const Bytes& data) { h = hash(bytes(h) + data); }
  void mix_ephemeral(const Key& ephemeral) {
    c = kdf<1>(c, bytes(ephemeral))[0];
    mix_hash(bytes(ephemeral));
  }
  void mix_key(const Key& product) {
    const auto out = kdf<2>(c, bytes(product));
    c = out[0];
    k = out[1];
  }
  Bytes seal_field(const Bytes& plain) {
    const Bytes sealed = seal(k, plain, h);
    mix_hash(sealed);
    return sealed;
  }
  Bytes open_field(const Bytes& sealed) {
    const Bytes plain = open(k, sealed, h);
    mix_hash(sealed);
    return plain;
  }
  // The response's common part, with the two products of its ephemeral.
  void mix_response(const Key& ephemeral_r, const Key& ee, const Key& es, const Key& preshared) {
    mix_ephemeral(ephemeral_r);
    c = kdf<1>(c, bytes(ee))[0];
    c = kdf<1>(c, bytes(es))[0];
    const auto out = kdf<3>(c, bytes(preshared));
    c = out[0];
    mix_hash(bytes(out[1]));
    k = out[2];
  }
  // What the initiator sends and receives with.
  std::array<Key, 2> transport_keys() const { return kdf<2>(c, {}); }
};

inline MessageInitiation make_initiation(Transcript& t, const Key& static_i, const Key& ephemeral_i,
                                         const Key& public_r, uint32_t sender,
                                         const Bytes& timestamp) {
  MessageInitiation out{};
  out.type = 1;
  out.sender = sender;
  const Key ephemeral_public = dh_public(ephemeral_i);
  std::memcpy(out.ephemeral, ephemeral_public.data(), 32);
  t.mix_ephemeral(ephemeral_public);
  t.mix_key(dh(ephemeral_i, public_r));
  const Bytes sealed_static = t.seal_field(bytes(dh_public(static_i)));
  std::memcpy(out.encrypted_static, sealed_static.data(), sealed_static.size());
  t.mix_key(dh(static_i, public_r));
  const Bytes sealed_timestamp = t.seal_field(timestamp);
  std::memcpy(out.encrypted_timestamp, sealed_timestamp.data(), sealed_timestamp.size());
  return out;
}

struct ReadInitiation {
  Key public_i;
  Bytes timestamp;
};

inline ReadInitiation read_initiation(Transcript& t, const Key& static_r,
                                      const MessageInitiation& in) {
  ReadInitiation out;
  t.mix_ephemeral(key_of(in.ephemeral));
  t.mix_key(dh(static_r, key_of(in.ephemeral)));
  const Bytes opened = t.open_field(bytes(in.encrypted_static));
  std::memcpy(out.public_i.data(), opened.data(), 32);
  t.mix_key(dh(static_r, out.public_i));
  out.timestamp = t.open_field(bytes(in.encrypted_timestamp));
  return out;
}

inline MessageResponse make_response(Transcript& t, const Key& ephemeral_r, const Key& public_i,
                                     const MessageInitiation& to, const Key& preshared,
                                     uint32_t sender) {
  MessageResponse out{};
  out.type = 2;
  out.sender = sender;
  out.receiver = to.sender;
  const Key ephemeral_public = dh_public(ephemeral_r);
  std::memcpy(out.ephemeral, ephemeral_public.data(), 32);
  t.mix_response(ephemeral_public, dh(ephemeral_r, key_of(to.ephemeral)), dh(ephemeral_r, public_i),
                 preshared);
  const Bytes sealed = t.seal_field({});
  std::memcpy(out.encrypted_nothing, sealed.data(), sealed.size());
  return out;
}

inline void read_response(Transcript& t, const Key& static_i, const Key& ephemeral_i,
                          const Key& preshared, const MessageResponse& in) {
  const Key ephemeral_r = key_of(in.ephemeral);
  t.mix_response(ephemeral_r, dh(ephemeral_i, ephemeral_r), dh(static_i, ephemeral_r), preshared);
  t.open_field(bytes(in.encrypted_nothing));
}

}  // namespace sallyport::wireguard::reference
