// A bounded FIFO of byte records, kept in fixed blocks of a shared pool: where packets wait for a
// handshake.
//
// The pool is reserved at start (address space; a page becomes memory when it is first used) and
// bounds all queues together; each queue is bounded too, and gives up its oldest record to take a
// new one. One mutex for the pool and its queues: nothing here is on the fast path, a packet waits
// only while there is no session. A queue costs 16 bytes, and a record is a chain of blocks of its
// own. Bytes stay in a freed block until it is used again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

namespace sallyport {

struct RecordQueue {
  uint32_t first = 0;  // block number + 1, 0 is none
  uint32_t last = 0;
  uint32_t records = 0;
  uint32_t bytes = 0;
};

class RecordPool {
 public:
  static constexpr size_t kBlockBytes = 2048;

  explicit RecordPool(size_t blocks);
  ~RecordPool();
  RecordPool(const RecordPool&) = delete;
  RecordPool& operator=(const RecordPool&) = delete;

  // Appends one record made of the parts in order (none at all if they are empty). Returns how many
  // records were lost for it: 0, or the oldest ones of this queue beyond its bounds; a record that
  // can never fit, or finds the pool dry, is itself counted as lost.
  size_t push(RecordQueue& queue, std::span<const std::span<const uint8_t>> parts,
              size_t records_max, size_t bytes_max);

  // Moves the oldest record into `out` and returns its size; 0 when the queue is empty. `out` holds
  // any record pushed.
  size_t pop(RecordQueue& queue, std::span<uint8_t> out);

  bool empty(const RecordQueue& queue) const;
  size_t clear(RecordQueue& queue);  // returns the number of records thrown away
  size_t free_blocks() const;

 private:
  struct Block;
  Block& block(uint32_t number);
  uint32_t take_block();
  void drop_oldest(RecordQueue& queue);
  void append(RecordQueue& queue, std::span<const std::span<const uint8_t>> parts, uint32_t total);

  mutable std::mutex mutex_;
  uint8_t* memory_;
  size_t bytes_;
  uint32_t free_ = 0;
  uint32_t untouched_ = 0;  // blocks from here on were never used
  size_t free_count_;
};

}  // namespace sallyport
