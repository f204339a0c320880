#include "dataplane/path/seal.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "dataplane/net/headers.h"
#include "dataplane/net/parse.h"
#include "dataplane/path/egress.h"
#include "dataplane/path/fit.h"
#include "dataplane/path/route.h"
#include "dataplane/path/segment.h"
#include "dataplane/wireguard/message.h"

namespace sallyport {
namespace {

using wireguard::kDataOverhead;
using wireguard::Keypair;
using wireguard::MessageData;
using wireguard::Peer;

// What a staged run looks like in its record: this, then its bytes.
struct StagedRun {
  Offload offload;
  uint32_t head_bytes;
  uint32_t segments;
};

constexpr size_t kStagedOffset = (sizeof(StagedRun) + 15) & ~size_t{15};

// Whitepaper section 5.4.6: to a multiple of 16, but never beyond the MTU.
uint32_t padding(uint32_t length, uint32_t mtu) {
  if (mtu == 0) {
    return -length % uint32_t{wireguard::kPaddingMultiple};
  }
  const uint32_t last_unit = length > mtu ? length % mtu : length;
  const uint32_t padded = (last_unit + uint32_t{wireguard::kPaddingMultiple} - 1) &
                          ~(uint32_t{wireguard::kPaddingMultiple} - 1);
  return std::min(padded, mtu) - last_unit;
}

void stage(Context& context, const Run& run) {
  Peer& peer = *run.to;
  StagedRun meta{run.offload, run.head_bytes, run.segments};
  uint8_t front[kStagedOffset] = {};
  std::memcpy(front, &meta, sizeof(meta));
  std::span<const uint8_t> parts[2 + Burst::kPiecesMax] = {front, {run.head, run.head_bytes}};
  size_t count = 2;
  for (uint32_t i = run.first_piece; i != kNoPiece; i = context.burst.pieces[i].next) {
    parts[count++] = {context.burst.pieces[i].data, context.burst.pieces[i].length};
  }
  const size_t lost = context.view_of(peer).tunnel->staging.push(
      peer.staged, std::span(parts, count), wireguard::kStagedPacketsMax,
      wireguard::kStagedBytesMax);
  if (lost > 0) {
    context.discard(DropReason::staged_overflow, &peer, static_cast<uint32_t>(lost));
  }
  context.request(peer, wireguard::kWantHandshake);
}

// Room for one more datagram of this length to this peer, behind the ones before it where that is possible.
Train* train_for(Context& context, Peer& peer, const Endpoint& to, uint8_t tos, uint32_t length,
                 uint32_t run_bytes) {
  Train* last = context.train_count == 0 ? nullptr : &context.trains[context.train_count - 1];
  if (last != nullptr && last->peer == &peer && last->tos == tos && !last->closed &&
      length <= last->stride && last->datagrams < kTrainSegmentsMax &&
      last->length + length <= kTrainBytesMax &&
      last->length + length <= static_cast<size_t>(last->room_end - last->data)) {
    return last;
  }
  if (context.train_count == Context::kTrainsMax) {
    egress_outer(context);
    last = nullptr;
  }
  // The rest of the last buffer serves if the whole run fits, so that small packets do not take a buffer each.
  Buffer* buffer = nullptr;
  uint8_t* data = nullptr;
  if (last != nullptr && last->room_end - (last->data + last->length) >= run_bytes) {
    data = last->data + last->length;
  } else {
    buffer = context.buffers.take();
    if (buffer == nullptr) {
      return nullptr;
    }
    data = buffer->data();
  }
  Train& train = context.trains[context.train_count++];
  train = {.buffer = buffer,
           .data = data,
           .room_end = buffer != nullptr ? data + Buffer::kDataBytes : last->room_end,
           .length = 0,
           .stride = length,
           .datagrams = 0,
           .with_data = 0,
           .closed = false,
           .tos = tos,
           .peer = &peer,
           .to = to};
  return &train;
}

// Packets of this run will not leave. Counted against the peer they were for.
void lose(Context& context, Run& run, DropReason reason, uint32_t packets) {
  run.discarded = true;
  context.discard(reason, run.to, packets);
  if (Trace* trace = context.trace_of(run); trace != nullptr) {
    trace->add(TraceStep::What::drop, 0, static_cast<uint32_t>(reason));
  }
}

// Runs of one peer on their way.
struct Sealing {
  Keypair& keypair;
  Peer& peer;
  const Endpoint& to;
  uint64_t counter;
  uint32_t mtu;
  // Of the run at hand.
  Run* run = nullptr;
  uint8_t tos = 0;
  uint32_t bytes_ahead = 0;  // an upper bound for what is still to be sealed of it
};

// Lays out one datagram and puts its sealing on the list. `walk` is null for a run that is one packet.
bool add_datagram(Context& context, Sealing& sealing, const SegmentWalk* walk, uint8_t* body,
                  uint32_t body_bytes) {
  const uint32_t head_bytes = walk == nullptr ? 0 : walk->head_bytes();
  const uint32_t pad = padding(head_bytes + body_bytes, sealing.mtu);
  const uint32_t length = head_bytes + body_bytes + pad + uint32_t{kDataOverhead};
  if (length > kTrainBytesMax) {
    lose(context, *sealing.run, DropReason::too_big_for_train, 1);
    return true;
  }
  if (context.seal_count == Context::kSealItemsMax) {
    egress_outer(context);
  }
  Train* train =
      train_for(context, sealing.peer, sealing.to, sealing.tos, length, sealing.bytes_ahead);
  if (train == nullptr) {
    return false;
  }
  uint8_t* datagram = train->data + train->length;
  auto* header = reinterpret_cast<MessageData*>(datagram);
  header->type = 4;
  header->receiver = sealing.keypair.remote_index;
  header->counter = sealing.counter++;
  uint8_t* out = datagram + sizeof(MessageData);
  if (walk != nullptr) {
    walk->write_head(out);
  }
  context.seal_items[context.seal_count++] = {
      &sealing.keypair.sending, header->counter, out, head_bytes, body, body_bytes, pad, out};
  train->closed = length < train->stride;
  train->length += length;
  ++train->datagrams;
  train->with_data += head_bytes + body_bytes > 0 ? 1 : 0;
  return true;
}

void seal_segments(Context& context, Sealing& sealing, Run& run) {
  if (run.first_piece == kNoPiece) {
    if (run.offload.needs_checksum) {
      complete_checksum(run);
    }
    if (!add_datagram(context, sealing, nullptr, run.head, run.head_bytes)) {
      lose(context, run, DropReason::pool_dry, 1);
    }
    return;
  }
  SegmentWalk walk(context.burst, run);
  uint32_t left = run.segments;
  while (walk.next()) {
    if (!add_datagram(context, sealing, &walk, walk.payload(), walk.payload_bytes())) {
      lose(context, run, DropReason::pool_dry, left);
      return;
    }
    --left;
  }
}

// Whether this is a data message of the very session it is to be sealed with: the host's routes lead the
// outer datagrams back into the tunnel. Sealed again it would only come back larger, for ever. Nobody
// else sends these eight bytes over UDP, since the index is the peer's random choice.
bool carries_itself(const Context& context, const Run& run, const Keypair& keypair) {
  if (run.protocol != kProtocolUdp) {
    return false;
  }
  const uint32_t payload = run.l4_offset + uint32_t{sizeof(UdpHeader)};
  const bool in_head = run.first_piece == kNoPiece;
  const Piece* piece = in_head ? nullptr : &context.burst.pieces[run.first_piece];
  const uint32_t available =
      in_head ? run.head_bytes - std::min(payload, run.head_bytes) : piece->length;
  if (available < sizeof(MessageData)) {
    return false;
  }
  const auto* message =
      reinterpret_cast<const MessageData*>(in_head ? run.head + payload : piece->data);
  return message->type == 4 && message->receiver == keypair.remote_index;
}

// Without a session a packet waits for one; an empty one only asks for it.
void wait_for_session(Context& context, const Run& run) {
  if (run.head_bytes > 0) {
    if (Trace* trace = context.trace_of(run); trace != nullptr) {
      trace->add(TraceStep::What::staged);
    }
    stage(context, run);
  } else {
    context.request(*run.to, wireguard::kWantHandshake);
  }
}

void tell_no_endpoint(Context& context, Run& run) {
  if (run.head_bytes > 0) {
    tell(context, run, IcmpError::unreachable);
  }
  context.discard(run, DropReason::no_endpoint);
}

// Takes the counters of all these runs with one addition; nothing when the key has no more.
std::optional<uint64_t> take_counters(Context& context, Keypair& keypair, uint32_t segments) {
  const uint64_t counter = keypair.sending_counter.fetch_add(segments, std::memory_order_relaxed);
  if (counter >= wireguard::kRejectAfterMessages - segments) {  // the sum could wrap around
    keypair.dead.store(true, std::memory_order_relaxed);
    context.request(*keypair.peer, wireguard::kWantHandshake);
    return std::nullopt;
  }
  if (counter >= wireguard::kRekeyAfterMessages ||
      (keypair.is_initiator && context.now - keypair.birth >= wireguard::kRekeyAfterTime)) {
    context.request(*keypair.peer, wireguard::kWantHandshake);
  }
  return counter;
}

// Runs of one peer, one behind the other: what they have in common is looked at once.
void seal_runs(Context& context, std::span<Run> runs) {
  Peer& peer = *runs.front().to;
  const Endpoint to = peer.endpoint.load();
  if (!to.is_set()) {
    for (Run& run : runs) {
      tell_no_endpoint(context, run);
    }
    return;
  }
  Keypair* keypair = peer.keypairs.current();
  if (keypair == nullptr || !keypair->usable(context.now)) {
    for (const Run& run : runs) {
      wait_for_session(context, run);
    }
    return;
  }
  uint32_t segments = 0;
  for (const Run& run : runs) {
    segments += run.segments;
  }
  const std::optional<uint64_t> counter = take_counters(context, *keypair, segments);
  if (!counter.has_value()) {
    for (Run& run : runs) {
      lose(context, run, DropReason::counter_exhausted, run.segments);
    }
    return;
  }
  // Beyond this point there is a session, and a counter for each datagram.
  Sealing sealing{*keypair, peer, to, *counter, mtu_of(context, peer)};
  for (Run& run : runs) {
    if (carries_itself(context, run, *keypair)) {
      context.discard(run, DropReason::routing_loop);
      continue;
    }
    sealing.run = &run;
    sealing.tos = run.head_bytes > 0 ? ecn_encapsulate(run.tos) : uint8_t{0};
    sealing.bytes_ahead =
        run.bytes + run.segments * (run.head_bytes + uint32_t{kDataOverhead} + 15);
    seal_segments(context, sealing, run);
    if (Trace* trace = context.trace_of(run); trace != nullptr && !run.discarded) {
      trace->add(
          TraceStep::What::sealed, 0, run.segments,
          run.bytes + (run.segments - 1) * run.head_bytes + run.segments * uint32_t{kDataOverhead});
    }
    count(context.counters.tx_runs, 1);
  }
}

}  // namespace

void seal(Context& context) {
  // Not a span of what there is now: an answer to a peer may be added behind it.
  Run* const runs = context.burst.runs;
  for (size_t first = 0, end; first < context.burst.count; first = end) {
    end = first + 1;
    if (runs[first].to == nullptr || runs[first].discarded) {
      continue;
    }
    while (end < context.burst.count && runs[end].to == runs[first].to && !runs[end].discarded) {
      ++end;
    }
    // Trains of two tunnels have two sockets to leave by.
    if (context.train_count > 0 && context.trains[0].peer->tunnel != runs[first].to->tunnel) {
      egress_outer(context);
    }
    seal_runs(context, std::span(runs + first, end - first));
  }
  egress_outer(context);
}

void add_keepalive(Context& context, Peer& peer) {
  Run& run = context.burst.add();
  static uint8_t nothing = 0;  // an address for zero bytes
  run.head = &nothing;
  run.to = &peer;
}

bool unstage(Context& context, Peer& peer) {
  while (!context.burst.full()) {
    RecordPool& staging = context.view_of(peer).tunnel->staging;
    if (staging.empty(peer.staged)) {
      return false;
    }
    Buffer* buffer = context.hold_buffer();
    if (buffer == nullptr) {
      return context.burst.count > 0;  // dry: what is in the burst frees some
    }
    const size_t size = staging.pop(peer.staged, {buffer->data(), Buffer::kDataBytes});
    if (size <= kStagedOffset) {
      continue;  // another worker was quicker
    }
    StagedRun meta;
    std::memcpy(&meta, buffer->data(), sizeof(meta));
    Run& run = context.burst.add();
    run.head = buffer->data() + kStagedOffset;
    run.head_bytes = static_cast<uint32_t>(size - kStagedOffset);
    run.offload = meta.offload;
    run.to = &peer;
    parse(run);  // it was parsed before it was staged
    run.head_bytes = run.bytes = meta.head_bytes;
    run.segments = meta.segments;
    if (size > kStagedOffset + meta.head_bytes) {
      context.burst.add_piece(run, run.head + meta.head_bytes,
                              static_cast<uint32_t>(size - kStagedOffset - meta.head_bytes));
    }
  }
  return true;
}

}  // namespace sallyport
