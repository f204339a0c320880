#include "dataplane/wireguard/handshake.h"

#include <algorithm>
#include <cstring>

#include "crypto/kdf.h"
#include "crypto/x25519.h"

namespace sallyport::wireguard {
namespace {

constexpr uint64_t kTai64Base = 0x400000000000000a;  // TAI was 10 s ahead of UTC in 1970
constexpr WallTime kTimestampStep = kSecond / 64;

}  // namespace

void Identity::set_private_key(const uint8_t bytes[kKeyBytes]) {
  private_key.assign(std::span<const uint8_t, kKeyBytes>(bytes, kKeyBytes));
  has_key = !private_key.is_zero();
  public_key = {};
  if (has_key) {
    crypto::clamp(private_key);
    crypto::x25519_base(public_key, private_key);
  }
}

Timestamp tai64n(WallTime wall) {
  const WallTime moment = std::max(wall, WallTime{0});
  const WallTime fraction = moment % kSecond;
  const be64 seconds(kTai64Base + static_cast<uint64_t>(moment / kSecond));
  const be32 nanoseconds(static_cast<uint32_t>(fraction - fraction % kTimestampStep));
  Timestamp stamp;
  std::memcpy(stamp.data(), &seconds, 8);
  std::memcpy(stamp.data() + 8, &nanoseconds, 4);
  return stamp;
}

bool Handshake::set_identities(const Identity& ours, const PublicKey& theirs) {
  clear();
  remote_static_ = theirs;
  can_talk_ = ours.has_key && crypto::x25519(static_static_, ours.private_key, theirs);
  if (!can_talk_) {
    static_static_.clear();
  }
  return can_talk_;
}

void Handshake::set_preshared_key(const uint8_t key[kKeyBytes]) {
  preshared_key_.assign(std::span<const uint8_t, kKeyBytes>(key, kKeyBytes));
}

bool Handshake::newer_than_last(const Timestamp& timestamp) const {
  return timestamp > latest_timestamp_;
}

void Handshake::clear() {
  state_ = State::idle;
  local_index_ = 0;
  remote_index_ = 0;
  hash_ = {};
  chaining_key_.clear();
  ephemeral_.clear();
  remote_ephemeral_ = {};
}

bool Handshake::create_initiation(const Identity& ours, WallTime wall, uint32_t local_index,
                                  MessageInitiation& out) {
  if (!can_talk_) {
    return false;
  }
  crypto::Key chaining_key(initial_chaining_key());
  Hash hash = initial_hash();
  mix_hash(hash, remote_static_);

  crypto::Key ephemeral = crypto::generate_private_key();
  crypto::x25519_base(out.ephemeral, ephemeral);
  mix_ephemeral(chaining_key, hash, out.ephemeral);

  crypto::Key key;
  if (!mix_dh(chaining_key, key, ephemeral, remote_static_)) {
    return false;
  }
  seal_field(out.encrypted_static, ours.public_key, key, hash);

  crypto::kdf2(chaining_key, static_static_, chaining_key, key);
  seal_field(out.encrypted_timestamp, tai64n(wall), key, hash);

  out.type = static_cast<uint32_t>(MessageKind::initiation);
  out.sender = local_index;
  out.macs = {};
  clear();
  state_ = State::initiation_created;
  local_index_ = local_index;
  hash_ = hash;
  chaining_key_ = std::move(chaining_key);
  ephemeral_ = std::move(ephemeral);
  return true;
}

bool Handshake::consume_response(const Identity& ours, const MessageResponse& in) {
  if (state_ != State::initiation_created || in.receiver != local_index_) {
    return false;
  }
  // On copies: until the tag has opened, the bytes may be anyone's.
  crypto::Key chaining_key = chaining_key_.clone();
  Hash hash = hash_;
  mix_ephemeral(chaining_key, hash, in.ephemeral);
  if (!mix_dh(chaining_key, ephemeral_, in.ephemeral) ||
      !mix_dh(chaining_key, ours.private_key, in.ephemeral)) {
    return false;
  }
  crypto::Key key;
  mix_preshared(chaining_key, hash, key, preshared_key_);
  if (!open_field({}, in.encrypted_nothing, key, hash)) {
    return false;
  }

  state_ = State::response_consumed;
  remote_index_ = in.sender;
  hash_ = hash;
  chaining_key_ = std::move(chaining_key);
  std::memcpy(remote_ephemeral_.data(), in.ephemeral, kKeyBytes);
  return true;
}

bool Handshake::create_response(const Identity& ours, uint32_t local_index, MessageResponse& out) {
  if (state_ != State::initiation_consumed || !ours.has_key) {
    return false;
  }
  crypto::Key chaining_key = chaining_key_.clone();
  Hash hash = hash_;
  crypto::Key ephemeral = crypto::generate_private_key();
  crypto::x25519_base(out.ephemeral, ephemeral);
  mix_ephemeral(chaining_key, hash, out.ephemeral);
  if (!mix_dh(chaining_key, ephemeral, remote_ephemeral_) ||
      !mix_dh(chaining_key, ephemeral, remote_static_)) {
    return false;
  }
  crypto::Key key;
  mix_preshared(chaining_key, hash, key, preshared_key_);
  seal_field(out.encrypted_nothing, {}, key, hash);

  out.type = static_cast<uint32_t>(MessageKind::response);
  out.sender = local_index;
  out.receiver = remote_index_;
  out.macs = {};
  state_ = State::response_created;
  local_index_ = local_index;
  hash_ = hash;
  chaining_key_ = std::move(chaining_key);
  ephemeral_ = std::move(ephemeral);
  return true;
}

bool Handshake::derive(Time now, Keypair& out) {
  if (state_ != State::response_created && state_ != State::response_consumed) {
    return false;
  }
  crypto::Key first;  // the initiator sends with it
  crypto::Key second;
  crypto::kdf2(chaining_key_, {}, first, second);
  out.is_initiator = state_ == State::response_consumed;
  out.sending.assign(out.is_initiator ? first : second);
  out.receiving.assign(out.is_initiator ? second : first);
  out.birth = now;
  out.local_index = local_index_;
  out.remote_index = remote_index_;
  clear();
  return true;
}

bool open_initiation(const Identity& ours, const MessageInitiation& in, OpenedInitiation& out) {
  if (!ours.has_key) {
    return false;
  }
  out.chaining_key.assign(initial_chaining_key());
  out.hash = initial_hash();
  mix_hash(out.hash, ours.public_key);
  mix_ephemeral(out.chaining_key, out.hash, in.ephemeral);
  crypto::Key key;
  if (!mix_dh(out.chaining_key, key, ours.private_key, in.ephemeral) ||
      !open_field(out.remote_static, in.encrypted_static, key, out.hash)) {
    return false;
  }
  out.remote_index = in.sender;
  std::memcpy(out.remote_ephemeral.data(), in.ephemeral, kKeyBytes);
  std::memcpy(out.encrypted_timestamp, in.encrypted_timestamp, sizeof(out.encrypted_timestamp));
  return true;
}

InitiationVerdict accept_initiation(Handshake& handshake, const OpenedInitiation& opened,
                                    Time now) {
  if (!handshake.can_talk_ || handshake.remote_static_ != opened.remote_static) {
    return InitiationVerdict::cannot_talk;
  }
  crypto::Key chaining_key;
  crypto::Key key;
  Hash hash = opened.hash;
  Timestamp timestamp;
  crypto::kdf2(opened.chaining_key, handshake.static_static_, chaining_key, key);
  if (!open_field(timestamp, opened.encrypted_timestamp, key, hash)) {
    return InitiationVerdict::bad_timestamp_seal;
  }
  if (!handshake.newer_than_last(timestamp)) {
    return InitiationVerdict::replayed_timestamp;
  }
  if (handshake.last_initiation_consumed_ != kNever &&
      now - handshake.last_initiation_consumed_ < kInitiationsPerSecondInverse) {
    return InitiationVerdict::too_soon;
  }

  // Beyond this point the initiation is genuine and new. The local index stays until there is a
  // response: whoever answers our own initiation, which this one replaces, finds a state that
  // refuses.
  handshake.state_ = Handshake::State::initiation_consumed;
  handshake.remote_index_ = opened.remote_index;
  handshake.remote_ephemeral_ = opened.remote_ephemeral;
  handshake.hash_ = hash;
  handshake.chaining_key_ = std::move(chaining_key);
  handshake.ephemeral_.clear();
  handshake.latest_timestamp_ = timestamp;
  handshake.last_initiation_consumed_ = now;
  return InitiationVerdict::accepted;
}

}  // namespace sallyport::wireguard
