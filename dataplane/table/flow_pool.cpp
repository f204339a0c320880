#include "dataplane/table/flow_pool.h"

#include <algorithm>
#include <mutex>

#include "dataplane/base/rcu.h"

namespace sallyport {

// Where batches come back to. Freed by whoever is last: the pool or a batch still waiting.
struct FlowPool::Mailbox {
  explicit Mailbox(size_t waiting_max) : many(waiting_max) {}

  std::atomic<Batch*> returned = nullptr;
  std::atomic<unsigned> users = 1;
  alignas(64) std::atomic<size_t> waiting = 0;     // retired, and their grace period is not over
  alignas(64) std::atomic<bool> are_many = false;  // of a line that seldom changes: all may ask
  const size_t many;

  void set_waiting(size_t now) {
    if (are_many.load(std::memory_order_relaxed) != (now > many)) {
      are_many.store(now > many, std::memory_order_relaxed);
    }
  }

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

FlowPool::FlowPool(size_t flows)
    : spare_(spare_for(flows)),
      records_(static_cast<uint32_t>(records_for(flows))),
      mailbox_(new Mailbox(spare_ / 2)) {
  for (Shard& shard : shards_) {
    shard.free = new Batch;
    shard.retired = new Batch;
  }
}

FlowPool::~FlowPool() {
  for (Shard& shard : shards_) {
    delete shard.free;
    delete shard.retired;
  }
  for (Batch* list : {ready_, empty_}) {
    while (list != nullptr) {
      Batch* next = list->next;
      delete list;
      list = next;
    }
  }
  mailbox_->leave();
}

FlowPool::Shard& FlowPool::my_shard() {
  static std::atomic<unsigned> threads = 0;
  thread_local const unsigned mine = threads.fetch_add(1, std::memory_order_relaxed);
  return shards_[mine % kShards];
}

bool FlowPool::is_short() const {
  return mailbox_->are_many.load(std::memory_order_relaxed);
}

uint32_t FlowPool::take() {
  Shard& shard = my_shard();
  const std::lock_guard lock(shard.lock);
  if (shard.free->count == 0) {
    shard.free = exchange(shard.free);
    if (shard.free->count == 0 && !refill(*shard.free)) {
      return kNone;
    }
  }
  return shard.free->numbers[--shard.free->count];
}

// A batch of numbers that waited long enough, or the empty one itself.
FlowPool::Batch* FlowPool::exchange(Batch* empty) {
  const std::lock_guard lock(lock_);
  if (ready_ == nullptr && mailbox_->returned.load(std::memory_order_relaxed) != nullptr) {
    ready_ = mailbox_->returned.exchange(nullptr, std::memory_order_acquire);
  }
  if (ready_ == nullptr) {
    return empty;
  }
  Batch* const full = ready_;
  ready_ = full->next;
  empty->next = empty_;
  empty_ = empty;
  return full;
}

// Numbers that were never given out.
bool FlowPool::refill(Batch& empty) {
  const std::lock_guard lock(lock_);
  const uint32_t first = fresh_.load(std::memory_order_relaxed);
  const uint32_t count = std::min<uint32_t>(kBatch, records_ - first);
  for (uint32_t i = 0; i < count; ++i) {
    empty.numbers[i] = first + count - 1 - i;  // the lowest is taken first
  }
  empty.count = count;
  fresh_.store(first + count, std::memory_order_release);
  return count > 0;
}

void FlowPool::give(uint32_t number) {
  {
    Shard& shard = my_shard();
    const std::lock_guard lock(shard.lock);
    if (shard.free->count < kBatch) {
      shard.free->numbers[shard.free->count++] = number;
      return;
    }
  }
  retire(number);
}

FlowPool::Batch* FlowPool::empty_batch() {
  {
    const std::lock_guard lock(lock_);
    if (Batch* const batch = empty_; batch != nullptr) {
      empty_ = batch->next;
      batch->count = 0;
      return batch;
    }
  }
  return new Batch;
}

void FlowPool::retire(uint32_t number) {
  mailbox_->set_waiting(mailbox_->waiting.fetch_add(1, std::memory_order_relaxed) + 1);
  Batch* full = nullptr;
  {
    Shard& shard = my_shard();
    const std::lock_guard lock(shard.lock);
    shard.retired->numbers[shard.retired->count++] = number;
    if (shard.retired->count == kBatch) {
      full = shard.retired;
      shard.retired = empty_batch();
    }
  }
  if (full != nullptr) {
    submit(full);
  }
}

void FlowPool::submit(Batch* full) {
  full->mailbox = mailbox_;
  mailbox_->users.fetch_add(1, std::memory_order_relaxed);
  rcu_retire(full, grace_period_over);
}

void FlowPool::grace_period_over(void* raw) {
  auto* batch = static_cast<Batch*>(raw);
  Mailbox* mailbox = batch->mailbox;
  const size_t count = batch->count;
  mailbox->set_waiting(mailbox->waiting.fetch_sub(count, std::memory_order_relaxed) - count);
  batch->next = mailbox->returned.load(std::memory_order_relaxed);
  while (!mailbox->returned.compare_exchange_weak(batch->next, batch, std::memory_order_release,
                                                  std::memory_order_relaxed)) {
  }
  mailbox->leave();
}

}  // namespace sallyport
