// HostLink: a link of the host as its owner sets it: addresses, MTU, up or down. By number, so a rename does no harm.
//
// set_addresses() reconciles: what is missing is added, what an earlier call has set and is not wanted any more goes, and
// an address that somebody else has set stays. Ours are known by this object's memory, and by their protocol number
// (IFA_PROTO, Linux 5.18), which also finds what a killed daemon left on a persistent TUN. IPv6 addresses come without
// duplicate address detection: on a TUN there is nobody to ask.
//
// Cannot: keep a secondary IPv4 address of somebody else when the primary of its subnet was ours and goes; the kernel
// removes both, unless promote_secondaries is set. Below an MTU of 1280 a link has no IPv6.
//
// Thread rules: control's thread. It acts in the network namespace it was opened in. Source: rtnetlink(7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "control/netlink.h"
#include "dataplane/base/result.h"
#include "dataplane/net/address.h"

namespace sallyport {

class HostLink {
 public:
  struct Report {
    size_t added = 0, removed = 0, kept = 0;
  };

  static Result<HostLink> open(uint32_t index, uint8_t protocol);

  uint32_t index() const { return index_; }
  Result<Report> set_addresses(const std::vector<IpPrefix>& wanted);  // with host bits: 10.9.0.1/24
  Result<void> set_mtu(uint32_t mtu);
  Result<void> set_up(bool up);
  // IPv4 that comes in by this link may be forwarded; with `own_sources`, also from an address of the host's own (accept_local).
  Result<void> allow_forwarding(bool own_sources);

 private:
  struct Found {
    IpPrefix address;
    bool tagged = false;  // with our protocol number
  };

  HostLink(uint32_t index, uint8_t protocol, Netlink netlink)
      : index_(index), protocol_(protocol), netlink_(std::move(netlink)) {}
  Result<std::vector<Found>> addresses();
  Result<void> change(bool add, const IpPrefix& address);

  uint32_t index_;
  uint8_t protocol_;
  Netlink netlink_;
  std::vector<IpPrefix> ours_;
};

}  // namespace sallyport
