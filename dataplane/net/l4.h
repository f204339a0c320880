// L4Layout: where an L4 header has what address translation looks at and changes: ports or an id, and a checksum.
//
// Knows TCP, UDP, UDP-Lite, DCCP, SCTP and ICMP of either family; of anything else it says that there is nothing.
#pragma once

#include <cstdint>

#include "dataplane/net/address.h"

namespace sallyport {

struct L4Layout {
  enum class Identity : uint8_t {
    none,
    ports,  // source and destination, in the first four bytes
    id,     // of an ICMP query, at kIcmpId: the same in request and reply
  };
  enum class Check : uint8_t { none, internet, crc32c };

  static constexpr uint8_t kIcmpId = 4;

  Identity identity = Identity::none;
  Check check = Check::none;
  uint8_t check_offset = 0;
  uint8_t header_bytes = 0;       // at least: all of the above, and what every such header has
  bool covers_addresses = false;  // the checksum includes the pseudo-header
  bool zero_is_none =
      false;  // a checksum of zero says that there is none; a sum of zero is sent as 0xffff
};

// `l4` has `available` bytes; an ICMP header that lacks its type counts as one without an id.
L4Layout l4_layout(Family family, uint8_t protocol, const uint8_t* l4, uint32_t available);

}  // namespace sallyport
