// What a thread does while it looks at a word that another is about to write: tells the core so.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sallyport {

inline void cpu_relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace sallyport
