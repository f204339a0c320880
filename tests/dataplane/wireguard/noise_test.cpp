#include "dataplane/wireguard/noise.h"

#include <gtest/gtest.h>

#include "tests/dataplane/wireguard/reference_noise.h"
#include "tests/dataplane/wireguard/two_ends.h"

namespace sallyport::wireguard {
namespace {

namespace ref = reference;
using ref::operator+;

ref::Key key(const crypto::Key& secret) {
  ref::Key out;
  std::memcpy(out.data(), secret.data(), out.size());
  return out;
}

ref::Key key(const crypto::AeadKey& secret) {
  return ref::key_of(secret.bytes);
}

ref::Key clamped(uint8_t byte) {
  ref::Key out = filled(byte);
  out[0] &= 248;
  out[31] = static_cast<uint8_t>((out[31] & 127) | 64);
  return out;
}

// The values every implementation carries as constants.
TEST(Noise, TheInitialValuesAreTheWellKnownOnes) {
  const Hash chaining = {0x60, 0xe2, 0x6d, 0xae, 0xf3, 0x27, 0xef, 0xc0, 0x2e, 0xc3, 0x35,
                         0xe2, 0xa0, 0x25, 0xd2, 0xd0, 0x16, 0xeb, 0x42, 0x06, 0xf8, 0x72,
                         0x77, 0xf5, 0x2d, 0x38, 0xd1, 0x98, 0x8b, 0x78, 0xcd, 0x36};
  const Hash hash = {0x22, 0x11, 0xb3, 0x61, 0x08, 0x1a, 0xc5, 0x66, 0x69, 0x12, 0x43,
                     0xdb, 0x45, 0x8a, 0xd5, 0x32, 0x2d, 0x9c, 0x6c, 0x66, 0x22, 0x93,
                     0xe8, 0xb7, 0x0e, 0xe1, 0x9c, 0x65, 0xba, 0x07, 0x9e, 0xf3};
  EXPECT_EQ(initial_chaining_key(), chaining);
  EXPECT_EQ(initial_hash(), hash);
}

TEST(Noise, LabelKeysAreHashesOfLabelAndPublicKey) {
  const PublicKey ours = filled(9);
  uint8_t made[32];
  label_key(made, kLabelMac1, ours);
  EXPECT_EQ(ref::key_of(made), ref::hash(ref::letters("mac1----") + ref::bytes(ours)));
  label_key(made, kLabelCookie, ours);
  EXPECT_EQ(ref::key_of(made), ref::hash(ref::letters("cookie--") + ref::bytes(ours)));
}

TEST(Noise, EachMixingStepIsTheWhitepapers) {
  crypto::Key c(filled(1));
  Hash h = filled(2);
  const auto ephemeral = filled(3);
  mix_ephemeral(c, h, ephemeral);
  EXPECT_EQ(key(c), ref::kdf<1>(filled(1), ref::bytes(filled(3)))[0]);
  EXPECT_EQ(h, ref::hash(ref::bytes(filled(2)) + ref::bytes(filled(3))));

  const crypto::Key private_key(clamped(4));
  const auto public_key = ref::dh_public(clamped(5));
  const auto product = ref::bytes(ref::dh(clamped(4), public_key));
  const ref::Key before = key(c);
  crypto::Key k;
  ASSERT_TRUE(mix_dh(c, k, private_key, public_key));
  EXPECT_EQ(key(c), ref::kdf<2>(before, product)[0]);
  EXPECT_EQ(key(k), ref::kdf<2>(before, product)[1]);

  const ref::Key middle = key(c);
  ASSERT_TRUE(mix_dh(c, private_key, public_key));
  EXPECT_EQ(key(c), ref::kdf<1>(middle, product)[0]);

  const ref::Key late = key(c);
  const Hash h_late = h;
  mix_preshared(c, h, k, crypto::Key(filled(6)));
  const auto three = ref::kdf<3>(late, ref::bytes(filled(6)));
  EXPECT_EQ(key(c), three[0]);
  EXPECT_EQ(h, ref::hash(ref::bytes(h_late) + ref::bytes(three[1])));
  EXPECT_EQ(key(k), three[2]);
}

TEST(Noise, AFieldIsSealedUnderTheHashAndThenHashed) {
  const crypto::Key k(filled(7));
  Hash h = filled(8);
  const uint8_t plain[] = {1, 2, 3};
  uint8_t sealed[sizeof(plain) + 16];
  seal_field(sealed, plain, k, h);
  EXPECT_EQ(ref::bytes(sealed), ref::seal(filled(7), ref::bytes(plain), filled(8)));
  EXPECT_EQ(h, ref::hash(ref::bytes(filled(8)) + ref::bytes(sealed)));

  Hash reader = filled(8);
  uint8_t opened[3];
  ASSERT_TRUE(open_field(opened, sealed, k, reader));
  EXPECT_EQ(std::memcmp(opened, plain, 3), 0);
  EXPECT_EQ(reader, h);

  Hash other = filled(9);
  EXPECT_FALSE(open_field(opened, sealed, k, other));
  EXPECT_EQ(other, filled(9));
}

class NoiseReference : public TwoEnds {
 protected:
  const ref::Key alice_private_ = clamped(0x11);
  const ref::Key bob_private_ = clamped(0x22);
  const ref::Key alice_public_ = ref::dh_public(alice_private_);
  const ref::Key bob_public_ = ref::dh_public(bob_private_);
  const ref::Key preshared_ = filled(0x33);
};

TEST_F(NoiseReference, IdentitiesAreClampedAndHaveTheirPublicKey) {
  EXPECT_EQ(key(alice_.identity.private_key), alice_private_);
  EXPECT_EQ(alice_.identity.public_key, alice_public_);
}

TEST_F(NoiseReference, OurInitiatorTalksToTheWhitepapersResponder) {
  alice_.handshake.set_preshared_key(preshared_.data());
  const MessageInitiation call = initiation(alice_, kWall, 0x01020304);
  EXPECT_EQ(call.type, 1u);
  EXPECT_EQ(call.sender, 0x01020304u);

  ref::Transcript t(bob_public_);
  const auto read = ref::read_initiation(t, bob_private_, call);
  EXPECT_EQ(read.public_i, alice_public_);
  EXPECT_EQ(read.timestamp, ref::bytes(tai64n(kWall)));

  const auto answer =
      ref::make_response(t, clamped(0x44), read.public_i, call, preshared_, 0xa0b0c0d0);
  ASSERT_TRUE(alice_.handshake.consume_response(alice_.identity, answer));
  const auto session = derive(alice_);
  EXPECT_EQ(key(session->sending), t.transport_keys()[0]);
  EXPECT_EQ(key(session->receiving), t.transport_keys()[1]);
  EXPECT_EQ(session->local_index, 0x01020304u);
  EXPECT_EQ(session->remote_index, 0xa0b0c0d0u);
  EXPECT_TRUE(session->is_initiator);
}

TEST_F(NoiseReference, OurResponderTalksToTheWhitepapersInitiator) {
  bob_.handshake.set_preshared_key(preshared_.data());
  ref::Transcript t(bob_public_);
  const auto call = ref::make_initiation(t, alice_private_, clamped(0x55), bob_public_, 0x0a0b0c0d,
                                         ref::bytes(tai64n(kWall)));
  OpenedInitiation opened;
  ASSERT_TRUE(open_initiation(bob_.identity, call, opened));
  EXPECT_EQ(opened.remote_static, alice_public_);
  EXPECT_EQ(opened.remote_index, 0x0a0b0c0du);
  ASSERT_EQ(accept_initiation(bob_.handshake, opened, kStart), InitiationVerdict::accepted);

  const MessageResponse answer = response(bob_, 0x11223344);
  EXPECT_EQ(answer.type, 2u);
  EXPECT_EQ(answer.sender, 0x11223344u);
  EXPECT_EQ(answer.receiver, 0x0a0b0c0du);
  ASSERT_NO_THROW(ref::read_response(t, alice_private_, clamped(0x55), preshared_, answer));
  const auto session = derive(bob_);
  EXPECT_EQ(key(session->sending), t.transport_keys()[1]);
  EXPECT_EQ(key(session->receiving), t.transport_keys()[0]);
  EXPECT_FALSE(session->is_initiator);
}

TEST(Timestamp, IsTai64nAndNeverFinerThanASixtyFourth) {
  const Timestamp epoch = {0x40, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0};
  EXPECT_EQ(tai64n(0), epoch);
  EXPECT_EQ(tai64n(-5 * kSecond), epoch);
  EXPECT_EQ(tai64n(kSecond / 64 - 1), epoch);
  const Timestamp later = {0x40, 0, 0, 0, 0, 0, 0, 0x0b, 0, 0xee, 0x6b, 0x28};
  EXPECT_EQ(tai64n(kSecond + kSecond / 64), later);  // 15,625,000 ns
  EXPECT_EQ(tai64n(kSecond + kSecond / 32 - 1), later);
}

TEST(Timestamp, GrowsAsBytes) {
  Timestamp last = tai64n(kWall - 1);
  for (WallTime wall = kWall; wall < kWall + 400 * kSecond; wall += 250 * kMillisecond) {
    ASSERT_GT(tai64n(wall), last);
    last = tai64n(wall);
  }
}

}  // namespace
}  // namespace sallyport::wireguard
