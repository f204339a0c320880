#include "control/policy_outcomes.h"

#include <algorithm>
#include <array>
#include <set>
#include <tuple>

#include "control/config_words.h"
#include "dataplane/net/headers.h"
#include "dataplane/path/policy.h"

namespace sallyport {
namespace {

using config::Rule;

// What a tunnel gives its datagrams: the ECN bits of a packet (dataplane/net/parse.h), or a handshake's (dataplane/handshaker.cpp).
constexpr std::array<uint8_t, 5> kOuterTos = {0, 1, 2, 3, 0x88};
constexpr uint8_t kAnyTos = (1u << kOuterTos.size()) - 1;

bool before(const IpAddress& a, const IpAddress& b) {
  return std::tie(a.family, a.bytes) < std::tie(b.family, b.bytes);
}

// As dataplane/path/route.cpp has it.
bool is_private(const IpAddress& to) {
  static const std::vector<IpPrefix> prefixes = [] {
    std::vector<IpPrefix> out;
    for (const char* text : {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
                             "100.64.0.0/10", "fc00::/7", "fe80::/10"}) {
      out.push_back(*parse_prefix(text));
    }
    return out;
  }();
  return std::ranges::any_of(prefixes, [&](const IpPrefix& each) { return each.contains(to); });
}

bool matches(const config::Masked& condition, uint32_t value) {
  return ((value & condition.mask) == condition.value) != condition.negated;
}

bool matches(const config::Ports& ports, uint16_t port) {
  return ports.ranges.empty() || std::ranges::any_of(ports.ranges, [&](const auto& range) {
                                   return range.first <= port && port <= range.second;
                                 }) != ports.negated;
}

bool matches_from_host(const config::Names& iif, const std::string& tunnel) {
  return iif.values.empty() || std::ranges::any_of(iif.values, [&](const std::string& name) {
                                 return name == "host" || name == "host:" + tunnel;
                               }) != iif.negated;
}

Ranges ports_of(const config::Ports& ports) {
  const Ranges all(0, UINT16_MAX);
  if (ports.ranges.empty()) {
    return all;
  }
  Ranges out;
  for (const auto& [first, last] : ports.ranges) {
    out.add(Ranges(first, last));
  }
  return ports.negated ? all.without(out) : out;
}

uint8_t tos_of(const std::optional<config::Masked>& tos) {
  uint8_t bits = 0;
  for (size_t i = 0; i < kOuterTos.size(); ++i) {
    bits |= static_cast<uint8_t>((!tos || matches(*tos, kOuterTos[i]) ? 1u : 0u) << i);
  }
  return bits;
}

std::string text_of(const Rule& rule) {
  return "rule " + std::to_string(rule.priority) + (rule.name.empty() ? "" : " " + rule.name) +
         " (" + config::to_text(rule.where) + ": " + config::rule_text(rule) + ")";
}

template <class Things>
std::unordered_map<std::string, size_t> numbers_of(const Things& things) {
  std::unordered_map<std::string, size_t> out;
  for (size_t i = 0; i < things.size(); ++i) {
    out.emplace(things[i].name, i);
  }
  return out;
}

}  // namespace

// -- Destinations

Destinations::Destinations(const config::Config& config, const SetEntries& entries, Effort& effort,
                           std::vector<IpAddress> addresses)
    : config_(config), entries_(entries), effort_(effort), addresses_(std::move(addresses)) {
  std::ranges::sort(addresses_, before);
  const auto repeated = std::ranges::unique(addresses_);
  addresses_.erase(repeated.begin(), repeated.end());
}

size_t Destinations::place(const IpAddress& address) const {
  return static_cast<size_t>(std::ranges::lower_bound(addresses_, address, before) -
                             addresses_.begin());
}

template <class Fn>
void Destinations::for_each_in(const IpPrefix& prefix, Fn&& fn) {
  size_t steps = 1;
  for (size_t i = place(prefix.address); i < addresses_.size() && prefix.contains(addresses_[i]);
       ++i, ++steps) {
    fn(i);
  }
  effort_.spend(steps);
}

Destinations::Longest Destinations::in_set(const std::string& set, const IpAddress& address) {
  const auto [found, fresh] = sets_.try_emplace(set);
  std::vector<Longest>& answers = found->second;
  if (fresh) {
    answers.resize(addresses_.size());
    for (const config::Set::Entry& entry : entries_(set)) {
      for_each_in(entry.prefix, [&](size_t i) {
        if (entry.prefix.length >= answers[i].length) {
          answers[i] = {entry.prefix.length, entry.hole};
        }
      });
    }
  }
  return answers[place(address)];
}

const Destinations::AllowedIp& Destinations::owners(size_t tunnel, const IpAddress& address) {
  const auto [found, fresh] = owners_.try_emplace(tunnel);
  std::vector<AllowedIp>& answers = found->second;
  if (fresh) {
    answers.resize(addresses_.size());
    const std::vector<config::Peer>& peers = config_.tunnels[tunnel].peers;
    for (size_t peer = 0; peer < peers.size() && !effort_.spent(); ++peer) {
      for (const IpPrefix& prefix : peers[peer].allowed_ips) {
        for_each_in(prefix, [&](size_t i) {
          if (prefix.length > answers[i].length) {
            answers[i] = {prefix.length, {peer}};
          } else if (prefix.length == answers[i].length && answers[i].peers.back() != peer) {
            answers[i].peers.push_back(peer);
          }
        });
      }
    }
  }
  return answers[place(address)];
}

// -- PolicyOutcomes

// One packet's, and what has been found for it.
struct PolicyOutcomes::Walk {
  const PartlyKnown& packet;
  // By rule and mark: what gets there. Rules are only left forwards.
  std::map<std::pair<size_t, uint32_t>, Boxes> waiting;
  std::set<std::pair<std::string, unsigned>> exits_taken;  // at this depth
  std::set<std::pair<size_t, size_t>> found;
  std::vector<PeerOutcome> outcomes;

  void arrive(size_t rule, uint32_t mark, Boxes boxes) {
    if (!boxes.empty()) {
      Boxes& there = waiting[{rule, mark}];
      std::ranges::move(boxes, std::back_inserter(there));
    }
  }
  void add(size_t tunnel, size_t peer, const std::string& why) {
    if (found.emplace(tunnel, peer).second) {
      outcomes.push_back({tunnel, peer, why});
    }
  }
};

PolicyOutcomes::PolicyOutcomes(const config::Config& config, const SetEntries& entries,
                               Destinations& destinations, Effort& effort)
    : config_(config),
      entries_(entries),
      destinations_(destinations),
      effort_(effort),
      exits_(numbers_of(config.exits)),
      tunnels_(numbers_of(config.tunnels)),
      tables_(numbers_of(config.tables)) {
  for (const Rule& rule : config.rules) {
    rules_.push_back(&rule);
  }
  std::ranges::stable_sort(rules_, {}, [](const Rule* rule) { return rule->priority; });
}

std::vector<PeerOutcome> PolicyOutcomes::of(const PartlyKnown& packet) {
  const Family family = packet.destination.family;
  const Ranges ports = packet.source_port == 0 ? Ranges(1, UINT16_MAX)
                                               : Ranges(packet.source_port, packet.source_port);
  Walk walk{packet, {}, {}, {}, {}};
  walk.arrive(0, 0, {{Ranges::whole(family), ports, kAnyTos}});
  while (!walk.waiting.empty() && effort_.spend(1)) {
    auto first = walk.waiting.extract(walk.waiting.begin());
    const auto [here, mark] = first.key();
    size_t rule = here;
    while (rule < rules_.size() && !may_match(rules_[rule]->match, packet, mark) &&
           effort_.spend(1)) {
      ++rule;
    }
    if (rule > here) {
      walk.arrive(rule, mark, std::move(first.mapped()));  // others may have come there
    } else if (rule == rules_.size()) {
      take_owners(walk, packet.tunnel, "no rule decides, and so the allowed-ips do");
    } else {
      Boxes matched, rest;
      split(rule, family, first.mapped(), matched, rest);
      walk.arrive(rule + 1, mark, std::move(rest));
      if (!matched.empty()) {
        act(walk, rule, mark, std::move(matched));
      }
    }
  }
  return std::move(walk.outcomes);
}

// As far as the packet is known.
bool PolicyOutcomes::may_match(const config::Match& match, const PartlyKnown& packet,
                               uint32_t mark) {
  const bool protocol_listed =
      std::ranges::find(match.protocols, kProtocolUdp) != match.protocols.end();
  return (match.family == Family::none || match.family == packet.destination.family) &&
         (match.protocols.empty() || protocol_listed != match.protocols_negated) &&
         (match.peer.values.empty() || match.peer.negated) &&  // it comes from none
         matches_from_host(match.iif, config_.tunnels[packet.tunnel].name) &&
         matches(match.dport, packet.destination_port) &&
         (!match.fwmark || matches(*match.fwmark, mark)) && holds(match.to, packet.destination);
}

bool PolicyOutcomes::holds(const config::Addresses& to, const IpAddress& address) {
  return !to.asks() ||
         (std::ranges::any_of(to.prefixes,
                              [&](const IpPrefix& each) { return each.contains(address); }) ||
          std::ranges::any_of(to.sets, [&](const std::string& set) {
            return destinations_.in_set(set, address).member();
          })) != to.negated;
}

const Ranges& PolicyOutcomes::members(const std::string& set, Family family) {
  const auto [found, fresh] = members_.try_emplace({set, family});
  if (fresh) {
    effort_.spend(entries_(set).size());
    found->second = Ranges::members(entries_(set), family);
  }
  return found->second;
}

const Ranges& PolicyOutcomes::sources_of(size_t rule, Family family) {
  const auto [found, fresh] = sources_.try_emplace({rule, family});
  Ranges& out = found->second;
  const config::Addresses& from = rules_[rule]->match.from;
  if (!fresh) {
    return out;
  }
  std::vector<config::Set::Entry> literals;
  for (const IpPrefix& prefix : from.prefixes) {
    literals.push_back({prefix, false});
  }
  out = Ranges::members(literals, family);
  for (const std::string& set : from.sets) {
    out.add(members(set, family));
  }
  effort_.spend(out.size());
  if (!from.asks() || from.negated) {
    out = Ranges::whole(family).without(out);
  }
  return out;
}

void PolicyOutcomes::split(size_t rule, Family family, const Boxes& boxes, Boxes& matched,
                           Boxes& rest) {
  const Ranges& sources = sources_of(rule, family);
  const Ranges ports = ports_of(rules_[rule]->match.sport);
  const uint8_t tos = tos_of(rules_[rule]->match.tos);
  for (const Box& box : boxes) {
    effort_.spend(box.sources.size() + box.ports.size());
    Box in{box.sources.common(sources), box.ports.common(ports), uint8_t(box.tos & tos)};
    if (in.sources.empty() || in.ports.empty() || in.tos == 0) {
      rest.push_back(box);
      continue;
    }
    const Box around[] = {{box.sources.without(sources), box.ports, box.tos},
                          {in.sources, box.ports.without(ports), box.tos},
                          {in.sources, in.ports, uint8_t(box.tos & ~tos)}};
    for (const Box& each : around) {
      if (!each.sources.empty() && !each.ports.empty() && each.tos != 0) {
        rest.push_back(each);
      }
    }
    matched.push_back(std::move(in));
  }
}

void PolicyOutcomes::act(Walk& walk, size_t number, uint32_t mark, Boxes matched) {
  const Rule& rule = *rules_[number];
  if (rule.set_mark) {
    mark = (mark & ~rule.set_mark->mask) | (rule.set_mark->value & rule.set_mark->mask);
  }
  switch (rule.action) {
    case Rule::Action::none:
      walk.arrive(number + 1, mark, std::move(matched));
      return;
    case Rule::Action::table:
      if (const auto exit = ask_table(rule, walk.packet.destination)) {
        take_exit(walk, *exit, text_of(rule), 0);
      } else {
        walk.arrive(number + 1, mark, std::move(matched));
      }
      return;
    case Rule::Action::go_to: {
      const auto target = std::ranges::find_if(
          rules_, [&](const Rule* each) { return each->priority >= rule.target; });
      walk.arrive(static_cast<size_t>(target - rules_.begin()), mark, std::move(matched));
      return;
    }
    case Rule::Action::exit:
      take_exit(walk, rule.exit, text_of(rule), 0);
      return;
    case Rule::Action::drop:
    case Rule::Action::unreachable:
    case Rule::Action::prohibit:
    case Rule::Action::reset:
      return;
  }
}

// The exit of the longest route; the first one of the table where two are as long. Nothing: the search goes on.
std::optional<std::string> PolicyOutcomes::ask_table(const Rule& rule,
                                                     const IpAddress& destination) {
  const config::Table& table = config_.tables[tables_.at(rule.table)];
  const std::string* exit = nullptr;
  int longest = -1;
  bool by_set = false;
  effort_.spend(table.routes.size());
  for (const config::Route& route : table.routes) {
    for (const IpPrefix& prefix : route.prefixes) {
      // A prefix comes before a set that is as long, wherever they stand.
      if (prefix.contains(destination) &&
          (prefix.length > longest || (prefix.length == longest && by_set))) {
        longest = prefix.length;
        exit = &route.exit;
        by_set = false;
      }
    }
    if (route.set.empty()) {
      continue;
    }
    const Destinations::Longest match = destinations_.in_set(route.set, destination);
    if (match.member() && match.length > longest) {
      longest = match.length;
      exit = &route.exit;
      by_set = true;
    }
  }
  const bool suppressed = rule.suppress_prefixlength && longest <= *rule.suppress_prefixlength;
  return exit == nullptr || suppressed ? std::nullopt : std::optional(*exit);
}

// Nobody watches the host, and a group is as alive as who is in it.
bool PolicyOutcomes::is_always_alive(const std::string& name, unsigned depth) {
  const auto number = exits_.find(name);
  if (number == exits_.end()) {
    return true;  // built in
  }
  const config::Exit& exit = config_.exits[number->second];
  if (exit.kind != config::Exit::Kind::group) {
    return exit.kind != config::Exit::Kind::peer && exit.kind != config::Exit::Kind::tunnel;
  }
  if (depth >= kGroupDepthMax) {
    return false;
  }
  if (const auto known = always_alive_.find({number->second, depth});
      known != always_alive_.end()) {
    return known->second;
  }
  const bool alive = std::ranges::any_of(exit.members, [&](const config::Exit::Member& member) {
    return is_always_alive(member.exit, depth + 1);
  });
  return always_alive_[{number->second, depth}] = alive;
}

void PolicyOutcomes::take_group(Walk& walk, const config::Exit& group, const std::string& why,
                                unsigned depth) {
  bool can_be_down = true;
  for (const config::Exit::Member& member : group.members) {
    effort_.spend(1);
    take_exit(walk, member.exit, why + " > " + member.exit, depth + 1);
    if (is_always_alive(member.exit, 0)) {
      can_be_down = false;
      if (group.mode == config::Exit::Mode::failover) {
        break;  // those behind it are never asked
      }
    }
  }
  if (can_be_down && group.when_down == config::Exit::WhenDown::exit) {
    take_exit(walk, group.fallback, why + " > (down) " + group.fallback, depth + 1);
  }
}

void PolicyOutcomes::take_exit(Walk& walk, const std::string& name, const std::string& why,
                               unsigned depth) {
  const auto number = exits_.find(name);
  if (number == exits_.end() || depth >= kGroupDepthMax ||
      !walk.exits_taken.emplace(name, depth).second) {
    return;  // host and drop; too deep for a packet too; taken already
  }
  const config::Exit& exit = config_.exits[number->second];
  switch (exit.kind) {
    case config::Exit::Kind::peer: {
      const size_t tunnel = tunnels_.at(exit.tunnel);
      const std::vector<config::Peer>& peers = config_.tunnels[tunnel].peers;
      const auto peer = std::ranges::find(peers, exit.peer, &config::Peer::name);
      const IpAddress& to = walk.packet.destination;
      const bool allowed = peer->lan == config::Peer::Lan::allow || !is_private(to) ||
                           (peer->lan == config::Peer::Lan::only &&
                            destinations_.in_set(peer->lan_set, to).member());
      if (allowed) {
        walk.add(tunnel, static_cast<size_t>(peer - peers.begin()), why);
      }
      return;
    }
    case config::Exit::Kind::tunnel:
      take_owners(walk, tunnels_.at(exit.tunnel), why + " and the allowed-ips");
      return;
    case config::Exit::Kind::group:
      take_group(walk, exit, why, depth);
      return;
    case config::Exit::Kind::host:
    case config::Exit::Kind::port:
    case config::Exit::Kind::drop:
      return;
  }
}

void PolicyOutcomes::take_owners(Walk& walk, size_t tunnel, const std::string& why) {
  for (const size_t peer : destinations_.owners(tunnel, walk.packet.destination).peers) {
    walk.add(tunnel, peer, why);
  }
}

}  // namespace sallyport
