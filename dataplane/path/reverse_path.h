// ReversePath: may a peer begin a flow from that source at all? Asked of the first packet of a flow, behind route.
//
// What would go to its source now, from where the packet itself goes, is asked of policy and allowed-IPs. Strict: it would go to
// that very peer (of a group of exits: any member may). Loose: it would go anywhere at all. WireGuard binds sources to
// keys by allowed-IPs already; this catches what several peers are allowed to send and policy lets only one of them have, and
// sources that nothing could be sent back to. What is of a known flow is never asked about: its way back is the flow's.
//
// Costs: one more search of the rules a flow, nothing for others; nothing is counted, no member of a group remembered.
// Thread rules: on the thread of the context, an RCU reader.
#pragma once

#include <cstdint>

#include "dataplane/path/context.h"

namespace sallyport {

enum class ReversePath : uint8_t { off, loose, strict };

void check_reverse_path(Context& context);

}  // namespace sallyport
