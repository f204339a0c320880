// seal: runs for peers become trains of sealed datagrams.
//
// Here, and only here, a super-packet is cut: each segment gets headers of its own, written where its ciphertext will
// stand, while its payload is read by the cipher from where the kernel put it (crypto/aead.h, head and body). Datagrams of
// one peer and one length lie back to back, so that one system call takes them all. A run whose peer has no usable
// session waits in the peer's staging queue, copied. Whitepaper sections 5.4.6 and 6.2; RFC 6040.
#pragma once

#include "dataplane/path/context.h"

namespace sallyport {

// Seals every run of context.burst that has a peer to go to, and sends what it sealed.
void seal(Context& context);

// Appends what waits for a session with this peer to the burst, as far as there is room. True when more is waiting.
bool unstage(Context& context, wireguard::Peer& peer);
void add_keepalive(Context& context, wireguard::Peer& peer);

}  // namespace sallyport
