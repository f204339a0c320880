// Builder: the parts of one policy, which look each other's numbers up, built one after the other (build.h says what comes out).
//
// Thread rules: control's thread; nothing is in force yet.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "control/build.h"

namespace sallyport {

// Builds the parts of one policy, which look each other's numbers up.
class Builder {
 public:
  Builder(const config::Config& config, const TunnelNumbers& tunnels, Engine& engine,
          PolicyAssets& assets)
      : config_(config), tunnels_(tunnels), engine_(engine), assets_(assets) {}

  Result<BuiltPolicy> build();

 private:
  Result<void> name_peers();
  void add_sets();
  Result<void> add_exits();
  Exit exit_of(const config::Exit& from);
  void add_tables();
  Result<void> add_rules();
  RuleConditions conditions_of(const config::Match& match) const;
  AddressCondition addresses_of(const config::Addresses& from) const;
  NumberCondition interfaces_of(const config::Names& names) const;
  RuleAction action_of(const config::Rule& rule) const;
  Result<void> add_flows();
  Result<void> add_nats();
  Result<void> add_filters();
  NatRule nat_rule_of(const config::Nat& nat);
  uint32_t port_range(config::PortRange range);
  uint32_t host_port_range(config::PortRange range);
  WayOutCondition way_out_of(const config::Match& match) const;
  void add_exit_and_members(uint32_t exit, std::vector<uint32_t>& out) const;
  void add_probes();

  uint32_t exit_number(const std::string& name) const {
    return static_cast<uint32_t>(std::find(out_.names.exits.begin(), out_.names.exits.end(), name) -
                                 out_.names.exits.begin());
  }
  uint32_t tag_of(const std::string& tunnel, const std::string& peer) const {
    const auto found = tags_.find(tunnel + "/" + peer);
    return found == tags_.end() ? PeerTags::kNone : found->second;
  }

  const config::Config& config_;
  const TunnelNumbers& tunnels_;
  Engine& engine_;
  PolicyAssets& assets_;
  std::map<std::string, uint32_t> tags_;  // by "tunnel/peer"
  BuiltPolicy out_;
  std::vector<config::PortRange> port_ranges_;  // by number
  Policy* policy_ = nullptr;
};

}  // namespace sallyport
