// mss: the largest segment that a TCP connection asks for, made no larger than what fits an MTU (RFC 9293 3.7.1, RFC 6691).
//
// For SYN and SYN-ACK; whatever else costs one look at the flags. Never raised. Where the option is missing, the other side
// assumes 536 bytes (IPv4) or 1220 (IPv6): only a smaller MTU than goes with those makes a difference, and then the option
// is put in, unless the segment carries data or its header is full. Options that lie about their lengths end the search.
#pragma once

#include <optional>

#include "dataplane/net/run.h"

namespace sallyport {

// The option's bytes, which a missing one takes from before the packet.
inline constexpr uint32_t kMssOptionBytes = 4;

// May this be about an MSS at all? Assumed: parse() has passed the run.
inline bool is_syn(const Run& run) {
  constexpr uint8_t kTcp = 6, kSyn = 0x02;
  return run.protocol == kTcp && run.l4_offset + 20u <= run.head_bytes &&
         (run.head[run.l4_offset + 13] & kSyn) != 0;
}

// The MSS that this SYN says, if it says one.
std::optional<uint16_t> mss_of(const Run& run);

// True when the run was changed. Assumed: kMssOptionBytes before `run.head` may be written to, as they may in every burst.
bool clamp_mss(Run& run, uint32_t mtu);

}  // namespace sallyport
