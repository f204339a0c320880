// GatewayTunnel: one tunnel of a configuration, alive: its TUN, its UAPI socket, its place in the engine, and what the host is
// told of it (addresses, MTU, up).
//
// `wg` works on it as on any interface; what it changes lasts until the next reload, which says what the file says. A peer
// whose endpoint is a name gets its address when the name is known, keeps it while handshakes are fresh (it may have roamed),
// and is tried at the next address of the name while they are not.
//
// Thread rules: control's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "control/build.h"
#include "control/config.h"
#include "control/host_link.h"
#include "control/link_watch.h"
#include "control/resolver.h"
#include "control/tunnel.h"
#include "control/uapi_server.h"

namespace sallyport {

class GatewayTunnel {
 public:
  struct Owner {
    std::function<void()> gone;  // the TUN was deleted
    // Why this address of a name must not be used, when it must not.
    std::function<std::optional<std::string>(const IpAddress&, uint16_t port)> refuses;
  };

  // Makes the device and the socket; nothing of its configuration is in force yet.
  static Result<std::unique_ptr<GatewayTunnel>> open(boost::asio::io_context& context,
                                                     Engine& engine, Resolver& resolver,
                                                     const std::string& name, uint8_t protocol,
                                                     Owner owner);
  ~GatewayTunnel();  // the device goes, and the tunnel leaves the engine
  GatewayTunnel(const GatewayTunnel&) = delete;
  GatewayTunnel& operator=(const GatewayTunnel&) = delete;

  const std::string& name() const { return name_; }
  TunnelNumber number() const { return control_->number(); }
  uint32_t index() const { return index_; }
  const LinkState& link() const { return link_state_; }
  uint16_t listen_port() const { return control_->listen_port(); }
  std::string status() const { return control_->status(); }

  // The tunnel that datagrams go through; kNoTunnel: none. Before apply().
  void set_via(TunnelNumber via) { via_ = via; }

  // Puts the configuration in force: keys, peers, sockets, and with `manage` the link. All of it, or none and why.
  Result<void> apply(const config::Config& config, const config::Tunnel& tunnel);

  // Now and then: peers with stale handshakes are tried at their names' next address.
  void look_after_endpoints();
  Resolver::State name_state(
      const std::string& peer) const;  // host is empty where the endpoint is no name

 private:
  struct Named {  // a peer whose endpoint is a name
    wireguard::PublicKey key{};
    config::EndpointText endpoint;
    Resolver::Handle handle = Resolver::Handle::none;
    std::vector<IpAddress> addresses;
    size_t next = 0;
    Time tried = kNever;
    // Until when it was heard, and since when it owes an answer.
    uint64_t rx_packets = 0, tx_packets = 0, tx_bytes = 0;
    Time asked = kNever;
  };

  GatewayTunnel(Engine& engine, Resolver& resolver, std::string name, Owner owner);
  Result<SetRequest> request_for(const config::Config& config, const config::Tunnel& tunnel) const;
  Result<void> apply_link(const config::Config& config, const config::Tunnel& tunnel);
  void follow_names(const config::Config& config, const config::Tunnel& tunnel);
  void name_changed(const std::string& peer, const std::vector<IpAddress>& addresses);
  void try_address(Named& named);
  static bool answers(const Named& named, const PeerState& there);
  static void listen(Named& named, const PeerState& there);
  void link_changed(const LinkState& state);
  const PeerState* find(const TunnelState& state, const wireguard::PublicKey& key) const;

  Engine& engine_;
  Resolver& resolver_;
  Owner owner_;
  std::string name_;
  uint32_t index_ = 0;
  LinkState link_state_;
  std::optional<HostLink> host_link_;
  std::optional<UapiSocket> socket_;
  std::unique_ptr<TunnelControl> control_;
  std::unique_ptr<LinkWatch> link_watch_;
  std::optional<UapiServer> server_;
  std::optional<config::Tunnel> in_force_;
  TunnelNumber via_ = kNoTunnel;
  std::map<std::string, Named> named_;  // by the peer's name
};

}  // namespace sallyport
