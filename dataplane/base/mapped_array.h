// MappedArray: many zeroed T, reserved at once and taken from the system page by page as they are touched.
//
// Large pages where the kernel lets a program ask. For T whose zero bytes are a valid start and that need no destruction. No address
// space left aborts: it is asked for at start.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <type_traits>

namespace sallyport {

template <class T>
class MappedArray {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  explicit MappedArray(size_t count) : count_(count) {
    void* memory = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      std::fprintf(stderr, "sallyport: no address space for a table of %zu bytes\n", bytes());
      std::abort();
    }
    if (bytes() >= kLargePage) {
      madvise(memory, bytes(), MADV_HUGEPAGE);
    }
    items_ = static_cast<T*>(memory);
  }
  ~MappedArray() { munmap(items_, bytes()); }
  MappedArray(const MappedArray&) = delete;
  MappedArray& operator=(const MappedArray&) = delete;

  T& operator[](size_t i) const { return items_[i]; }
  size_t size() const { return count_; }
  size_t bytes() const { return count_ * sizeof(T); }

 private:
  static constexpr size_t kLargePage = size_t{2} << 20;

  T* items_;
  size_t count_;
};

}  // namespace sallyport
