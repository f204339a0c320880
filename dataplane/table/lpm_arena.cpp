#include "dataplane/table/lpm_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>

#include "dataplane/base/rcu.h"

namespace sallyport::lpm {
namespace {

constexpr size_t kReservedMax = size_t{4} << 30;
constexpr size_t kReservedMin = size_t{16} << 20;
constexpr size_t kLine = 64;
constexpr size_t kTogether = 40;  // see the header
constexpr size_t kFirstCommit = size_t{64} << 10;
constexpr size_t kLargePage = size_t{2} << 20;
constexpr unsigned kSmallestNode = 2;  // units; a smaller piece is of no use to anybody

// A batch starts its grace period when it is full or holds this share of the table.
constexpr unsigned kBatchItems = 508;
constexpr size_t kOpenShare = 8;
constexpr size_t kOpenMin = 16 << 10;

[[noreturn]] void out_of_memory(const char* what) {
  std::fprintf(stderr, "sallyport: lpm: %s\n", what);
  std::abort();
}

size_t bytes_of(unsigned units) {
  return size_t{units} * Arena::kUnit;
}

}  // namespace

// Offset and size of what it holds: the offset's low three bits are zero, so size goes into a
// word's upper half.
struct Arena::Batch {
  Batch* next;
  Mailbox* mailbox;
  unsigned count;
  uint64_t items[kBatchItems];
};

// Where batches come back to. Freed by whoever is last: the arena or a batch still waiting.
struct Arena::Mailbox {
  std::atomic<Batch*> returned = nullptr;
  std::atomic<unsigned> users = 1;

  void leave() {
    if (users.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      for (Batch* batch = returned.load(std::memory_order_relaxed); batch != nullptr;) {
        Batch* next = batch->next;
        delete batch;
        batch = next;
      }
      delete this;
    }
  }
};

Arena::Arena() {
  void* memory = MAP_FAILED;
  for (reserved_ = kReservedMax; reserved_ >= kReservedMin; reserved_ /= 2) {
    memory =
        mmap(nullptr, reserved_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) {
      break;
    }
  }
  if (memory == MAP_FAILED) {
    out_of_memory("no address space for a table");
  }
  base_ = static_cast<char*>(memory);
  mailbox_ = new Mailbox;
  commit(kFirstCommit);
  top_ = kReserved;
}

Arena::~Arena() {
  munmap(base_, reserved_);
  delete open_;
  while (spare_ != nullptr) {
    Batch* next = spare_->next;
    delete spare_;
    spare_ = next;
  }
  mailbox_->leave();
}

void Arena::commit(size_t end) {
  if (end <= committed_) {
    return;
  }
  // Doubling, so that the number of mappings to grow stays small; memory is only taken when
  // touched.
  size_t target = std::max(committed_ * 2, kFirstCommit);
  while (target < end) {
    target *= 2;
  }
  target = std::min(target, reserved_);
  if (end > target ||
      mprotect(base_ + committed_, target - committed_, PROT_READ | PROT_WRITE) != 0) {
    out_of_memory("no memory for a table");
  }
  committed_ = target;
  if (committed_ > kLargePage) {
    madvise(base_, committed_, MADV_HUGEPAGE);
  }
}

size_t Arena::bytes() const {
  return sizeof(Arena) + sizeof(Mailbox) + batch_count_ * sizeof(Batch) + top_;
}

uint32_t Arena::cut(unsigned units) {
  const size_t bytes = bytes_of(units);
  const size_t gap = kLine - top_ % kLine;
  if (gap < std::min(bytes, kTogether)) {
    const auto padding = static_cast<uint32_t>(top_);
    top_ += gap;
    commit(top_);
    release(padding, static_cast<unsigned>(gap / kUnit));
  }
  commit(top_ + bytes);
  const auto offset = static_cast<uint32_t>(top_);
  top_ += bytes;
  return offset;
}

uint32_t Arena::split_larger(unsigned units) {
  // The largest there is, so that what remains is of use.
  const unsigned largest = present_[1] != 0
                               ? 127 - static_cast<unsigned>(std::countl_zero(present_[1]))
                               : 63 - static_cast<unsigned>(std::countl_zero(present_[0] | 1));
  if (largest < units * 2) {
    return 0;
  }
  const uint32_t offset = allocate(largest);
  release(offset + static_cast<uint32_t>(bytes_of(units)), largest - units);
  return offset;
}

uint32_t Arena::allocate(unsigned units) {
  if (free_[units] == 0 && !(collect() && free_[units] != 0)) {
    const uint32_t offset = split_larger(units);
    return offset != 0 ? offset : cut(units);
  }
  const uint32_t offset = free_[units];
  free_[units] = *reinterpret_cast<const uint32_t*>(base_ + offset);
  if (free_[units] == 0) {
    present_[units / 64] &= ~(uint64_t{1} << units % 64);
  }
  return offset;
}

void Arena::release(uint32_t offset, unsigned units) {
  if (units < kSmallestNode) {
    return;
  }
  *reinterpret_cast<uint32_t*>(base_ + offset) = free_[units];
  free_[units] = offset;
  present_[units / 64] |= uint64_t{1} << units % 64;
}

void Arena::retire(uint32_t offset, unsigned units) {
  if (open_ == nullptr) {
    if (spare_ != nullptr) {
      open_ = spare_;
      spare_ = spare_->next;
    } else {
      open_ = new Batch;
      ++batch_count_;
    }
    open_->count = 0;
    open_units_ = 0;
  }
  open_->items[open_->count++] = uint64_t{units} << 32 | offset;
  open_units_ += units;
  if (open_->count == kBatchItems || open_units_ * kUnit > std::max(kOpenMin, top_ / kOpenShare)) {
    submit();
  }
}

void Arena::submit() {
  open_->mailbox = mailbox_;
  mailbox_->users.fetch_add(1, std::memory_order_relaxed);
  rcu_retire(open_, grace_period_over);
  open_ = nullptr;
}

void Arena::grace_period_over(void* raw) {
  auto* batch = static_cast<Batch*>(raw);
  Mailbox* mailbox = batch->mailbox;
  batch->next = mailbox->returned.load(std::memory_order_relaxed);
  while (!mailbox->returned.compare_exchange_weak(batch->next, batch, std::memory_order_release,
                                                  std::memory_order_relaxed)) {
  }
  mailbox->leave();
}

// Empties the mailbox into the free lists; false if it was empty.
bool Arena::collect() {
  if (mailbox_->returned.load(std::memory_order_relaxed) == nullptr) {
    return false;
  }
  Batch* batch = mailbox_->returned.exchange(nullptr, std::memory_order_acquire);
  while (batch != nullptr) {
    for (unsigned i = 0; i < batch->count; ++i) {
      release(static_cast<uint32_t>(batch->items[i]), static_cast<unsigned>(batch->items[i] >> 32));
    }
    Batch* next = batch->next;
    batch->next = spare_;
    spare_ = batch;
    batch = next;
  }
  return true;
}

}  // namespace sallyport::lpm
