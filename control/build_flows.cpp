// The builder's part of flows: [[nat]], [[filter]], and the tables behind them.
#include <algorithm>
#include <random>

#include "control/builder.h"
#include "control/claims.h"
#include "dataplane/path/classify.h"

namespace sallyport {

bool keeps_flows(const config::Config& config) {
  return !config.nats.empty() || !config.filters.empty() || config.flows.where.line != 0;
}

bool has_policy(const config::Config& config) {
  return !config.rules.empty() || keeps_flows(config);
}

// An exit, and what a group may come to: a packet knows the member that it takes.
void Builder::add_exit_and_members(uint32_t exit, std::vector<uint32_t>& out) const {
  if (exit >= policy_->exits.size() || std::ranges::find(out, exit) != out.end()) {
    return;
  }
  out.push_back(exit);
  for (const ExitMember& member : policy_->exits[exit].members) {
    add_exit_and_members(member.exit, out);
  }
  if (policy_->exits[exit].kind == ExitKind::group) {
    add_exit_and_members(policy_->exits[exit].when_down, out);
  }
}

WayOutCondition Builder::way_out_of(const config::Match& match) const {
  WayOutCondition way;
  way.oif = interfaces_of(match.oif);
  way.exit.negated = match.exit.negated;
  for (const std::string& name : match.exit.values) {
    add_exit_and_members(exit_number(name), way.exit.values);
  }
  return way;
}

// The number of this range among those that ports are chosen from.
uint32_t Builder::port_range(config::PortRange range) {
  const auto known = std::ranges::find(port_ranges_, range);
  if (known == port_ranges_.end()) {
    port_ranges_.push_back(range);
    return static_cast<uint32_t>(port_ranges_.size() - 1);
  }
  return static_cast<uint32_t>(known - port_ranges_.begin());
}

// Of them, those that the host can be told to bring back.
uint32_t Builder::host_port_range(config::PortRange range) {
  const auto bounded = [](uint16_t port) { return std::min(port, kClaimedPortMax); };
  return port_range({bounded(range.first), bounded(range.second)});
}

NatRule Builder::nat_rule_of(const config::Nat& nat) {
  using Action = config::Nat::Action;
  NatRule rule;
  rule.way_out = way_out_of(nat.match);
  rule.pool = nat.pool;
  switch (nat.action) {
    case Action::none:
      rule.kind = NatKind::none;
      break;
    case Action::masquerade:
      rule.kind = NatKind::masquerade;
      rule.ports = port_range(nat.ports.value_or(kNatPorts));
      rule.host_ports = host_port_range(nat.ports.value_or(kHostPorts));
      policy_->nat.as_host = policy_->nat.as_host || may_leave_to_host(nat.match);
      break;
    case Action::snat:
      rule.kind = NatKind::snat;
      rule.ports = port_range(nat.ports.value_or(kNatPorts));
      rule.host_ports = host_port_range(nat.ports.value_or(kNatPorts));
      if (may_leave_to_host(nat.match)) {
        policy_->nat.as_others.insert(policy_->nat.as_others.end(), nat.pool.begin(),
                                      nat.pool.end());
      }
      break;
    case Action::dnat:
      rule.kind = NatKind::dnat;
      if (nat.port.has_value()) {
        rule.port_first = nat.port->first;
        rule.port_last = nat.port->second;
        rule.dport_first =
            nat.match.dport.ranges.empty() ? uint16_t{0} : nat.match.dport.ranges.front().first;
      }
      break;
    case Action::nptv6:
      rule.kind = NatKind::nptv6;
      rule.prefixes = Nptv6::make(nat.inside, nat.outside);
      break;
  }
  rule.endpoint_independent = nat.endpoint_independent;
  rule.paired = nat.paired;
  return rule;
}

Result<void> Builder::add_nats() {
  out_.names.nats = config_.nats;
  std::vector<RuleConditions> conditions;
  for (const config::Nat& nat : config_.nats) {
    conditions.push_back(conditions_of(nat.match));
    policy_->nat.rules.push_back(nat_rule_of(nat));
  }
  if (conditions.empty()) {
    return {};
  }
  auto table = RuleTable::build(conditions);
  if (!table) {
    table.error().text = "nat: " + table.error().text;
    return std::unexpected(std::move(table.error()));
  }
  policy_->nat.table = std::move(*table);
  std::random_device random;
  for (unsigned worker = 0; worker < policy_->workers; ++worker) {
    auto& blocks = policy_->nat.ports.emplace_back();
    for (const auto& [first, last] : port_ranges_) {
      blocks.push_back(std::make_unique<PortBlocks>(first, last, worker, policy_->workers,
                                                    uint64_t{random()} << 32 | random()));
    }
  }
  return {};
}

Result<void> Builder::add_filters() {
  using Action = config::Filter::Action;
  out_.names.filters = config_.filters;
  policy_->filter.accept_unmatched = config_.flows.accept_unmatched;
  std::vector<RuleConditions> conditions;
  for (const config::Filter& filter : config_.filters) {
    conditions.push_back(conditions_of(filter.match));
    FilterRule& rule = policy_->filter.rules.emplace_back();
    rule.way_out = way_out_of(filter.match);
    for (const FlowState state : filter.match.states) {
      rule.states = static_cast<uint8_t>(rule.states | FilterRule::bit(state));
    }
    if (filter.match.states_negated) {
      rule.states = static_cast<uint8_t>(~rule.states);
    }
    switch (filter.action) {
      case Action::accept:
        rule.action = FilterAction::accept;
        break;
      case Action::drop:
        rule.action = FilterAction::drop;
        break;
      case Action::reject:
        rule.action = FilterAction::reject;
        break;
      case Action::reset:
        rule.action = FilterAction::reset;
        break;
    }
  }
  if (conditions.empty()) {
    return {};
  }
  auto table = RuleTable::build(conditions);
  if (!table) {
    table.error().text = "filter: " + table.error().text;
    return std::unexpected(std::move(table.error()));
  }
  policy_->filter.table = std::move(*table);
  return {};
}

namespace {

ReversePath reverse_path_of(config::Flows::ReversePath how) {
  switch (how) {
    case config::Flows::ReversePath::strict:
      return ReversePath::strict;
    case config::Flows::ReversePath::loose:
      return ReversePath::loose;
    case config::Flows::ReversePath::off:
      break;
  }
  return ReversePath::off;
}

}  // namespace

Result<void> Builder::add_flows() {
  if (!keeps_flows(config_)) {
    return {};
  }
  policy_->flows = &assets_.flows(config_.flows);
  policy_->fragments = &assets_.fragments();
  policy_->reverse_path = reverse_path_of(config_.flows.reverse_path);
  if (auto added = add_nats(); !added) {
    return added;
  }
  return add_filters();
}

}  // namespace sallyport
