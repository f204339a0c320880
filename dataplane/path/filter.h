// filter: what may pass at all, by what rules can ask for, by how it leaves, and by where it stands in its flow.
//
// Asked behind route, in the order of the file; the first that matches decides, and what none matches is accepted or dropped
// as the configuration says. A packet is seen with its destination as dnat made it, and its source as it came; a reply as its
// receiver will see it.
//
// Costs: nothing without filters, else a search a run (table/rule_table.h), also for known flows: `state established` first
// makes it a short one.
// Thread rules: on the thread of the context, an RCU reader.
#pragma once

#include <memory>
#include <vector>

#include "dataplane/path/context.h"
#include "dataplane/path/way_out.h"
#include "dataplane/table/rule_table.h"

namespace sallyport {

enum class FilterAction : uint8_t { accept, drop, reject, reset };

struct FilterRule {
  FilterAction action = FilterAction::accept;
  WayOutCondition way_out;
  uint8_t states = 0;  // bits by FlowState; 0: asks nothing

  static constexpr uint8_t bit(FlowState state) {
    return static_cast<uint8_t>(1u << static_cast<unsigned>(state));
  }
};

struct Filter {
  std::unique_ptr<RuleTable> table;  // null: no filters
  std::vector<FilterRule> rules;
  bool accept_unmatched = true;

  bool is_there() const { return table != nullptr || !accept_unmatched; }
};

void filter(Context& context);

}  // namespace sallyport
