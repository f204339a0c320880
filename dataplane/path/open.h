// open: sealed datagrams become plain runs.
//
// All of a burst are opened in one call of the cipher. Then, in order: tag, replay window, confirmation of a new session,
// endpoint, timers, counters; and for what is inside: IP header, source among the peer's allowed-IPs, ECN. What passes is
// joined into runs. Whitepaper section 5.4.6 and 6.5; RFC 6040.
#pragma once

#include "dataplane/path/context.h"

namespace sallyport {

// Takes context.datagrams, appends to context.burst. Each run names the peer it came from.
void open(Context& context);

}  // namespace sallyport
