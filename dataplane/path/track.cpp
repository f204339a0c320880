#include "dataplane/path/track.h"

#include <cstring>

#include "dataplane/net/fragment.h"
#include "dataplane/net/headers.h"
#include "dataplane/net/icmp_inner.h"
#include "dataplane/path/classify.h"
#include "dataplane/path/destination.h"
#include "dataplane/path/policy.h"
#include "dataplane/path/route.h"
#include "dataplane/table/fragment_table.h"

namespace sallyport {
namespace {

// Of the table's records, looked at whether their flow is over: the whole of a million in as many bursts as come by in a second.
constexpr size_t kSweptABurst = 64;

unsigned zone_of(const Run& run) {
  return run.from == nullptr ? kZoneHost : kZoneTunnel;
}

// Of a fragment: its packet's protocol and ports. False: it is discarded.
bool complete_fragment(Context& context, const Policy& policy, Run& run, uint8_t& protocol,
                       Ends& ends) {
  Fragment fragment;
  if (read_fragment(run, fragment) != FragmentFault::none) {
    context.discard(run, DropReason::fragment_refused);
    return false;
  }
  // The header before the payload names it: IPv4's own, or the fragment header.
  constexpr unsigned kFragmentHeaderBytes = 8;
  protocol =
      run.family == Family::v4 ? fragment.protocol : run.head[run.l4_offset - kFragmentHeaderBytes];
  FragmentPorts ports{ends.source_port, ends.destination_port};
  const auto now = static_cast<uint32_t>(context.now / kSecond);
  switch (policy.fragments->add(fragment_key(run, fragment, zone_of(run)), fragment, ports, now)) {
    case FragmentState::first:
      protocol = run.protocol;
      return true;
    case FragmentState::known:
      ends.source_port = ports.source;
      ends.destination_port = ports.destination;
      return true;
    case FragmentState::early:
      context.discard(run, DropReason::fragment_early);
      return false;
    default:
      context.discard(run, DropReason::fragment_refused);
      return false;
  }
}

FlowTuple tuple_of(const Run& run, uint8_t protocol, const Ends& ends) {
  return FlowTuple::make(run.family, zone_of(run), protocol, ends.source, ends.destination,
                         ends.source_port, ends.destination_port);
}

// The tuple that a packet of the direction of this error would have. False: it belongs to no flow.
bool tuple_of_error(const Run& run, const Quoted& quoted, FlowTuple& tuple) {
  if (quoted.packet.protocol == 0) {
    return false;  // it quotes a later fragment
  }
  tuple = FlowTuple::make(quoted.packet.family, zone_of(run), quoted.packet.protocol,
                          quoted.ends.destination, quoted.ends.source, quoted.ends.destination_port,
                          quoted.ends.source_port);
  return true;
}

// Of an error about another packet. False: it is an error, and about no flow.
bool ask_quoted(Run& run, FlowTuple& tuple, bool& is_error) {
  Quoted quoted;
  const Quote quote = is_icmp(run.protocol) ? find_quoted(run, quoted) : Quote::none;
  is_error = quote != Quote::none;
  if (!is_error) {
    return true;
  }
  if (quote == Quote::found && tuple_of_error(run, quoted, tuple)) {
    run.flow_state = FlowState::related;
    return true;
  }
  run.flow_state = FlowState::invalid;
  return false;
}

// What is asked of the table for this run. False: nothing is.
bool ask(Context& context, const Policy& policy, Run& run, FlowTuple& tuple) {
  bool is_error = false;
  if (!ask_quoted(run, tuple, is_error)) {
    return false;
  }
  if (is_error) {
    return true;
  }
  Ends ends = ends_of(run);
  uint8_t protocol = run.protocol;
  if (run.fragment && (context.dry || !complete_fragment(context, policy, run, protocol, ends))) {
    return false;
  }
  tuple = tuple_of(run, protocol, ends);
  return true;
}

void translate_error(Run& run, const FlowTuple& opposite) {
  Quoted quoted;
  if (find_quoted(run, quoted) != Quote::found) {
    return;
  }
  // The packet it quotes went the other way, and had these ends when its sender sent it.
  const Ends inner{opposite.source, opposite.destination, opposite.source_port,
                   opposite.destination_port};
  const bool from_the_end =
      std::memcmp(run.source(), quoted.ends.destination, run.family == Family::v4 ? 4 : 16) == 0;
  Ends outer{from_the_end ? opposite.destination : nullptr, opposite.source, be16{0}, be16{0}};
  rewrite_quoted(run, quoted, inner, outer);
}

void translate(Context& context, Run& run, const FlowTable& flows, FlowRef ref, bool whole) {
  if (!flows.is_translated(ref.flow())) {
    run.translated = true;
    return;
  }
  const FlowTuple& opposite = flows.opposite_tuple(ref);
  if (run.flow_state == FlowState::related) {
    translate_error(run, opposite);
    run.translated = true;
    return;
  }
  Ends to = translated_ends(opposite);
  if (!whole) {  // the rules are to see where it came from
    const FlowTuple& own = flows.tuple(ref);
    to.source = nullptr;
    to.source_port = own.source_port;
  }
  if (rewrite(run, to) != Rewritten::done) {
    context.discard(run, DropReason::nat_unable);
    return;
  }
  run.translated = whole;
}

// Whether it is known where the flow's first packet came from, so that a reply can go there.
bool has_origin(const FlowTable& flows, FlowRef ref) {
  const FlowDirection direction = FlowDirection::original;
  const FlowTuple& original =
      ref.direction() == direction ? flows.tuple(ref) : flows.opposite_tuple(ref);
  return original.zone() == kZoneHost || flows.peer_tag(ref.flow()) != PeerTags::kNone;
}

// Rules may ask where a packet comes in, and what they said was of who began the flow.
bool is_from_origin(const Context& context, const FlowTable& flows, FlowRef ref, const Run& run) {
  const uint32_t tag =
      run.from == nullptr ? PeerTags::kNone : run.from->tag.load(std::memory_order_relaxed);
  return ref.direction() == FlowDirection::reply ||
         (flows.tunnel(ref.flow()) == context.number && flows.peer_tag(ref.flow()) == tag);
}

FlowSeen look(Context& context, FlowTable& flows, FlowRef ref, const Run& run) {
  if (!context.dry) {
    return flows.note(ref, {run.segments, run.bytes, tcp_flags(run)}, context.now);
  }
  const bool is_reply = ref.direction() == FlowDirection::reply;
  return is_reply || flows.info(ref.flow()).is_replied ? FlowSeen::established : FlowSeen::fresh;
}

void tell_trace(Context& context, Run& run, FlowRef ref) {
  if (Trace* trace = context.trace_of(run); trace != nullptr) {
    trace->add(TraceStep::What::flow, static_cast<uint32_t>(run.flow_state),
               ref ? static_cast<uint32_t>(ref.direction()) : 0, ref ? 1 : 0, run.decided ? 1 : 0);
  }
}

void follow(Context& context, const Policy& policy, Run& run, FlowRef ref) {
  FlowTable& flows = *policy.flows;
  if (run.flow_state != FlowState::related) {
    switch (look(context, flows, ref, run)) {
      case FlowSeen::invalid:
        run.flow_state = FlowState::invalid;
        if (flows.is_translated(ref.flow())) {
          context.discard(run, DropReason::flow_invalid);
        }
        tell_trace(context, run, FlowRef{});
        return;
      case FlowSeen::fresh:
        run.flow_state = FlowState::fresh;
        break;
      case FlowSeen::established:
        run.flow_state = FlowState::established;
        break;
    }
  }
  run.flow = ref.word;
  run.is_reply = ref.direction() == FlowDirection::reply && has_origin(flows, ref);
  if (!run.is_reply) {
    const FlowVerdict verdict = flows.verdict(ref);
    if (is_current(context, policy, verdict) && is_from_origin(context, flows, ref, run) &&
        context.trace_of(run) == nullptr) {
      run.decided = true;
      run.exit = verdict.exit;
      run.rule = verdict.rule;
      run.mark = flows.mark(ref.flow());
    }
  }
  tell_trace(context, run, ref);
  const bool whole = run.decided || ref.direction() == FlowDirection::reply ||
                     run.flow_state == FlowState::related;
  translate(context, run, flows, ref, whole);
}

// As the host does for a port where nobody listens: it is its address, and one of those ports.
void refuse_unsolicited(Context& context, Run& run) {
  if (run.protocol == kProtocolTcp) {
    tell_reset(context, run);
  } else {
    tell(context, run, IcmpError::port_unreachable);
  }
  context.discard(run, DropReason::unsolicited);
}

}  // namespace

Ends translated_ends(const FlowTuple& opposite) {
  return {opposite.destination, opposite.source, opposite.destination_port, opposite.source_port};
}

bool is_of_flow(const Policy& policy, Run& run) {
  FlowTuple tuple;
  bool is_error = false;
  if (run.fragment || !ask_quoted(run, tuple, is_error)) {
    return false;
  }
  if (!is_error) {
    tuple = tuple_of(run, run.protocol, ends_of(run));
  }
  return static_cast<bool>(policy.flows->find(tuple));
}

bool is_current(const Context& context, const Policy& policy, const FlowVerdict& verdict) {
  return verdict.epoch != 0 && verdict.epoch == static_cast<uint32_t>(context.snapshot->epoch) &&
         (verdict.exit == kNoExit || policy.alive[verdict.exit].load(std::memory_order_relaxed));
}

void track(Context& context) {
  const Policy* policy = context.snapshot->policy;
  if (policy == nullptr || policy->flows == nullptr) {
    return;
  }
  if (!context.dry) {
    policy->flows->expire(context.now, kSweptABurst);
  }
  uint16_t count = 0;
  const auto arrived = static_cast<uint16_t>(context.burst.count);
  for (uint16_t i = 0; i < arrived; ++i) {
    Run& run = context.burst.runs[i];
    if (run.to == nullptr && !run.discarded && ask(context, *policy, run, context.tuples[count])) {
      context.asked[count] = i;
      run.tuple = count++;
    }
  }
  policy->flows->find_many(context.tuples, context.flows, count);
  for (uint16_t i = 0; i < count; ++i) {
    Run& run = context.burst.runs[context.asked[i]];
    if (context.flows[i]) {
      follow(context, *policy, run, context.flows[i]);
      continue;
    }
    if (run.flow_state == FlowState::related) {
      run.flow_state = FlowState::invalid;  // an error about nothing that we know of
    } else {
      run.flow_state = FlowState::fresh;
    }
    tell_trace(context, run, FlowRef{});
    if (run.flow_state == FlowState::fresh) {
      translate_destination(context, *policy, run);
    }
    if (run.from == nullptr && !run.discarded && is_translated_source(context, policy->nat, run)) {
      refuse_unsolicited(context, run);
    }
  }
}

}  // namespace sallyport
