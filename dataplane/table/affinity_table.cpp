#include "dataplane/table/affinity_table.h"

#include <algorithm>
#include <bit>

namespace sallyport {
namespace {

// A word: tag (34 bits) | member + 1 (8) | last seen, in seconds (22). 0 is nobody.
constexpr unsigned kSeenBits = 22;
constexpr unsigned kMemberBits = 8;
constexpr unsigned kTagShift = kSeenBits + kMemberBits;
constexpr uint64_t kSeenMask = (uint64_t{1} << kSeenBits) - 1;
constexpr uint64_t kMemberMask = (uint64_t{1} << kMemberBits) - 1;

// By how much one worker's clock may be behind another's: what it stamped is not of the future then, but just now.
constexpr uint64_t kSkewMax = 8;

static_assert(AffinityTable::kMembersMax <= kMemberMask);

uint64_t tag_of(uint64_t flow_hash) {
  return flow_hash >> kTagShift;
}

uint64_t make_word(uint64_t flow_hash, uint8_t member, uint32_t now) {
  return tag_of(flow_hash) << kTagShift | (member + uint64_t{1}) << kSeenBits | (now & kSeenMask);
}

bool is_of(uint64_t word, uint64_t flow_hash) {
  return word != 0 && word >> kTagShift == tag_of(flow_hash);
}

uint64_t age_of(uint64_t word, uint32_t now) {
  const uint64_t age = (now + kSkewMax - word) & kSeenMask;
  return age > kSkewMax ? age - kSkewMax : 0;
}

}  // namespace

AffinityTable::AffinityTable(size_t flows)
    : sets_(nullptr), mask_(std::bit_ceil(std::max(flows, kWays)) / kWays - 1) {
  sets_ = std::make_unique<Set[]>(mask_ + 1);
}

std::optional<uint8_t> AffinityTable::find(uint64_t flow_hash, uint32_t now_seconds,
                                           uint32_t idle_max) const {
  for (const auto& each : set_of(flow_hash).words) {
    const uint64_t word = each.load(std::memory_order_relaxed);
    if (is_of(word, flow_hash)) {
      if (age_of(word, now_seconds) >= idle_max) {
        return std::nullopt;
      }
      return static_cast<uint8_t>((word >> kSeenBits & kMemberMask) - 1);
    }
  }
  return std::nullopt;
}

void AffinityTable::remember(uint64_t flow_hash, uint8_t member, uint32_t now_seconds) {
  std::atomic<uint64_t>* place = nullptr;
  uint64_t held = 0;
  uint64_t oldest = 0;
  for (auto& each : set_of(flow_hash).words) {
    const uint64_t word = each.load(std::memory_order_relaxed);
    if (is_of(word, flow_hash)) {
      place = &each;
      held = word;
      break;
    }
    const uint64_t age = word == 0 ? kSeenMask + 1 : age_of(word, now_seconds) + 1;
    if (age > oldest) {
      place = &each;
      held = word;
      oldest = age;
    }
  }
  const uint64_t word = make_word(flow_hash, member, now_seconds);
  if (word != held) {  // a line that nobody writes stays in every worker's cache
    place->store(word, std::memory_order_relaxed);
  }
}

size_t AffinityTable::memory_bytes() const {
  return sizeof(*this) + (mask_ + 1) * sizeof(Set);
}

}  // namespace sallyport
