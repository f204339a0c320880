// Stash: makes head | body | pad of one SealItem contiguous for a cipher that wants one source
// pointer.
//
// Saves the margin bytes beside the body, writes head and pad there, and puts the old bytes back
// when it goes out of scope. Costs a copy of head_len + pad bytes each way. In place (out == body)
// there is no head, and what lies behind the body is output anyway: the pad is written and nothing
// is put back. One at a time per buffer, since the margins of one slice are the body of another.
#pragma once

#include <cstdint>
#include <cstring>

#include "crypto/aead.h"

namespace sallyport::crypto {

class Stash {
 public:
  explicit Stash(const SealItem& item)
      : source_(item.body - item.head_len),
        tail_(item.body + item.body_len),
        head_len_(item.head_len),
        pad_(item.pad),
        in_place_(item.out == item.body) {
    if (head_len_ != 0) {
      std::memcpy(saved_head_, source_, head_len_);
      std::memcpy(source_, item.head, head_len_);
    }
    if (pad_ != 0) {
      std::memcpy(saved_tail_, tail_, pad_);
      std::memset(tail_, 0, pad_);
    }
  }

  ~Stash() {
    if (head_len_ != 0) {
      std::memcpy(source_, saved_head_, head_len_);
    }
    if (pad_ != 0 && !in_place_) {
      std::memcpy(tail_, saved_tail_, pad_);
    }
  }

  Stash(const Stash&) = delete;
  Stash& operator=(const Stash&) = delete;

  const uint8_t* source() const { return source_; }

 private:
  uint8_t* source_;
  uint8_t* tail_;
  uint32_t head_len_;
  uint32_t pad_;
  bool in_place_;
  uint8_t saved_head_[kHeadMax];
  uint8_t saved_tail_[kBodyTail];
};

}  // namespace sallyport::crypto
