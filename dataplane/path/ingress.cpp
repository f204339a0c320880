#include "dataplane/path/ingress.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "dataplane/net/headers.h"
#include "dataplane/net/parse.h"
#include "dataplane/wireguard/message.h"

namespace sallyport {
namespace {

using wireguard::MessageKind;

static_assert(sizeof(RxFrame) + alignof(RxFrame) + 256 <= Buffer::kHeadroom,
              "a boxed frame leaves the AEAD its margin");

// Splits a super-packet into the headers that each segment repeats and the payload. False: the offload does not fit
// what the packet is.
bool split_headers(Burst& burst, Run& run) {
  const Gso gso = run.offload.gso;
  uint32_t header_bytes = run.l4_offset;
  if (gso == Gso::udp) {
    header_bytes += sizeof(UdpHeader);
    if (run.protocol != kProtocolUdp) {
      return false;
    }
  } else {
    const Family family = gso == Gso::tcp4 ? Family::v4 : Family::v6;
    if (run.protocol != kProtocolTcp || run.family != family ||
        run.head_bytes < run.l4_offset + sizeof(TcpHeader)) {
      return false;
    }
    const auto* tcp = reinterpret_cast<const TcpHeader*>(run.head + run.l4_offset);
    header_bytes += std::max<uint32_t>(tcp->header_bytes(), sizeof(TcpHeader));
  }
  if (header_bytes >= run.head_bytes || header_bytes > crypto::kHeadMax ||
      run.offload.gso_size == 0) {
    return false;
  }
  const uint32_t payload = run.head_bytes - header_bytes;
  run.segments = (payload + run.offload.gso_size - 1) / run.offload.gso_size;
  run.head_bytes = run.bytes = header_bytes;
  run.offload.header_bytes =
      static_cast<uint16_t>(header_bytes);  // should it leave by a plain port
  burst.add_piece(run, run.head + header_bytes, payload);
  return true;
}

void to_handshaker(Context& context, const RxFrame& frame, uint32_t offset, uint32_t length) {
  if (!post_datagrams(context, *context.tunnel->handshaker, frame, offset, length)) {
    context.discard(DropReason::handshake_in_data_queue);
  }
}

// One datagram of a train: ours, another worker's, the handshaker's, or nobody's.
void sort_datagram(Context& context, const RxFrame& frame, uint32_t offset, uint32_t length) {
  uint8_t* bytes = frame.data + offset;
  const MessageKind kind = wireguard::classify(bytes, length);
  if (kind == MessageKind::invalid) {
    context.discard(DropReason::outer_malformed);
    return;
  }
  if (kind != MessageKind::data) {
    to_handshaker(context, frame, offset, length);
    return;
  }
  const uint32_t receiver = reinterpret_cast<const wireguard::MessageData*>(bytes)->receiver;
  const size_t owner = (receiver & 0xff) % context.workers.size();
  if (owner != context.worker) {
    count(context.counters.handed_over, 1);
    if (!post_datagrams(context, *context.workers[owner], frame, offset, length)) {
      context.discard(DropReason::mailbox_full);
    }
    return;
  }
  wireguard::Keypair* keypair = IndexEntry(context.tunnel->indices.lookup(receiver)).keypair();
  if (keypair == nullptr) {
    context.discard(DropReason::unknown_index);
    return;
  }
  if (!keypair->usable(context.now)) {
    context.discard(DropReason::expired_key, keypair->peer);
    return;
  }
  context.datagrams[context.datagram_count++] = {bytes, length, keypair, &frame};
}

}  // namespace

void ingress_plain(Context& context, std::span<const RxFrame> frames) {
  for (const RxFrame& frame : frames) {
    Run& run = context.burst.add();
    run.head = frame.data;
    run.head_bytes = frame.length;
    run.offload = frame.offload;
    const bool is_ip = parse(run);
    if (is_ip && run.offload.gso == Gso::none) {
      run.head_bytes = run.bytes =
          ip_length(run.head, run.head_bytes);  // what is behind it is link padding
    }
    if (!is_ip || (run.offload.gso != Gso::none && !split_headers(context.burst, run))) {
      context.discard(DropReason::plain_malformed);
      --context.burst.count;
    }
  }
}

bool ingress_outer(Context& context, std::span<const RxFrame> frames, OuterCursor& cursor) {
  context.datagram_count = 0;
  while (cursor.frame < frames.size()) {
    const RxFrame& frame = frames[cursor.frame];
    const uint32_t stride = std::max<uint32_t>(frame.segment_bytes, 1);
    while (cursor.offset < frame.length) {
      if (context.datagram_count == Context::kDatagramsMax) {
        return true;
      }
      const uint32_t length = std::min(stride, frame.length - cursor.offset);
      sort_datagram(context, frame, cursor.offset, length);
      cursor.offset += length;
    }
    ++cursor.frame;
    cursor.offset = 0;
  }
  return false;
}

RxFrame* boxed_frame(Buffer* buffer) {
  const auto address = reinterpret_cast<uintptr_t>(buffer->data() - Buffer::kHeadroom);
  return reinterpret_cast<RxFrame*>((address + alignof(RxFrame) - 1) & ~(alignof(RxFrame) - 1));
}

bool post_datagrams(Context& context, Mailbox& mailbox, const RxFrame& frame, uint32_t offset,
                    uint32_t length) {
  Buffer* buffer = context.buffers.take();
  if (buffer == nullptr) {
    return false;
  }
  std::memcpy(buffer->data(), frame.data + offset, length);
  RxFrame* boxed = new (boxed_frame(buffer)) RxFrame(frame);
  boxed->buffer = buffer;
  boxed->data = buffer->data();
  boxed->length = boxed->segment_bytes = length;
  if (!mailbox.post({Message::Kind::datagrams, context.number, 0, buffer})) {
    context.buffers.give(buffer);
    return false;
  }
  return true;
}

}  // namespace sallyport
