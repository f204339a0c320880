// ICMP errors that the data plane originates (RFC 792, RFC 1812 4.3, RFC 4443).
#pragma once

#include <span>

#include "dataplane/net/run.h"

namespace sallyport {

enum class IcmpError : uint8_t {
  unreachable,       // no way there: host unreachable, or address unreachable
  prohibited,        // a rule says no: communication administratively prohibited
  time_exceeded,     // TTL or hop limit used up
  too_big,           // larger than the MTU: fragmentation needed (RFC 1191), or packet too big
  port_unreachable,  // nobody listens there
};

// Builds that error about the packet of `run` into `out` and returns its length; 0 where none may be sent: about an ICMP error or redirect, a fragment beyond the first, a multicast, broadcast or
// unspecified address. It comes from the address that could not be reached: one of our own would be a martian to the host.
// `mtu` is what too_big tells; whether an IPv4 packet may not be fragmented is for the caller to see.
size_t icmp_error(IcmpError error, const Run& run, std::span<uint8_t> out, uint32_t mtu = 0);

inline constexpr size_t kIcmpErrorBytesMax = 1280;

}  // namespace sallyport
