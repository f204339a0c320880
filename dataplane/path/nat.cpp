#include "dataplane/path/nat.h"

#include <algorithm>
#include <cstring>

#include "dataplane/net/headers.h"
#include "dataplane/path/policy.h"
#include "dataplane/path/track.h"

namespace sallyport {
namespace {

// The first rule that matches. Without a way out: of those that are asked before there is one.
uint32_t find_rule(const Nat& nat, const RuleKey& key, uint32_t mark, const WayOut* way) {
  if (nat.table == nullptr) {
    return kNoRule;
  }
  RuleTable::Walk walk = nat.table->walk(key);
  for (uint32_t from = 0;;) {
    const uint32_t number = walk.next(from, mark);
    if (number == kNoRule) {
      return kNoRule;
    }
    from = number + 1;
    const NatRule& rule = nat.rules[number];
    if (way == nullptr
            ? rule.kind == NatKind::dnat || (rule.kind == NatKind::none && !rule.way_out.asks())
            : rule.kind != NatKind::dnat && rule.way_out.matches(*way)) {
      return number;
    }
  }
}

uint64_t low_word(const IpAddress& address) {
  uint64_t value = 0;
  const size_t bytes = address.bits() / 8;
  for (size_t i = bytes < 8 ? 0 : bytes - 8; i < bytes; ++i) {
    value = value << 8 | address.bytes[i];
  }
  return value;
}

// Of a range that is longer, the first 2^64 - 1.
uint64_t size_of(const AddressRange& range) {
  if (range.first.family == Family::v6 &&
      std::memcmp(range.first.bytes.data(), range.last.bytes.data(), 8) != 0) {
    return UINT64_MAX;
  }
  const uint64_t beyond = low_word(range.last) - low_word(range.first);
  return beyond == UINT64_MAX ? beyond : beyond + 1;
}

IpAddress plus(IpAddress address, uint64_t number) {
  unsigned carry = 0;
  for (size_t i = address.bits() / 8; i-- > 0; number >>= 8) {
    const unsigned sum = address.bytes[i] + static_cast<unsigned>(number & 0xff) + carry;
    address.bytes[i] = static_cast<uint8_t>(sum);
    carry = sum >> 8;
  }
  return address;
}

// The address of the pool that a number stands for, spread evenly.
IpAddress pick(const std::vector<AddressRange>& pool, uint64_t number) {
  uint64_t total = 0;
  for (const AddressRange& range : pool) {
    const uint64_t size = size_of(range);
    total = total > UINT64_MAX - size ? UINT64_MAX : total + size;
  }
  number %= total;
  for (const AddressRange& range : pool) {
    const uint64_t size = size_of(range);
    if (number < size) {
      return plus(range.first, number);
    }
    number -= size;
  }
  return pool.back().last;
}

// The same for all flows of this source: what it talks to sees one address (RFC 4787, REQ-2).
uint64_t number_of_source(const FlowTuple& original) {
  return mix64(mix64(original.word(0) + 0x9e3779b97f4a7c15) ^ original.word(8));
}

bool has_ports(const FlowTuple& tuple) {
  return tuple.source_port != 0 || tuple.destination_port != 0;
}

void tell_trace(Context& context, const Run& run, uint32_t rule, bool before,
                const IpAddress& address, uint16_t port) {
  if (Trace* trace = context.trace_of(run); trace != nullptr) {
    trace->add(TraceStep::What::nat, rule, before ? 1 : 0, port);
    trace->steps[std::min<size_t>(trace->count, Trace::kStepsMax) - 1].address = address;
  }
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
    const WayOut way = way_out_of(context_, run_);
    const RuleKey key = classify(context_, run_);
    const uint32_t number = find_rule(policy_.nat, key, run_.mark, &way);
    const FlowTuple out = leaving(run_, fresh_.original);
    if (number == kNoRule || policy_.nat.rules[number].kind == NatKind::none) {
      if (number != kNoRule) {
        tell_trace(context_, run_, number, false, {}, 0);
      }
      as_it_is(out);
      return;
    }
    fresh_.snat_rule = static_cast<uint16_t>(number);
    const NatRule& rule = policy_.nat.rules[number];
    const IpAddress source = rule.kind == NatKind::masquerade
                                 ? masquerade_address()
                                 : pick(rule.pool, number_of_source(fresh_.original));
    if (source.family != run_.family) {
      if (Trace* trace = context_.trace_of(run_); trace != nullptr) {
        trace->add(TraceStep::What::nat, number, 0, 0, 1);
      }
      context_.discard(run_, DropReason::nat_no_address);
      return;
    }
    with_source(rule, number, out, source);
  }

 private:
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
        context_.discard(run_, reason_of(result));
        return;
    }
  }

  void with_source(const NatRule& rule, uint32_t number, FlowTuple out, const IpAddress& source) {
    std::memcpy(out.source, source.bytes.data(), sizeof(out.source));
    const be16 own = out.source_port;
    tell_trace(context_, run_, number, false, source, has_ports(out) ? uint16_t{own} : 0);
    if (context_.dry) {
      return;
    }
    if (!has_ports(out)) {
      conclude(insert(out), DropReason::nat_no_port);
      return;
    }
    FlowTuple towards = out;
    towards.source_port = be16{0};
    if (is_icmp(out.protocol)) {
      towards.destination_port = be16{0};
    }
    PortBlocks& ports =
        *policy_.nat.ports[context_.worker][run_.to == nullptr ? rule.host_ports : rule.ports];
    PortSearch search = ports.search(flows_.hash(towards), own, out.protocol == kProtocolUdp);
    while (const auto port = search.next()) {
      out.source_port = be16{*port};
      if (is_icmp(out.protocol)) {
        out.destination_port = out.source_port;  // an id is both
      }
      const FlowInsert result = insert(out);
      if (result != FlowInsert::reply_taken) {
        ports.found(search);
        conclude(result, DropReason::flow_clash);
        return;
      }
    }
    static_cast<void>(ports.failed(search));
    context_.discard(run_, DropReason::nat_no_port);
  }

  void conclude(FlowInsert result, DropReason when_taken) {
    if (result == FlowInsert::done) {
      return;
    }
    if (result == FlowInsert::original_taken) {
      adopt();
      return;
    }
    context_.discard(run_, result == FlowInsert::reply_taken ? when_taken : reason_of(result));
  }

  Context& context_;
  const Policy& policy_;
  Run& run_;
  FlowTable& flows_;
  NewFlow fresh_;
};

// Does the flow leave as it did when it was made? Else its answers would not find it, or its source would not be that of where
// it goes now.
bool fits(const Context& context, const FlowTable& flows, FlowRef ref, const Run& run) {
  const FlowTuple& answer = flows.opposite_tuple(ref);
  if (answer.zone() != (run.to != nullptr ? kZoneTunnel : kZoneHost)) {
    return false;
  }
  if (run.to == nullptr || !flows.is_translated(ref.flow())) {
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

void translate_destination(Context& context, const Policy& policy, Run& run) {
  const RuleKey key = classify(context, run);
  const uint32_t number = find_rule(policy.nat, key, 0, nullptr);
  if (number == kNoRule) {
    return;
  }
  run.dnat_rule = static_cast<uint16_t>(number);
  const NatRule& rule = policy.nat.rules[number];
  if (rule.kind == NatKind::none) {
    tell_trace(context, run, number, true, {}, 0);
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
  tell_trace(context, run, number, true, address, key.has_ports ? uint16_t{port} : 0);
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
