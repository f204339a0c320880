#include "dataplane/path/open.h"

#include <algorithm>

#include "dataplane/net/parse.h"
#include "dataplane/path/join.h"
#include "dataplane/port.h"
#include "dataplane/wireguard/message.h"

namespace sallyport {
namespace {

using wireguard::Keypair;
using wireguard::MessageData;
using wireguard::Peer;

constexpr Time kLastMinute =
    wireguard::kRejectAfterTime - wireguard::kKeepaliveTimeout - wireguard::kRekeyTimeout;

// What one keypair's consecutive datagrams add up to, so that shared state is touched once.
struct Group {
  Keypair* keypair = nullptr;
  const RxFrame* last_frame = nullptr;
  uint64_t packets = 0;
  uint64_t bytes = 0;
  bool with_data = false;
};

// The first packet under a next keypair: the responder's session begins here.
void confirm_session(Context& context, Keypair& keypair) {
  wireguard::Displaced displaced;
  Peer& peer = *keypair.peer;
  if (!peer.keypairs.confirm(&keypair, displaced)) {
    return;
  }
  context.tunnel->retire(displaced);
  context.request(peer, wireguard::kConfirmed);
}

void finish_group(Context& context, const Group& group) {
  if (group.packets == 0) {
    return;
  }
  Keypair& keypair = *group.keypair;
  Peer& peer = *keypair.peer;
  const Endpoint& from = group.last_frame->from;
  if (!(peer.endpoint.load() == from)) {
    peer.endpoint.store(from);
  }
  confirm_session(context, keypair);
  if (keypair.is_initiator && context.now - keypair.birth >= kLastMinute &&
      peer.timers.claim_last_minute()) {
    context.request(peer, wireguard::kWantHandshake);
  }
  peer.timers.any_authenticated_packet_received(context.now);
  if (group.with_data) {
    peer.timers.data_received(context.now);
  }
  count(peer.counters[context.worker].rx_packets, group.packets);
  count(peer.counters[context.worker].rx_bytes, group.bytes);
  count(context.counters.rx_packets, group.packets);
}

// Is the inside an IP packet that this peer may send? Fills `run`.
DropReason check_inside(Context& context, const SealedDatagram& datagram, Run& run) {
  run.head = datagram.data + sizeof(MessageData);
  run.head_bytes = ip_length(run.head, datagram.length - uint32_t{wireguard::kDataOverhead});
  if (run.head_bytes == 0 || !parse(run)) {
    return DropReason::inner_malformed;
  }
  run.from = datagram.keypair->peer;
  if (!context.tunnel->allows(*run.from, run.family, run.source())) {
    return DropReason::source_not_allowed;
  }
  if (!ecn_decapsulate(run, datagram.frame->tos)) {
    return DropReason::ecn_invalid;
  }
  return DropReason::none;
}

void open_all(Context& context) {
  for (size_t i = 0; i < context.datagram_count; ++i) {
    const SealedDatagram& datagram = context.datagrams[i];
    const auto* header = reinterpret_cast<const MessageData*>(datagram.data);
    context.open_items[i] = {&datagram.keypair->receiving, header->counter,
                             datagram.data + sizeof(MessageData),
                             datagram.length - uint32_t{sizeof(MessageData)}, false};
  }
  const std::span items(context.open_items, context.datagram_count);
  if (context.assist != nullptr && items.size() >= Assist::kLeast) {
    count(context.counters.assisted, context.assist->open(context.worker, items));
  } else {
    crypto::open_many(items);
  }
}

}  // namespace

void open(Context& context) {
  open_all(context);
  const Port* plain = context.plain;
  Joiner joiner(context.burst, plain != nullptr && plain->takes(Gso::tcp4),
                plain != nullptr && plain->takes(Gso::tcp6),
                plain != nullptr && plain->takes(Gso::udp));
  Group group;
  for (size_t i = 0; i < context.datagram_count; ++i) {
    const SealedDatagram& datagram = context.datagrams[i];
    Keypair& keypair = *datagram.keypair;
    if (group.keypair != &keypair) {
      finish_group(context, group);
      group = {&keypair, nullptr, 0, 0, false};
    }
    if (!context.open_items[i].ok) {
      context.discard(DropReason::bad_tag, keypair.peer);
      continue;
    }
    // Beyond this point the bytes are the peer's own.
    if (!keypair.replay.accept(context.open_items[i].counter)) {
      context.discard(DropReason::replayed_counter, keypair.peer);
      continue;
    }
    // Beyond this point no counter comes twice.
    group.last_frame = datagram.frame;
    ++group.packets;
    group.bytes += datagram.length;
    if (datagram.length == wireguard::kDataOverhead) {
      continue;  // a keepalive has done all it is for
    }
    group.with_data = true;
    Run run;
    const DropReason reason = check_inside(context, datagram, run);
    if (reason != DropReason::none) {
      context.discard(reason, keypair.peer);
      continue;
    }
    joiner.add(run);
  }
  finish_group(context, group);
  joiner.finish();
  count(context.counters.rx_runs, context.burst.count);
}

}  // namespace sallyport
