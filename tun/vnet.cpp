#include "tun/vnet.h"

#include <netinet/in.h>

#include "dataplane/net/checksum.h"

namespace sallyport {
namespace {

constexpr uint8_t kNeedsChecksum = 1;
constexpr uint8_t kDataValid = 2;

constexpr uint8_t kGsoNone = 0;
constexpr uint8_t kGsoTcp4 = 1;
constexpr uint8_t kGsoTcp6 = 4;
constexpr uint8_t kGsoUdp = 5;
constexpr uint8_t kGsoEcn =
    0x80;  // TCP with CWR set: a property of the segment cut first, not another kind

constexpr size_t kIpv4Header = 20;
constexpr size_t kIpv6Header = 40;
constexpr size_t kTcpHeader = 20;
constexpr size_t kUdpHeader = 8;
constexpr uint16_t kTcpChecksum = 16;  // offset of the field in the L4 header
constexpr uint16_t kUdpChecksum = 6;

unsigned ip_version(std::span<const uint8_t> packet) {
  return packet[0] >> 4;
}

// Where the L4 header starts is where the header says that the checksum does; the IP header must
// agree.
bool l4_follows_ip(std::span<const uint8_t> packet, size_t l4, uint8_t protocol) {
  if (ip_version(packet) == 4) {
    const bool fragment = (packet[6] & 0x3f) != 0 || packet[7] != 0;
    return l4 >= kIpv4Header && (packet[0] & 15u) * 4u == l4 && packet[9] == protocol && !fragment;
  }
  return ip_version(packet) == 6 && l4 >= kIpv6Header &&
         (l4 > kIpv6Header || packet[6] == protocol);
}

// Bytes of IP and L4 headers of a super-packet, 0 when it is not the kind it claims to be.
size_t headers_of(Gso kind, std::span<const uint8_t> packet, size_t l4, uint16_t checksum_offset) {
  if (packet.size() < kIpv4Header || (kind == Gso::tcp4 && ip_version(packet) != 4) ||
      (kind == Gso::tcp6 && ip_version(packet) != 6)) {
    return 0;
  }
  if (kind == Gso::udp) {
    const bool sound = checksum_offset == kUdpChecksum && l4_follows_ip(packet, l4, IPPROTO_UDP) &&
                       l4 + kUdpHeader <= packet.size();
    return sound ? l4 + kUdpHeader : 0;
  }
  if (checksum_offset != kTcpChecksum || !l4_follows_ip(packet, l4, IPPROTO_TCP) ||
      l4 + kTcpHeader > packet.size()) {
    return 0;
  }
  const size_t tcp = (packet[l4 + 12] >> 4) * 4u;
  return tcp >= kTcpHeader && l4 + tcp <= packet.size() ? l4 + tcp : 0;
}

bool kind_of(uint8_t gso_type, Gso& kind) {
  switch (gso_type) {
    case kGsoNone:
      kind = Gso::none;
      return true;
    case kGsoTcp4:
    case kGsoTcp4 | kGsoEcn:
      kind = Gso::tcp4;
      return true;
    case kGsoTcp6:
    case kGsoTcp6 | kGsoEcn:
      kind = Gso::tcp6;
      return true;
    case kGsoUdp:
      kind = Gso::udp;
      return true;
    default:
      return false;
  }
}

}  // namespace

bool read_vnet(const VnetHeader& header, std::span<const uint8_t> packet, Offload& out) {
  out = {};
  if (packet.empty() || packet.size() > kIpPacketMax ||
      (header.flags & ~(kNeedsChecksum | kDataValid)) != 0) {
    return false;
  }
  out.checksum_valid = (header.flags & kDataValid) != 0;
  if ((header.flags & kNeedsChecksum) != 0) {
    const size_t field_end = size_t{header.checksum_start} + header.checksum_offset + 2;
    if (header.checksum_start < kIpv4Header || field_end > packet.size()) {
      return false;
    }
    out.needs_checksum = true;
    out.checksum_start = header.checksum_start;
    out.checksum_offset = header.checksum_offset;
  }
  Gso kind;
  if (!kind_of(header.gso_type, kind)) {
    return false;
  }
  if (kind == Gso::none) {
    return true;
  }
  const size_t headers = headers_of(kind, packet, header.checksum_start, header.checksum_offset);
  if (!out.needs_checksum || header.gso_size == 0 || headers == 0) {
    return false;
  }
  if (packet.size() - headers > header.gso_size) {
    out.gso = kind;
    out.gso_size = header.gso_size;
  }
  return true;
}

VnetHeader write_vnet(const Offload& offload) {
  VnetHeader header{};
  if (offload.needs_checksum || offload.gso != Gso::none) {
    header.flags = kNeedsChecksum;
    header.checksum_start = offload.checksum_start;
    header.checksum_offset = offload.checksum_offset;
  }
  if (offload.gso != Gso::none) {
    header.gso_type = offload.gso == Gso::tcp4   ? kGsoTcp4
                      : offload.gso == Gso::tcp6 ? kGsoTcp6
                                                 : kGsoUdp;
    header.header_bytes = offload.header_bytes;
    header.gso_size = offload.gso_size;
  }
  return header;
}

bool complete_checksum(std::span<const Slice> slices, const Offload& offload) {
  const size_t start = offload.checksum_start;
  const size_t field_at = start + offload.checksum_offset;
  uint8_t* field = nullptr;
  uint64_t sum = 0;
  size_t at = 0;  // of the slice, in the packet
  for (const Slice& slice : slices) {
    const size_t end = at + slice.length;
    if (field_at >= at && field_at + 2 <= end) {
      field = slice.data + (field_at - at);
    }
    if (end > start) {
      const size_t skip = start > at ? start - at : 0;
      const uint16_t part = checksum_fold(checksum_add(0, slice.data + skip, slice.length - skip));
      const bool odd = ((at + skip - start) & 1) != 0;
      sum += odd ? __builtin_bswap16(part) : part;
    }
    at = end;
  }
  if (field == nullptr) {
    return false;
  }
  checksum_store(field, sum, offload.checksum_offset == kUdpChecksum);
  return true;
}

}  // namespace sallyport
