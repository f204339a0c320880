#include "dataplane/wireguard/ratelimiter.h"

#include <gtest/gtest.h>

#include <string>

namespace sallyport::wireguard {
namespace {

constexpr Time kStart = 1'000 * kSecond;
constexpr Time kRefill = kSecond / 20;

IpAddress at(const std::string& text) {
  return *parse_address(text);
}

unsigned allowed(RateLimiter& limiter, Time now, const IpAddress& source, unsigned tries) {
  unsigned count = 0;
  for (unsigned i = 0; i < tries; ++i) {
    count += limiter.allow(now, source);
  }
  return count;
}

TEST(RateLimiter, ANewSourceHasABurstOfFive) {
  RateLimiter limiter;
  EXPECT_EQ(allowed(limiter, kStart, at("192.0.2.1"), 100), 5u);
}

TEST(RateLimiter, ThenTwentyASecond) {
  RateLimiter limiter;
  const auto source = at("192.0.2.1");
  ASSERT_EQ(allowed(limiter, kStart, source, 100), 5u);
  EXPECT_FALSE(limiter.allow(kStart + kRefill - 1, source));
  EXPECT_TRUE(limiter.allow(kStart + kRefill, source));
  EXPECT_FALSE(limiter.allow(kStart + kRefill, source));
  unsigned count = 0;
  for (Time now = kStart + kRefill; now < kStart + kRefill + 10 * kSecond; now += kMillisecond) {
    count += limiter.allow(now, source);
  }
  EXPECT_EQ(count, 199u);  // the 200th is due at the very end
}

TEST(RateLimiter, AQuietSourceHasItsBurstBackAndNoMore) {
  RateLimiter limiter;
  const auto source = at("192.0.2.1");
  ASSERT_EQ(allowed(limiter, kStart, source, 100), 5u);
  EXPECT_EQ(allowed(limiter, kStart + 3 * kRefill, source, 100), 3u);
  EXPECT_EQ(allowed(limiter, kStart + 100 * kSecond, source, 100), 5u);
}

TEST(RateLimiter, RefusedTriesCostNothing) {
  RateLimiter limiter;
  const auto source = at("192.0.2.1");
  allowed(limiter, kStart, source, 5);
  for (Time now = kStart; now < kStart + kRefill; now += kRefill / 10) {
    EXPECT_FALSE(limiter.allow(now, source));
  }
  EXPECT_TRUE(limiter.allow(kStart + kRefill, source));
}

TEST(RateLimiter, V4SourcesAreSingleAddresses) {
  RateLimiter limiter;
  EXPECT_EQ(allowed(limiter, kStart, at("192.0.2.1"), 10), 5u);
  EXPECT_EQ(allowed(limiter, kStart, at("192.0.2.2"), 10), 5u);
}

TEST(RateLimiter, V6SourcesAreWholeSlash64s) {
  RateLimiter limiter;
  EXPECT_EQ(allowed(limiter, kStart, at("2001:db8::1"), 3), 3u);
  EXPECT_EQ(allowed(limiter, kStart, at("2001:db8::ffff:1"), 3), 2u);
  EXPECT_EQ(allowed(limiter, kStart, at("2001:db8:0:0:ffff::"), 3), 0u);
  EXPECT_EQ(allowed(limiter, kStart, at("2001:db8:0:1::1"), 10), 5u);
}

TEST(RateLimiter, TheFamiliesDoNotShare) {
  RateLimiter limiter;
  EXPECT_EQ(allowed(limiter, kStart, at("0.0.0.0"), 10), 5u);
  EXPECT_EQ(allowed(limiter, kStart, at("::"), 10), 5u);
  EXPECT_EQ(allowed(limiter, kStart, at("0.0.0.1"), 10), 5u);
}

TEST(RateLimiter, AClockALittleBehindGivesNothingAway) {
  RateLimiter limiter;
  const auto source = at("192.0.2.1");
  allowed(limiter, kStart, source, 5);
  EXPECT_FALSE(limiter.allow(kStart - kSecond, source));
  EXPECT_FALSE(limiter.allow(kStart, source));
  EXPECT_TRUE(limiter.allow(kStart + kRefill, source));
}

IpAddress numbered(uint32_t number) {
  const uint8_t bytes[] = {10, static_cast<uint8_t>(number >> 16),
                           static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number)};
  return IpAddress::v4(bytes);
}

// The table holds 8,192 sources. A hundred thousand at one instant share what there is: whoever finds
// no room pays from someone's bucket, so all together get at most five for each bucket.
TEST(RateLimiter, AFullTableSharesItsBucketsAndDoesNotGrow) {
  RateLimiter limiter;
  unsigned count = 0;
  for (uint32_t i = 0; i < 100'000; ++i) {
    count += limiter.allow(kStart, numbered(i));
  }
  EXPECT_LE(count, 8192u * 5);
  EXPECT_GE(count, 8192u);
  // Those buckets are as good as free a little later.
  EXPECT_EQ(allowed(limiter, kStart + kSecond, at("192.0.2.1"), 10), 5u);
}

TEST(RateLimiter, ManySourcesDoNotRefillOne) {
  RateLimiter limiter;
  const auto greedy = at("192.0.2.1");
  ASSERT_EQ(allowed(limiter, kStart, greedy, 10), 5u);
  for (uint32_t i = 0; i < 100'000; ++i) {
    limiter.allow(kStart, numbered(i));
  }
  EXPECT_EQ(allowed(limiter, kStart, greedy, 10), 0u);
}

}  // namespace
}  // namespace sallyport::wireguard
