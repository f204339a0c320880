// Steering: which of the sockets that share a port the kernel gives a datagram to.
//
// A classic BPF program on the SO_REUSEPORT group: a data message goes to the worker that its
// receiver index names (the index' low byte, the first of a little-endian word), everything else to
// the handshake socket, so that a flood of handshakes never evicts data. This is locality, not
// correctness: a train gathered by GRO follows its first datagram, and one too short to have an
// index goes to worker 0. What lands elsewhere is handed over by the engine.
//
// Sockets are numbered in the order they were bound: workers 0 to workers - 1, then handshakes.
// Source: WireGuard whitepaper 5.4.6; Linux' socket(7), SO_ATTACH_REUSEPORT_CBPF.
#pragma once

#include "dataplane/base/result.h"

namespace sallyport {

// `fd` is any member of the group, which must be bound already; 1 <= workers <= 256.
Result<void> attach_steering(int fd, unsigned workers);

}  // namespace sallyport
