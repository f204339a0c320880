#include "dataplane/wireguard/handshake.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/dataplane/wireguard/two_ends.h"

namespace sallyport::wireguard {
namespace {

using State = Handshake::State;
using HandshakeTest = TwoEnds;

constexpr Time kLater = kStart + kSecond;
constexpr WallTime kWallLater = kWall + kSecond;

TEST_F(HandshakeTest, OneRoundTripGivesBothEndsTheSameSession) {
  EXPECT_EQ(alice_.handshake.state(), State::idle);
  const auto call = initiation(alice_, kWall, 10);
  EXPECT_EQ(alice_.handshake.state(), State::initiation_created);
  EXPECT_EQ(alice_.handshake.local_index(), 10u);
  EXPECT_EQ(consume(bob_, call), InitiationVerdict::accepted);
  EXPECT_EQ(bob_.handshake.state(), State::initiation_consumed);
  const auto answer = response(bob_, 20);
  EXPECT_EQ(bob_.handshake.state(), State::response_created);
  EXPECT_EQ(bob_.handshake.local_index(), 20u);
  EXPECT_TRUE(alice_.handshake.consume_response(alice_.identity, answer));
  EXPECT_EQ(alice_.handshake.state(), State::response_consumed);

  const auto at_alice = derive(alice_, kStart);
  const auto at_bob = derive(bob_, kLater);
  expect_same_session(*at_alice, *at_bob);
  EXPECT_TRUE(at_alice->is_initiator);
  EXPECT_EQ(at_alice->local_index, 10u);
  EXPECT_EQ(at_bob->local_index, 20u);
  EXPECT_EQ(at_alice->birth, kStart);
  EXPECT_EQ(at_bob->birth, kLater);
  for (const End* end : {&alice_, &bob_}) {
    EXPECT_EQ(end->handshake.state(), State::idle);
    EXPECT_EQ(end->handshake.local_index(), 0u);
  }
}

TEST_F(HandshakeTest, TwoSessionsShareNoKey) {
  ASSERT_TRUE(alice_.handshake.consume_response(alice_.identity, answered_call()));
  const auto first = derive(alice_);
  derive(bob_);
  ASSERT_EQ(consume(bob_, initiation(alice_, kWallLater), kLater), InitiationVerdict::accepted);
  ASSERT_TRUE(alice_.handshake.consume_response(alice_.identity, response(bob_)));
  const auto second = derive(alice_);
  EXPECT_NE(std::memcmp(first->sending.bytes, second->sending.bytes, 32), 0);
  EXPECT_NE(std::memcmp(first->receiving.bytes, second->receiving.bytes, 32), 0);
  EXPECT_NE(std::memcmp(first->sending.bytes, second->receiving.bytes, 32), 0);
}

TEST_F(HandshakeTest, RolesMayBeSwapped) {
  ASSERT_EQ(consume(alice_, initiation(bob_)), InitiationVerdict::accepted);
  ASSERT_TRUE(bob_.handshake.consume_response(bob_.identity, response(alice_)));
  const auto at_bob = derive(bob_);
  expect_same_session(*at_bob, *derive(alice_));
  EXPECT_TRUE(at_bob->is_initiator);
}

TEST_F(HandshakeTest, TheMacsAreLeftForTheCookieJar) {
  const auto call = initiation(alice_);
  const MessageMacs none{};
  EXPECT_EQ(std::memcmp(&call.macs, &none, sizeof(none)), 0);
}

TEST_F(HandshakeTest, ASharedPresharedKeyIsPartOfTheSession) {
  const auto preshared = filled(0x77);
  alice_.handshake.set_preshared_key(preshared.data());
  bob_.handshake.set_preshared_key(preshared.data());
  ASSERT_TRUE(alice_.handshake.consume_response(alice_.identity, answered_call()));
  expect_same_session(*derive(alice_), *derive(bob_));
}

TEST_F(HandshakeTest, ADifferentPresharedKeyFailsAtTheResponse) {
  bob_.handshake.set_preshared_key(filled(0x77).data());
  const auto answer = answered_call();
  EXPECT_FALSE(alice_.handshake.consume_response(alice_.identity, answer));
  EXPECT_EQ(alice_.handshake.state(), State::initiation_created);

  // The right key, set meanwhile, still finds the state it needs.
  alice_.handshake.set_preshared_key(filled(0x77).data());
  EXPECT_TRUE(alice_.handshake.consume_response(alice_.identity, answer));
}

TEST_F(HandshakeTest, AnInitiationToSomeoneElseDoesNotOpen) {
  End carol(0x66);
  OpenedInitiation opened;
  EXPECT_FALSE(open_initiation(carol.identity, initiation(alice_), opened));
}

TEST_F(HandshakeTest, ACallerOfAnotherNameIsNotAccepted) {
  End carol(0x66);
  carol.knows(bob_);
  OpenedInitiation opened;
  ASSERT_TRUE(open_initiation(bob_.identity, initiation(carol), opened));
  EXPECT_EQ(opened.remote_static, carol.identity.public_key);
  EXPECT_EQ(accept_initiation(bob_.handshake, opened, kStart), InitiationVerdict::cannot_talk);
  EXPECT_EQ(bob_.handshake.state(), State::idle);
}

// Knowing a public key is not having it: the caller claims Alice's name with a timestamp that was
// sealed without Alice's private key.
TEST_F(HandshakeTest, AClaimedNameWithoutItsPrivateKeyIsRefused) {
  OpenedInitiation opened;
  ASSERT_TRUE(open_initiation(bob_.identity, initiation(alice_), opened));
  opened.encrypted_timestamp[3] ^= 1;
  EXPECT_EQ(accept_initiation(bob_.handshake, opened, kStart),
            InitiationVerdict::bad_timestamp_seal);
  EXPECT_EQ(bob_.handshake.state(), State::idle);
}

TEST_F(HandshakeTest, ATimestampMustBeGreaterThanTheLast) {
  const auto first = initiation(alice_, kWall);
  const auto same_time = initiation(alice_, kWall);
  const auto earlier = initiation(alice_, kWall - kSecond);
  const auto newer = initiation(alice_, kWallLater);
  EXPECT_TRUE(bob_.handshake.newer_than_last(tai64n(kWall)));
  EXPECT_EQ(consume(bob_, first), InitiationVerdict::accepted);
  EXPECT_FALSE(bob_.handshake.newer_than_last(tai64n(kWall)));
  EXPECT_EQ(consume(bob_, first, kLater), InitiationVerdict::replayed_timestamp);
  EXPECT_EQ(consume(bob_, same_time, kLater), InitiationVerdict::replayed_timestamp);
  EXPECT_EQ(consume(bob_, earlier, kLater), InitiationVerdict::replayed_timestamp);
  EXPECT_EQ(consume(bob_, newer, kLater), InitiationVerdict::accepted);
}

TEST_F(HandshakeTest, ClearKeepsTheLastTimestamp) {
  const auto call = initiation(alice_);
  ASSERT_EQ(consume(bob_, call), InitiationVerdict::accepted);
  bob_.handshake.clear();
  EXPECT_EQ(bob_.handshake.state(), State::idle);
  EXPECT_EQ(consume(bob_, call, kLater), InitiationVerdict::replayed_timestamp);
}

TEST_F(HandshakeTest, InitiationsCloserThanTwentyMillisecondsAreTooSoon) {
  const auto first = initiation(alice_, kWall);
  const auto second = initiation(alice_, kWallLater);
  ASSERT_EQ(consume(bob_, first, kStart), InitiationVerdict::accepted);
  EXPECT_EQ(consume(bob_, second, kStart - kMillisecond), InitiationVerdict::too_soon);
  EXPECT_EQ(consume(bob_, second, kStart), InitiationVerdict::too_soon);
  EXPECT_EQ(consume(bob_, second, kStart + 20 * kMillisecond - 1), InitiationVerdict::too_soon);
  EXPECT_EQ(consume(bob_, second, kStart + 20 * kMillisecond), InitiationVerdict::accepted);
}

TEST_F(HandshakeTest, EveryFlippedByteOfAnInitiationIsRefusedAndChangesNothing) {
  const auto call = initiation(alice_);
  for (size_t at = offsetof(MessageInitiation, ephemeral); at < offsetof(MessageInitiation, macs);
       ++at) {
    MessageInitiation damaged = call;
    reinterpret_cast<uint8_t*>(&damaged)[at] ^= 0x40;
    OpenedInitiation opened;
    if (open_initiation(bob_.identity, damaged, opened)) {
      ASSERT_GE(at, offsetof(MessageInitiation, encrypted_timestamp));
      ASSERT_EQ(accept_initiation(bob_.handshake, opened, kStart),
                InitiationVerdict::bad_timestamp_seal);
    }
    ASSERT_EQ(bob_.handshake.state(), State::idle) << at;
  }
  EXPECT_EQ(consume(bob_, call), InitiationVerdict::accepted);
}

TEST_F(HandshakeTest, EveryFlippedByteOfAResponseIsRefusedAndChangesNothing) {
  const auto answer = answered_call();
  for (size_t at = offsetof(MessageResponse, receiver); at < offsetof(MessageResponse, macs);
       ++at) {
    MessageResponse damaged = answer;
    reinterpret_cast<uint8_t*>(&damaged)[at] ^= 0x40;
    ASSERT_FALSE(alice_.handshake.consume_response(alice_.identity, damaged)) << at;
    ASSERT_EQ(alice_.handshake.state(), State::initiation_created) << at;
    ASSERT_EQ(alice_.handshake.local_index(), 1u);
  }
  EXPECT_TRUE(alice_.handshake.consume_response(alice_.identity, answer));
  expect_same_session(*derive(alice_), *derive(bob_));
}

TEST_F(HandshakeTest, AResponseIsTakenOnceAndOnlyWhereOneIsAwaited) {
  const auto answer = answered_call();
  EXPECT_FALSE(bob_.handshake.consume_response(bob_.identity, answer));
  End fresh(0x11);
  fresh.knows(bob_);
  EXPECT_FALSE(fresh.handshake.consume_response(fresh.identity, answer));
  EXPECT_TRUE(alice_.handshake.consume_response(alice_.identity, answer));
  EXPECT_FALSE(alice_.handshake.consume_response(alice_.identity, answer));
  EXPECT_EQ(alice_.handshake.state(), State::response_consumed);
  derive(alice_);
  EXPECT_FALSE(alice_.handshake.consume_response(alice_.identity, answer));
}

TEST_F(HandshakeTest, ANewInitiationMakesTheAnswerToTheOldOneStale) {
  const auto stale = answered_call();
  initiation(alice_, kWallLater, 1);  // even under the same index
  EXPECT_FALSE(alice_.handshake.consume_response(alice_.identity, stale));
  EXPECT_EQ(alice_.handshake.state(), State::initiation_created);
}

TEST_F(HandshakeTest, NothingIsAnsweredOrDerivedOutOfTurn) {
  MessageResponse answer;
  Keypair keypair;
  EXPECT_FALSE(alice_.handshake.create_response(alice_.identity, 2, answer));
  EXPECT_FALSE(alice_.handshake.derive(kStart, keypair));
  const auto call = initiation(alice_);
  EXPECT_FALSE(alice_.handshake.create_response(alice_.identity, 2, answer));
  EXPECT_FALSE(alice_.handshake.derive(kStart, keypair));
  EXPECT_EQ(alice_.handshake.local_index(), 1u);
  ASSERT_EQ(consume(bob_, call), InitiationVerdict::accepted);
  EXPECT_FALSE(bob_.handshake.derive(kStart, keypair));
  response(bob_);
  EXPECT_FALSE(bob_.handshake.create_response(bob_.identity, 3, answer));
  derive(bob_);
  EXPECT_FALSE(bob_.handshake.derive(kStart, keypair));
}

// Both call at once and the calls cross. Each answers the other's, which overwrites its own call, so
// neither answer is taken and each has derived as responder; the next call by either side settles it.
TEST_F(HandshakeTest, CrossingInitiationsEndInASession) {
  const auto from_alice = initiation(alice_, kWall, 1);
  const auto from_bob = initiation(bob_, kWall, 2);
  ASSERT_EQ(consume(bob_, from_alice), InitiationVerdict::accepted);
  ASSERT_EQ(consume(alice_, from_bob), InitiationVerdict::accepted);
  const auto answer_of_bob = response(bob_, 3);
  const auto answer_of_alice = response(alice_, 4);
  derive(alice_);
  derive(bob_);
  EXPECT_FALSE(alice_.handshake.consume_response(alice_.identity, answer_of_bob));
  EXPECT_FALSE(bob_.handshake.consume_response(bob_.identity, answer_of_alice));

  const auto again = initiation(alice_, kWallLater, 5);
  ASSERT_EQ(consume(bob_, again, kLater), InitiationVerdict::accepted);
  ASSERT_TRUE(alice_.handshake.consume_response(alice_.identity, response(bob_, 6)));
  expect_same_session(*derive(alice_), *derive(bob_));
}

// The calls cross, but Bob's answer overtakes his call: Alice takes the answer, and then the call.
TEST_F(HandshakeTest, ACallThatArrivesAfterTheAnswerJustMakesANewerSession) {
  const auto from_alice = initiation(alice_, kWall, 1);
  const auto from_bob = initiation(bob_, kWall, 2);
  ASSERT_EQ(consume(bob_, from_alice), InitiationVerdict::accepted);
  ASSERT_TRUE(alice_.handshake.consume_response(alice_.identity, response(bob_, 3)));
  expect_same_session(*derive(alice_), *derive(bob_));
  EXPECT_EQ(consume(alice_, from_bob), InitiationVerdict::accepted);
  EXPECT_FALSE(bob_.handshake.consume_response(bob_.identity, response(alice_, 4)));
  EXPECT_EQ(bob_.handshake.state(), State::idle);
}

TEST_F(HandshakeTest, WithoutAPrivateKeyNothingHappens) {
  End nobody(0);
  EXPECT_FALSE(nobody.identity.has_key);
  EXPECT_EQ(nobody.identity.public_key, PublicKey{});
  EXPECT_FALSE(nobody.handshake.set_identities(nobody.identity, bob_.identity.public_key));
  EXPECT_FALSE(nobody.handshake.can_talk());
  MessageInitiation message;
  EXPECT_FALSE(nobody.handshake.create_initiation(nobody.identity, kWall, 1, message));
  EXPECT_EQ(nobody.handshake.state(), State::idle);
  OpenedInitiation opened;
  EXPECT_FALSE(open_initiation(nobody.identity, initiation(alice_), opened));
}

TEST_F(HandshakeTest, ANewPrivateKeyMakesANewIdentity) {
  alice_.identity.set_private_key(filled(0x12).data());
  alice_.knows(bob_);
  const PublicKey renamed = alice_.identity.public_key;
  EXPECT_EQ(consume(bob_, initiation(alice_)), InitiationVerdict::cannot_talk);
  bob_.handshake.set_identities(bob_.identity, renamed);
  EXPECT_EQ(consume(bob_, initiation(alice_), kLater), InitiationVerdict::accepted);
  alice_.identity.set_private_key(filled(0).data());
  EXPECT_FALSE(alice_.identity.has_key);
}

TEST_F(HandshakeTest, ANewIdentityEndsTheHandshakeUnderWay) {
  const auto answer = answered_call();
  alice_.knows(bob_);
  EXPECT_EQ(alice_.handshake.state(), State::idle);
  EXPECT_EQ(alice_.handshake.local_index(), 0u);
  EXPECT_FALSE(alice_.handshake.consume_response(alice_.identity, answer));
}

// Every point of small order on the curve and its twist, and their non-canonical encodings.
const std::vector<PublicKey>& low_order_points() {
  static const std::vector<PublicKey> points = [] {
    const PublicKey order8 = {0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3,
                              0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32,
                              0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00};
    const PublicKey other8 = {0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1,
                              0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c,
                              0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57};
    const auto near_prime = [](uint8_t low) {
      PublicKey point = filled(0xff);
      point[0] = low;
      point[31] = 0x7f;
      return point;
    };
    PublicKey one{};
    one[0] = 1;
    std::vector<PublicKey> all = {
        PublicKey{}, one, order8, other8, near_prime(0xec), near_prime(0xed), near_prime(0xee)};
    for (size_t i = 0, count = all.size(); i < count; ++i) {
      all.push_back(all[i]);
      all.back()[31] |= 0x80;  // X25519 ignores the top bit
    }
    return all;
  }();
  return points;
}

TEST_F(HandshakeTest, APeerOfLowOrderIsKeptAndNeverSentTo) {
  for (const PublicKey& point : low_order_points()) {
    Handshake handshake;
    EXPECT_FALSE(handshake.set_identities(alice_.identity, point));
    EXPECT_FALSE(handshake.can_talk());
    EXPECT_EQ(handshake.remote_static(), point);
    MessageInitiation message;
    EXPECT_FALSE(handshake.create_initiation(alice_.identity, kWall, 1, message));
    OpenedInitiation opened;
    opened.remote_static = point;
    EXPECT_EQ(accept_initiation(handshake, opened, kStart), InitiationVerdict::cannot_talk);
  }
}

TEST_F(HandshakeTest, AnEphemeralOfLowOrderIsRefusedInBothMessages) {
  const auto call = initiation(alice_);
  const auto answer = answered_call();
  for (const PublicKey& point : low_order_points()) {
    MessageInitiation weak_call = call;
    std::memcpy(weak_call.ephemeral, point.data(), 32);
    OpenedInitiation opened;
    EXPECT_FALSE(open_initiation(bob_.identity, weak_call, opened));

    MessageResponse weak_answer = answer;
    std::memcpy(weak_answer.ephemeral, point.data(), 32);
    EXPECT_FALSE(alice_.handshake.consume_response(alice_.identity, weak_answer));
    EXPECT_EQ(alice_.handshake.state(), State::initiation_created);
  }
  EXPECT_TRUE(alice_.handshake.consume_response(alice_.identity, answer));
}

}  // namespace
}  // namespace sallyport::wireguard
