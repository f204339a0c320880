#include "dataplane/path/route.h"

#include "dataplane/net/icmp.h"
#include "dataplane/port.h"

namespace sallyport {

void route(Context& context) {
  for (size_t i = 0; i < context.burst.count; ++i) {
    Run& run = context.burst.runs[i];
    if (run.from != nullptr || run.to != nullptr) {
      continue;  // for the host; or a run that already knows its peer (staged packets, keepalives)
    }
    run.to = context.tunnel.owner_of(run.family, run.destination());
    if (run.to == nullptr) {
      run.discarded = true;
      context.discard(DropReason::no_peer, nullptr, run.segments);
      tell_unreachable(context, run);
    }
  }
}

void tell_unreachable(Context& context, const Run& run) {
  if (context.plain == nullptr || !context.icmp_budget.allow(context.now)) {
    return;
  }
  uint8_t packet[kIcmpErrorBytesMax];
  const size_t length = icmp_unreachable(run, packet);
  if (length == 0) {
    return;
  }
  const Slice slice{packet, static_cast<uint32_t>(length)};
  TxFrame frame;
  frame.slices = std::span(&slice, 1);
  frame.length = slice.length;
  context.plain->tx(std::span(&frame, 1));
}

}  // namespace sallyport
