// Time and chance under a test's control.
//
// An engine takes plain functions for its clocks, so the fake ones are globals: one base that all
// share, and for the engine being stepped by this thread its own offsets and the price of a
// handshake. Randomness of the whole program comes from a seeded generator (installed before any
// static initialiser runs, because one of them draws a hash secret): a test that fails fails again.
#pragma once

#include <sodium.h>

#include <atomic>
#include <cstring>
#include <mutex>

#include "dataplane/base/clock.h"

namespace sallyport::test {

// What one engine's clocks show beside the base.
struct NodeClock {
  Time boot_offset = 0;
  WallTime wall_offset = 0;
  Time cost = 0;
  Time cost_step = 0;  // how much a handshake message costs: each reading moves the clock this far
};

struct FakeClock {
  static constexpr Time kStart = 1'000 * kSecond;
  static constexpr WallTime kWallStart = 1'700'000'000 * kSecond;

  static inline std::atomic<Time> base{kStart};
  static inline thread_local NodeClock* current = nullptr;

  static Time now() {
    return base.load(std::memory_order_relaxed) + (current == nullptr ? 0 : current->boot_offset);
  }
  static WallTime wall() {
    return base.load(std::memory_order_relaxed) - kStart + kWallStart +
           (current == nullptr ? 0 : current->wall_offset);
  }
  static Time cost() { return current == nullptr ? now() : current->cost += current->cost_step; }
  static void advance(Time by) { base.fetch_add(by, std::memory_order_relaxed); }
  static void reset() { base.store(kStart, std::memory_order_relaxed); }
};

// SplitMix64: enough for tests, and for keys that guard nothing.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t bound) { return next() % bound; }
  bool chance(double probability) {
    return static_cast<double>(next() >> 11) * 0x1p-53 < probability;
  }

 private:
  uint64_t state_;
};

// libsodium's source of randomness, and with it the engine's.
struct SeededSodium {
  static inline std::mutex mutex;
  static inline uint64_t state = 1;

  static void seed(uint64_t value) {
    const std::lock_guard lock(mutex);
    state = value;
  }
  static const char* name() { return "seeded"; }
  static void buf(void* out, size_t size) {
    const std::lock_guard lock(mutex);
    Random random(state);
    auto* bytes = static_cast<uint8_t*>(out);
    for (size_t done = 0; done < size; done += 8) {
      const uint64_t word = random.next();
      std::memcpy(bytes + done, &word, size - done < 8 ? size - done : 8);
    }
    state = random.next();
  }
  static uint32_t random() {
    uint32_t value;
    buf(&value, sizeof(value));
    return value;
  }
};

inline randombytes_implementation seeded_sodium = {
    SeededSodium::name, SeededSodium::random, nullptr, nullptr, SeededSodium::buf, nullptr};

[[gnu::constructor(101)]] static inline void install_seeded_sodium() {
  randombytes_set_implementation(&seeded_sodium);
}

}  // namespace sallyport::test
