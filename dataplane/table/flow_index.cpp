#include "dataplane/table/flow_index.h"

#include <algorithm>
#include <bit>

namespace sallyport {
namespace {

constexpr size_t kEntriesASegment = 768;  // four fifths of its slots

}  // namespace

FlowIndex::FlowIndex(size_t entries, uint32_t numbers)
    : segments_(std::max<size_t>(1, (entries + kEntriesASegment - 1) / kEntriesASegment)),
      number_bits_(static_cast<unsigned>(std::bit_width(numbers - 1))),
      number_mask_((uint32_t{1} << number_bits_) - 1),
      lines_(segments_ * kLines),
      locks_(segments_) {}

FlowIndex::Locked::Locked(const FlowIndex& index, uint64_t one, uint64_t other) {
  // Lower address first, so that two who want the same pair do not wait for each other.
  first_ = &index.locks_[index.segment_of(one)];
  second_ = &index.locks_[index.segment_of(other)];
  if (first_ == second_) {
    second_ = nullptr;
  } else if (second_ < first_) {
    std::swap(first_, second_);
  }
  first_->lock();
  if (second_ != nullptr) {
    second_->lock();
  }
}

FlowIndex::Locked::~Locked() {
  if (second_ != nullptr) {
    second_->unlock();
  }
  first_->unlock();
}

bool FlowIndex::insert(uint64_t hash, uint32_t number) {
  Line* const segment = &lines_[segment_of(hash) * kLines];
  const unsigned home = home_of(hash);
  for (unsigned passed = 0; passed < kLines; ++passed) {
    for (auto& slot : segment[(home + passed) % kLines].slots) {
      if (slot.load(std::memory_order_relaxed) == 0) {
        for (unsigned i = 0; i < passed; ++i) {
          auto& count = segment[(home + i) % kLines].passed_on;
          count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        }
        slot.store(tag_of(hash) | number, std::memory_order_release);
        return true;
      }
    }
  }
  return false;
}

void FlowIndex::remove(uint64_t hash, uint32_t number) {
  Line* const segment = &lines_[segment_of(hash) * kLines];
  const uint32_t word = tag_of(hash) | number;
  const unsigned home = home_of(hash);
  for (unsigned passed = 0; passed < kLines; ++passed) {
    Line& line = segment[(home + passed) % kLines];
    for (auto& slot : line.slots) {
      if (slot.load(std::memory_order_relaxed) == word) {
        slot.store(0, std::memory_order_relaxed);
        for (unsigned i = 0; i < passed; ++i) {
          auto& count = segment[(home + i) % kLines].passed_on;
          count.store(count.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
        }
        return;
      }
    }
  }
}

}  // namespace sallyport
