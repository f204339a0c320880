// Gateway: the daemon of one configuration file: what `sallyport run` is.
//
// It owns an engine, the tunnels of the configuration, its sets, policy and exits, and what the host is told. A
// configuration comes into force whole or not at all: everything that can fail is done first (files read, keys looked at, loops
// looked for, devices and sockets opened, tables built, routes set), and what was done is taken back when something fails
// behind it; the policy itself is one pointer store.
//
// What can be seen for a moment: the tunnels take their peers, and the host its routes, just before the policy changes.
//
// Thread rules: control's thread. The process around it is run_gateway.h's.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/build.h"
#include "control/capture.h"
#include "control/config.h"
#include "control/control_server.h"
#include "control/exit_monitor.h"
#include "control/flow_query.h"
#include "control/gateway_tunnel.h"
#include "control/host_nat.h"
#include "control/host_route_query.h"
#include "control/host_routes.h"
#include "control/packet_query.h"
#include "control/policy_assets.h"
#include "control/resolver.h"
#include "control/set_loader.h"
#include "control/set_watch.h"

namespace sallyport {

class Gateway {
 public:
  using Outcome = std::expected<void, ControlFailure>;

  // `failed`: something without which it cannot go on (a TUN that was deleted).
  Gateway(boost::asio::io_context& context, unsigned workers,
          std::function<void(std::string)> failed);
  ~Gateway();  // takes back what the host was told
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  Outcome apply(const config::Config& config);
  const config::Config& config() const { return config_; }
  bool configured() const { return configured_; }

  Json status() const;
  ControlResult show(const std::string& what) const;
  // Of the flows that match a filter's words (flow_query.h).
  ControlResult show_flows(const std::vector<std::string>& filter) const;
  ControlResult flush_flows(const std::vector<std::string>& filter);
  ControlResult explain(const PacketQuery& query);
  std::expected<ControlService::Stop, ControlFailure> trace(const PacketQuery& query,
                                                            TraceSink sink);

 private:
  struct Fresh;  // what a configuration needs before it can come into force
  using Lists = std::map<std::string, std::unique_ptr<SetWatch>>;  // by set

  GatewayTunnel* tunnel(const std::string& name) const;
  std::optional<std::string> leads_back(const std::string& tunnel, const IpAddress& address,
                                        uint16_t port) const;
  Outcome prepare(const config::Config& config, Fresh& fresh);
  TunnelNumber via_of(const config::Tunnel& wanted, const Fresh& fresh) const;
  Outcome apply_tunnels(const config::Config& config, Fresh& fresh);
  Result<void> apply_routes(const config::Config& config, const SetEntries& entries,
                            std::unique_ptr<HostRoutes>& replaced);
  HostNat::Tunnels nat_tunnels() const;
  void commit(const config::Config& config, Fresh& fresh);
  Lists watch_lists(const config::Config& config);
  void list_changed(const std::string& set);
  void list_loaded(PolicyAssets::Prepared prepared, const std::vector<config::Problem>& problems);
  void repair_routes();
  void repair_later();
  std::vector<IpAddress> endpoints_around() const;
  void look_after();
  std::expected<FlowFilter, ControlFailure> flow_filter(const std::vector<std::string>& words,
                                                        const Policy& policy) const;
  void sweep_flows();
  void poll_tap();

  boost::asio::io_context& context_;
  std::function<void(std::string)> failed_;
  Engine engine_;
  PolicyAssets assets_;
  SetLoader loader_;
  Resolver resolver_;
  ExitMonitor monitor_;
  std::map<std::string, std::unique_ptr<GatewayTunnel>> tunnels_;
  config::Config config_;
  bool configured_ = false;
  PolicyNames names_;
  std::unique_ptr<HostRoutes> routes_;
  std::optional<HostNat> host_nat_;
  Lists lists_;
  std::vector<IpAddress> around_;  // endpoints that are routed around
  boost::asio::steady_timer repair_timer_, look_timer_, tap_timer_, sweep_timer_;
  bool repair_waits_ = false;
  std::optional<TraceSink> sink_;
  uint64_t missed_ = 0;
};

// Everything a packet's way says, in JSON: for the daemon and for `explain --config`.
Json explanation_json(const Explanation& explanation, const PolicyNames& names,
                      const std::vector<uint8_t>& packet);

// Where a query's packet comes in: by what it says, or else by the tunnel that captures its destination.
Result<PacketToExplain> locate(const PacketQuery& query, const config::Config& config,
                               const TunnelNumbers& tunnels, const PolicyNames& names,
                               const SetEntries& entries);

}  // namespace sallyport
