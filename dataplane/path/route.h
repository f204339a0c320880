// route: where each run goes. From the host: to the peer whose allowed-IPs cover the destination. From a peer: to the host.
//
// A run that has nowhere to go is discarded here, and the host told by ICMP, as the kernel module does.
#pragma once

#include "dataplane/path/context.h"

namespace sallyport {

void route(Context& context);

// Tells the host that the destination of `run` cannot be reached, if ICMP allows it and not too often.
void tell_unreachable(Context& context, const Run& run);

}  // namespace sallyport
