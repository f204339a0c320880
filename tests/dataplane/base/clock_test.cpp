#include "dataplane/base/clock.h"

#include <gtest/gtest.h>

namespace sallyport {
namespace {

TEST(Clock, BootTimeNeverGoesBack) {
  Time before = now_boottime();
  EXPECT_GT(before, 0);
  for (int i = 0; i < 1000; ++i) {
    const Time after = now_boottime();
    ASSERT_GE(after, before);
    before = after;
  }
}

TEST(Clock, WallTimeIsThisCentury) {
  EXPECT_GT(now_wall(), 1'600'000'000 * kSecond);
}

TEST(Clock, NeverIsOlderThanEveryMoment) {
  EXPECT_LT(kNever, 0);
  EXPECT_LT(kNever, now_boottime());
}

}  // namespace
}  // namespace sallyport
