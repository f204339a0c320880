#include "control/link_watch.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <tuple>
#include <utility>

#include "dataplane/base/descriptor.h"

namespace sallyport {
namespace {

using boost::system::error_code;

constexpr size_t kMessageBytesMax = 32 * 1024;  // what the kernel packs into one read at most

bool same_file(int left, int right) {
  struct stat one {
  }, other{};
  return fstat(left, &one) == 0 && fstat(right, &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

// This thread in another network namespace while it exists; `entered` says whether that worked.
class Visit {
 public:
  explicit Visit(int destination) : home_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    if (destination < 0 || home_.get() < 0 || same_file(home_.get(), destination)) {
      return;  // an old kernel that cannot tell, or the device is right here
    }
    entered_ = setns(destination, CLONE_NEWNET) == 0;
    away_ = entered_;
  }
  ~Visit() {
    if (away_ && setns(home_.get(), CLONE_NEWNET) != 0) {
      std::abort();  // every socket from here on would be made in the wrong place
    }
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  bool entered() const { return entered_; }

 private:
  Descriptor home_;
  bool entered_ = true;
  bool away_ = false;
};

struct Watch {
  int fd;
  int index;
};

// A netlink socket where the device is now, and its number there.
Result<Watch> open_watch(int tun_fd) {
  const Descriptor there(ioctl(tun_fd, TUNGETDEVNETNS));
  const Visit visit(there.get());
  if (!visit.entered()) {
    return fail_errno("the TUN is in another network namespace and cannot be watched there", EPERM);
  }
  ifreq device{};
  if (ioctl(tun_fd, TUNGETIFF, &device) != 0) {
    return fail_errno("the TUN is gone");
  }
  const auto index = static_cast<int>(if_nametoindex(device.ifr_name));
  if (index == 0) {
    return fail_errno(std::string("cannot find the interface ") + device.ifr_name);
  }
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    auto failed = fail_errno("cannot watch links by netlink");
    if (fd >= 0) {
      close(fd);
    }
    return failed;
  }
  return Watch{fd, index};
}

struct LinkRequest {
  nlmsghdr header{};
  ifinfomsg info{};

  LinkRequest(uint16_t type, int index) {
    header.nlmsg_len = sizeof(*this);
    header.nlmsg_type = type;
    header.nlmsg_flags = NLM_F_REQUEST;
    info.ifi_family = AF_UNSPEC;
    info.ifi_index = index;
  }
};
static_assert(sizeof(LinkRequest) == sizeof(nlmsghdr) + sizeof(ifinfomsg));

Result<void> send_request(int fd, const LinkRequest& request, const char* what) {
  if (send(fd, &request, sizeof(request), 0) != sizeof(request)) {
    return fail_errno(what);
  }
  return {};
}

uint32_t mtu_of(const nlmsghdr& header) {
  const auto* info = static_cast<const ifinfomsg*>(NLMSG_DATA(&header));
  int left = static_cast<int>(IFLA_PAYLOAD(&header));
  for (const rtattr* attribute = IFLA_RTA(info); RTA_OK(attribute, left);
       attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type == IFLA_MTU && RTA_PAYLOAD(attribute) >= sizeof(uint32_t)) {
      uint32_t mtu;
      std::memcpy(&mtu, RTA_DATA(attribute), sizeof(mtu));
      return mtu;
    }
  }
  return 0;
}

}  // namespace

Result<std::unique_ptr<LinkWatch>> LinkWatch::start(boost::asio::io_context& context, int tun_fd,
                                                    Events events) {
  std::unique_ptr<LinkWatch> watch(new LinkWatch(context, tun_fd, std::move(events)));
  if (auto following = watch->follow(); !following) {
    return std::unexpected(std::move(following.error()));
  }
  return watch;
}

LinkWatch::LinkWatch(boost::asio::io_context& context, int tun_fd, Events events)
    : tun_fd_(tun_fd), events_(std::move(events)), netlink_(context) {}

LinkWatch::~LinkWatch() {
  close(tun_fd_);
}

// Watches the device where it is now, and asks for its state there.
Result<void> LinkWatch::follow() {
  error_code ignored;
  std::ignore = netlink_.close(ignored);
  auto watch = open_watch(tun_fd_);
  if (!watch) {
    return std::unexpected(std::move(watch.error()));
  }
  netlink_.assign(watch->fd);
  index_ = watch->index;
  wait();
  return ask();
}

Result<void> LinkWatch::ask() {
  return send_request(netlink_.native_handle(), LinkRequest(RTM_GETLINK, index_),
                      "cannot ask for the link's state by netlink");
}

Result<void> LinkWatch::set_down() {
  LinkRequest request(RTM_NEWLINK, index_);
  request.info.ifi_change = IFF_UP;
  return send_request(netlink_.native_handle(), request, "cannot set the link down");
}

void LinkWatch::wait() {
  netlink_.async_wait(boost::asio::posix::stream_descriptor::wait_read, [this](error_code error) {
    if (!error) {
      receive();
    }
  });
}

void LinkWatch::receive() {
  alignas(nlmsghdr) char bytes[kMessageBytesMax];
  for (;;) {
    const ssize_t length = recv(netlink_.native_handle(), bytes, sizeof(bytes), 0);
    if (length < 0 && errno == ENOBUFS) {
      if (auto asked = ask(); !asked) {
        spdlog::error("{}", asked.error().text);
      }
      continue;
    }
    if (length <= 0) {
      break;
    }
    auto left = static_cast<size_t>(length);
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(bytes); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (!take(header)) {
        return;
      }
    }
  }
  wait();
  tell();
}

bool LinkWatch::take(const void* message) {
  const auto& header = *static_cast<const nlmsghdr*>(message);
  if (header.nlmsg_type == NLMSG_ERROR) {
    const int error = -static_cast<const nlmsgerr*>(NLMSG_DATA(&header))->error;
    spdlog::debug("netlink refused a request: {}", std::strerror(error));
    return true;
  }
  if ((header.nlmsg_type != RTM_NEWLINK && header.nlmsg_type != RTM_DELLINK) ||
      header.nlmsg_len < NLMSG_LENGTH(sizeof(ifinfomsg))) {
    return true;
  }
  const auto& info = *static_cast<const ifinfomsg*>(NLMSG_DATA(&header));
  if (info.ifi_index != index_ || info.ifi_family != AF_UNSPEC) {
    return true;
  }
  if (header.nlmsg_type == RTM_DELLINK) {
    ifreq device{};
    if (ioctl(tun_fd_, TUNGETIFF, &device) != 0) {
      events_.gone();
    } else if (auto following = follow(); !following) {
      spdlog::error("{}", following.error().text);
    } else {
      spdlog::debug("the TUN moved to another network namespace; watching it there");
    }
    return false;
  }
  heard_ = LinkState{(info.ifi_flags & IFF_UP) != 0, mtu_of(header)};
  return true;
}

void LinkWatch::tell() {
  if (heard_ != told_) {
    told_ = heard_;
    events_.changed(*heard_);
  }
}

}  // namespace sallyport
