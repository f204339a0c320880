#include "control/host_watch.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "control/host_route_messages.h"
#include "dataplane/base/descriptor.h"

namespace sallyport {
namespace {

constexpr size_t kReadBytes = 16 * 1024;
constexpr int kGroups[] = {RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE,
                           RTNLGRP_IPV6_RULE};

// Loads are in network order, netlink's words in the host's.
int attach_filter(int fd, const HostWatch::Ours& ours) {
  const auto type = [](uint16_t value) { return uint32_t{htons(value)}; };
  const uint32_t table = ours.table < 256 ? ours.table : uint32_t{RT_TABLE_COMPAT};
  constexpr uint32_t kTypeAt = offsetof(nlmsghdr, nlmsg_type),
                     kPortAt = offsetof(nlmsghdr, nlmsg_pid);
  constexpr uint32_t kTableAt = NLMSG_HDRLEN + offsetof(rtmsg, rtm_table);
  std::array program = {
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kPortAt),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ, htonl(ours.port), 9, 0),
      sock_filter BPF_STMT(BPF_LD | BPF_H | BPF_ABS, kTypeAt),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ, type(RTM_NEWROUTE), 4, 0),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ, type(RTM_DELROUTE), 3, 0),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ, type(RTM_NEWRULE), 4, 0),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ, type(RTM_DELRULE), 3, 0),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ, type(RTM_NEWLINK), 2, 3),
      sock_filter BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kTableAt),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ, table, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
      sock_filter BPF_STMT(BPF_RET | BPF_K, 0),
  };
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
}

}  // namespace

Result<std::unique_ptr<HostWatch>> HostWatch::start(boost::asio::io_context& context,
                                                    const Ours& ours,
                                                    std::function<void()> changed) {
  Descriptor holder(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  const int fd = holder.get();
  if (fd < 0 || attach_filter(fd, ours) != 0 ||
      bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_errno("cannot watch the host's routes by netlink");
  }
  for (const int group : kGroups) {
    if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) != 0) {
      return fail_errno("cannot watch the host's routes by netlink");
    }
  }
  std::unique_ptr<HostWatch> watch(
      new HostWatch(context, holder.release(), ours, std::move(changed)));
  watch->wait();
  return watch;
}

HostWatch::HostWatch(boost::asio::io_context& context, int fd, const Ours& ours,
                     std::function<void()> changed)
    : netlink_(context, fd), ours_(ours), changed_(std::move(changed)) {}

void HostWatch::wait() {
  netlink_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [this, alive = std::weak_ptr<bool>(alive_)](boost::system::error_code error) {
                        if (!error && !alive.expired()) {
                          receive();
                        }
                      });
}

void HostWatch::receive() {
  alignas(nlmsghdr) char bytes[kReadBytes];
  bool changed = false;
  for (;;) {
    const ssize_t length = recv(netlink_.native_handle(), bytes, sizeof(bytes), 0);
    if (length < 0 && errno == ENOBUFS) {
      changed = true;
      continue;
    }
    if (length <= 0) {
      break;
    }
    int left = static_cast<int>(length);
    for (auto* message = reinterpret_cast<nlmsghdr*>(bytes); nlmsg_ok(message, left);
         message = nlmsg_next(message, &left)) {
      changed = changed || concerns_us(*message);
    }
  }
  wait();
  if (changed) {
    const auto call = changed_;  // which may end this watch, and itself with it
    call();
  }
}

bool HostWatch::concerns_us(const nlmsghdr& message) const {
  switch (message.nlmsg_type) {
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return route_concerns_us(message);
    case RTM_NEWRULE:
    case RTM_DELRULE:
      return rule_concerns_us(message);
    default:
      break;
  }
  if (message.nlmsg_type != RTM_NEWLINK ||
      nlmsg_datalen(&message) < static_cast<int>(sizeof(ifinfomsg))) {
    return false;
  }
  const auto& link = *static_cast<const ifinfomsg*>(nlmsg_data(&message));
  return (link.ifi_change & IFF_UP) != 0 && (link.ifi_flags & IFF_UP) != 0 &&
         std::ranges::find(links_, static_cast<uint32_t>(link.ifi_index)) != links_.end();
}

// A route with our number that came or went by somebody's hand, or one that took the place of ours. Port 0 is the kernel,
// which clears up after a link.
bool HostWatch::route_concerns_us(const nlmsghdr& message) const {
  std::optional<FoundRoute> found = parse_route(message, Family::v4);
  if (!found) {
    found = parse_route(message, Family::v6);
  }
  if (!found || found->table != ours_.table || message.nlmsg_pid == 0) {
    return false;
  }
  return found->protocol == ours_.protocol || (message.nlmsg_flags & NLM_F_REPLACE) != 0;
}

bool HostWatch::rule_concerns_us(const nlmsghdr& message) const {
  std::optional<FoundRule> found = parse_rule(message, Family::v4);
  if (!found) {
    found = parse_rule(message, Family::v6);
  }
  return found && found->protocol == ours_.protocol &&
         (found->rule.table == ours_.table || found->rule.priority == ours_.rule_priority ||
          found->rule.priority == ours_.rule_priority - 1);
}

}  // namespace sallyport
