// FileWatch calls whenever the file it watches may be gone.
#include "control/file_watch.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/asio/post.hpp>
#include <filesystem>
#include <fstream>

namespace sallyport {
namespace {

namespace fs = std::filesystem;

class FileWatchTest : public testing::Test {
 protected:
  FileWatchTest() {
    char name[] = "/tmp/file_watch_test.XXXXXX";
    folder_ = mkdtemp(name);
    file_ = folder_ / "wg0.sock";
    std::ofstream(file_) << "x";
    auto watch = FileWatch::start(context_, file_, [this] { ++calls_; });
    EXPECT_TRUE(watch);
    watch_ = std::move(*watch);
  }
  ~FileWatchTest() override { fs::remove_all(folder_); }

  int calls() {
    context_.poll();
    return std::exchange(calls_, 0);
  }

  fs::path folder_, file_;
  boost::asio::io_context context_;
  int calls_ = 0;
  std::unique_ptr<FileWatch> watch_;
};

TEST_F(FileWatchTest, QuietWhenNothingHappens) {
  EXPECT_EQ(calls(), 0);
}

TEST_F(FileWatchTest, Removed) {
  fs::remove(file_);
  EXPECT_GE(calls(), 1);
}

TEST_F(FileWatchTest, MovedAwayAndReplaced) {
  fs::rename(file_, folder_ / "elsewhere");
  EXPECT_GE(calls(), 1);
  fs::rename(folder_ / "elsewhere", file_);
  EXPECT_GE(calls(), 1);
  std::ofstream(folder_ / "new") << "y";
  calls();
  fs::rename(folder_ / "new", file_);
  EXPECT_GE(calls(), 1);
}

TEST_F(FileWatchTest, TheWholeFolderRemoved) {
  EXPECT_FALSE(watch_->ended());
  fs::remove_all(folder_);
  EXPECT_GE(calls(), 1);
  EXPECT_TRUE(watch_->ended());
}

TEST_F(FileWatchTest, ContentsOnlyOnRequest) {
  std::ofstream(file_) << "y";
  EXPECT_EQ(calls(), 0);
  auto watch = FileWatch::start(
      context_, file_, [this] { ++calls_; }, FileWatch::What::names_and_contents);
  ASSERT_TRUE(watch);
  std::ofstream(file_) << "z";
  EXPECT_GE(calls(), 1);
}

TEST_F(FileWatchTest, MayBeDestroyedByItsCallAndWhileACallIsDue) {
  auto watch = FileWatch::start(context_, file_, [this] {
    ++calls_;
    watch_.reset();
  });
  ASSERT_TRUE(watch);
  watch_ = std::move(*watch);
  fs::remove(file_);
  EXPECT_EQ(calls(), 1);
  watch = FileWatch::start(context_, file_, [this] { ++calls_; });
  ASSERT_TRUE(watch);
  std::ofstream(file_) << "x";
  boost::asio::post(context_, [&] { watch->reset(); });
  context_.poll();
}

TEST(FileWatch, WithoutAFolderFails) {
  boost::asio::io_context context;
  EXPECT_FALSE(FileWatch::start(context, "/no/such/folder/x.sock", [] {}));
}

}  // namespace
}  // namespace sallyport
