#include "control/host_route_query.h"

#include <linux/rtnetlink.h>
#include <netlink/attr.h>

#include <cstdio>
#include <cstring>
#include <utility>

namespace sallyport {
namespace {

constexpr size_t kViaHeaderBytes = sizeof(rtvia);

std::string request_text(const IpAddress& destination, uint32_t mark) {
  char text[32];
  std::snprintf(text, sizeof(text), " (fwmark 0x%x)", mark);
  return to_text(destination) + (mark != 0 ? text : "");
}

// An IPv4 route's gateway may be an IPv6 one.
IpAddress gateway_of(const NetlinkAttributes<RTA_MAX>& found) {
  const nlattr* via = found.get(RTA_VIA);
  if (via == nullptr || nla_len(via) < static_cast<int>(kViaHeaderBytes)) {
    return found.address(RTA_GATEWAY);
  }
  return netlink_address(static_cast<const char*>(nla_data(via)) + kViaHeaderBytes,
                         static_cast<size_t>(nla_len(via)) - kViaHeaderBytes);
}

uint32_t mtu_of(const NetlinkAttributes<RTA_MAX>& found) {
  nlattr* metrics[RTAX_MAX + 1] = {};
  nlattr* nested = const_cast<nlattr*>(found.get(RTA_METRICS));
  if (nested == nullptr || nla_parse_nested(metrics, RTAX_MAX, nested, nullptr) < 0 ||
      metrics[RTAX_MTU] == nullptr ||
      nla_len(metrics[RTAX_MTU]) < static_cast<int>(sizeof(uint32_t))) {
    return 0;
  }
  return nla_get_u32(metrics[RTAX_MTU]);
}

const nlmsghdr& header_of(const std::vector<char>& bytes) {
  return *reinterpret_cast<const nlmsghdr*>(bytes.data());
}

}  // namespace

std::string to_text(const HostPath& path) {
  std::string text = path.local ? "local " : "";
  if (path.gateway.is_set()) {
    text += "via " + to_text(path.gateway) + " ";
  }
  text += "dev " + path.device;
  if (path.source.is_set()) {
    text += " src " + to_text(path.source);
  }
  const bool main = path.table == RT_TABLE_MAIN, local = path.table == RT_TABLE_LOCAL;
  return text + " table " +
         (main    ? "main"
          : local ? "local"
                  : std::to_string(path.table)) +
         " mtu " + std::to_string(path.mtu);
}

Result<HostRouteQuery> HostRouteQuery::open() {
  Result<Netlink> netlink = Netlink::open();
  if (!netlink) {
    return std::unexpected(netlink.error());
  }
  return HostRouteQuery(std::move(*netlink));
}

Result<HostPath> HostRouteQuery::query(const IpAddress& destination, uint32_t mark, uint32_t oif) {
  if (!destination.is_set()) {
    return fail("a route can be asked for only with a destination");
  }
  rtmsg header{};
  header.rtm_family = destination.family == Family::v4 ? AF_INET : AF_INET6;
  header.rtm_dst_len = static_cast<uint8_t>(destination.bits());
  if (destination.family == Family::v4) {
    header.rtm_flags = RTM_F_LOOKUP_TABLE;  // the table it was found in; IPv6 says it unasked
  }
  NetlinkMessage message(RTM_GETROUTE, 0, header);
  message.put(RTA_DST, destination);
  if (mark != 0) {
    message.put(RTA_MARK, mark);
  }
  if (oif != 0) {
    message.put(RTA_OIF, oif);
  }
  const Result<std::vector<char>> answer = netlink_.ask(message);
  if (!answer) {
    return fail(
        "the host has no way to " + request_text(destination, mark) + ": " + answer.error().text,
        answer.error().code);
  }
  const nlmsghdr& found = header_of(*answer);
  if (found.nlmsg_type != RTM_NEWROUTE || nlmsg_datalen(&found) < static_cast<int>(sizeof(rtmsg))) {
    return fail("the kernel answered a route request with something else", EBADMSG);
  }
  const auto& route = *static_cast<const rtmsg*>(nlmsg_data(&found));
  const NetlinkAttributes<RTA_MAX> attributes(found, sizeof(rtmsg));
  HostPath path;
  path.gateway = gateway_of(attributes);
  path.source = attributes.address(RTA_PREFSRC);
  path.link = attributes.u32(RTA_OIF).value_or(0);
  path.table = attributes.u32(RTA_TABLE).value_or(route.rtm_table);
  path.mtu = mtu_of(attributes);
  path.local = route.rtm_type == RTN_LOCAL;
  // IPv6 answers with its unreachable route instead of refusing.
  if (route.rtm_type == RTN_UNREACHABLE || route.rtm_type == RTN_BLACKHOLE ||
      route.rtm_type == RTN_PROHIBIT || route.rtm_type == RTN_THROW) {
    return fail("the host has no way to " + request_text(destination, mark) + ": table " +
                    std::to_string(path.table) + " refuses it",
                ENETUNREACH);
  }
  if (auto added = add_device(path); !added) {
    return std::unexpected(added.error());
  }
  return path;
}

Result<void> HostRouteQuery::add_device(HostPath& path) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(path.link);
  const Result<std::vector<char>> answer = netlink_.ask(NetlinkMessage(RTM_GETLINK, 0, header));
  if (!answer) {
    return fail("cannot look up link " + std::to_string(path.link) + ": " + answer.error().text,
                answer.error().code);
  }
  const NetlinkAttributes<IFLA_MTU> attributes(header_of(*answer), sizeof(ifinfomsg));
  if (const nlattr* name = attributes.get(IFLA_IFNAME); name != nullptr) {
    const auto* text = static_cast<const char*>(nla_data(name));
    path.device.assign(text, strnlen(text, static_cast<size_t>(nla_len(name))));
  }
  if (path.mtu == 0) {
    path.mtu = attributes.u32(IFLA_MTU).value_or(0);
  }
  return {};
}

}  // namespace sallyport
