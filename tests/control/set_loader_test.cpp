// Lists read aside. A pipe as list file stands still until the test has written it, so nothing here depends on luck.
#include "control/set_loader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>

namespace sallyport::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Clock = std::chrono::steady_clock;

class SetLoaderTest : public testing::Test {
 protected:
  SetLoaderTest() {
    char name[] = "/tmp/set_loader_test.XXXXXX";
    folder_ = mkdtemp(name);
    start();
  }
  ~SetLoaderTest() override {
    loader_.reset();
    std::filesystem::remove_all(folder_);
  }
  void start() {
    loader_ = std::make_unique<SetLoader>(
        context_,
        [this](PolicyAssets::Prepared prepared, const std::vector<config::Problem>& problems) {
          threads_.push_back(std::this_thread::get_id());
          std::string text;
          for (const PolicyAssets::Prepared::One& one : prepared.sets) {
            text += one.name + ":" + std::to_string(one.facts.prefixes);
          }
          for (const config::Problem& problem : problems) {
            text += " " + to_text(problem);
          }
          done_.push_back(text);
          if (problems.empty()) {
            assets_.commit(std::move(prepared));
          }
        });
  }
  config::Set set(const std::string& name, const std::string& file) {
    config::Set set;
    set.name = name;
    set.file = file;
    set.where = {(folder_ / "x.toml").string(), 1};
    return set;
  }
  void write(const std::string& file, const std::string& text) {
    std::ofstream(folder_ / file) << text;
  }
  // Runs the loop until so many sets have come.
  void wait_for(size_t count) {
    const auto end = Clock::now() + 60s;
    while (done_.size() < count && Clock::now() < end) {
      context_.restart();
      context_.run_one_for(10ms);
      if (context_.stopped()) {
        usleep(1000);
      }
    }
    ASSERT_GE(done_.size(), count);
  }

  boost::asio::io_context context_;
  std::filesystem::path folder_;
  PolicyAssets assets_;
  std::vector<std::string> done_;
  std::vector<std::thread::id> threads_;
  std::unique_ptr<SetLoader> loader_;
};

// A list that is being read until its lines have been written.
class Pipe {
 public:
  explicit Pipe(const std::filesystem::path& path) : path_(path) {
    EXPECT_EQ(mkfifo(path.c_str(), 0600), 0);
  }
  void wait_for_reader() { fd_ = open(path_.c_str(), O_WRONLY | O_CLOEXEC); }
  void finish(const std::string& text) {
    EXPECT_EQ(::write(fd_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    close(fd_);
  }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

TEST_F(SetLoaderTest, AListArrivesOnTheLoop) {
  write("a.txt", "10.0.0.0/8\n192.0.2.0/24\n");
  loader_->load(set("a", "a.txt"));
  EXPECT_THAT(done_, IsEmpty()) << "never from within load()";
  wait_for(1);
  EXPECT_THAT(done_, ElementsAre("a:2"));
  EXPECT_THAT(threads_, ElementsAre(std::this_thread::get_id()));
  const uint8_t address[] = {10, 1, 2, 3};
  EXPECT_TRUE(assets_.set("a").contains(true, address));
}

TEST_F(SetLoaderTest, AskedTwiceWhileItWaitsItIsReadOnce) {
  Pipe pipe(folder_ / "slow.txt");
  write("b.txt", "10.0.0.0/8\n");
  write("c.txt", "10.0.0.0/8\n");
  loader_->load(set("slow", "slow.txt"));
  pipe.wait_for_reader();
  loader_->load(set("b", "b.txt"));
  loader_->load(set("c", "c.txt"));
  write("b.txt", "10.0.0.0/8\n10.1.0.0/16\n10.2.0.0/16\n");
  loader_->load(set("b", "b.txt"));
  loader_->load(set("b", "b.txt"));
  pipe.finish("192.0.2.0/24\n");
  wait_for(3);
  loader_->load(set("end", "c.txt"));
  wait_for(4);
  EXPECT_THAT(done_, ElementsAre("slow:1", "c:1", "b:3", "end:1"));
}

TEST_F(SetLoaderTest, AskedForWhileItIsReadItIsReadOnceMore) {
  Pipe pipe(folder_ / "slow.txt");
  loader_->load(set("slow", "slow.txt"));
  pipe.wait_for_reader();
  loader_->load(set("slow", "slow.txt"));
  loader_->load(set("slow", "slow.txt"));
  pipe.finish("192.0.2.0/24\n");
  wait_for(1);
  pipe.wait_for_reader();
  pipe.finish("192.0.2.0/24\n198.51.100.0/24\n");
  wait_for(2);
  write("end.txt", "::/0\n");
  loader_->load(set("end", "end.txt"));
  wait_for(3);
  EXPECT_THAT(done_, ElementsAre("slow:1", "slow:2", "end:1"));
}

TEST_F(SetLoaderTest, ErrorsAreDeliveredAndNothingIsInForce) {
  write("a.txt", "10.0.0.0/8\n");
  loader_->load(set("a", "a.txt"));
  wait_for(1);
  write("a.txt", "192.0.2.0/24\nnonsense\n");
  loader_->load(set("a", "a.txt"));
  loader_->load(set("b", "none.txt"));
  wait_for(3);
  EXPECT_THAT(done_[1], HasSubstr((folder_ / "a.txt").string() + ":2: "));
  EXPECT_THAT(done_[2], HasSubstr("none.txt"));
  const uint8_t before[] = {10, 1, 2, 3}, after[] = {192, 0, 2, 1};
  EXPECT_TRUE(assets_.set("a").contains(true, before));
  EXPECT_FALSE(assets_.set("a").contains(true, after));
}

TEST_F(SetLoaderTest, DestroyedItDeliversNothingMore) {
  write("a.txt", "10.0.0.0/8\n");
  loader_->load(set("a", "a.txt"));
  usleep(50'000);  // it is read by now, in all likelihood, and waits on the loop
  loader_.reset();
  context_.restart();
  context_.run_for(10ms);
  EXPECT_THAT(done_, IsEmpty());
}

TEST_F(SetLoaderTest, DestroyedItGivesUpAPipeThatNobodyWrites) {
  Pipe pipe(folder_ / "silent.txt");
  loader_->load(set("silent", "silent.txt"));
  usleep(50'000);  // it waits for the pipe by now, in all likelihood
  const auto begin = Clock::now();
  loader_.reset();
  EXPECT_LT(Clock::now() - begin, 30s);
}

TEST_F(SetLoaderTest, SaysWhatItIsAtAndHowFar) {
  Pipe pipe(folder_ / "slow.txt");
  EXPECT_EQ(loader_->progress("slow"), std::nullopt);
  loader_->load(set("slow", "slow.txt"));
  pipe.wait_for_reader();
  EXPECT_EQ(loader_->progress("slow"), "0 % read");
  EXPECT_EQ(loader_->progress("other"), std::nullopt);
  pipe.finish("192.0.2.0/24\n");
  wait_for(1);
  EXPECT_EQ(loader_->progress("slow"), std::nullopt);
}

TEST_F(SetLoaderTest, DestroyedItGivesUpWhatItReads) {
  {
    std::ofstream list(folder_ / "large.txt");
    for (unsigned i = 0; i < 100'000; ++i) {
      list << (i & 255) << '.' << (i >> 8 & 255) << '.' << (i >> 16 & 255) << ".0/24\n";
    }
  }
  auto begin = Clock::now();
  loader_->load(set("large", "large.txt"));
  wait_for(1);
  const auto whole = Clock::now() - begin;
  Clock::duration given_up = 1h;
  for (int i = 0; i < 5; ++i) {  // the best of some: the thread has the lowest priority
    start();
    loader_->load(set("large", "large.txt"));
    usleep(static_cast<useconds_t>(whole / 1us * i / 5));
    begin = Clock::now();
    loader_.reset();
    given_up = std::min(given_up, Clock::duration(Clock::now() - begin));
  }
  RecordProperty("whole_ms", static_cast<int>(whole / 1ms));
  RecordProperty("given_up_ms", static_cast<int>(given_up / 1ms));
  EXPECT_LT(given_up, whole / 5 + 20ms);
  context_.restart();
  context_.run_for(10ms);
  EXPECT_EQ(done_.size(), 1u);
}

}  // namespace
}  // namespace sallyport::test
