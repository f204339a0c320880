// Packet buffers: a fixed number of fixed blocks, reserved at start.
//
// A block holds the largest thing a port can hand over (a 64 KiB super-packet or train) with headroom before it and
// tailroom behind it, so a packet is sealed, opened and nested where it lies. Reserving costs address space; a page becomes
// memory when it is first touched, and caches are last-in first-out, so a quiet process stays small.
//
// BufferPool is shared; each thread takes from and gives to a BufferCache of its own, which trades with the pool in lots
// (Boost.Lockfree: no lock). A buffer may be given back by another thread than took it. Dry means take() returns nullptr: a
// counted drop, never a wait.
#pragma once

#include <atomic>
#include <boost/lockfree/queue.hpp>
#include <cstddef>
#include <cstdint>

namespace sallyport {

struct Buffer {
  static constexpr size_t kBlockBytes = 68 * 1024;
  static constexpr size_t kHeadroom = 512;      // before data(): the AEAD's margin, outer headers
  static constexpr size_t kDataBytes = 65'664;  // at least: 65,535 and a virtio header
  static constexpr size_t kTailroom = 64;       // behind it: padding and tag

  uint32_t number;
  uint32_t data_offset;  // from the block's start; staggered, so that packets share no cache sets

  uint8_t* data() { return reinterpret_cast<uint8_t*>(this) + data_offset; }
};

class BufferPool {
 public:
  explicit BufferPool(size_t buffers);  // aborts at start when the address space cannot be had
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  size_t capacity() const { return capacity_; }
  size_t reserved_bytes() const { return capacity_ * Buffer::kBlockBytes; }

 private:
  friend class BufferCache;

  Buffer* take();  // nullptr: dry

  uint8_t* memory_;
  size_t capacity_;
  std::atomic<size_t> untouched_{0};  // blocks from here on were never used
  boost::lockfree::queue<Buffer*> free_;
};

class BufferCache {
 public:
  explicit BufferCache(BufferPool& pool) : pool_(pool) {}
  ~BufferCache();
  BufferCache(const BufferCache&) = delete;
  BufferCache& operator=(const BufferCache&) = delete;

  Buffer* take();
  void give(Buffer* buffer);

 private:
  static constexpr size_t kSize = 64;
  static constexpr size_t kLot = 32;

  BufferPool& pool_;
  Buffer* cached_[kSize];
  size_t count_ = 0;
};

}  // namespace sallyport
