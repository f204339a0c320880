// Few: the form of an LPM table of at most 16 prefixes: arrays compared with the address all at
// once, without a branch.
//
// A Few is immutable but for its values; each other update makes a new one. Prefixes stand longest
// first, each with one bit of its own, so that the lowest bit of those that match is the answer;
// one more bit always matches and means none. Only lpm* includes this. The vectors are the
// compiler's, for any machine.
#pragma once

#include <bit>
#include <cstdint>

#include "dataplane/table/lpm_node.h"

namespace sallyport::lpm {

inline constexpr unsigned kFewMost = 16;

template <class Family>
struct Few;

template <>
struct alignas(64) Few<Ipv4> {
  using Lanes = uint32_t __attribute__((vector_size(16)));
  using Words = uint64_t __attribute__((vector_size(16)));
  static constexpr unsigned kLanes = 4;

  Lanes words[kFewMost / kLanes] = {};
  Lanes masks[kFewMost / kLanes] = {};
  Lanes picks[kFewMost / kLanes] = {};
  Value values[kFewMost + 1] = {};
  uint8_t lengths[kFewMost] = {};
  uint32_t count = 0;

  Few() { values[kFewMost] = kMiss; }

  void append(const Key& key, unsigned length, Value value) {
    const unsigned i = count++;
    words[i / kLanes][i % kLanes] = static_cast<uint32_t>(key.high >> 32);
    masks[i / kLanes][i % kLanes] = static_cast<uint32_t>(upper_bits(length) >> 32);
    picks[i / kLanes][i % kLanes] = 1u << i;
    values[i] = value;
    lengths[i] = static_cast<uint8_t>(length);
  }

  Key key(unsigned i) const { return {uint64_t{words[i / kLanes][i % kLanes]} << 32, 0}; }

  Value lookup(const Key& key) const {
    const Lanes address = Lanes{} + static_cast<uint32_t>(key.high >> 32);
    Lanes hits = {};
    for (unsigned i = 0; i * kLanes < count; ++i) {
      hits |= static_cast<Lanes>((address & masks[i]) == words[i]) & picks[i];
    }
    const auto halves = reinterpret_cast<Words>(hits);
    const uint64_t bits = halves[0] | halves[1];
    const auto matching = static_cast<uint32_t>(bits | bits >> 32) | 1u << kFewMost;
    return load_shared(values[std::countr_zero(matching)]);
  }
};

template <>
struct alignas(64) Few<Ipv6> {
  using Lanes = uint64_t __attribute__((vector_size(16)));
  static constexpr unsigned kLanes = 2;

  struct Pair {
    Lanes high, low, high_mask, low_mask;
  };

  Pair pairs[kFewMost / kLanes] = {};
  Lanes picks[kFewMost / kLanes] = {};
  Value values[kFewMost + 1] = {};
  uint8_t lengths[kFewMost] = {};
  uint32_t count = 0;

  Few() { values[kFewMost] = kMiss; }

  void append(const Key& key, unsigned length, Value value) {
    const unsigned i = count++;
    Pair& pair = pairs[i / kLanes];
    const Key mask = masked({~uint64_t{0}, ~uint64_t{0}}, length);
    pair.high[i % kLanes] = key.high;
    pair.low[i % kLanes] = key.low;
    pair.high_mask[i % kLanes] = mask.high;
    pair.low_mask[i % kLanes] = mask.low;
    picks[i / kLanes][i % kLanes] = 1u << i;
    values[i] = value;
    lengths[i] = static_cast<uint8_t>(length);
  }

  Key key(unsigned i) const {
    return {pairs[i / kLanes].high[i % kLanes], pairs[i / kLanes].low[i % kLanes]};
  }

  Value lookup(const Key& key) const {
    const Lanes high = Lanes{} + key.high;
    const Lanes low = Lanes{} + key.low;
    Lanes hits = {};
    for (unsigned i = 0; i * kLanes < count; ++i) {
      const Pair& pair = pairs[i];
      const Lanes differ =
          ((high & pair.high_mask) ^ pair.high) | ((low & pair.low_mask) ^ pair.low);
      hits |= static_cast<Lanes>(differ == 0) & picks[i];
    }
    const auto matching = static_cast<uint32_t>(hits[0] | hits[1]) | 1u << kFewMost;
    return load_shared(values[std::countr_zero(matching)]);
  }
};

}  // namespace sallyport::lpm
