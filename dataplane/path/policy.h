// policy: which exit each run takes. Rules in priority order, tables, marks, exits and groups of exits.
//
// A Policy is what a configuration's rules, tables and exits have been compiled to: immutable, published with the snapshot,
// and replaced whole. Its words are `ip rule`'s (docs/policy.md). The stage walks the rules that match a run until one
// decides, and leaves the number of an exit in the run; where no rule decides, the run goes as WireGuard alone would send it.
// `resolve` then finds the member of a group, and path/route.h the peer or port behind an exit.
//
// What changes while a policy is in force stands beside it: whether an exit is alive (control stores, workers load), the
// content of sets (table/prefix_set.h), which member a flow uses (table/affinity_table.h), what was counted (each worker
// adds to a row of its own).
//
// Costs: one search a run, not a packet, and none where the run before it had the same key. Bounds: kRulesMax rules,
// kExitsMax exits, groups kGroupDepthMax deep.
// Thread rules: policy() and resolve() on the thread of the context; alive and counters from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/net/probe.h"
#include "dataplane/path/context.h"
#include "dataplane/path/filter.h"
#include "dataplane/path/nat.h"
#include "dataplane/path/peer_tags.h"
#include "dataplane/path/reverse_path.h"
#include "dataplane/path/trace.h"
#include "dataplane/table/affinity_table.h"
#include "dataplane/table/fragment_table.h"
#include "dataplane/table/lpm.h"
#include "dataplane/table/rule_table.h"

namespace sallyport {

inline constexpr uint32_t kExitsMax = 1u << 16;
inline constexpr unsigned kGroupDepthMax = 8;

// -- Exits

enum class ExitKind : uint8_t {
  peer,         // to that peer
  tunnel,       // to the peer of that tunnel whose allowed-IPs cover the destination
  host,         // to the host, by the plain port of the tunnel it came in by
  port,         // to the host, by the plain port of a named tunnel
  drop,         // nowhere
  unreachable,  // nowhere, and the sender is told
  group,        // to the member that is its turn
};

enum class GroupMode : uint8_t { failover, weighted };
enum class LanPolicy : uint8_t { allow, deny, only };

struct ExitMember {
  uint32_t exit;
  uint32_t weight = 1;
};

struct Exit {
  ExitKind kind = ExitKind::drop;
  TunnelNumber tunnel = 0;               // tunnel, port
  uint32_t tag = PeerTags::kNone;        // peer
  LanPolicy lan = LanPolicy::allow;      // peer: private destinations through it
  const PrefixSet* lan_set = nullptr;    // those that are let through, for LanPolicy::only
  GroupMode mode = GroupMode::failover;  // group, from here on
  std::vector<ExitMember> members;
  uint32_t when_down = kNoExit;  // an exit instead; kNoExit: dropped
  uint32_t sticky_seconds = 0;   // how long a quiet flow keeps its member; 0: it keeps none
  AffinityTable* affinity = nullptr;
};

// -- Tables

struct RouteEntry {
  uint32_t exit = kNoExit;
  uint8_t length = 0;
};

// The members of a set lead to an exit; the set changes without the table.
struct SetRoute {
  const PrefixSet* set = nullptr;
  uint32_t exit = kNoExit;
};

struct RouteTable {
  Lpm4 v4;  // values: numbers in `entries`
  Lpm6 v6;
  std::vector<RouteEntry> entries;
  std::vector<SetRoute> set_routes;  // numbered behind the entries, for traces
};

// -- Rules

struct RuleAction {
  enum class Kind : uint8_t {
    none,   // sets a mark and lets the search go on
    table,  // asks a table; without an answer the search goes on
    exit,
    go_to,
    drop,
    unreachable,  // ICMP: no way there
    prohibit,     // ICMP: administratively prohibited
    reset,        // TCP is reset; anything else as prohibit
  };
  Kind kind = Kind::none;
  uint32_t target = 0;           // the number of a table, an exit or a rule
  int16_t suppress_length = -1;  // a table's answer with a prefix no longer than this is none
  uint32_t mark_value = 0,
           mark_mask = 0;  // the bits of the mask become those of the value; first of all
};

// One worker's count of a rule or an exit: that worker adds, anyone reads.
struct PolicyCounter {
  std::atomic<uint64_t> packets{0}, bytes{0}, drops{0};
};

struct Policy {
  explicit Policy(const PeerTags& peer_tags, unsigned worker_count)
      : tags(peer_tags), workers(worker_count) {}

  const PeerTags& tags;
  const unsigned workers;
  uint64_t epoch =
      0;  // of the first snapshot that has it: what flows remember from before is another's
  std::unique_ptr<RuleTable> rules;        // null: no rules
  std::vector<RuleConditions> conditions;  // by rule: for traces
  std::vector<RuleAction> actions;         // by rule
  std::vector<std::unique_ptr<RouteTable>> tables;
  std::vector<const PrefixSet*> sets;  // by number: for traces
  std::vector<Exit> exits;
  std::unique_ptr<std::atomic<bool>[]> alive;  // by exit; groups too
  std::vector<std::unique_ptr<PolicyCounter[]>> rule_counters,
      exit_counters;  // by worker, then rule or exit
  // Flows and what is done by them; null: none are kept. They outlive a policy.
  FlowTable* flows = nullptr;
  FragmentTable* fragments = nullptr;  // with flows
  Nat nat;
  Filter filter;
  ReversePath reverse_path = ReversePath::off;
  // Echo requests that control sends through exits: their answers are for us, and go no further.
  struct Probed {
    Probe probe;
    uint32_t tag = PeerTags::kNone;  // of the peer it goes by
    // sequence << 48 | time in microseconds, of the last answer; 0: none yet
    std::atomic<uint64_t> answer{0};
  };
  std::unique_ptr<Probed[]> probes;
  size_t probe_count = 0;

  // Makes alive and the counters, for the exits and actions there are, and finds the nat rules that are looked for. Call once, when they are complete.
  void finish();
};

// What the rules say of such a packet, with groups as they are; nothing is counted. Kind none: no rule decides.
struct PolicyAnswer {
  RuleAction::Kind kind = RuleAction::Kind::none;
  uint32_t exit = kNoExit;
};
PolicyAnswer ask_policy(Context& context, const Policy& policy, const RuleKey& key);

// Decides for every run that has no destination yet. Without a policy, none.
void policy(Context& context);

// From an exit to one that is no group; kNoExit when every member is down and nothing else is to be done. `why` of a trace.
uint32_t resolve(Context& context, const Policy& policy, uint32_t exit, const RuleKey& key,
                 Trace* trace);

}  // namespace sallyport
