#include "control/host_routes.h"

#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <tuple>
#include <utility>

namespace sallyport {
namespace {

constexpr std::array kFamilies = {Family::v4, Family::v6};
constexpr uint32_t kPriorityMax = 32765;  // main's rule stands at 32766

const char* family_text(Family family) {
  return family == Family::v4 ? "IPv4" : "IPv6";
}

// Added already, by the same message sent again; or gone already, with its link or by somebody's hand.
bool there_already(int code) {
  return code == EEXIST;
}
bool gone_already(int code) {
  return code == ESRCH || code == ENOENT || code == ENODEV;
}
bool never(int) {
  return false;
}
bool anything(int) {
  return true;
}

int compare(const IpPrefix& left, const IpPrefix& right) {
  const int bytes =
      std::memcmp(left.address.bytes.data(), right.address.bytes.data(), left.address.bytes.size());
  return bytes != 0 ? bytes : int{left.length} - int{right.length};
}

// As the kernel keeps it: no bits beyond the length.
void clear_host_bits(IpPrefix& prefix) {
  for (unsigned bit = prefix.length; bit < prefix.address.bits(); bit = (bit | 7) + 1) {
    prefix.address.bytes[bit / 8] &= static_cast<uint8_t>(~(0xffu >> (bit % 8)));
  }
}

// Those of one family as they can be compared with a dump, or what contradicts itself.
Result<std::vector<HostRoute>> sorted(const std::vector<HostRoute>& routes, Family family) {
  std::vector<HostRoute> out;
  for (HostRoute route : routes) {
    if (route.prefix.address.family != family) {
      continue;
    }
    if (route.prefix.length > route.prefix.address.bits() || route.is_throw != (route.link == 0)) {
      return fail("a route to " + to_text(route.prefix) + " needs a link, or to be a hole");
    }
    clear_host_bits(route.prefix);
    out.push_back(route);
  }
  std::ranges::sort(out, [](const HostRoute& left, const HostRoute& right) {
    return compare(left.prefix, right.prefix) < 0;
  });
  for (size_t i = 1; i < out.size(); ++i) {
    if (out[i].prefix == out[i - 1].prefix && out[i] != out[i - 1]) {
      return fail("two routes for one prefix: \"" + to_text(out[i - 1]) + "\" and \"" +
                  to_text(out[i]) + "\"; the host can have only one of them");
    }
  }
  const auto repeated = std::ranges::unique(out);
  out.erase(repeated.begin(), repeated.end());
  return out;
}

Error error_of(const std::string& what, const Error& cause) {
  std::string text = what + ": " + cause.text;
  if (cause.code == EPERM) {
    text += "; needs CAP_NET_ADMIN";
  } else if (cause.code == ENETDOWN) {
    text += "; set the link up first";
  }
  return {std::move(text), cause.code};
}

std::string rule_text(const HostRule& rule) {
  return std::string("the ") + family_text(rule.family) + " rule \"" + to_text(rule) + "\"";
}

bool in_our_place(const FoundRoute& found) {
  return found.tos == 0 && found.metric == route_metric(found.route.prefix.address.family);
}

}  // namespace

Result<std::unique_ptr<HostRoutes>> HostRoutes::open(const Options& options) {
  if (options.table == RT_TABLE_UNSPEC ||
      (options.table >= RT_TABLE_DEFAULT && options.table <= RT_TABLE_LOCAL)) {
    return fail("table " + std::to_string(options.table) +
                " is the host's own: choose another for what is captured");
  }
  if (options.protocol <= RTPROT_STATIC) {
    return fail("route protocol " + std::to_string(options.protocol) +
                " is the kernel's or ip's: choose one from 5 to 255");
  }
  if (options.rule_priority < 2 || options.rule_priority > kPriorityMax) {
    return fail("rule priority " + std::to_string(options.rule_priority) +
                " is not between those of the local table (0) and of main (32766): choose one from "
                "2 to 32765");
  }
  Result<Netlink> netlink = Netlink::open();
  if (!netlink) {
    return std::unexpected(netlink.error());
  }
  return std::unique_ptr<HostRoutes>(new HostRoutes(options, std::move(*netlink)));
}

HostRoutes::HostRoutes(const Options& options, Netlink netlink)
    : options_(options), netlink_(std::move(netlink)) {}

HostRoutes::~HostRoutes() = default;

std::vector<HostRule> HostRoutes::rules_for(const Options& options,
                                            const std::vector<HostRoute>& routes) {
  std::vector<HostRule> out;
  for (const Family family : kFamilies) {
    bool some = false;
    uint32_t all = 0;  // the link of a whole family
    for (const HostRoute& route : routes) {
      if (route.prefix.address.family == family && !route.is_throw) {
        some = true;
        all = route.prefix.length == 0 ? route.link : all;
      }
    }
    if (all != 0 && !options.to_mark) {
      HostRule rule;
      rule.family = family;
      rule.priority = options.rule_priority - 1;
      rule.table = RT_TABLE_MAIN;
      rule.suppress_prefixlength = 0;
      out.push_back(rule);
      if (char name[IF_NAMESIZE]; if_indextoname(all, name) != nullptr) {
        rule.iif = name;
        rule.table = options.table;
        out.push_back(rule);
        rule.table = RT_TABLE_MAIN;
        rule.suppress_prefixlength.reset();
        out.push_back(rule);
      }
    }
    if (some) {
      HostRule rule;
      rule.family = family;
      rule.priority = options.rule_priority;
      rule.table = options.table;
      rule.mark = options.to_mark.value_or(options.from_mark);
      rule.negated = !options.to_mark;
      out.push_back(rule);
    }
  }
  return out;
}

Result<HostRoutes::Report> HostRoutes::apply(const Wanted& wanted) {
  if (wanted.routes.size() > kRoutesMax) {
    return fail(std::to_string(wanted.routes.size()) + " routes are more than the host is given (" +
                    std::to_string(kRoutesMax) + ")",
                E2BIG);
  }
  Plan plan;
  for (const Family family : kFamilies) {
    Result<std::vector<HostRoute>> routes = sorted(wanted.routes, family);
    if (!routes) {
      return std::unexpected(std::move(routes.error()));
    }
    if (auto planned = plan_routes(family, std::move(*routes), plan); !planned) {
      return std::unexpected(std::move(planned.error()));
    }
    if (auto planned = plan_rules(family, wanted.rules, plan); !planned) {
      return std::unexpected(std::move(planned.error()));
    }
  }
  // Backwards: ascending, the kernel's IPv4 trie takes four times as long to shrink (500,000 prefixes, Linux 6.18).
  std::ranges::reverse(plan.removals);
  Progress progress;
  if (auto done = carry_out(plan, progress); !done) {
    undo(plan, progress);
    return std::unexpected(std::move(done.error()));
  }
  links_.clear();
  for (const HostRoute& route : wanted.routes) {
    if (route.link != 0 && std::ranges::find(links_, route.link) == links_.end()) {
      links_.push_back(route.link);
    }
  }
  if (watch_ != nullptr) {
    watch_->follow(links_);
  }
  return std::move(plan.report);
}

Result<void> HostRoutes::remove_all() {
  if (auto removed = apply({}); !removed) {
    return std::unexpected(std::move(removed.error()));
  }
  return {};
}

// What to do with one prefix: `found` are all routes there are for it in our table, anybody's.
void HostRoutes::plan_prefix(const HostRoute* wanted, const FoundRoute* found, size_t count,
                             Plan& plan, size_t& foreign) const {
  bool taken = false;                // our place has a route of somebody else
  const FoundRoute* ours = nullptr;  // the route in our place
  for (size_t i = 0; i < count; ++i) {
    if (found[i].protocol != options_.protocol) {
      ++foreign;
      taken = taken || in_our_place(found[i]);
    }
  }
  for (size_t i = 0; i < count; ++i) {
    if (found[i].protocol != options_.protocol) {
      continue;
    }
    const bool right = wanted != nullptr && found[i].plain && found[i].route == *wanted;
    const bool replaceable = wanted != nullptr && !taken && in_our_place(found[i]);
    if (ours == nullptr && (right || replaceable)) {
      ours = &found[i];
    } else {
      plan.removals.push_back(found[i]);
    }
  }
  if (wanted == nullptr) {
    return;
  }
  if (ours == nullptr && taken) {
    plan.report.warnings.push_back(
        "\"" + to_text(*wanted) + "\" is not in " + table_text() +
        ": somebody else has a route for it there, which was left alone");
  } else if (ours == nullptr) {
    plan.adds.push_back(*wanted);
  } else if (ours->plain && ours->route == *wanted) {
    ++plan.report.routes.kept;
  } else {
    plan.changes.push_back({ours->route, *wanted});
  }
}

Result<void> HostRoutes::plan_routes(Family family, std::vector<HostRoute> wanted, Plan& plan) {
  Result<std::vector<FoundRoute>> dumped = netlink_.dump<FoundRoute>(
      route_dump(family, options_.table),
      [&](const nlmsghdr& message) -> std::optional<FoundRoute> {
        std::optional<FoundRoute> found = parse_route(message, family);
        return found && found->table == options_.table ? found : std::nullopt;
      });
  // ENOENT: no such table yet. EAFNOSUPPORT, EOPNOTSUPP: no such family, which matters only when something is to be added.
  if (!dumped && dumped.error().code != ENOENT && dumped.error().code != EAFNOSUPPORT &&
      dumped.error().code != EOPNOTSUPP) {
    return std::unexpected(
        error_of("cannot read " + table_text() + " (" + family_text(family) + ")", dumped.error()));
  }
  std::vector<FoundRoute> found = dumped ? std::move(*dumped) : std::vector<FoundRoute>{};
  std::ranges::stable_sort(found, [](const FoundRoute& left, const FoundRoute& right) {
    return compare(left.route.prefix, right.route.prefix) < 0;
  });
  size_t foreign = 0;
  for (size_t want = 0, have = 0; want < wanted.size() || have < found.size();) {
    const int order = want == wanted.size() ? 1
                      : have == found.size()
                          ? -1
                          : compare(wanted[want].prefix, found[have].route.prefix);
    size_t end = have;
    if (order >= 0) {
      while (end < found.size() && found[end].route.prefix == found[have].route.prefix) {
        ++end;
      }
    }
    plan_prefix(order <= 0 ? &wanted[want] : nullptr, found.data() + have, end - have, plan,
                foreign);
    want += order <= 0 ? 1 : 0;
    have = end;
  }
  if (foreign != 0) {
    const auto first = std::ranges::find_if(
        found, [&](const FoundRoute& route) { return route.protocol != options_.protocol; });
    plan.report.warnings.push_back(std::string("somebody else has ") + family_text(family) +
                                   " routes in " + table_text() + " (" + std::to_string(foreign) +
                                   ", the first: " + to_text(first->route.prefix) + ", protocol " +
                                   protocol_text(first->protocol) +
                                   "): left alone; another host.table keeps them apart");
  }
  return {};
}

// Ours is what leads to our table, and the suppressing rule before such a one. A rule with our number that leads elsewhere is
// another daemon's, and so is a suppressing rule right before it.
bool HostRoutes::is_ours(const FoundRule& found, const std::vector<FoundRule>& all) const {
  if (found.protocol != options_.protocol) {
    return false;
  }
  const HostRule& rule = found.rule;
  if (rule.table == options_.table || rule.priority == options_.rule_priority - 1) {
    return true;
  }
  return rule.table == RT_TABLE_MAIN && (rule.suppress_prefixlength == 0u || !rule.iif.empty()) &&
         std::ranges::none_of(all, [&](const FoundRule& other) {
           return other.protocol == options_.protocol && other.rule.priority == rule.priority + 1 &&
                  other.rule.table != options_.table;
         });
}

Result<void> HostRoutes::plan_rules(Family family, const std::vector<HostRule>& wanted,
                                    Plan& plan) {
  Result<std::vector<FoundRule>> dumped = netlink_.dump<FoundRule>(
      rule_dump(family), [family](const nlmsghdr& message) { return parse_rule(message, family); });
  if (!dumped && dumped.error().code != EAFNOSUPPORT && dumped.error().code != EOPNOTSUPP) {
    return std::unexpected(
        error_of(std::string("cannot read the ") + family_text(family) + " rules", dumped.error()));
  }
  const std::vector<FoundRule> found = dumped ? std::move(*dumped) : std::vector<FoundRule>{};
  std::vector<HostRule> missing;
  for (const HostRule& rule : wanted) {
    if (rule.family == family && std::ranges::find(missing, rule) == missing.end()) {
      missing.push_back(rule);
    }
  }
  for (const FoundRule& one : found) {
    if (is_ours(one, found)) {
      const auto same = one.plain ? std::ranges::find(missing, one.rule) : missing.end();
      if (same == missing.end()) {
        plan.rule_removals.push_back(one);
      } else {
        missing.erase(same);
        ++plan.report.rules.kept;
      }
    } else if (std::ranges::any_of(wanted, [&](const HostRule& rule) {
                 return rule.family == family && rule.priority == one.rule.priority;
               })) {
      plan.report.warnings.push_back(std::string("somebody else has an ") + family_text(family) +
                                     " rule at priority " + std::to_string(one.rule.priority) +
                                     " (\"" + to_text(one.rule) + "\", protocol " +
                                     protocol_text(one.protocol) +
                                     "): left alone; another host.rule_priority keeps them apart");
    }
  }
  // The suppressing rule first: the other one without it would take what main is to keep.
  std::ranges::stable_sort(missing, {}, &HostRule::priority);
  plan.rule_adds.insert(plan.rule_adds.end(), missing.begin(), missing.end());
  plan.report.rules.added = plan.rule_adds.size();
  plan.report.rules.removed = plan.rule_removals.size();
  plan.report.routes.added = plan.adds.size();
  plan.report.routes.changed = plan.changes.size();
  plan.report.routes.removed = plan.removals.size();
  return {};
}

Result<void> HostRoutes::carry_out(const Plan& plan, Progress& progress) {
  const uint32_t table = options_.table;
  const uint8_t protocol = options_.protocol;
  const Netlink::Batch added = netlink_.change_many(
      plan.adds.size(),
      [&](size_t i) { return new_route(plan.adds[i], table, protocol, NLM_F_EXCL); },
      there_already);
  progress.adds = added.sent;
  if (added.refused) {
    return std::unexpected(
        error_of("cannot add " + to_text(plan.adds[added.refused->index]) + " to " + table_text(),
                 added.refused->error));
  }
  const Netlink::Batch changed = netlink_.change_many(
      plan.changes.size(),
      [&](size_t i) { return new_route(plan.changes[i].to, table, protocol, NLM_F_REPLACE); },
      never);
  progress.changes = changed.sent;
  if (changed.refused) {
    return std::unexpected(error_of(
        "cannot put " + to_text(plan.changes[changed.refused->index].to) + " in place of \"" +
            to_text(plan.changes[changed.refused->index].from) + "\" in " + table_text(),
        changed.refused->error));
  }
  if (auto rules = carry_out_rules(plan, progress); !rules) {
    return rules;
  }
  const Netlink::Batch removed = netlink_.change_many(
      plan.removals.size(),
      [&](size_t i) { return delete_route(plan.removals[i], table, protocol); }, gone_already);
  progress.removals = removed.sent;
  if (removed.refused) {
    return std::unexpected(error_of("cannot remove " +
                                        to_text(plan.removals[removed.refused->index].route) +
                                        " from " + table_text(),
                                    removed.refused->error));
  }
  return {};
}

Result<void> HostRoutes::carry_out_rules(const Plan& plan, Progress& progress) {
  for (; progress.rule_adds < plan.rule_adds.size(); ++progress.rule_adds) {
    const HostRule& rule = plan.rule_adds[progress.rule_adds];
    if (auto added = netlink_.change(new_rule(rule, options_.protocol)); !added) {
      return std::unexpected(error_of("cannot add " + rule_text(rule), added.error()));
    }
  }
  for (; progress.rule_removals < plan.rule_removals.size(); ++progress.rule_removals) {
    const FoundRule& found = plan.rule_removals[progress.rule_removals];
    if (auto removed = netlink_.change(rule_again(RTM_DELRULE, found));
        !removed && !gone_already(removed.error().code)) {
      return std::unexpected(error_of("cannot remove " + rule_text(found.rule), removed.error()));
    }
  }
  return {};
}

// Backwards through what was done; where something refuses, the rest is undone all the same.
void HostRoutes::undo(const Plan& plan, const Progress& progress) {
  const uint32_t table = options_.table;
  const uint8_t protocol = options_.protocol;
  netlink_.change_many(
      progress.removals,
      [&](size_t i) { return new_route(plan.removals[i].route, table, protocol, NLM_F_EXCL); },
      anything);
  for (size_t i = progress.rule_removals; i-- > 0;) {
    std::ignore = netlink_.change(rule_again(RTM_NEWRULE, plan.rule_removals[i]));
  }
  for (size_t i = progress.rule_adds; i-- > 0;) {
    std::ignore = netlink_.change(delete_rule(plan.rule_adds[i], protocol));
  }
  netlink_.change_many(
      progress.changes,
      [&](size_t i) { return new_route(plan.changes[i].from, table, protocol, NLM_F_REPLACE); },
      anything);
  netlink_.change_many(
      progress.adds,
      [&](size_t i) { return delete_route(plan.adds[progress.adds - 1 - i], table, protocol); },
      anything);
}

std::string HostRoutes::table_text() const {
  return "table " + std::to_string(options_.table);
}

Result<void> HostRoutes::watch(boost::asio::io_context& context, std::function<void()> on_change) {
  auto watch = HostWatch::start(
      context, {options_.table, options_.protocol, options_.rule_priority, netlink_.port()},
      std::move(on_change));
  if (!watch) {
    return std::unexpected(std::move(watch.error()));
  }
  watch_ = std::move(*watch);
  watch_->follow(links_);
  return {};
}

}  // namespace sallyport
