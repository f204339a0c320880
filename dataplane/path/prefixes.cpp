#include "dataplane/path/prefixes.h"

#include <algorithm>
#include <cstddef>

#include "dataplane/net/headers.h"
#include "dataplane/net/icmp_inner.h"
#include "dataplane/path/classify.h"
#include "dataplane/path/policy.h"
#include "dataplane/path/route.h"

namespace sallyport {
namespace {

uint8_t* source_of(uint8_t* head) {
  return head + offsetof(Ipv6Header, source);
}

uint8_t* destination_of(uint8_t* head) {
  return head + offsetof(Ipv6Header, destination);
}

// The packet that an ICMP error quotes; null: it is none, or a damaged one.
uint8_t* quoted_head(const Run& run) {
  Quoted quoted;
  return is_icmp(run.protocol) && find_quoted(run, quoted) == Quote::found ? quoted.packet.head
                                                                           : nullptr;
}

void refuse(Context& context, Run& run) {
  tell(context, run, IcmpError::unreachable);
  context.discard(run, DropReason::nat_unable);
}

void tell_trace(Context& context, const Run& run, uint32_t rule, bool inwards,
                const uint8_t* address) {
  if (Trace* trace = context.trace_of(run); trace != nullptr) {
    trace->add_nat(rule, inwards, IpAddress::v6(address), 0);
  }
}

void inwards(Context& context, const Nat& nat, Run& run) {
  const uint32_t way_in = iif_number(context.number, run.from == nullptr);
  for (const uint32_t number : nat.prefix_rules) {
    const Nptv6& map = *nat.rules[number].prefixes;
    const WayOutCondition& way_out = nat.rules[number].way_out;
    const bool is_from_outside = way_out.oif.values.empty() || way_out.names(way_in);
    uint8_t* destination = destination_of(run.head);
    if (!map.is_outside(destination) || !(is_from_outside || map.is_inside(run.source()))) {
      continue;
    }
    uint8_t* quoted = quoted_head(run);
    if (!map.to_inside(destination)) {
      refuse(context, run);
      return;
    }
    run.prefix_rule = static_cast<uint16_t>(number);
    if (quoted != nullptr && map.is_outside(source_of(quoted))) {
      map.to_inside(source_of(quoted));  // what cannot be was never sent so
    }
    tell_trace(context, run, number, true, destination);
    return;
  }
}

void outwards(Context& context, const Policy& policy, Run& run) {
  const Nat& nat = policy.nat;
  const auto is_inside = [&](const uint8_t* address) {
    return std::ranges::any_of(nat.prefix_rules, [&](uint32_t number) {
      return nat.rules[number].prefixes->is_inside(address);
    });
  };
  uint8_t* source = source_of(run.head);
  uint8_t* quoted = quoted_head(run);
  const bool quotes_inside = quoted != nullptr && is_inside(destination_of(quoted));
  if (!is_inside(source) && !quotes_inside) {
    return;
  }
  uint32_t number = run.prefix_rule;
  if (!is_between_insiders(policy, run)) {
    RuleKey key = classify(context, run);
    if (!is_inside(source)) {
      key.source = destination_of(quoted);  // an error of somebody on the way
    }
    number = find_source_rule(nat, key, run.mark, way_out_of(context, run));
    if (number == kNoRule || nat.rules[number].kind != NatKind::nptv6) {
      return;
    }
  }
  const Nptv6& map = *nat.rules[number].prefixes;
  if (quotes_inside && map.is_inside(destination_of(quoted))) {
    map.to_outside(destination_of(quoted));
  }
  if (!map.is_inside(source)) {
    return;
  }
  if (!map.to_outside(source)) {
    refuse(context, run);
    return;
  }
  tell_trace(context, run, number, false, source);
}

}  // namespace

bool is_between_insiders(const Policy& policy, const Run& run) {
  return run.prefix_rule != UINT16_MAX &&
         policy.nat.rules[run.prefix_rule].prefixes->is_inside(run.source());
}

void translate_prefixes_in(Context& context) {
  const Policy* policy = context.snapshot->policy;
  if (policy == nullptr || policy->nat.prefix_rules.empty()) {
    return;
  }
  const size_t arrived = context.burst.count;
  for (size_t i = 0; i < arrived; ++i) {
    Run& run = context.burst.runs[i];
    if (run.to == nullptr && !run.discarded && run.family == Family::v6) {
      inwards(context, policy->nat, run);
    }
  }
}

void translate_prefixes_out(Context& context) {
  const Policy* policy = context.snapshot->policy;
  if (policy == nullptr || policy->nat.prefix_rules.empty()) {
    return;
  }
  const size_t arrived = context.burst.count;
  for (size_t i = 0; i < arrived; ++i) {
    Run& run = context.burst.runs[i];
    if (!run.discarded && run.flow_state != FlowState::none && run.family == Family::v6) {
      outwards(context, *policy, run);
    }
  }
}

}  // namespace sallyport
