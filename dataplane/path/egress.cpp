#include "dataplane/path/egress.h"

#include "dataplane/path/fit.h"
#include "dataplane/path/nest.h"
#include "dataplane/path/policy.h"
#include "dataplane/path/prefixes.h"
#include "dataplane/path/reverse_path.h"
#include "dataplane/path/route.h"
#include "dataplane/path/seal.h"
#include "dataplane/path/segment.h"
#include "dataplane/path/tap.h"
#include "dataplane/path/track.h"
#include "dataplane/port.h"

namespace sallyport {
namespace {

void settle(Context& context, const Train& train, const TxFrame& frame) {
  wireguard::Peer& peer = *train.peer;
  if (frame.path_mtu != 0) {
    peer.path_mtu.learn(frame.path_mtu, context.now);
  }
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

// Frames on their way to the host, gathered for as long as they leave by one port.
class PlainFrames {
 public:
  explicit PlainFrames(Context& context) : context_(context), port_(context.plain) {}

  void leave_by(Port* port) {
    if (port != port_) {
      send();
      port_ = port;
    }
  }

  void add(const Run& run) {
    if (run.offload.gso != Gso::none && port_ != nullptr && !port_->takes(run.offload.gso)) {
      cut(run);
      return;
    }
    TxFrame& frame = add_frame(run, run.segments);
    const size_t first = slice_count_;
    slices_[slice_count_++] = {run.head, run.head_bytes};
    for (uint32_t p = run.first_piece; p != kNoPiece; p = context_.burst.pieces[p].next) {
      slices_[slice_count_++] = {context_.burst.pieces[p].data, context_.burst.pieces[p].length};
    }
    frame.slices = std::span(slices_ + first, slice_count_ - first);
    frame.length = run.bytes;
    frame.offload = run.offload;
  }

  void send() {
    if (port_ != nullptr) {
      port_->tx(std::span(frames_, frame_count_));
    }
    for (size_t i = 0; i < frame_count_; ++i) {
      if (frames_[i].error != 0) {
        context_.discard(DropReason::plain_send_failed, peers_[i], packets_[i]);
      }
    }
    frame_count_ = slice_count_ = 0;
  }

 private:
  static constexpr size_t kFramesMax = 64;
  static constexpr size_t kSlicesMax = Burst::kPiecesMax + 2 * kFramesMax;

  TxFrame& add_frame(const Run& run, uint32_t packets) {
    if (frame_count_ == kFramesMax) {
      send();
    }
    TxFrame& frame = frames_[frame_count_] = TxFrame{};
    frame.error = port_ == nullptr ? ENETDOWN : 0;
    peers_[frame_count_] = run.from;
    packets_[frame_count_++] = packets;
    return frame;
  }

  // Runs are joined, or left whole, for the port they would have left by without a policy; another one may take less.
  void cut(const Run& run) {
    SegmentWalk walk(context_.burst, run);
    uint8_t* room = nullptr;
    size_t room_bytes = 0;
    for (uint32_t left = run.segments; walk.next(); --left) {
      if (room_bytes < run.head_bytes) {
        Buffer* buffer = context_.hold_buffer();
        if (buffer == nullptr) {
          context_.discard(DropReason::pool_dry, run.from, left);
          return;
        }
        room = buffer->data();
        room_bytes = Buffer::kDataBytes;
      }
      walk.write_head(room);
      TxFrame& frame = add_frame(run, 1);
      const size_t first = slice_count_;
      slices_[slice_count_++] = {room, run.head_bytes};
      slices_[slice_count_++] = {walk.payload(), walk.payload_bytes()};
      frame.slices = std::span(slices_ + first, 2);
      frame.length = run.head_bytes + walk.payload_bytes();
      room += run.head_bytes;
      room_bytes -= run.head_bytes;
    }
  }

  Context& context_;
  Port* port_;
  TxFrame frames_[kFramesMax];
  Slice slices_[kSlicesMax];
  wireguard::Peer* peers_[kFramesMax];
  uint32_t packets_[kFramesMax];
  size_t frame_count_ = 0, slice_count_ = 0;
};

}  // namespace

void egress_outer(Context& context) {
  if (context.train_count == 0) {
    return;
  }
  crypto::seal_many(std::span(context.seal_items, context.seal_count));
  // Beyond this point nothing in the trains is readable.
  Port* outer = context.view_of(*context.trains[0].peer).outer_port(context.worker);
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
    frames[i].error = outer == nullptr ? ENETDOWN : 0;  // send_through says anew
  }
  if (context.view_of(*context.trains[0].peer).via != kNoTunnel) {
    send_through(context, std::span(frames, context.train_count));
  } else if (outer != nullptr) {
    outer->tx(std::span(frames, context.train_count));
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
  PlainFrames out(context);
  for (size_t i = 0; i < context.burst.count; ++i) {
    const Run& run = context.burst.runs[i];
    if (run.to != nullptr || run.discarded) {
      continue;
    }
    out.leave_by(run.port == kPortItCameBy
                     ? context.plain
                     : context.snapshot->tunnels[run.port].plain_port(context.worker));
    out.add(run);
  }
  out.send();
}

void decide(Context& context) {
  translate_prefixes_in(context);
  track(context);
  // Beyond this point a known flow's run is translated and knows its way, and a new one's destination is the real one.

  policy(context);
  // Beyond this point every run has an exit, or is to go as WireGuard alone would send it.

  route(context);
  // Beyond this point every run has a destination: a peer, the host, or it is discarded and counted.

  check_reverse_path(context);
  filter(context);
  nat(context);
  translate_prefixes_out(context);
  // Beyond this point what may not pass is gone, flows are made, and packets have the addresses they leave with.

  fit(context);
  // Beyond this point every packet fits the way it leaves by.
}

void advance(Context& context) {
  unwrap(context);
  // Beyond this point nothing is for a tunnel within the one it came by.

  pick(context);
  decide(context);
  seal(context);
  // Beyond this point what was for a peer has left, or waits for its session.

  egress_plain(context);
  deliver(context);
  // Beyond this point the burst is spent: its buffers may go.
}

}  // namespace sallyport
