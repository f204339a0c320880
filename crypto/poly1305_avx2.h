// Poly1305 (RFC 8439, section 2.5) for four packets at once with the 32-bit multiplication of AVX2.
//
// A number mod 2^130 - 5 is five limbs of 26 bits; lane p of every vector belongs to packet p:
//
//   value = h0 + h1 * 2^26 + h2 * 2^52 + h3 * 2^78 + h4 * 2^104
//
// and 2^130 = 5 (mod p), hence the factors 5 * r below.
//
// Between blocks a limb may exceed 26 bits by a little; a sum of five products stays under 2^60.
// All packets of a vector take the same steps: no branch and no index depends on data.
// poly1305_ifma.h is the same with wider limbs.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace sallyport::crypto {

class Poly1305Avx2 {
 public:
  using Halves = __m256i;
  using Lanes = __m256i;  // which packets take part: all ones or all zeroes
  static constexpr int kLanes = 4;

 private:
  struct Limbs {
    Halves l[5];
  };
  struct Power {
    Limbs r, r_times_5;
  };

 public:
  // The one-time key of each packet, before r is clamped.
  [[gnu::always_inline]] void init(Halves r_low, Halves r_high, Halves s_low, Halves s_high) {
    r_low = _mm256_and_si256(r_low, all(0x0ffffffc0fffffff));
    r_high = _mm256_and_si256(r_high, all(0x0ffffffc0ffffffc));
    power_ = make_power(split(r_low, r_high));
    s_low_ = s_low;
    s_high_ = s_high;
    const Halves zero = _mm256_setzero_si256();
    h_ = {{zero, zero, zero, zero, zero}};
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
    Limbs sums = {};
    add_product(sums, add(h_, to_limbs(low, high)), power_);
    h_ = carry(sums);
  }

  // The same for some packets only.
  [[gnu::always_inline]] void absorb(Halves low, Halves high, Lanes lanes) {
    const Limbs before = h_;
    absorb(low, high);
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) {
      h_.l[i] = _mm256_blendv_epi8(before.l[i], h_.l[i], lanes);
    }
  }

  // 64 bytes of every packet with a single carry: h = (h + a) * r^4 + b * r^3 + c * r^2 + d * r.
  // Last what waits for h.
  [[gnu::always_inline]] void absorb_four(const Halves (&words)[8], const Powers& powers) {
    Limbs sums = {};
    add_product(sums, to_limbs(words[2], words[3]), powers.cubed);
    add_product(sums, to_limbs(words[4], words[5]), powers.squared);
    add_product(sums, to_limbs(words[6], words[7]), power_);
    add_product(sums, add(h_, to_limbs(words[0], words[1])), powers.fourth);
    h_ = carry(sums);
  }

  static Halves load(const uint64_t* words) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(words));
  }

  // Lanes whose packet has at least `wanted` blocks in this column.
  static Lanes lanes_with(const uint64_t* blocks, uint64_t wanted) {
    return _mm256_cmpgt_epi64(load(blocks), all(wanted - 1));
  }

  // tag = (h mod p) + s mod 2^128
  [[gnu::always_inline]] void finish(uint64_t* tag_low, uint64_t* tag_high) {
    const Limbs h = carry(carry(carry(h_)));
    // h - p, as h + 5 - 2^130, is taken where it is not negative.
    Halves g[5];
    Halves passed = all(5);
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) {
      const Halves sum = _mm256_add_epi64(h.l[i], passed);
      passed = _mm256_srli_epi64(sum, 26);
      g[i] = _mm256_and_si256(sum, all(kMask26));
    }
    const Lanes at_least_p = _mm256_cmpgt_epi64(passed, _mm256_setzero_si256());
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) {
      g[i] = _mm256_blendv_epi8(h.l[i], g[i], at_least_p);
    }

    Halves low = _mm256_or_si256(_mm256_or_si256(g[0], _mm256_slli_epi64(g[1], 26)),
                                 _mm256_slli_epi64(g[2], 52));
    Halves high =
        _mm256_or_si256(_mm256_or_si256(_mm256_srli_epi64(g[2], 12), _mm256_slli_epi64(g[3], 14)),
                        _mm256_slli_epi64(g[4], 40));
    low = _mm256_add_epi64(low, s_low_);
    // Unsigned low < s_low_, by way of the signed comparison there is: minus one where the addition
    // carried.
    const Halves sign = all(uint64_t{1} << 63);
    const Halves carried =
        _mm256_cmpgt_epi64(_mm256_xor_si256(s_low_, sign), _mm256_xor_si256(low, sign));
    high = _mm256_sub_epi64(_mm256_add_epi64(high, s_high_), carried);
    _mm256_store_si256(reinterpret_cast<__m256i*>(tag_low), low);
    _mm256_store_si256(reinterpret_cast<__m256i*>(tag_high), high);
  }

 private:
  static constexpr uint64_t kMask26 = (1 << 26) - 1;

  static Halves all(uint64_t value) {
    return _mm256_set1_epi64x(static_cast<long long>(value));
  }
  static Halves times_5(Halves a) {
    return _mm256_add_epi64(a, _mm256_slli_epi64(a, 2));
  }

  static Power make_power(Limbs r) {
    return {
        r, {{times_5(r.l[0]), times_5(r.l[1]), times_5(r.l[2]), times_5(r.l[3]), times_5(r.l[4])}}};
  }

  Power times_r(const Power& power) const {
    Limbs sums = {};
    add_product(sums, power.r, power_);
    return make_power(carry(sums));
  }

  [[gnu::always_inline]] static Limbs add(Limbs a, const Limbs& b) {
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) {
      a.l[i] = _mm256_add_epi64(a.l[i], b.l[i]);
    }
    return a;
  }

  [[gnu::always_inline]] static Limbs split(Halves low, Halves high) {
    const Halves mask = all(kMask26);
    const Halves middle = _mm256_or_si256(_mm256_srli_epi64(low, 52), _mm256_slli_epi64(high, 12));
    return {{_mm256_and_si256(low, mask), _mm256_and_si256(_mm256_srli_epi64(low, 26), mask),
             _mm256_and_si256(middle, mask), _mm256_and_si256(_mm256_srli_epi64(high, 14), mask),
             _mm256_srli_epi64(high, 40)}};
  }

  // A block of the message, with the bit that marks its end.
  [[gnu::always_inline]] static Limbs to_limbs(Halves low, Halves high) {
    Limbs limbs = split(low, high);
    limbs.l[4] = _mm256_or_si256(limbs.l[4], all(1 << 24));
    return limbs;
  }

  // sums[i + j] += m[i] * r[j], and five times that, five limbs lower, where it leaves the top.
  [[gnu::always_inline]] static void add_product(Limbs& sums, const Limbs& m, const Power& p) {
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) {
#pragma GCC unroll 5
      for (int j = 0; j < 5; ++j) {
        const int to = i + j < 5 ? i + j : i + j - 5;
        const Halves factor = i + j < 5 ? p.r.l[j] : p.r_times_5.l[j];
        sums.l[to] = _mm256_add_epi64(sums.l[to], _mm256_mul_epu32(m.l[i], factor));
      }
    }
  }

  // Two chains of carries at once, 0 1 2 3 and 3 4 0 1.
  [[gnu::always_inline]] static Limbs carry(Limbs d) {
    pass(d.l[0], d.l[1]);
    pass(d.l[3], d.l[4]);
    pass(d.l[1], d.l[2]);
    pass_from_top(d.l[4], d.l[0]);
    pass(d.l[2], d.l[3]);
    pass(d.l[0], d.l[1]);
    pass(d.l[3], d.l[4]);
    return d;
  }

  [[gnu::always_inline]] static void pass(Halves& from, Halves& to) {
    to = _mm256_add_epi64(to, _mm256_srli_epi64(from, 26));
    from = _mm256_and_si256(from, all(kMask26));
  }

  [[gnu::always_inline]] static void pass_from_top(Halves& top, Halves& bottom) {
    bottom = _mm256_add_epi64(bottom, times_5(_mm256_srli_epi64(top, 26)));
    top = _mm256_and_si256(top, all(kMask26));
  }

  Limbs h_;
  Halves s_low_, s_high_;
  Power power_;
};

}  // namespace sallyport::crypto
