// LinkWatch: follows the TUN's link state through netlink: up or down, its MTU, and its end.
//
// It follows the device, not a name: a TUN renamed stays watched, and one moved into another network
// namespace (ip link set wg0 netns box, with the outer sockets staying here) is watched there from then
// on, as is one handed in by descriptor from elsewhere. That needs CAP_SYS_ADMIN; without it the last
// known state stays in force and the log says so. A lost message (ENOBUFS) is made good by asking anew.
//
// Thread rules: on the thread that runs the io_context. It changes that thread's network namespace for
// the moment of opening a socket, so nothing else may be opened by the same thread meanwhile: nothing is.
// Source: rtnetlink(7), linux/if_tun.h (TUNGETDEVNETNS, Linux 5.2).
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "dataplane/base/result.h"

namespace sallyport {

struct LinkState {
  bool up = false;
  uint32_t mtu = 0;
  bool operator==(const LinkState&) const = default;
};

class LinkWatch {
 public:
  struct Events {
    // First for the state at start. What the kernel has told in one go is told once, as it is in the end: a link that was
    // made and set up a moment ago was never down.
    std::function<void(const LinkState&)> changed;
    std::function<void()> gone;
  };

  // Takes tun_fd over: any queue of the device.
  static Result<std::unique_ptr<LinkWatch>> start(boost::asio::io_context& context, int tun_fd,
                                                  Events events);
  ~LinkWatch();
  LinkWatch(const LinkWatch&) = delete;
  LinkWatch& operator=(const LinkWatch&) = delete;

  Result<void> set_down();

 private:
  LinkWatch(boost::asio::io_context& context, int tun_fd, Events events);
  Result<void> follow();
  Result<void> ask();
  void wait();
  void receive();
  bool take(const void* message);  // false: the device left this namespace
  void tell();

  int tun_fd_;
  Events events_;
  boost::asio::posix::stream_descriptor netlink_;
  int index_ = 0;
  std::optional<LinkState> told_, heard_;
};

}  // namespace sallyport
