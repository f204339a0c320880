// Probe: an ICMP echo request through an exit, and its answer among the packets that come back (RFC 792, RFC 4443 4).
//
// The tag is a secret of this process, so that only who received the request can answer it; `id` tells exits apart. Pure
// functions over bytes; a packet that comes in is a stranger's word and is checked in full. Cannot: answers that arrive in
// fragments (a probe is too small to be cut).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/net/address.h"

namespace sallyport {

struct Probe {
  IpAddress source, target;  // of one family
  uint16_t id = 0;
  uint64_t tag = 0;
};

inline constexpr size_t kProbeBytesMax = 40 + 8 + 8;  // IPv6, ICMPv6, tag

// Writes the request and returns its length; 0 without room, or when source and target are not of one family.
size_t build_probe(const Probe& probe, uint16_t sequence, std::span<uint8_t> out);

// The sequence number, when `packet` is an answer to this probe: from the target, to the source, whole, with right
// checksums, id and tag. Bytes beyond the IP header's length (WireGuard's padding) are ignored.
std::optional<uint16_t> read_probe_answer(const Probe& probe, std::span<const uint8_t> packet);

}  // namespace sallyport
