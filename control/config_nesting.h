// Nesting: tunnels whose datagrams go through other tunnels, and what is left of an MTU on the way.
//
//     wg1  via = "wg0"        a packet in wg1 is a datagram of wg1's, which is a packet in wg0
//     wg0  path_mtu = 1500    1500 - 60 = 1440 for wg0, 1440 - 60 = 1380 for wg1, where every endpoint is IPv4
//
// Thread rules: pure functions.
#pragma once

#include <vector>

#include "control/config.h"

namespace sallyport::config {

// What sealing adds to a packet, outer headers included: 60 bytes to an IPv4 endpoint, 80 to an IPv6 one. 80 where a tunnel
// has both, or an endpoint that is a name or will be told by who comes in.
uint32_t overhead_of(const Tunnel& tunnel);

// The tunnels that a packet of this one is sealed by, innermost first: itself, its via, that one's via. Ends before a cycle.
std::vector<const Tunnel*> chain_of(const Config& config, const Tunnel& tunnel);

// Of the interface, for a checked configuration: `mtu`, or what the tunnel below or `path_mtu` leaves; 1420 where neither says.
uint32_t mtu_of(const Config& config, const Tunnel& tunnel);

}  // namespace sallyport::config
