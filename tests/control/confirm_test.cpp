// Reloads on trial: the states with a clock of the test's own, the record that outlives a crash, and the timer on a real loop.
#include "control/confirm.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "control/limits.h"
#include "tests/control/local_client.h"

namespace sallyport {
namespace {

using namespace std::chrono_literals;

class TrialTest : public testing::Test {
 protected:
  void apply(std::chrono::seconds patience = 60s) {
    ASSERT_TRUE(trial_.may_reload(now_));
    trial_.applied(now_, patience, [this]() -> Result<void> {
      ++undone_;
      if (undo_fails_) {
        return fail("the list is gone");
      }
      return {};
    });
  }

  Trial trial_;
  Trial::TimePoint now_{1000s};
  int undone_ = 0;
  bool undo_fails_ = false;
};

TEST_F(TrialTest, ConfirmedInTimeIsKept) {
  apply();
  EXPECT_EQ(trial_.seconds_left(now_), 60);
  now_ += 59s;
  EXPECT_FALSE(trial_.expire(now_));
  EXPECT_TRUE(trial_.confirm(now_));
  EXPECT_FALSE(trial_.waiting());
  now_ += 3600s;
  EXPECT_FALSE(trial_.expire(now_));
  EXPECT_EQ(undone_, 0);
  EXPECT_EQ(trial_.seconds_left(now_), std::nullopt);
}

TEST_F(TrialTest, NotConfirmedIsUndoneOnce) {
  apply();
  now_ += 60s;
  const auto undone = trial_.expire(now_);
  ASSERT_TRUE(undone);
  EXPECT_TRUE(*undone);
  EXPECT_EQ(undone_, 1);
  EXPECT_FALSE(trial_.expire(now_ + 60s));
  EXPECT_EQ(undone_, 1);
  const auto late = trial_.confirm(now_);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ENOENT);
}

TEST_F(TrialTest, ConfirmingAtTheDeadlineIsTooLate) {
  apply();
  now_ += 60s;
  const auto late = trial_.confirm(now_);
  ASSERT_FALSE(late);
  EXPECT_NE(late.error().text.find("too late"), std::string::npos);
  EXPECT_TRUE(trial_.expire(now_));
}

TEST_F(TrialTest, ASecondReloadIsRefusedWhileOneWaits) {
  apply();
  now_ += 59s + 1ms;
  const auto second = trial_.may_reload(now_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EBUSY);
  EXPECT_NE(second.error().text.find("in 1 seconds"), std::string::npos) << second.error().text;
  EXPECT_NE(second.error().text.find("sallyport confirm"), std::string::npos);
  EXPECT_TRUE(trial_.confirm(now_));
  apply();
  now_ += 60s;
  EXPECT_TRUE(trial_.expire(now_));
  apply();
}

TEST_F(TrialTest, AnUndoThatFailsIsToldAndTheTrialIsOver) {
  undo_fails_ = true;
  apply();
  now_ += 61s;
  const auto undone = trial_.expire(now_);
  ASSERT_TRUE(undone);
  ASSERT_FALSE(*undone);
  EXPECT_EQ(undone->error().text, "the list is gone");
  EXPECT_TRUE(trial_.may_reload(now_));
}

TEST_F(TrialTest, ConfirmWithoutATrialIsAnError) {
  const auto confirmed = trial_.confirm(now_);
  ASSERT_FALSE(confirmed);
  EXPECT_NE(confirmed.error().text.find("nothing waits"), std::string::npos);
}

TEST(TrialPatience, HasBounds) {
  EXPECT_EQ(*Trial::patience(1), 1s);
  EXPECT_EQ(*Trial::patience(kConfirmMax.count()), kConfirmMax);
  for (const int64_t wrong :
       {int64_t{0}, int64_t{-1}, int64_t{kConfirmMax.count()} + 1, INT64_MAX, INT64_MIN}) {
    EXPECT_FALSE(Trial::patience(wrong)) << wrong;
  }
}

// -- The record

TEST(TrialRecordTest, ComesBackOnceAsItWas) {
  const Folder folder;
  const std::string path = trial_record_path(folder.path() + "/control.sock");
  EXPECT_EQ(path, folder.path() + "/unconfirmed");
  ASSERT_TRUE(TrialRecord::take_back(path));
  EXPECT_FALSE(*TrialRecord::take_back(path));

  const std::string text = "[tunnel.wg0]\n\nprivate_key = \"x\"\n" + std::string(300'000, '#');
  ASSERT_TRUE(TrialRecord::keep(path, {"/etc/a.toml", "old"}));
  ASSERT_TRUE(TrialRecord::keep(path, {"/etc/sallyport.toml", text}));
  struct stat file {};
  ASSERT_EQ(stat(path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0600u);
  const auto back = TrialRecord::take_back(path);
  ASSERT_TRUE(back && *back);
  EXPECT_EQ((*back)->file, "/etc/sallyport.toml");
  EXPECT_EQ((*back)->text, text);
  EXPECT_FALSE(*TrialRecord::take_back(path));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(TrialRecordTest, WhatIsNoneIsAnErrorThatNamesTheFile) {
  const Folder folder;
  const std::string path = folder.path() + "/unconfirmed";
  std::ofstream(path) << "nonsense";
  const auto back = TrialRecord::take_back(path);
  ASSERT_FALSE(back);
  EXPECT_NE(back.error().text.find(path), std::string::npos);
  EXPECT_FALSE(TrialRecord::keep(folder.path() + "/none/unconfirmed", {"a", "b"}));
}

// -- The timer

TEST(TrialTimerTest, UndoesByItselfAndForgetsTheRecord) {
  const Folder folder;
  const std::string record = folder.path() + "/unconfirmed";
  boost::asio::io_context context;
  std::vector<std::string> told;
  TrialTimer timer(context, record, [&](const Result<void>& undone) {
    told.push_back(undone ? "undone" : undone.error().text);
  });
  ASSERT_TRUE(timer.applied(1s, {"a.toml", "before"}, [&]() -> Result<void> {
    told.push_back("undo");
    return {};
  }));
  EXPECT_TRUE(std::filesystem::exists(record));
  EXPECT_FALSE(timer.may_reload());
  context.run_for(3s);
  EXPECT_EQ(told, (std::vector<std::string>{"undo", "undone"}));
  EXPECT_FALSE(std::filesystem::exists(record));
  EXPECT_TRUE(timer.may_reload());
}

TEST(TrialTimerTest, ConfirmedLeavesNothingBehind) {
  const Folder folder;
  const std::string record = folder.path() + "/unconfirmed";
  boost::asio::io_context context;
  TrialTimer timer(context, record, [](const Result<void>&) { FAIL(); });
  ASSERT_TRUE(timer.applied(1s, {"a.toml", "before"}, []() -> Result<void> { return {}; }));
  EXPECT_EQ(timer.seconds_left(), 1);
  EXPECT_TRUE(timer.confirm());
  EXPECT_FALSE(std::filesystem::exists(record));
  EXPECT_EQ(context.run(), 1u);  // the wait that was called off, and no more
  EXPECT_FALSE(timer.confirm());
}

TEST(TrialTimerTest, WithoutItsRecordNothingIsOnTrial) {
  boost::asio::io_context context;
  TrialTimer timer(context, "/no/such/directory/unconfirmed", [](const Result<void>&) {});
  const auto applied = timer.applied(60s, {"a", "b"}, []() -> Result<void> { return {}; });
  ASSERT_FALSE(applied);
  EXPECT_NE(applied.error().text.find("/no/such/directory"), std::string::npos);
  EXPECT_TRUE(timer.may_reload());
}

// A daemon that crashes on trial: its successor finds the configuration before.
TEST(TrialTimerTest, ACrashOnTrialLeavesTheRecord) {
  const Folder folder;
  const std::string record = folder.path() + "/unconfirmed";
  {
    boost::asio::io_context context;
    TrialTimer timer(context, record, [](const Result<void>&) {});
    ASSERT_TRUE(timer.applied(60s, {"a.toml", "before"}, []() -> Result<void> { return {}; }));
  }
  const auto back = TrialRecord::take_back(record);
  ASSERT_TRUE(back && *back);
  EXPECT_EQ((*back)->text, "before");
}

}  // namespace
}  // namespace sallyport
