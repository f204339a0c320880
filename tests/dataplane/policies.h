// Policies for tests, made by hand: what control's compiler would make of a configuration.
//
// A PolicyMaker gathers exits, tables and rules and gives out the Policy once. Sets and affinity tables are not a policy's
// own and stay with the Sets, which outlive whatever reads them.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/net/address.h"
#include "dataplane/path/classify.h"
#include "dataplane/path/policy.h"

namespace sallyport::test {

// "10.0.0.0/8", or "!10.1.0.0/16" for a hole.
inline SetEntry set_entry(std::string text) {
  SetEntry entry;
  entry.hole = text.front() == '!';
  const IpPrefix prefix = *parse_prefix(entry.hole ? text.substr(1) : text);
  std::copy(prefix.address.bytes.begin(), prefix.address.bytes.end(), entry.address);
  entry.length = prefix.length;
  entry.v4 = prefix.address.family == Family::v4;
  return entry;
}

struct Sets {
  std::vector<std::unique_ptr<PrefixSet>> sets;
  std::vector<std::unique_ptr<AffinityTable>> affinities;

  PrefixSet* add(const std::vector<std::string>& prefixes) {
    PrefixSet& set = *sets.emplace_back(std::make_unique<PrefixSet>());
    fill(set, prefixes);
    return &set;
  }
  static void fill(PrefixSet& set, const std::vector<std::string>& prefixes) {
    std::vector<SetEntry> entries;
    for (const std::string& prefix : prefixes) {
      entries.push_back(set_entry(prefix));
    }
    set.replace(PrefixSet::Content::build(entries));
  }
  AffinityTable* add_affinity(size_t flows = 1024) {
    return affinities.emplace_back(std::make_unique<AffinityTable>(flows)).get();
  }
};

// -- What rules ask.

inline RuleConditions all() {
  return {};
}
inline RuleConditions from(const std::string& prefix) {
  RuleConditions rule;
  rule.from.prefixes.push_back(set_entry(prefix));
  return rule;
}
inline RuleConditions to(const std::string& prefix) {
  RuleConditions rule;
  rule.to.prefixes.push_back(set_entry(prefix));
  return rule;
}
inline RuleConditions to(const PrefixSet* set) {
  RuleConditions rule;
  rule.to.sets.push_back(set);
  return rule;
}
inline RuleConditions marked(uint32_t value, uint32_t mask) {
  RuleConditions rule;
  rule.mark = {true, value, mask, false};
  return rule;
}
inline RuleConditions from_peer(uint32_t tag) {
  RuleConditions rule;
  rule.peer.values.push_back(tag);
  return rule;
}
inline RuleConditions by(TunnelNumber tunnel, bool from_host) {
  RuleConditions rule;
  rule.iif.values.push_back(iif_number(tunnel, from_host));
  return rule;
}
inline RuleConditions dport(uint16_t port) {
  RuleConditions rule;
  rule.dport.ranges.push_back({port, port});
  return rule;
}

// -- What rules do.

inline RuleAction act(RuleAction::Kind kind, uint32_t target = 0) {
  RuleAction action;
  action.kind = kind;
  action.target = target;
  return action;
}
inline RuleAction use_exit(uint32_t exit) {
  return act(RuleAction::Kind::exit, exit);
}
inline RuleAction use_table(uint32_t table, int16_t suppress = -1) {
  RuleAction action = act(RuleAction::Kind::table, table);
  action.suppress_length = suppress;
  return action;
}
inline RuleAction set_mark(uint32_t value, uint32_t mask = UINT32_MAX) {
  RuleAction action;
  action.mark_value = value;
  action.mark_mask = mask;
  return action;
}

class PolicyMaker {
 public:
  PolicyMaker(const PeerTags& tags, unsigned workers)
      : policy_(std::make_unique<Policy>(tags, workers)) {}

  // Each returns the number.
  uint32_t exit(Exit exit) {
    policy_->exits.push_back(std::move(exit));
    return static_cast<uint32_t>(policy_->exits.size() - 1);
  }
  uint32_t exit(ExitKind kind) {
    Exit made;
    made.kind = kind;
    return exit(std::move(made));
  }
  uint32_t peer(uint32_t tag, LanPolicy lan = LanPolicy::allow, const PrefixSet* only = nullptr) {
    Exit made;
    made.kind = ExitKind::peer;
    made.tag = tag;
    made.lan = lan;
    made.lan_set = only;
    return exit(std::move(made));
  }
  uint32_t tunnel(TunnelNumber number) { return numbered(ExitKind::tunnel, number); }
  uint32_t port(TunnelNumber number) { return numbered(ExitKind::port, number); }
  uint32_t group(GroupMode mode, std::vector<ExitMember> members, uint32_t when_down = kNoExit,
                 AffinityTable* affinity = nullptr, uint32_t sticky_seconds = 60) {
    Exit made;
    made.kind = ExitKind::group;
    made.mode = mode;
    made.members = std::move(members);
    made.when_down = when_down;
    made.affinity = affinity;
    made.sticky_seconds = affinity == nullptr ? 0 : sticky_seconds;
    return exit(std::move(made));
  }
  uint32_t table(const std::vector<std::pair<std::string, uint32_t>>& routes,
                 std::vector<SetRoute> set_routes = {}) {
    auto table = std::make_unique<RouteTable>();
    for (const auto& [text, exit] : routes) {
      const IpPrefix prefix = *parse_prefix(text);
      const auto number = static_cast<LpmValue>(table->entries.size());
      table->entries.push_back({exit, prefix.length});
      const uint8_t* bytes = prefix.address.bytes.data();
      if (prefix.address.family == Family::v4) {
        table->v4.insert(Lpm4::from_bytes(bytes), prefix.length, number);
      } else {
        table->v6.insert(Lpm6::from_bytes(bytes), prefix.length, number);
      }
    }
    table->set_routes = std::move(set_routes);
    policy_->tables.push_back(std::move(table));
    return static_cast<uint32_t>(policy_->tables.size() - 1);
  }
  uint32_t rule(RuleConditions conditions, RuleAction action) {
    policy_->conditions.push_back(std::move(conditions));
    policy_->actions.push_back(action);
    return static_cast<uint32_t>(policy_->actions.size() - 1);
  }
  void probes(std::initializer_list<std::pair<Probe, uint32_t>> probes) {
    policy_->probes = std::make_unique<Policy::Probed[]>(probes.size());
    policy_->probe_count = 0;
    for (const auto& [probe, tag] : probes) {
      policy_->probes[policy_->probe_count].probe = probe;
      policy_->probes[policy_->probe_count++].tag = tag;
    }
  }
  void name_sets(const Sets& sets) {
    for (const auto& set : sets.sets) {
      policy_->sets.push_back(set.get());
    }
  }
  Policy& policy() { return *policy_; }

  std::unique_ptr<Policy> finish() {
    if (!policy_->conditions.empty()) {
      auto built = RuleTable::build(policy_->conditions);
      EXPECT_TRUE(built.has_value()) << built.error().text;
      policy_->rules = std::move(*built);
    }
    policy_->finish();
    return std::move(policy_);
  }

 private:
  uint32_t numbered(ExitKind kind, TunnelNumber number) {
    Exit made;
    made.kind = kind;
    made.tunnel = number;
    return exit(std::move(made));
  }

  std::unique_ptr<Policy> policy_;
};

// A count of a rule or an exit, summed over the workers.
using CounterRows = std::vector<std::unique_ptr<PolicyCounter[]>>;
inline uint64_t counted(const CounterRows& rows, uint32_t number,
                        std::atomic<uint64_t> PolicyCounter::*count) {
  uint64_t sum = 0;
  for (const auto& row : rows) {
    sum += (row[number].*count).load();
  }
  return sum;
}
inline uint64_t rule_packets(const Policy& policy, uint32_t rule) {
  return counted(policy.rule_counters, rule, &PolicyCounter::packets);
}
inline uint64_t rule_bytes(const Policy& policy, uint32_t rule) {
  return counted(policy.rule_counters, rule, &PolicyCounter::bytes);
}
inline uint64_t rule_drops(const Policy& policy, uint32_t rule) {
  return counted(policy.rule_counters, rule, &PolicyCounter::drops);
}
inline uint64_t exit_packets(const Policy& policy, uint32_t exit) {
  return counted(policy.exit_counters, exit, &PolicyCounter::packets);
}
inline uint64_t exit_drops(const Policy& policy, uint32_t exit) {
  return counted(policy.exit_counters, exit, &PolicyCounter::drops);
}

// The steps of one kind in a trace, in order.
inline std::vector<TraceStep> steps(const Trace& trace, TraceStep::What what) {
  std::vector<TraceStep> found;
  for (uint32_t i = 0; i < trace.count && i < Trace::kStepsMax; ++i) {
    if (trace.steps[i].what == what) {
      found.push_back(trace.steps[i]);
    }
  }
  return found;
}

}  // namespace sallyport::test
