#include "control/icmp_tap.h"

#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip6.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "dataplane/base/descriptor.h"

namespace sallyport {
namespace {

constexpr size_t kIcmpBytesMax = 65'535;
constexpr size_t kIp6HeaderBytes = sizeof(ip6_hdr);

bool set(int fd, int level, int option, const void* value, size_t bytes) {
  return setsockopt(fd, level, option, value, static_cast<socklen_t>(bytes)) == 0;
}

// Both are -1, with errno, where it cannot be had.
int open_v4() {
  Descriptor fd(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP));
  icmp_filter filter{};
  filter.data = ~(1u << ICMP_ECHOREPLY | 1u << ICMP_DEST_UNREACH | 1u << ICMP_TIME_EXCEEDED |
                  1u << ICMP_PARAMETERPROB | 1u << ICMP_TIMESTAMPREPLY);
  const bool done = fd.get() >= 0 && set(fd.get(), SOL_RAW, ICMP_FILTER, &filter, sizeof(filter));
  return done ? fd.release() : -1;
}

int open_v6() {
  Descriptor fd(socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMPV6));
  icmp6_filter filter;
  ICMP6_FILTER_SETBLOCKALL(&filter);
  for (const int type : {ICMP6_ECHO_REPLY, ICMP6_DST_UNREACH, ICMP6_PACKET_TOO_BIG,
                         ICMP6_TIME_EXCEEDED, ICMP6_PARAM_PROB}) {
    ICMP6_FILTER_SETPASS(type, &filter);
  }
  const int on = 1;
  const bool done = fd.get() >= 0 &&
                    set(fd.get(), IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof(filter)) &&
                    set(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)) &&
                    set(fd.get(), IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof(on));
  return done ? fd.release() : -1;
}

// A raw ICMPv6 socket gives what is behind the header, and what the header said apart: put together again.
size_t read_v6(int fd, std::span<uint8_t> room) {
  sockaddr_in6 from{};
  iovec part{room.data() + kIp6HeaderBytes, room.size() - kIp6HeaderBytes};
  alignas(cmsghdr) std::array<uint8_t, 256> control;
  msghdr message{};
  message.msg_name = &from;
  message.msg_namelen = sizeof(from);
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
  if (length <= 0) {
    return 0;
  }
  ip6_hdr header{};
  header.ip6_vfc = 0x60;
  header.ip6_plen = htons(static_cast<uint16_t>(length));
  header.ip6_nxt = IPPROTO_ICMPV6;
  header.ip6_src = from.sin6_addr;
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr;
       each = CMSG_NXTHDR(&message, each)) {
    if (each->cmsg_level == IPPROTO_IPV6 && each->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info;
      std::memcpy(&info, CMSG_DATA(each), sizeof(info));
      header.ip6_dst = info.ipi6_addr;
    } else if (each->cmsg_level == IPPROTO_IPV6 && each->cmsg_type == IPV6_HOPLIMIT) {
      int hops;
      std::memcpy(&hops, CMSG_DATA(each), sizeof(hops));
      header.ip6_hlim = static_cast<uint8_t>(std::max(hops - 1, 1));
    }
  }
  std::memcpy(room.data(), &header, sizeof(header));
  return kIp6HeaderBytes + static_cast<size_t>(length);
}

}  // namespace

Result<std::unique_ptr<IcmpTap>> IcmpTap::open(boost::asio::io_context& context, Engine& engine,
                                               TunnelNumber tunnel) {
  std::unique_ptr<IcmpTap> tap(new IcmpTap(context, engine, tunnel));
  const int v4 = open_v4();
  if (v4 < 0) {
    return fail(std::string("cannot listen to the host's ICMP: ") + std::strerror(errno) +
                    (errno == EPERM ? "; needs CAP_NET_RAW" : ""),
                errno);
  }
  tap->v4_.assign(v4);
  tap->wait(Family::v4);
  if (const int v6 = open_v6(); v6 >= 0) {
    tap->v6_.assign(v6);
    tap->wait(Family::v6);
  }
  return tap;
}

void IcmpTap::wait(Family family) {
  auto& socket = family == Family::v4 ? v4_ : v6_;
  socket.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                    [this, family, alive = std::weak_ptr<bool>(alive_)](auto error) {
                      if (error || alive.expired()) {
                        return;
                      }
                      static thread_local std::array<uint8_t, kIp6HeaderBytes + kIcmpBytesMax> room;
                      for (int i = 0; i < kReadsMax; ++i) {
                        const size_t length = read(family, room);
                        if (length == 0) {
                          break;
                        }
                        const std::span<const uint8_t> packet(room.data(), length);
                        if (engine_.knows_flow_of(packet)) {
                          engine_.inject(tunnel_, packet);
                        }
                      }
                      wait(family);
                    });
}

size_t IcmpTap::read(Family family, std::span<uint8_t> room) {
  if (family == Family::v6) {
    return read_v6(v6_.native_handle(), room);
  }
  const ssize_t length = recv(v4_.native_handle(), room.data(), room.size(), MSG_DONTWAIT);
  return length > 0 ? static_cast<size_t>(length) : 0;
}

}  // namespace sallyport
