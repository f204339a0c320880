// Two ends with fixed static keys, each knowing the other: what most handshake tests begin with.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "dataplane/wireguard/handshake.h"

namespace sallyport::wireguard {

inline constexpr WallTime kWall = 1'700'000'000 * kSecond;
inline constexpr Time kStart = 1'000 * kSecond;

inline std::array<uint8_t, 32> filled(uint8_t byte) {
  std::array<uint8_t, 32> out;
  out.fill(byte);
  return out;
}

struct End {
  explicit End(uint8_t seed) { identity.set_private_key(filled(seed).data()); }

  void knows(const End& other) { handshake.set_identities(identity, other.identity.public_key); }

  Identity identity;
  Handshake handshake;
};

class TwoEnds : public testing::Test {
 protected:
  TwoEnds() {
    alice_.knows(bob_);
    bob_.knows(alice_);
  }

  MessageInitiation initiation(End& from, WallTime wall = kWall, uint32_t index = 1) {
    MessageInitiation message;
    EXPECT_TRUE(from.handshake.create_initiation(from.identity, wall, index, message));
    return message;
  }

  InitiationVerdict consume(End& to, const MessageInitiation& message, Time now = kStart) {
    OpenedInitiation opened;
    EXPECT_TRUE(open_initiation(to.identity, message, opened));
    return accept_initiation(to.handshake, opened, now);
  }

  MessageResponse response(End& from, uint32_t index = 2) {
    MessageResponse message;
    EXPECT_TRUE(from.handshake.create_response(from.identity, index, message));
    return message;
  }

  // Alice calls Bob, who answers; Alice has not read the answer yet.
  MessageResponse answered_call() {
    EXPECT_EQ(consume(bob_, initiation(alice_)), InitiationVerdict::accepted);
    return response(bob_);
  }

  static std::unique_ptr<Keypair> derive(End& end, Time now = kStart) {
    auto keypair = std::make_unique<Keypair>();
    EXPECT_TRUE(end.handshake.derive(now, *keypair));
    return keypair;
  }

  static void expect_same_session(const Keypair& one, const Keypair& other) {
    EXPECT_EQ(std::memcmp(one.sending.bytes, other.receiving.bytes, 32), 0);
    EXPECT_EQ(std::memcmp(one.receiving.bytes, other.sending.bytes, 32), 0);
    EXPECT_NE(std::memcmp(one.sending.bytes, one.receiving.bytes, 32), 0);
    EXPECT_EQ(one.local_index, other.remote_index);
    EXPECT_EQ(one.remote_index, other.local_index);
    EXPECT_NE(one.is_initiator, other.is_initiator);
  }

  End alice_{0x11};
  End bob_{0x22};
};

}  // namespace sallyport::wireguard
