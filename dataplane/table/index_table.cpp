#include "dataplane/table/index_table.h"

#include <algorithm>
#include <bit>
#include <memory>

#include "dataplane/base/rcu.h"

namespace sallyport {
namespace {

constexpr size_t kSlotsMin = 64;

struct Slot {
  std::atomic<uint64_t> tag{0};  // 0: never given away; else the index with bit 32 set
  std::atomic<uintptr_t> value{0};
};

uint64_t tag_of(uint32_t index) {
  return uint64_t{1} << 32 | index;
}

}  // namespace

struct IndexTable::Slots {
  explicit Slots(size_t count)
      : mask(count - 1),
        shift(32 - static_cast<unsigned>(std::countr_zero(count))),
        slots(std::make_unique<Slot[]>(count)) {}

  // The slot that holds this index, or the free one where its probe ends. There is always one.
  Slot& find(uint32_t index) const {
    size_t at = (index * 0x9e3779b1u) >> shift;
    for (;; at = (at + 1) & mask) {
      const uint64_t tag = slots[at].tag.load(std::memory_order_acquire);
      if (tag == tag_of(index) || tag == 0) {
        return slots[at];
      }
    }
  }

  size_t count() const { return mask + 1; }

  const size_t mask;
  const unsigned shift;
  const std::unique_ptr<Slot[]> slots;
};

IndexTable::IndexTable() : slots_(new Slots(kSlotsMin)) {}

IndexTable::~IndexTable() {
  delete slots_.load(std::memory_order_acquire);
}

uintptr_t IndexTable::lookup(uint32_t index) const {
  const Slot& slot = slots_.load(std::memory_order_acquire)->find(index);
  // A free slot may be given to another index between the two loads: its value is not ours.
  if (slot.tag.load(std::memory_order_relaxed) != tag_of(index)) {
    return 0;
  }
  return slot.value.load(std::memory_order_acquire);
}

bool IndexTable::insert(uint32_t index, uintptr_t value) {
  const std::lock_guard lock(mutex_);
  if (value == 0) {
    return false;
  }
  Slot* slot = &slots_.load(std::memory_order_relaxed)->find(index);
  if (slot->value.load(std::memory_order_relaxed) != 0) {
    return false;
  }
  if (slot->tag.load(std::memory_order_relaxed) == 0) {
    if (2 * (given_ + 1) > slots_.load(std::memory_order_relaxed)->count()) {
      rebuild();
      slot = &slots_.load(std::memory_order_relaxed)->find(index);
    }
    ++given_;
  }
  slot->value.store(value, std::memory_order_release);
  slot->tag.store(tag_of(index), std::memory_order_release);
  ++live_;
  return true;
}

bool IndexTable::replace(uint32_t index, uintptr_t value) {
  const std::lock_guard lock(mutex_);
  auto* const held = value_of(index);
  if (held == nullptr || value == 0) {
    return false;
  }
  held->store(value, std::memory_order_release);
  return true;
}

bool IndexTable::remove(uint32_t index) {
  const std::lock_guard lock(mutex_);
  auto* const held = value_of(index);
  if (held == nullptr) {
    return false;
  }
  held->store(0, std::memory_order_release);
  --live_;
  return true;
}

std::atomic<uintptr_t>* IndexTable::value_of(uint32_t index) const {
  Slot& slot = slots_.load(std::memory_order_relaxed)->find(index);
  return slot.value.load(std::memory_order_relaxed) == 0 ? nullptr : &slot.value;
}

void IndexTable::rebuild() {
  Slots* const old = slots_.load(std::memory_order_relaxed);
  auto fresh = std::make_unique<Slots>(std::max(kSlotsMin, std::bit_ceil(4 * (live_ + 1))));
  for (size_t i = 0; i < old->count(); ++i) {
    const uintptr_t value = old->slots[i].value.load(std::memory_order_relaxed);
    if (value != 0) {
      const uint64_t tag = old->slots[i].tag.load(std::memory_order_relaxed);
      Slot& slot = fresh->find(static_cast<uint32_t>(tag));
      slot.value.store(value, std::memory_order_relaxed);
      slot.tag.store(tag, std::memory_order_relaxed);
    }
  }
  given_ = live_;
  slots_.store(fresh.release(), std::memory_order_release);
  rcu_delete(old);
}

size_t IndexTable::size() const {
  const std::lock_guard lock(mutex_);
  return live_;
}

size_t IndexTable::memory_bytes() const {
  const std::lock_guard lock(mutex_);
  return sizeof(*this) + sizeof(Slots) +
         slots_.load(std::memory_order_relaxed)->count() * sizeof(Slot);
}

}  // namespace sallyport
