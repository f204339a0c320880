#include "dataplane/path/destination.h"

#include "dataplane/path/nat.h"
#include "dataplane/path/policy.h"

namespace sallyport {
namespace {

bool is_before_rules(const NatRule& rule) {
  return rule.kind == NatKind::dnat || (rule.kind == NatKind::none && !rule.way_out.asks());
}

// Is it an insider's word to the outer end of another's mapping? See nat.h.
bool is_for_insider(const Context& context, const Policy& policy, const RuleKey& key,
                    const Run& run, const MappingTable::Origin& origin) {
  if (origin.rule >= policy.nat.rules.size()) {
    return false;  // there are other rules since
  }
  const NatRule& rule = policy.nat.rules[origin.rule];
  const uint32_t tag =
      run.from == nullptr ? PeerTags::kNone : run.from->tag.load(std::memory_order_relaxed);
  const bool is_way_out = rule.way_out.names(iif_number(context.number, run.from == nullptr));
  return rule.endpoint_independent && tag != origin.towards && !is_way_out &&
         first_rule(policy.nat.table.get(), key, 0,
                    [&](uint32_t each) { return each == origin.rule; }) != kNoRule;
}

// Hairpinning (RFC 4787, REQ-9): the outer end that it is sent to is another insider's.
void turn_back(Context& context, const Policy& policy, const RuleKey& key, Run& run) {
  const MappingTable& mappings = policy.flows->mappings();
  const FlowTuple& tuple = context.tuples[run.tuple];
  if (mappings.size() == 0 || !has_ports(tuple) || is_icmp(tuple.protocol)) {
    return;
  }
  const auto inner = mappings.find_outer(tuple);
  if (!inner.has_value() || !is_for_insider(context, policy, key, run, inner->origin)) {
    return;
  }
  const Ends ends = ends_of(run);
  if (rewrite(run, {nullptr, inner->address, ends.source_port, inner->port}) != Rewritten::done) {
    context.discard(run, DropReason::nat_unable);
    return;
  }
  run.dnat_rule = inner->origin.rule;
  run.is_hairpin = true;
  tell_nat(context, run, run.dnat_rule, true,
           run.family == Family::v4 ? IpAddress::v4(inner->address) : IpAddress::v6(inner->address),
           inner->port);
}

}  // namespace

void translate_destination(Context& context, const Policy& policy, Run& run) {
  const RuleKey key = classify(context, run);
  const uint32_t number = first_rule(policy.nat.table.get(), key, 0, [&](uint32_t each) {
    return is_before_rules(policy.nat.rules[each]);
  });
  if (number == kNoRule) {
    turn_back(context, policy, key, run);
    return;
  }
  run.dnat_rule = static_cast<uint16_t>(number);
  const NatRule& rule = policy.nat.rules[number];
  if (rule.kind == NatKind::none) {
    tell_nat(context, run, number, true, {}, 0);
    return;
  }
  const IpAddress address = pick(rule.pool, number_of_source(context.tuples[run.tuple]));
  if (address.family != run.family) {
    context.discard(run, DropReason::nat_no_address);
    return;
  }
  const Ends ends = ends_of(run);
  be16 port = ends.destination_port;
  if (rule.port_first != 0 && key.has_ports) {
    const bool one = rule.port_first == rule.port_last;
    port = be16{
        static_cast<uint16_t>(one ? rule.port_first : rule.port_first + (port - rule.dport_first))};
  }
  if (rewrite(run, {nullptr, address.bytes.data(), ends.source_port, port}) != Rewritten::done) {
    context.discard(run, DropReason::nat_unable);
    return;
  }
  tell_nat(context, run, number, true, address, key.has_ports ? uint16_t{port} : 0);
}

}  // namespace sallyport
