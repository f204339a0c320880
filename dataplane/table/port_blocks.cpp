#include "dataplane/table/port_blocks.h"

#include <algorithm>
#include <bit>

namespace sallyport {
namespace {

// SplitMix64's finalizer.
uint64_t mix(uint64_t word) {
  word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9;
  word = (word ^ word >> 27) * 0x94d049bb133111eb;
  return word ^ word >> 31;
}

constexpr unsigned kFeistelRounds = 4;

}  // namespace

// A Feistel network over the next even number of bits; what it makes too large goes through again, so that it permutes
// 0 to count - 1.
uint32_t PortSearch::permuted(const Part& part, uint32_t index) const {
  const auto half = static_cast<unsigned>(std::bit_width(part.count - 1) + 1) / 2;
  const uint32_t mask = (1u << half) - 1;
  do {
    uint32_t left = index >> half, right = index & mask;
    for (unsigned round = 0; round < kFeistelRounds; ++round) {
      const uint64_t key = uint64_t{round} << 32 | uint64_t{part.step} << 40 | right;
      const uint32_t next = left ^ (static_cast<uint32_t>(mix(key ^ secret_) >> 32) & mask);
      left = right;
      right = next;
    }
    index = left << half | right;
  } while (index >= part.count);
  return part.first + index * part.step;
}

std::optional<uint16_t> PortSearch::next() {
  if (tries_ == tries_max_) {
    return std::nullopt;
  }
  if (tries_ == 0 && preferred_ >= 0) {
    ++tries_;
    return static_cast<uint16_t>(preferred_);
  }
  while (walked_ < total()) {
    const bool in_first = step_ < parts_[0].count;
    const Part& part = parts_[in_first ? 0 : 1];
    const uint32_t step = in_first ? step_ : step_ - parts_[0].count;
    const uint32_t port = permuted(part, (start_ + step) % part.count);
    step_ = step_ + 1 == total() ? 0 : step_ + 1;
    ++walked_;
    if (static_cast<int32_t>(port) != preferred_) {
      ++tries_;
      return static_cast<uint16_t>(port);
    }
  }
  return std::nullopt;
}

PortBlocks::PortBlocks(uint16_t first, uint16_t last, unsigned worker, unsigned workers,
                       uint64_t secret)
    : first_(first),
      last_(last),
      worker_(worker),
      workers_(workers),
      secret_(mix(secret + worker)),
      random_(mix(secret_)) {}

uint64_t PortBlocks::random() {
  return mix(random_ += 0x9e3779b97f4a7c15);
}

PortSearch::Part PortBlocks::part_of(unsigned parity) const {
  const uint32_t first = first_ + ((first_ ^ parity) & 1u);
  return {first, 2, first > last_ ? 0 : (last_ - first) / 2 + 1};
}

PortSearch PortBlocks::search(uint64_t towards, uint16_t preferred, bool keep_parity) {
  PortSearch search;
  const unsigned parity = preferred & 1u;
  if (keep_parity) {
    search.parts_[0] = part_of(parity);
    search.parts_[1] = part_of(parity ^ 1);
  } else {
    search.parts_[0] = {first_, 1, size()};
  }
  search.secret_ = secret_;
  search.preferred_ = first_ <= preferred && preferred <= last_ ? preferred : -1;
  search.place_ = mix(towards + (keep_parity ? 1 + parity : 0)) % kPlaces;
  const Place& place = places_[search.place_];
  const bool is_exhausted = place.missed >= search.total() && search.total() > kTries;
  search.tries_max_ = is_exhausted ? kTriesExhausted : kTries;
  if (place.missed != 0) {
    search.start_ = place.start;
    search.step_ = place.step;
  } else {
    // Anywhere in this worker's block of what comes first; the other part begins likewise.
    const uint64_t count = std::max(search.parts_[0].count, search.parts_[1].count);
    const uint64_t first = count * worker_ / workers_;
    const uint64_t end = std::max(first + 1, count * (worker_ + 1) / workers_);
    search.start_ = static_cast<uint32_t>(first + random() % (end - first));
  }
  return search;
}

void PortBlocks::found(const PortSearch& search) {
  places_[search.place_].missed = 0;
}

PortFailure PortBlocks::failed(const PortSearch& search) {
  Place& place = places_[search.place_];
  place.start = search.start_;
  place.step = search.step_;
  place.missed = std::min(place.missed + search.walked_, search.total());
  return place.missed == search.total() ? PortFailure::exhausted : PortFailure::busy;
}

}  // namespace sallyport
