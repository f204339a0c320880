// fit: nothing is sealed that would not fit. MSS clamping, ICMP too-big, fragments.
//
// The MTU of a way is that of its tunnel's plain side, or less where the peer's path (of outer datagrams, headers included) leaves less.
// A SYN, in either direction, is made to ask for no more than both ways carry: the one it came by and the one it leaves by. What is
// too big nevertheless is refused with the MTU that would do, or, where IPv4 allows it, cut.
//
// With a policy only: WireGuard alone does nothing of this, and the host, which knows the interface's MTU, has done it already.
//
// Costs: a comparison a run; a cut packet is copied. Cannot: cut the datagrams of a UDP super-packet; they are refused.
// Thread rules: on the thread of the context.
// Sources: RFC 1191, RFC 8201, RFC 791, RFC 6691.
#pragma once

#include "dataplane/path/context.h"

namespace sallyport {

// Of packets to or from this peer, inside the tunnel.
uint32_t mtu_of(const Context& context, const wireguard::Peer& peer);

// Behind nat, so that a SYN is changed once, and the sender is told of the packet that it sent.
void fit(Context& context);

}  // namespace sallyport
