#include "control/load_progress.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace sallyport {
namespace {

constexpr Time kTellEvery = kSecond;
constexpr int64_t kWorkBeforeSleep = 2 * kMillisecond;
constexpr int64_t kTimeForWork = 5;                   // times as long: a fifth of a core
constexpr int64_t kSleepAtOnce = 100 * kMillisecond;  // then cancelled() is looked at again

}  // namespace

LoadProgress::LoadProgress(std::string set, const std::atomic<bool>* cancelled, Pace pace)
    : set_(std::move(set)),
      cancelled_(cancelled),
      pace_(pace),
      told_(now_boottime()),
      began_(told_),
      worked_(read_clock(CLOCK_THREAD_CPUTIME_ID)) {}

bool LoadProgress::step(Phase phase, size_t done, size_t total) {
  phase_.store(phase, std::memory_order_relaxed);
  percent_.store(total == 0 ? 100 : static_cast<unsigned>(done * 100 / total),
                 std::memory_order_relaxed);
  if (const Time now = now_boottime(); now - told_ >= kTellEvery) {
    told_ = now;
    spdlog::info("set {}: {}", set_, text());
  }
  if (pace_ == Pace::gentle) {
    rest();
  }
  return !cancelled();
}

void LoadProgress::rest() {
  const int64_t worked = read_clock(CLOCK_THREAD_CPUTIME_ID) - worked_;
  if (worked < kWorkBeforeSleep) {
    return;
  }
  // Time in which others had the core counts as slept.
  const Time until = began_ + worked * kTimeForWork;
  for (Time now = now_boottime(); now < until && !cancelled(); now = now_boottime()) {
    std::this_thread::sleep_for(std::chrono::nanoseconds(std::min(until - now, kSleepAtOnce)));
  }
  began_ = now_boottime();
  worked_ = read_clock(CLOCK_THREAD_CPUTIME_ID);
}

std::string LoadProgress::text() const {
  return std::to_string(percent_.load(std::memory_order_relaxed)) + " % " +
         (phase_.load(std::memory_order_relaxed) == Phase::reading ? "read" : "built");
}

}  // namespace sallyport
