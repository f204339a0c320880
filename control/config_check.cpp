#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>

#include "control/config_known.h"
#include "control/config_text.h"
#include "control/interface_name.h"
#include "control/limits.h"
#include "dataplane/table/rule_table.h"
#include "dataplane/wireguard/limits.h"

namespace sallyport::config {
namespace {

constexpr std::string_view kBuiltIn[] = {"host", "drop"};

using PrefixKey = std::tuple<Family, std::array<uint8_t, 16>, uint8_t>;

PrefixKey key_of(const IpPrefix& prefix) {
  return {prefix.address.family, prefix.address.bytes, prefix.length};
}

class Checker {
 public:
  Checker(const Config& config, Known& known) : config_(config), known_(known) {
    for (const Rule& rule : config.rules) {
      priorities_.insert(rule.priority);
    }
  }

  void tunnels();
  void captures();
  void sets();
  void exits();
  void cycles();
  void tables();
  void rules();

 private:
  void error(const Where& where, std::string key, std::string text) {
    known_.error(where, std::move(key), std::move(text));
  }
  template <class Things>
  void names(const Things& things, std::string_view kind);

  void tunnel(const Tunnel& tunnel);
  void peers(const Tunnel& tunnel);
  void exit(const Exit& exit);
  void report_cycle(const std::vector<size_t>& path, size_t again);
  std::vector<size_t> next_exits(const Exit& exit) const;
  void table(const Table& table);
  void rule_effect(const Rule& rule, const std::string& key);

  const Config& config_;
  Known& known_;
  std::set<uint32_t> priorities_;
  std::unordered_map<std::string_view, size_t> exit_index_;
};

// -- Names

template <class Things>
void Checker::names(const Things& things, std::string_view kind) {
  std::unordered_map<std::string_view, const Where*> seen;
  for (const auto& thing : things) {
    const std::string key = dotted(kind, thing.name);
    const std::string problem =
        kind == "tunnel" ? interface_name_problem(thing.name) : name_problem(thing.name);
    if (!problem.empty()) {
      error(thing.where, key, problem);
    }
    const auto [first, fresh] = seen.emplace(thing.name, &thing.where);
    if (!fresh) {
      error(thing.where, key, "is there already, at " + to_text(*first->second));
    }
  }
}

// -- Tunnels

void Checker::peers(const Tunnel& tunnel) {
  std::map<KeyBytes, const Peer*> keys;
  std::unordered_map<std::string_view, const Peer*> names;
  for (const Peer& peer : tunnel.peers) {
    const auto wrong = [&](std::string_view key, std::string text) {
      error(peer.where, peer_key(tunnel, peer) + "." + std::string(key), std::move(text));
    };
    if (peer.public_key == KeyBytes{}) {
      wrong("public_key", "is missing, or all zero");
    } else if (const auto [first, fresh] = keys.emplace(peer.public_key, &peer); !fresh) {
      wrong("public_key", "is the key of the peer at " + to_text(first->second->where) +
                              " too; a tunnel knows its peers by their keys");
      continue;
    }
    if (const auto [first, fresh] = names.emplace(peer.name, &peer); !fresh && !peer.name.empty()) {
      wrong("name", "is the name of the peer at " + to_text(first->second->where) + " too");
    }
    if (peer.lan == Peer::Lan::only && !known_.sets().has(peer.lan_set)) {
      wrong("lan", not_known("set", peer.lan_set, known_.sets().list()));
    }
  }
}

void Checker::tunnel(const Tunnel& tunnel) {
  const std::string key = dotted("tunnel", tunnel.name);
  if (tunnel.name == "host") {
    error(tunnel.where, key, "a tunnel is not called 'host': rules name the host so");
  }
  if (tunnel.private_key.kind == KeySource::Kind::none) {
    error(tunnel.where, key + ".private_key",
          "is missing: give private_key_file, private_key_credential or private_key (PrivateKey in "
          "a wg-quick file); `wg genkey` makes one");
  }
  if (tunnel.peers.size() > wireguard::kPeersMax) {
    error(tunnel.where, key + ".peer",
          "a tunnel has at most " + std::to_string(wireguard::kPeersMax) + " peers");
  }
  for (const std::string& set : tunnel.capture.sets) {
    known_.set(tunnel.where, key + ".capture", set);
  }
  peers(tunnel);
}

void Checker::tunnels() {
  names(config_.tunnels, "tunnel");
  std::map<uint16_t, const Tunnel*> ports;
  for (const Tunnel& each : config_.tunnels) {
    tunnel(each);
    if (each.listen_port == 0) {
      continue;
    }
    if (const auto [first, fresh] = ports.emplace(each.listen_port, &each); !fresh) {
      error(each.where, dotted("tunnel", each.name) + ".listen_port",
            std::to_string(each.listen_port) + " is the port of tunnel " +
                quoted(first->second->name) + " too");
    }
  }
}

// The host has one table for what is captured: a prefix can be in it once.
void Checker::captures() {
  std::map<PrefixKey, const Tunnel*> prefixes;
  std::map<std::string_view, const Tunnel*> sets;
  for (const Tunnel& tunnel : config_.tunnels) {
    const auto twice = [&](const std::string& what, const Tunnel& first) {
      error(tunnel.where, dotted("tunnel", tunnel.name) + ".capture",
            what + " is captured for tunnel " + quoted(first.name) +
                " already, and the host can route it into one tunnel only; capture it once and "
                "choose the exit by rules");
    };
    const auto take = [&](const IpPrefix& prefix) {
      const auto [first, fresh] = prefixes.emplace(key_of(prefix), &tunnel);
      if (!fresh && first->second != &tunnel) {
        twice(to_text(prefix), *first->second);
      }
    };
    std::ranges::for_each(tunnel.capture.prefixes, take);
    for (size_t i = 0; tunnel.capture.allowed_ips && i < tunnel.peers.size(); ++i) {
      std::ranges::for_each(tunnel.peers[i].allowed_ips, take);
    }
    for (const std::string& set : tunnel.capture.sets) {
      const auto [first, fresh] = sets.emplace(set, &tunnel);
      if (!fresh && first->second != &tunnel) {
        twice("@" + set, *first->second);
      }
    }
  }
}

// -- Sets

void Checker::sets() {
  names(config_.sets, "set");
  for (const Set& set : config_.sets) {
    if (set.entries.empty() && set.file.empty()) {
      error(set.where, dotted("set", set.name), "has neither prefixes nor a file");
    } else if (set.file.empty() && std::ranges::all_of(set.entries, &Set::Entry::hole)) {
      error(set.where, dotted("set", set.name) + ".prefixes",
            "has holes only: nothing is in the set that they could be made in");
    }
  }
}

// -- Exits

void Checker::exit(const Exit& exit) {
  const std::string key = dotted("exit", exit.name);
  switch (exit.kind) {
    case Exit::Kind::peer:
      known_.peer(exit.where, key + ".peer",
                  exit.tunnel.empty() ? exit.peer : exit.tunnel + "/" + exit.peer);
      break;
    case Exit::Kind::tunnel:
      known_.tunnel(exit.where, key + ".tunnel", exit.tunnel);
      break;
    case Exit::Kind::port:
      known_.tunnel(exit.where, key + ".port", exit.tunnel);
      break;
    case Exit::Kind::host:
    case Exit::Kind::drop:
      break;
    case Exit::Kind::group: {
      std::set<std::string_view> seen;
      for (size_t i = 0; i < exit.members.size(); ++i) {
        const std::string member_key = indexed(key + ".group", i);
        known_.exit(exit.where, member_key, exit.members[i].exit);
        if (!seen.insert(exit.members[i].exit).second) {
          error(exit.where, member_key, quoted(exit.members[i].exit) + " is in the group twice");
        }
      }
      if (exit.members.empty() || exit.members.size() > kGroupMembersMax) {
        error(exit.where, key + ".group",
              "a group has 1 to " + std::to_string(kGroupMembersMax) + " members");
      }
      if (exit.when_down == Exit::WhenDown::exit) {
        known_.exit(exit.where, key + ".when_down", exit.fallback);
      }
      break;
    }
  }
}

void Checker::exits() {
  names(config_.exits, "exit");
  for (size_t i = 0; i < config_.exits.size(); ++i) {
    const Exit& each = config_.exits[i];
    exit_index_.emplace(each.name, i);
    if (is_built_in_exit(each.name)) {
      error(each.where, dotted("exit", each.name),
            "is there without being declared; call this one otherwise");
    }
    exit(each);
  }
}

std::vector<size_t> Checker::next_exits(const Exit& exit) const {
  std::vector<size_t> next;
  const auto add = [&](const std::string& name) {
    if (const auto found = exit_index_.find(name); found != exit_index_.end()) {
      next.push_back(found->second);
    }
  };
  if (exit.kind == Exit::Kind::group) {
    for (const Exit::Member& member : exit.members) {
      add(member.exit);
    }
    if (exit.when_down == Exit::WhenDown::exit) {
      add(exit.fallback);
    }
  }
  return next;
}

void Checker::report_cycle(const std::vector<size_t>& path, size_t again) {
  constexpr size_t kShown = 16;
  const auto begin = std::ranges::find(path, again);
  std::string text;
  size_t shown = 0;
  for (auto at = begin; at != path.end() && shown < kShown; ++at, ++shown) {
    text += config_.exits[*at].name + " > ";
  }
  text += path.end() - begin > static_cast<ptrdiff_t>(kShown) ? "... > " : "";
  const Exit& exit = config_.exits[again];
  error(exit.where, dotted("exit", exit.name) + ".group",
        "the group contains itself: " + text + exit.name);
}

// Depth first, without recursion: a chain of exits may be as long as the file.
void Checker::cycles() {
  enum class Colour : uint8_t { unseen, open, done };
  std::vector<Colour> colours(config_.exits.size(), Colour::unseen);
  for (size_t start = 0; start < config_.exits.size(); ++start) {
    std::vector<size_t> path;
    std::vector<std::vector<size_t>> left;
    const auto enter = [&](size_t exit) {
      colours[exit] = Colour::open;
      path.push_back(exit);
      left.push_back(next_exits(config_.exits[exit]));
    };
    if (colours[start] == Colour::unseen) {
      enter(start);
    }
    while (!path.empty()) {
      if (left.back().empty()) {
        colours[path.back()] = Colour::done;
        path.pop_back();
        left.pop_back();
        continue;
      }
      const size_t next = left.back().back();
      left.back().pop_back();
      if (colours[next] == Colour::open) {
        report_cycle(path, next);
      } else if (colours[next] == Colour::unseen) {
        enter(next);
      }
    }
  }
}

// -- Tables

void Checker::table(const Table& table) {
  const std::string key = dotted("table", table.name) + ".routes";
  std::map<PrefixKey, const Route*> prefixes;
  std::map<std::string_view, const Route*> sets;
  for (const Route& route : table.routes) {
    const auto again = [&](const std::string& what, const Route& first) {
      error(route.where, key, what + " is routed already, at " + to_text(first.where));
    };
    known_.exit(route.where, key, route.exit);
    for (const IpPrefix& prefix : route.prefixes) {
      if (const auto [first, fresh] = prefixes.emplace(key_of(prefix), &route); !fresh) {
        again(to_text(prefix), *first->second);
      }
    }
    if (!route.set.empty()) {
      known_.set(route.where, key, route.set);
      if (const auto [first, fresh] = sets.emplace(route.set, &route); !fresh) {
        again("@" + route.set, *first->second);
      }
    }
  }
}

void Checker::tables() {
  names(config_.tables, "table");
  for (const Table& each : config_.tables) {
    table(each);
  }
}

// -- Rules

void Checker::rule_effect(const Rule& rule, const std::string& key) {
  switch (rule.action) {
    case Rule::Action::table:
      if (!known_.tables().has(rule.table)) {
        error(rule.where, key + ".table", not_known("table", rule.table, known_.tables().list()));
      }
      break;
    case Rule::Action::exit:
      known_.exit(rule.where, key + ".exit", rule.exit);
      break;
    case Rule::Action::go_to:
      if (rule.target <= rule.priority) {
        error(rule.where, key + ".goto",
              std::to_string(rule.target) + " is not larger than the rule's own priority, " +
                  std::to_string(rule.priority) + ": the search goes forward only");
      } else if (!priorities_.contains(rule.target)) {
        const auto next = priorities_.upper_bound(rule.target);
        error(rule.where, key + ".goto",
              "there is no rule of priority " + std::to_string(rule.target) +
                  (next == priorities_.end() ? "" : "; the next is " + std::to_string(*next)));
      }
      break;
    case Rule::Action::none:
      if (!rule.set_mark) {
        error(rule.where, key, "does nothing: give it set_mark, table, exit, goto or action");
      }
      break;
    case Rule::Action::drop:
    case Rule::Action::unreachable:
    case Rule::Action::prohibit:
    case Rule::Action::reset:
      break;
  }
}

void Checker::rules() {
  if (config_.rules.size() > kRulesMax) {
    error(config_.rules[kRulesMax].where, "rule",
          "there are " + std::to_string(config_.rules.size()) + " rules, and at most " +
              std::to_string(kRulesMax) +
              " are possible; addresses that share an answer are one "
              "rule with a set");
  }
  for (size_t i = 0; i < config_.rules.size(); ++i) {
    const Rule& rule = config_.rules[i];
    const std::string key = indexed("rule", i);
    check_match(rule.match, rule.where, key, known_);
    rule_effect(rule, key);
  }
}

}  // namespace

void check(const Config& config, std::vector<Problem>& errors) {
  Known known(config, errors);
  Checker checker(config, known);
  checker.tunnels();
  checker.captures();
  checker.sets();
  checker.exits();
  checker.cycles();
  checker.tables();
  checker.rules();
  check_nats(config, known);
  check_filters(config, known);
  check_room_for_claims(config, known);
  check_nesting(config, known);
}

std::vector<PeerPlace> find_peers(const Config& config, std::string_view text) {
  std::vector<PeerPlace> places;
  for (size_t i = 0; i < config.tunnels.size(); ++i) {
    const Tunnel& tunnel = config.tunnels[i];
    const bool long_form = text.size() > tunnel.name.size() && text.starts_with(tunnel.name) &&
                           text[tunnel.name.size()] == '/';
    const std::string_view inside = long_form ? text.substr(tunnel.name.size() + 1) : "";
    for (size_t j = 0; j < tunnel.peers.size(); ++j) {
      const std::string& name = tunnel.peers[j].name;
      if (!name.empty() && (name == text || (long_form && name == inside))) {
        places.push_back({i, j});
      }
    }
  }
  return places;
}

bool is_built_in_exit(std::string_view name) {
  return std::ranges::find(kBuiltIn, name) != std::end(kBuiltIn);
}

}  // namespace sallyport::config
