#include "dataplane/wireguard/ratelimiter.h"

#include <sodium.h>

#include <algorithm>

#include "crypto/x25519.h"
#include "dataplane/base/endian.h"

namespace sallyport::wireguard {
namespace {

// One word that names a /32 or a /64. The v4 tag is a v6 prefix nobody holds (0000::/8 is
// reserved).
uint64_t source_word(const IpAddress& source) {
  if (source.family == Family::v4) {
    return uint64_t{4} << 48 | load<be32>(source.bytes.data());
  }
  const uint64_t word = load<be64>(source.bytes.data());
  return std::max(word, uint64_t{1});
}

}  // namespace

RateLimiter::RateLimiter() : buckets_(std::make_unique<Bucket[]>(kSets * kWays)) {
  static_assert(sizeof(hash_key_) == crypto_shorthash_KEYBYTES);
  crypto::random_bytes(hash_key_);
}

bool RateLimiter::allow(Time now, const IpAddress& source) {
  const uint64_t word = source_word(source);
  uint64_t hash;
  crypto_shorthash(reinterpret_cast<uint8_t*>(&hash), reinterpret_cast<const uint8_t*>(&word),
                   sizeof(word), hash_key_);
  Bucket* const set = &buckets_[(hash % kSets) * kWays];

  Bucket* bucket = set;
  for (size_t way = 0; way < kWays; ++way) {
    if (set[way].source == word) {
      bucket = &set[way];
      break;
    }
    if (set[way].last < bucket->last) {
      bucket = &set[way];
    }
  }
  const Time idle = bucket->last == kNever ? kTokensMax : std::max(now - bucket->last, Time{0});
  if (idle >= kTokensMax) {
    bucket->source = word;  // full again, so it is as good as a free one
  }
  bucket->tokens = std::min(bucket->tokens + std::min(idle, kTokensMax), kTokensMax);
  bucket->last = std::max(bucket->last, now);
  if (bucket->tokens < kPacketCost) {
    return false;
  }
  bucket->tokens -= kPacketCost;
  return true;
}

}  // namespace sallyport::wireguard
