#include "dataplane/path/route.h"

#include <cstddef>
#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "dataplane/net/icmp_inner.h"
#include "dataplane/net/parse.h"
#include "dataplane/net/reset.h"
#include "dataplane/net/rewrite.h"
#include "dataplane/path/policy.h"
#include "dataplane/port.h"

namespace sallyport {
namespace {

using wireguard::Peer;

// Private use (RFC 1918), link-local (RFC 3927, 4291), shared for carriers (RFC 6598), unique local (RFC 4193).
bool is_private(Family family, const uint8_t* to) {
  if (family == Family::v4) {
    return to[0] == 10 || (to[0] == 172 && (to[1] & 0xf0) == 16) ||
           (to[0] == 192 && to[1] == 168) || (to[0] == 169 && to[1] == 254) ||
           (to[0] == 100 && (to[1] & 0xc0) == 64);
  }
  return (to[0] & 0xfe) == 0xfc || (to[0] == 0xfe && (to[1] & 0xc0) == 0x80);
}

bool is_there(const Context& context, TunnelNumber number) {
  return number < context.snapshot->tunnels.size() &&
         context.snapshot->tunnels[number].tunnel != nullptr;
}

uint8_t& hops_left(const Run& run) {
  return run.head[run.family == Family::v4 ? 8 : 7];
}

// Beyond this function the packet has been through a router. False: it may go no further.
bool count_down(Run& run) {
  uint8_t* left = &hops_left(run);
  if (*left <= 1) {
    return false;
  }
  if (run.family == Family::v4) {
    uint8_t word[2] = {static_cast<uint8_t>(*left - 1), run.head[9]};
    uint16_t value;
    std::memcpy(&value, word, sizeof(value));
    checksum_replace16(run.head + offsetof(Ipv4Header, checksum), left, value);
  } else {
    --*left;
  }
  return true;
}

void unreachable(Context& context, Run& run, DropReason reason) {
  tell(context, run, IcmpError::unreachable);
  context.discard(run, reason);
}

void to_peer(Context& context, Run& run, Peer* peer) {
  Trace* trace = context.trace_of(run);
  if (!context.view_of(*peer).up) {
    unreachable(context, run, DropReason::tunnel_down);
    return;
  }
  if (run.from != nullptr && !count_down(run)) {
    tell(context, run, IcmpError::time_exceeded);
    context.discard(run, DropReason::ttl_exceeded);
    return;
  }
  run.to = peer;
  if (trace != nullptr) {
    if (run.from != nullptr) {
      trace->add(TraceStep::What::ttl, 0, hops_left(run));
    }
    trace->add(TraceStep::What::peer, peer->tunnel, peer->slot,
               peer->tag.load(std::memory_order_relaxed));
  }
}

void to_host(Context& context, Run& run, uint16_t port) {
  const TunnelNumber by = port == kPortItCameBy ? context.number : port;
  if (!is_there(context, by)) {
    unreachable(context, run, DropReason::exit_gone);
    return;
  }
  if (run.from == nullptr && by == context.number) {
    context.discard(run, DropReason::exit_is_origin);
    return;
  }
  run.port = port;
  if (Trace* trace = context.trace_of(run); trace != nullptr) {
    trace->add(TraceStep::What::host, by);
  }
}

// By allowed-IPs, as WireGuard alone does.
void by_allowed_ips(Context& context, Run& run, TunnelNumber number) {
  if (!is_there(context, number)) {
    unreachable(context, run, DropReason::exit_gone);
    return;
  }
  Peer* peer = context.snapshot->tunnels[number].tunnel->owner_of(run.family, run.destination());
  if (Trace* trace = context.trace_of(run); trace != nullptr) {
    trace->add(TraceStep::What::allowed_ips, number, peer != nullptr ? 1 : 0);
  }
  if (peer == nullptr) {
    unreachable(context, run, DropReason::no_peer);
    return;
  }
  to_peer(context, run, peer);
}

void by_exit(Context& context, const Policy& policy, Run& run) {
  const Exit& exit = policy.exits[run.exit];
  switch (exit.kind) {
    case ExitKind::peer: {
      Peer* peer = policy.tags.get(exit.tag);
      if (peer == nullptr) {
        unreachable(context, run, DropReason::exit_gone);
      } else if (!lan_allows(exit, run.family, run.destination())) {
        if (Trace* trace = context.trace_of(run); trace != nullptr) {
          trace->add(TraceStep::What::lan_denied, run.exit);
        }
        tell(context, run, IcmpError::prohibited);
        context.discard(run, DropReason::lan_denied);
      } else {
        to_peer(context, run, peer);
      }
      return;
    }
    case ExitKind::tunnel:
      by_allowed_ips(context, run, exit.tunnel);
      return;
    case ExitKind::host:
      to_host(context, run, kPortItCameBy);
      return;
    case ExitKind::port:
      to_host(context, run, exit.tunnel);
      return;
    case ExitKind::unreachable:
      unreachable(context, run, DropReason::policy_reject);
      return;
    case ExitKind::drop:
    case ExitKind::group:  // resolved already
      context.discard(run, DropReason::policy_drop);
      return;
  }
}

// Where its flow came from.
void back(Context& context, const FlowTable& flows, Run& run) {
  const uint32_t flow = FlowRef{run.flow}.flow();
  const uint32_t tag = flows.peer_tag(flow);
  if (Trace* trace = context.trace_of(run); trace != nullptr) {
    trace->add(TraceStep::What::way_back, 0, tag);
  }
  if (tag == PeerTags::kNone) {
    to_host(context, run, flows.tunnel(flow));
    return;
  }
  Peer* peer = context.snapshot->policy->tags.get(tag);
  if (peer == nullptr) {
    unreachable(context, run, DropReason::exit_gone);
    return;
  }
  to_peer(context, run, peer);
}

// An answer about a packet as it is here becomes one about the packet as its sender sent it.
void undo_translation(const Context& context, const Run& run, std::span<uint8_t> answer) {
  Run back;
  back.head = answer.data();
  back.head_bytes = back.bytes = static_cast<uint32_t>(answer.size());
  if (run.tuple == UINT16_MAX || !parse(back)) {
    return;
  }
  const FlowTuple& sent = context.tuples[run.tuple];
  const Ends to_sender{sent.destination, sent.source, sent.destination_port, sent.source_port};
  Quoted quoted;
  if (find_quoted(back, quoted) != Quote::found) {
    static_cast<void>(rewrite(back, to_sender));  // it has no options that could forbid it
  } else {
    rewrite_quoted(back, quoted,
                   {sent.source, sent.destination, sent.source_port, sent.destination_port},
                   to_sender);
  }
  if (run.prefix_rule != UINT16_MAX) {
    const Nptv6& map = *context.snapshot->policy->nat.rules[run.prefix_rule].prefixes;
    map.to_outside(back.head + offsetof(Ipv6Header, source));
    if (quoted.packet.head != nullptr) {
      map.to_outside(quoted.packet.head + offsetof(Ipv6Header, destination));
    }
  }
}

// The packet in `answer` to whoever sent `run`.
void send_back(Context& context, const Run& run, std::span<uint8_t> answer) {
  undo_translation(context, run, answer);
  if (run.from != nullptr) {
    Buffer* buffer = context.burst.full() ? nullptr : context.hold_buffer();
    if (buffer == nullptr) {
      return;  // an answer is a courtesy
    }
    std::memcpy(buffer->data(), answer.data(), answer.size());
    Run& back = context.burst.add();
    back.head = buffer->data();
    back.head_bytes = back.bytes = static_cast<uint32_t>(answer.size());
    back.family = run.family;
    back.to = run.from;
    return;
  }
  if (context.plain == nullptr) {
    return;
  }
  const Slice slice{answer.data(), static_cast<uint32_t>(answer.size())};
  TxFrame frame;
  frame.slices = std::span(&slice, 1);
  frame.length = slice.length;
  context.plain->tx(std::span(&frame, 1));
}

}  // namespace

bool lan_allows(const Exit& exit, Family family, const uint8_t* destination) {
  if (exit.lan == LanPolicy::allow || !is_private(family, destination)) {
    return true;
  }
  return exit.lan == LanPolicy::only && exit.lan_set->contains(family == Family::v4, destination);
}

void route(Context& context) {
  const size_t arrived = context.burst.count;  // what is added behind them knows where it goes
  for (size_t i = 0; i < arrived; ++i) {
    Run& run = context.burst.runs[i];
    if (run.to != nullptr || run.discarded) {
      continue;  // staged packets, keepalives, answers; or gone already
    }
    if (run.is_reply) {
      back(context, *context.snapshot->policy->flows, run);
    } else if (run.exit != kNoExit) {
      const Policy& policy = *context.snapshot->policy;
      by_exit(context, policy, run);
      if (run.discarded && !context.dry) {
        count(policy.exit_counters[context.worker][run.exit].drops, run.segments);
        count(policy.rule_counters[context.worker][run.rule].drops, run.segments);
      }
    } else if (run.from == nullptr) {
      by_allowed_ips(context, run, context.number);
    } else {
      to_host(context, run, kPortItCameBy);
    }
  }
}

void tell(Context& context, const Run& run, IcmpError error, uint32_t mtu) {
  if (context.dry || run.sealed_for != nullptr || !context.icmp_budget.allow(context.now)) {
    return;
  }
  uint8_t packet[kIcmpErrorBytesMax];
  const size_t length = icmp_error(error, run, packet, mtu);
  if (length > 0) {
    send_back(context, run, {packet, length});
  }
}

void tell_reset(Context& context, const Run& run) {
  if (run.protocol != kProtocolTcp) {
    tell(context, run, IcmpError::prohibited);
    return;
  }
  if (context.dry || !context.icmp_budget.allow(context.now)) {
    return;
  }
  uint8_t packet[kResetBytesMax];
  const size_t length = tcp_reset(run, packet);
  if (length > 0) {
    send_back(context, run, {packet, length});
  }
}

}  // namespace sallyport
