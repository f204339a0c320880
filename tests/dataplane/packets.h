// IP packets for tests, made and checked byte by byte, without the code under test.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/net/address.h"
#include "dataplane/net/headers.h"

namespace sallyport::test {

using Bytes = std::vector<uint8_t>;

inline Bytes text(std::string_view letters) {
  return {letters.begin(), letters.end()};
}

inline Bytes pattern(size_t size, uint8_t first = 1) {
  Bytes out(size);
  for (size_t i = 0; i < size; ++i) {
    out[i] = static_cast<uint8_t>(first + i * 7 + (i >> 8));
  }
  return out;
}

inline Bytes joined(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

template <class Header>
Header& at(Bytes& packet, size_t offset) {
  return *reinterpret_cast<Header*>(packet.data() + offset);
}
template <class Header>
const Header& at(const Bytes& packet, size_t offset) {
  return *reinterpret_cast<const Header*>(packet.data() + offset);
}

// RFC 1071, two bytes at a time.
inline uint16_t ones_sum(const uint8_t* bytes, size_t size, uint32_t sum = 0) {
  for (size_t i = 0; i < size; i += 2) {
    sum += static_cast<uint32_t>(bytes[i] << 8) + (i + 1 < size ? bytes[i + 1] : 0u);
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

struct Flow {
  std::string source = "10.0.0.1";
  std::string destination = "10.0.0.2";
  uint16_t source_port = 1111;
  uint16_t destination_port = 2222;
  uint8_t tos = 0;
  uint32_t sequence = 1000;
  uint16_t id = 77;
  uint8_t flags = kTcpAck;

  bool v6() const { return source.find(':') != std::string::npos; }
  size_t ip_bytes() const { return v6() ? 40 : 20; }
};

inline uint16_t pseudo_sum(const Bytes& packet) {
  const bool v6 = packet[0] >> 4 == 6;
  const size_t ip_bytes = v6 ? 40 : 20;
  const uint32_t rest = static_cast<uint32_t>(packet.size() - ip_bytes);
  const uint8_t protocol = v6 ? packet[6] : packet[9];
  return ones_sum(packet.data() + (v6 ? 8 : 12), v6 ? 32 : 8, rest + protocol);
}

// An IP header around `rest`, whose checksum field (if it has one) is at `checksum_at`.
inline Bytes ip_packet(const Flow& flow, uint8_t protocol, const Bytes& rest, int checksum_at) {
  Bytes packet(flow.ip_bytes());
  const IpAddress source = *parse_address(flow.source);
  const IpAddress destination = *parse_address(flow.destination);
  if (flow.v6()) {
    auto& ip = at<Ipv6Header>(packet, 0);
    ip.version_class_flow = 0x60000000u | uint32_t{flow.tos} << 20;
    ip.payload_length = static_cast<uint16_t>(rest.size());
    ip.next_header = protocol;
    ip.hop_limit = 64;
    std::memcpy(ip.source, source.bytes.data(), 16);
    std::memcpy(ip.destination, destination.bytes.data(), 16);
  } else {
    auto& ip = at<Ipv4Header>(packet, 0);
    ip.version_ihl = 0x45;
    ip.tos = flow.tos;
    ip.total_length = static_cast<uint16_t>(rest.size() + 20);
    ip.id = flow.id;
    ip.ttl = 64;
    ip.protocol = protocol;
    std::memcpy(ip.source, source.bytes.data(), 4);
    std::memcpy(ip.destination, destination.bytes.data(), 4);
    ip.checksum = static_cast<uint16_t>(~ones_sum(packet.data(), 20));
  }
  packet.insert(packet.end(), rest.begin(), rest.end());
  if (checksum_at >= 0) {
    const size_t field = flow.ip_bytes() + static_cast<size_t>(checksum_at);
    const uint16_t sum = ones_sum(packet.data() + flow.ip_bytes(), rest.size(), pseudo_sum(packet));
    const auto stored = static_cast<uint16_t>(~sum);
    at<be16>(packet, field) = protocol == kProtocolUdp && stored == 0 ? 0xffff : stored;
  }
  return packet;
}

inline Bytes udp(const Flow& flow, const Bytes& payload) {
  Bytes rest(sizeof(UdpHeader));
  auto& header = at<UdpHeader>(rest, 0);
  header.source_port = flow.source_port;
  header.destination_port = flow.destination_port;
  header.length = static_cast<uint16_t>(8 + payload.size());
  return ip_packet(flow, kProtocolUdp, joined(rest, payload), 6);
}

inline Bytes tcp(const Flow& flow, const Bytes& payload) {
  Bytes rest(sizeof(TcpHeader));
  auto& header = at<TcpHeader>(rest, 0);
  header.source_port = flow.source_port;
  header.destination_port = flow.destination_port;
  header.sequence = flow.sequence;
  header.acknowledgement = 9;
  header.data_offset = 5 << 4;
  header.flags = flow.flags;
  header.window = 500;
  return ip_packet(flow, kProtocolTcp, joined(rest, payload), 16);
}

inline Bytes icmp(const Flow& flow, uint8_t type, uint8_t code, const Bytes& body) {
  const uint8_t protocol = flow.v6() ? kProtocolIcmpv6 : kProtocolIcmp;
  Bytes packet = ip_packet(flow, protocol, joined({type, code, 0, 0, 0, 0, 0, 0}, body), -1);
  const size_t start = flow.ip_bytes();
  at<be16>(packet, start + 2) = static_cast<uint16_t>(
      ~ones_sum(packet.data() + start, packet.size() - start, flow.v6() ? pseudo_sum(packet) : 0u));
  return packet;
}

// Of the IP header, and of TCP, UDP or ICMP behind it. No options or extension headers.
inline bool checksums_right(const Bytes& packet) {
  const bool v6 = packet[0] >> 4 == 6;
  const size_t start = v6 ? 40 : 20;
  if (!v6 && ones_sum(packet.data(), 20) != 0xffff) {
    return false;
  }
  const bool pseudo = v6 || packet[9] != kProtocolIcmp;
  return ones_sum(packet.data() + start, packet.size() - start, pseudo ? pseudo_sum(packet) : 0u) ==
         0xffff;
}

inline Bytes udp_payload(const Bytes& packet) {
  const size_t start = (packet[0] >> 4 == 6 ? 40 : 20) + sizeof(UdpHeader);
  return {packet.begin() + static_cast<ptrdiff_t>(start), packet.end()};
}

}  // namespace sallyport::test
