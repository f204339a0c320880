// Claims: which packets that the host would keep for itself, or send elsewhere, it is to hand to a tunnel instead, as a
// configuration's NAT needs it.
//
//     rule 0:    to 198.51.100.1 ipproto tcp dport 61000-65534 lookup 181    answers to what is masqueraded as the host
//     rule 0:    to 198.51.100.1 ipproto tcp dport 22-22 lookup local        `[[nat]] iif = "host" ... none = true`
//     rule 0:    to 198.51.100.1 ipproto tcp dport 1-65534 lookup 181        `[[nat]] iif = "host" ... dnat = ...`
//     rule 0:    lookup local                                                the host's own rule, moved behind ours
//     rule P-2:  from 10.9.0.1 lookup 181                                    what answers in the name of the tunnel's address
//     table 181: default dev wg0                                             one table a tunnel, from host.table + 1 on
//
// Only a [[nat]] that names "host" or "host:TUNNEL" in iif and has addresses in `to` claims what comes in: everything else is the
// host's. The host keeps, whatever dnat says, the ports that its own connections use (its ephemeral ones) and those that our
// tunnels listen on. ICMP stays the host's, and is shown to us besides (control/icmp_tap.h).
//
// Thread rules: pure functions. Sources: ip-rule(8), rtnetlink(7).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "control/config.h"
#include "control/host_route_messages.h"

namespace sallyport {

// What has to be asked of the host.
struct ClaimFacts {
  IpAddress host_v4, host_v6;  // that it sends from; unset: none
  std::pair<uint16_t, uint16_t> ephemeral{32768, 60999};
  std::map<std::string, uint32_t> links;         // ifindex, by tunnel
  std::map<std::string, uint16_t> listen_ports;  // by tunnel
};

struct Claims {
  std::vector<HostRule> first;    // of priority 0, in this order, before `local`
  std::vector<HostRule> sources;  // of priority P-2
  struct Table {
    uint32_t number = 0, link = 0;
    Family family = Family::v4;  // of its default route
    bool operator==(const Table&) const = default;
  };
  std::vector<Table> tables;

  bool empty() const { return first.empty() && sources.empty(); }
};

Claims claims_of(const config::Config& config, const ClaimFacts& facts);

// Does what this matches leave to the host, as far as oif says?
bool may_leave_to_host(const config::Match& match);

// The fewest prefixes that hold just these addresses.
std::vector<IpPrefix> prefixes_of(const AddressRange& range);

}  // namespace sallyport
