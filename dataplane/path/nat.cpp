#include "dataplane/path/nat.h"

#include <algorithm>
#include <cstring>

#include "dataplane/net/headers.h"
#include "dataplane/path/policy.h"
#include "dataplane/path/prefixes.h"
#include "dataplane/path/route.h"
#include "dataplane/path/track.h"

namespace sallyport {
namespace {

// The addresses of a pool that one flow may try, where its rule is not paired.
constexpr unsigned kAddressTries = 4;

// Of a rule that is not paired: by the whole flow, or where one end is to keep its outer one, by that end.
uint64_t number_of_flow(const FlowTuple& original, bool by_end) {
  const uint64_t end = mix64(number_of_source(original) ^ uint16_t{original.source_port});
  return by_end ? end
                : mix64(mix64(mix64(end ^ original.word(16)) ^ original.word(24)) ^
                        original.word(FlowTuple::kBytes - 8));
}

// The tuple it has now, as it leaves.
FlowTuple leaving(const Run& run, const FlowTuple& original) {
  const Ends ends = ends_of(run);
  return FlowTuple::make(run.family, 0, original.protocol, ends.source, ends.destination,
                         ends.source_port, ends.destination_port);
}

// Writes the source of `out` into the packet.
void write_source(Context& context, Run& run, const FlowTuple& out) {
  if (rewrite(run, {out.source, nullptr, out.source_port, out.destination_port}) !=
      Rewritten::done) {
    context.discard(run, DropReason::nat_unable);
    return;
  }
  run.translated = true;
}

DropReason reason_of(FlowInsert result) {
  switch (result) {
    case FlowInsert::full:
      return DropReason::flow_table_full;
    case FlowInsert::owner_over_share:
    case FlowInsert::source_over_share:
      return DropReason::flow_share;
    case FlowInsert::invalid:
      return DropReason::flow_invalid;
    default:
      return DropReason::flow_clash;
  }
}

bool translates_source(const NatRule& rule) {
  return rule.kind == NatKind::masquerade || rule.kind == NatKind::snat;
}

// One run that is to become a flow.
class Beginning {
 public:
  Beginning(Context& context, const Policy& policy, Run& run)
      : context_(context), policy_(policy), run_(run), flows_(*policy.flows) {
    fresh_.original = context.tuples[run.tuple];
    fresh_.peer_tag = run.from == nullptr ? 0 : run.from->tag.load(std::memory_order_relaxed);
    fresh_.owner = static_cast<uint16_t>(fresh_.peer_tag % kFlowOwners);
    fresh_.tunnel = context.number;
    fresh_.mark = run.mark;
    fresh_.dnat_rule = run.dnat_rule == UINT16_MAX ? kNoNatRule : run.dnat_rule;
    fresh_.tcp_flags = tcp_flags(run);
  }

  void work() {
    const uint32_t number = find_rule();
    const FlowTuple out = leaving(run_, fresh_.original);
    if (number == kNoRule || !translates_source(policy_.nat.rules[number])) {
      if (number != kNoRule && policy_.nat.rules[number].kind == NatKind::none) {
        tell_nat(context_, run_, number, false, {}, 0);
      }
      as_it_is(out);
      return;
    }
    fresh_.snat_rule = static_cast<uint16_t>(number);
    with_rule(policy_.nat.rules[number], out);
  }

 private:
  uint32_t find_rule() const {
    if (is_between_insiders(policy_, run_)) {
      return run_.prefix_rule;
    }
    if (!run_.is_hairpin) {
      return find_source_rule(policy_.nat, classify(context_, run_), run_.mark,
                              way_out_of(context_, run_));
    }
    // Of a flow that begins anew, perhaps under other rules.
    return run_.dnat_rule < policy_.nat.rules.size() ? run_.dnat_rule : kNoRule;
  }

  IpAddress masquerade_address() const {
    return run_.to == nullptr ? context_.snapshot->host_address(run_.family)
                              : context_.view_of(*run_.to).address(run_.family);
  }

  unsigned zone_back() const { return run_.to != nullptr ? kZoneTunnel : kZoneHost; }

  FlowInsert insert(const FlowTuple& out) {
    fresh_.reply = out.reversed(zone_back());
    const Inserted inserted = flows_.insert(fresh_, context_.now);
    if (inserted.result == FlowInsert::done) {
      finish(inserted.ref, out);
    }
    return inserted.result;
  }

  void finish(FlowRef ref, const FlowTuple& out) {
    run_.flow = ref.word;
    flows_.note(ref, {run_.segments, run_.bytes, fresh_.tcp_flags}, context_.now);
    flows_.set_verdict(ref,
                       {static_cast<uint32_t>(context_.snapshot->epoch), run_.exit, run_.rule});
    if (fresh_.snat_rule == kNoNatRule) {
      run_.translated = true;
    } else {
      tell_source(run_.family == Family::v4 ? IpAddress::v4(out.source) : IpAddress::v6(out.source),
                  out.source_port);
      write_source(context_, run_, out);
    }
  }

  // Another run was quicker, in this burst or on another worker.
  void adopt() {
    const FlowRef ref = flows_.find(fresh_.original);
    if (!ref) {
      context_.discard(run_, DropReason::flow_clash);
      return;
    }
    run_.flow = ref.word;
    flows_.note(ref, {run_.segments, run_.bytes, fresh_.tcp_flags}, context_.now);
    if (!flows_.is_translated(ref.flow())) {
      run_.translated = true;
    } else if (rewrite(run_, translated_ends(flows_.opposite_tuple(ref))) == Rewritten::done) {
      run_.translated = true;
    } else {
      context_.discard(run_, DropReason::nat_unable);
    }
  }

  void as_it_is(const FlowTuple& out) {
    if (context_.dry) {
      return;
    }
    switch (const FlowInsert result = insert(out)) {
      case FlowInsert::done:
        return;
      case FlowInsert::original_taken:
        adopt();
        return;
      case FlowInsert::reply_taken:
        // Both ends began at once, and what came the other way is the flow that this answers.
        if (run_.dnat_rule == UINT16_MAX && flows_.find(fresh_.original)) {
          adopt();
          return;
        }
        context_.discard(run_, DropReason::flow_clash);
        return;
      case FlowInsert::invalid:
        run_.flow_state = FlowState::invalid;  // it goes as it is, and is no flow
        if (run_.dnat_rule != UINT16_MAX) {
          context_.discard(run_, DropReason::flow_invalid);
        }
        return;
      default:
        refuse(reason_of(result));
        return;
    }
  }

  // The address that it shall have outside, at the n-th try.
  IpAddress source_of(const NatRule& rule, unsigned n) const {
    const FlowTuple& original = fresh_.original;
    if (run_.is_hairpin) {
      return run_.family == Family::v4 ? IpAddress::v4(original.destination)
                                       : IpAddress::v6(original.destination);
    }
    if (rule.kind == NatKind::masquerade) {
      return masquerade_address();
    }
    return pick(rule.pool, rule.paired ? number_of_source(original)
                                       : number_of_flow(original, rule.endpoint_independent) + n);
  }

  void with_rule(const NatRule& rule, FlowTuple out) {
    const bool one = run_.is_hairpin || rule.kind == NatKind::masquerade || rule.paired;
    const unsigned tries = one ? 1 : kAddressTries;
    if (source_of(rule, 0).family != run_.family) {
      if (Trace* trace = context_.trace_of(run_); trace != nullptr) {
        trace->add(TraceStep::What::nat, fresh_.snat_rule, 0, 0, 1);
      }
      context_.discard(run_, DropReason::nat_no_address);
      return;
    }
    if (context_.dry) {
      tell_source(source_of(rule, 0), out.source_port);
      return;
    }
    const bool is_mapped = rule.endpoint_independent && has_ports(out);
    for (unsigned n = 0; is_mapped && n < tries; ++n) {
      std::memcpy(out.source, source_of(rule, n).bytes.data(), sizeof(out.source));
      if (as_mapped(out)) {
        return;
      }
    }
    for (unsigned n = 0; n < tries; ++n) {
      std::memcpy(out.source, source_of(rule, n).bytes.data(), sizeof(out.source));
      if (is_mapped ? with_new_mapping(rule, out) : with_source(rule, out)) {
        return;
      }
    }
    refuse(DropReason::nat_no_port);
  }

  // There is no room for it, and its sender is told (RFC 5508, REQ-8); but not who has had his share.
  void refuse(DropReason reason) {
    if (reason == DropReason::nat_no_port || reason == DropReason::flow_table_full) {
      tell(context_, run_, IcmpError::prohibited);
    }
    context_.discard(run_, reason);
  }

  static void set_source_port(FlowTuple& out, be16 port) {
    out.source_port = port;
    if (is_icmp(out.protocol)) {
      out.destination_port = port;  // an id is both
    }
  }

  PortBlocks& ports_of(const NatRule& rule) const {
    return *policy_.nat.ports[context_.worker][run_.to == nullptr ? rule.host_ports : rule.ports];
  }

  // False: every port that was tried is taken.
  bool with_source(const NatRule& rule, FlowTuple out) {
    if (!has_ports(out)) {
      return conclude(insert(out));
    }
    FlowTuple towards = out;
    set_source_port(towards, be16{0});
    const MappingTable& mappings = flows_.mappings();
    PortBlocks& ports = ports_of(rule);
    PortSearch search =
        ports.search(flows_.hash(towards), out.source_port, out.protocol == kProtocolUdp);
    while (const auto port = search.next()) {
      set_source_port(out, be16{*port});
      if (mappings.size() > 0 && mappings.find_outer(out.reversed(0)).has_value()) {
        continue;
      }
      const FlowInsert result = insert(out);
      if (result != FlowInsert::reply_taken) {
        ports.found(search);
        return conclude(result);
      }
    }
    static_cast<void>(ports.failed(search));
    return false;
  }

  // By the mapping that its end has already. False: it has none with this address.
  bool as_mapped(FlowTuple out) {
    const MappedEnd end = MappedEnd::make(fresh_.original, out.source);
    const auto port = flows_.mappings().join(end);
    if (!port.has_value()) {
      return false;
    }
    set_source_port(out, *port);
    if (!with_share(end, out)) {
      context_.discard(run_, DropReason::flow_clash);  // another port would be another end
    }
    return true;
  }

  // False: every port that was tried is another end's.
  bool with_new_mapping(const NatRule& rule, FlowTuple out) {
    MappingTable& mappings = flows_.mappings();
    const MappedEnd end = MappedEnd::make(fresh_.original, out.source);
    const MappingTable::Origin origin = origin_here();
    const size_t most =
        ports_of(rule).size() - ports_of(rule).size() / 16;  // the rest is for others
    FlowTuple anywhere = end.key;
    anywhere.source_port = be16{0};
    std::memset(anywhere.source, 0, sizeof(anywhere.source));
    PortBlocks& ports = ports_of(rule);
    PortSearch search =
        ports.search(flows_.hash(anywhere), out.source_port, out.protocol == kProtocolUdp);
    while (const auto port = search.next()) {
      const MappingTable::Claim claim = mappings.claim(end, be16{*port}, origin, most);
      if (claim.result == MappingTable::Claimed::taken) {
        continue;
      }
      if (claim.result == MappingTable::Claimed::over_share) {
        refuse(DropReason::flow_share);
        return true;
      }
      if (claim.result == MappingTable::Claimed::full) {
        refuse(DropReason::flow_table_full);
        return true;
      }
      set_source_port(out, claim.port);
      if (with_share(end, out)) {
        ports.found(search);
        return true;
      }
      // Another rule's flow has this tuple.
    }
    static_cast<void>(ports.failed(search));
    return false;
  }

  // A share of its mapping goes to the flow, or back. False: the tuple is taken.
  bool with_share(const MappedEnd& end, const FlowTuple& out) {
    fresh_.is_mapped = true;
    const FlowInsert result = insert(out);
    if (result != FlowInsert::done) {
      flows_.mappings().leave(end);
    }
    return conclude(result);
  }

  MappingTable::Origin origin_here() const {
    if (run_.is_hairpin) {  // the outside is where it is for the other one
      if (const auto inner = flows_.mappings().find_outer(fresh_.original); inner.has_value()) {
        return {fresh_.snat_rule, fresh_.owner, inner->origin.towards};
      }
    }
    return {fresh_.snat_rule, fresh_.owner,
            run_.to == nullptr ? PeerTags::kNone : run_.to->tag.load(std::memory_order_relaxed)};
  }

  void tell_source(const IpAddress& source, be16 port) const {
    tell_nat(context_, run_, fresh_.snat_rule, false, source, uint16_t{port});
  }

  // False: the tuple of its answers is taken.
  bool conclude(FlowInsert result) {
    switch (result) {
      case FlowInsert::done:
        return true;
      case FlowInsert::reply_taken:
        return false;
      case FlowInsert::original_taken:
        adopt();
        return true;
      default:
        refuse(reason_of(result));
        return true;
    }
  }

  Context& context_;
  const Policy& policy_;
  Run& run_;
  FlowTable& flows_;
  NewFlow fresh_;
};

// Translated both ways by one rule: no rule of a file does that.
bool is_hairpin(const FlowTable& flows, uint32_t flow) {
  const FlowInfo info = flows.info(flow);
  return info.snat_rule != kNoNatRule && info.snat_rule == info.dnat_rule;
}

// Does the flow leave as it did when it was made? Else its answers would not find it, or its source would not be that of where
// it goes now.
bool fits(const Context& context, const FlowTable& flows, FlowRef ref, const Run& run) {
  const FlowTuple& answer = flows.opposite_tuple(ref);
  if (answer.zone() != (run.to != nullptr ? kZoneTunnel : kZoneHost)) {
    return false;
  }
  if (run.to == nullptr || !flows.is_translated(ref.flow()) || is_hairpin(flows, ref.flow())) {
    return true;
  }
  const auto is_of = [&](const TunnelView& view) {
    const IpAddress& address = view.address(run.family);
    return address.family == run.family &&
           std::memcmp(address.bytes.data(), answer.destination, sizeof(answer.destination)) == 0;
  };
  if (is_of(context.view_of(*run.to))) {
    return true;
  }
  return std::ranges::none_of(context.snapshot->tunnels, is_of);
}

// A flow whose packet was shown to the rules anew.
void settle(Context& context, const Policy& policy, Run& run) {
  FlowTable& flows = *policy.flows;
  const FlowRef ref = flow_of(run);
  if (!fits(context, flows, ref, run)) {
    const uint16_t dnat_rule = flows.info(ref.flow()).dnat_rule;
    run.dnat_rule = dnat_rule == kNoNatRule ? UINT16_MAX : dnat_rule;
    run.is_hairpin = is_hairpin(flows, ref.flow());
    if (!context.dry) {
      flows.remove(ref.flow());
    }
    run.flow = FlowRef::kNone;
    run.flow_state = FlowState::fresh;
    Beginning(context, policy, run).work();
    return;
  }
  if (!context.dry) {
    flows.set_verdict(ref, {static_cast<uint32_t>(context.snapshot->epoch), run.exit, run.rule});
    flows.set_mark(ref.flow(), run.mark);
  }
  if (flows.is_translated(ref.flow())) {
    const FlowTuple& answer = flows.opposite_tuple(ref);
    const Ends now = ends_of(run);
    if (rewrite(run, {answer.destination, nullptr, answer.destination_port,
                      now.destination_port}) != Rewritten::done) {
      context.discard(run, DropReason::nat_unable);
      return;
    }
  }
  run.translated = true;
}

}  // namespace

uint32_t find_source_rule(const Nat& nat, const RuleKey& key, uint32_t mark, const WayOut& way) {
  return first_rule(nat.table.get(), key, mark, [&](uint32_t number) {
    const NatRule& rule = nat.rules[number];
    return rule.kind != NatKind::dnat && rule.way_out.matches(way) &&
           (rule.kind != NatKind::nptv6 || (!key.v4 && rule.prefixes->is_inside(key.source)));
  });
}

bool is_translated_source(const Context& context, const Nat& nat, const Run& run) {
  const size_t bytes = run.family == Family::v4 ? 4 : 16;
  const IpAddress& host = context.snapshot->host_address(run.family);
  if (nat.as_host && host.family == run.family &&
      std::memcmp(host.bytes.data(), run.destination(), bytes) == 0) {
    return true;
  }
  return std::ranges::any_of(nat.as_others, [&](const AddressRange& range) {
    return range.first.family == run.family &&
           std::memcmp(range.first.bytes.data(), run.destination(), bytes) <= 0 &&
           std::memcmp(range.last.bytes.data(), run.destination(), bytes) >= 0;
  });
}

void nat(Context& context) {
  const Policy* policy = context.snapshot->policy;
  if (policy == nullptr || policy->flows == nullptr) {
    return;
  }
  const size_t arrived = context.burst.count;
  for (size_t i = 0; i < arrived; ++i) {
    Run& run = context.burst.runs[i];
    if (run.discarded || run.tuple == UINT16_MAX || run.translated ||
        run.flow_state == FlowState::invalid || run.flow_state == FlowState::none) {
      continue;
    }
    if (run.flow != FlowRef::kNone) {
      settle(context, *policy, run);
    } else {
      Beginning(context, *policy, run).work();
    }
  }
}

}  // namespace sallyport
