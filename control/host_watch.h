// HostWatch: says when somebody else changed or removed a route or a rule of ours, or when a link of our routes came up.
//
// The kernel sends every change of every table; a socket filter in the kernel lets through only those of our table that
// were not made by us, so neither a set of a million prefixes nor somebody's BGP wakes the daemon. What passes is looked at
// again here. A message lost (ENOBUFS) counts as a change. The call may destroy the watch.
//
// A link that goes down takes its routes with it, which is no news worth waking for; when it is up again they are missing,
// and that is. Thread rules: the io_context's. Sources: rtnetlink(7), socket(7) (SO_ATTACH_FILTER).
#pragma once

#include <linux/netlink.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "dataplane/base/result.h"

namespace sallyport {

class HostWatch {
 public:
  struct Ours {
    uint32_t table = 0;
    uint8_t protocol = 0;
    uint32_t rule_priority = 0;
    uint32_t port = 0;  // of the netlink socket that our own changes are made through
  };

  static Result<std::unique_ptr<HostWatch>> start(boost::asio::io_context& context,
                                                  const Ours& ours, std::function<void()> changed);
  HostWatch(const HostWatch&) = delete;
  HostWatch& operator=(const HostWatch&) = delete;

  void follow(std::vector<uint32_t> links) { links_ = std::move(links); }

 private:
  HostWatch(boost::asio::io_context& context, int fd, const Ours& ours,
            std::function<void()> changed);
  void wait();
  void receive();
  bool concerns_us(const nlmsghdr& message) const;
  bool route_concerns_us(const nlmsghdr& message) const;
  bool rule_concerns_us(const nlmsghdr& message) const;

  boost::asio::posix::stream_descriptor netlink_;
  const Ours ours_;
  std::vector<uint32_t> links_;
  std::function<void()> changed_;
  std::shared_ptr<bool> alive_ =
      std::make_shared<bool>(true);  // a wait that is over may outlive this
};

}  // namespace sallyport
