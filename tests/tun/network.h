// What the driver tests need of a network: a namespace of their own, interfaces with addresses,
// waiting for input.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/ipv6.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/port.h"

namespace sallyport::test {

// Takes over a device ioctl's name field.
inline ifreq request_for(const std::string& name) {
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), name.size());
  return request;
}

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  operator int() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

inline void set_flags(const std::string& name, bool up) {
  const File control(socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request = request_for(name);
  ASSERT_EQ(ioctl(control, SIOCGIFFLAGS, &request), 0) << std::strerror(errno);
  request.ifr_flags =
      static_cast<short>(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
  ASSERT_EQ(ioctl(control, SIOCSIFFLAGS, &request), 0) << std::strerror(errno);
}

inline void set_interface_mtu(const std::string& name, int mtu) {
  const File control(socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request = request_for(name);
  request.ifr_mtu = mtu;
  ASSERT_EQ(ioctl(control, SIOCSIFMTU, &request), 0) << std::strerror(errno);
}

// address/24, and the interface up.
inline void set_address(const std::string& name, const char* address) {
  const File control(socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request = request_for(name);
  auto* in = reinterpret_cast<sockaddr_in*>(&request.ifr_addr);
  in->sin_family = AF_INET;
  inet_pton(AF_INET, address, &in->sin_addr);
  ASSERT_EQ(ioctl(control, SIOCSIFADDR, &request), 0) << std::strerror(errno);
  inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
  ASSERT_EQ(ioctl(control, SIOCSIFNETMASK, &request), 0) << std::strerror(errno);
  set_flags(name, true);
}

inline bool poll_in(int fd, int ms) {
  pollfd wait{fd, POLLIN, 0};
  return poll(&wait, 1, ms) > 0;
}

// Adds it and waits until it can be used: the kernel finishes duplicate detection and routes on a
// thread of its own.
inline void add_address6(const std::string& name, const char* address, uint32_t prefix) {
  struct {  // struct in6_ifreq, whose header clashes with netinet/in.h
    in6_addr address;
    uint32_t prefix;
    int index;
  } request{};
  const File control(socket(AF_INET6, SOCK_DGRAM, 0));
  inet_pton(AF_INET6, address, &request.address);
  request.prefix = prefix;
  request.index = static_cast<int>(if_nametoindex(name.c_str()));
  ASSERT_EQ(ioctl(control, SIOCSIFADDR, &request), 0) << std::strerror(errno);
  sockaddr_in6 self{};
  self.sin6_family = AF_INET6;
  self.sin6_port = htons(9);
  self.sin6_addr = request.address;
  const auto usable = [&self] {
    const File probe(socket(AF_INET6, SOCK_DGRAM, 0));
    return bind(probe, reinterpret_cast<sockaddr*>(&self), sizeof(self)) == 0 &&
           connect(probe, reinterpret_cast<sockaddr*>(&self), sizeof(self)) == 0 &&
           send(probe, "x", 1, 0) == 1 && poll_in(probe, 1);
  };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (!usable()) {
    ASSERT_LT(std::chrono::steady_clock::now(), end) << address << " never became usable";
  }
}

inline void delete_interface(const std::string& name) {
  struct {
    nlmsghdr header;
    ifinfomsg info;
  } request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = RTM_DELLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.info.ifi_index = static_cast<int>(if_nametoindex(name.c_str()));
  const File netlink(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
  ASSERT_EQ(send(netlink, &request, sizeof(request), 0), static_cast<ssize_t>(sizeof(request)));
  char answer[1024];
  ASSERT_GT(recv(netlink, answer, sizeof(answer), 0), 0);
}

// Runs the body in a thread with a network namespace of its own, lo up. False where that is not
// allowed.
template <class Body>
bool in_namespace(Body body) {
  bool allowed = false;
  std::thread([&] {
    if (unshare(CLONE_NEWNET) == 0) {
      allowed = true;
      set_flags("lo", true);
      body();
    }
  }).join();
  return allowed;
}

// The calling thread becomes nobody; only for the thread of in_namespace(), which ends.
inline bool give_up_root() {
  constexpr long kNobody = 65534;
  return syscall(SYS_setresuid, kNobody, kNobody, kNobody) == 0;
}

#define SALLYPORT_IN_NAMESPACE(...)                                 \
  if (!::sallyport::test::in_namespace(__VA_ARGS__)) {              \
    GTEST_SKIP() << "network namespaces need root (CAP_SYS_ADMIN)"; \
  }

// A pool and a cache, and what a port received from them; gives everything back at the end.
class Receiver {
 public:
  Receiver() : pool_(256), cache_(pool_) {}
  ~Receiver() { clear(); }

  // Receives once, without waiting. The new frames stay valid until clear().
  std::vector<RxFrame> poll_once(Port& port, size_t most = 64) {
    std::vector<RxFrame> frames(most);
    frames.resize(port.rx(frames, cache_));
    held_.insert(held_.end(), frames.begin(), frames.end());
    return frames;
  }

  // Receives until `count` frames are there or two seconds have passed.
  std::vector<RxFrame> wait_for(Port& port, size_t count) {
    std::vector<RxFrame> all;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    while (all.size() < count && std::chrono::steady_clock::now() < end) {
      for (const RxFrame& frame : poll_once(port)) {
        all.push_back(frame);
      }
      if (all.size() < count) {
        wait_readable(port, 10);
      }
    }
    return all;
  }

  void clear() {
    for (const RxFrame& frame : held_) {
      cache_.give(frame.buffer);
    }
    held_.clear();
  }

  static bool wait_readable(const Port& port, int ms) {
    const Port::Descriptors from = port.descriptors();
    pollfd wait[2] = {{from.fd[0], POLLIN, 0}, {from.fd[1], POLLIN, 0}};
    return poll(wait, 2, ms) > 0;
  }

  BufferCache& cache() { return cache_; }

 private:
  BufferPool pool_;
  BufferCache cache_;
  std::vector<RxFrame> held_;
};

// Bytes to send, and the one slice or several that they are sent as.
struct Outgoing {
  std::vector<uint8_t> bytes;
  std::vector<Slice> slices;
  Endpoint to;

  explicit Outgoing(std::vector<uint8_t> content, size_t parts = 1) : bytes(std::move(content)) {
    const size_t each = (bytes.size() + parts - 1) / parts;
    for (size_t at = 0; at < bytes.size(); at += each) {
      slices.push_back(
          {bytes.data() + at, static_cast<uint32_t>(std::min(each, bytes.size() - at))});
    }
  }
  Outgoing(const Outgoing&) = delete;
  Outgoing& operator=(const Outgoing&) = delete;

  TxFrame frame(uint32_t segment_bytes = 0) {
    TxFrame out;
    out.slices = slices;
    out.length = static_cast<uint32_t>(bytes.size());
    out.segment_bytes = segment_bytes;
    out.to = &to;
    return out;
  }
};

inline std::vector<uint8_t> bytes_of(const RxFrame& frame) {
  return {frame.data, frame.data + frame.length};
}

// Bytes that are no data message, so that steering takes them to the handshake port.
inline std::vector<uint8_t> pattern(size_t count, unsigned seed = 1) {
  std::vector<uint8_t> out(count);
  for (size_t i = 0; i < count; ++i) {
    out[i] = static_cast<uint8_t>((i * 2654435761u + seed * 40503u) >> 7);
  }
  if (!out.empty()) {
    out[0] |= 0x80;
  }
  return out;
}

}  // namespace sallyport::test
