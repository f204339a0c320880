// RuleRows: the bit rows of a RuleTable, each distinct one kept once.
//
// A row has a bit for each alternative (rule_fields.h): whether a field lets it match. It lies in whole cache lines, and
// its first word is its summary: which of its lines hold any bit at all. So bit 64 is the first alternative's, and one
// line answers both "which of the first 448" and "where to look for others".
//
//     line 0   [ summary | bits 64 .. 511 ]
//     line 1   [ bits 512 .. 1023         ]      at most 64 lines, as the summary has 64 bits
//
// A RowRef is the number of a row's first line. Built once, by RowMaker; then immutable. Bounded: kRowBytesMax for all rows.
// Only rule_* includes this.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_set>
#include <vector>

namespace sallyport::rules {

inline constexpr uint32_t kLineWords = 8;
inline constexpr uint32_t kLineBits = kLineWords * 64;
inline constexpr uint32_t kFirstBit = 64;
inline constexpr uint32_t kAlternativesMax = 64 * kLineBits - kFirstBit;
inline constexpr size_t kRowBytesMax = size_t{128} << 20;

struct alignas(64) Line {
  uint64_t words[kLineWords] = {};
};
static_assert(sizeof(Line) == 64);

using RowRef = uint32_t;

// A row in the making.
class Row {
 public:
  explicit Row(uint32_t alternatives)
      : words_((kFirstBit + alternatives + kLineBits - 1) / kLineBits * kLineWords) {}

  void put(uint32_t alternative, bool matches) {
    const uint32_t at = kFirstBit + alternative;
    const uint64_t bit = uint64_t{1} << (at & 63);
    words_[at / 64] = matches ? words_[at / 64] | bit : words_[at / 64] & ~bit;
  }
  std::span<const uint64_t> words() const { return words_; }

 private:
  std::vector<uint64_t> words_;
};

class RowMaker {
 public:
  explicit RowMaker(uint32_t alternatives);
  RowMaker(const RowMaker&) = delete;
  RowMaker& operator=(const RowMaker&) = delete;

  // The row's number; an equal row has the same one. Once full, some number or other: ask is_full() before use.
  RowRef keep(const Row& row);
  bool is_full() const { return is_full_; }
  uint32_t alternatives() const { return alternatives_; }

  std::vector<Line> take();

 private:
  struct Hash {
    const RowMaker* maker;
    size_t operator()(RowRef ref) const;
  };
  struct Equal {
    const RowMaker* maker;
    bool operator()(RowRef a, RowRef b) const;
  };

  const uint32_t alternatives_;
  const size_t lines_per_row_;
  std::vector<Line> lines_;
  std::unordered_set<RowRef, Hash, Equal> known_;
  bool is_full_ = false;
};

}  // namespace sallyport::rules
