// A small plain value that many threads read and a few change now and then, without a lock for the
// readers.
//
// Readers retry while a writer is at it, so keep T to a cache line or two. Writers exclude each
// other by the sequence word itself. Every word is a relaxed atomic, so a torn read is seen and
// thrown away, never undefined behaviour (Boehm, "Can seqlocks get along with programming language
// memory models?", 2012).
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace sallyport {

template <class T>
class Seqlocked {
  static_assert(std::is_trivially_copyable_v<T>);
  static constexpr size_t kWords = (sizeof(T) + 7) / 8;

 public:
  T load() const {
    uint64_t words[kWords];
    for (;;) {
      const uint32_t before = sequence_.load(std::memory_order_acquire);
      for (size_t i = 0; i < kWords; ++i) {
        words[i] =
            words_[i].load(std::memory_order_acquire);  // acquire: the re-read below stays below
      }
      if ((before & 1) == 0 && sequence_.load(std::memory_order_relaxed) == before) {
        break;
      }
    }
    T value;
    std::memcpy(static_cast<void*>(&value), words, sizeof(T));
    return value;
  }

  void store(const T& value) {
    uint64_t words[kWords] = {};
    std::memcpy(words, &value, sizeof(T));
    uint32_t before = sequence_.load(std::memory_order_relaxed);
    while ((before & 1) != 0 ||
           !sequence_.compare_exchange_weak(before, before + 1, std::memory_order_acquire)) {
      before = sequence_.load(std::memory_order_relaxed);
    }
    for (size_t i = 0; i < kWords; ++i) {
      words_[i].store(words[i],
                      std::memory_order_release);  // release: stays behind the odd sequence
    }
    sequence_.store(before + 2, std::memory_order_release);
  }

 private:
  std::atomic<uint32_t> sequence_{0};
  std::atomic<uint64_t> words_[kWords]{};
};

}  // namespace sallyport
