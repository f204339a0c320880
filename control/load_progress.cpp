#include "control/load_progress.h"

#include <spdlog/spdlog.h>

namespace sallyport {
namespace {

constexpr Time kTellEvery = kSecond;

}  // namespace

LoadProgress::LoadProgress(std::string set, const std::atomic<bool>* cancelled)
    : set_(std::move(set)), cancelled_(cancelled), told_(now_boottime()) {}

bool LoadProgress::step(Phase phase, size_t done, size_t total) {
  phase_.store(phase, std::memory_order_relaxed);
  percent_.store(total == 0 ? 100 : static_cast<unsigned>(done * 100 / total),
                 std::memory_order_relaxed);
  if (const Time now = now_boottime(); now - told_ >= kTellEvery) {
    told_ = now;
    spdlog::info("set {}: {}", set_, text());
  }
  return !cancelled();
}

std::string LoadProgress::text() const {
  return std::to_string(percent_.load(std::memory_order_relaxed)) + " % " +
         (phase_.load(std::memory_order_relaxed) == Phase::reading ? "read" : "built");
}

}  // namespace sallyport
