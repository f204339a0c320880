// The multi-buffer AEAD: ChaCha20-Poly1305 of as many packets at once as a vector has 32-bit lanes,
// one packet a lane.
//
// Written once, over the vector types of a machine V (vec512.h: 16 lanes, vec256.h: 8). A column is
// 64 bytes of every packet:
//
//                 lane 0   lane 1   lane 2  ..  lane n
//   column key    block 0  block 0  block 0     block 0     of ChaCha20: the packet's Poly1305 key
//   column 0      block 1  block 1  block 1     block 1     bytes 0..63 of each packet
//   column 1      block 2  block 2  block 2     (ended)     bytes 64..127
//   ...           block 3  (ended)
//   finish        tag      tag      tag         tag
//
// ChaCha20 computes a column with word w of all packets in one vector (Words). A transposition
// makes of that the key stream of each packet (Block), which is mixed with its bytes; a second one
// brings the ciphertext, still in registers, into the order of Poly1305, where one vector holds 64
// bits of half the packets (Halves). So bytes are loaded once and stored once.
//
// Packets come longest first: the lanes still at work are always the first ones, and of these the
// ones whose 64 bytes are whole come first. While all lanes are whole and past their heads a column
// is `whole_column`, where the time goes; the others are `edge_column`, which loads head and body
// by windows, stores what exists, and lets only the packets that have a 16-byte block advance their
// Poly1305.
//
// Lengths, pointers and counts steer it; keys and bytes never do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "crypto/aead_lanes.h"
#include "crypto/unrolled.h"

namespace sallyport::crypto {
namespace {  // each kernel's file has its own copy, compiled for its own CPU

inline constexpr size_t kColumn = 64;

// The smaller of the two.
inline size_t at_most(size_t value, size_t most) {
  return value < most ? value : most;
}

// How much of `end` lies behind `start`.
inline size_t beyond(size_t end, size_t start) {
  return end > start ? end - start : 0;
}

template <class V>
class LaneCipher {
 public:
  static constexpr size_t kLanes = V::kLanes;

  // Takes packets[0 .. count). The other lanes idle along on a key of these, and nobody sees what
  // they make.
  void prepare(const LanePacket* packets, size_t count) {
    packets_ = packets;
    count_ = count;
    bool one_key = true;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const uint64_t counter = lane < count ? packets[lane].counter : 0;
      nonce_low_[lane] = static_cast<uint32_t>(counter);
      nonce_high_[lane] = static_cast<uint32_t>(counter >> 32);
      one_key = one_key && (lane >= count || packets[lane].key == packets[0].key);
    }
    for (size_t lane = 0; lane < kLanes; ++lane) {
      uint32_t words[8];
      std::memcpy(words, packets[lane < count ? lane : 0].key, sizeof(words));
      for (size_t i = 0; i < 8; ++i) {
        if (one_key) {
          V::store(key_[i], V::set_all(words[i]));
        } else {
          key_[i][lane] = words[i];
        }
      }
      if (one_key) {
        break;
      }
    }
  }

  template <bool kSeal>
  void run() {
    start_poly();
    size_t column = 0;
    const size_t head_columns = count_head_columns();
    const size_t whole_columns = count_whole_columns();
    while (column < head_columns) {
      edge_column<kSeal>(column++);
    }
    // Beyond this point no lane is in its head any more.
    powers_used_ = column + kWorthPowers <= whole_columns;
    if (powers_used_) {
      unrolled<kPolys>([&]<size_t i> { poly_[i].prepare_powers(powers_[i]); });
      while (column < whole_columns) {
        whole_column<kSeal, true>(column++);
      }
    }
    while (column < whole_columns) {
      whole_column<kSeal, false>(column++);
    }
    const size_t columns = (packets_[0].len + kColumn - 1) / kColumn;
    while (column < columns) {
      edge_column<kSeal>(column++);
    }
    finish_poly();
  }

  // How much of this object has been written.
  size_t used() const { return sizeof(*this) - (powers_used_ ? 0 : sizeof(powers_)); }

  void copy_tag(size_t lane, uint8_t* tag) const {
    std::memcpy(tag, &tag_low_[lane], 8);
    std::memcpy(tag + 8, &tag_high_[lane], 8);
  }

  // All bits of the difference count, in one expression without a branch.
  bool tag_matches(size_t lane, const uint8_t* tag) const {
    uint64_t low;
    uint64_t high;
    std::memcpy(&low, tag, 8);
    std::memcpy(&high, tag + 8, 8);
    return ((low ^ tag_low_[lane]) | (high ^ tag_high_[lane])) == 0;
  }

 private:
  using Words = typename V::Words;
  using Block = typename V::Block;
  using Poly = typename V::Poly;
  using Halves = typename V::Halves;
  static constexpr size_t kPolyLanes = Poly::kLanes;
  static constexpr size_t kPolys = kLanes / kPolyLanes;
  // Columns over which the three multiplications that Poly1305's powers cost pay (measured).
  static constexpr size_t kWorthPowers = 5;

  // One line of four quarter rounds (RFC 8439, section 2.1) side by side, so that each has three
  // others to hide its latency.
  template <int kBits>
  [[gnu::always_inline]] static void line(Words& a0, Words& a1, Words& a2, Words& a3, Words b0,
                                          Words b1, Words b2, Words b3, Words& d0, Words& d1,
                                          Words& d2, Words& d3) {
    V::template add_xor_rotate<kBits>(a0, b0, d0);
    V::template add_xor_rotate<kBits>(a1, b1, d1);
    V::template add_xor_rotate<kBits>(a2, b2, d2);
    V::template add_xor_rotate<kBits>(a3, b3, d3);
  }

  // Written out, not looped over: only then does every word stay in a register.
  [[gnu::always_inline]] static void double_round(Words (&x)[16]) {
    line<16>(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[12], x[13], x[14], x[15]);
    line<12>(x[8], x[9], x[10], x[11], x[12], x[13], x[14], x[15], x[4], x[5], x[6], x[7]);
    line<8>(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[12], x[13], x[14], x[15]);
    line<7>(x[8], x[9], x[10], x[11], x[12], x[13], x[14], x[15], x[4], x[5], x[6], x[7]);

    line<16>(x[0], x[1], x[2], x[3], x[5], x[6], x[7], x[4], x[15], x[12], x[13], x[14]);
    line<12>(x[10], x[11], x[8], x[9], x[15], x[12], x[13], x[14], x[5], x[6], x[7], x[4]);
    line<8>(x[0], x[1], x[2], x[3], x[5], x[6], x[7], x[4], x[15], x[12], x[13], x[14]);
    line<7>(x[10], x[11], x[8], x[9], x[15], x[12], x[13], x[14], x[5], x[6], x[7], x[4]);
  }

  [[gnu::always_inline]] void initial_state(uint32_t block_counter, Words (&x)[16]) const {
    x[0] = V::set_all(0x61707865);  // "expand 32-byte k"
    x[1] = V::set_all(0x3320646e);
    x[2] = V::set_all(0x79622d32);
    x[3] = V::set_all(0x6b206574);
    unrolled<8>([&]<size_t i> { x[4 + i] = V::load(key_[i]); });
    x[12] = V::set_all(block_counter);
    x[13] = V::set_all(0);
    x[14] = V::load(nonce_low_);
    x[15] = V::load(nonce_high_);
  }

  // The key stream block of that counter of every packet, word by word (RFC 8439, section 2.3).
  [[gnu::always_inline]] void stream_words(uint32_t block_counter, Words (&x)[16]) const {
    initial_state(block_counter, x);
#pragma GCC unroll 1
    for (int round = 0; round < 10; ++round) {
      double_round(x);
    }
    Words start[16];
    initial_state(block_counter, start);
    unrolled<16>([&]<size_t i> { x[i] = V::add(x[i], start[i]); });
  }

  // The same, packet by packet.
  [[gnu::always_inline]] void key_stream(uint32_t block_counter, Block (&stream)[kLanes]) const {
    Words x[16];
    stream_words(block_counter, x);
    V::to_blocks(x, stream);
  }

  // Block 0 is the key of Poly1305: r in its first four words, s in the next four.
  void start_poly() {
    Words x[16];
    stream_words(0, x);
    unrolled<kPolys>([&]<size_t i> {
      poly_[i].init(V::template widen<i>(x[0], x[1]), V::template widen<i>(x[2], x[3]),
                    V::template widen<i>(x[4], x[5]), V::template widen<i>(x[6], x[7]));
    });
  }

  size_t count_head_columns() const {
    size_t longest = 0;
    for (size_t lane = 0; lane < count_; ++lane) {
      longest = packets_[lane].head_len > longest ? packets_[lane].head_len : longest;
    }
    return (longest + kColumn - 1) / kColumn;
  }

  // Columns that are all data in every lane that is used.
  size_t count_whole_columns() const {
    size_t shortest = packets_[0].head_len + packets_[0].body_len;
    for (size_t lane = 1; lane < count_; ++lane) {
      shortest = at_most(packets_[lane].head_len + packets_[lane].body_len, shortest);
    }
    return shortest / kColumn;
  }

  // 64 bytes of every packet, all of them of its body.
  template <bool kSeal, bool kPowers>
  [[gnu::always_inline]] void whole_column(size_t column) {
    Block stream[kLanes];
    key_stream(static_cast<uint32_t>(column + 1), stream);
    const size_t start = column * kColumn;
    unrolled<kLanes>([&]<size_t lane> {
      if (lane < count_) {
        const LanePacket& packet = packets_[lane];
        const Block input = V::load_block(packet.body + (start - packet.head_len));
        const Block output = V::mix(input, stream[lane]);
        V::store_block(packet.target + start, output);
        stream[lane] = kSeal ? output : input;
      }
    });
    Halves words[kPolys][8];
    unrolled<kPolys>([&]<size_t i> { V::template to_halves<i * kPolyLanes>(stream, words[i]); });
    if constexpr (kPowers) {
      unrolled<kPolys>([&]<size_t i> { poly_[i].absorb_four(words[i], powers_[i]); });
    } else {
      unrolled<4>([&]<size_t block> {
        unrolled<kPolys>(
            [&]<size_t i> { poly_[i].absorb(words[i][2 * block], words[i][2 * block + 1]); });
      });
    }
  }

  // The plaintext or ciphertext of one packet from `start` on, zeroes behind its end. Any part of
  // it may lie in the head.
  static Block load_edge(const LanePacket& packet, size_t start) {
    const size_t head_end = at_most(beyond(packet.head_len, start), kColumn);
    const size_t body_end =
        at_most(beyond(size_t{packet.head_len} + packet.body_len, start), kColumn);
    const uintptr_t body = reinterpret_cast<uintptr_t>(packet.body) + start - packet.head_len;
    const Block bytes = V::load_window(body, head_end, body_end);
    if (head_end == 0) {
      return bytes;
    }
    const uintptr_t head = reinterpret_cast<uintptr_t>(packet.head) + start;
    return V::join(bytes, V::load_window(head, 0, head_end));
  }

  // Up to 64 bytes of every packet.
  template <bool kSeal>
  void edge_column(size_t column) {
    Block stream[kLanes];
    key_stream(static_cast<uint32_t>(column + 1), stream);
    const size_t start = column * kColumn;
    alignas(64) uint64_t blocks[kLanes] = {};
    for (size_t lane = 0; lane < count_; ++lane) {
      const LanePacket& packet = packets_[lane];
      const size_t size = at_most(beyond(packet.len, start), kColumn);
      const Block input = load_edge(packet, start);
      const Block output = V::keep_first(size, V::mix(input, stream[lane]));
      V::store_first(packet.target + start, size, output);
      stream[lane] = kSeal ? output : input;
      blocks[lane] = (size + 15) / 16;
    }
    Halves words[kPolys][8];
    unrolled<kPolys>([&]<size_t i> { V::template to_halves<i * kPolyLanes>(stream, words[i]); });
    for (size_t block = 0; block < blocks[0]; ++block) {  // the first packet is the longest
      for (size_t i = 0; i < kPolys; ++i) {
        poly_[i].absorb(words[i][2 * block], words[i][2 * block + 1],
                        Poly::lanes_with(&blocks[i * kPolyLanes], block + 1));
      }
    }
  }

  // The last block is the two lengths: no additional data, and the ciphertext.
  void finish_poly() {
    alignas(64) uint64_t none[kLanes] = {};
    alignas(64) uint64_t lengths[kLanes] = {};
    for (size_t lane = 0; lane < count_; ++lane) {
      lengths[lane] = packets_[lane].len;
    }
    unrolled<kPolys>([&]<size_t i> {
      poly_[i].absorb(Poly::load(&none[i * kPolyLanes]), Poly::load(&lengths[i * kPolyLanes]));
    });
    unrolled<kPolys>(
        [&]<size_t i> { poly_[i].finish(&tag_low_[i * kPolyLanes], &tag_high_[i * kPolyLanes]); });
  }

  const LanePacket* packets_;
  size_t count_;
  bool powers_used_;
  alignas(64) uint32_t key_[8][kLanes];
  alignas(64) uint32_t nonce_low_[kLanes];
  alignas(64) uint32_t nonce_high_[kLanes];
  Poly poly_[kPolys];
  alignas(64) uint64_t tag_low_[kLanes];
  alignas(64) uint64_t tag_high_[kLanes];
  typename Poly::Powers powers_[kPolys];  // last: short packets do without
};

// The scratch is the cipher's memory: an object without constructors, so that nothing of the
// standard library is needed here.
template <class V>
LaneCipher<V>& cipher_in(LaneScratch& scratch) {
  static_assert(sizeof(LaneCipher<V>) <= sizeof(LaneScratch) && kMostLanes >= V::kLanes);
  return *reinterpret_cast<LaneCipher<V>*>(scratch.bytes);
}

template <class V>
void seal_lanes(LanePacket* packets, size_t count, LaneScratch& scratch) {
  LaneCipher<V>& cipher = cipher_in<V>(scratch);
  cipher.prepare(packets, count);
  cipher.template run<true>();
  scratch.used = cipher.used() > scratch.used ? cipher.used() : scratch.used;
  for (size_t lane = 0; lane < count; ++lane) {
    cipher.copy_tag(lane, packets[lane].target + packets[lane].len);
  }
}

template <class V>
void open_lanes(LanePacket* packets, size_t count, LaneScratch& scratch) {
  LaneCipher<V>& cipher = cipher_in<V>(scratch);
  cipher.prepare(packets, count);
  cipher.template run<false>();
  scratch.used = cipher.used() > scratch.used ? cipher.used() : scratch.used;
  for (size_t lane = 0; lane < count; ++lane) {
    packets[lane].ok = cipher.tag_matches(lane, packets[lane].target + packets[lane].len);
  }
}

}  // namespace
}  // namespace sallyport::crypto
