// A token bucket: at most `burst` at once, `per_second` in the long run. Not shared between threads; 16 bytes.
#pragma once

#include <algorithm>

#include "dataplane/base/clock.h"

namespace sallyport {

class TokenBucket {
 public:
  constexpr TokenBucket(unsigned per_second, unsigned burst)
      : cost_(kSecond / per_second), depth_(cost_ * burst) {}

  bool allow(Time now) {
    // `full_at_` is when the bucket will be full again: each token taken moves it on by one cost.
    const Time start = std::max(full_at_, now);
    if (start + cost_ - now > depth_) {
      return false;
    }
    full_at_ = start + cost_;
    return true;
  }

 private:
  Time cost_;
  Time depth_;
  Time full_at_ = kNever;
};

}  // namespace sallyport
