// track: which flow each run is of. The first of the stages between parse and seal that knows more than one packet.
//
// A run whose flow is known is translated as its flow is (net/rewrite.h), and needs no rules: a reply goes back where the flow
// came from (that peer, or the host by that tunnel's port), the others by the exit that the flow remembers, as long as policy
// is what it was and the exit works. The first run of a flow is told where it is really going (dnat, path/nat.h) and leaves
// its tuple for `nat`, which makes the flow. An ICMP error belongs to the flow of the packet it quotes. Fragments find the
// ports of their packet in a table (table/fragment_table.h); one that comes before the first is dropped.
//
// Without a policy, or with one that keeps no flows, nothing happens here.
//
// Zones keep a packet apart that passes twice under one tuple, because the host's kernel forwarded it from one tunnel into another:
// what the host sends in is one, what comes out of tunnels the other.
//
// Costs: a lookup a run, overlapped over the burst (bench flow).
// Thread rules: on the thread of the context, an RCU reader.
#pragma once

#include "dataplane/net/rewrite.h"
#include "dataplane/path/context.h"
#include "dataplane/table/flow_table.h"

namespace sallyport {

struct Policy;

inline constexpr unsigned kZoneHost = 0;
inline constexpr unsigned kZoneTunnel = 1;

void track(Context& context);

// Is this what the rules said for the flow's last packet, and does it still count?
bool is_current(const Context& context, const Policy& policy, const FlowVerdict& verdict);

// Whether a run that nothing was done with yet is of a known flow, or an error about one. Fragments are not.
bool is_of_flow(const Policy& policy, Run& run);

// The flow of a run; empty: none, or not yet.
inline FlowRef flow_of(const Run& run) {
  return FlowRef{run.flow};
}

// The ends of a packet that came in with the other direction's tuple, as they are when it leaves.
Ends translated_ends(const FlowTuple& opposite);

}  // namespace sallyport
