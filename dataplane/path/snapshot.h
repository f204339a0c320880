// Snapshot: the configuration that every thread of the data plane reads, immutable once published.
//
// Control builds a new one and publishes it with one release store; a thread loads it once a burst and may use it until
// its next quiescent state. The ports it names live at least that long, and so do its tunnels and its policy.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/net/address.h"
#include "dataplane/net/frame.h"

namespace sallyport {

class Port;
struct Policy;
class Tap;
struct Tunnel;

// A tunnel's place in the snapshot, for as long as it lives.
using TunnelNumber = uint16_t;
inline constexpr TunnelNumber kNoTunnel = UINT16_MAX;

// What a tunnel makes of the MSS that TCP asks for through it.
enum class MssMode : uint8_t { clamp, off, fixed };

// One tunnel as workers see it.
struct TunnelView {
  Tunnel* tunnel = nullptr;  // null: nobody has this number
  uint32_t mtu = 1420;       // of the plain side: the bound for padding
  bool up = false;
  MssMode mss = MssMode::clamp;
  uint32_t mss_bytes = 0;            // for MssMode::fixed
  IpAddress address_v4, address_v6;  // of the plain side; unset: none of this family
  std::vector<Port*> plain;          // one a worker, or empty
  std::vector<Port*> outer;          // one a worker, or empty: no sockets
  Port* handshake = nullptr;         // the handshaker's, null where there are no sockets
  TunnelNumber via = kNoTunnel;      // outer datagrams are packets of that tunnel; no `outer` then
  uint16_t listen_port = 0;          // with via

  // Null where there is none, and for whoever is no worker.
  Port* plain_port(unsigned worker) const {
    return worker < plain.size() ? plain[worker] : nullptr;
  }
  const IpAddress& address(Family family) const {
    return family == Family::v4 ? address_v4 : address_v6;
  }
  Port* outer_port(unsigned worker) const {
    return worker < outer.size() ? outer[worker] : nullptr;
  }
};

struct Snapshot {
  uint64_t epoch = 1;
  std::vector<TunnelView> tunnels;  // by number
  const Policy* policy = nullptr;   // null: each tunnel by itself, exactly WireGuard
  Tap* tap = nullptr;               // null: nobody looks on
  bool nested = false;              // some tunnel has a via
  IpAddress host_v4, host_v6;       // what the host sends from; unset: not known

  const IpAddress& host_address(Family family) const {
    return family == Family::v4 ? host_v4 : host_v6;
  }
};

}  // namespace sallyport
