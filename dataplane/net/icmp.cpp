#include "dataplane/net/icmp.h"

#include <algorithm>
#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "dataplane/net/parse.h"

namespace sallyport {
namespace {

struct TypeAndCode {
  uint8_t type, code;
};
// By IcmpError.
constexpr TypeAndCode kV4[] = {{3, 1}, {3, 13}, {11, 0}, {3, 4}, {3, 3}};
constexpr TypeAndCode kV6[] = {{1, 3}, {1, 1}, {3, 0}, {2, 0}, {1, 4}};
constexpr size_t kV4QuoteMax = 576 - sizeof(Ipv4Header) - sizeof(IcmpHeader);
constexpr size_t kV6QuoteMax = kIcmpErrorBytesMax - sizeof(Ipv6Header) - sizeof(IcmpHeader);

// Or a redirect, or so short that it might be one of them.
bool is_icmp_error(const Run& run) {
  if (run.protocol != kProtocolIcmp && run.protocol != kProtocolIcmpv6) {
    return false;
  }
  if (run.l4_offset >= run.head_bytes) {
    return true;
  }
  const uint8_t type = run.head[run.l4_offset];
  if (run.protocol == kProtocolIcmp) {
    return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
  }
  return type < 128 || type == 137;
}

}  // namespace

size_t icmp_error(IcmpError error, const Run& run, std::span<uint8_t> out, uint32_t mtu) {
  if (run.protocol == 0 || is_icmp_error(run) || !may_answer(run)) {
    return 0;
  }
  const bool v4 = run.family == Family::v4;
  const size_t ip_bytes = v4 ? sizeof(Ipv4Header) : sizeof(Ipv6Header);
  const size_t quote = std::min<size_t>(run.head_bytes, v4 ? kV4QuoteMax : kV6QuoteMax);
  const size_t icmp_bytes = sizeof(IcmpHeader) + quote;
  if (out.size() < ip_bytes + icmp_bytes) {
    return 0;
  }
  std::memset(out.data(), 0, ip_bytes + sizeof(IcmpHeader));
  auto* icmp = reinterpret_cast<IcmpHeader*>(out.data() + ip_bytes);
  const TypeAndCode words = (v4 ? kV4 : kV6)[static_cast<size_t>(error)];
  icmp->type = words.type;
  icmp->code = words.code;
  if (error == IcmpError::too_big) {
    icmp->rest = v4 ? std::min<uint32_t>(mtu, UINT16_MAX) : mtu;
  }
  std::memcpy(icmp + 1, run.head, quote);
  if (v4) {
    auto* ip = reinterpret_cast<Ipv4Header*>(out.data());
    ip->version_ihl = 0x45;
    ip->tos = 0xc0;  // internetwork control, RFC 1812 4.3.2.5
    ip->total_length = static_cast<uint16_t>(ip_bytes + icmp_bytes);
    ip->ttl = 64;
    ip->protocol = kProtocolIcmp;
    std::memcpy(ip->source, run.destination(), 4);
    std::memcpy(ip->destination, run.source(), 4);
    checksum_ipv4(out.data(), ip_bytes);
    checksum_store(out.data() + ip_bytes + 2, checksum_add(0, out.data() + ip_bytes, icmp_bytes));
  } else {
    auto* ip = reinterpret_cast<Ipv6Header*>(out.data());
    ip->version_class_flow = 0x60000000;
    ip->payload_length = static_cast<uint16_t>(icmp_bytes);
    ip->next_header = kProtocolIcmpv6;
    ip->hop_limit = 64;
    std::memcpy(ip->source, run.destination(), 16);
    std::memcpy(ip->destination, run.source(), 16);
    const uint64_t pseudo =
        checksum_pseudo(out.data(), Family::v6, kProtocolIcmpv6, static_cast<uint32_t>(icmp_bytes));
    checksum_store(out.data() + ip_bytes + 2,
                   checksum_add(pseudo, out.data() + ip_bytes, icmp_bytes));
  }
  return ip_bytes + icmp_bytes;
}

}  // namespace sallyport
