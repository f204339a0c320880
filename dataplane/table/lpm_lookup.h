// The readers' half of Lpm: lookup and lookup_many, inline. Included by lpm.h, which says what they
// promise.
#pragma once

#include "dataplane/table/lpm.h"
#include "dataplane/table/lpm_few.h"

namespace sallyport {
namespace lpm {

template <class Thing>
const Thing* thing_at(const char* base, Ref ref) {
  return reinterpret_cast<const Thing*>(base + (ref & ~kKindMask));
}

// One lookup on its way down: where it stands, and the value of the longest prefix so far.
template <class Family>
struct Descent {
  Ref ref;
  unsigned depth;  // in the word
  uint64_t word;
  Value value = kMiss;

  bool is_at_node() const { return kind_of(ref) <= kSkip; }

  // One Node further: true if something hangs below, then in ref.
  bool step(const char* base, const Key& key) {
    const Node* node = thing_at<Node>(base, ref);
    if (kind_of(ref) == kSkip) {
      const uint64_t skipped = node->key();
      depth = static_cast<unsigned>(skipped & kStrideNumber) * kStride;
      if (((word ^ skipped) & ~(~uint64_t{0} >> depth)) != 0) {
        return false;
      }
    }
    const unsigned slot = slot_of(word, depth);
    const Value here = node->run_value(slot);
    value = here != kMiss ? here : value;
    if (!node->has_child(slot)) {
      return false;
    }
    ref = load_shared(node->child(slot));
    depth += kStride;
    if constexpr (Family::kBits > 64) {
      const bool next_word = depth > 64;
      depth = next_word ? 0 : depth;
      word = next_word ? key.low : word;
    }
    return true;
  }

  // Once ref is a leaf.
  void finish(const char* base, const Key& key) {
    if (Family::kBits <= 64 || kind_of(ref) == kLeaf) {
      const Leaf* leaf = thing_at<Leaf>(base, ref);
      value = leaf->matches(key) ? load_shared(leaf->value) : value;
    } else {
      const FarLeaf* leaf = thing_at<FarLeaf>(base, ref);
      value = leaf->matches(key) ? load_shared(leaf->value) : value;
    }
  }
};

}  // namespace lpm

template <class Family>
[[gnu::always_inline]] inline LpmValue Lpm<Family>::lookup(Address address) const {
  const uintptr_t root = root_.load(std::memory_order_acquire);
  if ((root & kFormMask) == kFew) {
    return few_at(root)->lookup(Family::key(address));
  }
  const Array array{root};
  const uint64_t start = array.start(address);
  const lpm::Ref ref = lpm::load_shared(array.refs()[start >> lpm::kStride]);
  if constexpr (kBits > 64) {
    return walk_down(array, address, ref);
  }
  if (lpm::kind_of(ref) != lpm::kNode) [[unlikely]] {
    return lookup_below(array, address, ref);
  }
  const auto* node = reinterpret_cast<const lpm::Node*>(base_ + ref);  // its kind is zero
  if (node->has_child(start)) [[unlikely]] {
    return lookup_below(array, address, ref);
  }
  // Here a large v4 table answers nearly always.
  const LpmValue value = node->run_value(start);
  return value != kLpmMiss ? value : covering_value(array, address);
}

// From the root array's entry all the way down.
template <class Family>
[[gnu::always_inline]] inline LpmValue Lpm<Family>::walk_down(Array array, Address address,
                                                              lpm::Ref ref) const {
  const lpm::Key key = Family::key(address);
  lpm::Descent<Family> descent{ref, array.bits(), key.high};
  while (descent.is_at_node()) {
    if (!descent.step(base_, key)) {
      return descent.value != kLpmMiss ? descent.value : covering_value(array, address);
    }
  }
  descent.finish(base_, key);
  return descent.value != kLpmMiss ? descent.value : covering_value(array, address);
}

// The same out of line, where it is the exception.
template <class Family>
[[gnu::noinline]] LpmValue Lpm<Family>::lookup_below(Array array, Address address,
                                                     lpm::Ref ref) const {
  return walk_down(array, address, ref);
}

// What the prefixes that the root array covers say.
template <class Family>
inline LpmValue Lpm<Family>::covering_value(const Array& array, const Address& address) const {
  const uint32_t cell = lpm::load_shared(array.cells()[array.index(address)]);
  return lpm::load_shared(lpm::thing_at<lpm::Cell>(base_, cell)->value);
}

// In chunks, level by level: every lane takes its step while what it will need next is on its way.
template <class Family>
void Lpm<Family>::lookup_many(const Address* addresses, LpmValue* values, size_t n) const {
  const uintptr_t root = root_.load(std::memory_order_acquire);
  for (size_t done = 0; done < n; done += kLanes) {
    const size_t count = n - done < kLanes ? n - done : kLanes;
    if ((root & kFormMask) != kFew) {
      lookup_chunk(Array{root}, addresses + done, values + done, static_cast<unsigned>(count));
      continue;
    }
    for (size_t i = done; i < done + count; ++i) {
      values[i] = few_at(root)->lookup(Family::key(addresses[i]));
    }
  }
}

template <class Family>
void Lpm<Family>::lookup_chunk(Array array, const Address* addresses, LpmValue* values,
                               unsigned count) const {
  lpm::Ref refs[kLanes];
  for (unsigned i = 0; i < count; ++i) {
    __builtin_prefetch(&array.refs()[array.index(addresses[i])]);
  }
  for (unsigned i = 0; i < count; ++i) {
    refs[i] = lpm::load_shared(array.refs()[array.index(addresses[i])]);
    __builtin_prefetch(base_ + refs[i]);
  }
  uint8_t waiting[kLanes];  // lanes that are not through with the first node
  unsigned waiting_count = 0;
  for (unsigned i = 0; i < count; ++i) {
    const auto* node = reinterpret_cast<const lpm::Node*>(base_ + refs[i]);
    const uint64_t start = array.start(addresses[i]);
    if (lpm::kind_of(refs[i]) != lpm::kNode || node->has_child(start)) {
      waiting[waiting_count++] = static_cast<uint8_t>(i);
      continue;
    }
    const LpmValue value = node->run_value(start);
    values[i] = value != kLpmMiss ? value : covering_value(array, addresses[i]);
  }
  if (waiting_count != 0) {
    finish_chunk(array, addresses, values, refs, waiting, waiting_count);
  }
}

template <class Family>
void Lpm<Family>::finish_chunk(Array array, const Address* addresses, LpmValue* values,
                               const lpm::Ref* refs, uint8_t* waiting, unsigned count) const {
  lpm::Descent<Family> descents[kLanes];
  for (unsigned i = 0; i < count; ++i) {
    descents[waiting[i]] = {refs[waiting[i]], array.bits(),
                            Family::key(addresses[waiting[i]]).high};
  }
  while (count > 0) {
    unsigned still = 0;
    for (unsigned i = 0; i < count; ++i) {
      const unsigned lane = waiting[i];
      lpm::Descent<Family>& descent = descents[lane];
      const lpm::Key key = Family::key(addresses[lane]);
      if (!descent.is_at_node()) {
        descent.finish(base_, key);
      } else if (descent.step(base_, key)) {
        __builtin_prefetch(base_ + descent.ref);
        waiting[still++] = static_cast<uint8_t>(lane);
        continue;
      }
      values[lane] =
          descent.value != kLpmMiss ? descent.value : covering_value(array, addresses[lane]);
    }
    count = still;
  }
}

}  // namespace sallyport
