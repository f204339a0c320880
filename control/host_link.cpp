#include "control/host_link.h"

#include <linux/if_addr.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

namespace sallyport {
namespace {

constexpr int kAddressProtocol = 11;  // IFA_PROTO, which headers before Linux 5.18 lack

std::string name_of(uint32_t index) {
  char name[IF_NAMESIZE];
  return if_indextoname(index, name) != nullptr ? name : "link " + std::to_string(index);
}

std::unexpected<Error> failed(const std::string& what, const Error& cause) {
  return std::unexpected(Error{
      what + ": " + cause.text + (cause.code == EPERM ? "; needs CAP_NET_ADMIN" : ""), cause.code});
}

bool contains(const std::vector<IpPrefix>& all, const IpPrefix& one) {
  return std::ranges::find(all, one) != all.end();
}

ifaddrmsg header_for(uint32_t index, Family family) {
  ifaddrmsg header{};
  header.ifa_family = family == Family::v4 ? AF_INET : AF_INET6;
  header.ifa_index = index;
  return header;
}

void put_attribute(std::vector<uint8_t>& out, uint16_t type, const void* data, size_t bytes) {
  const nlattr header{static_cast<uint16_t>(sizeof(nlattr) + bytes), type};
  const auto* start = reinterpret_cast<const uint8_t*>(&header);
  out.insert(out.end(), start, start + sizeof(header));
  out.insert(out.end(), static_cast<const uint8_t*>(data),
             static_cast<const uint8_t*>(data) + bytes);
  out.resize((out.size() + NLA_ALIGNTO - 1) & ~size_t{NLA_ALIGNTO - 1});
}

}  // namespace

Result<HostLink> HostLink::open(uint32_t index, uint8_t protocol) {
  Result<Netlink> netlink = Netlink::open();
  if (!netlink) {
    return std::unexpected(netlink.error());
  }
  return HostLink(index, protocol, std::move(*netlink));
}

Result<std::vector<HostLink::Found>> HostLink::addresses() {
  std::vector<Found> out;
  for (const Family family : {Family::v4, Family::v6}) {
    const ifaddrmsg wanted = header_for(index_, family);
    const auto found = netlink_.dump<Found>(
        NetlinkMessage(RTM_GETADDR, 0, wanted),
        [&](const nlmsghdr& message) -> std::optional<Found> {
          if (message.nlmsg_type != RTM_NEWADDR ||
              nlmsg_datalen(&message) < static_cast<int>(sizeof(ifaddrmsg))) {
            return std::nullopt;
          }
          const auto& header = *static_cast<const ifaddrmsg*>(nlmsg_data(&message));
          const NetlinkAttributes<kAddressProtocol> attributes(message, sizeof(header));
          const IpAddress local =
              attributes.address(attributes.has(IFA_LOCAL) ? IFA_LOCAL : IFA_ADDRESS);
          if (header.ifa_family != wanted.ifa_family || header.ifa_index != index_ ||
              !local.is_set()) {
            return std::nullopt;
          }
          return Found{{local, header.ifa_prefixlen}, attributes.u8(kAddressProtocol) == protocol_};
        });
    if (!found) {
      return failed("cannot read the addresses of " + name_of(index_), found.error());
    }
    out.insert(out.end(), found->begin(), found->end());
  }
  return out;
}

Result<void> HostLink::change(bool add, const IpPrefix& address) {
  ifaddrmsg header = header_for(index_, address.address.family);
  header.ifa_prefixlen = address.length;
  NetlinkMessage message(add ? RTM_NEWADDR : RTM_DELADDR, add ? NLM_F_CREATE | NLM_F_EXCL : 0,
                         header);
  message.put(IFA_LOCAL, address.address).put(IFA_ADDRESS, address.address);
  if (add) {
    message.put(kAddressProtocol, &protocol_, sizeof(protocol_));
    if (address.address.family == Family::v6) {
      message.put(IFA_FLAGS, uint32_t{IFA_F_NODAD});
    }
  }
  return netlink_.change(message);
}

// Removes first: an IPv6 address with another prefix length is the same address to the kernel, and an IPv4 address that
// goes may take secondary ones with it that are to stay.
Result<HostLink::Report> HostLink::set_addresses(const std::vector<IpPrefix>& wanted) {
  Report report;
  Result<std::vector<Found>> found = addresses();
  if (!found) {
    return std::unexpected(found.error());
  }
  for (const Found& one : *found) {
    if ((one.tagged || contains(ours_, one.address)) && !contains(wanted, one.address)) {
      if (auto removed = change(false, one.address); removed) {
        ++report.removed;
      } else if (removed.error().code != EADDRNOTAVAIL) {
        return failed("cannot remove " + to_text(one.address) + " from " + name_of(index_),
                      removed.error());
      }
    }
  }
  std::erase_if(ours_, [&](const IpPrefix& address) { return !contains(wanted, address); });
  if (found = addresses(); !found) {
    return std::unexpected(found.error());
  }
  std::vector<IpPrefix> there;
  for (const Found& one : *found) {
    there.push_back(one.address);
  }
  for (const IpPrefix& address : wanted) {
    if (contains(there, address)) {
      ++report.kept;
      continue;
    }
    if (auto added = change(true, address); !added) {
      return failed("cannot give " + name_of(index_) + " the address " + to_text(address),
                    added.error());
    }
    ++report.added;
    there.push_back(address);
    if (!contains(ours_, address)) {
      ours_.push_back(address);
    }
  }
  return report;
}

Result<void> HostLink::set_mtu(uint32_t mtu) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index_);
  NetlinkMessage message(RTM_NEWLINK, 0, header);
  message.put(IFLA_MTU, mtu);
  if (auto set = netlink_.change(message); !set) {
    return failed("cannot set the MTU of " + name_of(index_) + " to " + std::to_string(mtu),
                  set.error());
  }
  return {};
}

Result<void> HostLink::set_up(bool up) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index_);
  header.ifi_change = IFF_UP;
  header.ifi_flags = up ? IFF_UP : 0;
  if (auto set = netlink_.change(NetlinkMessage(RTM_NEWLINK, 0, header)); !set) {
    return failed("cannot set " + name_of(index_) + (up ? " up" : " down"), set.error());
  }
  return {};
}

Result<void> HostLink::allow_forwarding(bool own_sources) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index_);
  NetlinkMessage message(RTM_NEWLINK, 0, header);
  // Nested: IFLA_AF_SPEC, AF_INET, IFLA_INET_CONF, and a word a setting, by its number.
  std::vector<std::pair<int, uint32_t>> settings = {{IPV4_DEVCONF_FORWARDING, 1}};
  if (own_sources) {
    settings.emplace_back(IPV4_DEVCONF_ACCEPT_LOCAL, 1);
  }
  std::vector<uint8_t> words;
  for (const auto& [number, value] : settings) {
    put_attribute(words, static_cast<uint16_t>(number), &value, sizeof(value));
  }
  std::vector<uint8_t> conf, family;
  put_attribute(conf, IFLA_INET_CONF | NLA_F_NESTED, words.data(), words.size());
  put_attribute(family, AF_INET | NLA_F_NESTED, conf.data(), conf.size());
  message.put(IFLA_AF_SPEC | NLA_F_NESTED, family.data(), family.size());
  if (auto set = netlink_.change(message); !set) {
    return failed("cannot let " + name_of(index_) + " forward", set.error());
  }
  return {};
}

}  // namespace sallyport
