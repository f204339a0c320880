// LoadProgress: how far the reading and building of one set has come, and whether to give it up.
//
// A list of a million prefixes takes a second or more where nothing is left for it (control/set_loader.h). Who waits for it
// sees in `show sets` how far it is, and in the log a line a second.
//
// Thread rules: step() from the one thread that loads; the rest from any.
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

  // Without `cancelled` it goes on to the end.
  explicit LoadProgress(std::string set, const std::atomic<bool>* cancelled = nullptr);

  // Done and total in whatever the phase counts: bytes of the list, then entries. False: give up.
  bool step(Phase phase, size_t done, size_t total);
  bool cancelled() const {
    return cancelled_ != nullptr && cancelled_->load(std::memory_order_relaxed);
  }

  const std::string& set() const { return set_; }
  std::string text() const;  // "40 % read", "70 % built"

 private:
  const std::string set_;
  const std::atomic<bool>* const cancelled_;
  std::atomic<Phase> phase_{Phase::reading};
  std::atomic<unsigned> percent_{0};
  Time told_;  // when the log last heard of it
};

}  // namespace sallyport
