// SpinLock: four bytes that exclude, for sections of some tens of instructions that never block.
//
// All zeros is unlocked, so an array of them may be fresh pages. A waiter gives its core away after a while: the holder may be
// waiting for it. For std::lock_guard.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>

namespace sallyport {

class SpinLock {
 public:
  void lock() {
    for (unsigned tries = 0; word_.exchange(1, std::memory_order_acquire) != 0;) {
      while (word_.load(std::memory_order_relaxed) != 0) {
        if (++tries % kTriesBeforeYield == 0) {
          sched_yield();
        }
      }
    }
  }
  void unlock() { word_.store(0, std::memory_order_release); }

 private:
  static constexpr unsigned kTriesBeforeYield = 100;
  std::atomic<uint32_t> word_{0};
};
static_assert(sizeof(SpinLock) == 4);

}  // namespace sallyport
