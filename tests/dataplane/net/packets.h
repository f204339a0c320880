// Packets for tests: built, checked and cut by the plainest code that can do it, sharing nothing
// with what it tests.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "dataplane/net/headers.h"
#include "dataplane/net/run.h"

namespace sallyport::test {

using Bytes = std::vector<uint8_t>;

// RFC 1071 section 1, word by word in network order.
inline uint16_t naive_sum(const uint8_t* bytes, size_t length, uint32_t start = 0) {
  uint64_t sum = start;
  for (size_t i = 0; i < length; ++i) {
    sum += i % 2 == 0 ? uint32_t{bytes[i]} << 8 : bytes[i];
  }
  while (sum > 0xffff) {
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

inline void put16(Bytes& bytes, size_t at, uint32_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

inline void put32(Bytes& bytes, size_t at, uint32_t value) {
  put16(bytes, at, value >> 16);
  put16(bytes, at + 2, value);
}

inline uint32_t get16(const Bytes& bytes, size_t at) {
  return uint32_t{bytes[at]} << 8 | bytes[at + 1];
}

inline Bytes random_bytes(std::mt19937& random, size_t length) {
  Bytes bytes(length);
  for (uint8_t& byte : bytes) {
    byte = static_cast<uint8_t>(random());
  }
  return bytes;
}

// One packet in words. What is not said has a plain value.
struct Packet {
  Family family = Family::v4;
  uint8_t protocol = kProtocolTcp;
  uint8_t source = 1, destination = 2;  // the last byte of 10.0.0.x and fd00::x
  uint16_t source_port = 1000, destination_port = 2000;
  uint8_t tos = 0, ttl = 64;
  uint16_t id = 7;
  uint16_t fragment = kIpv4DontFragment;
  uint32_t flow_label = 0;
  Bytes ip_options;  // v4, a multiple of four bytes
  uint32_t sequence = 100, acknowledgement = 5;
  uint8_t flags = kTcpAck;
  uint16_t window = 512;
  Bytes tcp_options;  // a multiple of four bytes
  bool udp_checksum = true;
  Bytes payload;

  size_t ip_bytes() const { return family == Family::v4 ? 20 + ip_options.size() : 40; }
  size_t l4_bytes() const {
    return protocol == kProtocolTcp ? 20 + tcp_options.size() : protocol == kProtocolUdp ? 8 : 0;
  }
  size_t header_bytes() const { return ip_bytes() + l4_bytes(); }
  // Where the L4 checksum stands.
  size_t checksum_at() const { return ip_bytes() + (protocol == kProtocolTcp ? 16 : 6); }
};

inline uint32_t pseudo_sum(const Bytes& packet, Family family, uint8_t protocol, size_t l4_at) {
  const size_t addresses = family == Family::v4 ? 12 : 8;
  const size_t length = family == Family::v4 ? 8 : 32;
  const auto l4_length = static_cast<uint32_t>(packet.size() - l4_at);
  return uint32_t{naive_sum(packet.data() + addresses, length)} + protocol + (l4_length >> 16) +
         (l4_length & 0xffff);
}

// True when the checksum over L4 and pseudo-header comes out right.
inline bool l4_checksum_right(const Bytes& packet, Family family, uint8_t protocol, size_t l4_at) {
  return naive_sum(packet.data() + l4_at, packet.size() - l4_at,
                   pseudo_sum(packet, family, protocol, l4_at)) == 0xffff;
}

inline void fix_ip_checksum(Bytes& packet) {
  const size_t length = (packet[0] & 15u) * 4;
  put16(packet, 10, 0);
  put16(packet, 10, ~naive_sum(packet.data(), length) & 0xffff);
}

inline void fix_l4_checksum(Bytes& packet, const Packet& words) {
  const size_t l4 = words.ip_bytes();
  put16(packet, words.checksum_at(), 0);
  uint32_t sum = ~naive_sum(packet.data() + l4, packet.size() - l4,
                            pseudo_sum(packet, words.family, words.protocol, l4)) &
                 0xffff;
  if (words.protocol == kProtocolUdp && sum == 0) {
    sum = 0xffff;
  }
  put16(packet, words.checksum_at(), sum);
}

inline Bytes build(const Packet& words) {
  Bytes packet(words.header_bytes() + words.payload.size());
  std::copy(words.payload.begin(), words.payload.end(),
            packet.begin() + static_cast<ptrdiff_t>(words.header_bytes()));
  const size_t l4 = words.ip_bytes();
  if (words.family == Family::v4) {
    packet[0] = static_cast<uint8_t>(0x40 | words.ip_bytes() / 4);
    packet[1] = words.tos;
    put16(packet, 2, static_cast<uint32_t>(packet.size()));
    put16(packet, 4, words.id);
    put16(packet, 6, words.fragment);
    packet[8] = words.ttl;
    packet[9] = words.protocol;
    const uint8_t addresses[8] = {10, 0, 0, words.source, 10, 0, 0, words.destination};
    std::copy(std::begin(addresses), std::end(addresses), packet.begin() + 12);
    std::copy(words.ip_options.begin(), words.ip_options.end(), packet.begin() + 20);
    fix_ip_checksum(packet);
  } else {
    put32(packet, 0, 0x60000000u | uint32_t{words.tos} << 20 | words.flow_label);
    put16(packet, 4, static_cast<uint32_t>(packet.size() - 40));
    packet[6] = words.protocol;
    packet[7] = words.ttl;
    packet[8] = packet[24] = 0xfd;
    packet[23] = words.source;
    packet[39] = words.destination;
  }
  if (words.protocol == kProtocolTcp) {
    put16(packet, l4, words.source_port);
    put16(packet, l4 + 2, words.destination_port);
    put32(packet, l4 + 4, words.sequence);
    put32(packet, l4 + 8, words.acknowledgement);
    packet[l4 + 12] = static_cast<uint8_t>(words.l4_bytes() / 4 << 4);
    packet[l4 + 13] = words.flags;
    put16(packet, l4 + 14, words.window);
    std::copy(words.tcp_options.begin(), words.tcp_options.end(),
              packet.begin() + static_cast<ptrdiff_t>(l4 + 20));
    fix_l4_checksum(packet, words);
  } else if (words.protocol == kProtocolUdp) {
    put16(packet, l4, words.source_port);
    put16(packet, l4 + 2, words.destination_port);
    put16(packet, l4 + 4, static_cast<uint32_t>(packet.size() - l4));
    if (words.udp_checksum) {
      fix_l4_checksum(packet, words);
    }
  }
  return packet;
}

// What the kernel's GSO would make of a super-packet.
inline std::vector<Bytes> naive_segments(const Packet& super, size_t gso_size) {
  std::vector<Bytes> segments;
  for (size_t at = 0; at < super.payload.size(); at += gso_size) {
    const size_t end = std::min(at + gso_size, super.payload.size());
    Packet segment = super;
    segment.payload.assign(super.payload.begin() + static_cast<ptrdiff_t>(at),
                           super.payload.begin() + static_cast<ptrdiff_t>(end));
    segment.id = static_cast<uint16_t>(super.id + segments.size());
    segment.sequence = super.sequence + static_cast<uint32_t>(at);
    if (at > 0) {
      segment.flags &= static_cast<uint8_t>(~kTcpCwr);
    }
    if (end < super.payload.size()) {
      segment.flags &= static_cast<uint8_t>(~(kTcpFin | kTcpPsh));
    }
    segments.push_back(build(segment));
  }
  return segments;
}

inline Gso gso_of(const Packet& words) {
  return words.protocol == kProtocolUdp ? Gso::udp
         : words.family == Family::v4   ? Gso::tcp4
                                        : Gso::tcp6;
}

}  // namespace sallyport::test
