#include "dataplane/net/l4.h"

#include <cstddef>

#include "dataplane/net/headers.h"

namespace sallyport {
namespace {

using Identity = L4Layout::Identity;
using Check = L4Layout::Check;

// Echo, timestamp, information and address mask, request and reply (RFC 792, RFC 950); echo (RFC 4443).
bool is_query(Family family, uint8_t type) {
  return family == Family::v4 ? type == 0 || type == 8 || (type >= 13 && type <= 18)
                              : type == 128 || type == 129;
}

}  // namespace

L4Layout l4_layout(Family family, uint8_t protocol, const uint8_t* l4, uint32_t available) {
  switch (protocol) {
    case kProtocolTcp:
      return {Identity::ports,
              Check::internet,
              offsetof(TcpHeader, checksum),
              sizeof(TcpHeader),
              true,
              false};
    case kProtocolUdp:
    case kProtocolUdpLite:  // where zero is not allowed, so one that has it keeps it
      return {Identity::ports,
              Check::internet,
              offsetof(UdpHeader, checksum),
              sizeof(UdpHeader),
              true,
              true};
    case kProtocolDccp:
      return {Identity::ports, Check::internet, 6, 12, true, false};
    case kProtocolSctp:
      return {Identity::ports, Check::crc32c, 8, 12, false, false};
    case kProtocolIcmp:
    case kProtocolIcmpv6:
      if ((protocol == kProtocolIcmp) == (family == Family::v4)) {
        const bool id = available > 0 && is_query(family, l4[0]);
        return {id ? Identity::id : Identity::none,
                Check::internet,
                offsetof(IcmpHeader, checksum),
                sizeof(IcmpHeader),
                family == Family::v6,
                false};
      }
      return {};
    default:
      return {};
  }
}

}  // namespace sallyport
