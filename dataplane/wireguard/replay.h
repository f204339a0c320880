// The replay window of one receiving key (RFC 6479's bitmap of blocks).
//
// One writer, the worker that owns the key: no lock, no atomic. 1 KiB. A zeroed object is an empty
// window. accept() is called after the tag has been checked, never before: a forged counter must
// not move the window.
#pragma once

#include <cstdint>

#include "dataplane/wireguard/limits.h"

namespace sallyport::wireguard {

class ReplayWindow {
 public:
  // True once per counter, and only inside the window that ends at the highest counter accepted so
  // far.
  bool accept(uint64_t counter);

 private:
  // One spare block, so that a jump clears whole blocks.
  static constexpr uint64_t kBits = kReplayWindow + 64;
  static constexpr uint64_t kBlocks = kBits / 64;
  static_assert((kBlocks & (kBlocks - 1)) == 0);

  uint64_t next_ = 0;  // highest accepted counter + 1
  uint64_t bitmap_[kBlocks] = {};
};

}  // namespace sallyport::wireguard
