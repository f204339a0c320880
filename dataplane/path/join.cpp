#include "dataplane/path/join.h"

#include <algorithm>
#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"

namespace sallyport {
namespace {

constexpr uint32_t kJoinedBytesMax = 65'535;

const TcpHeader* tcp_of(const Run& run) {
  return reinterpret_cast<const TcpHeader*>(run.head + run.l4_offset);
}

uint32_t address_offset(const Run& run) {
  return run.family == Family::v4 ? 12 : 8;
}

// Also when `b` has IP options or extension headers: then it ends what is open.
bool same_flow(const Run& a, const Run& b) {
  return a.from == b.from && a.family == b.family && a.protocol == b.protocol &&
         b.l4_offset + 4u <= b.head_bytes &&
         std::memcmp(a.head + address_offset(a), b.head + address_offset(b),
                     a.family == Family::v4 ? 8 : 32) == 0 &&
         std::memcmp(a.head + a.l4_offset, b.head + b.l4_offset, 4) == 0;
}

bool same_ip_fields(const Run& a, const Run& b, uint32_t segment) {
  if (a.tos != b.tos) {
    return false;
  }
  if (a.family == Family::v6) {  // traffic class and flow label, hop limit
    return std::memcmp(a.head, b.head, 4) == 0 && a.head[7] == b.head[7];
  }
  const auto* first = reinterpret_cast<const Ipv4Header*>(a.head);
  const auto* next = reinterpret_cast<const Ipv4Header*>(b.head);
  const bool unfragmentable = (first->fragment & kIpv4DontFragment) != 0;
  return first->ttl == next->ttl && first->fragment == next->fragment &&
         (unfragmentable || static_cast<uint16_t>(first->id + segment) == next->id);
}

bool same_tcp_fields(const Run& a, const Run& b, uint32_t header_bytes) {
  const TcpHeader* first = tcp_of(a);
  const TcpHeader* next = tcp_of(b);
  const uint32_t options = a.l4_offset + uint32_t{sizeof(TcpHeader)};
  return first->acknowledgement == next->acknowledgement && first->window == next->window &&
         first->data_offset == next->data_offset && first->urgent == next->urgent &&
         std::memcmp(a.head + options, b.head + options, header_bytes - options) == 0;
}

bool checksum_right(const Run& packet) {
  const uint32_t length = packet.head_bytes - packet.l4_offset;
  const uint64_t pseudo = checksum_pseudo(packet.head, packet.family, packet.protocol, length);
  return checksum_fold(checksum_add(pseudo, packet.head + packet.l4_offset, length)) == 0xffff;
}

}  // namespace

bool Joiner::qualifies(const Run& packet, uint32_t& header_bytes) const {
  if (packet.family == Family::v4) {
    const auto* ip = reinterpret_cast<const Ipv4Header*>(packet.head);
    if (packet.l4_offset != sizeof(Ipv4Header) ||
        (ip->fragment & (kIpv4MoreFragments | kIpv4FragmentOffset)) != 0 ||
        checksum_fold(checksum_add(0, packet.head, sizeof(Ipv4Header))) != 0xffff) {
      return false;
    }
  } else if (packet.l4_offset != sizeof(Ipv6Header)) {
    return false;
  }
  if (packet.protocol == kProtocolTcp && (packet.family == Family::v4 ? tcp4_ : tcp6_)) {
    if (packet.head_bytes < packet.l4_offset + sizeof(TcpHeader)) {
      return false;
    }
    const TcpHeader* tcp = tcp_of(packet);
    header_bytes = packet.l4_offset + tcp->header_bytes();
    return tcp->header_bytes() >= sizeof(TcpHeader) && header_bytes < packet.head_bytes &&
           (tcp->flags & ~kTcpPsh) == kTcpAck && checksum_right(packet);
  }
  if (packet.protocol == kProtocolUdp && udp_) {
    header_bytes = packet.l4_offset + uint32_t{sizeof(UdpHeader)};
    if (header_bytes >= packet.head_bytes) {
      return false;
    }
    const auto* udp = reinterpret_cast<const UdpHeader*>(packet.head + packet.l4_offset);
    return udp->checksum != 0 && udp->length == packet.head_bytes - packet.l4_offset &&
           checksum_right(packet);
  }
  return false;
}

Joiner::Open* Joiner::find(const Run& packet) {
  for (Open& open : open_) {
    if (open.run != nullptr && same_flow(*open.run, packet)) {
      return &open;
    }
  }
  return nullptr;
}

bool Joiner::append(Open& open, const Run& packet, uint32_t header_bytes) {
  Run& run = *open.run;
  const uint32_t payload = packet.head_bytes - header_bytes;
  const bool tcp = packet.protocol == kProtocolTcp;
  if (open.closed || header_bytes != open.header_bytes || payload > open.gso_size ||
      run.bytes + payload > kJoinedBytesMax || burst_.piece_count + 2 > Burst::kPiecesMax ||
      !same_ip_fields(run, packet, run.segments)) {
    return false;
  }
  if (tcp && (tcp_of(packet)->sequence != open.next_sequence ||
              !same_tcp_fields(run, packet, header_bytes))) {
    return false;
  }
  if (run.segments == 1) {  // the first packet becomes headers and its first piece
    uint8_t* first_payload = run.head + header_bytes;
    const uint32_t first_bytes = run.head_bytes - header_bytes;
    run.head_bytes = run.bytes = header_bytes;
    burst_.add_piece(run, first_payload, first_bytes);
  }
  burst_.add_piece(run, packet.head + header_bytes, payload);
  ++run.segments;
  open.next_sequence += payload;
  open.closed = payload < open.gso_size;
  if (tcp && (tcp_of(packet)->flags & kTcpPsh) != 0) {
    reinterpret_cast<TcpHeader*>(run.head + run.l4_offset)->flags |= kTcpPsh;
    open.closed = true;
  }
  return true;
}

void Joiner::add(const Run& packet) {
  uint32_t header_bytes = 0;
  const bool joinable = qualifies(packet, header_bytes);
  Open* open = find(packet);
  if (joinable && open != nullptr && append(*open, packet, header_bytes)) {
    return;
  }
  if (open != nullptr && open->run->segments > 1) {
    joined_[joined_count_++] = *open;
  }
  Run& run = burst_.add();
  run = packet;
  run.bytes = run.head_bytes;
  if (!joinable) {
    if (open != nullptr) {
      open->run = nullptr;  // nothing may overtake this packet
    }
    return;
  }
  run.offload.checksum_valid = true;
  if (open == nullptr) {
    open = &open_[next_victim_++ % kFlows];
    if (open->run != nullptr && open->run->segments > 1) {
      joined_[joined_count_++] = *open;
    }
  }
  const bool tcp = packet.protocol == kProtocolTcp;
  *open = {&run, 0, packet.head_bytes - header_bytes, header_bytes, false};
  if (tcp) {
    open->next_sequence = tcp_of(packet)->sequence + open->gso_size;
    open->closed = (tcp_of(packet)->flags & kTcpPsh) != 0;
  }
}

void Joiner::finish() {
  for (const Open& open : open_) {
    if (open.run != nullptr && open.run->segments > 1) {
      joined_[joined_count_++] = open;
    }
  }
  for (size_t i = 0; i < joined_count_; ++i) {
    finish_run(joined_[i]);
  }
}

void Joiner::finish_run(const Open& open) {
  Run& run = *open.run;
  uint8_t* l4 = run.head + run.l4_offset;
  if (run.family == Family::v4) {
    reinterpret_cast<Ipv4Header*>(run.head)->total_length = static_cast<uint16_t>(run.bytes);
    checksum_ipv4(run.head, sizeof(Ipv4Header));
  } else {
    reinterpret_cast<Ipv6Header*>(run.head)->payload_length =
        static_cast<uint16_t>(run.bytes - sizeof(Ipv6Header));
  }
  const bool tcp = run.protocol == kProtocolTcp;
  const uint32_t l4_bytes = run.bytes - run.l4_offset;
  uint16_t checksum_offset = offsetof(TcpHeader, checksum);
  if (!tcp) {
    reinterpret_cast<UdpHeader*>(l4)->length = static_cast<uint16_t>(l4_bytes);
    checksum_offset = offsetof(UdpHeader, checksum);
  }
  // The field holds the pseudo-header's sum, not complemented: whoever cuts the run completes it.
  const uint16_t partial =
      checksum_fold(checksum_pseudo(run.head, run.family, run.protocol, l4_bytes));
  std::memcpy(l4 + checksum_offset, &partial, 2);
  run.offload = {.gso = !tcp                       ? Gso::udp
                        : run.family == Family::v4 ? Gso::tcp4
                                                   : Gso::tcp6,
                 .needs_checksum = true,
                 .checksum_valid = false,
                 .gso_size = static_cast<uint16_t>(open.gso_size),
                 .header_bytes = static_cast<uint16_t>(open.header_bytes),
                 .checksum_start = run.l4_offset,
                 .checksum_offset = checksum_offset};
}

}  // namespace sallyport
