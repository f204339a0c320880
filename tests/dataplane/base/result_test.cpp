#include "dataplane/base/result.h"

#include <gtest/gtest.h>

namespace sallyport {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) {
    return fail("an odd number has no half");
  }
  return number / 2;
}

TEST(Result, CarriesAValueOrASentence) {
  EXPECT_EQ(half(4), 2);
  const auto odd = half(3);
  ASSERT_FALSE(odd);
  EXPECT_EQ(odd.error().text, "an odd number has no half");
  EXPECT_EQ(odd.error().code, EINVAL);
}

TEST(Result, ErrnoBecomesPartOfTheSentence) {
  const Result<int> failed = fail_errno("open /dev/net/tun", ENOENT);
  EXPECT_EQ(failed.error().text, "open /dev/net/tun: No such file or directory");
  EXPECT_EQ(failed.error().code, ENOENT);
}

}  // namespace
}  // namespace sallyport
