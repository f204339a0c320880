#include "control/host_route_messages.h"

#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

namespace sallyport {
namespace {

constexpr uint32_t kMetric6 = 1024;  // IP6_RT_PRIO_USER: what IPv6 makes of no metric

uint8_t family_number(Family family) {
  return family == Family::v4 ? AF_INET : AF_INET6;
}

std::string hex(uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%x", value);
  return text;
}

IpAddress zero_address(Family family) {
  IpAddress zero;
  zero.family = family;
  return zero;
}

// Attributes that a rule of ours has. Any other with something in it makes it one that is not as we make them.
bool only_known(const NetlinkAttributes<FRA_MAX>& found) {
  constexpr std::array kKnown = {
      FRA_PRIORITY, FRA_FWMARK,   FRA_FWMASK,     FRA_TABLE, FRA_SUPPRESS_PREFIXLEN,
      FRA_PROTOCOL, FRA_L3MDEV,   FRA_PAD,        FRA_SRC,   FRA_DST,
      FRA_IIFNAME,  FRA_IP_PROTO, FRA_DPORT_RANGE};
  for (int attribute = 1; attribute <= FRA_MAX; ++attribute) {
    if (found.has(attribute) && std::ranges::find(kKnown, attribute) == kKnown.end()) {
      return false;
    }
  }
  return found.u8(FRA_L3MDEV).value_or(0) == 0;
}

rtmsg route_header(const HostRoute& route, uint32_t table, uint8_t protocol) {
  rtmsg header{};
  header.rtm_family = family_number(route.prefix.address.family);
  header.rtm_dst_len = route.prefix.length;
  header.rtm_table = table < 256 ? static_cast<uint8_t>(table) : uint8_t{RT_TABLE_UNSPEC};
  header.rtm_protocol = protocol;
  header.rtm_type = route.is_throw ? RTN_THROW : RTN_UNICAST;
  header.rtm_scope = route.is_throw ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  return header;
}

void put_destination(NetlinkMessage& message, const HostRoute& route, uint32_t table) {
  message.put(RTA_DST, route.prefix.address).put(RTA_TABLE, table);
  if (route.link != 0) {
    message.put(RTA_OIF, route.link);
  }
}

fib_rule_hdr rule_header(const HostRule& rule) {
  fib_rule_hdr header{};
  header.family = family_number(rule.family);
  header.action = FR_ACT_TO_TBL;
  header.table = rule.table < 256 ? static_cast<uint8_t>(rule.table) : uint8_t{RT_TABLE_UNSPEC};
  header.flags = rule.negated ? FIB_RULE_INVERT : 0;
  header.src_len = rule.from ? rule.from->length : 0;
  header.dst_len = rule.to ? rule.to->length : 0;
  return header;
}

NetlinkMessage rule_message(uint16_t type, int flags, const HostRule& rule, uint8_t protocol) {
  NetlinkMessage message(type, flags, rule_header(rule));
  message.put(FRA_PRIORITY, rule.priority).put(FRA_TABLE, rule.table);
  message.put(FRA_PROTOCOL, &protocol, sizeof(protocol));
  if (rule.mark) {
    message.put(FRA_FWMARK, *rule.mark).put(FRA_FWMASK, UINT32_MAX);
  }
  if (rule.suppress_prefixlength) {
    message.put(FRA_SUPPRESS_PREFIXLEN, *rule.suppress_prefixlength);
  }
  if (rule.from) {
    message.put(FRA_SRC, rule.from->address);
  }
  if (rule.to) {
    message.put(FRA_DST, rule.to->address);
  }
  if (!rule.iif.empty()) {
    message.put(FRA_IIFNAME, rule.iif.c_str(), rule.iif.size() + 1);
  }
  if (rule.protocol != 0) {
    message.put(FRA_IP_PROTO, &rule.protocol, sizeof(rule.protocol));
  }
  if (rule.dport) {
    const fib_rule_port_range range{rule.dport->first, rule.dport->second};
    message.put(FRA_DPORT_RANGE, &range, sizeof(range));
  }
  return message;
}

}  // namespace

std::string to_text(const HostRoute& route) {
  if (route.is_throw) {
    return "throw " + to_text(route.prefix);
  }
  char name[IF_NAMESIZE];
  const bool named = if_indextoname(route.link, name) != nullptr;
  return to_text(route.prefix) + " dev " + (named ? name : "#" + std::to_string(route.link));
}

std::string to_text(const HostRule& rule) {
  std::string text = rule.negated ? "not " : "";
  if (rule.from) {
    text += "from " + to_text(*rule.from) + " ";
  }
  if (rule.to) {
    text += "to " + to_text(*rule.to) + " ";
  }
  if (!rule.iif.empty()) {
    text += "iif " + rule.iif + " ";
  }
  if (rule.protocol != 0) {
    text += "ipproto " + std::to_string(rule.protocol) + " ";
  }
  if (rule.dport) {
    text += "dport " + std::to_string(rule.dport->first) + "-" +
            std::to_string(rule.dport->second) + " ";
  }
  if (rule.mark) {
    text += "fwmark " + hex(*rule.mark) + " ";
  }
  text += "lookup " + (rule.table == RT_TABLE_MAIN    ? "main"
                       : rule.table == RT_TABLE_LOCAL ? "local"
                                                      : std::to_string(rule.table));
  if (rule.suppress_prefixlength) {
    text += " suppress_prefixlength " + std::to_string(*rule.suppress_prefixlength);
  }
  return text + " pref " + std::to_string(rule.priority);
}

std::string protocol_text(uint8_t protocol) {
  switch (protocol) {
    case RTPROT_UNSPEC:
      return "none";
    case RTPROT_KERNEL:
      return "kernel";
    case RTPROT_BOOT:
      return "boot, as ip's are";
    case RTPROT_STATIC:
      return "static";
    case RTPROT_BIRD:
      return "bird";
    case RTPROT_DHCP:
      return "dhcp";
    default:
      return std::to_string(protocol);
  }
}

uint32_t route_metric(Family family) {
  return family == Family::v4 ? 0 : kMetric6;
}

NetlinkMessage route_dump(Family family, uint32_t table) {
  rtmsg header{};
  header.rtm_family = family_number(family);
  header.rtm_table = table < 256 ? static_cast<uint8_t>(table) : uint8_t{RT_TABLE_UNSPEC};
  NetlinkMessage message(RTM_GETROUTE, 0, header);
  message.put(RTA_TABLE, table);
  return message;
}

NetlinkMessage rule_dump(Family family) {
  fib_rule_hdr header{};
  header.family = family_number(family);
  return NetlinkMessage(RTM_GETRULE, 0, header);
}

std::optional<FoundRoute> parse_route(const nlmsghdr& message, Family family) {
  if ((message.nlmsg_type != RTM_NEWROUTE && message.nlmsg_type != RTM_DELROUTE) ||
      nlmsg_datalen(&message) < static_cast<int>(sizeof(rtmsg))) {
    return std::nullopt;
  }
  const auto& header = *static_cast<const rtmsg*>(nlmsg_data(&message));
  if (header.rtm_family != family_number(family) || (header.rtm_flags & RTM_F_CLONED) != 0) {
    return std::nullopt;
  }
  const NetlinkAttributes<RTA_MAX> found(message, sizeof(rtmsg));
  FoundRoute out;
  out.route.prefix.address = found.has(RTA_DST) ? found.address(RTA_DST) : zero_address(family);
  out.route.prefix.length = header.rtm_dst_len;
  out.route.is_throw = header.rtm_type == RTN_THROW;
  // IPv6 keeps a throw route on lo.
  out.route.link = out.route.is_throw ? 0 : found.u32(RTA_OIF).value_or(0);
  out.table = found.u32(RTA_TABLE).value_or(header.rtm_table);
  out.metric = found.u32(RTA_PRIORITY).value_or(0);
  out.protocol = header.rtm_protocol;
  out.type = header.rtm_type;
  out.tos = header.rtm_tos;
  const bool straight = !found.has(RTA_GATEWAY) && !found.has(RTA_VIA) &&
                        !found.has(RTA_MULTIPATH) && !found.has(RTA_PREFSRC) &&
                        !found.has(RTA_ENCAP);
  out.plain = straight && out.tos == 0 && header.rtm_src_len == 0 &&
              out.metric == route_metric(family) &&
              (out.type == RTN_THROW || (out.type == RTN_UNICAST && out.route.link != 0));
  return out;
}

std::optional<FoundRule> parse_rule(const nlmsghdr& message, Family family) {
  if ((message.nlmsg_type != RTM_NEWRULE && message.nlmsg_type != RTM_DELRULE) ||
      nlmsg_datalen(&message) < static_cast<int>(sizeof(fib_rule_hdr))) {
    return std::nullopt;
  }
  const auto& header = *static_cast<const fib_rule_hdr*>(nlmsg_data(&message));
  if (header.family != family_number(family)) {
    return std::nullopt;
  }
  const NetlinkAttributes<FRA_MAX> found(message, sizeof(fib_rule_hdr));
  FoundRule out;
  out.rule.family = family;
  out.rule.priority = found.u32(FRA_PRIORITY).value_or(0);
  out.rule.table = found.u32(FRA_TABLE).value_or(header.table);
  out.rule.negated = (header.flags & FIB_RULE_INVERT) != 0;
  const uint32_t mask = found.u32(FRA_FWMASK).value_or(0);
  if (found.has(FRA_FWMARK) && mask != 0) {
    out.rule.mark = found.u32(FRA_FWMARK);
  }
  const uint32_t suppress = found.u32(FRA_SUPPRESS_PREFIXLEN).value_or(UINT32_MAX);
  if (suppress != UINT32_MAX) {
    out.rule.suppress_prefixlength = suppress;
  }
  if (header.src_len != 0) {
    out.rule.from = IpPrefix{found.address(FRA_SRC), header.src_len};
  }
  if (header.dst_len != 0) {
    out.rule.to = IpPrefix{found.address(FRA_DST), header.dst_len};
  }
  if (const nlattr* name = found.get(FRA_IIFNAME); name != nullptr) {
    const auto* text = static_cast<const char*>(nla_data(name));
    out.rule.iif.assign(text, strnlen(text, static_cast<size_t>(nla_len(name))));
  }
  out.rule.protocol = found.u8(FRA_IP_PROTO).value_or(0);
  if (const nlattr* ports = found.get(FRA_DPORT_RANGE);
      ports != nullptr && nla_len(ports) >= static_cast<int>(sizeof(fib_rule_port_range))) {
    fib_rule_port_range range;
    std::memcpy(&range, nla_data(ports), sizeof(range));
    out.rule.dport = {range.start, range.end};
  }
  out.protocol = found.u8(FRA_PROTOCOL).value_or(0);
  out.plain = header.action == FR_ACT_TO_TBL && header.tos == 0 &&
              (mask == 0 || mask == UINT32_MAX) && only_known(found);
  const auto* body = static_cast<const char*>(nlmsg_data(&message));
  out.body.assign(body, body + nlmsg_datalen(&message));
  return out;
}

NetlinkMessage new_route(const HostRoute& route, uint32_t table, uint8_t protocol, int flags) {
  NetlinkMessage message(RTM_NEWROUTE, NLM_F_CREATE | flags, route_header(route, table, protocol));
  put_destination(message, route, table);
  return message;
}

NetlinkMessage delete_route(const HostRoute& route, uint32_t table, uint8_t protocol) {
  FoundRoute found;
  found.route = route;
  found.metric = route_metric(route.prefix.address.family);
  found.type = route.is_throw ? RTN_THROW : RTN_UNICAST;
  return delete_route(found, table, protocol);
}

NetlinkMessage delete_route(const FoundRoute& route, uint32_t table, uint8_t protocol) {
  rtmsg header = route_header(route.route, table, protocol);
  header.rtm_type = route.type;
  header.rtm_tos = route.tos;
  header.rtm_scope = RT_SCOPE_NOWHERE;  // any
  NetlinkMessage message(RTM_DELROUTE, 0, header);
  put_destination(message, route.route, table);
  if (route.metric != 0) {
    message.put(RTA_PRIORITY, route.metric);
  }
  return message;
}

NetlinkMessage new_rule(const HostRule& rule, uint8_t protocol) {
  return rule_message(RTM_NEWRULE, NLM_F_CREATE, rule, protocol);
}

NetlinkMessage delete_rule(const HostRule& rule, uint8_t protocol) {
  return rule_message(RTM_DELRULE, 0, rule, protocol);
}

NetlinkMessage rule_again(uint16_t type, const FoundRule& rule) {
  return NetlinkMessage(type, type == RTM_NEWRULE ? NLM_F_CREATE : 0, rule.body.data(),
                        rule.body.size());
}

}  // namespace sallyport
