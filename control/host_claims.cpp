#include "control/host_claims.h"

#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace sallyport {
namespace {

std::unexpected<Error> failed(const std::string& what, const Error& cause) {
  return std::unexpected(Error{
      what + ": " + cause.text + (cause.code == EPERM ? "; needs CAP_NET_ADMIN" : ""), cause.code});
}

// The host's own, as it is made with the namespace.
bool is_local(const FoundRule& found) {
  HostRule plain;
  plain.family = found.rule.family;
  plain.table = RT_TABLE_LOCAL;
  return found.plain && found.rule == plain;
}

HostRoute default_route(const Claims::Table& table) {
  HostRoute route;
  route.prefix.address.family = table.family;
  route.link = table.link;
  return route;
}

std::vector<HostRule> of_family(const std::vector<HostRule>& rules, Family family) {
  std::vector<HostRule> out;
  std::ranges::copy_if(rules, std::back_inserter(out),
                       [family](const HostRule& rule) { return rule.family == family; });
  return out;
}

}  // namespace

Result<std::unique_ptr<HostClaims>> HostClaims::open(const Options& options) {
  Result<Netlink> netlink = Netlink::open();
  if (!netlink) {
    return std::unexpected(netlink.error());
  }
  return std::unique_ptr<HostClaims>(new HostClaims(options, std::move(*netlink)));
}

bool HostClaims::is_ours(const FoundRule& found) const {
  const HostRule& rule = found.rule;
  if (found.protocol != options_.protocol) {
    return false;
  }
  const bool known = std::ranges::any_of(
      tables_, [&](const Claims::Table& table) { return table.number == rule.table; });
  if (known || (rule.table >= options_.table && rule.table - options_.table < kTablesMax)) {
    return rule.priority == 0 || rule.priority == options_.source_priority;
  }
  return rule.priority == 0 && rule.table == RT_TABLE_LOCAL && rule.to.has_value();
}

Result<void> HostClaims::add(const HostRule& rule) {
  if (auto added = netlink_.change(new_rule(rule, options_.protocol));
      !added && added.error().code != EEXIST) {
    return failed("cannot add the rule \"" + to_text(rule) + "\"", added.error());
  }
  return {};
}

Result<void> HostClaims::remove(const FoundRule& rule) {
  if (auto removed = netlink_.change(rule_again(RTM_DELRULE, rule));
      !removed && removed.error().code != ENOENT && removed.error().code != ESRCH) {
    return failed("cannot remove the rule \"" + to_text(rule.rule) + "\"", removed.error());
  }
  return {};
}

// Those of priority 0: their order counts, and that `local` is behind them.
Result<void> HostClaims::put_first(const std::vector<HostRule>& wanted,
                                   const std::vector<FoundRule>& found) {
  std::vector<FoundRule> old, locals;
  bool local_before = false, all_plain = true;
  std::vector<HostRule> there;
  for (const FoundRule& one : found) {
    if (is_local(one)) {
      locals.push_back(one);
    } else if (is_ours(one) && one.rule.priority == 0) {
      local_before = local_before || !locals.empty();
      all_plain = all_plain && one.plain;
      there.push_back(one.rule);
      old.push_back(one);
    }
  }
  if (there == wanted && all_plain && !local_before) {
    return {};
  }
  for (const HostRule& rule : wanted) {
    if (auto added = add(rule); !added) {
      return added;
    }
  }
  if (!wanted.empty() && !locals.empty()) {
    if (auto added = netlink_.change(rule_again(RTM_NEWRULE, locals.front())); !added) {
      return failed("cannot put the rule of the local table behind ours", added.error());
    }
    for (const FoundRule& local : locals) {
      if (auto removed = remove(local); !removed) {
        return removed;
      }
    }
  }
  for (const FoundRule& rule : old) {  // the kernel removes the first of two equal ones
    if (auto removed = remove(rule); !removed) {
      return removed;
    }
  }
  return {};
}

Result<void> HostClaims::apply_rules(Family family, const Claims& wanted) {
  Result<std::vector<FoundRule>> dumped = netlink_.dump<FoundRule>(
      rule_dump(family), [family](const nlmsghdr& message) { return parse_rule(message, family); });
  if (!dumped && dumped.error().code != EAFNOSUPPORT && dumped.error().code != EOPNOTSUPP) {
    return failed("cannot read the rules", dumped.error());
  }
  const std::vector<FoundRule> found = dumped ? std::move(*dumped) : std::vector<FoundRule>{};
  if (auto put = put_first(of_family(wanted.first, family), found); !put) {
    return put;
  }
  std::vector<HostRule> missing = of_family(wanted.sources, family);
  for (const FoundRule& one : found) {
    if (!is_ours(one) || one.rule.priority == 0) {
      continue;
    }
    const auto same = one.plain ? std::ranges::find(missing, one.rule) : missing.end();
    if (same != missing.end()) {
      missing.erase(same);
    } else if (auto removed = remove(one); !removed) {
      return removed;
    }
  }
  for (const HostRule& rule : missing) {
    if (auto added = add(rule); !added) {
      return added;
    }
  }
  return {};
}

// Routes come before the rules that lead to them, and go after them.
Result<void> HostClaims::apply(const Claims& wanted) {
  for (const Claims::Table& table : wanted.tables) {
    const HostRoute route = default_route(table);
    if (auto set =
            netlink_.change(new_route(route, table.number, options_.protocol, NLM_F_REPLACE));
        !set) {
      return failed("cannot add " + to_text(route) + " to table " + std::to_string(table.number),
                    set.error());
    }
  }
  for (const Family family : {Family::v4, Family::v6}) {
    if (auto applied = apply_rules(family, wanted); !applied) {
      return applied;
    }
  }
  for (const Claims::Table& table : tables_) {
    if (std::ranges::find(wanted.tables, table) == wanted.tables.end() &&
        std::ranges::none_of(wanted.tables, [&](const Claims::Table& kept) {
          return kept.number == table.number && kept.family == table.family;
        })) {
      const HostRoute route = default_route(table);
      if (auto removed = netlink_.change(delete_route(route, table.number, options_.protocol));
          !removed && removed.error().code != ESRCH && removed.error().code != ENODEV) {
        return failed(
            "cannot remove " + to_text(route) + " from table " + std::to_string(table.number),
            removed.error());
      }
    }
  }
  tables_ = wanted.tables;
  return {};
}

}  // namespace sallyport
