// icmp_inner: the packet that an ICMP error is about, quoted in it: found, and translated with it (RFC 5508 4, RFC 4884).
//
// Takes bytes from anyone. What is quoted is the beginning of a packet, cut where the sender liked; only errors whose own
// checksum is right, and whose quoted IPv4 header's is, are believed, and the quoted L4 checksum is never verified.
#pragma once

#include "dataplane/net/rewrite.h"
#include "dataplane/net/run.h"

namespace sallyport {

// What an ICMP message is, as far as a quoted packet goes.
enum class Quote : uint8_t {
  found,
  none,       // no error: a query, a redirect, or no ICMP at all
  fragment,   // the error itself comes in fragments: nobody's honest one does
  too_short,  // the quoted packet ends before its ports or id, or is none
  damaged,    // a checksum is wrong
};

struct Quoted {
  // parse() of the quoted packet: family, protocol (0 for a fragment beyond the first), l4_offset. Its head points into the
  // error's, and its head_bytes are those that are quoted.
  Run packet;
  Ends
      ends;  // of the quoted packet, in its own direction; zero ports in a fragment beyond the first
};

// Errors of type 3, 4, 11 and 12, or ICMPv6 types 1 to 4. Assumed: parse() has passed `run`.
Quote find_quoted(const Run& run, Quoted& out);

// Makes the ends of the quoted packet those of `quoted_to`, and the addresses of the error those of `outer_to` (its ports
// are not looked at), with every checksum that is inside, and the error's own. Assumed: find_quoted() has found it. Never
// refuses what was found.
void rewrite_quoted(Run& run, Quoted& quoted, const Ends& quoted_to, const Ends& outer_to);

}  // namespace sallyport
