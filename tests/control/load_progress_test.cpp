// How far a load has come, in words, and the word to give it up.
#include "control/load_progress.h"

#include <gtest/gtest.h>

namespace sallyport {
namespace {

using Phase = LoadProgress::Phase;

TEST(LoadProgress, InWords) {
  LoadProgress progress("cn");
  EXPECT_EQ(progress.set(), "cn");
  EXPECT_EQ(progress.text(), "0 % read");
  EXPECT_TRUE(progress.step(Phase::reading, 399, 1000));
  EXPECT_EQ(progress.text(), "39 % read");
  EXPECT_TRUE(progress.step(Phase::building, 0, 1000));
  EXPECT_EQ(progress.text(), "0 % built");
  EXPECT_TRUE(progress.step(Phase::building, 1000, 1000));
  EXPECT_EQ(progress.text(), "100 % built");
}

TEST(LoadProgress, AnEmptyListIsDoneAtOnce) {
  LoadProgress progress("none");
  EXPECT_TRUE(progress.step(Phase::building, 0, 0));
  EXPECT_EQ(progress.text(), "100 % built");
}

TEST(LoadProgress, GivenUp) {
  std::atomic<bool> cancelled{false};
  LoadProgress progress("cn", &cancelled);
  EXPECT_TRUE(progress.step(Phase::reading, 1, 2));
  EXPECT_FALSE(progress.cancelled());
  cancelled = true;
  EXPECT_TRUE(progress.cancelled());
  EXPECT_FALSE(progress.step(Phase::reading, 2, 2));
}

}  // namespace
}  // namespace sallyport
