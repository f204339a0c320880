#include "dataplane/wireguard/cookie.h"

#include <gtest/gtest.h>
#include <sodium.h>

#include "tests/dataplane/wireguard/reference_noise.h"
#include "tests/dataplane/wireguard/two_ends.h"

namespace sallyport::wireguard {
namespace {

namespace ref = reference;
using ref::operator+;

constexpr size_t kLength = sizeof(MessageInitiation);

// Alice calls Bob, who checks.
class Cookie : public TwoEnds {
 protected:
  Cookie() {
    checker_.set_public_key(bob_.identity.public_key);
    jar_.set_remote(bob_.identity.public_key);
  }

  MessageInitiation call(Time now) {
    MessageInitiation message = initiation(alice_);
    jar_.add_macs(now, raw(message), kLength);
    return message;
  }

  static uint8_t* raw(MessageInitiation& message) { return reinterpret_cast<uint8_t*>(&message); }

  bool mac1(MessageInitiation message) const { return checker_.check_mac1(raw(message), kLength); }
  bool mac2(Time now, MessageInitiation message, const Endpoint& from) {
    return checker_.check_mac2(now, raw(message), kLength, from);
  }

  MessageCookieReply reply(Time now, MessageInitiation to, const Endpoint& from) {
    MessageCookieReply out;
    checker_.create_reply(now, raw(to), kLength, to.sender, from, out);
    return out;
  }

  // Alice has Bob's cookie for `from`.
  void obtain_cookie(Time now, const Endpoint& from) {
    ASSERT_TRUE(jar_.consume_reply(now, reply(now, call(now), from)));
  }

  CookieChecker checker_;
  CookieJar jar_;
  const Endpoint alice_at_ = *parse_endpoint("192.0.2.1:51820");
};

bool is_zero(const uint8_t (&mac)[16]) {
  return sodium_is_zero(mac, sizeof(mac)) == 1;
}

TEST_F(Cookie, Mac1IsTheWhitepapers) {
  const auto message = call(kStart);
  const auto key = ref::hash(ref::letters("mac1----") + ref::bytes(bob_.identity.public_key));
  MessageInitiation copy = message;
  const ref::Bytes covered(raw(copy), raw(copy) + 116);
  const auto expected = ref::mac(ref::bytes(key), covered);
  EXPECT_EQ(std::memcmp(message.macs.mac1, expected.data(), 16), 0);
  EXPECT_TRUE(is_zero(message.macs.mac2));
}

TEST_F(Cookie, Mac1ShowsKnowledgeOfThePublicKey) {
  EXPECT_TRUE(mac1(call(kStart)));
  checker_.set_public_key(alice_.identity.public_key);
  EXPECT_FALSE(mac1(call(kStart)));
}

TEST_F(Cookie, Mac1CoversEveryByteBeforeIt) {
  const auto message = call(kStart);
  for (size_t at = 0; at < kLength; ++at) {
    MessageInitiation damaged = message;
    raw(damaged)[at] ^= 1;
    EXPECT_EQ(mac1(damaged), at >= offsetof(MessageInitiation, macs.mac2)) << at;
  }
}

TEST_F(Cookie, AResponseCarriesMacsToo) {
  jar_.set_remote(alice_.identity.public_key);
  checker_.set_public_key(alice_.identity.public_key);
  MessageResponse message = answered_call();
  auto* bytes = reinterpret_cast<uint8_t*>(&message);
  jar_.add_macs(kStart, bytes, sizeof(message));
  EXPECT_TRUE(checker_.check_mac1(bytes, sizeof(message)));
  bytes[0] ^= 1;
  EXPECT_FALSE(checker_.check_mac1(bytes, sizeof(message)));
}

TEST_F(Cookie, AMessageTooShortForMacsHasNone) {
  const uint8_t bytes[31] = {};
  EXPECT_FALSE(checker_.check_mac1(bytes, sizeof(bytes)));
  EXPECT_FALSE(checker_.check_mac2(kStart, bytes, sizeof(bytes), alice_at_));
  EXPECT_FALSE(checker_.check_mac1(nullptr, 0));
}

TEST_F(Cookie, WithoutACookieThereIsNoMac2) {
  EXPECT_FALSE(mac2(kStart, call(kStart), alice_at_));
}

TEST_F(Cookie, AReplyNamesTheAskerAndIsSealedToItsMac1) {
  const auto message = call(kStart);
  const auto answer = reply(kStart, message, alice_at_);
  EXPECT_EQ(answer.type, 3u);
  EXPECT_EQ(answer.receiver, message.sender);
  const auto key = ref::hash(ref::letters("cookie--") + ref::bytes(bob_.identity.public_key));
  uint8_t cookie[16];
  EXPECT_EQ(crypto_aead_xchacha20poly1305_ietf_decrypt(
                cookie, nullptr, nullptr, answer.encrypted_cookie, sizeof(answer.encrypted_cookie),
                message.macs.mac1, 16, answer.nonce, key.data()),
            0);
  ASSERT_TRUE(jar_.consume_reply(kStart, answer));
  MessageInitiation second = call(kStart);
  const ref::Bytes covered(raw(second), raw(second) + 132);
  const auto expected = ref::mac(ref::bytes(cookie), covered);
  EXPECT_EQ(std::memcmp(second.macs.mac2, expected.data(), 16), 0);
}

TEST_F(Cookie, ACookieProvesTheAddress) {
  obtain_cookie(kStart, alice_at_);
  const auto message = call(kStart);
  EXPECT_TRUE(mac1(message));
  EXPECT_TRUE(mac2(kStart, message, alice_at_));
}

TEST_F(Cookie, ACookieIsForOneAddressAndPort) {
  obtain_cookie(kStart, alice_at_);
  const auto message = call(kStart);
  for (const char* other :
       {"192.0.2.2:51820", "192.0.2.1:51821", "[::192.0.2.1]:51820", "[c000:201::]:51820"}) {
    EXPECT_FALSE(mac2(kStart, message, *parse_endpoint(other))) << other;
  }
  Endpoint same = alice_at_;
  same.local = *parse_address("198.51.100.1");
  same.interface = 3;
  EXPECT_TRUE(mac2(kStart, message, same));
}

TEST_F(Cookie, WorksForIpv6) {
  const Endpoint from = *parse_endpoint("[2001:db8::1]:51820");
  obtain_cookie(kStart, from);
  EXPECT_TRUE(mac2(kStart, call(kStart), from));
  EXPECT_FALSE(mac2(kStart, call(kStart), *parse_endpoint("[2001:db8::2]:51820")));
  EXPECT_FALSE(mac2(kStart, call(kStart), *parse_endpoint("[2001:db8::1]:51821")));
}

TEST_F(Cookie, Mac2CoversMac1) {
  obtain_cookie(kStart, alice_at_);
  const auto message = call(kStart);
  for (size_t at = 0; at < kLength; ++at) {
    MessageInitiation damaged = message;
    raw(damaged)[at] ^= 1;
    EXPECT_FALSE(mac2(kStart, damaged, alice_at_)) << at;
  }
}

// 5.4.7: the secret "changes every two minutes".
TEST_F(Cookie, TheSecretIsNewAfterTwoMinutes) {
  obtain_cookie(kStart, alice_at_);
  const auto message = call(kStart);
  EXPECT_TRUE(mac2(kStart + kCookieSecretMaxAge - 1, message, alice_at_));
  EXPECT_FALSE(mac2(kStart + kCookieSecretMaxAge, message, alice_at_));
  EXPECT_FALSE(mac2(kStart + kCookieSecretMaxAge, message, alice_at_));
  obtain_cookie(kStart + kCookieSecretMaxAge, alice_at_);
  EXPECT_TRUE(mac2(kStart + kCookieSecretMaxAge, call(kStart + kCookieSecretMaxAge), alice_at_));
}

TEST_F(Cookie, ACookieCloseToItsEndIsNotUsed) {
  obtain_cookie(kStart, alice_at_);
  const Time end = kStart + kCookieSecretMaxAge - kCookieLatency;
  EXPECT_FALSE(is_zero(call(end - 1).macs.mac2));
  EXPECT_TRUE(is_zero(call(end).macs.mac2));
  EXPECT_TRUE(is_zero(call(end + 1000 * kSecond).macs.mac2));
}

TEST_F(Cookie, AReplyIsTakenOnce) {
  const auto answer = reply(kStart, call(kStart), alice_at_);
  EXPECT_TRUE(jar_.consume_reply(kStart, answer));
  EXPECT_FALSE(jar_.consume_reply(kStart, answer));
}

TEST_F(Cookie, AReplyToNothingIsRefused) {
  const auto answer = reply(kStart, call(kStart), alice_at_);
  CookieJar silent;
  silent.set_remote(bob_.identity.public_key);
  EXPECT_FALSE(silent.consume_reply(kStart, answer));
}

TEST_F(Cookie, AReplyToAnOlderMessageIsRefused) {
  const auto stale = reply(kStart, call(kStart), alice_at_);
  call(kStart + kSecond);
  EXPECT_FALSE(jar_.consume_reply(kStart + kSecond, stale));
}

TEST_F(Cookie, EveryFlippedByteOfAReplyIsRefused) {
  const auto answer = reply(kStart, call(kStart), alice_at_);
  for (size_t at = offsetof(MessageCookieReply, nonce); at < sizeof(answer); ++at) {
    MessageCookieReply damaged = answer;
    reinterpret_cast<uint8_t*>(&damaged)[at] ^= 1;
    EXPECT_FALSE(jar_.consume_reply(kStart, damaged)) << at;
  }
  EXPECT_TRUE(is_zero(MessageMacs{}.mac2));
  EXPECT_TRUE(jar_.consume_reply(kStart, answer));  // the others changed nothing
}

TEST_F(Cookie, AReplyFromSomeoneElseIsRefused) {
  const auto message = call(kStart);
  checker_.set_public_key(alice_.identity.public_key);
  EXPECT_FALSE(jar_.consume_reply(kStart, reply(kStart, message, alice_at_)));
}

TEST_F(Cookie, ANewRemoteKeyForgetsTheCookie) {
  obtain_cookie(kStart, alice_at_);
  jar_.set_remote(bob_.identity.public_key);
  EXPECT_TRUE(is_zero(call(kStart).macs.mac2));
}

TEST_F(Cookie, TwoCheckersHaveTwoSecrets) {
  obtain_cookie(kStart, alice_at_);
  CookieChecker other;
  other.set_public_key(bob_.identity.public_key);
  MessageInitiation message = call(kStart);
  EXPECT_TRUE(other.check_mac1(raw(message), kLength));
  EXPECT_FALSE(other.check_mac2(kStart, raw(message), kLength, alice_at_));
}

}  // namespace
}  // namespace sallyport::wireguard
