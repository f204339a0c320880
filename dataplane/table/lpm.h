// Lpm4, Lpm6: longest-prefix match, from ten prefixes to millions, read without a lock while one
// writer changes it.
//
// One structure for allowed-IPs, destination sets and routing tables. A value is a 32-bit handle;
// what it means is the owner's business (a peer, an exit, "excluded": the hole a !prefix makes is a
// value like any other). kLpmMiss is no match.
//
// Layout. A table has one of two forms, and passes from one to the other by itself as it grows and
// shrinks.
//
//   up to 16:   root_ --> [ addresses | masks | values ]    compared all at once (lpm_few.h)
//
//   more:       root_ --> [ 2^B Refs | 2^B cells ]          B = 0, 12 or 18, by size
//                            |          |
//                            |          +--> Cell: value of the longest prefix of length <= B
//                            +--> Node of six bits: what each of its 64 slots answers, and Refs
//                                 to further Nodes; empty levels are left out, a lone prefix is
//                                 a leaf (lpm_node.h)
//
//   198.51.100.7 with B = 18:   Ref number 198.51.(upper two bits of 100) --> Node at depth 18;
//                               its slot is the lower six bits of 100, and answers for /19 to /24
//
// A lookup walks down, prefers what each Node answers to what the one above said, and asks the Cell
// only if none did.
//
// Updates. Each takes effect by one store of one aligned word: the Ref of one rebuilt node (nodes
// are immutable but for the Refs in them), the value of a leaf, or, for a prefix of length <= B,
// the value of its Cell, which its entries were made to name beforehand, while it still held what
// they answered before. So a reader never sees half an update, over however many addresses. Only a
// lookup that two or more updates overtake may combine a part of each. A change of form builds the
// other one aside and publishes it by the store of root_.
//
// Costs (docs/decisions/0001-lpm.md has the figures): a lookup takes a cache miss or two in a v4
// table of a million, about four in a large v6 one; 15 bytes a v4 prefix and 26 to 32 a v6 prefix
// in large tables, under 1 KiB for ten; insert and remove well under a microsecond, except when the
// form changes (a rebuild: some 100 ns a prefix, on passing 16, 2,048 and, for IPv4, 131,072
// prefixes) and for a prefix of length <= B, which visits its 2^(B - length) entries.
//
// Cannot: hold more than about 100 million prefixes, hold kLpmMiss, take two writers, or be walked
// while it is being changed. A length above the family's or a value of kLpmMiss aborts: the caller
// has checked its input.
//
// Threads. lookup, lookup_many: any thread that is an rcu reader (dataplane/base/rcu.h), wait-free;
// not across its quiescent state. All else: one thread at a time, the writer, which need not be a
// reader. Freed nodes wait for a grace period. A whole new table is made by build() on any thread
// and published by its owner with one pointer store; the old one goes to rcu_delete(). The
// destructor must come after a grace period since a reader could last reach the table.
//
// Sources: W. Eatherton, G. Varghese, Z. Dittia, "Tree bitmap" (CCR 34(2), 2004) and H. Asai, Y.
// Ohara, "Poptrie" (SIGCOMM 2015) for the node; D. Morrison, "PATRICIA" (JACM 15(4), 1968) for
// skipped levels; P. Gupta, S. Lin, N. McKeown, "Routing lookups in hardware" (INFOCOM 1998) for
// the direct root.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>

#include "dataplane/table/lpm_key.h"
#include "dataplane/table/lpm_node.h"

namespace sallyport {

using LpmValue = uint32_t;
inline constexpr LpmValue kLpmMiss = lpm::kMiss;

namespace lpm {
class Arena;
class Trie;
template <class Family>
struct Few;
struct Item;
struct Meter;
}  // namespace lpm

template <class Family>
class Lpm {
 public:
  using Address = typename Family::Address;
  static constexpr unsigned kBits = Family::kBits;

  struct Prefix {
    Address address{};
    unsigned length = 0;
    LpmValue value = 0;
  };

  // Called now and then with prefixes done and in all; false cancels.
  using Progress = bool (*)(void* context, size_t done, size_t total);

  Lpm();
  ~Lpm();
  Lpm(const Lpm&) = delete;
  Lpm& operator=(const Lpm&) = delete;

  // Builds a whole table. Fastest from prefixes sorted by address, then length, without duplicates;
  // from anything else it inserts one by one, so that the last of two equal prefixes counts. Null
  // if cancelled.
  static std::unique_ptr<Lpm> build(std::span<const Prefix> prefixes, Progress progress = nullptr,
                                    void* context = nullptr);

  static Address from_bytes(const uint8_t* bytes) { return Family::from_bytes(bytes); }

  // Bits of the address beyond the length are ignored, here and below. True if the prefix is new,
  // false if it had a value.
  bool insert(Address address, unsigned length, LpmValue value);
  bool remove(Address address, unsigned length);
  std::optional<LpmValue> find(Address address, unsigned length) const;  // this very prefix
  void clear();

  // The value of the longest prefix that holds the address, or kLpmMiss.
  LpmValue lookup(Address address) const;
  // The same for n addresses, with their cache misses overlapped.
  void lookup_many(const Address* addresses, LpmValue* values, size_t n) const;

  // Calls fn(address, length, value) for each prefix, by address, shorter first.
  template <class Fn>
  void walk(Fn&& fn) const {
    using Callable = std::remove_reference_t<Fn>;
    visit(
        [](void* callable, const Prefix& prefix) {
          (*static_cast<Callable*>(callable))(prefix.address, prefix.length, prefix.value);
        },
        const_cast<void*>(static_cast<const void*>(&fn)));
  }

  size_t size() const { return size_.load(std::memory_order_relaxed); }  // any thread
  // All memory taken from the system for this table, its own size included.
  size_t memory_bytes() const;

 private:
  // root_ is a pointer whose low six bits say what it points to: kFew a Few, else an array, and how
  // far to shift the top of an address so that its first B + 6 bits remain: the index in the array
  // and the slot in the Node there. Every instruction less here is another miss that overlaps.
  static constexpr uintptr_t kFormMask = 63;
  static constexpr uintptr_t kFew = 0;
  static constexpr uintptr_t form_of(unsigned bits) {
    return Family::kTopBits - lpm::kStride - bits;
  }

  using Few = lpm::Few<Family>;

  // 2^bits Refs, then as many offsets of cells.
  struct Array {
    uintptr_t root;

    unsigned bits() const { return Family::kTopBits - lpm::kStride - (root & kFormMask); }
    size_t count() const { return size_t{1} << bits(); }
    // Index and, below it, slot.
    uint64_t start(const Address& address) const {
      return Family::top(address) >> (root & kFormMask);
    }
    size_t index(const Address& address) const { return start(address) >> lpm::kStride; }
    size_t index(const lpm::Key& key) const { return index(Family::address(key)); }
    lpm::Key key(size_t index) const {
      return {bits() == 0 ? 0 : uint64_t{index} << (64 - bits()), 0};
    }
    lpm::Ref* refs() const { return reinterpret_cast<lpm::Ref*>(root & ~kFormMask); }
    uint32_t* cells() const { return refs() + count(); }
  };

  bool is_few() const { return (root_.load(std::memory_order_relaxed) & kFormMask) == kFew; }
  Few* few() const;
  Array array() const { return {root_.load(std::memory_order_relaxed)}; }
  lpm::Cell* cell(uint32_t offset) const;
  static bool starts_at(const Array& array, size_t index, const lpm::Cell& cell);
  lpm::Item item(const Prefix& prefix) const;
  lpm::Trie trie() const;

  bool is_in_trie(unsigned length) const;
  LpmValue* find_plain(const lpm::Item& item) const;
  uint32_t cell_above(uint32_t cell_offset, unsigned length) const;
  static const Few* few_at(uintptr_t root) { return reinterpret_cast<const Few*>(root); }
  void lookup_chunk(Array array, const Address* addresses, LpmValue* values, unsigned count) const;
  void finish_chunk(Array array, const Address* addresses, LpmValue* values, const lpm::Ref* refs,
                    uint8_t* waiting, unsigned count) const;
  LpmValue walk_down(Array array, Address address, lpm::Ref ref) const;
  LpmValue lookup_below(Array array, Address address, lpm::Ref ref) const;
  LpmValue covering_value(const Array& array, const Address& address) const;
  void insert_few(const lpm::Item& item);
  void remove_few(const lpm::Item& item);
  void insert_cell(const Array& array, const lpm::Item& item);
  void remove_cell(const lpm::Item& item);
  void replace_cell(const Array& array, const lpm::Item& item, uint32_t from, uint32_t to);

  void adapt();
  void rebuild(uintptr_t form);
  uintptr_t make_root(uintptr_t form, std::span<const lpm::Item> items, lpm::Meter& meter);
  void publish(uintptr_t root);
  void visit_items(void (*fn)(void*, const lpm::Item&), void* context) const;
  void visit_cells(size_t index, void (*fn)(void*, const lpm::Item&), void* context) const;
  void visit(void (*fn)(void*, const Prefix&), void* context) const;

  static constexpr unsigned kLanes = 64;  // that lookup_many has on their way at once

  std::atomic<uintptr_t> root_;
  const char* base_ =
      nullptr;  // of the arena; set before the first root_ that needs it, and never changed
  std::unique_ptr<lpm::Arena> arena_;
  std::atomic<size_t> size_ = 0;
};

using Lpm4 = Lpm<lpm::Ipv4>;
using Lpm6 = Lpm<lpm::Ipv6>;

}  // namespace sallyport

#include "dataplane/table/lpm_lookup.h"  // the readers' half, inline
