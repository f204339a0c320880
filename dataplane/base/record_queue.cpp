#include "dataplane/base/record_queue.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace sallyport {

// A record is a chain of blocks; the records of a queue are one longer chain. Only the first block
// of a record knows its length.
struct RecordPool::Block {
  static constexpr size_t kPayload = kBlockBytes - 2 * sizeof(uint32_t);

  uint32_t next;
  uint32_t record_bytes;
  uint8_t payload[kPayload];

  static size_t needed(size_t bytes) { return (bytes + kPayload - 1) / kPayload; }
};

RecordPool::RecordPool(size_t blocks)
    : memory_(nullptr), bytes_(blocks * kBlockBytes), free_count_(blocks) {
  static_assert(sizeof(Block) == kBlockBytes);
  if (blocks == 0) {
    return;
  }
  void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || blocks >= UINT32_MAX) {
    std::fprintf(stderr, "cannot reserve %zu bytes of address space for staged packets\n", bytes_);
    std::abort();
  }
  memory_ = static_cast<uint8_t*>(memory);
}

RecordPool::~RecordPool() {
  if (memory_ != nullptr) {
    munmap(memory_, bytes_);
  }
}

RecordPool::Block& RecordPool::block(uint32_t number) {
  return *reinterpret_cast<Block*>(memory_ + size_t{number - 1} * kBlockBytes);
}

uint32_t RecordPool::take_block() {
  --free_count_;
  if (free_ == 0) {
    return ++untouched_;
  }
  const uint32_t number = free_;
  free_ = block(number).next;
  return number;
}

void RecordPool::drop_oldest(RecordQueue& queue) {
  const uint32_t bytes = block(queue.first).record_bytes;
  for (size_t left = Block::needed(bytes); left > 0; --left) {
    const uint32_t number = queue.first;
    queue.first = block(number).next;
    block(number).next = free_;
    free_ = number;
    ++free_count_;
  }
  queue.bytes -= bytes;
  if (--queue.records == 0) {
    queue.last = 0;
  }
}

size_t RecordPool::push(RecordQueue& queue, std::span<const std::span<const uint8_t>> parts,
                        size_t records_max, size_t bytes_max) {
  size_t total = 0;
  for (const auto part : parts) {
    total += part.size();
  }
  if (total == 0) {
    return 0;
  }
  if (total > bytes_max || records_max == 0) {
    return 1;
  }
  const std::lock_guard lock(mutex_);
  size_t lost = 0;
  while (queue.records > 0 && (queue.records >= records_max || queue.bytes + total > bytes_max)) {
    drop_oldest(queue);
    ++lost;
  }
  if (Block::needed(total) > free_count_) {
    return lost + 1;
  }
  append(queue, parts, static_cast<uint32_t>(total));
  return lost;
}

void RecordPool::append(RecordQueue& queue, std::span<const std::span<const uint8_t>> parts,
                        uint32_t total) {
  size_t room = 0;  // left in the queue's last block
  uint8_t* to = nullptr;
  bool begins = true;
  for (auto part : parts) {
    while (!part.empty()) {
      if (room == 0) {
        const uint32_t number = take_block();
        Block& fresh = block(number);
        fresh.next = 0;
        fresh.record_bytes = begins ? total : 0;
        begins = false;
        (queue.last == 0 ? queue.first : block(queue.last).next) = number;
        queue.last = number;
        to = fresh.payload;
        room = Block::kPayload;
      }
      const size_t size = std::min(room, part.size());
      std::memcpy(to, part.data(), size);
      part = part.subspan(size);
      to += size;
      room -= size;
    }
  }
  ++queue.records;
  queue.bytes += total;
}

size_t RecordPool::pop(RecordQueue& queue, std::span<uint8_t> out) {
  const std::lock_guard lock(mutex_);
  if (queue.records == 0) {
    return 0;
  }
  const size_t total = block(queue.first).record_bytes;
  if (total > out.size()) {
    std::fprintf(stderr, "a staged record of %zu bytes does not fit %zu\n", total, out.size());
    std::abort();
  }
  uint32_t number = queue.first;
  for (size_t done = 0; done < total;) {
    const size_t size = std::min(Block::kPayload, total - done);
    std::memcpy(out.data() + done, block(number).payload, size);
    done += size;
    number = block(number).next;
  }
  drop_oldest(queue);
  return total;
}

bool RecordPool::empty(const RecordQueue& queue) const {
  const std::lock_guard lock(mutex_);
  return queue.records == 0;
}

size_t RecordPool::clear(RecordQueue& queue) {
  const std::lock_guard lock(mutex_);
  const size_t records = queue.records;
  while (queue.records > 0) {
    drop_oldest(queue);
  }
  return records;
}

size_t RecordPool::free_blocks() const {
  const std::lock_guard lock(mutex_);
  return free_count_;
}

}  // namespace sallyport
