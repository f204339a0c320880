#include "dataplane/base/token_bucket.h"

#include <gtest/gtest.h>

namespace sallyport {
namespace {

constexpr Time kStart = 1000 * kSecond;

unsigned allowed_at(TokenBucket& bucket, Time now, unsigned tries = 1000) {
  unsigned count = 0;
  for (unsigned i = 0; i < tries; ++i) {
    count += bucket.allow(now) ? 1 : 0;
  }
  return count;
}

TEST(TokenBucket, BeginsFull) {
  TokenBucket bucket(20, 5);
  EXPECT_EQ(allowed_at(bucket, kStart), 5u);
  EXPECT_EQ(allowed_at(bucket, kStart), 0u);
}

TEST(TokenBucket, BeginsFullAtAnyTime) {
  for (const Time start : {Time{0}, Time{-5 * kSecond}, Time{1}}) {
    TokenBucket bucket(20, 5);
    EXPECT_EQ(allowed_at(bucket, start), 5u) << start;
  }
}

TEST(TokenBucket, RefillsAtItsRate) {
  TokenBucket bucket(20, 5);
  allowed_at(bucket, kStart);
  EXPECT_EQ(allowed_at(bucket, kStart + 50 * kMillisecond - 1), 0u);
  EXPECT_EQ(allowed_at(bucket, kStart + 50 * kMillisecond), 1u);
  EXPECT_EQ(allowed_at(bucket, kStart + 200 * kMillisecond), 3u);
}

TEST(TokenBucket, HoldsNoMoreThanItsDepth) {
  TokenBucket bucket(20, 5);
  allowed_at(bucket, kStart);
  EXPECT_EQ(allowed_at(bucket, kStart + 3600 * kSecond), 5u);
}

TEST(TokenBucket, KeepsToItsRateInTheLongRun) {
  TokenBucket bucket(1000, 50);
  unsigned count = 0;
  for (Time now = kStart; now < kStart + 10 * kSecond; now += 7 * kMicrosecond * 10) {
    count += bucket.allow(now) ? 1 : 0;
  }
  EXPECT_NEAR(count, 10'000 + 50, 2);
}

TEST(TokenBucket, ARefusalCostsNothing) {
  TokenBucket bucket(20, 1);
  EXPECT_TRUE(bucket.allow(kStart));
  EXPECT_EQ(allowed_at(bucket, kStart + kMillisecond), 0u);
  EXPECT_TRUE(bucket.allow(kStart + 50 * kMillisecond));
}

}  // namespace
}  // namespace sallyport
