#include "control/flow_query.h"

#include <charconv>
#include <string_view>

#include "control/packet_query.h"

namespace sallyport {
namespace {

constexpr const char* kWords =
    "from PREFIX, to PREFIX, sport N[-M], dport N[-M], ipproto P, peer NAME, tunnel NAME, exit "
    "NAME, "
    "state STATE";

Result<void> take_prefix(const std::string& word, const std::string& text,
                         std::optional<IpPrefix>& out) {
  const auto prefix = parse_prefix(text);
  if (!prefix) {
    return fail(word + " '" + text + "' is no prefix such as 10.0.0.0/8 or 2001:db8::5");
  }
  out = *prefix;
  return {};
}

std::optional<uint16_t> port_in(std::string_view text) {
  uint16_t port = 0;
  const auto [stopped, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc{} && stopped == text.data() + text.size() ? std::optional(port)
                                                                      : std::nullopt;
}

Result<void> take_ports(const std::string& word, const std::string& text,
                        std::optional<config::PortRange>& out) {
  const size_t dash = text.find('-');
  const auto first = port_in(std::string_view(text).substr(0, dash));
  const auto last =
      dash == std::string::npos ? first : port_in(std::string_view(text).substr(dash + 1));
  if (!first || !last || *first > *last) {
    return fail(word + " '" + text + "' is no port such as 443, nor ports such as 1000-2000");
  }
  out = {*first, *last};
  return {};
}

Result<void> take_state(const std::string& text, FlowQuery& query) {
  if (text == "replied" || text == "unreplied") {
    query.replied = text == "replied";
    return {};
  }
  std::string known = "replied, unreplied";
  for (unsigned i = 1; i < kTcpStates; ++i) {
    const auto state = static_cast<TcpState>(i);
    if (text == to_text(state)) {
      query.tcp = state;
      return {};
    }
    known += std::string(", ") + to_text(state);
  }
  return fail("state '" + text + "' is not known: " + known);
}

Result<void> take(const std::string& word, const std::string& text, FlowQuery& query) {
  if (word == "from") {
    return take_prefix(word, text, query.from);
  }
  if (word == "to") {
    return take_prefix(word, text, query.to);
  }
  if (word == "sport") {
    return take_ports(word, text, query.source_ports);
  }
  if (word == "dport") {
    return take_ports(word, text, query.destination_ports);
  }
  if (word == "state") {
    return take_state(text, query);
  }
  if (word == "ipproto") {
    auto number = protocol_number(text);
    if (!number) {
      return std::unexpected(std::move(number.error()));
    }
    query.protocol = *number;
    return {};
  }
  if (word == "peer" || word == "tunnel" || word == "exit") {
    (word == "peer" ? query.peer : word == "tunnel" ? query.tunnel : query.exit) = text;
    return {};
  }
  return fail("'" + word + "' is no word of a flow filter: " + kWords);
}

bool holds(const std::optional<IpPrefix>& prefix, const FlowTuple& tuple, const uint8_t* address) {
  return !prefix || prefix->contains(tuple.family(), address);
}

bool holds(const std::optional<config::PortRange>& ports, uint16_t port) {
  return !ports || (ports->first <= port && port <= ports->second);
}

void add_exit_and_members(const Policy& policy, uint32_t exit, std::vector<uint32_t>& out) {
  if (exit >= policy.exits.size() || std::ranges::find(out, exit) != out.end()) {
    return;
  }
  out.push_back(exit);
  const Exit& its = policy.exits[exit];
  for (const ExitMember& member : its.members) {
    add_exit_and_members(policy, member.exit, out);
  }
  if (its.kind == ExitKind::group) {
    add_exit_and_members(policy, its.when_down, out);
  }
}

}  // namespace

Result<FlowQuery> read_flow_query(const std::vector<std::string>& words) {
  FlowQuery query;
  for (size_t i = 0; i < words.size(); i += 2) {
    if (i + 1 == words.size()) {
      return fail("'" + words[i] + "' wants a value, or is no word of a flow filter: " + kWords);
    }
    for (size_t before = 0; before < i; before += 2) {
      if (words[before] == words[i]) {
        return fail("'" + words[i] + "' is there twice");
      }
    }
    if (auto taken = take(words[i], words[i + 1], query); !taken) {
      return std::unexpected(std::move(taken.error()));
    }
  }
  return query;
}

uint32_t exit_of_flow(const FlowInfo& flow, const Policy& policy) {
  const FlowVerdict& verdict = flow.verdict;
  const bool is_of_this =
      verdict.epoch != 0 && verdict.epoch >= static_cast<uint32_t>(policy.epoch);
  return is_of_this && verdict.exit < policy.exits.size() ? verdict.exit : kNoExit;
}

Result<FlowFilter> FlowFilter::make(const FlowQuery& query, const config::Config& config,
                                    const TunnelNumbers& tunnels, const PolicyNames& names,
                                    const Policy& policy) {
  FlowFilter filter(policy);
  filter.query_ = query;
  filter.names_ = &names;
  if (auto taken = filter.take_names(config, tunnels, names); !taken) {
    return std::unexpected(std::move(taken.error()));
  }
  return filter;
}

Result<void> FlowFilter::take_names(const config::Config& config, const TunnelNumbers& tunnels,
                                    const PolicyNames& names) {
  if (!query_.peer.empty()) {
    const std::vector<config::PeerPlace> places = config::find_peers(config, query_.peer);
    if (places.size() != 1) {
      return fail((places.empty() ? "no peer is called '" : "several peers are called '") +
                  query_.peer + "': write TUNNEL/PEER");
    }
    const config::Tunnel& tunnel = config.tunnels[places[0].tunnel];
    const auto found = std::ranges::find_if(names.peers, [&](const auto& each) {
      return each.second.tunnel == tunnel.name &&
             each.second.name == tunnel.peers[places[0].peer].name;
    });
    tag_ = found == names.peers.end() ? PeerTags::kNone : found->first;
  }
  if (!query_.tunnel.empty()) {
    const auto found = tunnels.find(query_.tunnel);
    if (found == tunnels.end()) {
      return fail("there is no tunnel '" + query_.tunnel + "'");
    }
    tunnel_ = found->second;
  }
  if (!query_.exit.empty()) {
    const auto found = std::ranges::find(names.exits, query_.exit);
    if (found == names.exits.end()) {
      return fail("there is no exit '" + query_.exit + "'");
    }
    add_exit_and_members(*policy_, static_cast<uint32_t>(found - names.exits.begin()), exits_);
  }
  return {};
}

bool FlowFilter::is_of_direction(const FlowTuple& tuple) const {
  return holds(query_.from, tuple, tuple.source) && holds(query_.to, tuple, tuple.destination) &&
         holds(query_.source_ports, tuple.source_port) &&
         holds(query_.destination_ports, tuple.destination_port);
}

bool FlowFilter::is_of_peer(const FlowInfo& flow, const Exit* exit) const {
  return tag_ != PeerTags::kNone &&
         (flow.peer_tag == tag_ ||
          (exit != nullptr && exit->kind == ExitKind::peer && exit->tag == tag_));
}

bool FlowFilter::is_of_tunnel(const FlowInfo& flow, const Exit* exit) const {
  if (flow.tunnel == tunnel_) {
    return true;  // by which it also leaves, if nothing else was decided
  }
  if (exit == nullptr) {
    return false;
  }
  if (exit->kind == ExitKind::peer) {
    const auto peer = names_->peers.find(exit->tag);
    return peer != names_->peers.end() && peer->second.tunnel == query_.tunnel;
  }
  return (exit->kind == ExitKind::tunnel || exit->kind == ExitKind::port) &&
         exit->tunnel == tunnel_;
}

bool FlowFilter::matches(const FlowInfo& flow) const {
  if ((query_.protocol && *query_.protocol != flow.tuples[0].protocol) ||
      (query_.tcp && *query_.tcp != flow.tcp) ||
      (query_.replied && *query_.replied != flow.is_replied) ||
      (!is_of_direction(flow.tuples[0]) && !is_of_direction(flow.tuples[1]))) {
    return false;
  }
  const uint32_t number = exit_of_flow(flow, *policy_);
  const Exit* exit = number == kNoExit ? nullptr : &policy_->exits[number];
  return (query_.peer.empty() || is_of_peer(flow, exit)) &&
         (query_.tunnel.empty() || is_of_tunnel(flow, exit)) &&
         (query_.exit.empty() || std::ranges::find(exits_, number) != exits_.end());
}

}  // namespace sallyport
