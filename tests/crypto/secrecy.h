// Marks memory as secret for valgrind's memcheck: it counts as undefined, and a branch or an
// address that depends on it is an error. Without valgrind's header, or outside valgrind, nothing
// happens.
#pragma once

#include <cstddef>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif

namespace sallyport::crypto {

inline void mark_secret([[maybe_unused]] const void* bytes, [[maybe_unused]] size_t size) {
#ifdef VALGRIND_MAKE_MEM_UNDEFINED
  VALGRIND_MAKE_MEM_UNDEFINED(bytes, size);
#endif
}

inline void mark_public([[maybe_unused]] const void* bytes, [[maybe_unused]] size_t size) {
#ifdef VALGRIND_MAKE_MEM_DEFINED
  VALGRIND_MAKE_MEM_DEFINED(bytes, size);
#endif
}

}  // namespace sallyport::crypto
