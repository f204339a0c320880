// A child that goes into the background tells its parent how it went.
#include "control/readiness.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace sallyport {
namespace {

enum class Child { becomes_ready, fails, dies_silent, is_killed, speaks_empty };

// Forks a child that behaves so; what the parent hears.
Result<void> heard_from(Child behaviour) {
  auto readiness = Readiness::fork_child();
  if (!readiness) {
    return std::unexpected(readiness.error());
  }
  if (readiness->side() == Readiness::Side::child) {
    switch (behaviour) {
      case Child::becomes_ready:
        readiness->ready();
        break;
      case Child::fails:
        readiness->failed("the moon is in the wrong house");
        break;
      case Child::speaks_empty:
        readiness->failed("");
        break;
      case Child::is_killed:
        raise(SIGKILL);
        break;
      case Child::dies_silent:
        break;
    }
    _exit(0);
  }
  auto heard = readiness->await();
  wait(nullptr);
  return heard;
}

TEST(Readiness, Ready) {
  const auto heard = heard_from(Child::becomes_ready);
  EXPECT_TRUE(heard) << heard.error().text;
}

TEST(Readiness, TheReasonOfAFailureComesWhole) {
  const auto heard = heard_from(Child::fails);
  ASSERT_FALSE(heard);
  EXPECT_EQ(heard.error().text, "the moon is in the wrong house");
}

TEST(Readiness, ADeathWithoutAWordIsAFailure) {
  for (const Child behaviour : {Child::dies_silent, Child::is_killed, Child::speaks_empty}) {
    const auto heard = heard_from(behaviour);
    ASSERT_FALSE(heard);
    EXPECT_NE(heard.error().text.find("died"), std::string::npos);
  }
}

TEST(Readiness, InTheForegroundNobodyWaits) {
  Readiness readiness;
  EXPECT_EQ(readiness.side(), Readiness::Side::child);
  EXPECT_TRUE(readiness.ready());
}

TEST(Readiness, TheChildNoticesThatNobodyWaitsAnyMore) {
  signal(SIGPIPE, SIG_IGN);
  int answer[2];
  ASSERT_EQ(pipe(answer), 0);
  int go[2];
  ASSERT_EQ(pipe(go), 0);
  {
    auto readiness = Readiness::fork_child();
    ASSERT_TRUE(readiness);
    if (readiness->side() == Readiness::Side::child) {
      char byte;
      (void)!read(go[0], &byte, 1);  // until the parent has closed its end
      byte = readiness->ready() ? 'y' : 'n';
      (void)!write(answer[1], &byte, 1);
      _exit(0);
    }
  }
  ASSERT_EQ(write(go[1], "x", 1), 1);
  char byte = 0;
  ASSERT_EQ(read(answer[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'n');
  wait(nullptr);
  for (const int fd : {answer[0], answer[1], go[0], go[1]}) {
    close(fd);
  }
}

}  // namespace
}  // namespace sallyport
