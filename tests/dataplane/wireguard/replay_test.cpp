#include "dataplane/wireguard/replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace sallyport::wireguard {
namespace {

constexpr uint64_t kW = kReplayWindow;
constexpr uint64_t kLimit = kRejectAfterMessages;

struct Truth {
  uint64_t counter;
  bool accepted;
};

void check(const std::vector<Truth>& truths) {
  ReplayWindow window;
  for (size_t i = 0; i < truths.size(); ++i) {
    EXPECT_EQ(window.accept(truths[i].counter), truths[i].accepted)
        << "truth " << i << ", counter " << truths[i].counter;
  }
}

TEST(Replay, EachCounterOnceInAnyOrder) {
  check({{0, true},
         {1, true},
         {1, false},
         {9, true},
         {8, true},
         {7, true},
         {7, false},
         {0, false},
         {2, true},
         {9, false}});
}

TEST(Replay, TheWindowEndsAtTheHighestAccepted) {
  check({{kW, true},
         {0, true},
         {0, false},
         {kW + 1, true},
         {0, false},  // one beyond the window now
         {1, true},
         {1, false},
         {kW + 17, true},
         {16, false},
         {17, true},
         {17, false},
         {kW + 16, true}});
}

TEST(Replay, AJumpForgetsWhatIsBehindAndNothingElse) {
  check({{0, true},
         {5, true},
         {kW * 4, true},
         {0, false},
         {5, false},
         {kW * 3 - 1, false},
         {kW * 3, true},
         {kW * 3, false},
         {kW * 4 - 1, true},
         {kW * 4, false},
         {kW * 4 + 64, true},
         {kW * 3 + 63, false},
         {kW * 3 + 64, true}});
}

TEST(Replay, JumpsOfEveryNumberOfBlocks) {
  std::vector<uint64_t> jumps;
  for (uint64_t jump = 0; jump <= 3 * (kW + 64); jump += 64) {
    jumps.insert(jumps.end(), {jump, jump + 1, jump + 63});
  }
  for (const uint64_t jump : jumps) {
    ReplayWindow window;
    ASSERT_TRUE(window.accept(1000));
    ASSERT_EQ(window.accept(1000 + jump), jump != 0) << jump;
    ASSERT_FALSE(window.accept(1000)) << jump;
    ASSERT_FALSE(window.accept(1000 + jump)) << jump;
    ASSERT_EQ(window.accept(999), jump + 1 <= kW) << jump;
  }
}

TEST(Replay, CountingUpAndThenDownAcceptsAWholeWindow) {
  ReplayWindow window;
  for (uint64_t i = 0; i <= kW; ++i) {
    ASSERT_TRUE(window.accept(2 * kW - i)) << i;  // the window's highest, then all below it
  }
  for (uint64_t i = 0; i <= kW + 1; ++i) {
    ASSERT_FALSE(window.accept(2 * kW - i)) << i;
  }
}

TEST(Replay, NoCounterFromTheLimitOn) {
  check({{kLimit, false},
         {UINT64_MAX, false},
         {kLimit - 1, true},
         {kLimit - 1, false},
         {kLimit, false},
         {kLimit + 1, false},
         {UINT64_MAX, false},
         {0, false},
         {kLimit - 2, true},
         {kLimit - 1 - kW, true},
         {kLimit - 2 - kW, false}});
}

TEST(Replay, ARefusedCounterDoesNotMoveTheWindow) {
  check({{1, true}, {UINT64_MAX, false}, {0, true}, {kLimit, false}, {2, true}, {3, true}});
}

TEST(Replay, BehavesAsASetUnderRandomUse) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int run = 0; run < 20; ++run) {
    ReplayWindow window;
    std::set<uint64_t> seen;
    uint64_t base = random() % 3 == 0 ? 0 : random() >> (1 + random() % 40);
    uint64_t highest = 0;
    for (int i = 0; i < 20'000; ++i) {
      const uint64_t spread = random() % 64 == 0 ? 3 * kW : kW / 4;
      const uint64_t back = random() % (kW + 200);
      const uint64_t counter =
          random() % 2 == 0 ? base + random() % spread : (base > back ? base - back : 0);
      base = std::max(base, counter);
      const bool in_window = seen.empty() || counter + kW >= highest;
      const bool expected = in_window && !seen.contains(counter);
      ASSERT_EQ(window.accept(counter), expected) << counter << " after " << highest;
      if (expected) {
        seen.insert(counter);
        highest = std::max(highest, counter);
      }
    }
  }
}

}  // namespace
}  // namespace sallyport::wireguard
