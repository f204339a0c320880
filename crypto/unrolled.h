// unrolled<4>([&]<size_t i> { ... }): the body four times, i a constant in each.
//
// For arrays of vectors. Only with constant indices from the start does the compiler keep each
// element in a register; a loop that it unrolls later leaves the array in memory, and the stores
// show.
#pragma once

#include <cstddef>
#include <utility>

namespace sallyport::crypto {

template <class Body, size_t... kIndex>
[[gnu::always_inline]] inline void unrolled_over(std::index_sequence<kIndex...>, Body&& body) {
  (body.template operator()<kIndex>(), ...);
}

template <size_t kCount, class Body>
[[gnu::always_inline]] inline void unrolled(Body&& body) {
  unrolled_over(std::make_index_sequence<kCount>(), body);
}

}  // namespace sallyport::crypto
