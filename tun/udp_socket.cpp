#include "tun/udp_socket.h"

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "dataplane/base/descriptor.h"

namespace sallyport {
namespace {

constexpr size_t kRxControlBytes = 128;  // pktinfo, tos and segment size: 88 at most
constexpr size_t kTxControlBytes = 96;
constexpr size_t kIovMax = 1024;  // UIO_MAXIOV
static_assert(kFrameSlicesMax <= kIovMax);

template <class T>
bool set_option(int fd, int level, int name, T value) {
  return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

void set_buffer(int fd, int forced, int allowed) {
  if (!set_option(fd, SOL_SOCKET, forced, UdpSocket::kBufferBytes)) {
    set_option(fd, SOL_SOCKET, allowed, UdpSocket::kBufferBytes);
  }
}

bool set_family_options(int fd, Family family) {
  if (family == Family::v4) {
    return set_option(fd, IPPROTO_IP, IP_PKTINFO, 1) && set_option(fd, IPPROTO_IP, IP_RECVTOS, 1) &&
           set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
  }
  return set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) &&
         set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) &&
         set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1) &&
         set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT);
}

// Errors by which a kernel says that it cannot cut this train for this route.
bool refuses_segments(int error) {
  return error == EIO || error == EINVAL || error == EMSGSIZE || error == EOPNOTSUPP ||
         error == ENOPROTOOPT;
}

// Errors that may be the fault of the source address asked for.
bool refuses_source(int error) {
  return error == EINVAL || error == EADDRNOTAVAIL || error == ENODEV || error == ENETUNREACH ||
         error == EHOSTUNREACH || error == ENETDOWN;
}

// Appends control messages to a buffer of kTxControlBytes.
class ControlWriter {
 public:
  explicit ControlWriter(uint8_t* at) : start_(at), at_(at) {}

  template <class T>
  void add(int level, int type, const T& value) {
    auto* header = reinterpret_cast<cmsghdr*>(at_);
    header->cmsg_len = CMSG_LEN(sizeof(T));
    header->cmsg_level = level;
    header->cmsg_type = type;
    std::memcpy(CMSG_DATA(header), &value, sizeof(T));
    at_ += CMSG_SPACE(sizeof(T));
  }

  size_t bytes() const { return static_cast<size_t>(at_ - start_); }

 private:
  uint8_t* start_;
  uint8_t* at_;
};

template <class T>
T read_control(const cmsghdr* header) {
  T value{};
  std::memcpy(&value, CMSG_DATA(header), sizeof(T));
  return value;
}

// What came beside a datagram; the segment size is 0 where there was none.
struct Beside {
  IpAddress local;
  uint32_t interface = 0;
  uint8_t tos = 0;
  int segment = 0;
};

Beside read_controls(msghdr& message) {
  Beside out;
  for (cmsghdr* at = CMSG_FIRSTHDR(&message); at != nullptr; at = CMSG_NXTHDR(&message, at)) {
    const size_t bytes = at->cmsg_len - CMSG_LEN(0);
    if (at->cmsg_level == IPPROTO_IP && at->cmsg_type == IP_PKTINFO &&
        bytes >= sizeof(in_pktinfo)) {
      const auto info = read_control<in_pktinfo>(at);
      out.local = IpAddress::v4(&info.ipi_spec_dst);
      out.interface = static_cast<uint32_t>(info.ipi_ifindex);
    } else if (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_PKTINFO &&
               bytes >= sizeof(in6_pktinfo)) {
      const auto info = read_control<in6_pktinfo>(at);
      if (!IN6_IS_ADDR_MULTICAST(&info.ipi6_addr)) {
        out.local = IpAddress::v6(&info.ipi6_addr);
      }
      out.interface = static_cast<uint32_t>(info.ipi6_ifindex);
    } else if (at->cmsg_level == IPPROTO_IP && at->cmsg_type == IP_TOS && bytes >= 1) {
      out.tos = read_control<uint8_t>(at);
    } else if (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_TCLASS &&
               bytes >= sizeof(int)) {
      out.tos = static_cast<uint8_t>(read_control<int>(at));
    } else if (at->cmsg_level == IPPROTO_UDP && at->cmsg_type == UDP_GRO && bytes >= sizeof(int)) {
      out.segment = read_control<int>(at);
    }
  }
  return out;
}

}  // namespace

// -- Routes without UDP_SEGMENT.

size_t RefusedRoutes::slot(const IpAddress& address) {
  uint32_t hash = 0;
  for (const uint8_t byte : address.bytes) {
    hash = hash * 31 + byte;
  }
  return (hash ^ hash >> 8) % kEntries;
}

bool RefusedRoutes::contains(const IpAddress& address, Time now) const {
  const Entry& entry = entries_[slot(address)];
  return entry.address == address && now < entry.until;
}

void RefusedRoutes::insert(const IpAddress& address, Time now) {
  entries_[slot(address)] = {address, now + kAge};
  used_ = true;
}

// -- The socket.

struct UdpSocket::RxScratch {
  mmsghdr messages[kRxBatch];
  iovec parts[kRxBatch];
  sockaddr_storage names[kRxBatch];
  Buffer* buffers[kRxBatch];
  alignas(cmsghdr) uint8_t controls[kRxBatch][kRxControlBytes];
};

// What one message carries: a stretch of a frame.
struct UdpSocket::Piece {
  uint32_t offset;
  uint32_t length;
  uint32_t segment;  // 0: a single datagram
  bool with_source;
};

struct UdpSocket::TxScratch {
  mmsghdr messages[kTxBatch];
  TxFrame* frames[kTxBatch];
  Piece pieces[kTxBatch];
  sockaddr_storage names[kTxBatch];
  alignas(cmsghdr) uint8_t controls[kTxBatch][kTxControlBytes];
  iovec parts[kIovMax];
  size_t count = 0;
  size_t parts_used = 0;
};

UdpSocket::UdpSocket(int fd, Family family)
    : fd_(fd),
      family_(family),
      rx_(std::make_unique<RxScratch>()),
      tx_(std::make_unique<TxScratch>()) {}

UdpSocket::~UdpSocket() {
  close(fd_);
}

Result<std::unique_ptr<UdpSocket>> UdpSocket::open(Family family) {
  const char* name = family == Family::v4 ? "IPv4" : "IPv6";
  const int domain = family == Family::v4 ? AF_INET : AF_INET6;
  const int fd = ::socket(domain, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
  if (fd < 0) {
    return fail_errno(std::string("cannot open an ") + name + " UDP socket");
  }
  std::unique_ptr<UdpSocket> socket(new UdpSocket(fd, family));
  if (!set_family_options(fd, family)) {
    return fail_errno(std::string("cannot set the options of an ") + name + " UDP socket");
  }
  set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
  set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
  socket->gro_ = set_option(fd, IPPROTO_UDP, UDP_GRO, 1);
  int segment = 0;
  socklen_t bytes = sizeof(segment);
  socket->segments_ = getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, &bytes) == 0;
  return socket;
}

Result<void> UdpSocket::never_fragment() {
  const bool done = family_ == Family::v4
                        ? set_option(fd_, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
                        : set_option(fd_, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
  if (!done) {
    return fail_errno("cannot keep UDP datagrams from being fragmented");
  }
  never_fragment_ = true;
  return {};
}

// What the kernel has learned of the way there, asked by a socket that would go the same way. 0: it does not say.
uint32_t UdpSocket::path_mtu_to(const Endpoint& to) const {
  const bool v4 = family_ == Family::v4;
  const Descriptor asking(
      ::socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP));
  if (asking.get() < 0) {
    return 0;
  }
  char device[IFNAMSIZ] = {};
  socklen_t device_bytes = sizeof(device);
  int mark = 0;
  socklen_t mark_bytes = sizeof(mark);
  if (getsockopt(fd_, SOL_SOCKET, SO_MARK, &mark, &mark_bytes) == 0 && mark != 0) {
    set_option(asking.get(), SOL_SOCKET, SO_MARK, mark);
  }
  if (getsockopt(fd_, SOL_SOCKET, SO_BINDTODEVICE, device, &device_bytes) == 0 &&
      device_bytes > 0 && device[0] != 0) {
    setsockopt(asking.get(), SOL_SOCKET, SO_BINDTODEVICE, device, device_bytes);
  }
  sockaddr_storage name;
  const socklen_t name_bytes = to_sockaddr(to, name);
  int mtu = 0;
  socklen_t mtu_bytes = sizeof(mtu);
  if (connect(asking.get(), reinterpret_cast<const sockaddr*>(&name), name_bytes) != 0 ||
      getsockopt(asking.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU : IPV6_MTU, &mtu,
                 &mtu_bytes) != 0 ||
      mtu <= 0) {
    return 0;
  }
  return static_cast<uint32_t>(mtu);
}

Result<uint16_t> UdpSocket::bind(uint16_t port) {
  Endpoint any;
  any.remote.family = family_;
  any.port = port;
  sockaddr_storage address{};
  socklen_t length = to_sockaddr(any, address);
  if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), length) != 0) {
    const int code = errno;
    const std::string text = "UDP port " + std::to_string(port);
    if (code == EADDRINUSE) {
      return fail(text + " is in use: choose another listen port (\"ss -lunp\" shows who has it)",
                  code);
    }
    if (code == EACCES) {
      return fail(text + " needs CAP_NET_BIND_SERVICE: choose a listen port above 1023", code);
    }
    return fail_errno("cannot bind " + text, code);
  }
  length = sizeof(address);
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return fail_errno("cannot read back the bound UDP port");
  }
  Endpoint bound;
  from_sockaddr(address, bound);
  return bound.port;
}

Result<void> UdpSocket::share_port() {
  if (!set_option(fd_, SOL_SOCKET, SO_REUSEPORT, 1)) {
    return fail_errno("cannot share the UDP port among workers (SO_REUSEPORT)");
  }
  return {};
}

Result<void> UdpSocket::set_fwmark(uint32_t mark) {
  if (!set_option(fd_, SOL_SOCKET, SO_MARK, mark)) {
    return fail_errno("cannot set the firewall mark of a UDP socket (needs CAP_NET_ADMIN)");
  }
  return {};
}

Result<void> UdpSocket::bind_device(const std::string& device) {
  if (setsockopt(fd_, SOL_SOCKET, SO_BINDTODEVICE, device.c_str(),
                 static_cast<socklen_t>(device.size())) != 0) {
    return fail_errno(errno == ENODEV ? "there is no interface '" + device + "' to send by"
                                      : "cannot bind a UDP socket to interface '" + device + "'");
  }
  return {};
}

// -- Receiving.

size_t UdpSocket::rx(std::span<RxFrame> frames, BufferCache& cache) {
  const size_t wanted = std::min(frames.size(), kRxBatch);
  size_t ready = 0;
  while (ready < wanted && (rx_->buffers[ready] = cache.take()) != nullptr) {
    rx_->parts[ready] = {rx_->buffers[ready]->data(), Buffer::kDataBytes};
    msghdr& message = rx_->messages[ready].msg_hdr;
    message = {};
    message.msg_name = &rx_->names[ready];
    message.msg_namelen = sizeof(rx_->names[ready]);
    message.msg_iov = &rx_->parts[ready];
    message.msg_iovlen = 1;
    message.msg_control = rx_->controls[ready];
    message.msg_controllen = kRxControlBytes;
    ++ready;
  }
  if (ready == 0) {
    return 0;
  }
  const int result =
      recvmmsg(fd_, rx_->messages, static_cast<unsigned>(ready), MSG_DONTWAIT, nullptr);
  const size_t got = static_cast<size_t>(std::max(result, 0));
  size_t count = 0;
  for (size_t i = 0; i < got; ++i) {
    if (accept(i, frames[count])) {
      ++count;
    } else {
      cache.give(rx_->buffers[i]);
      discarded_.store(discarded_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
  }
  for (size_t i = ready; i > got; --i) {
    cache.give(rx_->buffers[i - 1]);
  }
  return count;
}

// From message to frame; false for what did not come whole.
bool UdpSocket::accept(size_t slot, RxFrame& frame) {
  mmsghdr& message = rx_->messages[slot];
  if (message.msg_len == 0 || (message.msg_hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return false;
  }
  frame = {};
  frame.buffer = rx_->buffers[slot];
  frame.data = frame.buffer->data();
  frame.length = message.msg_len;
  const Beside beside = read_controls(message.msg_hdr);
  const bool train = beside.segment > 0 && static_cast<uint32_t>(beside.segment) < frame.length;
  frame.segment_bytes = train ? static_cast<uint32_t>(beside.segment) : frame.length;
  frame.tos = beside.tos;
  from_sockaddr(rx_->names[slot], frame.from);
  frame.from.local = beside.local;
  frame.from.interface = beside.interface;
  return frame.from.is_set();
}

// -- Sending.

namespace {

// Points `out` at a stretch of the frame's bytes; returns how many parts that took.
size_t cut(const TxFrame& frame, uint32_t offset, uint32_t length, iovec* out) {
  size_t count = 0;
  for (const Slice& slice : frame.slices) {
    if (offset >= slice.length) {
      offset -= slice.length;
      continue;
    }
    if (length == 0) {
      break;
    }
    const uint32_t here = std::min(slice.length - offset, length);
    out[count++] = {slice.data + offset, here};
    length -= here;
    offset = 0;
  }
  return count;
}

size_t write_controls(const TxFrame& frame, uint32_t segment, bool with_source, uint8_t* out) {
  ControlWriter controls(out);
  const bool v4 = frame.to->remote.family == Family::v4;
  if (with_source && v4) {
    in_pktinfo info{};
    std::memcpy(&info.ipi_spec_dst, frame.to->local.bytes.data(), sizeof(info.ipi_spec_dst));
    controls.add(IPPROTO_IP, IP_PKTINFO, info);
  } else if (with_source) {
    in6_pktinfo info{};
    std::memcpy(&info.ipi6_addr, frame.to->local.bytes.data(), sizeof(info.ipi6_addr));
    controls.add(IPPROTO_IPV6, IPV6_PKTINFO, info);
  }
  if (frame.tos != 0) {
    controls.add(v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, int{frame.tos});
  }
  if (segment != 0) {
    controls.add(IPPROTO_UDP, UDP_SEGMENT, static_cast<uint16_t>(segment));
  }
  return controls.bytes();
}

}  // namespace

void UdpSocket::tx(std::span<TxFrame> frames) {
  wait_budget_ms_ = kWaitForRoomMs;
  const Time now = refused_.empty() ? 0 : now_boottime();
  for (TxFrame& frame : frames) {
    frame.error = 0;
    frame.source_refused = false;
    frame.path_mtu = 0;
    if (frame.slices.size() > kFrameSlicesMax) {
      frame.error = EMSGSIZE;
      continue;
    }
    const bool train = frame.segment_bytes != 0 && frame.length > frame.segment_bytes;
    const bool with_source = frame.to->local.family == family_;
    const bool whole =
        !train || (segments_ && (refused_.empty() || !refused_.contains(frame.to->remote, now)));
    if (whole) {
      add(frame, {0, frame.length, train ? frame.segment_bytes : 0, with_source});
      continue;
    }
    for (uint32_t at = 0; at < frame.length; at += frame.segment_bytes) {
      add(frame, {at, std::min(frame.segment_bytes, frame.length - at), 0, with_source});
    }
  }
  flush();
}

// Puts a message into the batch, which is sent first if there is no room.
void UdpSocket::add(TxFrame& frame, const Piece& piece) {
  if (tx_->count == kTxBatch || tx_->parts_used + frame.slices.size() > kIovMax) {
    flush();
  }
  const size_t slot = tx_->count++;
  iovec* parts = tx_->parts + tx_->parts_used;
  const size_t used = cut(frame, piece.offset, piece.length, parts);
  tx_->parts_used += used;
  tx_->frames[slot] = &frame;
  tx_->pieces[slot] = piece;
  msghdr& message = tx_->messages[slot].msg_hdr;
  message = {};
  message.msg_name = &tx_->names[slot];
  message.msg_namelen = to_sockaddr(*frame.to, tx_->names[slot]);
  message.msg_iov = parts;
  message.msg_iovlen = used;
  message.msg_controllen =
      write_controls(frame, piece.segment, piece.with_source, tx_->controls[slot]);
  message.msg_control = message.msg_controllen != 0 ? tx_->controls[slot] : nullptr;
}

// Sends the batch. sendmmsg stops at the first message that fails; that one is seen to, and the
// rest goes on.
void UdpSocket::flush() {
  size_t done = 0;
  while (done < tx_->count) {
    const int sent = sendmmsg(fd_, tx_->messages + done, static_cast<unsigned>(tx_->count - done),
                              MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      done += static_cast<size_t>(sent);
      continue;
    }
    const int error = errno;
    if (error == EINTR || (error == EAGAIN && wait_for_room())) {
      continue;
    }
    const int outcome =
        error == EAGAIN ? EAGAIN : resolve(*tx_->frames[done], tx_->pieces[done], error);
    if (outcome != 0) {
      TxFrame& frame = *tx_->frames[done];
      frame.error = outcome;
      if (outcome == EMSGSIZE && never_fragment_ && frame.path_mtu == 0) {
        frame.path_mtu = path_mtu_to(*frame.to);
      }
    }
    ++done;
  }
  tx_->count = 0;
  tx_->parts_used = 0;
}

// A message was refused with `error`: tries it in the plainer ways that may help. Returns what is
// left of the error.
int UdpSocket::resolve(TxFrame& frame, const Piece& piece, int error) {
  if (piece.segment != 0 && refuses_segments(error)) {
    const int split = send_split(frame, piece);
    if (split == 0) {
      return 0;
    }
    error = split;
  }
  if (!piece.with_source || !refuses_source(error)) {
    return error;
  }
  Piece plain = piece;
  plain.with_source = false;
  error = send_one(frame, plain);
  if (plain.segment != 0 && refuses_segments(error)) {
    error = send_split(frame, plain);
  }
  frame.source_refused = error == 0;
  return error;
}

int UdpSocket::send_one(const TxFrame& frame, const Piece& piece) {
  iovec parts[kFrameSlicesMax];
  sockaddr_storage name;
  alignas(cmsghdr) uint8_t controls[kTxControlBytes];
  msghdr message{};
  message.msg_name = &name;
  message.msg_namelen = to_sockaddr(*frame.to, name);
  message.msg_iov = parts;
  message.msg_iovlen = cut(frame, piece.offset, piece.length, parts);
  message.msg_controllen = write_controls(frame, piece.segment, piece.with_source, controls);
  message.msg_control = message.msg_controllen != 0 ? controls : nullptr;
  for (;;) {
    if (sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
      return 0;
    }
    const int error = errno;
    if (error != EINTR && (error != EAGAIN || !wait_for_room())) {
      return error;
    }
  }
}

// Datagram by datagram. When that works the route is to blame, and remembered.
int UdpSocket::send_split(const TxFrame& frame, const Piece& train) {
  const uint32_t end = train.offset + train.length;
  for (uint32_t at = train.offset; at < end; at += train.segment) {
    const Piece single{at, std::min(train.segment, end - at), 0, train.with_source};
    const int error = send_one(frame, single);
    if (error != 0) {
      return error;
    }
  }
  refused_.insert(frame.to->remote, now_boottime());
  trains_refused_.store(trains_refused_.load(std::memory_order_relaxed) + 1,
                        std::memory_order_relaxed);
  return 0;
}

bool UdpSocket::wait_for_room() {
  if (wait_budget_ms_ == 0) {
    return false;
  }
  --wait_budget_ms_;
  pollfd wait{fd_, POLLOUT, 0};
  return poll(&wait, 1, 1) >= 0;
}

}  // namespace sallyport
