// egress: out of the line. Sealed trains to the outer port, runs for the host to the plain port.
#pragma once

#include "dataplane/path/context.h"

namespace sallyport {

// Runs the cipher over what seal() has laid out, all of it for peers of one tunnel, sends the trains, settles counters and
// timers, frees the trains' buffers.
void egress_outer(Context& context);

// Hands every run without a peer to the host.
void egress_plain(Context& context);

// What becomes of every run of the burst, up to the point where it leaves. For `explain` it ends there.
void decide(Context& context);

// The line from here on is the same for every run, wherever it came from (docs/packet.md).
void advance(Context& context);

}  // namespace sallyport
