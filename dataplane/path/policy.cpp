#include "dataplane/path/policy.h"

#include <cstring>

#include "dataplane/net/headers.h"
#include "dataplane/net/probe.h"
#include "dataplane/path/classify.h"
#include "dataplane/path/route.h"

namespace sallyport {
namespace {

// What the rules make of a packet.
struct Decision {
  RuleAction::Kind kind = RuleAction::Kind::none;  // none: no rule decided
  uint32_t exit = kNoExit;
  uint32_t rule = kNoRule;
  uint32_t mark = 0;
};

// The rules that matched on the way to a decision, for packets that go the same way right behind.
struct Walked {
  static constexpr uint32_t kMax = 16;
  uint32_t rules[kMax];
  uint32_t count = 0;  // may exceed kMax: then the way is too long to be kept

  void add(uint32_t rule) {
    if (count < kMax) {
      rules[count] = rule;
    }
    ++count;
  }
  bool is_whole() const { return count <= kMax; }
};

void count_hit(Context& context, PolicyCounter* row, uint32_t number, const Run& run) {
  if (!context.dry) {
    count(row[number].packets, run.segments);
    count(row[number].bytes, run.bytes);
  }
}

// Which entries of which sets made the rule match, for a trace.
void tell_sets(const Policy& policy, uint32_t rule, const RuleKey& key, Trace& trace) {
  const auto tell = [&](const AddressCondition& condition, const uint8_t* address, bool source) {
    for (const PrefixSet* set : condition.sets) {
      const SetMatch match = set->match(key.v4, address);
      for (uint32_t i = 0; match.covered && i < policy.sets.size(); ++i) {
        if (policy.sets[i] == set) {
          trace.add(TraceStep::What::set_entry, i, source ? 1 : 0, match.length,
                    match.member ? 1 : 0);
        }
      }
    }
  };
  tell(policy.conditions[rule].from, key.source, true);
  tell(policy.conditions[rule].to, key.destination, false);
}

struct TableAnswer {
  uint32_t exit = kNoExit;
  uint32_t route = 0;
  uint8_t length = 0;
};

TableAnswer ask_table(const RouteTable& table, const RuleKey& key) {
  TableAnswer answer;
  const LpmValue value = key.v4 ? table.v4.lookup(Lpm4::from_bytes(key.destination))
                                : table.v6.lookup(Lpm6::from_bytes(key.destination));
  if (value != kLpmMiss) {
    answer = {table.entries[value].exit, value, table.entries[value].length};
  }
  for (uint32_t i = 0; i < table.set_routes.size(); ++i) {
    const SetMatch match = table.set_routes[i].set->match(key.v4, key.destination);
    if (match.member && (answer.exit == kNoExit || match.length > answer.length)) {
      answer = {table.set_routes[i].exit, static_cast<uint32_t>(table.entries.size()) + i,
                match.length};
    }
  }
  return answer;
}

// The exit a table rule leads to; kNoExit: the search goes on.
uint32_t follow_table(const Policy& policy, const RuleAction& action, const RuleKey& key,
                      Trace* trace) {
  const TableAnswer answer = ask_table(*policy.tables[action.target], key);
  const bool suppressed = answer.exit != kNoExit && answer.length <= action.suppress_length;
  if (trace != nullptr) {
    using What = TraceStep::What;
    trace->add(answer.exit == kNoExit ? What::table_miss
               : suppressed           ? What::suppressed
                                      : What::table_hit,
               action.target, answer.route, answer.length);
  }
  return suppressed ? kNoExit : answer.exit;
}

// One run's way through the rules; null: of a packet that is not there, and not counted.
Decision decide(Context& context, const Policy& policy, const Run* run, const RuleKey& key,
                Walked& walked, Trace* trace) {
  walked.count = 0;
  if (policy.rules == nullptr) {
    return {};
  }
  PolicyCounter* counters = policy.rule_counters[context.worker].get();
  RuleTable::Walk walk = policy.rules->walk(key);
  uint32_t mark = 0;
  uint32_t from = 0;
  for (;;) {
    const uint32_t rule = walk.next(from, mark);
    if (rule == kNoRule) {
      return {RuleAction::Kind::none, kNoExit, kNoRule, mark};
    }
    from = rule + 1;
    const RuleAction& action = policy.actions[rule];
    if (run != nullptr) {
      count_hit(context, counters, rule, *run);
    }
    walked.add(rule);
    if (trace != nullptr) {
      trace->add(TraceStep::What::rule, rule);
      tell_sets(policy, rule, key, *trace);
    }
    if (action.mark_mask != 0) {
      mark = (mark & ~action.mark_mask) | (action.mark_value & action.mark_mask);
      if (trace != nullptr) {
        trace->add(TraceStep::What::mark, rule, mark);
      }
    }
    switch (action.kind) {
      case RuleAction::Kind::none:
        continue;
      case RuleAction::Kind::table:
        if (const uint32_t exit = follow_table(policy, action, key, trace); exit != kNoExit) {
          return {RuleAction::Kind::exit, exit, rule, mark};
        }
        continue;
      case RuleAction::Kind::go_to:
        from = action.target;  // forwards only, so this ends
        if (trace != nullptr) {
          trace->add(TraceStep::What::jump, from);
        }
        continue;
      case RuleAction::Kind::exit:
        return {action.kind, action.target, rule, mark};
      case RuleAction::Kind::drop:
      case RuleAction::Kind::unreachable:
      case RuleAction::Kind::prohibit:
      case RuleAction::Kind::reset:
        return {action.kind, kNoExit, rule, mark};
    }
  }
}

void refuse(Context& context, const Policy& policy, Run& run, const Decision& decision) {
  if (!context.dry) {
    count(policy.rule_counters[context.worker][decision.rule].drops, run.segments);
  }
  switch (decision.kind) {
    case RuleAction::Kind::unreachable:
      tell(context, run, IcmpError::unreachable);
      break;
    case RuleAction::Kind::prohibit:
      tell(context, run, IcmpError::prohibited);
      break;
    case RuleAction::Kind::reset:
      tell_reset(context, run);
      break;
    default:
      context.discard(run, DropReason::policy_drop);
      return;
  }
  context.discard(run, DropReason::policy_reject);
}

// By what its flow remembers.
void count_remembered(Context& context, const Policy& policy, const Run& run) {
  if (run.rule != kNoRule) {
    count_hit(context, policy.rule_counters[context.worker].get(), run.rule, run);
  }
  if (run.exit != kNoExit) {
    count_hit(context, policy.exit_counters[context.worker].get(), run.exit, run);
  }
}

// An answer to one of our own probes goes no further.
bool take_probe_answer(Context& context, const Policy& policy, Run& run) {
  if (policy.probe_count == 0 || run.from == nullptr || run.segments != 1 ||
      !is_icmp(run.protocol)) {
    return false;
  }
  const uint32_t tag = run.from->tag.load(std::memory_order_relaxed);
  for (size_t i = 0; i < policy.probe_count; ++i) {
    Policy::Probed& probed = policy.probes[i];
    if (probed.tag != tag) {
      continue;
    }
    const auto sequence = read_probe_answer(probed.probe, {run.head, run.head_bytes});
    if (sequence.has_value()) {
      const auto now = static_cast<uint64_t>(context.now / kMicrosecond);
      if (!context.dry) {
        probed.answer.store(uint64_t{*sequence} << 48 | (now & ((uint64_t{1} << 48) - 1)),
                            std::memory_order_release);
      }
      run.discarded = true;  // arrived, which is no loss to be traced
      run.trace = 0;
      return true;
    }
  }
  return false;
}

}  // namespace

void Policy::finish() {
  for (uint32_t i = 0; i < nat.rules.size(); ++i) {
    if (nat.rules[i].kind == NatKind::nptv6) {
      nat.prefix_rules.push_back(i);
    }
  }
  alive = std::make_unique<std::atomic<bool>[]>(exits.size());
  for (size_t i = 0; i < exits.size(); ++i) {
    alive[i].store(true, std::memory_order_relaxed);
  }
  for (unsigned i = 0; i <= workers;
       ++i) {  // one more: for `explain`, whose context is no worker's
    rule_counters.push_back(std::make_unique<PolicyCounter[]>(actions.size()));
    exit_counters.push_back(std::make_unique<PolicyCounter[]>(exits.size()));
  }
}

PolicyAnswer ask_policy(Context& context, const Policy& policy, const RuleKey& key) {
  Walked walked;
  const Decision decision = decide(context, policy, nullptr, key, walked, nullptr);
  return {decision.kind, decision.exit};
}

void policy(Context& context) {
  const Policy* in_force = context.snapshot->policy;
  if (in_force == nullptr) {
    return;
  }
  const Policy& policy = *in_force;
  RuleKey last;
  Decision decision;
  Walked walked;
  uint32_t exit = kNoExit;
  bool known = false;
  const size_t arrived = context.burst.count;  // answers are added behind them
  for (size_t i = 0; i < arrived; ++i) {
    Run& run = context.burst.runs[i];
    if (run.to != nullptr || run.discarded || take_probe_answer(context, policy, run)) {
      continue;
    }
    if (run.is_reply) {
      continue;
    }
    if (run.decided) {
      count_remembered(context, policy, run);
      continue;
    }
    const RuleKey key = classify(context, run);
    Trace* trace = context.trace_of(run);
    if (known && trace == nullptr && walked.is_whole() && same_key(key, last)) {
      for (uint32_t step = 0; step < walked.count; ++step) {
        count_hit(context, policy.rule_counters[context.worker].get(), walked.rules[step], run);
      }
    } else {
      decision = decide(context, policy, &run, key, walked, trace);
      exit = decision.kind == RuleAction::Kind::exit
                 ? resolve(context, policy, decision.exit, key, trace)
                 : kNoExit;
      last = key;
      known = true;
    }
    run.rule = decision.rule;
    run.mark = decision.mark;
    if (decision.kind == RuleAction::Kind::none) {
      if (trace != nullptr) {
        trace->add(TraceStep::What::no_rule);
      }
    } else if (decision.kind != RuleAction::Kind::exit) {
      refuse(context, policy, run, decision);
    } else if (exit == kNoExit) {
      if (!context.dry) {
        count(policy.rule_counters[context.worker][decision.rule].drops, run.segments);
      }
      context.discard(run, DropReason::exit_down);
    } else {
      run.exit = exit;
      count_hit(context, policy.exit_counters[context.worker].get(), exit, run);
    }
  }
}

}  // namespace sallyport
