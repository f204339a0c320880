// FlowIndex: hash to number, for a table whose readers compare the keys themselves.
//
// Slots of 32 bits, fifteen to a cache line: a tag of the hash and a number. A line's sixteenth word counts the entries that found it
// full and went on to the next one; while it is 0 a search ends there. Lines belong to segments of 64, searches wrap within
// their segment, and each segment has a lock: whoever changes holds the locks of all hashes concerned, so that "neither is
// there, then put both" is one step.
//
// Entries never move, so a reader without a lock finds every entry that is there all the time it looks. It may be told the number of
// one that is being removed, or of another key: it compares, and what numbers name must stay readable until its next quiescent state.
//
// Costs: four fifths full as it is sized, one line for most hits, 1.2 on average; 5.3 bytes an entry. Bounds: a segment that is
// full refuses, though others are not; with hashes alike good a segment meant for 768 gets 961 about once in 10^11.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <utility>

// ThreadSanitizer would take loads of four for races.
#if defined(__SANITIZE_THREAD__)
#define SALLYPORT_FLOW_INDEX_PLAIN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SALLYPORT_FLOW_INDEX_PLAIN
#endif
#endif
#if defined(__SSE2__) && !defined(SALLYPORT_FLOW_INDEX_PLAIN)
#include <emmintrin.h>
#define SALLYPORT_FLOW_INDEX_SSE2
#endif

#include "dataplane/base/mapped_array.h"
#include "dataplane/base/spin_lock.h"

namespace sallyport {

class FlowIndex {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // At most `entries` at a time, numbers below `numbers`, which is at most 2^30.
  FlowIndex(size_t entries, uint32_t numbers);

  void prefetch(uint64_t hash) const { __builtin_prefetch(&line_of(hash)); }

  // The number under this hash for which matches(number), or kNone.
  template <class Matches>
  uint32_t find(uint64_t hash, const Matches& matches) const {
    const uint32_t tag = tag_of(hash);
    const Line* const segment = &lines_[segment_of(hash) * kLines];
    for (unsigned at = home_of(hash), passed = 0; passed < kLines; ++passed) {
      const Line& line = segment[at];
      for (uint32_t alike = slots_like(line, tag); alike != 0; alike &= alike - 1) {
        // Acquire only what is of interest; meanwhile it may have become another's.
        const uint32_t word = line.slots[std::countr_zero(alike)].load(std::memory_order_acquire);
        if ((word & ~number_mask_) == tag && matches(word & number_mask_)) {
          return word & number_mask_;
        }
      }
      if (line.passed_on.load(std::memory_order_relaxed) == 0) {
        return kNone;
      }
      at = (at + 1) % kLines;
    }
    return kNone;
  }

  // A number that may be it, from the first line alone: to fetch in advance what it names. kNone: no guess.
  uint32_t guess(uint64_t hash) const {
    const Line& line = line_of(hash);
    const uint32_t alike = slots_like(line, tag_of(hash));
    return alike == 0
               ? kNone
               : line.slots[std::countr_zero(alike)].load(std::memory_order_relaxed) & number_mask_;
  }

  // Holds the locks of two hashes, which may share one.
  class Locked {
   public:
    Locked(const FlowIndex& index, uint64_t one, uint64_t other);
    ~Locked();
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;

   private:
    SpinLock* first_;
    SpinLock* second_;  // null: the same
  };

  // Under the hash's lock. False: no room in its segment.
  bool insert(uint64_t hash, uint32_t number);
  void remove(uint64_t hash, uint32_t number);  // it is there

  size_t bytes() const { return lines_.bytes() + locks_.bytes(); }

 private:
  static constexpr unsigned kLines = 64;  // of a segment
  static constexpr unsigned kSlots = 15;  // of a line
  struct alignas(64) Line {
    std::atomic<uint32_t> slots[kSlots];  // tag (never 0) | number; 0: free
    std::atomic<uint32_t> passed_on;
  };
  static_assert(sizeof(Line) == 64);

  // Bit i: slot i has this tag. All are compared, without a branch: which one it is nobody could predict, and a wrong guess would
  // keep the next search, which has nothing to do with this one, from starting meanwhile.
  uint32_t slots_like(const Line& line, uint32_t tag) const {
#ifdef SALLYPORT_FLOW_INDEX_SSE2
    // Four slots at a time. Each aligned 32 bits of such a load are read whole, as relaxed atomics are.
    const auto* const slots = reinterpret_cast<const __m128i*>(&line);
    const __m128i tags = _mm_set1_epi32(static_cast<int>(tag));
    const __m128i mask = _mm_set1_epi32(static_cast<int>(~number_mask_));
    const auto like = [&](int i) {
      return _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(slots + i), mask), tags);
    };
    const __m128i lower = _mm_packs_epi32(like(0), like(1));
    const __m128i upper = _mm_packs_epi32(like(2), like(3));
    return static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(lower, upper))) &
           ((1u << kSlots) - 1);
#else
    uint32_t alike = 0;
    for (unsigned i = 0; i < kSlots; ++i) {
      const uint32_t word = line.slots[i].load(std::memory_order_relaxed);
      alike |= uint32_t{(word & ~number_mask_) == tag} << i;
    }
    return alike;
#endif
  }

  // The hash's upper half chooses the segment, then six bits the line, and the lowest the tag.
  size_t segment_of(uint64_t hash) const {
    return ((hash >> 32) * segments_) >> 32;
  }
  static unsigned home_of(uint64_t hash) {
    return static_cast<uint32_t>(hash) >> 26;
  }
  uint32_t tag_of(uint64_t hash) const {
    const uint32_t tag = static_cast<uint32_t>(hash) << number_bits_;
    return tag != 0 ? tag : number_mask_ + 1;
  }
  Line& line_of(uint64_t hash) const {
    return lines_[segment_of(hash) * kLines + home_of(hash)];
  }

  size_t segments_;
  unsigned number_bits_;
  uint32_t number_mask_;
  MappedArray<Line> lines_;
  MappedArray<SpinLock> locks_;
};

}  // namespace sallyport
