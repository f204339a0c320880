#include "dataplane/net/reset.h"

#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "dataplane/net/parse.h"

namespace sallyport {

size_t tcp_reset(const Run& run, std::span<uint8_t> out) {
  if (run.protocol != kProtocolTcp || run.l4_offset + sizeof(TcpHeader) > run.head_bytes ||
      !may_answer(run)) {
    return 0;
  }
  const auto* asked = reinterpret_cast<const TcpHeader*>(run.head + run.l4_offset);
  const bool v4 = run.family == Family::v4;
  const size_t ip_bytes = v4 ? sizeof(Ipv4Header) : sizeof(Ipv6Header);
  if ((asked->flags & kTcpRst) != 0 || asked->header_bytes() < sizeof(TcpHeader) ||
      run.l4_offset + asked->header_bytes() > run.bytes ||
      out.size() < ip_bytes + sizeof(TcpHeader)) {
    return 0;
  }
  std::memset(out.data(), 0, ip_bytes + sizeof(TcpHeader));
  auto* reset = reinterpret_cast<TcpHeader*>(out.data() + ip_bytes);
  reset->source_port = asked->destination_port;
  reset->destination_port = asked->source_port;
  reset->data_offset = (sizeof(TcpHeader) / 4) << 4;
  if ((asked->flags & kTcpAck) != 0) {
    reset->sequence = asked->acknowledgement;
    reset->flags = kTcpRst;
  } else {
    const uint32_t length = run.bytes - run.l4_offset - asked->header_bytes() +
                            ((asked->flags & kTcpSyn) != 0 ? 1 : 0) +
                            ((asked->flags & kTcpFin) != 0 ? 1 : 0);
    reset->acknowledgement = uint32_t{asked->sequence} + length;
    reset->flags = kTcpRst | kTcpAck;
  }
  if (v4) {
    auto* ip = reinterpret_cast<Ipv4Header*>(out.data());
    ip->version_ihl = 0x45;
    ip->total_length = static_cast<uint16_t>(ip_bytes + sizeof(TcpHeader));
    ip->fragment = kIpv4DontFragment;
    ip->ttl = 64;
    ip->protocol = kProtocolTcp;
    std::memcpy(ip->source, run.destination(), 4);
    std::memcpy(ip->destination, run.source(), 4);
    checksum_ipv4(out.data(), ip_bytes);
  } else {
    auto* ip = reinterpret_cast<Ipv6Header*>(out.data());
    ip->version_class_flow = 0x60000000;
    ip->payload_length = sizeof(TcpHeader);
    ip->next_header = kProtocolTcp;
    ip->hop_limit = 64;
    std::memcpy(ip->source, run.destination(), 16);
    std::memcpy(ip->destination, run.source(), 16);
  }
  const uint64_t pseudo = checksum_pseudo(out.data(), run.family, kProtocolTcp, sizeof(TcpHeader));
  checksum_store(out.data() + ip_bytes + offsetof(TcpHeader, checksum),
                 checksum_add(pseudo, out.data() + ip_bytes, sizeof(TcpHeader)));
  return ip_bytes + sizeof(TcpHeader);
}

}  // namespace sallyport
