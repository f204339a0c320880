// HostRouteQuery: how the host would route a datagram to somebody: by which table, link, gateway and source address, and
// how large it may be. The kernel is asked (RTM_GETROUTE), so every rule, policy and learned path MTU is in the answer.
//
// `mark` and `oif` are those of the socket that would send. Cannot: see what nftables does to the datagram afterwards.
//
// Thread rules: control's thread; one round trip. It asks in the network namespace it was opened in; needs no privilege.
// Source: rtnetlink(7).
#pragma once

#include <cstdint>
#include <string>

#include "control/netlink.h"
#include "dataplane/base/result.h"
#include "dataplane/net/address.h"

namespace sallyport {

struct HostPath {
  IpAddress gateway;  // unset: the destination is on the link itself
  IpAddress source;   // what the kernel would send from; may be unset
  uint32_t link = 0;
  std::string device;  // the link's name
  uint32_t table = 0;
  uint32_t mtu = 0;    // the route's, or the device's
  bool local = false;  // the destination is this host
};

std::string to_text(
    const HostPath& path);  // "via 192.0.2.1 dev eth0 src 192.0.2.7 table main mtu 1500"

class HostRouteQuery {
 public:
  static Result<HostRouteQuery> open();

  Result<HostPath> query(const IpAddress& destination, uint32_t mark, uint32_t oif = 0);

 private:
  explicit HostRouteQuery(Netlink netlink) : netlink_(std::move(netlink)) {}
  Result<void> add_device(HostPath& path);

  Netlink netlink_;
};

}  // namespace sallyport
