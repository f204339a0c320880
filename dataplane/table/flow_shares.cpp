#include "dataplane/table/flow_shares.h"

#include <algorithm>
#include <bit>
#include <mutex>

namespace sallyport::flow {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr size_t kPressureShare = 16;
constexpr size_t kFlowsABucket = 16;
constexpr size_t kBucketsMin = 16;
constexpr size_t kBucketsMax = 1024;

}  // namespace

Shares::Shares(size_t capacity, unsigned owners, const MappedArray<Line>& lines)
    : capacity_(capacity),
      pressure_(capacity - capacity / kPressureShare),
      buckets_(std::clamp(std::bit_floor(capacity / kFlowsABucket / std::max(owners, 1u)),
                          kBucketsMin, kBucketsMax)),
      lines_(lines),
      accounts_(std::max(owners, 1u)),
      sources_(accounts_.size() * buckets_) {}

uint32_t Shares::fair_share() const {
  return static_cast<uint32_t>(capacity_ / (active_.load(kRelaxed) + size_t{1}));
}

bool Shares::is_beyond(const Account& account) const {
  return account.flows.load(kRelaxed) > fair_share() && account.unanswered.load(kRelaxed) > 0;
}

// A line that nobody writes stays in every worker's cache.
void Shares::set_pressure(bool is_under) {
  if (under_pressure_.load(kRelaxed) != is_under) {
    under_pressure_.store(is_under, kRelaxed);
  }
}

bool Shares::is_refused(uint16_t owner, bool is_short) const {
  const Account& its = account(owner);
  return under_pressure_.load(kRelaxed) && its.flows.load(kRelaxed) >= fair_share() &&
         (is_short || its.unanswered.load(kRelaxed) == 0);
}

Shares::Admission Shares::enter(uint16_t owner, uint64_t source) {
  Account& its = account(owner);
  const uint32_t owned = its.flows.fetch_add(1, kRelaxed) + 1;
  if (owned == 1) {
    active_.fetch_add(1, kRelaxed);
  }
  const uint32_t of_source = bucket(owner, source).fetch_add(1, kRelaxed) + 1;
  if (of_source == 1) {
    its.sources.fetch_add(1, kRelaxed);
  }
  const size_t all = flows_.fetch_add(1, kRelaxed) + 1;
  set_pressure(all >= pressure_);
  if (all <= pressure_) {
    return Admission::granted;
  }
  if (owned > fair_share()) {
    // Half as much again as an even part: its only source never has that.
    return 2 * uint64_t{of_source} * its.sources.load(kRelaxed) > 3 * uint64_t{owned}
               ? Admission::source_over_share
               : Admission::in_place_of_own;
  }
  return all > capacity_ ? Admission::in_place_of_other : Admission::granted;
}

void Shares::leave(uint16_t owner, uint64_t source) {
  Account& its = account(owner);
  set_pressure(flows_.fetch_sub(1, kRelaxed) > pressure_);
  if (bucket(owner, source).fetch_sub(1, kRelaxed) == 1) {
    its.sources.fetch_sub(1, kRelaxed);
  }
  if (its.flows.fetch_sub(1, kRelaxed) == 1) {
    active_.fetch_sub(1, kRelaxed);
  }
}

uint32_t Shares::most_beyond() {
  const uint32_t guess = largest_.load(kRelaxed);
  if (is_beyond(account(guess))) {
    return guess;
  }
  const uint32_t end = owners_end_.load(kRelaxed);
  uint32_t most = kNone;
  for (unsigned i = 0; i < std::min(end, kLooks); ++i) {
    const uint32_t owner = cursor_.fetch_add(1, kRelaxed) % end;
    if (is_beyond(account(owner)) && (most == kNone || account(owner).flows.load(kRelaxed) >
                                                           account(most).flows.load(kRelaxed))) {
      most = owner;
    }
  }
  if (most != kNone) {
    largest_.store(most, kRelaxed);
  }
  return most;
}

uint32_t Shares::oldest(uint32_t owner) {
  Account& its = account(owner);
  if (its.unanswered.load(kRelaxed) == 0) {
    return kNone;
  }
  const std::lock_guard lock(its.lock);
  return its.oldest == 0 ? kNone : its.oldest - 1;
}

Shares::Neighbours Shares::neighbours(uint32_t flow) const {
  const uint64_t word = lines_[2 * size_t{flow} + 1].bytes.load(kRelaxed);
  return {static_cast<uint32_t>(word >> 32), static_cast<uint32_t>(word)};
}

void Shares::set_neighbours(uint32_t flow, Neighbours neighbours) {
  lines_[2 * size_t{flow} + 1].bytes.store(uint64_t{neighbours.older} << 32 | neighbours.newer,
                                           kRelaxed);
}

void Shares::link(uint16_t owner, uint32_t flow) {
  Account& its = account(owner);
  set_neighbours(flow, {its.newest, 0});
  if (its.newest != 0) {
    set_neighbours(its.newest - 1, {neighbours(its.newest - 1).older, flow + 1});
  } else {
    its.oldest = flow + 1;
  }
  its.newest = flow + 1;
  its.unanswered.store(its.unanswered.load(kRelaxed) + 1, kRelaxed);

  const uint32_t number = static_cast<uint32_t>(owner % accounts_.size());
  for (uint32_t end = owners_end_.load(kRelaxed);
       number >= end && !owners_end_.compare_exchange_weak(end, number + 1, kRelaxed);) {
  }
  if (const uint32_t guess = largest_.load(kRelaxed);
      guess != number && its.flows.load(kRelaxed) > account(guess).flows.load(kRelaxed)) {
    largest_.store(number, kRelaxed);
  }
}

void Shares::unlink(uint16_t owner, uint32_t flow) {
  Account& its = account(owner);
  const Neighbours beside = neighbours(flow);
  if (beside.older != 0) {
    set_neighbours(beside.older - 1, {neighbours(beside.older - 1).older, beside.newer});
  } else {
    its.oldest = beside.newer;
  }
  if (beside.newer != 0) {
    set_neighbours(beside.newer - 1, {beside.older, neighbours(beside.newer - 1).newer});
  } else {
    its.newest = beside.older;
  }
  its.unanswered.store(its.unanswered.load(kRelaxed) - 1, kRelaxed);
}

}  // namespace sallyport::flow
