#include "control/tunnel.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "control/status.h"
#include "dataplane/base/rcu.h"
#include "tun/udp_port.h"

namespace sallyport {

TunnelControl::TunnelControl(std::string interface, Engine& engine, TunnelNumber number,
                             Ports plain_ports)
    : interface_(std::move(interface)), engine_(engine), number_(number) {
  engine_.set_plain_ports(std::move(plain_ports), number_);
}

// -- The UAPI

Result<void> TunnelControl::set(const SetRequest& request) {
  const uint32_t fwmark = request.change.fwmark.value_or(fwmark_);
  const uint16_t asked_port = request.listen_port.value_or(asked_port_);
  const bool other_port = request.listen_port && asked_port != asked_port_ && asked_port != port_;
  uint16_t port = other_port ? asked_port : port_;

  Ports opened;
  if (listening_ && other_port && via_ == kNoTunnel) {
    auto ports = open_ports(port, fwmark);
    if (!ports) {
      return std::unexpected(std::move(ports.error()));
    }
    opened = std::move(*ports);
  } else if (listening_ && fwmark != fwmark_ && via_ == kNoTunnel) {
    if (auto marked = mark_ports(fwmark); !marked) {
      take_mark_back();
      return marked;
    }
  }
  if (auto applied = engine_.apply(request.change, number_); !applied) {
    if (listening_ && fwmark != fwmark_) {
      take_mark_back();
    }
    return applied;
  }

  // Beyond this point nothing fails.
  asked_port_ = asked_port;
  port_ = port;
  fwmark_ = fwmark;
  if (!opened.empty()) {
    engine_.set_outer_ports(std::move(opened), number_);
    spdlog::debug("listening on UDP port {}", port_);
  } else if (listening_ && other_port) {
    return open_outer(port_, fwmark_);  // through a tunnel: does not fail
  }
  return {};
}

std::string TunnelControl::get() const {
  TunnelState state = engine_.describe(number_);
  std::string answer = format_get(state, port_);
  wipe(state);
  return answer;
}

std::string TunnelControl::status() const {
  TunnelState state = engine_.describe(number_);
  const StatusFacts facts{interface_, link_, port_, now_wall() / kSecond};
  const Json report = status_json(facts, state, engine_.status(number_));
  wipe(state);
  return report.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n" + format_get_errno(0);
}

// -- The link

Result<void> TunnelControl::link_changed(const LinkState& link) {
  const LinkState before = std::exchange(link_, link);
  if (link.mtu != before.mtu && link.mtu != 0) {
    engine_.set_mtu(link.mtu, number_);
    spdlog::debug("MTU {}", link.mtu);
  }
  if (link.up && !listening_) {
    return start_listening();
  }
  if (!link.up && listening_) {
    stop_listening();
  }
  return {};
}

Result<void> TunnelControl::start_listening() {
  if (auto opened = open_outer(port_, fwmark_); !opened) {
    return opened;
  }
  engine_.set_up(true, number_);
  listening_ = true;
  spdlog::debug("up, listening on UDP port {}", port_);
  return {};
}

void TunnelControl::stop_listening() {
  engine_.set_up(false, number_);
  engine_.set_outer_ports({}, number_);
  listening_ = false;
  spdlog::debug("down");
}

Result<void> TunnelControl::reopen() {
  if (!listening_) {
    return {};
  }
  return open_outer(port_, fwmark_);
}

// -- Sockets, or another tunnel

// The ports that a tunnel picks for itself within another: nobody else is there to have them.
constexpr uint16_t kInnerPort = 51820;

Result<void> TunnelControl::open_outer(uint16_t& port, uint32_t fwmark) {
  if (via_ != kNoTunnel) {
    port = port != 0 ? port : static_cast<uint16_t>(kInnerPort + number_ % 10'000);
    engine_.set_via(via_, port, number_);
    return {};
  }
  auto ports = open_ports(port, fwmark);
  if (!ports) {
    return std::unexpected(std::move(ports.error()));
  }
  engine_.set_outer_ports(std::move(*ports), number_);
  return {};
}

Result<TunnelControl::Ports> TunnelControl::open_ports(uint16_t& port, uint32_t fwmark) const {
  rcu_barrier_all();  // sockets given up a moment ago are closed: their port may be asked for again
  UdpGroupOptions options;
  options.port = port;
  options.fwmark = fwmark;
  options.workers = engine_.workers();
  options.device = underlay_;
  options.never_fragment = never_fragment_;
  auto group = UdpGroup::open(options);
  if (!group) {
    return std::unexpected(std::move(group.error()));
  }
  port = group->port();
  return group->take_ports();
}

Result<void> TunnelControl::mark_ports(uint32_t fwmark) {
  for (const auto& port : engine_.outer_ports(number_)) {
    // Every outer port is one of open_ports'.
    if (auto marked = static_cast<UdpPort&>(*port).set_fwmark(fwmark); !marked) {
      return marked;
    }
  }
  return {};
}

void TunnelControl::take_mark_back() {
  if (auto marked = mark_ports(fwmark_); !marked) {  // it was allowed once
    spdlog::error("the mark is neither what it was nor what was asked for: {}",
                  marked.error().text);
  }
}

}  // namespace sallyport
