// WayOut: how a run leaves, as NAT rules and filters can ask for it, once route has found out.
#pragma once

#include <algorithm>

#include "dataplane/path/classify.h"
#include "dataplane/path/context.h"

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
  bool matches(const WayOut& way) const { return holds(oif, way.oif) && holds(exit, way.exit); }

 private:
  static bool holds(const NumberCondition& condition, uint32_t value) {
    return condition.values.empty() || (std::ranges::find(condition.values, value) !=
                                        condition.values.end()) != condition.negated;
  }
};

}  // namespace sallyport
