// FileWatch calls whenever the file it watches may be gone.
#include "control/file_watch.h"

#include <gtest/gtest.h>
#include <stdlib.h>

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
  fs::remove_all(folder_);
  EXPECT_GE(calls(), 1);
}

TEST(FileWatch, WithoutAFolderFails) {
  boost::asio::io_context context;
  EXPECT_FALSE(FileWatch::start(context, "/no/such/folder/x.sock", [] {}));
}

}  // namespace
}  // namespace sallyport
