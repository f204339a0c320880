// IP, TCP, UDP and ICMP headers as they lie in a packet (RFC 791, 8200, 9293, 768, 792, 4443).
#pragma once

#include "dataplane/base/endian.h"

namespace sallyport {

struct Ipv4Header {
  uint8_t version_ihl;
  uint8_t tos;
  be16 total_length;
  be16 id;
  be16 fragment;  // flags in the top three bits
  uint8_t ttl;
  uint8_t protocol;
  be16 checksum;
  uint8_t source[4];
  uint8_t destination[4];

  unsigned version() const { return version_ihl >> 4; }
  unsigned header_bytes() const { return (version_ihl & 15u) * 4; }
};
static_assert(sizeof(Ipv4Header) == 20);

inline constexpr uint16_t kIpv4DontFragment = 0x4000;
inline constexpr uint16_t kIpv4MoreFragments = 0x2000;
inline constexpr uint16_t kIpv4FragmentOffset = 0x1fff;

struct Ipv6Header {
  be32 version_class_flow;
  be16 payload_length;
  uint8_t next_header;
  uint8_t hop_limit;
  uint8_t source[16];
  uint8_t destination[16];

  uint8_t traffic_class() const { return static_cast<uint8_t>(version_class_flow >> 20); }
};
static_assert(sizeof(Ipv6Header) == 40);

struct TcpHeader {
  be16 source_port;
  be16 destination_port;
  be32 sequence;
  be32 acknowledgement;
  uint8_t data_offset;
  uint8_t flags;
  be16 window;
  be16 checksum;
  be16 urgent;

  unsigned header_bytes() const { return (data_offset >> 4) * 4u; }
};
static_assert(sizeof(TcpHeader) == 20);

inline constexpr uint8_t kTcpFin = 0x01;
inline constexpr uint8_t kTcpSyn = 0x02;
inline constexpr uint8_t kTcpRst = 0x04;
inline constexpr uint8_t kTcpPsh = 0x08;
inline constexpr uint8_t kTcpAck = 0x10;
inline constexpr uint8_t kTcpCwr = 0x80;

struct UdpHeader {
  be16 source_port;
  be16 destination_port;
  be16 length;
  be16 checksum;
};
static_assert(sizeof(UdpHeader) == 8);

struct IcmpHeader {
  uint8_t type;
  uint8_t code;
  be16 checksum;
  be32 rest;
};
static_assert(sizeof(IcmpHeader) == 8);

inline constexpr uint8_t kProtocolIcmp = 1;
inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr uint8_t kProtocolUdp = 17;
inline constexpr uint8_t kProtocolDccp = 33;
inline constexpr uint8_t kProtocolIcmpv6 = 58;
inline constexpr uint8_t kProtocolSctp = 132;
inline constexpr uint8_t kProtocolUdpLite = 136;

// IPv6 extension headers that may stand before the L4 header (RFC 8200 4).
inline constexpr uint8_t kHopByHop = 0;
inline constexpr uint8_t kRouting = 43;
inline constexpr uint8_t kFragment = 44;
inline constexpr uint8_t kDestinationOptions = 60;

struct Ipv6FragmentHeader {
  uint8_t next_header;
  uint8_t reserved;
  be16 fragment;  // offset in the top thirteen bits, which makes it a number of bytes
  be32 id;
};
static_assert(sizeof(Ipv6FragmentHeader) == 8);

inline constexpr uint16_t kIpv6FragmentOffset = 0xfff8;
inline constexpr uint16_t kIpv6MoreFragments = 0x0001;

}  // namespace sallyport
