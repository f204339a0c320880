// FlowTuple: what makes a packet part of a flow, as the packet has it: addresses and ports in wire order, protocol, family and zone.
//
// A v4 address fills the first four of its sixteen bytes, the rest is zero. What has no ports has zeros; an ICMP echo has its
// id in both. The zone is where a packet of this direction comes in, 0 to kZonesMax - 1: it keeps apart what passes twice
// under one tuple. No padding: 38 bytes, all of which count.
#pragma once

#include <cstdint>
#include <cstring>

#include "dataplane/base/endian.h"
#include "dataplane/net/address.h"

namespace sallyport {

enum class FlowDirection : uint8_t { original = 0, reply = 1 };

inline constexpr FlowDirection opposite(FlowDirection direction) {
  return direction == FlowDirection::original ? FlowDirection::reply : FlowDirection::original;
}

struct FlowTuple {
  static constexpr unsigned kZonesMax = 128;

  uint8_t source[16] = {};
  uint8_t destination[16] = {};
  be16 source_port{0};
  be16 destination_port{0};
  uint8_t protocol = 0;
  uint8_t zone_and_family = 0;  // 2 * zone, and 1 for v6

  // Of the addresses as they stand in a packet.
  static FlowTuple make(Family family, unsigned zone, uint8_t protocol,
                        const uint8_t* source_address, const uint8_t* destination_address,
                        be16 source_port, be16 destination_port) {
    FlowTuple tuple;
    if (family == Family::v4) {
      std::memcpy(tuple.source, source_address, 4);
      std::memcpy(tuple.destination, destination_address, 4);
    } else {
      std::memcpy(tuple.source, source_address, 16);
      std::memcpy(tuple.destination, destination_address, 16);
    }
    tuple.source_port = source_port;
    tuple.destination_port = destination_port;
    tuple.protocol = protocol;
    tuple.set(family, zone);
    return tuple;
  }

  void set(Family family, unsigned zone) {
    zone_and_family = static_cast<uint8_t>(zone * 2 + (family == Family::v6 ? 1 : 0));
  }
  Family family() const { return (zone_and_family & 1) != 0 ? Family::v6 : Family::v4; }
  unsigned zone() const { return zone_and_family / 2; }

  // What the other end answers with, when it comes in by `zone_of_reply` and nothing is translated.
  FlowTuple reversed(unsigned zone_of_reply) const {
    FlowTuple tuple = *this;
    std::memcpy(tuple.source, destination, sizeof(source));
    std::memcpy(tuple.destination, source, sizeof(source));
    tuple.source_port = destination_port;
    tuple.destination_port = source_port;
    tuple.set(family(), zone_of_reply);
    return tuple;
  }

  // Five words at once, and no branch among them: a library's memcmp would make some.
  bool operator==(const FlowTuple& other) const {
    const auto differ = [&](size_t offset) { return word(offset) ^ other.word(offset); };
    return (differ(0) | differ(8) | differ(16) | differ(24) | differ(kBytes - 8)) == 0;
  }
  // Eight bytes of it, as they lie.
  uint64_t word(size_t offset) const {
    uint64_t word;
    std::memcpy(&word, reinterpret_cast<const uint8_t*>(this) + offset, sizeof(word));
    return word;
  }
  static constexpr size_t kBytes = 38;
};
static_assert(sizeof(FlowTuple) == FlowTuple::kBytes && alignof(FlowTuple) == 1);

}  // namespace sallyport
