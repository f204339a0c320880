// A TCP reset in the name of the host that was called (RFC 9293 3.10.7.1): how a rule says no to TCP at once.
#pragma once

#include <span>

#include "dataplane/net/run.h"

namespace sallyport {

inline constexpr size_t kResetBytesMax = 60;

// Builds the reset that answers the segment of `run` into `out` and returns its length; 0 where there is nothing to
// reset: no whole TCP header, a reset itself, a multicast, broadcast or unspecified address.
size_t tcp_reset(const Run& run, std::span<uint8_t> out);

}  // namespace sallyport
