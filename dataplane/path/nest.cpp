#include "dataplane/path/nest.h"

#include <cerrno>
#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "dataplane/path/egress.h"
#include "dataplane/path/ingress.h"
#include "dataplane/path/open.h"
#include "dataplane/path/segment.h"

namespace sallyport {
namespace {

constexpr uint8_t kHops = 64;
constexpr uint32_t kHeadStride = 64;  // heads in a buffer, with room before each
constexpr size_t kFramesAtOnce = 64;

// The layer below, ready for a burst; null: there is none.
Context* descend(Context& context, TunnelNumber tunnel) {
  Context* deeper = context.deeper;
  if (deeper == nullptr) {
    return nullptr;
  }
  deeper->snapshot = context.snapshot;
  deeper->now = context.now;
  return deeper->enter(tunnel) ? deeper : nullptr;
}

void go_on(Context& context) {
  advance(context);
  context.end_burst();
}

// The tunnel within this one that listens where the run goes; kNoTunnel: none.
TunnelNumber inner_of(const Context& context, const Run& run) {
  if (run.from == nullptr || run.protocol != kProtocolUdp || run.fragment || run.discarded ||
      run.l4_offset + sizeof(UdpHeader) > run.head_bytes) {
    return kNoTunnel;
  }
  const IpAddress& own = context.here().address(run.family);
  const size_t bytes = run.family == Family::v4 ? 4 : 16;
  if (own.family != run.family || std::memcmp(own.bytes.data(), run.destination(), bytes) != 0) {
    return kNoTunnel;
  }
  const uint16_t port =
      reinterpret_cast<const UdpHeader*>(run.head + run.l4_offset)->destination_port;
  const auto& tunnels = context.snapshot->tunnels;
  for (size_t i = 0; i < tunnels.size(); ++i) {
    if (tunnels[i].via == context.number && tunnels[i].listen_port == port &&
        tunnels[i].tunnel != nullptr) {
      return static_cast<TunnelNumber>(i);
    }
  }
  return kNoTunnel;
}

// What a socket would have said of the datagrams of this run.
class Frames {
 public:
  Frames(Context& into, const Run& run) : into_(into) {
    like_.from.remote =
        run.family == Family::v4 ? IpAddress::v4(run.source()) : IpAddress::v6(run.source());
    like_.from.port = reinterpret_cast<const UdpHeader*>(run.head + run.l4_offset)->source_port;
    like_.tos = run.tos;
  }
  void add(uint8_t* datagram, uint32_t length) {
    if (count_ == kFramesAtOnce) {
      flush();
    }
    RxFrame& frame = frames_[count_++] = like_;
    frame.data = datagram;
    frame.length = frame.segment_bytes = length;
  }
  void flush() {
    receive(into_, std::span(frames_, count_));
    count_ = 0;
  }

 private:
  Context& into_;
  RxFrame like_;
  RxFrame frames_[kFramesAtOnce];
  size_t count_ = 0;
};

void unwrap_run(Context& context, Run& run, TunnelNumber number) {
  Context* deeper = descend(context, number);
  if (deeper == nullptr || !deeper->here().up) {
    context.discard(run, deeper == nullptr ? DropReason::nested_too_deep : DropReason::tunnel_down);
    return;
  }
  Frames frames(*deeper, run);
  if (run.first_piece == kNoPiece) {
    // A datagram ends where UDP says, as for a socket.
    const uint32_t said = reinterpret_cast<const UdpHeader*>(run.head + run.l4_offset)->length;
    if (said < sizeof(UdpHeader) || said > run.head_bytes - run.l4_offset) {
      context.discard(run, DropReason::outer_malformed);
      return;
    }
    frames.add(run.head + run.l4_offset + sizeof(UdpHeader), said - uint32_t{sizeof(UdpHeader)});
  } else {
    SegmentWalk walk(context.burst, run);
    while (walk.next()) {
      frames.add(walk.payload(), walk.payload_bytes());
    }
  }
  frames.flush();
  run.discarded = true;  // it has arrived
}

}  // namespace

uint32_t write_outer_head(uint8_t* out, const IpAddress& source, uint16_t source_port,
                          const Endpoint& to, uint8_t tos, uint32_t payload) {
  const uint32_t udp_bytes = payload + uint32_t{sizeof(UdpHeader)};
  uint32_t ip_bytes;
  if (source.family == Family::v4) {
    ip_bytes = sizeof(Ipv4Header);
    auto* ip = reinterpret_cast<Ipv4Header*>(out);
    std::memset(out, 0, ip_bytes);
    out[0] = 0x45;
    out[1] = tos;
    ip->total_length = static_cast<uint16_t>(ip_bytes + udp_bytes);
    ip->fragment = kIpv4DontFragment;
    out[8] = kHops;
    out[9] = kProtocolUdp;
    std::memcpy(out + 12, source.bytes.data(), 4);
    std::memcpy(out + 16, to.remote.bytes.data(), 4);
    checksum_ipv4(out, ip_bytes);
  } else {
    ip_bytes = sizeof(Ipv6Header);
    std::memset(out, 0, ip_bytes);
    out[0] = static_cast<uint8_t>(0x60 | tos >> 4);
    out[1] = static_cast<uint8_t>(tos << 4);
    reinterpret_cast<Ipv6Header*>(out)->payload_length = static_cast<uint16_t>(udp_bytes);
    out[6] = kProtocolUdp;
    out[7] = kHops;
    std::memcpy(out + 8, source.bytes.data(), 16);
    std::memcpy(out + 24, to.remote.bytes.data(), 16);
  }
  auto* udp = reinterpret_cast<UdpHeader*>(out + ip_bytes);
  std::memset(out + ip_bytes, 0, sizeof(UdpHeader));
  udp->source_port = source_port;
  udp->destination_port = to.port;
  udp->length = static_cast<uint16_t>(udp_bytes);
  return ip_bytes + uint32_t{sizeof(UdpHeader)};
}

void receive(Context& context, std::span<const RxFrame> frames) {
  OuterCursor cursor;
  bool more = true;
  while (more) {
    more = ingress_outer(context, frames, cursor);
    open(context);
    go_on(context);
  }
}

void send_through(Context& context, std::span<TxFrame> frames) {
  const TunnelView& view = context.view_of(*context.trains[0].peer);
  Context* deeper = descend(context, view.via);
  Buffer* heads = nullptr;
  uint32_t used = 0;
  for (size_t i = 0; i < frames.size(); ++i) {
    const Train& train = context.trains[i];
    frames[i].error = 0;
    const IpAddress source =
        deeper == nullptr ? IpAddress{} : deeper->here().address(train.to.remote.family);
    if (deeper == nullptr || !deeper->here().up || !source.is_set()) {
      frames[i].error = deeper == nullptr ? ELOOP : ENETDOWN;
      continue;
    }
    if (deeper->burst.full()) {
      go_on(*deeper);
      heads = nullptr;
    }
    if (heads == nullptr || used + kHeadStride > Buffer::kDataBytes) {
      heads = deeper->hold_buffer();
      used = 0;
    }
    if (heads == nullptr) {
      frames[i].error = ENOBUFS;
      continue;
    }
    Run& run = deeper->burst.add();
    run.head = heads->data() + used;
    used += kHeadStride;
    run.head_bytes = run.bytes =
        write_outer_head(run.head, source, view.listen_port, train.to, train.tos, train.length);
    run.segments = train.datagrams;
    run.offload.gso = Gso::udp;
    run.offload.gso_size = static_cast<uint16_t>(train.stride);
    run.offload.header_bytes = static_cast<uint16_t>(run.head_bytes);
    run.family = source.family;
    run.protocol = kProtocolUdp;
    run.tos = train.tos;
    run.l4_offset = static_cast<uint16_t>(run.head_bytes - sizeof(UdpHeader));
    run.sealed_for = train.peer;
    deeper->burst.add_piece(run, train.data, train.length);
  }
  if (deeper != nullptr) {
    go_on(*deeper);
  }
}

void unwrap(Context& context) {
  if (!context.snapshot->nested) {
    return;
  }
  for (size_t i = 0; i < context.burst.count; ++i) {
    Run& run = context.burst.runs[i];
    if (const TunnelNumber number = inner_of(context, run); number != kNoTunnel) {
      unwrap_run(context, run, number);
    }
  }
}

}  // namespace sallyport
