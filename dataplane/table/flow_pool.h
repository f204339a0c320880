// FlowPool: numbers of flow records, given out, and used again only after a grace period.
//
// A record that readers could find is retired, not given back: numbers are gathered into batches of 64, and one batch is one
// rcu_retire(). Threads share 16 shards, each with a lock, a batch to take from and one to retire into, so that workers
// rarely meet. Batches return through a mailbox that outlives the pool if need be. Numbers come fresh only when none is free, so
// that a table that is never full keeps its high-water mark, and its memory, low.
//
// More records than flows: what waits for grace periods must not make a table look full. spare() of them are on top, and
// is_short() says that more than half of those are waiting: not the time to remove one flow just to make another.
//
// Costs: a lock nobody else wants and a few words; every 64th take or retire an allocation or a shared lock. Threads: any,
// at once; who reads records must be an RCU reader, this class does not care.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dataplane/base/spin_lock.h"

namespace sallyport {

class FlowPool {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  explicit FlowPool(size_t flows);
  ~FlowPool();
  FlowPool(const FlowPool&) = delete;
  FlowPool& operator=(const FlowPool&) = delete;

  // Records for so many flows, and for those that wait.
  static constexpr size_t records_for(size_t flows) { return flows + spare_for(flows); }

  uint32_t take();             // kNone: all are in use or waiting
  void give(uint32_t number);  // taken, and never shown to a reader
  void retire(uint32_t number);

  bool is_short() const;
  // Numbers at or above this were never given out.
  uint32_t end() const { return fresh_.load(std::memory_order_acquire); }

 private:
  static constexpr unsigned kBatch = 64;
  static constexpr unsigned kShards = 16;
  struct Mailbox;
  struct Batch {
    Batch* next = nullptr;
    Mailbox* mailbox = nullptr;
    unsigned count = 0;
    uint32_t numbers[kBatch];
  };
  struct alignas(64) Shard {
    SpinLock lock;
    Batch* free = nullptr;
    Batch* retired = nullptr;
  };

  // What shards hold back, and what the slowest grace period that is usual may hold.
  static constexpr size_t spare_for(size_t flows) { return 2 * kShards * kBatch + flows / 64; }

  static void grace_period_over(void* batch);
  Shard& my_shard();
  bool refill(Batch& empty);
  Batch* exchange(Batch* empty);
  Batch* empty_batch();
  void submit(Batch* full);

  const size_t spare_;
  const uint32_t records_;
  Shard shards_[kShards];
  Mailbox* mailbox_;
  SpinLock lock_;  // of both lists
  Batch* ready_ = nullptr;
  Batch* empty_ = nullptr;
  std::atomic<uint32_t> fresh_ = 0;
};

}  // namespace sallyport
