#include <algorithm>

#include "control/config_toml.h"
#include "control/limits.h"

namespace sallyport::config {

// -- Durations: a number of seconds, with or without a fraction, or a text.

bool read_duration_ms(Section& section, std::string_view key, uint64_t min, uint64_t max,
                      uint64_t& out) {
  const Node* node = section.take(key);
  if (node == nullptr) {
    return false;
  }
  Result<uint64_t> value = fail("");
  constexpr double kSecondsMax = 1e9;
  if (node->kind == Node::Kind::string) {
    value = parse_duration_ms(node->text);
  } else if (node->kind == Node::Kind::integer && node->integer >= 0) {
    value =
        std::min(static_cast<uint64_t>(node->integer), static_cast<uint64_t>(kSecondsMax)) * 1000;
  } else if (node->kind == Node::Kind::real && node->real >= 0 && node->real <= kSecondsMax) {
    value = static_cast<uint64_t>(node->real * 1000 + 0.5);
  } else {
    value = fail("is no duration: a number of seconds, or \"500ms\", \"2s\", \"5m\", \"1h\"");
  }
  if (!value) {
    section.error(key, value.error().text);
    return false;
  }
  if (*value < min || *value > max) {
    section.error(
        key, "is out of range: " + std::to_string(min) + "ms to " + std::to_string(max) + "ms");
    return false;
  }
  out = *value;
  return true;
}

namespace {

constexpr uint32_t kProbeMsMin = 10, kProbeMsMax = 3600 * 1000;
constexpr unsigned kProbeCountMax = 100;
constexpr uint32_t kStickySecondsMax = 7 * 24 * 3600;

// -- [exit.NAME]

void read_probe_table(Section& section, Probe& probe) {
  section.one_text("target", [&](std::string_view text, unsigned) {
    const auto address = parse_address(text);
    if (!address) {
      return address.error().text;
    }
    probe.target = *address;
    return std::string();
  });
  uint64_t ms = 0;
  if (read_duration_ms(section, "interval", kProbeMsMin, kProbeMsMax, ms)) {
    probe.interval_ms = static_cast<uint32_t>(ms);
  }
  if (read_duration_ms(section, "timeout", kProbeMsMin, kProbeMsMax, ms)) {
    probe.timeout_ms = static_cast<uint32_t>(ms);
  }
  section.number("up", 1, kProbeCountMax, probe.up);
  section.number("down", 1, kProbeCountMax, probe.down);
  section.finish();
}

void read_probe(Section& section, Exit& exit) {
  const Node* node = section.take("probe");
  if (node == nullptr) {
    return;
  }
  Probe& probe = exit.probe.emplace();
  if (node->kind == Node::Kind::table) {
    Section inner(*node, section.path("probe"), "probe key", section.report());
    read_probe_table(inner, probe);
  } else if (node->kind == Node::Kind::string) {
    const auto target = parse_address(node->text);
    if (target) {
      probe.target = *target;
    } else {
      section.error("probe", target.error().text);
    }
  } else {
    section.report().wrong_kind(*node, section.path("probe"),
                                "an address or a table { target, interval, timeout, up, down }");
  }
  if (exit.kind != Exit::Kind::peer && exit.kind != Exit::Kind::tunnel) {
    section.error("probe", "only an exit through a peer or a tunnel is probed");
  }
}

void read_member(const Node& node, const std::string& path, Report& report, Exit& exit) {
  Exit::Member& member = exit.members.emplace_back();
  if (node.kind == Node::Kind::string) {
    member.exit = node.text;
    return;
  }
  if (node.kind != Node::Kind::table) {
    report.wrong_kind(node, path, "the name of an exit or { exit = \"NAME\", weight = 3 }");
    return;
  }
  Section section(node, path, "member key", report);
  if (!section.text("exit", member.exit) && !section.has("exit")) {
    section.error("exit", "is missing: the member's name");
  }
  if (section.number("weight", 1, kGroupWeightMax, member.weight) &&
      exit.mode != Exit::Mode::weighted) {
    section.error("weight",
                  "weights need mode = \"weighted\"; by default the first that is alive "
                  "takes all");
  }
  section.finish();
}

void read_group(Section& section, Exit& exit) {
  const Node* group = section.take("group");
  if (group == nullptr) {
    return;
  }
  const std::string path = section.path("group");
  if (group->kind != Node::Kind::array) {
    section.report().wrong_kind(*group, path, "a list of exits");
    return;
  }
  if (group->children.empty() || group->children.size() > kGroupMembersMax) {
    section.error("group", "a group has 1 to " + std::to_string(kGroupMembersMax) +
                               " members, this has " + std::to_string(group->children.size()));
    return;
  }
  for (size_t i = 0; i < group->children.size(); ++i) {
    read_member(group->children[i], indexed(path, i), section.report(), exit);
  }
}

std::string take_when_down(std::string_view text, Exit& exit) {
  constexpr std::string_view kExit = "exit:";
  if (text == "closed") {
    exit.when_down = Exit::WhenDown::closed;
  } else if (text == "unreachable") {
    exit.when_down = Exit::WhenDown::unreachable;
  } else if (text.starts_with(kExit) && text.size() > kExit.size()) {
    exit.when_down = Exit::WhenDown::exit;
    exit.fallback = text.substr(kExit.size());
  } else {
    return quoted(text) + " is not \"closed\", \"unreachable\" or \"exit:NAME\"";
  }
  return {};
}

std::string take_mode(std::string_view text, Exit& exit) {
  if (text != "failover" && text != "weighted") {
    return quoted(text) + " is not \"failover\" or \"weighted\"";
  }
  exit.mode = text == "weighted" ? Exit::Mode::weighted : Exit::Mode::failover;
  return {};
}

void read_group_options(Section& section, Exit& exit) {
  section.one_text("mode", [&](std::string_view text, unsigned) { return take_mode(text, exit); });
  read_group(section, exit);
  section.one_text("when_down",
                   [&](std::string_view text, unsigned) { return take_when_down(text, exit); });
  uint64_t ms = 0;
  if (read_duration_ms(section, "sticky", 0, uint64_t{kStickySecondsMax} * 1000, ms)) {
    exit.sticky_s = static_cast<uint32_t>(ms / 1000);
    if (ms % 1000 != 0) {
      section.error("sticky", "is counted in whole seconds");
    }
  }
  for (const char* key : {"mode", "when_down", "sticky"}) {
    if (exit.kind != Exit::Kind::group && section.has(key)) {
      section.error(key, "belongs to a group only");
    }
  }
}

// Exactly one of the keys that say what an exit is.
void read_kind(Section& section, Exit& exit) {
  using Kind = Exit::Kind;
  constexpr std::pair<const char*, Kind> kKinds[] = {{"peer", Kind::peer}, {"tunnel", Kind::tunnel},
                                                     {"host", Kind::host}, {"port", Kind::port},
                                                     {"drop", Kind::drop}, {"group", Kind::group}};
  unsigned found = 0;
  for (const auto& [key, kind] : kKinds) {
    if (section.has(key)) {
      exit.kind = kind;
      ++found;
    }
  }
  if (found != 1 && section.is_table()) {
    section.report().error(
        section.where().line, section.path(),
        std::string(found == 0 ? "says nothing of where to" : "says more than one thing") +
            ": an exit is exactly one of peer, tunnel, host = true, port, "
            "drop = true and group");
  }
  section.text("peer", exit.peer);
  section.text("tunnel", exit.tunnel);
  section.text("port", exit.tunnel);
  for (const char* key : {"host", "drop"}) {
    bool yes = true;
    if (section.boolean(key, yes) && !yes) {
      section.error(key, "is true or not there");
    }
  }
}

}  // namespace

void read_exit(Section& section, std::string_view name, Config& config) {
  Exit& exit = config.exits.emplace_back();
  exit.name = name;
  exit.where = section.where();
  read_kind(section, exit);
  read_group_options(section, exit);
  read_probe(section, exit);
  section.finish();
}

// -- [table.NAME]

namespace {

std::string take_destination(std::string_view text, Route& prefixes,
                             std::vector<std::string>& sets) {
  if (text == "default") {
    prefixes.prefixes.push_back({IpAddress::v4("\0\0\0\0"), 0});
    prefixes.prefixes.push_back({IpAddress::v6("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), 0});
    return {};
  }
  const Member member = member_of(text);
  if (member.negated) {
    return quoted(text) +
           ": a route has no '!'; the longest prefix counts, so route the hole "
           "elsewhere, or make it in the set";
  }
  if (member.set) {
    sets.emplace_back(member.text);
    return {};
  }
  return append_prefix(text, prefixes.prefixes);
}

// One line of a table becomes a route for its prefixes and one for each set.
void read_route(const Node& node, const std::string& path, Table& table, Report& report) {
  Section section(node, path, "route key", report);
  Route route;
  route.where = section.where();
  std::vector<std::string> sets;
  section.texts(
      "to", [&](std::string_view text, unsigned) { return take_destination(text, route, sets); });
  if (section.is_table() && !section.has("to")) {
    section.error("to", "is missing: a prefix, \"default\", \"@set\", or a list of those");
  }
  section.text("exit", route.exit);
  if (section.is_table() && !section.has("exit")) {
    section.error("exit", "is missing: the exit that these destinations take");
  }
  section.finish();
  for (std::string& set : sets) {
    Route& more = table.routes.emplace_back();
    more.set = std::move(set);
    more.exit = route.exit;
    more.where = route.where;
  }
  if (!route.prefixes.empty()) {
    table.routes.push_back(std::move(route));
  }
}

}  // namespace

void read_table(Section& section, std::string_view name, Config& config) {
  Table& table = config.tables.emplace_back();
  table.name = name;
  table.where = section.where();
  if (const Node* routes = section.take("routes")) {
    const std::string path = section.path("routes");
    if (routes->kind != Node::Kind::array) {
      section.report().wrong_kind(*routes, path,
                                  "a list such as [{ to = \"default\", exit = \"NAME\" }]");
    } else {
      for (size_t i = 0; i < routes->children.size(); ++i) {
        read_route(routes->children[i], indexed(path, i), table, section.report());
      }
    }
  }
  section.finish();
}

// -- [[rule]]

namespace {

std::string take_action(std::string_view text, Rule::Action& out) {
  using Action = Rule::Action;
  static constexpr std::pair<std::string_view, Action> kActions[] = {
      {"drop", Action::drop},
      {"blackhole", Action::drop},
      {"reject", Action::prohibit},
      {"prohibit", Action::prohibit},
      {"unreachable", Action::unreachable},
      {"reset", Action::reset}};
  for (const auto& [name, action] : kActions) {
    if (text == name) {
      out = action;
      return {};
    }
  }
  std::vector<std::string_view> known;
  for (const auto& [name, action] : kActions) {
    known.push_back(name);
  }
  return not_known("action", text, known);
}

// One of table, exit, goto and action, or none where a mark is set.
void read_effect(Section& section, Rule& rule) {
  using Action = Rule::Action;
  read_masked(section, "set_mark", UINT32_MAX, UINT32_MAX, rule.set_mark);
  if (rule.set_mark && rule.set_mark->negated) {
    section.error("set_mark", "a mark that is set has no '!'");
  }
  constexpr std::pair<const char*, Action> kKeys[] = {{"table", Action::table},
                                                      {"lookup", Action::table},
                                                      {"exit", Action::exit},
                                                      {"goto", Action::go_to},
                                                      {"action", Action::none}};
  std::string given;
  for (const auto& [key, action] : kKeys) {
    if (!section.has(key)) {
      continue;
    }
    if (!given.empty()) {
      section.error(key, "the rule has " + given +
                             " already; a rule does one of table, exit, goto "
                             "and action");
    }
    given = given.empty() ? key : given;
    rule.action = action;
  }
  section.text("table", rule.table);
  section.text("lookup", rule.table);
  section.text("exit", rule.exit);
  section.number("goto", 0, UINT32_MAX, rule.target);
  section.one_text("action",
                   [&](std::string_view text, unsigned) { return take_action(text, rule.action); });
  uint8_t length = 0;
  if (section.number("suppress_prefixlength", 0, 128, length)) {
    rule.suppress_prefixlength = length;
  }
  if (section.has("suppress_prefixlength") && rule.action != Action::table) {
    section.error("suppress_prefixlength",
                  "belongs to a rule with a table: a route found there "
                  "counts only when its prefix is longer");
  }
}

}  // namespace

void read_rule(Section& section, Config& config) {
  Rule& rule = config.rules.emplace_back();
  rule.where = section.where();
  section.number("priority", 0, UINT32_MAX, rule.priority);
  if (!section.has("priority") && section.is_table()) {
    section.error("priority",
                  "is missing: rules are asked in the order of their priorities, the "
                  "lowest first");
  }
  read_name(section, rule.name);
  read_match(section, MatchOf::rule, rule.match);
  read_effect(section, rule);
  section.finish();
}

}  // namespace sallyport::config
