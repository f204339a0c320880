// The vector types of the multi-buffer AEAD on AVX2: 8 lanes. Its twin is vec512.h, where the types
// are drawn.
//
//   Words    8 x 32 bit   one word of the ChaCha20 state of each of 8 packets
//   Block    64 bytes     of one packet, in its order: two registers
//   Halves   4 x 64 bit   one 64-bit word of each of 4 packets, for Poly1305
//
// AVX2 cannot load or store part of a vector by the byte: what is not a whole block goes through 64
// bytes on the stack. Only files compiled for this CPU include it.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "crypto/poly1305_avx2.h"
#include "crypto/unrolled.h"

namespace sallyport::crypto {

// Byte orders that rotate each 32-bit word left, for vpshufb.
alignas(32) inline constexpr uint8_t kRotate16[32] = {2, 3,  0,  1,  6,  7, 4,  5,  10, 11, 8,
                                                      9, 14, 15, 12, 13, 2, 3,  0,  1,  6,  7,
                                                      4, 5,  10, 11, 8,  9, 14, 15, 12, 13};
alignas(32) inline constexpr uint8_t kRotate8[32] = {3,  0,  1,  2,  7,  4,  5,  6,  11, 8, 9,
                                                     10, 15, 12, 13, 14, 3,  0,  1,  2,  7, 4,
                                                     5,  6,  11, 8,  9,  10, 15, 12, 13, 14};

struct Vec256 {
  static constexpr size_t kLanes = 8;
  using Words = __m256i;
  struct Block {
    __m256i low, high;
  };
  using Poly = Poly1305Avx2;
  using Halves = Poly::Halves;

  static Words set_all(uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }
  static Words load(const uint32_t* words) { return load_vector(words); }
  static void store(uint32_t* words, Words value) { store_vector(words, value); }
  static Words add(Words a, Words b) { return _mm256_add_epi32(a, b); }
  // a += b; d = (d ^ a) <<< kBits. In one asm each, because 16 words of state in 16 registers leave
  // none to spare: the compiler's own order needs many more at a time and spends half of ChaCha20's
  // time on spilling them.
  template <int kBits>
  [[gnu::always_inline]] static void add_xor_rotate(Words& a, Words b, Words& d) {
    Words sum = a;
    Words mixed = d;
    if constexpr (kBits == 16 || kBits == 8) {
      asm("vpaddd %2, %0, %0\n\t"
          "vpxor %0, %1, %1\n\t"
          "vpshufb %3, %1, %1"
          : "+x"(sum), "+x"(mixed)
          : "xm"(b), "m"(kBits == 16 ? kRotate16 : kRotate8));
    } else {
      Words carried;
      asm("vpaddd %3, %0, %0\n\t"
          "vpxor %0, %1, %1\n\t"
          "vpslld %4, %1, %2\n\t"
          "vpsrld %5, %1, %1\n\t"
          "vpor %2, %1, %1"
          : "+x"(sum), "+x"(mixed), "=&x"(carried)
          : "xm"(b), "i"(kBits), "i"(32 - kBits));
    }
    a = sum;
    d = mixed;
  }

  static Block load_block(const uint8_t* bytes) {
    return {load_vector(bytes), load_vector(bytes + 32)};
  }
  static void store_block(uint8_t* bytes, Block block) {
    store_vector(bytes, block.low);
    store_vector(bytes + 32, block.high);
  }
  static Block mix(Block a, Block b) {
    return {_mm256_xor_si256(a.low, b.low), _mm256_xor_si256(a.high, b.high)};
  }
  static Block join(Block a, Block b) {
    return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
  }
  static Block zero_block() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }

  // Bytes [first, last) of the 64 at `bytes`, zeroes in place of the others, which are not read.
  static Block load_window(uintptr_t bytes, size_t first, size_t last) {
    alignas(32) uint8_t staging[64] = {};
    if (first < last) {
      std::memcpy(staging + first, reinterpret_cast<const void*>(bytes + first), last - first);
    }
    return load_block(staging);
  }
  // Stores the first `size` bytes, touching no other.
  static void store_first(uint8_t* bytes, size_t size, Block block) {
    alignas(32) uint8_t staging[64];
    store_block(staging, block);
    std::memcpy(bytes, staging, size);
  }
  static Block keep_first(size_t size, Block block) {
    alignas(32) uint8_t staging[64];
    store_block(staging, block);
    std::memset(staging + size, 0, sizeof(staging) - size);
    return load_block(staging);
  }

  // From state[w], word w of 8 packets, to block[p], the 16 words of packet p.
  [[gnu::always_inline]] static void to_blocks(const Words (&state)[16], Block (&block)[8]) {
    Words quad[16];
    unrolled<4>([&]<size_t i> { transpose_words<4 * i>(state, quad); });
    // quad[4i + k] now holds words 4i..4i+3 of packet k in its low half and of packet 4 + k in its
    // high half.
    unrolled<4>([&]<size_t k> {
      block[k] = {_mm256_permute2x128_si256(quad[k], quad[4 + k], 0x20),
                  _mm256_permute2x128_si256(quad[8 + k], quad[12 + k], 0x20)};
      block[4 + k] = {_mm256_permute2x128_si256(quad[k], quad[4 + k], 0x31),
                      _mm256_permute2x128_si256(quad[8 + k], quad[12 + k], 0x31)};
    });
  }

  // From the blocks of 4 packets to word[k], the k-th 64 bits of each of them.
  template <size_t kFirst>
  [[gnu::always_inline]] static void to_halves(const Block (&block)[8], Halves (&word)[8]) {
    transpose_halves(block[kFirst].low, block[kFirst + 1].low, block[kFirst + 2].low,
                     block[kFirst + 3].low, word[0], word[1], word[2], word[3]);
    transpose_halves(block[kFirst].high, block[kFirst + 1].high, block[kFirst + 2].high,
                     block[kFirst + 3].high, word[4], word[5], word[6], word[7]);
  }

  // Two words of each packet as one number; of packets 4 * kPoly on.
  template <size_t kPoly>
  [[gnu::always_inline]] static Halves widen(Words low, Words high) {
    const Halves wide_low = _mm256_cvtepu32_epi64(_mm256_extracti128_si256(low, kPoly));
    const Halves wide_high = _mm256_cvtepu32_epi64(_mm256_extracti128_si256(high, kPoly));
    return _mm256_or_si256(wide_low, _mm256_slli_epi64(wide_high, 32));
  }

 private:
  static __m256i load_vector(const void* bytes) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(bytes));
  }
  static void store_vector(void* bytes, __m256i value) {
    _mm256_storeu_si256(static_cast<__m256i*>(bytes), value);
  }

  // Within each 128 bits: four vectors of one word become four vectors of one packet's four words.
  template <size_t kFirst>
  [[gnu::always_inline]] static void transpose_words(const Words (&from)[16], Words (&to)[16]) {
    const Words low01 = _mm256_unpacklo_epi32(from[kFirst], from[kFirst + 1]);
    const Words high01 = _mm256_unpackhi_epi32(from[kFirst], from[kFirst + 1]);
    const Words low23 = _mm256_unpacklo_epi32(from[kFirst + 2], from[kFirst + 3]);
    const Words high23 = _mm256_unpackhi_epi32(from[kFirst + 2], from[kFirst + 3]);
    to[kFirst] = _mm256_unpacklo_epi64(low01, low23);
    to[kFirst + 1] = _mm256_unpackhi_epi64(low01, low23);
    to[kFirst + 2] = _mm256_unpacklo_epi64(high01, high23);
    to[kFirst + 3] = _mm256_unpackhi_epi64(high01, high23);
  }

  [[gnu::always_inline]] static void transpose_halves(__m256i a, __m256i b, __m256i c, __m256i d,
                                                      Halves& r0, Halves& r1, Halves& r2,
                                                      Halves& r3) {
    const __m256i ab_even = _mm256_unpacklo_epi64(a, b);
    const __m256i ab_odd = _mm256_unpackhi_epi64(a, b);
    const __m256i cd_even = _mm256_unpacklo_epi64(c, d);
    const __m256i cd_odd = _mm256_unpackhi_epi64(c, d);
    r0 = _mm256_permute2x128_si256(ab_even, cd_even, 0x20);
    r1 = _mm256_permute2x128_si256(ab_odd, cd_odd, 0x20);
    r2 = _mm256_permute2x128_si256(ab_even, cd_even, 0x31);
    r3 = _mm256_permute2x128_si256(ab_odd, cd_odd, 0x31);
  }
};

}  // namespace sallyport::crypto
