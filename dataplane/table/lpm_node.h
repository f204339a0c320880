// The nodes of the LPM trie as they lie in memory, and how one answers. Only lpm* includes this.
//
// A Ref is 32 bits: the byte offset of a node in the table's arena, with the kind of node in its
// low bits.
//
//     Node          children | runs | run value ... | Ref ... || shorter | longest | numbers ...
//     Skip    key | the same; a Ref to it points behind the key
//     Leaf          word | value | length          one prefix, one word to compare
//     FarLeaf       high | low | value | length    one prefix, both words to compare
//     Cell          value | parent | length        a prefix the root array covers
//
// A Node at depth d covers six bits of the address, its slot, and holds the prefixes of length d+1
// to d+6. What a lookup reads stands first. `runs` has a bit for each slot whose answer differs
// from that of the slot before it (always one for slot 0), so a popcount of the bits up to a slot
// finds its answer among the run values; kMiss is one, where no prefix of this node covers the
// slot. `children` has a bit for each slot with something longer, and the same count finds its Ref.
// Where depths have been left out above a Node it is a Skip, and its key holds the bits that an
// address must have to come here.
//
// Behind || is what the writer needs to change the node: one bit for each prefix, in `longest` for
// those of length d + 6, in `shorter` for one of length d + w, w = 1..5, at bit number 2^w | (upper
// w bits of the slot); and for each of these, in the order of the bits, a byte that says which of
// the run values is its value. Prefixes that longer ones hide entirely have theirs at the end. (The
// bits are Eatherton's tree bitmap, the runs are Asai and Ohara's from Poptrie.)
//
// Everything but Refs and the values of leaves and cells is constant from the moment a node is
// published; those are single aligned words, stored with release and loaded with acquire.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#include "dataplane/table/lpm_key.h"

namespace sallyport::lpm {

using Value = uint32_t;
using Ref = uint32_t;

inline constexpr Value kMiss = 0xffffffff;

enum Kind : uint32_t { kNode = 0, kSkip = 1, kLeaf = 2, kFarLeaf = 3 };
inline constexpr uint32_t kKindMask = 7;

// The arena begins with a Node that has nothing in it, so that nobody need ask whether there is
// one. Its one run is kMiss.
inline constexpr Ref kNothing = 0;
inline constexpr unsigned kNothingBytes = 48;

inline Kind kind_of(Ref ref) {
  return static_cast<Kind>(ref & kKindMask);
}

// Words that a reader may load while the writer stores them.
template <class Word>
Word load_shared(const Word& word) {
  return std::atomic_ref<Word>(const_cast<Word&>(word)).load(std::memory_order_acquire);
}

template <class Word>
void store_shared(Word& word, Word value) {
  std::atomic_ref<Word>(word).store(value, std::memory_order_release);
}

inline uint64_t below(unsigned bit) {
  return (uint64_t{1} << bit) - 1;
}

// Bit number `bit` and those below it, moved up to the top: the count of what is left is a rank
// counted from one.
inline uint64_t up_to(uint64_t word, uint64_t bit) {
  return word << (~bit & 63);
}

inline unsigned count_bits(uint64_t word) {
  return static_cast<unsigned>(std::popcount(word));
}

// The prefixes of one node.
struct Bitmaps {
  uint64_t shorter = 0;
  uint64_t longest = 0;

  unsigned count() const { return count_bits(shorter) + count_bits(longest); }
};

struct Node {
  uint64_t children;
  uint64_t runs;

  // Only the lower six bits of a slot count.
  bool has_child(uint64_t slot) const { return (children >> (slot & 63) & 1) != 0; }
  Value run_value(uint64_t slot) const {
    return (run_values() - 1)[std::popcount(up_to(runs, slot))];
  }
  const Ref& child(uint64_t slot) const {
    return (refs() - 1)[std::popcount(up_to(children, slot))];
  }
  Ref& child(uint64_t slot) { return (refs() - 1)[std::popcount(up_to(children, slot))]; }

  const Value* run_values() const { return reinterpret_cast<const Value*>(this + 1); }
  Value* run_values() { return reinterpret_cast<Value*>(this + 1); }
  const Ref* refs() const { return run_values() + count_bits(runs); }
  Ref* refs() { return run_values() + count_bits(runs); }

  // Of a Skip only. The bits above the depth, of the word that the depth lies in, and in the low
  // four bits the number of the stride, which is the depth.
  uint64_t key() const { return reinterpret_cast<const uint64_t*>(this)[-1]; }
};

// The writer's part of a Node, at the next multiple of eight bytes behind the Refs.
struct NodeMemory {
  Bitmaps prefixes;
  uint8_t hidden_count;  // of values that are no run's
  // uint8_t number[prefixes.count()]; then, aligned, Value hidden[hidden_count]
};

inline constexpr uint64_t kStrideNumber = 15;

// Used where the nodes above have checked every bit outside the word in which the prefix ends.
struct Leaf {
  uint64_t word;
  Value value;
  uint32_t length;

  bool matches(const Key& key) const {
    const uint64_t mine = length > 64 ? key.low : key.high;
    return (mine ^ word) >> (63 - ((length - 1) & 63)) == 0;
  }
};

struct FarLeaf {
  uint64_t high;
  uint64_t low;
  Value value;
  uint32_t length;  // above 64

  bool matches(const Key& key) const {
    return key.high == high && (key.low ^ low) >> (128 - length) == 0;
  }
};

// A prefix no longer than the root array's index. Its array entries name it, so its value is one
// word for all of them.
struct Cell {
  Value value;
  uint32_t parent;  // the cell of the next shorter such prefix, or kNoCell; for the writer
  uint32_t length;
  uint32_t unused;
};

// The arena goes on with a cell that holds no match.
inline constexpr uint32_t kNoCell = kNothingBytes;

static_assert(sizeof(Node) == 16 && sizeof(Leaf) == 16);
static_assert(sizeof(FarLeaf) == 24 && sizeof(Cell) == 16);

}  // namespace sallyport::lpm
