// Line: one worker's context with peers, sessions and ports that remember, and the far end played
// by hand. One tunnel to begin with; a test may have a second one and a policy.
//
// The session's two keys are known, so a test opens what was sealed and seals what is to be opened.
#pragma once

#include <map>

#include "dataplane/path/egress.h"
#include "dataplane/path/ingress.h"
#include "dataplane/path/open.h"
#include "dataplane/path/seal.h"
#include "dataplane/port.h"
#include "dataplane/wireguard/message.h"
#include "tests/dataplane/path/runs.h"
#include "tests/dataplane/policies.h"

namespace sallyport::test {

using Packets = std::vector<Bytes>;

// What tx() was given, gathered.
struct Sent {
  Bytes bytes;
  uint32_t segment_bytes = 0;
  Offload offload;
  Endpoint to;
  uint8_t tos = 0;

  std::vector<Bytes> datagrams() const {
    std::vector<Bytes> out;
    for (size_t at = 0; at < bytes.size(); at += segment_bytes) {
      const size_t end = std::min(at + segment_bytes, bytes.size());
      out.emplace_back(bytes.begin() + static_cast<ptrdiff_t>(at),
                       bytes.begin() + static_cast<ptrdiff_t>(end));
    }
    return out;
  }
};

class RecordingPort final : public Port {
 public:
  size_t rx(std::span<RxFrame>, BufferCache&) override { return 0; }
  void tx(std::span<TxFrame> frames) override {
    for (TxFrame& frame : frames) {
      Sent& out = sent.emplace_back();
      for (const Slice& slice : frame.slices) {
        out.bytes.insert(out.bytes.end(), slice.data, slice.data + slice.length);
      }
      EXPECT_EQ(out.bytes.size(), frame.length);
      out.segment_bytes = frame.segment_bytes;
      out.offload = frame.offload;
      out.to = frame.to == nullptr ? Endpoint{} : *frame.to;
      out.tos = frame.tos;
      frame.error = error;
      frame.source_refused = refuse_source;
    }
  }
  bool takes(Gso kind) const override { return kind == Gso::none || joined; }
  PortStatus status() const override { return {}; }

  std::vector<Sent> sent;
  int error = 0;
  bool refuse_source = false;
  bool joined = true;
};

inline constexpr Time kNow = 1000 * kSecond;

class Line : public testing::Test {
 protected:
  static constexpr unsigned kWorkers = 2;

  // Worker 0 of 2. Peer 1 has 10.0.0.2 and fd00::2, peer 2 has 10.0.0.3 and fd00::3.
  void SetUp() override { begin(64); }
  void begin(size_t buffers) {
    context.reset();
    pool = std::make_unique<BufferPool>(buffers);
    tunnel.handshaker = &handshaker;
    tunnel.requests_overflowed = &overflowed;
    TunnelView& view = snapshot.tunnels[0];
    view.tunnel = &tunnel;
    view.up = true;
    view.plain = {&plain, &plain};
    view.outer = {&outer, &outer};
    context = std::make_unique<Context>(0, *pool);
    context->workers = {&workers[0], &workers[1]};
    context->now = kNow;
    context->snapshot = &snapshot;
    context->enter(0);
    if (tunnel.peers.get(1) == nullptr) {
      add_peer(1);
      add_peer(2);
    }
  }

  void TearDown() override {
    Message message;
    for (Mailbox* mailbox : {&workers[0], &workers[1], &handshaker}) {
      while (mailbox->take(message)) {
        if (message.buffer != nullptr) {
          context->buffers.give(message.buffer);
        }
      }
    }
    expect_buffers_back();
    for (auto& [slot, peer] : peers) {
      tunnel_of(*peer).staging.clear(peer->staged);
      tunnel_of(*peer).retire(peer->keypairs.clear());
    }
  }

  // Whatever happened, no buffer is lost.
  void expect_buffers_back() {
    std::vector<Buffer*> taken;
    while (Buffer* buffer = context->buffers.take()) {
      taken.push_back(buffer);
    }
    EXPECT_EQ(taken.size(), pool->capacity());
    for (Buffer* buffer : taken) {
      context->buffers.give(buffer);
    }
  }

  // Of tunnel n it has 10.n.0.x and fd0n::x, where x is its slot and one. A slot is used once in all tunnels.
  wireguard::Peer& add_peer(uint32_t slot, TunnelNumber number = 0) {
    wireguard::PublicKey key{};
    key[0] = static_cast<uint8_t>(slot);
    auto peer = std::make_unique<wireguard::Peer>(key, slot, kWorkers, number);
    peer->endpoint.store(endpoint(static_cast<uint16_t>(slot)));
    Tunnel& its = tunnel_of(*peer);
    its.peers.set(slot, peer.get());
    const uint8_t host = static_cast<uint8_t>(slot + 1), place = static_cast<uint8_t>(number);
    const uint8_t v4[4] = {10, place, 0, host};
    const uint8_t v6[16] = {0xfd, place, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host};
    its.allowed_v4.insert(Lpm4::from_bytes(v4), 32, slot);
    its.allowed_v6.insert(Lpm6::from_bytes(v6), 128, slot);
    return *(peers[slot] = std::move(peer));
  }
  Tunnel& tunnel_of(const wireguard::Peer& peer) {
    return peer.tunnel == 0 ? tunnel : second_tunnel;
  }

  // Tunnel 1, with ports of its own and peers 11 and 12.
  void begin_second() {
    second_tunnel.handshaker = &handshaker;
    second_tunnel.requests_overflowed = &overflowed;
    TunnelView& view = snapshot.tunnels.emplace_back();
    view.tunnel = &second_tunnel;
    view.up = true;
    view.plain = {&second_plain, &second_plain};
    view.outer = {&second_outer, &second_outer};
    add_peer(11, 1);
    add_peer(12, 1);
  }

  // The name of a peer, for policies.
  uint32_t tag(uint32_t slot) {
    const uint32_t claimed = *tags.claim(peer(slot).tunnel, peer(slot).public_key);
    tags.bind(peer(slot));
    return claimed;
  }
  PolicyMaker maker() { return {tags, kWorkers}; }
  const Policy& put_in_force(PolicyMaker& made) {
    in_force = made.finish();
    snapshot.policy = in_force.get();
    return *in_force;
  }
  wireguard::Peer& peer(uint32_t slot) { return *peers.at(slot); }

  static Endpoint endpoint(uint16_t port) {
    Endpoint out;
    const uint8_t address[4] = {192, 0, 2, 1};
    out.remote = IpAddress::v4(address);
    out.port = port;
    return out;
  }

  // A session with a peer that began at `birth`. The local index names worker 0, the far end's is
  // 0x1000 * slot.
  wireguard::Keypair& session(uint32_t slot, Time birth = kNow, bool initiator = true) {
    auto* keypair = new wireguard::Keypair;
    std::memset(keypair->sending.bytes, static_cast<int>(slot), 32);
    std::memset(keypair->receiving.bytes, static_cast<int>(0x80 + slot), 32);
    keypair->peer = &peer(slot);
    keypair->birth = birth;
    keypair->local_index = next_index += 0x100;
    keypair->remote_index = 0x1000 * slot;
    keypair->is_initiator = initiator;
    Tunnel& its = tunnel_of(peer(slot));
    its.retire(peer(slot).keypairs.install(keypair));
    EXPECT_TRUE(its.indices.insert(keypair->local_index, IndexEntry(keypair).value()));
    return *keypair;
  }

  // -- From the host.

  RxFrame plain_frame(const Bytes& bytes, const Offload& offload = {}) {
    Buffer* buffer = context->buffers.take();
    EXPECT_NE(buffer, nullptr);
    RxFrame frame;
    frame.buffer = buffer;
    frame.data = buffer->data();
    frame.length = frame.segment_bytes = static_cast<uint32_t>(bytes.size());
    frame.offload = offload;
    std::copy(bytes.begin(), bytes.end(), frame.data);
    return frame;
  }
  static Offload offload_of(const Packet& words, uint16_t gso_size) {
    Offload offload;
    offload.gso = gso_of(words);
    offload.needs_checksum = true;
    offload.gso_size = gso_size;
    offload.checksum_start = static_cast<uint16_t>(words.ip_bytes());
    offload.checksum_offset = static_cast<uint16_t>(words.checksum_at() - words.ip_bytes());
    return offload;
  }
  void give_back(std::span<const RxFrame> frames) {
    for (const RxFrame& frame : frames) {
      context->buffers.give(frame.buffer);
    }
  }
  // All the way out.
  void from_host(std::vector<RxFrame> frames) {
    ingress_plain(*context, frames);
    advance(*context);
    context->end_burst();
    give_back(frames);
  }
  void from_host(const std::vector<Bytes>& packets) {
    std::vector<RxFrame> frames;
    for (const Bytes& packet : packets) {
      frames.push_back(plain_frame(packet));
    }
    from_host(std::move(frames));
  }

  // What went out, opened: each packet with its padding, in order. Checks what every train must
  // keep to.
  std::vector<Bytes> opened(const wireguard::Keypair& keypair) {
    std::vector<Bytes> packets;
    for (const Sent& train : keypair.peer->tunnel == 0 ? outer.sent : second_outer.sent) {
      std::vector<Bytes> datagrams = train.datagrams();
      EXPECT_LE(datagrams.size(), kTrainSegmentsMax);
      EXPECT_LE(train.bytes.size(), kTrainBytesMax);
      for (Bytes& datagram : datagrams) {
        const auto* header = reinterpret_cast<const wireguard::MessageData*>(datagram.data());
        if (header->receiver != keypair.remote_index) {
          continue;
        }
        EXPECT_EQ(wireguard::classify(datagram.data(), datagram.size()),
                  wireguard::MessageKind::data);
        crypto::OpenItem item{&keypair.sending, header->counter, datagram.data() + 16,
                              static_cast<uint32_t>(datagram.size() - 16), false};
        crypto::open_many({&item, 1});
        EXPECT_TRUE(item.ok);
        counters.push_back(header->counter);
        packets.emplace_back(datagram.begin() + 16, datagram.end() - 16);
      }
    }
    return packets;
  }
  std::vector<Bytes> arrived_at(const wireguard::Keypair& keypair) {
    return without_padding(opened(keypair));
  }
  // Cut to the length in their own headers; what is behind must be fewer than 16 zeros.
  static std::vector<Bytes> without_padding(std::vector<Bytes> packets) {
    for (Bytes& packet : packets) {
      const uint32_t length = ip_length(packet.data(), static_cast<uint32_t>(packet.size()));
      EXPECT_LT(packet.size() - length, 16u);
      EXPECT_TRUE(std::all_of(packet.begin() + length, packet.end(),
                              [](uint8_t byte) { return byte == 0; }));
      packet.resize(length);
    }
    return packets;
  }

  // -- From the network.

  static Bytes sealed(const wireguard::Keypair& keypair, uint64_t counter, const Bytes& inner) {
    Bytes datagram(16 + inner.size() + 16);
    auto* header = reinterpret_cast<wireguard::MessageData*>(datagram.data());
    header->type = 4;
    header->receiver = keypair.local_index;
    header->counter = counter;
    std::copy(inner.begin(), inner.end(), datagram.begin() + 16);
    crypto::SealItem item{&keypair.receiving,
                          counter,
                          nullptr,
                          0,
                          datagram.data() + 16,
                          static_cast<uint32_t>(inner.size()),
                          0,
                          datagram.data() + 16};
    crypto::seal_many({&item, 1});
    return datagram;
  }
  RxFrame outer_frame(const Bytes& bytes, uint32_t stride = 0, uint16_t port = 1, uint8_t tos = 0) {
    RxFrame frame = plain_frame(bytes);
    frame.segment_bytes = stride == 0 ? frame.length : stride;
    frame.from = endpoint(port);
    frame.tos = tos;
    return frame;
  }
  void from_network(const wireguard::Keypair& keypair, uint64_t counter, const Bytes& inner) {
    context->enter(keypair.peer->tunnel);
    from_network(std::vector{outer_frame(sealed(keypair, counter, inner), 0,
                                         static_cast<uint16_t>(keypair.peer->slot))});
    context->enter(0);
  }
  void from_network(std::vector<RxFrame> frames) {
    OuterCursor cursor;
    for (bool more = true; more;) {
      more = ingress_outer(*context, frames, cursor);
      open(*context);
      advance(*context);
      context->end_burst();
    }
    give_back(frames);
  }
  void from_network(const Bytes& datagram, uint16_t port = 1, uint8_t tos = 0) {
    from_network(std::vector{outer_frame(datagram, 0, port, tos)});
  }
  std::vector<Bytes> to_host() const {
    std::vector<Bytes> out;
    for (const Sent& frame : plain.sent) {
      out.push_back(frame.bytes);
    }
    return out;
  }

  uint64_t dropped(DropReason reason) const { return context->counters.drops.get(reason); }
  uint64_t dropped_in_all() const {
    uint64_t sum = 0;
    for (size_t i = 0; i < kDropReasons; ++i) {
      sum += dropped(static_cast<DropReason>(i));
    }
    return sum;
  }

  // The same packet between other addresses, checksums right.
  static Bytes between(const std::string& source, const std::string& destination, Packet words) {
    words.family = parse_address(source)->family;
    Bytes packet = build(words);
    const size_t at = words.family == Family::v4 ? 12 : 8,
                 bytes = words.family == Family::v4 ? 4 : 16;
    std::memcpy(packet.data() + at, parse_address(source)->bytes.data(), bytes);
    std::memcpy(packet.data() + at + bytes, parse_address(destination)->bytes.data(), bytes);
    if (words.family == Family::v4) {
      fix_ip_checksum(packet);
    }
    if (words.l4_bytes() > 0) {
      fix_l4_checksum(packet, words);
    }
    return packet;
  }
  static Bytes between(const std::string& source, const std::string& destination) {
    return between(source, destination, words(Family::v4, kProtocolUdp, 40));
  }

  // A packet from peer 1's host to ours, or with `to_peer` the other way.
  static Packet words(Family family = Family::v4, uint8_t protocol = kProtocolTcp,
                      size_t payload = 100, bool to_peer = true) {
    Packet out;
    out.family = family;
    out.protocol = protocol;
    out.source = to_peer ? 1 : 2;
    out.destination = to_peer ? 2 : 1;
    out.payload = Bytes(payload);
    for (size_t i = 0; i < payload; ++i) {
      out.payload[i] = static_cast<uint8_t>(i * 7 + payload);
    }
    return out;
  }

  static Snapshot with_one_tunnel() {
    Snapshot made;
    made.tunnels.resize(1);
    return made;
  }

  std::unique_ptr<BufferPool> pool;
  Tunnel tunnel{256}, second_tunnel{256, 1};
  Mailbox workers[kWorkers], handshaker;
  std::atomic<bool> overflowed{false};
  Snapshot snapshot = with_one_tunnel();
  RecordingPort plain, outer, second_plain, second_outer;
  PeerTags tags;
  Sets sets;
  std::unique_ptr<Policy> in_force;
  std::map<uint32_t, std::unique_ptr<wireguard::Peer>> peers;
  std::unique_ptr<Context> context;
  std::vector<uint64_t> counters;  // of what opened() opened
  uint32_t next_index = 0;
};

}  // namespace sallyport::test
