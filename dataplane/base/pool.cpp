#include "dataplane/base/pool.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <new>

// Boost.Lockfree's free list reads the link of a node that another thread may have taken meanwhile,
// and finds out by the tag of its compare-and-swap: a race by design, in its headers alone. Every
// program with a queue has a pool, so this is said here for all of them.
#if defined(__SANITIZE_THREAD__)
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "race:boost::lockfree::detail::tagged_index\n"
         "race:boost::lockfree::detail::tagged_ptr\n"
         "race:boost::lockfree::detail::freelist_stack\n"
         "race:boost::lockfree::detail::fixed_size_freelist\n";
}
#endif

namespace sallyport {
namespace {

constexpr size_t kColours = 16;
constexpr size_t kColourBytes = 128;
static_assert(sizeof(Buffer) + Buffer::kHeadroom + kColours * kColourBytes + Buffer::kDataBytes +
                  Buffer::kTailroom <=
              Buffer::kBlockBytes);

}  // namespace

BufferPool::BufferPool(size_t buffers) : capacity_(buffers), free_(buffers) {
  void* memory = mmap(nullptr, reserved_bytes(), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::fprintf(stderr, "sallyport: cannot reserve %zu bytes for packet buffers\n",
                 reserved_bytes());
    std::abort();
  }
  memory_ = static_cast<uint8_t*>(memory);
}

Buffer* BufferPool::take() {
  Buffer* buffer = nullptr;
  if (free_.pop(buffer)) {
    return buffer;
  }
  // A block's header is written when the block is first used, not at start: that makes its page memory.
  size_t fresh = untouched_.load(std::memory_order_relaxed);
  while (fresh < capacity_ &&
         !untouched_.compare_exchange_weak(fresh, fresh + 1, std::memory_order_relaxed)) {
  }
  if (fresh >= capacity_) {
    return nullptr;
  }
  const size_t offset = sizeof(Buffer) + Buffer::kHeadroom + (fresh % kColours) * kColourBytes;
  return new (memory_ + fresh * Buffer::kBlockBytes)
      Buffer{static_cast<uint32_t>(fresh), static_cast<uint32_t>(offset)};
}

BufferPool::~BufferPool() {
  munmap(memory_, reserved_bytes());
}

BufferCache::~BufferCache() {
  while (count_ > 0) {
    pool_.free_.push(cached_[--count_]);
  }
}

Buffer* BufferCache::take() {
  if (count_ > 0) {
    return cached_[--count_];
  }
  while (count_ < kLot) {
    Buffer* buffer = pool_.take();
    if (buffer == nullptr) {
      break;
    }
    cached_[count_++] = buffer;
  }
  return count_ == 0 ? nullptr : cached_[--count_];
}

void BufferCache::give(Buffer* buffer) {
  if (count_ == kSize) {
    while (count_ > kSize - kLot) {
      pool_.free_.push(cached_[--count_]);
    }
  }
  cached_[count_++] = buffer;
}

}  // namespace sallyport
