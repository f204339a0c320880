#include "control/gateway_tunnel.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "control/config_nesting.h"
#include "control/process.h"
#include "tun/tun_device.h"

namespace sallyport {
namespace {

// A handshake older than this will not be renewed by itself: the peer does not answer at the address we have.
constexpr Time kStale = wireguard::kRekeyAfterTime + 3 * wireguard::kRekeyTimeout;
// A peer answers data with data, or with a keepalive after kKeepaliveTimeout; not after this: it is not there.
constexpr Time kSilence = wireguard::kKeepaliveTimeout + wireguard::kRekeyTimeout;
// How long one address of a name is tried before the next: two initiations.
constexpr Time kAddressPatience = 2 * wireguard::kRekeyTimeout;

bool same_endpoint(const std::optional<config::EndpointText>& a,
                   const std::optional<config::EndpointText>& b) {
  return a.has_value() == b.has_value() &&
         (!a.has_value() || (a->host == b->host && a->port == b->port));
}

const config::Peer* peer_of(const config::Tunnel& tunnel, const KeyBytes& key) {
  for (const config::Peer& peer : tunnel.peers) {
    if (peer.public_key == key) {
      return &peer;
    }
  }
  return nullptr;
}

static_assert(static_cast<int>(config::Tunnel::Mss::clamp) == static_cast<int>(MssMode::clamp) &&
              static_cast<int>(config::Tunnel::Mss::off) == static_cast<int>(MssMode::off) &&
              static_cast<int>(config::Tunnel::Mss::fixed) == static_cast<int>(MssMode::fixed));

}  // namespace

GatewayTunnel::GatewayTunnel(Engine& engine, Resolver& resolver, std::string name, Owner owner)
    : engine_(engine), resolver_(resolver), owner_(std::move(owner)), name_(std::move(name)) {}

Result<std::unique_ptr<GatewayTunnel>> GatewayTunnel::open(boost::asio::io_context& context,
                                                           Engine& engine, Resolver& resolver,
                                                           const std::string& name,
                                                           uint8_t protocol, Owner owner) {
  std::unique_ptr<GatewayTunnel> made(new GatewayTunnel(engine, resolver, name, std::move(owner)));
  auto tun = TunDevice::open(name, engine.workers(), choose_tun_calls());
  if (!tun) {
    return std::unexpected(std::move(tun.error()));
  }
  const auto index = tun->index();
  if (!index) {
    return std::unexpected(index.error());
  }
  made->index_ = *index;
  auto link = HostLink::open(*index, protocol);
  if (!link) {
    return std::unexpected(std::move(link.error()));
  }
  made->host_link_.emplace(std::move(*link));
  auto socket = UapiSocket::open(tun->name());
  if (!socket) {
    return std::unexpected(std::move(socket.error()));
  }
  made->socket_.emplace(std::move(*socket));
  auto ports = tun->take_ports();
  const int tun_fd = fcntl(ports.front()->descriptors().fd[0], F_DUPFD_CLOEXEC, 0);
  made->control_ =
      std::make_unique<TunnelControl>(name, engine, engine.add_tunnel(), std::move(ports));
  GatewayTunnel* self = made.get();
  auto watch = LinkWatch::start(context, tun_fd,
                                {[self](const LinkState& state) { self->link_changed(state); },
                                 [self] { self->owner_.gone(); }});
  if (!watch) {
    return std::unexpected(std::move(watch.error()));
  }
  made->link_watch_ = std::move(*watch);
  TunnelControl* control = made->control_.get();
  control->set_never_fragment(true);
  made->server_.emplace(
      context, *made->socket_,
      UapiService{[control](const SetRequest& request) { return control->set(request); },
                  [control] { return control->get(); }, [control] { return control->status(); }});
  return made;
}

GatewayTunnel::~GatewayTunnel() {
  for (const auto& [peer, named] : named_) {
    resolver_.forget(named.handle);
  }
  server_.reset();
  link_watch_.reset();
  if (control_ != nullptr) {
    engine_.remove_tunnel(control_->number());
  }
}

void GatewayTunnel::link_changed(const LinkState& state) {
  link_state_ = state;
  if (auto followed = control_->link_changed(state); !followed) {
    spdlog::error("{}: {}", name_, followed.error().text);
  }
}

// -- Putting a configuration in force.

// What the file says, as a change of what there is: peers that it does not name go, and a peer keeps the address it has
// roamed to unless its endpoint was changed in the file.
Result<SetRequest> GatewayTunnel::request_for(const config::Config& config,
                                              const config::Tunnel& tunnel) const {
  SetRequest request;
  auto change = build_tunnel(config, tunnel, [&](const std::string& host) {
    for (const auto& [peer, named] : named_) {
      if (named.endpoint.host == host) {
        return named.addresses;
      }
    }
    return std::vector<IpAddress>();
  });
  if (!change) {
    return std::unexpected(std::move(change.error()));
  }
  request.change = std::move(*change);
  TunnelState state = engine_.describe(control_->number());
  for (PeerChange& peer : request.change.peers) {
    const config::Peer* before = in_force_ ? peer_of(*in_force_, peer.public_key) : nullptr;
    const config::Peer* after = peer_of(tunnel, peer.public_key);
    const PeerState* there = find(state, peer.public_key);
    if (there != nullptr && there->endpoint.is_set() && before != nullptr &&
        same_endpoint(before->endpoint, after->endpoint)) {
      peer.endpoint.reset();
    }
  }
  for (const PeerState& there : state.peers) {
    if (peer_of(tunnel, there.public_key) == nullptr) {
      PeerChange& gone = request.change.peers.emplace_back();
      gone.public_key = there.public_key;
      gone.remove = true;
    }
  }
  wipe(state);
  request.listen_port = tunnel.listen_port;
  return request;
}

Result<void> GatewayTunnel::apply(const config::Config& config, const config::Tunnel& tunnel) {
  auto request = request_for(config, tunnel);
  if (!request) {
    return std::unexpected(std::move(request.error()));
  }
  const bool other_underlay =
      !in_force_ || in_force_->underlay != tunnel.underlay || in_force_->via != tunnel.via;
  control_->set_underlay(tunnel.underlay);
  control_->set_via(via_);
  Result<void> done = control_->set(*request);
  wipe(*request);
  if (done && other_underlay) {
    done = control_->reopen();
  }
  if (done && config.host.manage) {
    done = apply_link(config, tunnel);
  }
  if (!done) {
    if (in_force_) {
      control_->set_underlay(in_force_->underlay);
    }
    done.error().text =
        config::to_text(tunnel.where) + ": tunnel." + name_ + ": " + done.error().text;
    return done;
  }
  IpAddress v4, v6;  // the first of each family
  for (const IpPrefix& address : tunnel.addresses) {
    IpAddress& its = address.address.family == Family::v4 ? v4 : v6;
    if (!its.is_set()) {
      its = address.address;
    }
  }
  engine_.set_addresses(v4, v6, control_->number());
  engine_.set_mss(static_cast<MssMode>(tunnel.mss), tunnel.mss_bytes, control_->number());
  follow_names(config, tunnel);
  in_force_ = tunnel;
  return {};
}

Result<void> GatewayTunnel::apply_link(const config::Config& config, const config::Tunnel& tunnel) {
  const uint32_t mtu = config::mtu_of(config, tunnel);
  if (auto set = host_link_->set_mtu(mtu); !set) {
    return set;
  }
  if (auto set = host_link_->set_addresses(tunnel.addresses); !set) {
    return std::unexpected(std::move(set.error()));
  }
  if (auto set = host_link_->set_up(true); !set) {
    return set;
  }
  // The watch will say so too, a moment later; but whether the port can be had is to be known now.
  link_state_ = {true, mtu};
  return control_->link_changed(link_state_);
}

// -- Names.

const PeerState* GatewayTunnel::find(const TunnelState& state,
                                     const wireguard::PublicKey& key) const {
  for (const PeerState& peer : state.peers) {
    if (peer.public_key == key) {
      return &peer;
    }
  }
  return nullptr;
}

void GatewayTunnel::follow_names(const config::Config& config, const config::Tunnel& tunnel) {
  const Underlay underlay{tunnel.underlay, outer_mark(config, tunnel), tunnel.resolvers};
  std::map<std::string, Named> before = std::exchange(named_, {});
  for (const config::Peer& peer : tunnel.peers) {
    if (!peer.endpoint.has_value() || peer.endpoint->numeric) {
      continue;
    }
    Named named;
    const auto known = before.find(peer.name);
    if (known != before.end() && known->second.endpoint.host == peer.endpoint->host) {
      named = known->second;
      before.erase(known);
      resolver_.set_underlay(named.handle, underlay);
    } else {
      const std::string name = peer.name;
      named.handle = resolver_.watch(
          peer.endpoint->host, underlay,
          [this, name](const std::vector<IpAddress>& addresses) { name_changed(name, addresses); });
    }
    named.key = peer.public_key;
    named.endpoint = *peer.endpoint;
    named_[peer.name] = named;
  }
  for (const auto& [peer, named] : before) {
    resolver_.forget(named.handle);
  }
}

void GatewayTunnel::name_changed(const std::string& peer, const std::vector<IpAddress>& addresses) {
  const auto found = named_.find(peer);
  if (found == named_.end() || addresses.empty()) {
    return;
  }
  Named& named = found->second;
  named.addresses = addresses;
  named.next = 0;
  const TunnelState state = engine_.describe(control_->number());
  const PeerState* there = find(state, named.key);
  if (there == nullptr) {
    return;
  }
  if (!there->endpoint.is_set() || !answers(named, *there)) {
    try_address(named);
  }
}

bool GatewayTunnel::answers(const Named& named, const PeerState& there) {
  return there.last_handshake != 0 && now_wall() - there.last_handshake < kStale &&
         (named.asked == kNever || now_boottime() - named.asked < kSilence);
}

// Keepalives ask for nothing.
void GatewayTunnel::listen(Named& named, const PeerState& there) {
  if (there.rx_packets != named.rx_packets) {
    named.rx_packets = there.rx_packets;
    named.tx_packets = there.tx_packets;
    named.tx_bytes = there.tx_bytes;
    named.asked = kNever;
  } else if (named.asked == kNever &&
             there.tx_bytes - named.tx_bytes >
                 wireguard::kDataOverhead * (there.tx_packets - named.tx_packets)) {
    named.asked = now_boottime();
  }
}

void GatewayTunnel::try_address(Named& named) {
  const TunnelState state = engine_.describe(control_->number());
  const PeerState* there = find(state, named.key);
  if (there == nullptr || named.addresses.empty()) {
    return;
  }
  TunnelChange change;
  PeerChange& peer = change.peers.emplace_back();
  peer.public_key = named.key;
  peer.update_only = true;
  peer.endpoint.emplace();
  peer.endpoint->remote = named.addresses[named.next % named.addresses.size()];
  peer.endpoint->port = named.endpoint.port;
  ++named.next;
  named.tried = now_boottime();
  if (const auto why = owner_.refuses(peer.endpoint->remote, named.endpoint.port);
      why.has_value()) {
    spdlog::error("{}: {} is at {}, which is not used: {}", name_, named.endpoint.host,
                  to_text(peer.endpoint->remote), *why);
    return;
  }
  if (there->endpoint.same_remote(*peer.endpoint)) {
    return;
  }
  spdlog::debug("{}: {} is at {}", name_, named.endpoint.host, to_text(*peer.endpoint));
  if (auto applied = engine_.apply(change, control_->number()); !applied) {
    spdlog::error("{}: {}", name_, applied.error().text);
  }
}

void GatewayTunnel::look_after_endpoints() {
  if (named_.empty()) {
    return;
  }
  const TunnelState state = engine_.describe(control_->number());
  for (auto& [name, named] : named_) {
    const PeerState* there = find(state, named.key);
    if (there == nullptr) {
      continue;
    }
    listen(named, *there);
    if (answers(named, *there) || there->tx_bytes == 0) {
      continue;  // works, or nobody has anything to send
    }
    resolver_.refresh(named.handle);
    if (named.tried == kNever || now_boottime() - named.tried >= kAddressPatience) {
      try_address(named);  // a changed one, or the next of several
    }
  }
}

Resolver::State GatewayTunnel::name_state(const std::string& peer) const {
  const auto found = named_.find(peer);
  return found == named_.end() ? Resolver::State{} : resolver_.describe(found->second.handle);
}

}  // namespace sallyport
