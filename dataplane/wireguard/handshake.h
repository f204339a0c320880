// Noise_IKpsk2 in both roles, without I/O, clock or lookup of its own (whitepaper section 5.4).
//
// Initiator: create_initiation -> (network) -> consume_response -> derive.
//
// Responder: open_initiation says which public key is calling; the caller finds that peer;
// accept_initiation checks the rest and moves the peer's state -> create_response -> derive.
//
// All calls for one peer come from one thread at a time (the handshaker, or control under the
// handshaker's mutex). A message that fails changes nothing in the state of any peer. Each step
// costs one or two X25519 (about 100 us in all).
#pragma once

#include <array>
#include <cstdint>

#include "crypto/secret.h"
#include "dataplane/base/clock.h"
#include "dataplane/wireguard/keypair.h"
#include "dataplane/wireguard/message.h"
#include "dataplane/wireguard/noise.h"

namespace sallyport::wireguard {

struct OpenedInitiation;
enum class InitiationVerdict : uint8_t;

using Timestamp = std::array<uint8_t, 12>;  // TAI64N; compares as bytes

// The device's own key and what follows from it. Without a private key nothing can be sent or
// answered.
struct Identity {
  crypto::Secret<kKeyBytes> private_key;
  PublicKey public_key{};
  bool has_key = false;

  void set_private_key(const uint8_t bytes[kKeyBytes]);  // clamps; all zero means none
};

// Quantised to 1/64 s: whitepaper 5.1 asks only that it grows, and coarser leaks less.
Timestamp tai64n(WallTime wall);

// The handshake state of one peer.
class Handshake {
 public:
  enum class State : uint8_t {
    idle,
    initiation_created,
    initiation_consumed,
    response_created,
    response_consumed
  };

  // Fixes who the peer is. Computes the static-static product; false when the product is zero (a
  // low-order public key, or no private key): such a peer is kept, and never sent to or answered.
  bool set_identities(const Identity& ours, const PublicKey& theirs);
  void set_preshared_key(const uint8_t key[kKeyBytes]);
  const crypto::Secret<kKeyBytes>& preshared_key() const { return preshared_key_; }
  const PublicKey& remote_static() const { return remote_static_; }
  bool can_talk() const { return can_talk_; }

  State state() const { return state_; }
  uint32_t local_index() const { return local_index_; }
  bool newer_than_last(const Timestamp& timestamp) const;

  // Forgets ephemerals, state and local index; keeps identities, preshared key and the last
  // timestamp.
  void clear();

  // Fill all but the macs. A message made replaces what state there was, so whoever owns the index
  // table takes the old local_index() out first. False, with the state as it was:
  // create_initiation, when this peer cannot be talked to; create_response, when no initiation was
  // accepted; consume_response, when it answers no initiation of ours.
  bool create_initiation(const Identity& ours, WallTime wall, uint32_t local_index,
                         MessageInitiation& out);
  bool consume_response(const Identity& ours, const MessageResponse& in);
  bool create_response(const Identity& ours, uint32_t local_index, MessageResponse& out);

  // After consume_response or create_response: fills a fresh keypair (keys, indices, role, birth)
  // and clears the state; the local index is the keypair's from here on. False in any other state.
  bool derive(Time now, Keypair& out);

 private:
  friend InitiationVerdict accept_initiation(Handshake& handshake, const OpenedInitiation& opened,
                                             Time now);

  State state_ = State::idle;
  bool can_talk_ = false;
  uint32_t local_index_ = 0;
  uint32_t remote_index_ = 0;
  Hash hash_{};
  crypto::Secret<32> chaining_key_;
  crypto::Secret<kKeyBytes> ephemeral_;
  PublicKey remote_ephemeral_{};
  PublicKey remote_static_{};
  crypto::Secret<kKeyBytes> static_static_;
  crypto::Secret<kKeyBytes> preshared_key_;
  Timestamp latest_timestamp_{};
  Time last_initiation_consumed_ = kNever;
};

// What an initiation says before we know whom it is from.
struct OpenedInitiation {
  PublicKey remote_static{};
  PublicKey remote_ephemeral{};
  uint32_t remote_index = 0;
  Hash hash{};
  crypto::Secret<32> chaining_key;
  uint8_t encrypted_timestamp[12 + kTagBytes]{};
};

enum class InitiationVerdict : uint8_t {
  accepted,
  bad_timestamp_seal,
  replayed_timestamp,
  too_soon,
  cannot_talk
};

// First half of consuming an initiation: decrypts the caller's public key. False: not for us, or
// forged.
bool open_initiation(const Identity& ours, const MessageInitiation& in, OpenedInitiation& out);

// Second half, against the peer that the caller found by opened.remote_static. Accepted, it
// replaces a handshake of our own that was under way: of two crossing initiations each side answers
// the other's, and the session that is used first wins.
InitiationVerdict accept_initiation(Handshake& handshake, const OpenedInitiation& opened, Time now);

}  // namespace sallyport::wireguard
