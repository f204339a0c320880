#include "dataplane/path/egress.h"

#include "dataplane/path/route.h"
#include "dataplane/path/seal.h"
#include "dataplane/port.h"

namespace sallyport {
namespace {

constexpr size_t kPlainFramesMax = 64;
constexpr size_t kSlicesMax = Burst::kPiecesMax + kPlainFramesMax;

void settle(Context& context, const Train& train, const TxFrame& frame) {
  wireguard::Peer& peer = *train.peer;
  if (frame.error != 0) {
    context.discard(DropReason::outer_send_failed, &peer, train.datagrams);
  }
  if (frame.source_refused) {
    Endpoint endpoint = peer.endpoint.load();
    if (endpoint == train.to) {
      endpoint.local = IpAddress{};
      endpoint.interface = 0;
      peer.endpoint.store(endpoint);
    }
  }
  // Counted and timed even when the kernel refused it, as the module does: to the protocol it is a packet lost on the way.
  peer.timers.any_authenticated_packet_sent(context.now);
  if (train.with_data > 0) {
    peer.timers.data_sent(context.now);
  }
  count(peer.counters[context.worker].tx_packets, train.datagrams);
  count(peer.counters[context.worker].tx_bytes, train.length);
  count(context.counters.tx_packets, train.datagrams);
}

}  // namespace

void egress_outer(Context& context) {
  if (context.train_count == 0) {
    return;
  }
  crypto::seal_many(std::span(context.seal_items, context.seal_count));
  // Beyond this point nothing in the trains is readable.
  TxFrame frames[Context::kTrainsMax];
  Slice slices[Context::kTrainsMax];
  for (size_t i = 0; i < context.train_count; ++i) {
    const Train& train = context.trains[i];
    slices[i] = {train.data, train.length};
    frames[i].slices = std::span(&slices[i], 1);
    frames[i].length = train.length;
    frames[i].segment_bytes = train.stride;
    frames[i].to = &train.to;
    frames[i].tos = train.tos;
    frames[i].error = context.outer == nullptr ? ENETDOWN : 0;
  }
  if (context.outer != nullptr) {
    context.outer->tx(std::span(frames, context.train_count));
  }
  for (size_t i = 0; i < context.train_count; ++i) {
    settle(context, context.trains[i], frames[i]);
  }
  for (size_t i = 0; i < context.train_count; ++i) {
    if (context.trains[i].buffer != nullptr) {
      context.buffers.give(context.trains[i].buffer);
    }
  }
  context.train_count = 0;
  context.seal_count = 0;
}

void egress_plain(Context& context) {
  TxFrame frames[kPlainFramesMax];
  Slice slices[kSlicesMax];
  wireguard::Peer* peers[kPlainFramesMax];
  uint32_t packets[kPlainFramesMax];
  size_t frame_count = 0, slice_count = 0;

  const auto send = [&] {
    if (context.plain != nullptr) {
      context.plain->tx(std::span(frames, frame_count));
    }
    for (size_t i = 0; i < frame_count; ++i) {
      if (frames[i].error != 0) {
        context.discard(DropReason::plain_send_failed, peers[i], packets[i]);
      }
    }
    frame_count = slice_count = 0;
  };

  for (size_t i = 0; i < context.burst.count; ++i) {
    const Run& run = context.burst.runs[i];
    if (run.to != nullptr || run.discarded) {
      continue;
    }
    if (frame_count == kPlainFramesMax) {
      send();
    }
    TxFrame& frame = frames[frame_count] = TxFrame{};
    const size_t first = slice_count;
    slices[slice_count++] = {run.head, run.head_bytes};
    for (uint32_t p = run.first_piece; p != kNoPiece; p = context.burst.pieces[p].next) {
      slices[slice_count++] = {context.burst.pieces[p].data, context.burst.pieces[p].length};
    }
    frame.slices = std::span(slices + first, slice_count - first);
    frame.length = run.bytes;
    frame.offload = run.offload;
    frame.error = context.plain == nullptr ? ENETDOWN : 0;
    peers[frame_count] = run.from;
    packets[frame_count] = run.segments;
    ++frame_count;
  }
  send();
}

void advance(Context& context) {
  route(context);
  // Beyond this point every run has a destination: a peer, the host, or it is discarded and counted.

  seal(context);
  // Beyond this point what was for a peer has left, or waits for its session.

  egress_plain(context);
  // Beyond this point the burst is spent: its buffers may go.
}

}  // namespace sallyport
