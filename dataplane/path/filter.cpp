#include "dataplane/path/filter.h"

#include "dataplane/path/classify.h"
#include "dataplane/path/policy.h"
#include "dataplane/path/route.h"

namespace sallyport {
namespace {

uint32_t find_rule(const Filter& filter, const RuleKey& key, const Run& run, const WayOut& way) {
  return first_rule(filter.table.get(), key, run.mark, [&](uint32_t number) {
    const FilterRule& rule = filter.rules[number];
    return (rule.states == 0 || (rule.states & FilterRule::bit(run.flow_state)) != 0) &&
           rule.way_out.matches(way);
  });
}

void refuse(Context& context, Run& run, FilterAction action) {
  switch (action) {
    case FilterAction::reject:
      tell(context, run, IcmpError::prohibited);
      context.discard(run, DropReason::filter_reject);
      return;
    case FilterAction::reset:
      tell_reset(context, run);
      context.discard(run, DropReason::filter_reject);
      return;
    default:
      context.discard(run, DropReason::filter_drop);
      return;
  }
}

}  // namespace

void filter(Context& context) {
  const Policy* policy = context.snapshot->policy;
  if (policy == nullptr || !policy->filter.is_there()) {
    return;
  }
  const Filter& filter = policy->filter;
  const size_t arrived = context.burst.count;  // answers are added behind them
  for (size_t i = 0; i < arrived; ++i) {
    Run& run = context.burst.runs[i];
    if (run.discarded || run.flow_state == FlowState::none) {
      continue;  // gone, or our own: staged, a keepalive, an answer
    }
    const RuleKey key = classify(context, run);
    const uint32_t number = find_rule(filter, key, run, way_out_of(context, run));
    if (Trace* trace = context.trace_of(run); trace != nullptr) {
      trace->add(TraceStep::What::filter, number, number == kNoRule ? 0 : 1);
    }
    const FilterAction action = number != kNoRule         ? filter.rules[number].action
                                : filter.accept_unmatched ? FilterAction::accept
                                                          : FilterAction::drop;
    if (action != FilterAction::accept) {
      refuse(context, run, action);
    }
  }
}

}  // namespace sallyport
