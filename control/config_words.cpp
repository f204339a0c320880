#include "control/config_words.h"

#include <algorithm>
#include <cstdio>

#include "control/packet_query.h"

namespace sallyport::config {
namespace {

// "a,b,c", "!a,!b", or "a,b,... (12 in all)".
std::string list(const std::vector<std::string>& members, bool negated, const char* separator = ",",
                 size_t max = kWordsListMax) {
  std::string text;
  for (size_t i = 0; i < members.size() && i < max; ++i) {
    text += (i == 0 ? "" : separator) + std::string(negated ? "!" : "") + members[i];
  }
  if (members.size() > max) {
    text += std::string(separator) + "... (" + std::to_string(members.size()) + " in all)";
  }
  return text;
}

template <class Values, class Text>
std::vector<std::string> texts(const Values& values, const Text& text) {
  std::vector<std::string> out;
  for (const auto& value : values) {
    out.push_back(text(value));
  }
  return out;
}

std::vector<std::string> members_of(const Addresses& addresses) {
  auto members = texts(addresses.prefixes, [](const IpPrefix& prefix) { return to_text(prefix); });
  for (const std::string& set : addresses.sets) {
    members.push_back("@" + set);
  }
  return members;
}

std::string port_range_text(const PortRange& range) {
  const std::string text = std::to_string(range.first);
  return range.first == range.second ? text : text + "-" + std::to_string(range.second);
}

// The mask is left out where it is the one that a mark, or a tos, has by itself.
std::string masked_text(const Masked& masked, uint32_t whole) {
  return (masked.negated ? "!" : "") + hex_text(masked.value) +
         (masked.mask == whole ? "" : "/" + hex_text(masked.mask));
}

bool is_default(const IpPrefix& prefix) {
  return prefix.length == 0;
}

void append(std::string& text, const char* word, const std::string& value) {
  text += (text.empty() ? "" : " ") + std::string(word) + (value.empty() ? "" : " ") + value;
}

}  // namespace

std::string hex_text(uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%x", value);
  return text;
}

std::string duration_text(uint64_t milliseconds) {
  if (milliseconds % 1000 != 0) {
    return std::to_string(milliseconds) + "ms";
  }
  const uint64_t seconds = milliseconds / 1000;
  return seconds != 0 && seconds % 60 == 0 ? std::to_string(seconds / 60) + "m"
                                           : std::to_string(seconds) + "s";
}

std::string prefixes_text(const std::vector<IpPrefix>& prefixes) {
  if (prefixes.size() == 2 && std::ranges::all_of(prefixes, is_default) &&
      prefixes[0].address.family != prefixes[1].address.family) {
    return "default";
  }
  return list(texts(prefixes, [](const IpPrefix& prefix) { return to_text(prefix); }), false);
}

// -- Rules

std::string match_text(const Match& match, size_t list_max) {
  constexpr uint32_t kTosByDefault = 0xfc;  // the DSCP; the other two bits are ECN's
  std::string text;
  const auto listed = [&](const char* word, const std::vector<std::string>& members, bool negated) {
    if (!members.empty()) {
      append(text, word, list(members, negated, ",", list_max));
    }
  };
  if (match.family != Family::none) {
    append(text, "family", match.family == Family::v4 ? "ipv4" : "ipv6");
  }
  listed("from", members_of(match.from), match.from.negated);
  listed("to", members_of(match.to), match.to.negated);
  if (match.tos) {
    append(text, "tos", masked_text(*match.tos, kTosByDefault));
  }
  if (match.fwmark) {
    append(text, "fwmark", masked_text(*match.fwmark, UINT32_MAX));
  }
  listed("iif", match.iif.values, match.iif.negated);
  listed("oif", match.oif.values, match.oif.negated);
  listed("exit", match.exit.values, match.exit.negated);
  listed("peer", match.peer.values, match.peer.negated);
  listed("ipproto", texts(match.protocols, protocol_name), match.protocols_negated);
  listed("sport", texts(match.sport.ranges, port_range_text), match.sport.negated);
  listed("dport", texts(match.dport.ranges, port_range_text), match.dport.negated);
  listed("state", texts(match.states, state_text), match.states_negated);
  return text.empty() ? "from all" : text;
}

std::string rule_match_text(const Rule& rule) {
  return match_text(rule.match);
}

std::string rule_action_text(const Rule& rule) {
  using Action = Rule::Action;
  std::string text;
  if (rule.set_mark) {
    append(text, "set_mark", masked_text(*rule.set_mark, UINT32_MAX));
  }
  switch (rule.action) {
    case Action::none:
      break;
    case Action::table:
      append(text, "lookup", rule.table);
      break;
    case Action::exit:
      append(text, "exit", rule.exit);
      break;
    case Action::go_to:
      append(text, "goto", std::to_string(rule.target));
      break;
    case Action::drop:
      append(text, "drop", {});
      break;
    case Action::unreachable:
      append(text, "unreachable", {});
      break;
    case Action::prohibit:
      append(text, "prohibit", {});
      break;
    case Action::reset:
      append(text, "reset", {});
      break;
  }
  if (rule.suppress_prefixlength) {
    append(text, "suppress_prefixlength", std::to_string(*rule.suppress_prefixlength));
  }
  return text.empty() ? "nothing" : text;
}

std::string rule_text(const Rule& rule) {
  return rule_match_text(rule) + " " + rule_action_text(rule);
}

// -- NAT and filters

std::string state_text(FlowState state) {
  switch (state) {
    case FlowState::fresh:
      return "new";
    case FlowState::established:
      return "established";
    case FlowState::related:
      return "related";
    case FlowState::invalid:
      return "invalid";
    case FlowState::none:
      break;
  }
  return "none";
}

std::string address_range_text(const AddressRange& range) {
  return to_text(range.first) + (range.first == range.last ? "" : "-" + to_text(range.last));
}

std::string nat_action_text(const Nat& nat, size_t list_max) {
  std::string text;
  switch (nat.action) {
    case Nat::Action::none:
      return "none";
    case Nat::Action::masquerade:
      text = "masquerade";
      break;
    case Nat::Action::snat:
      text = "snat " + list(texts(nat.pool, address_range_text), false, ",", list_max);
      break;
    case Nat::Action::dnat:
      text = "dnat " + list(texts(nat.pool, address_range_text), false, ",", list_max);
      break;
    case Nat::Action::nptv6:
      return "nptv6 " + to_text(nat.inside) + " to " + to_text(nat.outside);
  }
  if (nat.ports) {
    append(text, "ports", port_range_text(*nat.ports));
  }
  if (nat.port) {
    append(text, "port", port_range_text(*nat.port));
  }
  if (nat.endpoint_independent) {
    append(text, "endpoint_independent", {});
  }
  return text + (nat.paired ? "" : " not paired");
}

std::string nat_text(const Nat& nat) {
  return match_text(nat.match) + " " + nat_action_text(nat);
}

std::string filter_action_text(const Filter& filter) {
  switch (filter.action) {
    case Filter::Action::accept:
      return "accept";
    case Filter::Action::drop:
      return "drop";
    case Filter::Action::reject:
      return "reject";
    case Filter::Action::reset:
      break;
  }
  return "reset";
}

std::string filter_text(const Filter& filter) {
  return match_text(filter.match) + " " + filter_action_text(filter);
}

std::string reverse_path_text(Flows::ReversePath how) {
  switch (how) {
    case Flows::ReversePath::strict:
      return "strict";
    case Flows::ReversePath::loose:
      return "loose";
    case Flows::ReversePath::off:
      break;
  }
  return "off";
}

std::string mss_text(const Tunnel& tunnel) {
  switch (tunnel.mss) {
    case Tunnel::Mss::clamp:
      return "clamp";
    case Tunnel::Mss::off:
      return "off";
    case Tunnel::Mss::fixed:
      break;
  }
  return std::to_string(tunnel.mss_bytes);
}

// -- Routes

std::string route_to_text(const Route& route) {
  return route.set.empty() ? prefixes_text(route.prefixes) : "@" + route.set;
}

std::string route_text(const Route& route) {
  return route_to_text(route) + " exit " + route.exit;
}

// -- Exits

std::string probe_text(const Probe& probe) {
  return (probe.target ? "ping " + to_text(*probe.target) : "handshakes") + " every " +
         duration_text(probe.interval_ms) + " (timeout " + duration_text(probe.timeout_ms) +
         ", up " + std::to_string(probe.up) + ", down " + std::to_string(probe.down) + ")";
}

namespace {

std::string group_text(const Exit& exit) {
  const bool weighted = exit.mode == Exit::Mode::weighted;
  std::string text = weighted ? "weighted " : "failover ";
  text += list(texts(exit.members,
                     [&](const Exit::Member& member) {
                       return member.exit + (weighted ? " " + std::to_string(member.weight) : "");
                     }),
               false, ", ");
  switch (exit.when_down) {
    case Exit::WhenDown::closed:
      text += "; closed when down";
      break;
    case Exit::WhenDown::unreachable:
      text += "; unreachable when down";
      break;
    case Exit::WhenDown::exit:
      text += "; exit " + exit.fallback + " when down";
      break;
  }
  return text + (exit.sticky_s == 0 ? "; not sticky"
                                    : "; sticky " + duration_text(uint64_t{exit.sticky_s} * 1000));
}

std::string plain_exit_text(const Exit& exit) {
  switch (exit.kind) {
    case Exit::Kind::peer:
      return "peer " + (exit.tunnel.empty() ? "" : exit.tunnel + "/") + exit.peer;
    case Exit::Kind::tunnel:
      return "tunnel " + exit.tunnel;
    case Exit::Kind::host:
      return "host";
    case Exit::Kind::port:
      return "port " + exit.tunnel;
    case Exit::Kind::drop:
      return "drop";
    case Exit::Kind::group:
      break;
  }
  return group_text(exit);
}

}  // namespace

std::string exit_text(const Exit& exit) {
  return plain_exit_text(exit) + (exit.probe ? "; probe " + probe_text(*exit.probe) : "");
}

// -- Tunnels and peers

std::string endpoint_text(const EndpointText& endpoint) {
  const bool v6 = endpoint.host.find(':') != std::string::npos;
  return (v6 ? "[" + endpoint.host + "]" : endpoint.host) + ":" + std::to_string(endpoint.port);
}

std::string lan_text(const Peer& peer) {
  switch (peer.lan) {
    case Peer::Lan::allow:
      return "allow";
    case Peer::Lan::deny:
      return "deny";
    case Peer::Lan::only:
      break;
  }
  return "only:" + peer.lan_set;
}

}  // namespace sallyport::config
