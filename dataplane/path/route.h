// route: where each run goes: a peer, or the host by one of its ports. By the exit that policy chose; without one to the peer
// whose allowed-IPs cover the destination when it comes from the host, and to the host when it comes from a peer.
//
// A run that has nowhere to go is discarded here, and its sender told by ICMP. Between two peers we are a router: TTL
// and hop limit count down.
#pragma once

#include "dataplane/net/icmp.h"
#include "dataplane/path/context.h"

namespace sallyport {

struct Exit;

void route(Context& context);

// Whether a destination may be reached through the peer of this exit.
bool lan_allows(const Exit& exit, Family family, const uint8_t* destination);

// Tells the sender of `run` why it is discarded, if ICMP allows it and not too often: the host through the port it came
// by, a peer through its tunnel, by a run that is added to the burst.
// What it quotes is the packet as it came, whatever has been translated since. `mtu` is too_big's.
void tell(Context& context, const Run& run, IcmpError error, uint32_t mtu = 0);
void tell_reset(Context& context,
                const Run& run);  // TCP; for anything else as IcmpError::prohibited

}  // namespace sallyport
