// LpmKey: an address of either family as the trie sees it, and the arithmetic of depths.
//
// A key is the address left-aligned in two 64-bit words; IPv4 fills the upper half of `high` and
// leaves `low` zero. The trie cuts a key into strides of six bits, and starts anew at bit 64 so
// that a stride never straddles the words:
//
//     depth  0  6  12 ... 54  60 | 64  70 ... 118  124
//     bits   6  6   6      6   4 |  6   6       6    4
//
// A node at depth d decides the prefixes longer than d and at most next_depth(d) long: their home.
#pragma once

#include <bit>
#include <compare>
#include <cstdint>

#include "dataplane/base/endian.h"

namespace sallyport {

// An IPv6 address as two words in host order: high holds its first eight bytes.
struct Address6 {
  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const Address6&) const = default;
};

namespace lpm {

inline constexpr unsigned kStride = 6;

struct Key {
  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const Key&) const = default;
};

struct Ipv4 {
  using Address = uint32_t;  // host order
  static constexpr unsigned kBits = 32;
  static constexpr unsigned kTopBits = 32;
  static uint64_t top(Address address) { return address; }  // what a root array is indexed by
  static Key key(Address address) { return {uint64_t{address} << 32, 0}; }
  static Address address(const Key& key) { return static_cast<uint32_t>(key.high >> 32); }
  static Address from_bytes(const uint8_t* bytes) { return load<be32>(bytes); }
};

struct Ipv6 {
  using Address = Address6;
  static constexpr unsigned kBits = 128;
  static constexpr unsigned kTopBits = 64;
  static uint64_t top(const Address& address) { return address.high; }
  static Key key(const Address& address) { return {address.high, address.low}; }
  static Address address(const Key& key) { return {key.high, key.low}; }
  static Address from_bytes(const uint8_t* bytes) {
    return {load<be64>(bytes), load<be64>(bytes + 8)};
  }
};

// The upper `bits` bits set, 0 to 64.
inline constexpr uint64_t upper_bits(unsigned bits) {
  return bits == 0 ? 0 : ~uint64_t{0} << (64 - bits);
}

inline constexpr Key masked(const Key& key, unsigned length) {
  return {key.high & upper_bits(length < 64 ? length : 64),
          key.low & upper_bits(length < 64 ? 0 : length - 64)};
}

// How many leading bits two keys share, 0 to 128.
inline constexpr unsigned common_bits(const Key& a, const Key& b) {
  if (a.high != b.high) {
    return static_cast<unsigned>(std::countl_zero(a.high ^ b.high));
  }
  return 64 + static_cast<unsigned>(std::countl_zero(a.low ^ b.low));
}

// The depth of the stride that bit number `bit` lies in.
inline constexpr unsigned depth_of_bit(unsigned bit) {
  return bit < 64 ? bit / kStride * kStride : 64 + (bit - 64) / kStride * kStride;
}

// The depth of the node that prefixes of this length (not 0) belong to.
inline constexpr unsigned home_depth(unsigned length) {
  return depth_of_bit(length - 1);
}

inline constexpr unsigned next_depth(unsigned depth) {
  return depth == 60 ? 64 : depth + kStride;
}

// The word of the key that the stride at this depth lies in.
inline constexpr uint64_t word_at(const Key& key, unsigned depth) {
  return depth < 64 ? key.high : key.low;
}

// The six bits of `word` below its upper `depth`; at depth 60 four bits and two zeros.
inline constexpr unsigned slot_of(uint64_t word, unsigned depth) {
  return static_cast<unsigned>((word << (depth & 63)) >> 58);
}

static_assert(home_depth(1) == 0 && home_depth(6) == 0 && home_depth(7) == 6);
static_assert(home_depth(64) == 60 && home_depth(65) == 64 && home_depth(128) == 124);

}  // namespace lpm
}  // namespace sallyport
