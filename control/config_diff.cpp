#include "control/config_diff.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "control/config_diff_about.h"
#include "control/config_words.h"
#include "control/limits.h"
#include "control/uapi.h"

namespace sallyport::config {
namespace {

std::string prefix_text(const IpPrefix& prefix) {
  return to_text(prefix);
}

std::string count_of(size_t count, const char* thing) {
  return std::to_string(count) + " " + thing + (count == 1 ? "" : "s");
}

std::string joined(const std::vector<std::string>& texts) {
  std::string line;
  for (const std::string& text : texts) {
    line += (line.empty() ? "" : ", ") + text;
  }
  return line;
}

// Goes through two lists of named things: those gone, then those that are there, in the new file's order.
template <class Thing, class Gone, class Come, class Both>
void by_name(const std::vector<Thing>& from, const std::vector<Thing>& to, const Gone& gone,
             const Come& come, const Both& both) {
  std::map<std::string_view, const Thing*> before, after;
  for (const Thing& thing : from) {
    before.emplace(thing.name, &thing);
  }
  for (const Thing& thing : to) {
    after.emplace(thing.name, &thing);
  }
  for (const Thing& thing : from) {
    if (!after.contains(thing.name)) {
      gone(thing);
    }
  }
  for (const Thing& thing : to) {
    const auto old = before.find(thing.name);
    if (old == before.end()) {
      come(thing);
    } else {
      both(*old->second, thing);
    }
  }
}

// -- Host

void diff_host(const Host& from, const Host& to, Lines& lines) {
  About host(lines, "host");
  host.number("table", from.table, to.table);
  host.mark("from_mark", from.from_mark, to.from_mark, "none");
  host.mark("to_mark", from.to_mark, to.to_mark, "none");
  host.number("rule_priority", from.rule_priority, to.rule_priority);
  host.number("route_protocol", from.route_protocol, to.route_protocol);
  host.text("manage", from.manage ? "true" : "false", to.manage ? "true" : "false");
}

// -- Tunnels and peers

std::string optional_endpoint(const std::optional<EndpointText>& endpoint) {
  return endpoint ? endpoint_text(*endpoint) : std::string();
}

std::string peer_summary(const Peer& peer) {
  std::string text = base64_of(peer.public_key);
  if (peer.endpoint) {
    text += ", endpoint " + endpoint_text(*peer.endpoint);
  }
  return text + ", allowed_ips " +
         (peer.allowed_ips.empty() ? "none" : prefixes_text(peer.allowed_ips));
}

void diff_peer(const std::string& tunnel, const Peer& from, const Peer& to, Lines& lines) {
  About peer(lines, "peer " + tunnel + "/" + to.name);
  peer.text("name", from.name, to.name);
  peer.text("public_key", base64_of(from.public_key), base64_of(to.public_key));
  peer.secret("preshared key", from.preshared_key, to.preshared_key);
  peer.text("endpoint", optional_endpoint(from.endpoint), optional_endpoint(to.endpoint));
  peer.members("allowed_ips", from.allowed_ips, to.allowed_ips, prefix_text);
  peer.number("persistent_keepalive", from.persistent_keepalive, to.persistent_keepalive, "off");
  peer.number("path_mtu", from.path_mtu, to.path_mtu, "the tunnel's");
  peer.text("lan", lan_text(from), lan_text(to));
}

// Pairs by key, then what is left by name.
void diff_peers(const Tunnel& from, const Tunnel& to, Lines& lines) {
  std::map<KeyBytes, const Peer*> by_key;
  std::map<std::string_view, const Peer*> by_name_left;
  std::map<const Peer*, const Peer*> old_of;
  std::set<const Peer*> paired;
  for (const Peer& peer : from.peers) {
    by_key.emplace(peer.public_key, &peer);
  }
  for (const Peer& peer : to.peers) {
    if (const auto old = by_key.find(peer.public_key);
        old != by_key.end() && paired.insert(old->second).second) {
      old_of[&peer] = old->second;
    }
  }
  for (const Peer& peer : from.peers) {
    if (!paired.contains(&peer)) {
      by_name_left.emplace(peer.name, &peer);
    }
  }
  for (const Peer& peer : to.peers) {
    const auto old = by_name_left.find(peer.name);
    if (!old_of.contains(&peer) && old != by_name_left.end() && paired.insert(old->second).second) {
      old_of[&peer] = old->second;
    }
  }
  for (const Peer& peer : from.peers) {
    if (!paired.contains(&peer)) {
      About(lines, "peer " + from.name + "/" + peer.name).removed();
    }
  }
  for (const Peer& peer : to.peers) {
    if (const auto old = old_of.find(&peer); old != old_of.end()) {
      diff_peer(to.name, *old->second, peer, lines);
    } else {
      About(lines, "peer " + to.name + "/" + peer.name).added(peer_summary(peer));
    }
  }
}

std::vector<std::string> captured(const Capture& capture) {
  std::vector<std::string> members(capture.allowed_ips ? 1 : 0, "allowed_ips");
  for (const std::string& set : capture.sets) {
    members.push_back("@" + set);
  }
  for (const IpPrefix& prefix : capture.prefixes) {
    members.push_back(to_text(prefix));
  }
  for (const IpPrefix& hole : capture.holes) {
    members.push_back("!" + to_text(hole));
  }
  return members;
}

std::string plain(const std::string& text) {
  return text;
}

void diff_tunnel(const Tunnel& from, const Tunnel& to, Lines& lines) {
  About tunnel(lines, "tunnel " + to.name);
  tunnel.secret("private key", from.private_key, to.private_key);
  tunnel.number("listen_port", from.listen_port, to.listen_port, "any");
  tunnel.mark("fwmark", from.fwmark, to.fwmark, "host.from_mark");
  tunnel.members("address", from.addresses, to.addresses, prefix_text);
  tunnel.number("mtu", from.mtu, to.mtu, "automatic");
  tunnel.members("capture", captured(from.capture), captured(to.capture), plain);
  tunnel.text("underlay", from.underlay, to.underlay);
  tunnel.text("via", from.via, to.via);
  tunnel.number("path_mtu", from.path_mtu, to.path_mtu, "measured");
  tunnel.text("mss", mss_text(from), mss_text(to));
  tunnel.text("resolver", joined(from.resolvers), joined(to.resolvers));
  diff_peers(from, to, lines);
}

void diff_tunnels(const Config& from, const Config& to, Lines& lines) {
  by_name(
      from.tunnels, to.tunnels,
      [&](const Tunnel& gone) { About(lines, "tunnel " + gone.name).removed(); },
      [&](const Tunnel& come) {
        About(lines, "tunnel " + come.name)
            .added((come.addresses.empty() ? "" : prefixes_text(come.addresses) + ", ") +
                   count_of(come.peers.size(), "peer"));
      },
      [&](const Tunnel& old, const Tunnel& now) { diff_tunnel(old, now, lines); });
}

// -- Sets

using Members = std::vector<std::string>;

Members members_of(const Set& set) {
  Members members;
  members.reserve(set.entries.size());
  for (const Set::Entry& entry : set.entries) {
    members.push_back((entry.hole ? "!" : "") + to_text(entry.prefix));
  }
  std::ranges::sort(members);
  const auto again = std::ranges::unique(members);
  members.erase(again.begin(), again.end());
  return members;
}

size_t missing_in(const Members& all, const Members& other) {
  Members missing;
  std::ranges::set_difference(all, other, std::back_inserter(missing));
  return missing.size();
}

std::string set_summary(const Set& set) {
  std::string text =
      count_of(members_of(set).size(), set.file.empty() ? "prefix" : "inline prefix");
  if (text.ends_with("prefixs")) {
    text.replace(text.size() - 1, 1, "es");
  }
  return text + (set.file.empty() ? "" : ", file " + set.file);
}

void diff_set(const Set& from, const Set& to, Lines& lines) {
  About set(lines, "set " + to.name);
  const Members before = members_of(from), after = members_of(to);
  const size_t added = missing_in(after, before), removed = missing_in(before, after);
  if (added != 0) {
    set.note(std::to_string(added) + (added == 1 ? " prefix added" : " prefixes added") +
             (removed == 0 ? "" : ", " + std::to_string(removed) + " removed"));
  } else if (removed != 0) {
    set.note(std::to_string(removed) + (removed == 1 ? " prefix removed" : " prefixes removed"));
  }
  set.text("file", from.file, to.file);
  set.text("watch", from.watch ? "true" : "false", to.watch ? "true" : "false");
}

void diff_sets(const Config& from, const Config& to, Lines& lines) {
  by_name(
      from.sets, to.sets, [&](const Set& gone) { About(lines, "set " + gone.name).removed(); },
      [&](const Set& come) { About(lines, "set " + come.name).added(set_summary(come)); },
      [&](const Set& old, const Set& now) { diff_set(old, now, lines); });
}

// -- Exits

// The parts that are another kind's concern are not compared: the text has what counts, but for a long list's end.
void diff_exit(const Exit& from, const Exit& to, Lines& lines) {
  const auto member_text = [](const Exit::Member& member) {
    return member.exit + " " + std::to_string(member.weight);
  };
  const std::string before = exit_text(from), after = exit_text(to);
  About exit(lines, "exit " + to.name);
  if (before != after) {
    exit.note(before + " -> " + after);
  } else if (!std::ranges::equal(from.members, to.members, {}, member_text, member_text)) {
    exit.note("members of the group change");
  }
}

void diff_exits(const Config& from, const Config& to, Lines& lines) {
  by_name(
      from.exits, to.exits, [&](const Exit& gone) { About(lines, "exit " + gone.name).removed(); },
      [&](const Exit& come) { About(lines, "exit " + come.name).added(exit_text(come)); },
      [&](const Exit& old, const Exit& now) { diff_exit(old, now, lines); });
}

// -- Tables

// Destination to exit; the last one counts where a file says the same twice.
std::map<std::string, std::string> routes_of(const Table& table) {
  std::map<std::string, std::string> routes;
  for (const Route& route : table.routes) {
    if (!route.set.empty()) {
      routes["@" + route.set] = route.exit;
    }
    for (const IpPrefix& prefix : route.prefixes) {
      routes[to_text(prefix)] = route.exit;
    }
  }
  return routes;
}

void diff_table(const Table& from, const Table& to, Lines& lines) {
  const auto before = routes_of(from), after = routes_of(to);
  Lines changes;
  size_t added = 0, removed = 0, changed = 0;
  const auto change = [&](size_t& count, std::string text) {
    ++count;
    changes.push_back(std::move(text));
  };
  for (const auto& [prefix, exit] : before) {
    if (!after.contains(prefix)) {
      change(removed, "route " + prefix + " exit " + exit + " removed");
    }
  }
  for (const auto& [prefix, exit] : after) {
    const auto old = before.find(prefix);
    if (old == before.end()) {
      change(added, "route " + prefix + " exit " + exit + " added");
    } else if (old->second != exit) {
      change(changed, "route " + prefix + ": exit " + old->second + " -> " + exit);
    }
  }
  About table(lines, "table " + to.name);
  if (changes.size() <= kDiffRoutesMax) {
    for (const std::string& text : changes) {
      table.note(text);
    }
    return;
  }
  table.note(count_of(added, "route") + " added, " + std::to_string(removed) + " removed, " +
             std::to_string(changed) + " with another exit");
}

void diff_tables(const Config& from, const Config& to, Lines& lines) {
  by_name(
      from.tables, to.tables,
      [&](const Table& gone) { About(lines, "table " + gone.name).removed(); },
      [&](const Table& come) {
        About(lines, "table " + come.name).added(count_of(routes_of(come).size(), "route"));
      },
      [&](const Table& old, const Table& now) { diff_table(old, now, lines); });
}

// -- Rules

// Of one priority, in the file's order.
struct Written {
  const Rule* rule;
  std::string match, action;
  bool same(const Written& other) const {
    return match == other.match && action == other.action && rule->name == other.rule->name;
  }
};
using Priorities = std::map<uint32_t, std::vector<Written>>;

Priorities by_priority(const Config& config) {
  Priorities rules;
  for (const Rule& rule : config.rules) {
    // Whole, where rule_text() would cut a list: a change behind the cut is a change.
    rules[rule.priority].push_back(
        {&rule, match_text(rule.match, SIZE_MAX), rule_action_text(rule)});
  }
  return rules;
}

std::string rule_head(const Rule& rule) {
  return "rule " + std::to_string(rule.priority) + (rule.name.empty() ? "" : " " + rule.name);
}

void diff_rule(const Written& from, const Written& to, Lines& lines) {
  const std::string before = rule_match_text(*from.rule), after = rule_match_text(*to.rule);
  if (from.match == to.match) {
    About rule(lines, rule_head(*to.rule) + " (" + after + ")");
    rule.text("name", from.rule->name, to.rule->name);
    if (from.action != to.action) {
      const bool both_exit =
          from.action == "exit " + from.rule->exit && to.action == "exit " + to.rule->exit;
      rule.note(from.action + " -> " + (both_exit ? to.rule->exit : to.action));
    }
    return;
  }
  About rule(lines, rule_head(*to.rule));
  rule.text("name", from.rule->name, to.rule->name);
  if (before == after) {
    rule.note(after + ": members of its lists change");
  } else if (from.action == to.action) {
    rule.note(before + " -> " + after + " (" + to.action + ")");
    return;
  }
  if (before != after || from.action != to.action) {
    rule.note(before + " " + from.action + " -> " + after + " " + to.action);
  }
}

// Takes out of `rules` each that stands in `others` too, one for one; returns those, in order.
std::vector<const Written*> take_same(std::vector<const Written*>& rules,
                                      const std::vector<Written>& others) {
  std::vector<bool> used(others.size());
  std::vector<const Written*> same;
  std::erase_if(rules, [&](const Written* rule) {
    for (size_t i = 0; i < others.size(); ++i) {
      if (!used[i] && rule->same(others[i])) {
        used[i] = true;
        same.push_back(rule);
        return true;
      }
    }
    return false;
  });
  return same;
}

std::vector<const Written*> pointers(const std::vector<Written>& rules) {
  std::vector<const Written*> out;
  for (const Written& rule : rules) {
    out.push_back(&rule);
  }
  return out;
}

void diff_priority(uint32_t priority, const std::vector<Written>& from,
                   const std::vector<Written>& to, Lines& lines) {
  auto before = pointers(from), after = pointers(to);
  const auto kept_before = take_same(before, to), kept_after = take_same(after, from);
  const bool moved = !std::ranges::equal(
      kept_before, kept_after, [](const Written* a, const Written* b) { return a->same(*b); });
  if (moved) {
    lines.push_back("rules of priority " + std::to_string(priority) + ": their order changes");
  }
  const size_t pairs = std::min(before.size(), after.size());
  for (size_t i = 0; i < pairs; ++i) {
    diff_rule(*before[i], *after[i], lines);
  }
  for (size_t i = pairs; i < before.size(); ++i) {
    lines.push_back(rule_head(*before[i]->rule) + " removed: " + rule_text(*before[i]->rule));
  }
  for (size_t i = pairs; i < after.size(); ++i) {
    lines.push_back(rule_head(*after[i]->rule) + " added: " + rule_text(*after[i]->rule));
  }
}

void diff_rules(const Config& from, const Config& to, Lines& lines) {
  Priorities before = by_priority(from), after = by_priority(to);
  std::set<uint32_t> priorities;
  for (const Priorities* rules : {&before, &after}) {
    for (const auto& [priority, of_it] : *rules) {
      priorities.insert(priority);
    }
  }
  for (const uint32_t priority : priorities) {
    diff_priority(priority, before[priority], after[priority], lines);
  }
}

}  // namespace

std::vector<std::string> diff(const Config& from, const Config& to) {
  Lines lines;
  diff_host(from.host, to.host, lines);
  diff_tunnels(from, to, lines);
  diff_sets(from, to, lines);
  diff_exits(from, to, lines);
  diff_tables(from, to, lines);
  diff_rules(from, to, lines);
  diff_nats(from, to, lines);
  diff_filters(from, to, lines);
  diff_flows(from.flows, to.flows, lines);
  return lines;
}

}  // namespace sallyport::config
