// The words of the Noise construction: names, hashes, and the mixing that both roles share.
//
// Noise_IKpsk2 keeps two running values. The chaining key takes in every secret and yields keys;
// the hash takes in every byte on the wire and is the additional data of each sealed field, so a
// field opens only for someone who saw the same handshake. Source: whitepaper section 5.4, whose
// symbols stand beside each function. No state of its own, no thread rules. A function that fails
// may have changed its arguments: work on copies.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "crypto/blake2s.h"
#include "crypto/secret.h"
#include "dataplane/wireguard/message.h"

namespace sallyport::wireguard {

using Hash = std::array<uint8_t, 32>;
using PublicKey = std::array<uint8_t, kKeyBytes>;

// C = HASH(CONSTRUCTION) and H = HASH(C || IDENTIFIER): where every handshake begins.
const Hash& initial_chaining_key();
const Hash& initial_hash();

// HASH(label || public key): the keys of mac1 and of the cookie reply.
inline constexpr char kLabelMac1[] = "mac1----";
inline constexpr char kLabelCookie[] = "cookie--";
void label_key(uint8_t out[32], std::span<const char, 9> label, const PublicKey& key);

// H = HASH(H || data)
void mix_hash(Hash& hash, crypto::Bytes data);

// C = KDF1(C, data): an ephemeral public key goes in.
void mix_ephemeral(crypto::Key& chaining_key, Hash& hash, crypto::Bytes ephemeral);

// C = KDF1(C, DH(private, public)), or (C, k) = KDF2(...) where a key is wanted. False: the product
// is zero, the public key is of low order.
[[nodiscard]] bool mix_dh(crypto::Key& chaining_key, const crypto::Key& private_key,
                          std::span<const uint8_t, kKeyBytes> public_key);
[[nodiscard]] bool mix_dh(crypto::Key& chaining_key, crypto::Key& key,
                          const crypto::Key& private_key,
                          std::span<const uint8_t, kKeyBytes> public_key);

// (C, t, k) = KDF3(C, Q); H = HASH(H || t): the preshared key goes in.
void mix_preshared(crypto::Key& chaining_key, Hash& hash, crypto::Key& key,
                   const crypto::Key& preshared);

// AEAD(k, 0, plain, H), and H = HASH(H || sealed) after. A failed open leaves the hash as it was.
void seal_field(std::span<uint8_t> sealed, crypto::Bytes plain, const crypto::Key& key, Hash& hash);
[[nodiscard]] bool open_field(std::span<uint8_t> plain, crypto::Bytes sealed,
                              const crypto::Key& key, Hash& hash);

}  // namespace sallyport::wireguard
