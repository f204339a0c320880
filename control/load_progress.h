// LoadProgress: how far the reading and building of one set has come, how fast it may go, and whether to give it up.
//
// A list of a million prefixes takes some 0.3 s of a core. Beside traffic that is taken a little at a time
// (control/set_loader.h), so it lasts seconds: who waits for it sees in `show sets` how far it is, and in the log a line a
// second.
//
// Thread rules: made, and step() called, on the one thread that loads; the rest from any.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "dataplane/base/clock.h"

namespace sallyport {

class LoadProgress {
 public:
  enum class Phase : uint8_t { reading, building };

  enum class Pace : uint8_t {
    full,    // somebody stands and waits
    gentle,  // a fifth of a core, the rest is slept: even what an idle priority leaves costs the workers caches and page tables
  };

  // Without `cancelled` it goes on to the end.
  explicit LoadProgress(std::string set, const std::atomic<bool>* cancelled = nullptr,
                        Pace pace = Pace::full);

  // Done and total in whatever the phase counts: bytes of the list, then entries. False: give up.
  bool step(Phase phase, size_t done, size_t total);
  bool cancelled() const {
    return cancelled_ != nullptr && cancelled_->load(std::memory_order_relaxed);
  }

  const std::string& set() const { return set_; }
  std::string text() const;  // "40 % read", "70 % built"

 private:
  void rest();

  const std::string set_;
  const std::atomic<bool>* const cancelled_;
  std::atomic<Phase> phase_{Phase::reading};
  std::atomic<unsigned> percent_{0};
  const Pace pace_;
  Time told_;   // when the log last heard of it
  Time began_;  // the work since it last slept: when, and at how much CPU time of this thread
  int64_t worked_;
};

}  // namespace sallyport
