// LpmArena: the memory of one trie's nodes, freed block by block after grace periods.
//
// A node is named by a 32-bit offset, so a reader needs one base address and the trie is half the
// size it would be with pointers. The arena reserves address space once (4 GiB, or what it can get)
// and takes memory as it grows; nothing moves. Blocks come in multiples of 8 bytes, one free list a
// size, and are cut so that the first 40 bytes of each, what a lookup reads of most nodes, lie
// within one cache line.
//
// What readers may still see is retired, not freed: offsets are gathered into batches, and one
// batch is one rcu_retire(), so an update pays an append. A batch whose grace period is over comes
// back through a mailbox that outlives the arena if need be, and the writer empties it; the free
// lists are the writer's alone and need no lock.
//
// Costs: allocate and retire some tens of instructions. Up to one batch waits for the next one to
// fill before its grace period starts. Cannot: give memory back to the system before it is
// destroyed, or join neighbouring free blocks. Threads: one writer at a time. Out of address space
// aborts: 4 GiB hold about 100 million prefixes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace sallyport::lpm {

class Arena {
 public:
  static constexpr unsigned kUnit = 8;
  static constexpr unsigned kUnitsMax = 120;

  Arena();
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  char* base() const { return base_; }

  // Offsets of blocks of `units` * 8 bytes, never below kReserved: those bytes are the owner's from
  // the start, zeroed. release() is for blocks that no reader has seen.
  static constexpr size_t kReserved = 64;
  uint32_t allocate(unsigned units);
  void release(uint32_t offset, unsigned units);
  void retire(uint32_t offset, unsigned units);

  // Memory taken from the system, free and waiting blocks included.
  size_t bytes() const;

 private:
  struct Batch;
  struct Mailbox;

  static void grace_period_over(void* batch);
  bool collect();
  void submit();
  uint32_t cut(unsigned units);
  uint32_t split_larger(unsigned units);
  void commit(size_t end);

  char* base_ = nullptr;
  size_t reserved_ = 0;
  size_t committed_ = 0;
  size_t top_ = 0;
  size_t open_units_ = 0;  // in the open batch
  size_t batch_count_ = 0;
  Batch* open_ = nullptr;
  Batch* spare_ = nullptr;
  Mailbox* mailbox_ = nullptr;
  uint64_t present_[2] = {0, 0};  // which free lists have a block
  uint32_t free_[kUnitsMax + 1] = {};
};

}  // namespace sallyport::lpm
