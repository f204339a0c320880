// The vector types of the multi-buffer AEAD on AVX-512 (F, BW, DQ, VL, IFMA): 16 lanes. Its twin is
// vec256.h.
//
//   Words   16 x 32 bit   one word of the ChaCha20 state of each of 16 packets
//   Block   64 bytes      of one packet, in its order
//   Halves   8 x 64 bit   one 64-bit word of each of 8 packets, for Poly1305
//
// Only files compiled for this CPU include it.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "crypto/poly1305_ifma.h"
#include "crypto/unrolled.h"

namespace sallyport::crypto {

struct Vec512 {
  static constexpr size_t kLanes = 16;
  using Words = __m512i;
  using Block = __m512i;
  using Poly = Poly1305Ifma;
  using Halves = Poly::Halves;

  static Words set_all(uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
  static Words load(const uint32_t* words) { return _mm512_load_si512(words); }
  static void store(uint32_t* words, Words value) { _mm512_store_si512(words, value); }
  static Words add(Words a, Words b) { return _mm512_add_epi32(a, b); }
  // a += b; d = (d ^ a) <<< kBits. In one asm so that results replace their operands: left to
  // itself GCC 12 ends each round with a dozen register moves, which cost a quarter of ChaCha20's
  // time.
  template <int kBits>
  [[gnu::always_inline]] static void add_xor_rotate(Words& a, Words b, Words& d) {
    Words sum = a;
    Words mixed = d;
    asm("vpaddd %2, %0, %0\n\t"
        "vpxord %0, %1, %1\n\t"
        "vprold %3, %1, %1"
        : "+v"(sum), "+v"(mixed)
        : "v"(b), "i"(kBits));
    a = sum;
    d = mixed;
  }

  static Block load_block(const uint8_t* bytes) { return _mm512_loadu_si512(bytes); }
  static void store_block(uint8_t* bytes, Block block) { _mm512_storeu_si512(bytes, block); }
  static Block mix(Block a, Block b) { return _mm512_xor_si512(a, b); }
  static Block join(Block a, Block b) { return _mm512_or_si512(a, b); }
  static Block zero_block() { return _mm512_setzero_si512(); }

  // Bytes [first, last) of the 64 at `bytes`, zeroes in place of the others, which are not read.
  static Block load_window(uintptr_t bytes, size_t first, size_t last) {
    return _mm512_maskz_loadu_epi8(below(last) & ~below(first),
                                   reinterpret_cast<const void*>(bytes));
  }
  // Stores the first `size` bytes, touching no other.
  static void store_first(uint8_t* bytes, size_t size, Block block) {
    _mm512_mask_storeu_epi8(bytes, below(size), block);
  }
  static Block keep_first(size_t size, Block block) {
    return _mm512_maskz_mov_epi8(below(size), block);
  }

  // From state[w], word w of 16 packets, to block[p], the 16 words of packet p.
  [[gnu::always_inline]] static void to_blocks(const Words (&state)[16], Block (&block)[16]) {
    Words quad[16];
    unrolled<4>([&]<size_t i> { transpose_words<4 * i>(state, quad); });
    // quad[4i + k] now holds words 4i..4i+3 of packets k, 4 + k, 8 + k and 12 + k, 128 bits each.
    unrolled<4>([&]<size_t k> {
      transpose_quads(quad[k], quad[4 + k], quad[8 + k], quad[12 + k], block[k], block[4 + k],
                      block[8 + k], block[12 + k]);
    });
  }

  // From the blocks of 8 packets to word[k], the k-th 64 bits of each of them.
  template <size_t kFirst>
  [[gnu::always_inline]] static void to_halves(const Block (&block)[16], Halves (&word)[8]) {
    Halves even[4];
    Halves odd[4];
    unrolled<4>([&]<size_t i> {
      even[i] = _mm512_unpacklo_epi64(block[kFirst + 2 * i], block[kFirst + 2 * i + 1]);
      odd[i] = _mm512_unpackhi_epi64(block[kFirst + 2 * i], block[kFirst + 2 * i + 1]);
    });
    transpose_quads(even[0], even[1], even[2], even[3], word[0], word[2], word[4], word[6]);
    transpose_quads(odd[0], odd[1], odd[2], odd[3], word[1], word[3], word[5], word[7]);
  }

  // Two words of each packet as one number; of packets 8 * kPoly on.
  template <size_t kPoly>
  [[gnu::always_inline]] static Halves widen(Words low, Words high) {
    const Halves wide_low = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(low, kPoly));
    const Halves wide_high = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(high, kPoly));
    return _mm512_or_si512(wide_low, _mm512_slli_epi64(wide_high, 32));
  }

 private:
  static __mmask64 below(size_t size) {
    return size < 64 ? (uint64_t{1} << size) - 1 : ~uint64_t{0};
  }

  // Within each 128 bits: four vectors of one word become four vectors of one packet's four words.
  template <size_t kFirst>
  [[gnu::always_inline]] static void transpose_words(const Words (&from)[16], Words (&to)[16]) {
    const Words low01 = _mm512_unpacklo_epi32(from[kFirst], from[kFirst + 1]);
    const Words high01 = _mm512_unpackhi_epi32(from[kFirst], from[kFirst + 1]);
    const Words low23 = _mm512_unpacklo_epi32(from[kFirst + 2], from[kFirst + 3]);
    const Words high23 = _mm512_unpackhi_epi32(from[kFirst + 2], from[kFirst + 3]);
    to[kFirst] = _mm512_unpacklo_epi64(low01, low23);
    to[kFirst + 1] = _mm512_unpackhi_epi64(low01, low23);
    to[kFirst + 2] = _mm512_unpacklo_epi64(high01, high23);
    to[kFirst + 3] = _mm512_unpackhi_epi64(high01, high23);
  }

  // A 4 x 4 transposition whose elements are 128 bits: r_i gets quarter i of a, b, c and d.
  [[gnu::always_inline]] static void transpose_quads(__m512i a, __m512i b, __m512i c, __m512i d,
                                                     __m512i& r0, __m512i& r1, __m512i& r2,
                                                     __m512i& r3) {
    const __m512i ab_low = _mm512_shuffle_i64x2(a, b, 0x44);
    const __m512i ab_high = _mm512_shuffle_i64x2(a, b, 0xee);
    const __m512i cd_low = _mm512_shuffle_i64x2(c, d, 0x44);
    const __m512i cd_high = _mm512_shuffle_i64x2(c, d, 0xee);
    r0 = _mm512_shuffle_i64x2(ab_low, cd_low, 0x88);
    r1 = _mm512_shuffle_i64x2(ab_low, cd_low, 0xdd);
    r2 = _mm512_shuffle_i64x2(ab_high, cd_high, 0x88);
    r3 = _mm512_shuffle_i64x2(ab_high, cd_high, 0xdd);
  }
};

}  // namespace sallyport::crypto
