#include "control/reverse_path.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace sallyport {
namespace {

class ReversePath : public testing::Test {
 protected:
  ReversePath()
      : root_(std::filesystem::temp_directory_path() /
              ("reverse_path_" + std::to_string(getpid()))) {}
  ~ReversePath() override { std::filesystem::remove_all(root_); }

  void set(const std::string& interface, int filter, int mark) {
    std::filesystem::create_directories(root_ / interface);
    std::ofstream(root_ / interface / "rp_filter") << filter;
    std::ofstream(root_ / interface / "src_valid_mark") << mark;
  }
  bool strict() const { return is_reverse_path_strict(root_); }

  std::filesystem::path root_;
};

TEST_F(ReversePath, TheLargerOfAllAndTheInterfaceCounts) {
  struct Case {
    int all_filter, filter, all_mark, mark;
    bool strict;
  };
  constexpr Case kCases[] = {
      /* 1 */ {0, 0, 0, 0, false},
      /* 2 */ {0, 1, 0, 0, true},
      /* 3 */ {1, 0, 0, 0, true},
      /* 4 */ {2, 1, 0, 0, false},  // loose
      /* 5 */ {1, 2, 0, 0, false},
      /* 6 */ {1, 1, 1, 0, false},  // looks at marks
      /* 7 */ {0, 1, 0, 1, false},
  };
  for (const Case& each : kCases) {
    set("all", each.all_filter, each.all_mark);
    set("eth0", each.filter, each.mark);
    EXPECT_EQ(strict(), each.strict) << &each - kCases + 1;
  }
}

TEST_F(ReversePath, OneStrictInterfaceIsEnoughAndLoopbackIsNone) {
  set("all", 0, 0);
  set("default", 1, 0);
  set("lo", 1, 0);
  set("eth0", 0, 0);
  EXPECT_FALSE(strict());
  set("eth1", 1, 0);
  EXPECT_TRUE(strict());
}

TEST_F(ReversePath, WhereThereIsNothingToReadNothingIsStrict) {
  EXPECT_FALSE(strict());
}

}  // namespace
}  // namespace sallyport
