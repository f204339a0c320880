// parse: what the stages need to know of a packet's headers, checked once.
//
// Accepts bytes from anyone: the inside of a tunnel packet is a peer's word. After parse() said yes, the IP header is
// whole, its lengths agree with the bytes there are, and l4_offset lies inside the packet.
#pragma once

#include "dataplane/net/run.h"

namespace sallyport {

// The length the IP header claims, 0 when this is no IP header at all or it claims more than there is.
uint32_t ip_length(const uint8_t* packet, uint32_t available);

// Fills family, protocol, tos, fragment and l4_offset from run.head. False: malformed.
bool parse(Run& run);

// The same for the beginning of a packet, as ICMP errors quote it: run.head_bytes are there, however long it says it is.
bool parse_quoted(Run& run);

// Is it between two single hosts, so that its sender may be told something about it? (RFC 1122 3.2.2, RFC 4443 2.4)
bool may_answer(const Run& run);

// RFC 6040. The tos for the outer header that carries a packet of `inner_tos`: ECN copied, DSCP not.
inline uint8_t ecn_encapsulate(uint8_t inner_tos) {
  return inner_tos & 3;
}
// Writes what the inner ECN field becomes; false when the packet must be dropped (CE outside, not ECN-capable inside).
bool ecn_decapsulate(Run& run, uint8_t outer_tos);

}  // namespace sallyport
