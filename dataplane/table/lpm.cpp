// The writer's side of Lpm: forms, cells, and what connects them to the trie. lpm.h says what all
// this promises.
#include "dataplane/table/lpm.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "dataplane/base/rcu.h"
#include "dataplane/table/lpm_arena.h"
#include "dataplane/table/lpm_few.h"
#include "dataplane/table/lpm_trie.h"

namespace sallyport {
namespace {

using lpm::Cell;
using lpm::Item;
using lpm::Key;
using lpm::Meter;
using lpm::Ref;
using lpm::Trie;

// Sizes at which a table changes form: up when above grow_at, down when below a quarter of it.
constexpr size_t kGrowFew = lpm::kFewMost;
constexpr size_t kGrowSmall = 2048;    // 2^12 entries are 32 KiB, 16 bytes a prefix
constexpr size_t kGrowLarge = 131072;  // 2^18 entries are 2 MiB, 16 bytes a prefix
constexpr unsigned kSmallBits = 12;
constexpr unsigned kLargeBits = 18;  // IPv4 only: real IPv6 tables use a few hundred of so many

[[noreturn]] void contradiction(const char* what) {
  std::fprintf(stderr, "sallyport: lpm: %s\n", what);
  std::abort();
}

Ref* make_array(unsigned bits) {
  const size_t count = size_t{1} << bits;
  const size_t bytes = 2 * count * sizeof(Ref);
  const size_t alignment = bytes >= 2u << 20 ? 2u << 20 : 64;
  void* memory = std::aligned_alloc(alignment, std::max<size_t>(bytes, 64));
  if (memory == nullptr) {
    contradiction("no memory for a root array");
  }
  if (alignment > 64) {
    madvise(memory, bytes, MADV_HUGEPAGE);
  }
  auto* words = static_cast<Ref*>(memory);
  std::fill_n(words, count, lpm::kNothing);
  std::fill_n(words + count, count, lpm::kNoCell);
  return words;
}

bool comes_first(const Item& a, const Item& b) {
  return a.key < b.key || (a.key == b.key && a.length < b.length);
}

}  // namespace

template <class Family>
Lpm<Family>::Lpm() : root_(reinterpret_cast<uintptr_t>(new Few{}) | kFew) {}

template <class Family>
Lpm<Family>::~Lpm() {
  if (is_few()) {
    delete few();
  } else {
    std::free(array().refs());
  }
}

template <class Family>
lpm::Few<Family>* Lpm<Family>::few() const {
  return reinterpret_cast<Few*>(root_.load(std::memory_order_relaxed) & ~kFormMask);
}

template <class Family>
Cell* Lpm<Family>::cell(uint32_t offset) const {
  return reinterpret_cast<Cell*>(arena_->base() + offset);
}

template <class Family>
Trie Lpm<Family>::trie() const {
  return Trie(*arena_, array().bits());
}

template <class Family>
Item Lpm<Family>::item(const Prefix& prefix) const {
  if (prefix.length > kBits || prefix.value == kLpmMiss) {
    contradiction("a prefix longer than an address, or the value kLpmMiss");
  }
  return {lpm::masked(Family::key(prefix.address), prefix.length), prefix.length, prefix.value};
}

// Where the value of a prefix in a Few or a Cell stands, if it is there.
template <class Family>
LpmValue* Lpm<Family>::find_plain(const Item& item) const {
  if (is_few()) {
    for (unsigned i = 0; i < few()->count; ++i) {
      if (few()->lengths[i] == item.length && few()->key(i) == item.key) {
        return &few()->values[i];
      }
    }
    return nullptr;
  }
  const Array array = this->array();
  const uint32_t found = cell_above(array.cells()[array.index(item.key)], item.length);
  const bool is_it = found != lpm::kNoCell && cell(found)->length == item.length;
  return is_it ? &cell(found)->value : nullptr;
}

template <class Family>
bool Lpm<Family>::is_in_trie(unsigned length) const {
  return !is_few() && length > array().bits();
}

template <class Family>
std::optional<LpmValue> Lpm<Family>::find(Address address, unsigned length) const {
  const Item wanted = item({address, length, 0});
  if (is_in_trie(length)) {
    const Ref ref = array().refs()[array().index(wanted.key)];
    return trie().find(ref, array().bits(), wanted.key, length);
  }
  const LpmValue* value = find_plain(wanted);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

template <class Family>
bool Lpm<Family>::insert(Address address, unsigned length, LpmValue value) {
  const Item added = item({address, length, value});
  if (is_few() && few()->count == lpm::kFewMost && find_plain(added) == nullptr) {
    rebuild(form_of(0));
  }
  bool is_new = true;
  if (is_in_trie(length)) {
    Ref* place = &array().refs()[array().index(added.key)];
    is_new = trie().insert(place, array().bits(), added);
  } else if (LpmValue* present = find_plain(added); present != nullptr) {
    lpm::store_shared(*present, value);
    is_new = false;
  } else if (is_few()) {
    insert_few(added);
  } else {
    insert_cell(array(), added);
  }
  if (is_new) {
    size_.store(size() + 1, std::memory_order_relaxed);
    adapt();
  }
  return is_new;
}

template <class Family>
bool Lpm<Family>::remove(Address address, unsigned length) {
  if (!find(address, length)) {
    return false;
  }
  const Item gone = item({address, length, 0});
  if (is_in_trie(length)) {
    Ref* place = &array().refs()[array().index(gone.key)];
    trie().remove(place, array().bits(), gone.key, length);
  } else if (is_few()) {
    remove_few(gone);
  } else {
    remove_cell(gone);
  }
  size_.store(size() - 1, std::memory_order_relaxed);
  adapt();
  return true;
}

template <class Family>
void Lpm<Family>::clear() {
  publish(reinterpret_cast<uintptr_t>(new Few{}) | kFew);
  size_.store(0, std::memory_order_relaxed);
}

template <class Family>
size_t Lpm<Family>::memory_bytes() const {
  const size_t root = is_few() ? sizeof(Few) : array().count() * 2 * sizeof(Ref);
  return sizeof(*this) + root + (arena_ != nullptr ? arena_->bytes() : 0);
}

// ---- a few prefixes

template <class Family>
void Lpm<Family>::insert_few(const Item& item) {
  auto* next = new Few{};
  const Few& now = *few();
  for (unsigned i = 0; i < now.count && now.lengths[i] >= item.length; ++i) {
    next->append(now.key(i), now.lengths[i], now.values[i]);
  }
  const unsigned rest = next->count;
  next->append(item.key, item.length, item.value);
  for (unsigned i = rest; i < now.count; ++i) {
    next->append(now.key(i), now.lengths[i], now.values[i]);
  }
  publish(reinterpret_cast<uintptr_t>(next) | kFew);
}

template <class Family>
void Lpm<Family>::remove_few(const Item& item) {
  auto* next = new Few{};
  const Few& now = *few();
  for (unsigned i = 0; i < now.count; ++i) {
    if (now.lengths[i] != item.length || now.key(i) != item.key) {
      next->append(now.key(i), now.lengths[i], now.values[i]);
    }
  }
  publish(reinterpret_cast<uintptr_t>(next) | kFew);
}

// ---- prefixes that the root array covers

// This one or the next shorter over the same addresses, whichever is no longer than `length`.
template <class Family>
uint32_t Lpm<Family>::cell_above(uint32_t cell_offset, unsigned length) const {
  while (cell_offset != lpm::kNoCell && cell(cell_offset)->length > length) {
    cell_offset = cell(cell_offset)->parent;
  }
  return cell_offset;
}

// The new cell answers what the one above it answers until every entry names it; its own value is
// the last store.
template <class Family>
void Lpm<Family>::insert_cell(const Array& array, const Item& item) {
  const uint32_t above = cell_above(array.cells()[array.index(item.key)], item.length);
  const uint32_t added = arena_->allocate(sizeof(Cell) / lpm::Arena::kUnit);
  new (cell(added)) Cell{cell(above)->value, above, item.length, 0};
  replace_cell(array, item, above, added);
  lpm::store_shared(cell(added)->value, item.value);
}

// And the other way round: the value of the one above is the first store.
template <class Family>
void Lpm<Family>::remove_cell(const Item& item) {
  const Array array = this->array();
  const uint32_t gone = cell_above(array.cells()[array.index(item.key)], item.length);
  const uint32_t above = cell(gone)->parent;
  lpm::store_shared(cell(gone)->value, cell(above)->value);
  replace_cell(array, item, gone, above);
  arena_->retire(gone, sizeof(Cell) / lpm::Arena::kUnit);
}

// Whatever stood directly below cell `from` in the prefix's entries, entries and cells, now stands
// directly below `to`.
template <class Family>
void Lpm<Family>::replace_cell(const Array& array, const Item& item, uint32_t from, uint32_t to) {
  const size_t first = array.index(item.key);
  const size_t end = first + (size_t{1} << (array.bits() - item.length));
  for (size_t i = first; i < end; ++i) {
    uint32_t lowest = array.cells()[i];
    if (lowest == from) {
      lpm::store_shared(array.cells()[i], to);
      continue;
    }
    while (cell(lowest)->parent != from && cell(lowest)->parent != to) {
      lowest = cell(lowest)->parent;
    }
    cell(lowest)->parent = to;
  }
}

// ---- forms

template <class Family>
void Lpm<Family>::adapt() {
  if (is_few()) {
    return;  // insert() looks after this one
  }
  const unsigned bits = array().bits();
  if (bits == 0 && size() > kGrowSmall) {
    rebuild(form_of(kSmallBits));
  } else if (bits == kSmallBits && kBits == 32 && size() > kGrowLarge) {
    rebuild(form_of(kLargeBits));
  } else if (bits == kLargeBits && size() < kGrowLarge / 4) {
    rebuild(form_of(kSmallBits));
  } else if (bits == kSmallBits && size() < kGrowSmall / 4) {
    rebuild(form_of(0));
  } else if (bits == 0 && size() < kGrowFew / 4) {
    rebuild(kFew);
  }
}

template <class Family>
void Lpm<Family>::rebuild(uintptr_t form) {
  std::vector<Item> items;
  items.reserve(size());
  visit_items(
      [](void* list, const Item& item) { static_cast<std::vector<Item>*>(list)->push_back(item); },
      &items);
  Meter meter;
  publish(make_root(form, items, meter));
}

template <class Family>
uintptr_t Lpm<Family>::make_root(uintptr_t form, std::span<const Item> items, Meter& meter) {
  if (form == kFew) {
    std::vector<Item> longest_first(items.begin(), items.end());
    std::sort(longest_first.begin(), longest_first.end(),
              [](const Item& a, const Item& b) { return a.length > b.length; });
    auto* few = new Few{};
    for (const Item& item : longest_first) {
      few->append(item.key, item.length, item.value);
    }
    return reinterpret_cast<uintptr_t>(few) | kFew;
  }
  if (arena_ == nullptr) {
    arena_ = std::make_unique<lpm::Arena>();
    base_ = arena_->base();
    Trie(*arena_, 0).make_nothing();
    *cell(lpm::kNoCell) = Cell{kLpmMiss, lpm::kNoCell, 0, 0};
  }
  const unsigned bits = Array{form}.bits();
  const Array array{reinterpret_cast<uintptr_t>(make_array(bits)) | form};
  for (size_t i = 0; i < items.size() && !meter.cancelled;) {
    if (items[i].length <= array.bits()) {
      insert_cell(array, items[i++]);
      meter.advance();
      continue;
    }
    const size_t index = array.index(items[i].key);
    size_t end = i + 1;
    while (end < items.size() && array.index(items[end].key) == index) {
      ++end;
    }
    array.refs()[index] = Trie(*arena_, bits).build(items.subspan(i, end - i), bits, meter);
    i = end;
  }
  return array.root;
}

// The one store of a change of form, and the farewell to the old one.
template <class Family>
void Lpm<Family>::publish(uintptr_t root) {
  const bool was_few = is_few();
  Few* old_few = few();
  const Array old = array();
  root_.store(root, std::memory_order_release);
  if (was_few) {
    rcu_delete(old_few);
    return;
  }
  for (size_t i = 0; i < old.count(); ++i) {
    trie().retire_all(old.refs()[i]);
    for (uint32_t each = old.cells()[i]; each != lpm::kNoCell;) {
      const uint32_t above = cell(each)->parent;
      if (starts_at(old, i, *cell(each))) {
        arena_->retire(each, sizeof(Cell) / lpm::Arena::kUnit);
      }
      each = above;
    }
  }
  rcu_retire(old.refs(), std::free);
}

template <class Family>
std::unique_ptr<Lpm<Family>> Lpm<Family>::build(std::span<const Prefix> prefixes, Progress progress,
                                                void* context) {
  auto table = std::make_unique<Lpm>();
  Meter meter{progress, context, prefixes.size()};
  std::vector<Item> items;
  items.reserve(prefixes.size());
  bool is_sorted = true;
  for (const Prefix& prefix : prefixes) {
    items.push_back(table->item(prefix));
    is_sorted &= items.size() < 2 || comes_first(items[items.size() - 2], items.back());
  }
  if (is_sorted && items.size() > kGrowFew) {
    const bool is_large = kBits == 32 && items.size() > kGrowLarge;
    const unsigned bits = is_large ? kLargeBits : items.size() > kGrowSmall ? kSmallBits : 0;
    table->publish(table->make_root(form_of(bits), items, meter));
    table->size_.store(items.size(), std::memory_order_relaxed);
  } else {
    for (size_t i = 0; i < prefixes.size() && !meter.cancelled; ++i) {
      table->insert(prefixes[i].address, prefixes[i].length, prefixes[i].value);
      meter.advance();
    }
  }
  return meter.cancelled ? nullptr : std::move(table);
}

// ---- visiting

// Whether this is the first of the entries that the cell covers.
template <class Family>
bool Lpm<Family>::starts_at(const Array& array, size_t index, const Cell& cell) {
  return index % (size_t{1} << (array.bits() - cell.length)) == 0;
}

template <class Family>
void Lpm<Family>::visit_cells(size_t index, lpm::VisitItem fn, void* context) const {
  const Array array = this->array();
  const Cell* starting[kLargeBits + 1];
  unsigned count = 0;
  for (uint32_t each = array.cells()[index]; each != lpm::kNoCell; each = cell(each)->parent) {
    if (starts_at(array, index, *cell(each))) {
      starting[count++] = cell(each);
    }
  }
  while (count > 0) {
    const Cell& each = *starting[--count];
    fn(context, Item{array.key(index), each.length, each.value});
  }
}

template <class Family>
void Lpm<Family>::visit_items(lpm::VisitItem fn, void* context) const {
  if (is_few()) {
    std::vector<Item> items;
    for (unsigned i = 0; i < few()->count; ++i) {
      items.push_back({few()->key(i), few()->lengths[i], few()->values[i]});
    }
    std::sort(items.begin(), items.end(), comes_first);
    for (const Item& item : items) {
      fn(context, item);
    }
    return;
  }
  const Array array = this->array();
  for (size_t i = 0; i < array.count(); ++i) {
    visit_cells(i, fn, context);
    trie().visit(array.refs()[i], array.bits(), array.key(i), fn, context);
  }
}

template <class Family>
void Lpm<Family>::visit(void (*fn)(void*, const Prefix&), void* context) const {
  struct Both {
    void (*fn)(void*, const Prefix&);
    void* context;
  } both{fn, context};
  visit_items(
      [](void* raw, const Item& item) {
        const Both& to = *static_cast<const Both*>(raw);
        to.fn(to.context, Prefix{Family::address(item.key), item.length, item.value});
      },
      &both);
}

template class Lpm<lpm::Ipv4>;
template class Lpm<lpm::Ipv6>;

}  // namespace sallyport
