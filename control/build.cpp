#include "control/build.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <utility>

#include "control/builder.h"
#include "control/uapi.h"
#include "crypto/secret.h"
#include "dataplane/path/classify.h"

namespace sallyport {

using config::Config;

Result<void> Builder::name_peers() {
  for (const config::Tunnel& tunnel : config_.tunnels) {
    const TunnelNumber number = tunnels_.at(tunnel.name);
    out_.names.tunnels[number] = tunnel.name;
    for (const config::Peer& peer : tunnel.peers) {
      auto tag = engine_.tag(peer.public_key, number);
      if (!tag) {
        return std::unexpected(std::move(tag.error()));
      }
      tags_[tunnel.name + "/" + peer.name] = *tag;
      out_.names.peers[*tag] = {tunnel.name, peer.name};
    }
  }
  return {};
}

void Builder::add_sets() {
  for (const config::Set& set : config_.sets) {
    out_.names.sets.push_back(set.name);
    policy_->sets.push_back(&assets_.set(set.name));
  }
}

Exit Builder::exit_of(const config::Exit& from) {
  using Kind = config::Exit::Kind;
  Exit exit;
  switch (from.kind) {
    case Kind::peer: {
      exit.kind = ExitKind::peer;
      exit.tunnel = tunnels_.at(from.tunnel);
      exit.tag = tag_of(from.tunnel, from.peer);
      const auto tunnel = std::find_if(config_.tunnels.begin(), config_.tunnels.end(),
                                       [&](const auto& each) { return each.name == from.tunnel; });
      const auto peer = std::find_if(tunnel->peers.begin(), tunnel->peers.end(),
                                     [&](const auto& each) { return each.name == from.peer; });
      exit.lan = static_cast<LanPolicy>(peer->lan);
      exit.lan_set = peer->lan_set.empty() ? nullptr : &assets_.set(peer->lan_set);
      break;
    }
    case Kind::tunnel:
      exit.kind = ExitKind::tunnel;
      exit.tunnel = tunnels_.at(from.tunnel);
      break;
    case Kind::host:
      exit.kind = ExitKind::host;
      break;
    case Kind::port:
      exit.kind = ExitKind::port;
      exit.tunnel = tunnels_.at(from.tunnel);
      break;
    case Kind::drop:
      exit.kind = ExitKind::drop;
      break;
    case Kind::group:
      exit.kind = ExitKind::group;
      exit.mode =
          from.mode == config::Exit::Mode::weighted ? GroupMode::weighted : GroupMode::failover;
      for (const config::Exit::Member& member : from.members) {
        exit.members.push_back({exit_number(member.exit), member.weight});
      }
      if (from.when_down == config::Exit::WhenDown::exit) {
        exit.when_down = exit_number(from.fallback);
      } else if (from.when_down == config::Exit::WhenDown::unreachable) {
        // The last one: a configuration may have an exit of that name.
        exit.when_down = static_cast<uint32_t>(out_.names.exits.size() - 1);
      }
      exit.sticky_seconds = from.sticky_s;
      exit.affinity = &assets_.affinity(from);
      break;
  }
  return exit;
}

static_assert(static_cast<int>(config::Peer::Lan::deny) == static_cast<int>(LanPolicy::deny) &&
              static_cast<int>(config::Peer::Lan::only) == static_cast<int>(LanPolicy::only));

Result<void> Builder::add_exits() {
  if (config_.exits.size() + 3 > kExitsMax) {
    return fail("more than " + std::to_string(kExitsMax - 3) + " exits", E2BIG);
  }
  for (const config::Exit& exit : config_.exits) {
    out_.names.exits.push_back(exit.name);
  }
  for (const char* built_in : {"host", "drop", "unreachable"}) {
    out_.names.exits.push_back(built_in);
  }
  for (const config::Exit& exit : config_.exits) {
    policy_->exits.push_back(exit_of(exit));
  }
  for (const ExitKind kind : {ExitKind::host, ExitKind::drop, ExitKind::unreachable}) {
    policy_->exits.emplace_back().kind = kind;
  }
  return {};
}

void Builder::add_tables() {
  for (const config::Table& table : config_.tables) {
    auto built = std::make_unique<RouteTable>();
    std::vector<PolicyNames::Route> routes, set_routes;
    for (const config::Route& route : table.routes) {
      const uint32_t exit = exit_number(route.exit);
      for (const IpPrefix& prefix : route.prefixes) {
        const auto number = static_cast<uint32_t>(built->entries.size());
        built->entries.push_back({exit, prefix.length});
        routes.push_back({to_text(prefix), route.exit, route.where});
        const uint8_t* bytes = prefix.address.bytes.data();
        if (prefix.address.family == Family::v4) {
          built->v4.insert(Lpm4::from_bytes(bytes), prefix.length, number);
        } else {
          built->v6.insert(Lpm6::from_bytes(bytes), prefix.length, number);
        }
      }
      if (!route.set.empty()) {
        built->set_routes.push_back({&assets_.set(route.set), exit});
        set_routes.push_back({"@" + route.set, route.exit, route.where});
      }
    }
    routes.insert(routes.end(), set_routes.begin(), set_routes.end());
    out_.names.tables.push_back(table.name);
    out_.names.routes.push_back(std::move(routes));
    policy_->tables.push_back(std::move(built));
  }
}

AddressCondition Builder::addresses_of(const config::Addresses& from) const {
  AddressCondition condition;
  condition.negated = from.negated;
  for (const IpPrefix& prefix : from.prefixes) {
    condition.prefixes.push_back(set_entry(prefix));
  }
  for (const std::string& set : from.sets) {
    condition.sets.push_back(&assets_.set(set));
  }
  return condition;
}

// "wg0": out of that tunnel; "host": from the host by whatever port; "host:wg0": from the host by that one.
NumberCondition Builder::interfaces_of(const config::Names& names) const {
  constexpr std::string_view kHost = "host:";
  NumberCondition condition;
  condition.negated = names.negated;
  for (const std::string& name : names.values) {
    if (name == "host") {
      for (const auto& [tunnel, number] : tunnels_) {
        condition.values.push_back(iif_number(number, true));
      }
    } else if (name.starts_with(kHost)) {
      condition.values.push_back(iif_number(tunnels_.at(name.substr(kHost.size())), true));
    } else {
      condition.values.push_back(iif_number(tunnels_.at(name), false));
    }
  }
  return condition;
}

RuleConditions Builder::conditions_of(const config::Match& match) const {
  RuleConditions out;
  out.v4 = match.family != Family::v6;
  out.v6 = match.family != Family::v4;
  out.from = addresses_of(match.from);
  out.to = addresses_of(match.to);
  out.iif = interfaces_of(match.iif);
  out.peer.negated = match.peer.negated;
  for (const std::string& name : match.peer.values) {
    out.peer.values.push_back(tags_.at(name));
  }
  out.protocol.negated = match.protocols_negated;
  out.protocol.values.assign(match.protocols.begin(), match.protocols.end());
  const auto ports = [](const config::Ports& from, PortCondition& to) {
    to.negated = from.negated;
    for (const auto& [first, last] : from.ranges) {
      to.ranges.push_back({first, last});
    }
  };
  ports(match.sport, out.sport);
  ports(match.dport, out.dport);
  const auto masked = [](const std::optional<config::Masked>& from, MaskedCondition& to) {
    if (from.has_value()) {
      to = {true, from->value, from->mask, from->negated};
    }
  };
  masked(match.fwmark, out.mark);
  masked(match.tos, out.tos);
  return out;
}

RuleAction Builder::action_of(const config::Rule& rule) const {
  using From = config::Rule::Action;
  RuleAction out;
  if (rule.set_mark.has_value()) {
    out.mark_value = rule.set_mark->value;
    out.mark_mask = rule.set_mark->mask;
  }
  switch (rule.action) {
    case From::none:
      break;
    case From::table:
      out.kind = RuleAction::Kind::table;
      out.target = static_cast<uint32_t>(
          std::find(out_.names.tables.begin(), out_.names.tables.end(), rule.table) -
          out_.names.tables.begin());
      out.suppress_length = static_cast<int16_t>(
          rule.suppress_prefixlength.has_value() ? *rule.suppress_prefixlength : -1);
      break;
    case From::exit:
      out.kind = RuleAction::Kind::exit;
      out.target = exit_number(rule.exit);
      break;
    case From::go_to:
      out.kind = RuleAction::Kind::go_to;
      out.target = static_cast<uint32_t>(
          std::find_if(out_.names.rules.begin(), out_.names.rules.end(),
                       [&](const config::Rule& each) { return each.priority >= rule.target; }) -
          out_.names.rules.begin());
      break;
    case From::drop:
      out.kind = RuleAction::Kind::drop;
      break;
    case From::unreachable:
      out.kind = RuleAction::Kind::unreachable;
      break;
    case From::prohibit:
      out.kind = RuleAction::Kind::prohibit;
      break;
    case From::reset:
      out.kind = RuleAction::Kind::reset;
      break;
  }
  return out;
}

Result<void> Builder::add_rules() {
  out_.names.rules = config_.rules;
  std::stable_sort(
      out_.names.rules.begin(), out_.names.rules.end(),
      [](const config::Rule& a, const config::Rule& b) { return a.priority < b.priority; });
  for (const config::Rule& rule : out_.names.rules) {
    policy_->conditions.push_back(conditions_of(rule.match));
    policy_->actions.push_back(action_of(rule));
  }
  if (policy_->conditions.empty()) {
    return {};
  }
  auto rules = RuleTable::build(policy_->conditions);
  if (!rules) {
    return std::unexpected(std::move(rules.error()));
  }
  policy_->rules = std::move(*rules);
  return {};
}

// An echo request needs a source that the far end may answer: the tunnel's own address of the target's family.
void Builder::add_probes() {
  std::random_device random;
  std::vector<std::pair<uint32_t, Probe>> probes;
  for (uint32_t i = 0; i < config_.exits.size(); ++i) {
    const config::Exit& exit = config_.exits[i];
    if (!exit.probe.has_value() || !exit.probe->target.has_value() ||
        exit.kind != config::Exit::Kind::peer) {
      continue;
    }
    Probe probe;
    probe.target = *exit.probe->target;
    probe.id = static_cast<uint16_t>(random());
    probe.tag = uint64_t{random()} << 32 | random();
    for (const config::Tunnel& tunnel : config_.tunnels) {
      for (const IpPrefix& address : tunnel.addresses) {
        if (tunnel.name == exit.tunnel && !probe.source.is_set() &&
            address.address.family == probe.target.family) {
          probe.source = address.address;
        }
      }
    }
    probes.emplace_back(i, probe);
  }
  policy_->probe_count = probes.size();
  policy_->probes = std::make_unique<Policy::Probed[]>(probes.size());
  for (size_t i = 0; i < probes.size(); ++i) {
    out_.probed.push_back(probes[i].first);
    policy_->probes[i].probe = probes[i].second;
    policy_->probes[i].tag = policy_->exits[probes[i].first].tag;
  }
}

Result<BuiltPolicy> Builder::build() {
  out_.policy = std::make_unique<Policy>(engine_.tags(), engine_.workers());
  policy_ = out_.policy.get();
  add_sets();
  Result<void> done = name_peers();
  if (done) {
    done = add_exits();
  }
  if (done) {
    add_tables();
    done = add_rules();
  }
  if (done) {
    done = add_flows();
  }
  if (!done) {
    return std::unexpected(std::move(done.error()));
  }
  add_probes();
  policy_->finish();
  return std::move(out_);
}

namespace {

// Prefixes that more than one peer of the tunnel has.
std::set<std::string> shared_prefixes(const config::Tunnel& tunnel) {
  std::set<std::string> once, shared;
  for (const config::Peer& peer : tunnel.peers) {
    std::set<std::string> of_this;
    for (const IpPrefix& prefix : peer.allowed_ips) {
      of_this.insert(to_text(prefix));
    }
    for (const std::string& prefix : of_this) {
      if (!once.insert(prefix).second) {
        shared.insert(prefix);
      }
    }
  }
  return shared;
}

Error at(const config::Where& where, Error error) {
  error.text = config::to_text(where) + ": " + error.text;
  return error;
}

}  // namespace

std::string PolicyNames::peer(uint32_t tag) const {
  const auto found = peers.find(tag);
  return found == peers.end() ? "a peer that is not in the configuration"
                              : found->second.tunnel + "/" + found->second.name;
}

std::string PolicyNames::tunnel(TunnelNumber number) const {
  const auto found = tunnels.find(number);
  return found == tunnels.end() ? "tunnel " + std::to_string(number) : found->second;
}

Result<BuiltPolicy> build_policy(const Config& config, const TunnelNumbers& tunnels, Engine& engine,
                                 PolicyAssets& assets) {
  return Builder(config, tunnels, engine, assets).build();
}

uint32_t outer_mark(const Config& config, const config::Tunnel& tunnel) {
  return tunnel.fwmark.value_or(config.host.from_mark);
}

Result<TunnelChange> build_tunnel(const Config& config, const config::Tunnel& tunnel,
                                  const KnownAddresses& known) {
  TunnelChange change;
  auto key = config::load_key(tunnel.private_key);
  if (!key) {
    return std::unexpected(at(tunnel.private_key.where, std::move(key.error())));
  }
  change.private_key = *key;
  change.fwmark = outer_mark(config, tunnel);
  const std::set<std::string> shared = shared_prefixes(tunnel);
  for (const config::Peer& from : tunnel.peers) {
    PeerChange& peer = change.peers.emplace_back();
    peer.public_key = from.public_key;
    peer.replace_allowed_ips = true;
    peer.persistent_keepalive = from.persistent_keepalive;
    peer.path_mtu = from.path_mtu != 0 ? from.path_mtu : tunnel.path_mtu;
    auto preshared = config::load_key(from.preshared_key);
    if (!preshared) {
      return std::unexpected(at(from.preshared_key.where, std::move(preshared.error())));
    }
    peer.preshared_key = *preshared;
    for (const IpPrefix& prefix : from.allowed_ips) {
      peer.allowed_ips.push_back({prefix, false, shared.contains(to_text(prefix))});
    }
    if (from.endpoint.has_value()) {
      const std::vector<IpAddress> addresses = known(from.endpoint->host);
      if (from.endpoint->numeric) {
        const std::string& host = from.endpoint->host;
        const std::string port = std::to_string(from.endpoint->port);
        auto endpoint = parse_endpoint(
            host.find(':') == std::string::npos ? host + ":" + port : "[" + host + "]:" + port);
        if (!endpoint) {
          return std::unexpected(at(from.where, std::move(endpoint.error())));
        }
        peer.endpoint = *endpoint;
      } else if (!addresses.empty()) {
        Endpoint endpoint;
        endpoint.remote = addresses.front();
        endpoint.port = from.endpoint->port;
        peer.endpoint = endpoint;
      }
    }
  }
  return change;
}

void check_keys(const Config& config, bool with_credentials, std::vector<config::Problem>& errors) {
  const auto look = [&](const config::KeySource& source, const std::string& key) {
    if (source.kind == config::KeySource::Kind::credential && !with_credentials) {
      return;
    }
    auto loaded = config::load_key(source);
    if (!loaded) {
      const std::string place = config::to_text(source.where) + ": ";  // the error begins with it
      const std::string& text = loaded.error().text;
      errors.push_back(
          {source.where, key, text.substr(text.starts_with(place) ? place.size() : 0)});
    } else {
      crypto::secure_zero(loaded->data(), loaded->size());
    }
  };
  for (const config::Tunnel& tunnel : config.tunnels) {
    look(tunnel.private_key, "tunnel." + tunnel.name + ".private_key");
    for (const config::Peer& peer : tunnel.peers) {
      look(peer.preshared_key, "tunnel." + tunnel.name + "." + peer.name + ".preshared_key");
    }
  }
}

}  // namespace sallyport
