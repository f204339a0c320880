// What a Gateway says of itself: show, status, explain, trace (docs/control.md lists the members).
#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "control/config_words.h"
#include "control/explain.h"
#include "control/gateway.h"
#include "control/run_gateway.h"
#include "control/uapi.h"
#include "dataplane/path/classify.h"

namespace sallyport {
namespace {

constexpr std::chrono::milliseconds kTapPoll{20};

PolicyCounter* row(const Policy& policy, size_t worker, bool rules) {
  return (rules ? policy.rule_counters : policy.exit_counters)[worker].get();
}

struct Counted {
  uint64_t packets = 0, bytes = 0, drops = 0;
};

Counted counted(const Policy* policy, uint32_t number, bool rules) {
  Counted sum;
  for (size_t worker = 0; policy != nullptr && worker < policy->rule_counters.size(); ++worker) {
    const PolicyCounter& counter = row(*policy, worker, rules)[number];
    sum.packets += counter.packets.load(std::memory_order_relaxed);
    sum.bytes += counter.bytes.load(std::memory_order_relaxed);
    sum.drops += counter.drops.load(std::memory_order_relaxed);
  }
  return sum;
}

Json show_rules(const PolicyNames& names, const Policy* policy) {
  Json list = Json::array();
  for (uint32_t i = 0; i < names.rules.size(); ++i) {
    const config::Rule& rule = names.rules[i];
    const Counted sum = counted(policy, i, true);
    list.push_back({{"priority", rule.priority},
                    {"name", rule.name},
                    {"text", config::rule_match_text(rule)},
                    {"action", config::rule_action_text(rule)},
                    {"file", rule.where.file},
                    {"line", rule.where.line},
                    {"packets", sum.packets},
                    {"bytes", sum.bytes},
                    {"drops", sum.drops}});
  }
  return list;
}

Json show_sets(const config::Config& config, const PolicyAssets& assets, const SetLoader& loader) {
  Json list = Json::array();
  for (const config::Set& set : config.sets) {
    const SetFacts& facts = assets.facts(set.name);
    list.push_back({{"name", set.name},
                    {"prefixes", facts.prefixes},
                    {"holes", facts.holes},
                    {"memory_bytes", facts.memory_bytes},
                    {"source", facts.source},
                    {"loaded_at", facts.loaded_at / kSecond},
                    {"loads", facts.loads},
                    {"loading", loader.progress(set.name).value_or("")},
                    {"error", facts.error}});
  }
  return list;
}

Json show_tables(const config::Config& config) {
  Json list = Json::array();
  for (const config::Table& table : config.tables) {
    Json routes = Json::array();
    for (const config::Route& route : table.routes) {
      routes.push_back({{"to", config::route_to_text(route)},
                        {"exit", route.exit},
                        {"file", route.where.file},
                        {"line", route.where.line}});
    }
    list.push_back({{"name", table.name}, {"routes", std::move(routes)}});
  }
  return list;
}

Json show_exits(const config::Config& config, const Policy* policy, const ExitMonitor& monitor) {
  Json list = Json::array();
  for (uint32_t i = 0; i < config.exits.size(); ++i) {
    const config::Exit& exit = config.exits[i];
    const Counted sum = counted(policy, i, false);
    const bool alive = policy == nullptr || policy->alive[i].load(std::memory_order_relaxed);
    Json one = {{"name", exit.name}, {"kind", config::exit_text(exit)}, {"alive", alive}};
    if (const auto state = monitor.state(exit.name); state.has_value()) {
      one["why"] = state->why;
      if (state->round_trip.has_value()) {
        one["rtt_ms"] = std::round(static_cast<double>(*state->round_trip) / kMicrosecond) / 1e3;
      }
      if (state->probes > 0) {
        one["loss"] = state->loss;
      }
    }
    one["packets"] = sum.packets;
    one["bytes"] = sum.bytes;
    Json members = Json::array();
    for (const config::Exit::Member& member : exit.members) {
      const auto found = std::find_if(config.exits.begin(), config.exits.end(),
                                      [&](const auto& each) { return each.name == member.exit; });
      const bool up = policy == nullptr || found == config.exits.end() ||
                      policy->alive[found - config.exits.begin()].load(std::memory_order_relaxed);
      members.push_back({{"exit", member.exit}, {"weight", member.weight}, {"alive", up}});
    }
    one["members"] = std::move(members);
    list.push_back(std::move(one));
  }
  return list;
}

std::string peer_name(const config::Tunnel* tunnel, const KeyBytes& key) {
  if (tunnel != nullptr) {
    for (const config::Peer& peer : tunnel->peers) {
      if (peer.public_key == key) {
        return peer.name;
      }
    }
  }
  return base64_of(key).substr(0, 8);
}

const config::Tunnel* tunnel_of(const config::Config& config, const std::string& name) {
  for (const config::Tunnel& tunnel : config.tunnels) {
    if (tunnel.name == name) {
      return &tunnel;
    }
  }
  return nullptr;
}

void add_drops(Json& list, const Json& drops, const Json& labels) {
  for (const auto& [reason, packets] : drops.items()) {
    Json one = {{"reason", reason}, {"packets", packets}};
    one.update(labels);
    list.push_back(std::move(one));
  }
}

// The mark and the device the host would send a sealed packet with.
Json outer_json(const config::Config& config, const config::Tunnel* tunnel,
                const Explanation& explanation, uint16_t listen_port, size_t inner_bytes) {
  Json outer = Json::object();
  const PeerBrief& peer = explanation.peer;
  if (!peer.endpoint.is_set()) {
    outer["to"] = nullptr;
    outer["text"] = "no endpoint is known: the sender would be told that it is unreachable";
    return outer;
  }
  const size_t padded = (inner_bytes + 15) / 16 * 16;
  const size_t sealed =
      std::max(inner_bytes, std::min<size_t>(padded, explanation.mtu)) + wireguard::kDataOverhead;
  outer["to"] = to_text(peer.endpoint);
  if (listen_port != 0) {
    outer["from_port"] = listen_port;
  }
  const uint32_t mark = tunnel == nullptr ? 0 : outer_mark(config, *tunnel);
  outer["mark"] = config::hex_text(mark);
  outer["udp_bytes"] = sealed;
  outer["session"] = peer.has_session;
  return outer;
}

}  // namespace

Json explanation_json(const Explanation& explanation, const PolicyNames& names,
                      const std::vector<uint8_t>& packet) {
  const PacketFacts facts = packet_facts(packet.data(), static_cast<uint32_t>(packet.size()));
  return {{"packet", facts.text},
          {"steps", steps_json(explanation.trace, names, facts)},
          {"verdict", verdict_text(explanation.trace, names)}};
}

ControlResult Gateway::show(const std::string& what) const {
  const Policy* policy = engine_.policy();
  if (what == "rules") {
    return show_rules(names_, policy);
  }
  if (what == "sets") {
    return show_sets(config_, assets_, loader_);
  }
  if (what == "tables") {
    return show_tables(config_);
  }
  if (what == "exits") {
    return show_exits(config_, policy, monitor_);
  }
  Json list = Json::array();
  if (what == "drops") {
    bool workers_told = false;
    for (const auto& [name, its] : tunnels_) {
      const EngineStatus status = engine_.status(its->number());
      std::array<uint64_t, kDropReasons> sum{};
      for (const WorkerStatus& worker : status.workers) {
        for (size_t i = 0; i < kDropReasons; ++i) {
          sum[i] += worker.drops[i];
        }
      }
      if (!std::exchange(workers_told, true)) {  // they serve all tunnels
        add_drops(list, drops_json(sum), Json::object());
      }
      add_drops(list, drops_json(status.handshaker.drops), {{"tunnel", name}});
      TunnelState state = engine_.describe(its->number());
      for (const PeerState& peer : state.peers) {
        add_drops(
            list, drops_json(peer.drops),
            {{"tunnel", name}, {"peer", peer_name(tunnel_of(config_, name), peer.public_key)}});
      }
      wipe(state);
    }
    for (uint32_t i = 0; i < names_.rules.size(); ++i) {
      if (const uint64_t drops = counted(policy, i, true).drops; drops > 0) {
        list.push_back({{"reason", "by rule"},
                        {"packets", drops},
                        {"rule", names_.rules[i].priority},
                        {"file", names_.rules[i].where.file},
                        {"line", names_.rules[i].where.line}});
      }
    }
    return list;
  }
  for (const auto& [name, its] : tunnels_) {
    TunnelState state = engine_.describe(its->number());
    const config::Tunnel* tunnel = tunnel_of(config_, name);
    uint64_t rx = 0, tx = 0;
    for (const PeerState& peer : state.peers) {
      rx += peer.rx_bytes;
      tx += peer.tx_bytes;
      if (what == "peers") {
        const std::string label = peer_name(tunnel, peer.public_key);
        Json one = {{"tunnel", name}, {"name", label}, {"public_key", base64_of(peer.public_key)}};
        one["endpoint"] = peer.endpoint.is_set() ? Json(to_text(peer.endpoint)) : Json();
        one["last_handshake_age_s"] =
            peer.last_handshake == 0 ? Json() : Json((now_wall() - peer.last_handshake) / kSecond);
        one["rx_bytes"] = peer.rx_bytes;
        one["tx_bytes"] = peer.tx_bytes;
        if (const Resolver::State dns = its->name_state(label); !dns.host.empty()) {
          one["host"] = dns.host;
          one["host_error"] = dns.error;
        }
        list.push_back(std::move(one));
      }
    }
    if (what == "tunnels") {
      list.push_back({{"name", name},
                      {"up", its->link().up},
                      {"mtu", its->link().mtu},
                      {"listen_port", its->listen_port()},
                      {"fwmark", config::hex_text(state.fwmark)},
                      {"public_key", base64_of(state.public_key)},
                      {"peers", state.peers.size()},
                      {"rx_bytes", rx},
                      {"tx_bytes", tx}});
    }
    wipe(state);
  }
  return list;
}

Json Gateway::status() const {
  Json tunnels = Json::array();
  for (const auto& [name, its] : tunnels_) {
    tunnels.push_back(name);
  }
  return {{"config", config_.file},        {"version", SALLYPORT_VERSION},
          {"tunnels", std::move(tunnels)}, {"rules", config_.rules.size()},
          {"workers", engine_.workers()},  {"aead", crypto::aead_name()}};
}

// -- explain

Result<PacketToExplain> locate(const PacketQuery& query, const config::Config& config,
                               const TunnelNumbers& tunnels, const PolicyNames& names,
                               const SetEntries& entries) {
  PacketToExplain out;
  out.packet = make_packet(query);
  const auto from_peer = [&](const config::Tunnel& tunnel,
                             const config::Peer& peer) -> Result<PacketToExplain> {
    out.tunnel = tunnels.at(tunnel.name);
    for (const auto& [tag, named] : names.peers) {
      if (named.tunnel == tunnel.name && named.name == peer.name) {
        out.from_tag = tag;
      }
    }
    return out;
  };
  if (!query.peer.empty()) {
    const std::vector<config::PeerPlace> places = config::find_peers(config, query.peer);
    if (places.size() != 1) {
      return fail((places.empty() ? "no peer is called '" : "several peers are called '") +
                  query.peer + "': write TUNNEL/PEER");
    }
    const config::Tunnel& tunnel = config.tunnels[places[0].tunnel];
    return from_peer(tunnel, tunnel.peers[places[0].peer]);
  }
  constexpr std::string_view kHost = "host:";
  std::string iif = query.iif;
  if (iif.starts_with(kHost)) {
    iif = iif.substr(kHost.size());
    const auto found = tunnels.find(iif);
    if (found == tunnels.end()) {
      return fail("there is no tunnel '" + iif + "'");
    }
    out.tunnel = found->second;
    return out;
  }
  if (!iif.empty() && iif != "host") {
    for (const config::Tunnel& tunnel : config.tunnels) {
      const config::Peer* best = nullptr;
      unsigned length = 0;
      for (const config::Peer& peer : tunnel.peers) {
        for (const IpPrefix& prefix : peer.allowed_ips) {
          if (tunnel.name == iif && prefix.contains(query.from->address) &&
              (best == nullptr || prefix.length > length)) {
            best = &peer;
            length = prefix.length;
          }
        }
      }
      if (best != nullptr) {
        return from_peer(tunnel, *best);
      }
    }
    return fail(tunnels.contains(iif)
                    ? "no peer of " + iif + " may send from " + to_text(query.from->address)
                    : "there is no tunnel '" + iif + "'");
  }
  // From the host: by the tunnel whose capture leads there.
  std::map<std::string, uint32_t> links;
  for (const auto& [name, number] : tunnels) {
    links[name] = number + 1u;
  }
  const HostRoute* best = nullptr;
  const std::vector<HostRoute> routes = captured_routes(config, entries, links);
  for (const HostRoute& route : routes) {
    if (route.prefix.contains(query.to->address) &&
        (best == nullptr || route.prefix.length > best->prefix.length)) {
      best = &route;
    }
  }
  if (best != nullptr && !best->is_throw) {
    out.tunnel = static_cast<TunnelNumber>(best->link - 1);
    return out;
  }
  return fail(best == nullptr ? "not captured" : "in a hole of what is captured", ENOENT);
}

namespace {

// A packet of the host's that no tunnel captures: not ours.
Json not_captured(const PacketQuery& query, const std::string& why, const Json& host_step) {
  const std::vector<uint8_t> packet = make_packet(query);
  const PacketFacts facts = packet_facts(packet.data(), static_cast<uint32_t>(packet.size()));
  Json steps = Json::array();
  if (!host_step.is_null()) {
    steps.push_back(host_step);
  }
  steps.push_back(step_json(
      "host", to_text(query.to->address) + " is " + why + ": no tunnel ever sees this packet"));
  return {{"packet", facts.text},
          {"steps", std::move(steps)},
          {"verdict", "left to the host's own routes"}};
}

}  // namespace

ControlResult Gateway::explain(const PacketQuery& query) {
  TunnelNumbers numbers;
  for (const auto& [name, its] : tunnels_) {
    numbers[name] = its->number();
  }
  // What the host itself does with it comes first: it is asked, not guessed.
  Json host_step;
  std::string device;
  auto host = HostRouteQuery::open();
  PacketQuery located = query;
  const bool from_host = query.peer.empty() && (query.iif.empty() || query.iif == "host");
  if (from_host && host) {
    const auto path = host->query(query.to->address, query.mark.value_or(0));
    if (path) {
      host_step =
          step_json("host", "the host routes " + to_text(query.to->address) + " " + to_text(*path));
      device = path->device;
    } else {
      host_step = step_json("host", path.error().text);
    }
    if (numbers.contains(device)) {
      located.iif = "host:" + device;
    } else if (config_.host.manage) {
      const auto entries = [this](const std::string& set) -> const auto& {
        return assets_.entries(set);
      };
      const auto by_file = locate(query, config_, numbers, names_, entries);
      const std::string why =
          by_file ? "captured, but routed elsewhere by the host" : by_file.error().text;
      return not_captured(query, why, host_step);
    } else {
      return not_captured(query, "routed elsewhere", host_step);
    }
  }
  const auto packet = locate(
      located, config_, numbers,
      names_, [this](const std::string& set) -> const auto& { return assets_.entries(set); });
  if (!packet) {
    return control_fail(packet.error().text);
  }
  const auto explanation = engine_.explain(*packet);
  if (!explanation) {
    return control_fail(explanation.error().text);
  }
  Json answer = explanation_json(*explanation, names_, packet->packet);
  if (!host_step.is_null()) {
    answer["steps"].insert(answer["steps"].begin(), host_step);
  }
  if (explanation->to_peer) {
    const std::string name = names_.tunnel(explanation->peer.tunnel);
    const config::Tunnel* tunnel = tunnel_of(config_, name);
    const GatewayTunnel* its = this->tunnel(name);
    Json outer = outer_json(config_, tunnel, *explanation, its == nullptr ? 0 : its->listen_port(),
                            packet->packet.size());
    const Endpoint& to = explanation->peer.endpoint;
    if (host && to.is_set() && tunnel != nullptr) {
      const auto path = host->query(to.remote, outer_mark(config_, *tunnel));
      outer["host"] = path ? to_text(*path) : path.error().text;
      if (!tunnel->underlay.empty()) {
        outer["underlay"] = tunnel->underlay;
      }
    }
    outer["mtu"] = explanation->mtu;
    answer["outer"] = std::move(outer);
  }
  return answer;
}

ControlResult explain_offline(const std::string& config_file, const PacketQuery& query) {
  const config::ReadResult read = config::read_file(config_file);
  const auto refuse = [&](const std::vector<config::Problem>& problems) {
    return control_fail(config_file + " has errors", config::to_texts(problems));
  };
  if (!read.ok()) {
    return refuse(read.errors);
  }
  const config::Config& config = read.config;
  EngineOptions options;
  options.buffers_per_worker = 1;
  options.staging_blocks = 16;
  options.tunnels = static_cast<unsigned>(config.tunnels.size());
  Engine engine(options);
  PolicyAssets assets;
  std::vector<config::Problem> errors;
  assets.commit(assets.prepare(config, errors));
  if (!errors.empty()) {
    return refuse(errors);
  }
  TunnelNumbers numbers;
  for (size_t i = 0; i < config.tunnels.size(); ++i) {
    const auto number = static_cast<TunnelNumber>(i);
    config::Tunnel keyless = config.tunnels[i];  // no key is needed to say where a packet goes
    keyless.private_key = {};
    for (config::Peer& peer : keyless.peers) {
      peer.preshared_key = {};
    }
    numbers[keyless.name] = number;
    const auto change =
        build_tunnel(config, keyless, [](const std::string&) { return std::vector<IpAddress>(); });
    if (!change) {
      return control_fail(change.error().text);
    }
    if (auto applied = engine.apply(*change, number); !applied) {
      return control_fail(applied.error().text);
    }
    engine.set_up(true, number);  // what it will be when it runs
  }
  auto built = build_policy(config, numbers, engine, assets);
  if (!built) {
    return control_fail(built.error().text);
  }
  const PolicyNames names = std::move(built->names);
  engine.set_policy(has_policy(config) ? std::move(built->policy) : nullptr);
  const auto entries = [&](const std::string& set) -> const auto& {
    return assets.entries(set);
  };
  const auto packet = locate(query, config, numbers, names, entries);
  if (!packet && packet.error().code == ENOENT) {
    return not_captured(query, packet.error().text, Json());
  }
  if (!packet) {
    return control_fail(packet.error().text);
  }
  const auto explanation = engine.explain(*packet);
  if (!explanation) {
    return control_fail(explanation.error().text);
  }
  Json answer = explanation_json(*explanation, names, packet->packet);
  if (explanation->to_peer) {
    const config::Tunnel* tunnel = tunnel_of(config, names.tunnel(explanation->peer.tunnel));
    answer["outer"] =
        outer_json(config, tunnel, *explanation, tunnel == nullptr ? 0 : tunnel->listen_port,
                   packet->packet.size());
  }
  engine.set_policy(nullptr);
  return answer;
}

// -- trace

std::expected<ControlService::Stop, ControlFailure> Gateway::trace(const PacketQuery& query,
                                                                   TraceSink sink) {
  if (sink_.has_value()) {
    return control_fail("somebody else is tracing: one at a time");
  }
  TraceFilter filter;
  filter.from = query.from;
  filter.to = query.to;
  filter.protocol = query.protocol;
  filter.sport = query.source_port;
  filter.dport = query.destination_port;
  filter.drops_only = query.drops;
  if (!query.peer.empty()) {
    const std::vector<config::PeerPlace> places = config::find_peers(config_, query.peer);
    if (places.size() != 1) {
      return control_fail((places.empty() ? "no peer is called '" : "several peers are called '") +
                          query.peer + "': write TUNNEL/PEER");
    }
    const config::Tunnel& its = config_.tunnels[places[0].tunnel];
    auto tag = engine_.tag(its.peers[places[0].peer].public_key, tunnel(its.name)->number());
    if (!tag) {
      return control_fail(tag.error().text);
    }
    filter.peer = *tag;
  } else if (query.iif == "host") {
    filter.peer = PeerTags::kNone;
  } else if (!query.iif.empty()) {
    const bool host = query.iif.starts_with("host:");
    const GatewayTunnel* its = tunnel(host ? query.iif.substr(5) : query.iif);
    if (its == nullptr) {
      return control_fail("there is no tunnel '" + query.iif + "'");
    }
    filter.iif = iif_number(its->number(), host);
  }
  sink_.emplace(std::move(sink));
  engine_.set_tap(std::make_unique<Tap>(filter));
  tap_timer_.expires_after(kTapPoll);
  tap_timer_.async_wait([this](boost::system::error_code error) {
    if (!error) {
      poll_tap();
    }
  });
  return [this] {
    tap_timer_.cancel();
    engine_.set_tap(nullptr);
    sink_.reset();
  };
}

void Gateway::poll_tap() {
  Tap* tap = engine_.tap();
  if (tap == nullptr || !sink_.has_value()) {
    return;
  }
  while (const std::optional<TracedPacket> packet = tap->take()) {
    const PacketFacts facts = packet_facts(packet->head, packet->head_bytes);
    Json event = {{"packet", facts.text},
                  {"in", packet->from_host ? "from the host by " + names_.tunnel(packet->tunnel)
                                           : "from peer " + names_.peer(packet->from_tag)},
                  {"bytes", packet->bytes},
                  {"segments", packet->segments},
                  {"steps", steps_json(packet->trace, names_, facts)},
                  {"verdict", verdict_text(packet->trace, names_)}};
    TraceSink sink = *sink_;
    if (!sink.event(event) || !sink_.has_value()) {
      return;  // stopped, perhaps from within
    }
    tap = engine_.tap();
    if (tap == nullptr) {
      return;
    }
  }
  tap_timer_.expires_after(kTapPoll);
  tap_timer_.async_wait([this](boost::system::error_code error) {
    if (!error) {
      poll_tap();
    }
  });
}

}  // namespace sallyport
