// Destination: where the first run of a flow is really going, by dnat rules, or because it is for the outer end of another insider
// (path/nat.h says who is one). Asked before the rules of policy; what follows from it is the flow's.
//
// Thread rules: on the thread of the context, an RCU reader.
#pragma once

#include "dataplane/path/context.h"

namespace sallyport {

struct Policy;

void translate_destination(Context& context, const Policy& policy, Run& run);

}  // namespace sallyport
