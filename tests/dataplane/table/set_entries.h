// Addresses and set entries as tests write them, random ones that meet each other often, and a walk over entries so plain
// that it is right.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>

#include "dataplane/table/prefix_set.h"

namespace sallyport::test {

struct Ip {
  bool v4 = true;
  uint8_t bytes[16]{};
};

inline void write_number(uint8_t* out, uint64_t number, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) {
    out[i] = static_cast<uint8_t>(number >> (8 * (bytes - 1 - i)));
  }
}

inline Ip ip4(uint32_t address) {
  Ip ip;
  write_number(ip.bytes, address, 4);
  return ip;
}

inline Ip ip6(uint64_t high, uint64_t low) {
  Ip ip;
  ip.v4 = false;
  write_number(ip.bytes, high, 8);
  write_number(ip.bytes + 8, low, 8);
  return ip;
}

inline SetEntry entry_of(const Ip& ip, unsigned length, bool hole) {
  SetEntry entry;
  std::memcpy(entry.address, ip.bytes, 16);
  entry.length = static_cast<uint8_t>(length);
  entry.v4 = ip.v4;
  entry.hole = hole;
  return entry;
}

inline SetEntry entry4(uint32_t address, unsigned length, bool hole = false) {
  return entry_of(ip4(address), length, hole);
}

inline SetEntry entry6(uint64_t high, uint64_t low, unsigned length, bool hole = false) {
  return entry_of(ip6(high, low), length, hole);
}

// Few different bits, so that prefixes cover each other and addresses meet them.
inline Ip random_ip(std::mt19937_64& random) {
  const uint64_t bits = random() & random() & random();
  return random() % 2 == 0 ? ip4(static_cast<uint32_t>(bits))
                           : ip6(bits, random() & random() & random());
}

inline SetEntry random_entry(std::mt19937_64& random, bool with_holes) {
  const Ip ip = random_ip(random);
  const unsigned bits = ip.v4 ? 32 : 128;
  const auto length = static_cast<unsigned>(std::min(random() % (bits + 1), random() % (bits + 1)));
  return entry_of(ip, length, with_holes && random() % 3 == 0);
}

inline bool covers(const SetEntry& entry, const Ip& ip) {
  if (entry.v4 != ip.v4) {
    return false;
  }
  for (unsigned bit = 0; bit < entry.length; ++bit) {
    const unsigned mask = 0x80u >> bit % 8;
    if (((entry.address[bit / 8] ^ ip.bytes[bit / 8]) & mask) != 0) {
      return false;
    }
  }
  return true;
}

inline SetMatch naive_match(std::span<const SetEntry> entries, const Ip& ip) {
  SetMatch best;
  for (const SetEntry& entry : entries) {
    if (covers(entry, ip) && (!best.covered || entry.length >= best.length)) {
      best = {!entry.hole, true, entry.length};
    }
  }
  return best;
}

}  // namespace sallyport::test
