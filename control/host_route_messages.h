// Host route messages: routes and rules of the host as values, and as netlink messages.
//
// A HostRoute is what we put into a table of the host: a prefix that goes out by a link, or a hole. A HostRule is one of
// `ip rule`'s as far as we need them. The Found... are what a dump says is there, ours or not.
//
// Thread rules: values and pure functions. Sources: rtnetlink(7), linux/fib_rules.h, ip-route(8), ip-rule(8).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/netlink.h"
#include "dataplane/net/address.h"

namespace sallyport {

// A `throw` route ends the lookup in its table, so that the next rule decides.
struct HostRoute {
  IpPrefix prefix;
  uint32_t link = 0;  // ifindex; 0 with is_throw
  bool is_throw = false;

  bool operator==(const HostRoute&) const = default;
};

// ip rule add [not] [from PREFIX] [to PREFIX] [iif NAME] [fwmark MARK/0xffffffff] [ipproto P] [dport FIRST-LAST]
//     lookup TABLE pref PRIORITY [suppress_prefixlength N] protocol OURS
struct HostRule {
  Family family = Family::v4;
  uint32_t priority = 0;
  uint32_t table = 0;
  std::optional<uint32_t> mark{};
  bool negated = false;
  std::optional<uint32_t> suppress_prefixlength{};
  std::optional<IpPrefix> from{}, to{};  // without bits beyond their lengths
  std::string iif{};                     // empty: any
  uint8_t protocol = 0;                  // of IP; 0: any
  std::optional<std::pair<uint16_t, uint16_t>> dport{};

  bool operator==(const HostRule&) const = default;
};

struct FoundRoute {
  HostRoute route;
  uint32_t table = 0;
  uint32_t metric = 0;
  uint8_t protocol = 0;
  uint8_t type = 0;
  uint8_t tos = 0;
  bool plain = false;  // `route` says all there is: made as we make them
};

struct FoundRule {
  HostRule rule;
  uint8_t protocol = 0;
  bool plain = false;      // `rule` says all there is
  std::vector<char> body;  // as the kernel sent it, for its removal
};

std::string to_text(const HostRoute& route);  // "10.0.0.0/8 dev wg0", "throw 10.1.0.0/16"
std::string to_text(const HostRule& rule);    // "not fwmark 0x51820 lookup 180 pref 5180"
std::string protocol_text(uint8_t protocol);  // "static", "bird", "77"

NetlinkMessage route_dump(Family family, uint32_t table);
NetlinkMessage rule_dump(Family family);

// Nothing for what is no such message, or of another family.
std::optional<FoundRoute> parse_route(const nlmsghdr& message, Family family);
std::optional<FoundRule> parse_rule(const nlmsghdr& message, Family family);

// The metric that the kernel gives a route of ours, and so the place that it takes.
uint32_t route_metric(Family family);

NetlinkMessage new_route(const HostRoute& route, uint32_t table, uint8_t protocol, int flags);
NetlinkMessage delete_route(const FoundRoute& route, uint32_t table, uint8_t protocol);
NetlinkMessage delete_route(const HostRoute& route, uint32_t table, uint8_t protocol);
NetlinkMessage new_rule(const HostRule& rule, uint8_t protocol);
NetlinkMessage delete_rule(const HostRule& rule, uint8_t protocol);
NetlinkMessage rule_again(uint16_t type, const FoundRule& rule);  // RTM_NEWRULE, RTM_DELRULE

}  // namespace sallyport
