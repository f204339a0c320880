#include "dataplane/wireguard/replay.h"

#include <algorithm>

namespace sallyport::wireguard {

// The bitmap is a ring of blocks, and counter c lives in block c / 64 modulo kBlocks. The window
// spans at most kBlocks of them because its first counter's block is kBlocks - 1 before the last
// one's.
bool ReplayWindow::accept(uint64_t counter) {
  if (counter >= kRejectAfterMessages) {
    return false;
  }
  const uint64_t block = counter / 64;
  if (counter >= next_) {
    const uint64_t newest = next_ == 0 ? 0 : (next_ - 1) / 64;
    const uint64_t fresh = std::min(block - newest, kBlocks);
    for (uint64_t i = 1; i <= fresh; ++i) {
      bitmap_[(newest + i) % kBlocks] = 0;
    }
    next_ = counter + 1;
  } else if (counter + kReplayWindow < next_ - 1) {
    return false;
  }
  uint64_t& word = bitmap_[block % kBlocks];
  const uint64_t bit = uint64_t{1} << (counter % 64);
  if ((word & bit) != 0) {
    return false;
  }
  word |= bit;
  return true;
}

}  // namespace sallyport::wireguard
