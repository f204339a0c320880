// How many handshake messages one source may cost us while we are under load: a token bucket for
// each /32 and /64.
//
// 20 a second with a burst of 5, as in the kernel module. A fixed table of 8,192 buckets, hashed
// with a random key (SipHash-2-4 from libsodium), so memory never grows. A bucket untouched for
// 250 ms is full again and as good as free; a source that finds only younger ones pays from the
// longest untouched of its set, so crowding others out buys nothing. Handshaker thread only.
#pragma once

#include <cstdint>
#include <memory>

#include "dataplane/base/clock.h"
#include "dataplane/net/address.h"

namespace sallyport::wireguard {

class RateLimiter {
 public:
  RateLimiter();
  bool allow(Time now, const IpAddress& source);

 private:
  static constexpr size_t kWays = 4;
  static constexpr size_t kSets = 2048;
  static constexpr Time kPacketCost = kSecond / 20;
  static constexpr Time kTokensMax = kPacketCost * 5;

  struct Bucket {
    uint64_t source = 0;  // first 8 bytes of the address, with the family folded in; 0 is free
    Time last = kNever;
    Time tokens = 0;
  };

  std::unique_ptr<Bucket[]> buckets_;
  uint8_t hash_key_[16];
};

}  // namespace sallyport::wireguard
