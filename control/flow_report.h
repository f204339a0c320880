// FlowReport: flows as `sallyport show flows` lists them (docs/control.md has the members), and how they are forgotten.
//
// Bounded: kFlowsShown are listed, the others that match are counted. The number of a NAT rule is the one it had when its flow
// began; its name is that of the rule which has this number now, so it is right until a reload moves rules.
//
// Thread rules: control's thread, which becomes an RCU reader for the call; passes quiescent states.
#pragma once

#include <span>

#include "control/flow_query.h"
#include "control/status.h"
#include "dataplane/base/clock.h"

namespace sallyport {

// An object: flows, more (that match and are not listed), total (in the table).
Json flows_json(const Policy& policy, const PolicyNames& names, std::span<const config::Nat> nats,
                const FlowFilter& filter, Time now);

// How many were forgotten.
size_t flush_flows(const Policy& policy, const FlowFilter& filter);

}  // namespace sallyport
