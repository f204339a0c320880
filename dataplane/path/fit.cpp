#include "dataplane/path/fit.h"

#include <algorithm>
#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/fragment.h"
#include "dataplane/net/headers.h"
#include "dataplane/net/mss.h"
#include "dataplane/net/parse.h"
#include "dataplane/path/route.h"
#include "dataplane/path/segment.h"

namespace sallyport {
namespace {

using wireguard::Peer;

// IP and UDP headers of a datagram, and what a data message adds.
constexpr uint32_t kOverV4 = 60, kOverV6 = 80;

void tell_trace(Context& context, const Run& run, TraceStep::Fitted how, uint32_t value,
                uint32_t mtu) {
  if (Trace* trace = context.trace_of(run); trace != nullptr) {
    trace->add(TraceStep::What::fit, static_cast<uint32_t>(how), value, mtu);
  }
}

// The largest packet that a SYN of this way may bring about; 0: this tunnel does not look at it.
uint32_t mtu_for_mss(const Context& context, const Peer& peer, Family family) {
  const TunnelView& view = context.view_of(peer);
  switch (view.mss) {
    case MssMode::off:
      return 0;
    case MssMode::fixed:
      return view.mss_bytes + uint32_t{sizeof(TcpHeader)} +
             (family == Family::v4 ? uint32_t{sizeof(Ipv4Header)} : uint32_t{sizeof(Ipv6Header)});
    case MssMode::clamp:
      break;
  }
  return mtu_of(context, peer);
}

void clamp(Context& context, Run& run) {
  uint32_t mtu = UINT32_MAX;
  for (const Peer* peer : {run.from, run.to}) {
    if (peer == nullptr) {
      continue;
    }
    if (const uint32_t its = mtu_for_mss(context, *peer, run.family); its != 0) {
      mtu = std::min(mtu, its);
    }
  }
  if (mtu != UINT32_MAX && clamp_mss(run, mtu)) {
    tell_trace(context, run, TraceStep::Fitted::mss, mss_of(run).value_or(0), mtu);
  }
}

// Of a super-packet, that of the packets it stands for.
uint32_t packet_bytes(const Run& run) {
  return run.offload.gso == Gso::none ? run.bytes
                                      : std::min(run.bytes, run.head_bytes + run.offload.gso_size);
}

bool may_be_cut(const Run& run) {
  return run.family == Family::v4 &&
         (reinterpret_cast<const Ipv4Header*>(run.head)->fragment & kIpv4DontFragment) == 0;
}

void refuse(Context& context, Run& run, uint32_t mtu) {
  tell_trace(context, run, TraceStep::Fitted::refused, packet_bytes(run), mtu);
  if (run.sealed_for != nullptr) {
    run.sealed_for->path_mtu.learn(mtu, context.now);  // what is in it is told when it comes again
  }
  tell(context, run, IcmpError::too_big, mtu);
  context.discard(run, DropReason::too_big);
}

// Fragments are runs of their own, behind the others. False: there is no room for them.
bool cut(Context& context, const Run& whole, uint32_t mtu) {
  FragmentWalk walk(whole, mtu);
  Buffer* buffer = nullptr;
  uint32_t used = 0;
  while (walk.next()) {
    const uint32_t length = walk.head_bytes() + walk.payload_bytes();
    if (buffer == nullptr || used + length > Buffer::kDataBytes) {
      buffer = context.hold_buffer();
      used = 0;
    }
    if (buffer == nullptr || context.burst.full()) {
      return false;
    }
    uint8_t* at = buffer->data() + used;
    walk.write_head(at);
    std::memcpy(at + walk.head_bytes(), walk.payload(), walk.payload_bytes());
    used += (length + 15) & ~15u;
    Run& part = context.burst.add();
    part.head = at;
    part.head_bytes = part.bytes = length;
    parse(part);
    part.from = whole.from;
    part.to = whole.to;
    part.exit = whole.exit;
    part.rule = whole.rule;
  }
  return true;
}

// A segment a peer cannot be sent whole: TCP's are made smaller, anything else is cut or refused.
void too_big(Context& context, Run& run, uint32_t mtu) {
  if (!may_be_cut(run) || run.offload.gso == Gso::udp) {
    refuse(context, run, mtu);
    return;
  }
  tell_trace(context, run, TraceStep::Fitted::cut, packet_bytes(run), mtu);
  if (run.offload.gso != Gso::none) {
    if (mtu <= run.head_bytes) {
      refuse(context, run, mtu);
      return;
    }
    const uint32_t payload = run.bytes - run.head_bytes;
    run.offload.gso_size = static_cast<uint16_t>(mtu - run.head_bytes);
    run.segments = (payload + run.offload.gso_size - 1) / run.offload.gso_size;
    return;
  }
  if (context.dry) {
    return;
  }
  if (run.offload.needs_checksum) {
    complete_checksum(run);
    run.offload.needs_checksum = false;
  }
  if (cut(context, run, mtu)) {
    run.discarded = true;  // its fragments are there instead
  } else {
    context.discard(run, DropReason::pool_dry);
  }
}

}  // namespace

uint32_t mtu_of(const Context& context, const Peer& peer) {
  const uint32_t mtu = context.view_of(peer).mtu;
  const uint32_t path = peer.path_mtu.get(context.now);
  if (path == 0) {
    return mtu;
  }
  const uint32_t over = peer.endpoint.load().remote.family == Family::v4 ? kOverV4 : kOverV6;
  return std::min(mtu, path > over ? path - over : 1);
}

void fit(Context& context) {
  if (context.snapshot->policy == nullptr && !context.snapshot->nested) {
    return;
  }
  const size_t arrived = context.burst.count;  // fragments and answers are added behind them
  for (size_t i = 0; i < arrived; ++i) {
    Run& run = context.burst.runs[i];
    if (run.discarded || run.head_bytes == 0 || run.family == Family::none) {
      continue;
    }
    if (is_syn(run) && !run.fragment) {
      clamp(context, run);
    }
    if (run.to == nullptr) {
      continue;
    }
    if (const uint32_t mtu = mtu_of(context, *run.to); packet_bytes(run) > mtu) {
      too_big(context, run, mtu);
    }
  }
}

}  // namespace sallyport
