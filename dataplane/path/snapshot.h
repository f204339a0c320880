// Snapshot: the configuration that every thread of the data plane reads, immutable once published.
//
// Control builds a new one and publishes it with one release store; a thread loads it once a burst and may use it until
// its next quiescent state. The ports it names live at least that long.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/net/frame.h"

namespace sallyport {

class Port;

struct Snapshot {
  uint64_t epoch = 0;
  uint32_t mtu = 1420;  // of the plain side: the bound for padding
  bool up = false;
  std::vector<Port*> plain;   // one a worker, or empty
  std::vector<Port*> outer;   // one a worker, or empty: no sockets
  Port* handshake = nullptr;  // the handshaker's socket, null with `outer` empty
};

}  // namespace sallyport
