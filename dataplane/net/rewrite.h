// rewrite: other addresses and ports for a packet, and every checksum still what it was: right, wrong or still to be finished.
//
// For any shape of run, by its head alone: the payload is not read. Checksums change by what the words they cover change by
// (RFC 1624), so damage on the way stays visible, and a first fragment needs no other. Where the L4 field holds only the
// pseudo-header's sum (super-packets, joined runs, Offload::needs_checksum) that sum is kept true. SCTP's CRC is linear, so
// it too follows from the ports and the length. A fragment beyond the first has no L4 header: only its addresses change.
//
// Cannot: change a packet that is still to visit addresses of a source route, since its L4 checksum is made with the last of
// them (RFC 8200 8.1); know the length of an SCTP packet in fragments; mend what other protocols compute over addresses
// (AH, OSPF and PIM over IPv6, Mobile IPv6's home address), which pass with new addresses in their IP header.
#pragma once

#include "dataplane/base/endian.h"
#include "dataplane/net/run.h"

namespace sallyport {

// The ends of a packet, as they stand in it. Addresses are of its family.
struct Ends {
  const uint8_t* source = nullptr;  // null, to rewrite(): stays
  const uint8_t* destination = nullptr;
  be16 source_port{0};  // an ICMP query has its id in both; what has no ports, zero
  be16 destination_port{0};
};

enum class Rewritten : uint8_t {
  done,
  too_short,        // the L4 header is not all there
  source_routed,    // a source route with addresses still to visit
  sctp_fragmented,  // new ports for an SCTP packet in fragments
};

// What `run` has, with pointers into it. The L4 header may be missing or cut short: then there are no ports.
Ends ends_of(const Run& run);

// Makes the ends of `run` those of `to`; an ICMP query's id becomes the source port. Unless it says done, nothing was
// changed. Assumed: parse() has passed the run; `to` points to memory outside it.
Rewritten rewrite(Run& run, const Ends& to);

// The same for the beginning of a packet in an ICMP error: checksums that were cut off are passed over, and so is whether
// it was source-routed. Assumed: parse_quoted() has passed it.
Rewritten rewrite_quoted_head(Run& quoted, const Ends& to);

}  // namespace sallyport
