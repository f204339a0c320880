#include "tun/udp_port.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "tun/steer.h"

namespace sallyport {
namespace {

constexpr int kFreePortTries = 16;

// Errors by which a kernel says that it has no such family at all.
bool lacks_family(int code) {
  return code == EAFNOSUPPORT || code == EPROTONOSUPPORT || code == EADDRNOTAVAIL;
}

}  // namespace

// -- One port.

UdpPort::UdpPort(std::string name, std::unique_ptr<UdpSocket> v4, std::unique_ptr<UdpSocket> v6)
    : name_(std::move(name)), v4_(std::move(v4)), v6_(std::move(v6)) {}

UdpSocket* UdpPort::socket(Family family) const {
  return family == Family::v4 ? v4_.get() : family == Family::v6 ? v6_.get() : nullptr;
}

// Mostly one family talks and the other has nothing to say: then the quiet one is asked only every
// kQuietTurns calls, or when the busy one has nothing either. When both talk they take turns in
// being first.
size_t UdpPort::rx(std::span<RxFrame> frames, BufferCache& cache) {
  const unsigned other = busy_ ^ 1;
  if (skip_ > 0) {
    --skip_;
    size_t count = receive(busy_, frames, cache);
    if (count == 0) {
      count = receive(other, frames, cache);
      busy_ = count > 0 ? other : busy_;
    }
    return count;
  }
  const size_t first = receive(other, frames, cache);
  const size_t second = receive(busy_, frames.subspan(first), cache);
  if (first > 0) {
    busy_ = other;
  } else {
    skip_ = kQuietTurns;
  }
  return first + second;
}

size_t UdpPort::receive(unsigned family, std::span<RxFrame> frames, BufferCache& cache) {
  UdpSocket* from = family == 0 ? v4_.get() : v6_.get();
  size_t count = 0;
  size_t gathered = 0;
  while (from != nullptr && count < frames.size() && gathered < kRxBytesMax) {
    const size_t wanted = std::min(frames.size() - count, UdpSocket::kRxBatch);
    const size_t got = from->rx(frames.subspan(count), cache);
    for (size_t i = count; i < count + got; ++i) {
      gathered += frames[i].length;
    }
    count += got;
    if (got < wanted) {
      break;
    }
  }
  return count;
}

void UdpPort::tx(std::span<TxFrame> frames) {
  // Neighbours of one family go together; a burst mostly has one.
  for (size_t first = 0; first < frames.size();) {
    const Family family = frames[first].to->remote.family;
    size_t end = first + 1;
    while (end < frames.size() && frames[end].to->remote.family == family) {
      ++end;
    }
    const std::span<TxFrame> run = frames.subspan(first, end - first);
    if (UdpSocket* by = socket(family); by != nullptr) {
      by->tx(run);
    } else {
      for (TxFrame& frame : run) {
        frame.error = EAFNOSUPPORT;
      }
    }
    first = end;
  }
}

Port::Descriptors UdpPort::descriptors() const {
  return {{v4_ ? v4_->fd() : -1, v6_ ? v6_->fd() : -1}};
}

Result<void> UdpPort::set_fwmark(uint32_t mark) {
  for (UdpSocket* each : {v4_.get(), v6_.get()}) {
    if (each != nullptr) {
      const Result<void> set = each->set_fwmark(mark);
      if (!set) {
        return set;
      }
    }
  }
  return {};
}

PortStatus UdpPort::status() const {
  PortStatus status;
  status.driver = "udp";
  status.name = name_;
  const auto add = [&status](const char* name, bool on, const std::string& reason) {
    status.offloads.push_back({name, on, on ? std::string() : reason});
  };
  uint64_t refused = 0;
  bool gro = true;
  bool segments = true;
  for (const UdpSocket* each : {v4_.get(), v6_.get()}) {
    if (each != nullptr) {
      status.discarded += each->discarded();
      refused += each->trains_refused();
      gro = gro && each->gro();
      segments = segments && each->segments();
    }
  }
  add("ipv4", v4_ != nullptr, why_no_v4_);
  add("ipv6", v6_ != nullptr, why_no_v6_);
  add("udp_gro", gro, "the kernel refused UDP_GRO");
  add("udp_segment", segments, "the kernel has no UDP_SEGMENT");
  if (segments && refused != 0) {
    status.offloads.back().reason =
        "off for routes that refused it, " + std::to_string(refused) + " times so far";
  }
  add("steering", why_no_steering_.empty(), why_no_steering_);
  return status;
}

// -- The group.

namespace {

Result<std::unique_ptr<UdpSocket>> open_for(Family family, const UdpGroupOptions& options) {
  Result<std::unique_ptr<UdpSocket>> socket = UdpSocket::open(family);
  if (socket && !options.device.empty()) {
    if (auto bound = (*socket)->bind_device(options.device); !bound) {
      return std::unexpected(std::move(bound.error()));
    }
  }
  if (socket && options.never_fragment) {
    if (auto set = (*socket)->never_fragment(); !set) {
      return std::unexpected(std::move(set.error()));
    }
  }
  return socket;
}

}  // namespace

// The first socket of a family, bound alone. A family that the kernel lacks is no error: `out`
// stays empty.
Result<uint16_t> UdpGroup::open_first(Family family, const UdpGroupOptions& options, uint16_t port,
                                      Sockets& out, std::string& why_absent) {
  Result<std::unique_ptr<UdpSocket>> socket = open_for(family, options);
  Result<uint16_t> bound = port;
  if (socket) {
    bound = (*socket)->bind(port);
  } else {
    bound = std::unexpected(socket.error());
  }
  if (!bound && lacks_family(bound.error().code)) {
    why_absent = bound.error().text;
    return port;
  }
  if (!bound) {
    return bound;
  }
  const Result<void> shared = (*socket)->share_port();
  if (!shared) {
    return std::unexpected(shared.error());
  }
  out.push_back(std::move(*socket));
  return bound;
}

Result<void> UdpGroup::open_rest(Family family, const UdpGroupOptions& options,
                                 Sockets& sockets) const {
  while (!sockets.empty() && sockets.size() < options.workers + 1) {
    Result<std::unique_ptr<UdpSocket>> socket = open_for(family, options);
    if (!socket) {
      return std::unexpected(socket.error());
    }
    const Result<void> shared = (*socket)->share_port();
    if (!shared) {
      return shared;
    }
    const Result<uint16_t> bound = (*socket)->bind(port_);
    if (!bound) {
      return std::unexpected(bound.error());
    }
    sockets.push_back(std::move(*socket));
  }
  return {};
}

Result<UdpGroup> UdpGroup::open(const UdpGroupOptions& options) {
  for (int attempt = 1;; ++attempt) {
    UdpGroup group;
    Result<uint16_t> port = options.port;
    if (options.v4) {
      port = open_first(Family::v4, options, *port, group.v4_, group.why_no_v4_);
    }
    if (port && options.v6) {
      port = open_first(Family::v6, options, *port, group.v6_, group.why_no_v6_);
    }
    if (!port) {
      // The port that one family had free may be in use in the other.
      if (options.port == 0 && port.error().code == EADDRINUSE && attempt < kFreePortTries) {
        continue;
      }
      return std::unexpected(port.error());
    }
    if (group.v4_.empty() && group.v6_.empty()) {
      return fail("this kernel has neither IPv4 nor IPv6 (" + group.why_no_v4_ + "; " +
                      group.why_no_v6_ + ")",
                  EAFNOSUPPORT);
    }
    group.port_ = *port;
    const Result<void> assembled = group.assemble(options);
    if (!assembled) {
      return std::unexpected(assembled.error());
    }
    return group;
  }
}

Result<void> UdpGroup::assemble(const UdpGroupOptions& options) {
  const unsigned count = options.workers + 1;
  Result<void> done = open_rest(Family::v4, options, v4_);
  if (done) {
    done = open_rest(Family::v6, options, v6_);
  }
  if (!done) {
    return done;
  }
  std::string why_no_steering;
  for (const Sockets* sockets : {&v4_, &v6_}) {
    if (!sockets->empty()) {
      const Result<void> steered = attach_steering(sockets->front()->fd(), options.workers);
      if (!steered) {
        why_no_steering = steered.error().text;
      }
    }
  }
  for (unsigned i = 0; i < count; ++i) {
    auto port = std::make_unique<UdpPort>("udp:" + std::to_string(port_),
                                          v4_.empty() ? nullptr : std::move(v4_[i]),
                                          v6_.empty() ? nullptr : std::move(v6_[i]));
    port->why_no_v4_ = why_no_v4_;
    port->why_no_v6_ = why_no_v6_;
    port->why_no_steering_ = why_no_steering;
    if (options.fwmark != 0) {
      const Result<void> marked = port->set_fwmark(options.fwmark);
      if (!marked) {
        return marked;
      }
    }
    ports_.push_back(std::move(port));
  }
  return {};
}

std::vector<std::unique_ptr<Port>> UdpGroup::take_ports() {
  return std::move(ports_);
}

}  // namespace sallyport
