// Poly1305 (RFC 8439, section 2.5) for eight packets at once with 52-bit multiply-add (AVX-512
// IFMA).
//
// A number mod 2^130 - 5 is three limbs of 44, 44 and 42 bits; lane p of every vector belongs to
// packet p:
//
//   value = h0 + h1 * 2^44 + h2 * 2^88
//
// and 2^132 = 4 * 2^130 = 20 (mod p), hence the factors 20 * r below.
//
// A product of two limbs has up to 94 bits. vpmadd52luq adds its low 52 bits, vpmadd52huq the bits
// above: those weigh 2^52 = 2^44 * 2^8, so they go to the next limb shifted by 8. Limbs are below
// 2^46 whenever they are multiplied, far from the 52 bits that are read; sums of four blocks'
// products stay below 2^56. All packets of a vector take the same steps: no branch and no index
// depends on data.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace sallyport::crypto {

class Poly1305Ifma {
 public:
  using Halves = __m512i;
  using Lanes = __mmask8;  // which packets take part
  static constexpr int kLanes = 8;

 private:
  struct Limbs {
    Halves l0, l1, l2;
  };
  struct Power {
    Halves r0, r1, r2, r1_times_20, r2_times_20;
  };

 public:
  // Of products: the low 52 bits and the rest, by the limb where they begin.
  struct Sums {
    Halves low0, low1, low2, high0, high1, high2;
  };

  // The one-time key of each packet, before r is clamped.
  [[gnu::always_inline]] void init(Halves r_low, Halves r_high, Halves s_low, Halves s_high) {
    r_low = _mm512_and_si512(r_low, all(0x0ffffffc0fffffff));
    r_high = _mm512_and_si512(r_high, all(0x0ffffffc0ffffffc));
    power_ = make_power(split(r_low, r_high));
    s_low_ = s_low;
    s_high_ = s_high;
    h_ = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  }

  // What absorb_four() needs beside r itself.
  struct Powers {
    Power squared, cubed, fourth;
  };

  void prepare_powers(Powers& powers) const {
    powers.squared = times_r(power_);
    powers.cubed = times_r(powers.squared);
    powers.fourth = times_r(powers.cubed);
  }

  // One 16-byte block of every packet: h = (h + block + 2^128) * r.
  [[gnu::always_inline]] void absorb(Halves low, Halves high) {
    Sums sums = zero_sums();
    add_product(sums, add(h_, to_limbs(low, high)), power_);
    h_ = carry(sums);
  }

  // The same for some packets only.
  [[gnu::always_inline]] void absorb(Halves low, Halves high, Lanes lanes) {
    const Limbs before = h_;
    absorb(low, high);
    h_.l0 = _mm512_mask_blend_epi64(lanes, before.l0, h_.l0);
    h_.l1 = _mm512_mask_blend_epi64(lanes, before.l1, h_.l1);
    h_.l2 = _mm512_mask_blend_epi64(lanes, before.l2, h_.l2);
  }

  // 64 bytes of every packet with a single carry: h = (h + a) * r^4 + b * r^3 + c * r^2 + d * r.
  // Last what waits for h.
  [[gnu::always_inline]] void absorb_four(const Halves (&words)[8], const Powers& powers) {
    Sums sums = zero_sums();
    add_product(sums, to_limbs(words[2], words[3]), powers.cubed);
    add_product(sums, to_limbs(words[4], words[5]), powers.squared);
    add_product(sums, to_limbs(words[6], words[7]), power_);
    add_product(sums, add(h_, to_limbs(words[0], words[1])), powers.fourth);
    h_ = carry(sums);
  }

  static Halves load(const uint64_t* words) { return _mm512_load_si512(words); }

  // Lanes whose packet has at least `wanted` blocks in this column.
  static Lanes lanes_with(const uint64_t* blocks, uint64_t wanted) {
    return _mm512_cmpge_epu64_mask(load(blocks), all(wanted));
  }

  // tag = (h mod p) + s mod 2^128
  [[gnu::always_inline]] void finish(uint64_t* tag_low, uint64_t* tag_high) {
    const Limbs h = carry_around(h_);
    // h - p, as h + 5 - 2^130, is taken where it is not negative.
    Limbs g;
    g.l0 = _mm512_add_epi64(h.l0, all(5));
    g.l1 = _mm512_add_epi64(h.l1, _mm512_srli_epi64(g.l0, 44));
    g.l2 = _mm512_add_epi64(h.l2, _mm512_srli_epi64(g.l1, 44));
    const __mmask8 at_least_p = _mm512_test_epi64_mask(g.l2, all(uint64_t{1} << 42));
    const Halves h0 = _mm512_mask_and_epi64(h.l0, at_least_p, g.l0, all(kMask44));
    const Halves h1 = _mm512_mask_and_epi64(h.l1, at_least_p, g.l1, all(kMask44));
    const Halves h2 = _mm512_mask_and_epi64(h.l2, at_least_p, g.l2, all(kMask42));

    Halves low = _mm512_or_si512(h0, _mm512_slli_epi64(h1, 44));
    Halves high = _mm512_or_si512(_mm512_srli_epi64(h1, 20), _mm512_slli_epi64(h2, 24));
    low = _mm512_add_epi64(low, s_low_);
    const __mmask8 carry = _mm512_cmplt_epu64_mask(low, s_low_);
    high = _mm512_add_epi64(high, s_high_);
    high = _mm512_mask_add_epi64(high, carry, high, all(1));
    _mm512_store_si512(tag_low, low);
    _mm512_store_si512(tag_high, high);
  }

 private:
  static constexpr uint64_t kMask44 = (uint64_t{1} << 44) - 1;
  static constexpr uint64_t kMask42 = (uint64_t{1} << 42) - 1;

  static Halves all(uint64_t value) { return _mm512_set1_epi64(static_cast<long long>(value)); }
  static Halves times_5(Halves a) { return _mm512_add_epi64(a, _mm512_slli_epi64(a, 2)); }
  static Halves times_20(Halves a) {
    return _mm512_add_epi64(_mm512_slli_epi64(a, 4), _mm512_slli_epi64(a, 2));
  }

  static Power make_power(Limbs r) { return {r.l0, r.l1, r.l2, times_20(r.l1), times_20(r.l2)}; }

  Power times_r(const Power& power) const {
    Sums sums = zero_sums();
    add_product(sums, {power.r0, power.r1, power.r2}, power_);
    return make_power(carry(sums));
  }

  static Sums zero_sums() {
    const Halves zero = _mm512_setzero_si512();
    return {zero, zero, zero, zero, zero, zero};
  }

  static Limbs add(Limbs a, Limbs b) {
    return {_mm512_add_epi64(a.l0, b.l0), _mm512_add_epi64(a.l1, b.l1),
            _mm512_add_epi64(a.l2, b.l2)};
  }

  [[gnu::always_inline]] static Limbs split(Halves low, Halves high) {
    const Halves middle = _mm512_or_si512(_mm512_srli_epi64(low, 44), _mm512_slli_epi64(high, 20));
    return {_mm512_and_si512(low, all(kMask44)), _mm512_and_si512(middle, all(kMask44)),
            _mm512_srli_epi64(high, 24)};
  }

  // A block of the message, with the bit that marks its end.
  [[gnu::always_inline]] static Limbs to_limbs(Halves low, Halves high) {
    Limbs limbs = split(low, high);
    limbs.l2 = _mm512_or_si512(limbs.l2, all(uint64_t{1} << 40));
    return limbs;
  }

  [[gnu::always_inline]] static void add_product(Sums& sums, Limbs m, const Power& p) {
    sums.low0 = _mm512_madd52lo_epu64(sums.low0, m.l0, p.r0);
    sums.low1 = _mm512_madd52lo_epu64(sums.low1, m.l0, p.r1);
    sums.low2 = _mm512_madd52lo_epu64(sums.low2, m.l0, p.r2);
    sums.high0 = _mm512_madd52hi_epu64(sums.high0, m.l0, p.r0);
    sums.high1 = _mm512_madd52hi_epu64(sums.high1, m.l0, p.r1);
    sums.high2 = _mm512_madd52hi_epu64(sums.high2, m.l0, p.r2);
    sums.low0 = _mm512_madd52lo_epu64(sums.low0, m.l1, p.r2_times_20);
    sums.low1 = _mm512_madd52lo_epu64(sums.low1, m.l1, p.r0);
    sums.low2 = _mm512_madd52lo_epu64(sums.low2, m.l1, p.r1);
    sums.high0 = _mm512_madd52hi_epu64(sums.high0, m.l1, p.r2_times_20);
    sums.high1 = _mm512_madd52hi_epu64(sums.high1, m.l1, p.r0);
    sums.high2 = _mm512_madd52hi_epu64(sums.high2, m.l1, p.r1);
    sums.low0 = _mm512_madd52lo_epu64(sums.low0, m.l2, p.r1_times_20);
    sums.low1 = _mm512_madd52lo_epu64(sums.low1, m.l2, p.r2_times_20);
    sums.low2 = _mm512_madd52lo_epu64(sums.low2, m.l2, p.r0);
    sums.high0 = _mm512_madd52hi_epu64(sums.high0, m.l2, p.r1_times_20);
    sums.high1 = _mm512_madd52hi_epu64(sums.high1, m.l2, p.r2_times_20);
    sums.high2 = _mm512_madd52hi_epu64(sums.high2, m.l2, p.r0);
  }

  // All limbs pass their carry on at once; limb 0, which gets five times what leaves the top,
  // passes once more.
  [[gnu::always_inline]] static Limbs carry(const Sums& sums) {
    const Halves low1 = _mm512_add_epi64(sums.low1, _mm512_slli_epi64(sums.high0, 8));
    const Halves low2 = _mm512_add_epi64(sums.low2, _mm512_slli_epi64(sums.high1, 8));
    const Halves top =
        _mm512_add_epi64(_mm512_srli_epi64(low2, 42), _mm512_slli_epi64(sums.high2, 10));
    Limbs h;
    h.l2 = _mm512_add_epi64(_mm512_and_si512(low2, all(kMask42)), _mm512_srli_epi64(low1, 44));
    h.l1 = _mm512_add_epi64(_mm512_and_si512(low1, all(kMask44)), _mm512_srli_epi64(sums.low0, 44));
    h.l0 = _mm512_add_epi64(_mm512_and_si512(sums.low0, all(kMask44)), times_5(top));
    h.l1 = _mm512_add_epi64(h.l1, _mm512_srli_epi64(h.l0, 44));
    h.l0 = _mm512_and_si512(h.l0, all(kMask44));
    return h;
  }

  // Once around. Limbs have 44, 44 and 42 bits then, or the number is 2^130 and a little, whose top
  // bit finish() sees when it looks for p.
  static Limbs carry_around(Limbs h) {
    h.l2 = _mm512_add_epi64(h.l2, _mm512_srli_epi64(h.l1, 44));
    h.l1 = _mm512_and_si512(h.l1, all(kMask44));
    h.l0 = _mm512_add_epi64(h.l0, times_5(_mm512_srli_epi64(h.l2, 42)));
    h.l2 = _mm512_and_si512(h.l2, all(kMask42));
    h.l1 = _mm512_add_epi64(h.l1, _mm512_srli_epi64(h.l0, 44));
    h.l0 = _mm512_and_si512(h.l0, all(kMask44));
    h.l2 = _mm512_add_epi64(h.l2, _mm512_srli_epi64(h.l1, 44));
    h.l1 = _mm512_and_si512(h.l1, all(kMask44));
    return h;
  }

  Limbs h_;
  Halves s_low_, s_high_;
  Power power_;
};

}  // namespace sallyport::crypto
