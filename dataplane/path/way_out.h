// WayOut: how a run leaves, as NAT rules and filters can ask for it, once route has found out; and the search that both make.
#pragma once

#include <algorithm>

#include "dataplane/path/classify.h"
#include "dataplane/path/context.h"
#include "dataplane/table/rule_table.h"

namespace sallyport {

struct WayOut {
  uint32_t oif = 0;  // as iif_number(): a tunnel, or its plain port
  uint32_t exit = kNoExit;
};

inline WayOut way_out_of(const Context& context, const Run& run) {
  if (run.to != nullptr) {
    return {iif_number(run.to->tunnel, false), run.exit};
  }
  return {iif_number(run.port == kPortItCameBy ? context.number : run.port, true), run.exit};
}

struct WayOutCondition {
  NumberCondition oif;
  NumberCondition exit;

  bool asks() const { return !oif.values.empty() || !exit.values.empty(); }
  // Does it ask for this interface?
  bool names(uint32_t number) const { return !oif.values.empty() && holds(oif, number); }
  bool matches(const WayOut& way) const { return holds(oif, way.oif) && holds(exit, way.exit); }

 private:
  static bool holds(const NumberCondition& condition, uint32_t value) {
    return condition.values.empty() || (std::ranges::find(condition.values, value) !=
                                        condition.values.end()) != condition.negated;
  }
};

// The first rule of the table, in order, that matches and that `accepts` takes; kNoRule: none. No table has none.
template <class Accepts>
uint32_t first_rule(const RuleTable* table, const RuleKey& key, uint32_t mark, Accepts accepts) {
  if (table == nullptr) {
    return kNoRule;
  }
  RuleTable::Walk walk = table->walk(key);
  uint32_t number = walk.next(0, mark);
  while (number != kNoRule && !accepts(number)) {
    number = walk.next(number + 1, mark);
  }
  return number;
}

}  // namespace sallyport
