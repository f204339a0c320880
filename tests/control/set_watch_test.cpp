// A list file changed in every way that lists are changed: one call for each, when it has come to rest.
#include "control/set_watch.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <utility>

namespace sallyport::test {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

class SetWatchTest : public testing::Test {
 protected:
  SetWatchTest() {
    char name[] = "/tmp/set_watch_test.XXXXXX";
    folder_ = mkdtemp(name);
    fs::create_directory(folder_ / "lists");
    file_ = folder_ / "lists" / "lan.txt";
    write(file_, "10.0.0.0/8\n");
    settings_.quiet = 30ms;
    settings_.retry = 30ms;
    settings_.look = 10s;  // so that nothing here is seen by it
  }
  ~SetWatchTest() override { fs::remove_all(folder_); }

  static void write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

  void start() { start(file_); }
  void start(const fs::path& path) {
    watch_ = std::make_unique<SetWatch>(
        context_, path, [this] { ++calls_; }, settings_);
  }
  void run_for(std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    for (auto turns = time / 5ms; turns > 0 || std::chrono::steady_clock::now() < end; --turns) {
      context_.run_one_for(5ms);  // so often even if the machine stood still meanwhile
    }
  }
  // How many calls there are until well after the last change could have come to rest.
  int calls() {
    run_for(settings_.quiet + settings_.retry + 60ms);
    return std::exchange(calls_, 0);
  }
  // The time until the first call.
  std::chrono::milliseconds call_after() {
    const auto begin = std::chrono::steady_clock::now();
    while (calls_ == 0 && std::chrono::steady_clock::now() - begin < 5s) {
      context_.run_one_for(5ms);
    }
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                                 begin);
  }

  fs::path folder_, file_;
  boost::asio::io_context context_;
  SetWatch::Settings settings_;
  std::unique_ptr<SetWatch> watch_;
  int calls_ = 0;
};

TEST_F(SetWatchTest, QuietWhenNothingHappens) {
  start();
  EXPECT_EQ(calls(), 0);
  EXPECT_FALSE(watch_->missing());
  EXPECT_EQ(watch_->trouble(), "");
}

TEST_F(SetWatchTest, WrittenInPlace) {
  start();
  write(file_, "10.0.0.0/9\n");
  EXPECT_GE(call_after(), 20ms);
  EXPECT_EQ(calls(), 1);
  write(file_, "10.0.0.0/9\n");
  EXPECT_EQ(calls(), 1) << "the same again is for the reader to see";
}

TEST_F(SetWatchTest, ReplacedByRename) {
  start();
  for (int i = 0; i < 3; ++i) {
    write(file_.string() + ".new", "10.0.0.0/8\n");
    fs::rename(file_.string() + ".new", file_);
    EXPECT_EQ(calls(), 1);
  }
}

TEST_F(SetWatchTest, OtherFilesOfTheFolderDoNotMatter) {
  start();
  for (int i = 0; i < 20; ++i) {
    write(folder_ / "lists" / "other.txt", std::to_string(i));
  }
  fs::remove(folder_ / "lists" / "other.txt");
  EXPECT_EQ(calls(), 0);
}

TEST_F(SetWatchTest, ManyWritesAreOneChange) {
  settings_.quiet = 200ms;
  start();
  for (int i = 0; i < 10; ++i) {
    std::ofstream(file_, std::ios::app) << "192.0.2." << i << "\n";
    run_for(20ms);
    EXPECT_EQ(calls_, 0) << "not while it is being written";
  }
  EXPECT_EQ(calls(), 1);
}

TEST_F(SetWatchTest, AWriterThatKeepsItOpenIsHeardWhenItIsDone) {
  start();
  std::ofstream slow(file_);
  for (int i = 0; i < 10; ++i) {
    slow << "192.0.2." << i << std::endl;
    run_for(10ms);
  }
  EXPECT_EQ(calls_, 0);
  slow.close();
  EXPECT_EQ(calls(), 1);
}

TEST_F(SetWatchTest, MissingForAWhile) {
  start();
  fs::remove(file_);
  EXPECT_EQ(calls(), 0) << "a set keeps what it has";
  EXPECT_TRUE(watch_->missing());
  write(file_, "10.0.0.0/8\n");
  EXPECT_EQ(calls(), 1);
  EXPECT_FALSE(watch_->missing());
}

TEST_F(SetWatchTest, MissingAtStart) {
  fs::remove(file_);
  start();
  EXPECT_TRUE(watch_->missing());
  write(file_, "10.0.0.0/8\n");
  EXPECT_EQ(calls(), 1);
}

TEST_F(SetWatchTest, ItsFolderMissingAtStart) {
  fs::remove_all(folder_ / "lists");
  start();
  EXPECT_NE(watch_->trouble(), "");
  EXPECT_EQ(calls(), 0);
  fs::create_directory(folder_ / "lists");
  write(file_, "10.0.0.0/8\n");
  EXPECT_EQ(calls(), 1);
  EXPECT_EQ(watch_->trouble(), "");
  write(file_, "10.0.0.0/9\n");
  EXPECT_EQ(calls(), 1) << "watched from then on";
}

TEST_F(SetWatchTest, ItsFolderRemovedAndMadeAnew) {
  start();
  for (int i = 0; i < 2; ++i) {
    fs::remove_all(folder_ / "lists");
    EXPECT_EQ(calls(), 0);
    EXPECT_TRUE(watch_->missing());
    fs::create_directory(folder_ / "lists");
    write(file_, "10.0.0.0/8\n");
    EXPECT_EQ(calls(), 1);
    write(file_, "10.0.0.0/9\n");
    EXPECT_EQ(calls(), 1);
  }
}

TEST_F(SetWatchTest, ItsFolderExchangedAtOnce) {
  start();
  for (int i = 0; i < 3; ++i) {
    fs::remove_all(folder_ / "lists");
    fs::create_directory(folder_ / "lists");  // often with the number of the old one
    write(file_, "10.0.0.0/8\n");
    EXPECT_EQ(calls(), 1);
    write(file_, "10.0.0.0/9\n");
    EXPECT_EQ(calls(), 1) << "the new one is watched";
  }
}

TEST_F(SetWatchTest, ALinkTurnedToAnotherFile) {
  const fs::path link = folder_ / "link.txt";
  write(folder_ / "lists" / "b.txt", "10.0.0.0/9\n");
  fs::create_symlink("lists/lan.txt", link);
  start(link);
  fs::create_symlink("lists/b.txt", folder_ / "new");
  fs::rename(folder_ / "new", link);
  EXPECT_EQ(calls(), 1);
  write(folder_ / "lists" / "b.txt", "10.0.0.0/10\n");
  EXPECT_EQ(calls(), 1) << "the file behind it, in another folder";
  write(file_, "10.0.0.0/10\n");
  EXPECT_EQ(calls(), 0) << "the one it pointed to before";
}

// As Kubernetes mounts a ConfigMap: lan.txt -> ..data/lan.txt, ..data -> ..1, and then ..data -> ..2.
TEST_F(SetWatchTest, AFolderBehindALinkExchanged) {
  const fs::path mount = folder_ / "mount";
  for (const char* version : {"..1", "..2", "..3"}) {
    fs::create_directories(mount / version);
    write(mount / version / "lan.txt", "10.0.0.0/8\n");
  }
  fs::create_directory_symlink("..1", mount / "..data");
  fs::create_symlink("..data/lan.txt", mount / "lan.txt");
  start(mount / "lan.txt");
  for (const char* version : {"..2", "..3"}) {
    fs::create_directory_symlink(version, mount / "..new");
    fs::rename(mount / "..new", mount / "..data");
    EXPECT_EQ(calls(), 1) << version;
  }
  write(mount / "..3" / "lan.txt", "10.0.0.0/9\n");
  EXPECT_EQ(calls(), 1);
}

TEST_F(SetWatchTest, WhatInotifyCannotSeeIsSeenByLooking) {
  settings_.look = 50ms;
  fs::create_directory(folder_ / "one");
  fs::create_directory(folder_ / "two");
  write(folder_ / "one" / "lan.txt", "1.0.0.0/8\n");
  write(folder_ / "two" / "lan.txt", "2.0.0.0/8\n");
  fs::create_directory_symlink("one", folder_ / "current");
  start(folder_ / "current" / "lan.txt");
  fs::create_directory_symlink("two", folder_ / "new");
  fs::rename(folder_ / "new", folder_ / "current");
  EXPECT_EQ(calls(), 1);
}

TEST_F(SetWatchTest, ARelativePath) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_ / "lists");
  start("lan.txt");
  write("lan.txt", "10.0.0.0/9\n");
  EXPECT_EQ(calls(), 1);
  fs::current_path(before);
}

TEST_F(SetWatchTest, MayBeEndedByItsCallAndAtAnyTime) {
  watch_ = std::make_unique<SetWatch>(
      context_, file_,
      [this] {
        ++calls_;
        watch_.reset();
      },
      settings_);
  write(file_, "10.0.0.0/9\n");
  EXPECT_EQ(calls(), 1);
  for (int i = 0; i < 5; ++i) {
    start();
    write(file_, std::to_string(i));
    run_for(std::chrono::milliseconds(i * 20));
    calls_ = 0;
    watch_.reset();
    EXPECT_EQ(calls(), 0);
  }
}

}  // namespace
}  // namespace sallyport::test
