#include "dataplane/path/ingress.h"

#include "tests/dataplane/path/line.h"

namespace sallyport::test {
namespace {

class IngressPlain : public Line {
 protected:
  // The run that one frame becomes; count 0 where it became none.
  const Burst& take(const Bytes& bytes, const Offload& offload = {}) {
    const RxFrame frame = plain_frame(bytes, offload);
    ingress_plain(*context, {&frame, 1});
    give_back({&frame, 1});
    return context->burst;
  }
  bool accepts(const Bytes& bytes, const Offload& offload) {
    const bool accepted = take(bytes, offload).count == 1;
    EXPECT_NE(accepted, dropped(DropReason::plain_malformed) == 1);
    context->counters.drops.add(DropReason::plain_malformed, -dropped(DropReason::plain_malformed));
    context->end_burst();
    return accepted;
  }
};

TEST_F(IngressPlain, APacketIsOneRun) {
  const Bytes packet = build(words());
  const Burst& burst = take(packet);
  ASSERT_EQ(burst.count, 1u);
  EXPECT_EQ(burst.runs[0].head_bytes, packet.size());
  EXPECT_EQ(burst.runs[0].bytes, packet.size());
  EXPECT_EQ(burst.runs[0].segments, 1u);
  EXPECT_EQ(burst.runs[0].protocol, kProtocolTcp);
  EXPECT_EQ(burst.piece_count, 0u);
}

TEST_F(IngressPlain, LinkPaddingIsCutOff) {
  for (const Family family : {Family::v4, Family::v6}) {
    const Bytes packet = build(words(family));
    Bytes padded = packet;
    padded.resize(padded.size() + 13, 0xee);
    const Burst& burst = take(padded);
    ASSERT_EQ(burst.count, 1u);
    EXPECT_EQ(burst.runs[0].head_bytes, packet.size());
    EXPECT_EQ(burst.runs[0].bytes, packet.size());
    context->end_burst();
  }
}

TEST_F(IngressPlain, WhatIsNoIpPacketIsCountedAndTheRestGoesOn) {
  std::vector<RxFrame> frames;
  for (const Bytes& bytes :
       {build(words()), Bytes{}, Bytes(3, 0x45), Bytes(100, 0x45), Bytes(100, 0), build(words())}) {
    frames.push_back(plain_frame(bytes));
  }
  ingress_plain(*context, frames);
  EXPECT_EQ(context->burst.count, 2u);
  EXPECT_EQ(dropped(DropReason::plain_malformed), 4u);
  EXPECT_EQ(context->burst.runs[1].head, frames[5].data);
  give_back(frames);
}

TEST_F(IngressPlain, ASuperPacketIsHeadersAndOnePiece) {
  for (const Family family : {Family::v4, Family::v6}) {
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      Packet super = words(family, protocol, 3001);
      super.tcp_options = Bytes(12, 1);
      const Burst& burst = take(build(super), offload_of(super, 1000));
      ASSERT_EQ(burst.count, 1u);
      const sallyport::Run& run = burst.runs[0];
      EXPECT_EQ(run.head_bytes, super.header_bytes());
      EXPECT_EQ(run.bytes, super.header_bytes() + 3001);
      EXPECT_EQ(run.segments, 4u);
      ASSERT_EQ(burst.piece_count, 1u);
      EXPECT_EQ(burst.pieces[run.first_piece].length, 3001u);
      EXPECT_EQ(burst.pieces[run.first_piece].data, run.head + run.head_bytes);
      context->end_burst();
    }
  }
}

TEST_F(IngressPlain, AnOffloadThatDoesNotFitThePacketIsRefused) {
  const auto as = [&](Gso gso, uint16_t gso_size = 1000) {
    Offload offload = offload_of(words(), gso_size);
    offload.gso = gso;
    return offload;
  };
  const Bytes tcp4 = build(words(Family::v4, kProtocolTcp, 3000));
  const Bytes tcp6 = build(words(Family::v6, kProtocolTcp, 3000));
  const Bytes udp4 = build(words(Family::v4, kProtocolUdp, 3000));
  EXPECT_TRUE(accepts(tcp4, as(Gso::tcp4)));
  EXPECT_FALSE(accepts(tcp4, as(Gso::tcp6)));
  EXPECT_FALSE(accepts(tcp4, as(Gso::udp)));
  EXPECT_FALSE(accepts(tcp6, as(Gso::tcp4)));
  EXPECT_FALSE(accepts(udp4, as(Gso::tcp4)));
  EXPECT_FALSE(accepts(tcp4, as(Gso::tcp4, 0))) << "segments of nothing";
  EXPECT_FALSE(accepts(build(words(Family::v4, kProtocolTcp, 0)), as(Gso::tcp4))) << "no payload";
  EXPECT_FALSE(accepts(build(words(Family::v4, kProtocolUdp, 0)), as(Gso::udp)));
  for (const uint16_t fragment : std::vector<uint16_t>{1, 0x2001}) {
    Packet words_of_fragment = words(Family::v4, kProtocolTcp, 3000);
    words_of_fragment.fragment = fragment;
    EXPECT_FALSE(accepts(build(words_of_fragment), as(Gso::tcp4))) << "a fragment";
  }
  for (const uint8_t offset : Bytes{0x00, 0x40, 0x50, 0xf0}) {
    Bytes lying = tcp4;
    lying[32] = offset;
    EXPECT_TRUE(accepts(lying, as(Gso::tcp4)));
    lying.resize(20 + 20 + 10);
    put16(lying, 2, 50);
    EXPECT_EQ(accepts(lying, as(Gso::tcp4)), offset != 0xf0) << int{offset};
    lying.resize(20 + 19);
    put16(lying, 2, 39);
    EXPECT_FALSE(accepts(lying, as(Gso::tcp4))) << "half a TCP header";
  }
}

// Each segment's headers are a SealItem's head, which has a bound.
TEST_F(IngressPlain, HeadersLongerThanTheCipherTakesAreRefused) {
  for (const size_t extension : {168, 176}) {
    const Bytes tcp = build(words(Family::v6, kProtocolTcp, 3000));
    Bytes packet = tcp;
    packet.insert(packet.begin() + 40, extension, 0);
    packet[6] = 60;
    packet[40] = kProtocolTcp;
    packet[41] = static_cast<uint8_t>(extension / 8 - 1);
    packet[40 + extension + 12] = 0xc0;  // 48 bytes of TCP header
    put16(packet, 4, static_cast<uint32_t>(packet.size() - 40));
    Offload offload = offload_of(words(Family::v6), 1000);
    EXPECT_EQ(accepts(packet, offload), 40 + extension + 48 <= crypto::kHeadMax) << extension;
  }
}

class IngressOuter : public Line {
 protected:
  // A data message that nobody sealed: ingress does not look inside.
  static Bytes data(uint32_t receiver, size_t length = 32) {
    Bytes datagram(length);
    auto* header = reinterpret_cast<wireguard::MessageData*>(datagram.data());
    header->type = 4;
    header->receiver = receiver;
    return datagram;
  }
  static Bytes initiation() {
    Bytes message(sizeof(wireguard::MessageInitiation), 0x33);
    reinterpret_cast<wireguard::MessageInitiation*>(message.data())->type = 1;
    return message;
  }
  void take(const Bytes& datagram) {
    const RxFrame frame = outer_frame(datagram, 0, 77, 3);
    OuterCursor cursor;
    EXPECT_FALSE(ingress_outer(*context, {&frame, 1}, cursor));
    give_back({&frame, 1});
  }
  // The datagram in a mailbox must be a copy with all that is known of where it came from.
  void expect_posted(Mailbox& mailbox, const Bytes& datagram) {
    Message message;
    ASSERT_TRUE(mailbox.take(message));
    EXPECT_EQ(message.kind, Message::Kind::datagrams);
    const RxFrame& frame = *boxed_frame(message.buffer);
    EXPECT_EQ(Bytes(frame.data, frame.data + frame.length), datagram);
    EXPECT_EQ(frame.buffer, message.buffer);
    EXPECT_EQ(frame.segment_bytes, frame.length);
    EXPECT_EQ(frame.from, endpoint(77));
    EXPECT_EQ(frame.tos, 3);
    EXPECT_GE(frame.data - reinterpret_cast<const uint8_t*>(&frame + 1),
              static_cast<ptrdiff_t>(crypto::kBodyMargin));
    context->buffers.give(message.buffer);
  }
};

TEST_F(IngressOuter, OursGoesToOpen) {
  const wireguard::Keypair& keypair = session(1);
  take(data(keypair.local_index, 100));
  ASSERT_EQ(context->datagram_count, 1u);
  EXPECT_EQ(context->datagrams[0].keypair, &keypair);
  EXPECT_EQ(context->datagrams[0].length, 100u);
  EXPECT_EQ(dropped_in_all(), 0u);
}

TEST_F(IngressOuter, WhatIsNoMessageIsCounted) {
  for (const size_t length : {1, 3, 15, 16, 31, 147, 149}) {
    take(Bytes(length, 0));
  }
  take(data(0x100, 31));
  Bytes reserved = data(0x100);
  reserved[2] = 1;
  take(reserved);
  Bytes odd = initiation();
  odd.pop_back();
  take(odd);
  EXPECT_EQ(dropped(DropReason::outer_malformed), 10u);
  EXPECT_EQ(context->datagram_count, 0u);
}

TEST_F(IngressOuter, UnknownAndExpiredSessions) {
  take(data(0x4400));
  EXPECT_EQ(dropped(DropReason::unknown_index), 1u);
  ASSERT_TRUE(tunnel.indices.insert(0x5500, IndexEntry(&peer(1)).value()));
  take(data(0x5500));
  EXPECT_EQ(dropped(DropReason::unknown_index), 2u) << "a handshake's index opens nothing";
  tunnel.indices.remove(0x5500);
  take(data(session(1, kNow - wireguard::kRejectAfterTime).local_index));
  EXPECT_EQ(dropped(DropReason::expired_key), 1u);
  wireguard::Keypair& dead = session(2);
  dead.dead = true;
  take(data(dead.local_index));
  EXPECT_EQ(dropped(DropReason::expired_key), 2u);
  EXPECT_EQ(peer(2).drops[static_cast<size_t>(DropReason::expired_key)], 1u);
  EXPECT_EQ(context->datagram_count, 0u);
}

TEST_F(IngressOuter, AnotherWorkersGoesToItsMailbox) {
  const Bytes datagram = data(0x3301, 200);
  take(datagram);
  expect_posted(workers[1], datagram);
  take(data(0x33ff));  // 255 is odd: of two workers, the second
  EXPECT_FALSE(workers[1].empty());
  EXPECT_TRUE(workers[0].empty());
  EXPECT_EQ(context->counters.handed_over, 2u);
}

TEST_F(IngressOuter, HandshakesGoToTheHandshaker) {
  const Bytes message = initiation();
  take(message);
  expect_posted(handshaker, message);
  EXPECT_EQ(context->datagram_count, 0u);
}

TEST_F(IngressOuter, AFullMailboxIsACountedDropAndLosesNoBuffer) {
  while (workers[1].post({})) {
  }
  while (handshaker.post({})) {
  }
  take(data(0x3301));
  take(initiation());
  EXPECT_EQ(dropped(DropReason::mailbox_full), 1u);
  EXPECT_EQ(dropped(DropReason::handshake_in_data_queue), 1u);
  expect_buffers_back();
}

TEST_F(IngressOuter, ADryPoolIsACountedDrop) {
  begin(1);
  take(data(0x3301));
  take(initiation());
  EXPECT_EQ(dropped(DropReason::mailbox_full), 1u);
  EXPECT_EQ(dropped(DropReason::handshake_in_data_queue), 1u);
}

TEST_F(IngressOuter, ATrainOfEverything) {
  const uint32_t ours = session(1).local_index;
  Bytes train;
  const auto add = [&](Bytes datagram) {
    datagram.resize(148);
    train.insert(train.end(), datagram.begin(), datagram.end());
  };
  add(data(ours, 148));
  add(initiation());
  add(data(0x3301, 148));
  add(data(0x9900, 148));
  add(Bytes(148, 9));
  add(data(ours, 148));
  train.resize(train.size() + 32);  // the last is shorter: no message
  const RxFrame frame = outer_frame(train, 148);
  OuterCursor cursor;
  EXPECT_FALSE(ingress_outer(*context, {&frame, 1}, cursor));
  EXPECT_EQ(context->datagram_count, 2u);
  EXPECT_EQ(context->datagrams[1].data, frame.data + 5 * 148);
  EXPECT_FALSE(handshaker.empty());
  EXPECT_FALSE(workers[1].empty());
  EXPECT_EQ(dropped(DropReason::unknown_index), 1u);
  EXPECT_EQ(dropped(DropReason::outer_malformed), 2u);
  give_back({&frame, 1});
}

// Small datagrams fill a 64 KiB train with more than a burst holds: each comes exactly once, in
// order.
TEST_F(IngressOuter, TrainsLongerThanABurst) {
  const uint32_t ours = session(1).local_index;
  constexpr size_t kEach = 1000;
  std::vector<RxFrame> frames;
  uint64_t number = 0;
  for (int f = 0; f < 3; ++f) {
    Bytes train;
    for (size_t i = 0; i < kEach; ++i) {
      Bytes datagram = data(ours);
      reinterpret_cast<wireguard::MessageData*>(datagram.data())->counter = number++;
      train.insert(train.end(), datagram.begin(), datagram.end());
    }
    frames.push_back(outer_frame(train, 32));
  }
  OuterCursor cursor;
  uint64_t next = 0;
  for (bool more = true; more;) {
    more = ingress_outer(*context, frames, cursor);
    EXPECT_LE(context->datagram_count, Context::kDatagramsMax);
    EXPECT_TRUE(!more || context->datagram_count == Context::kDatagramsMax);
    for (size_t i = 0; i < context->datagram_count; ++i) {
      const auto* header =
          reinterpret_cast<const wireguard::MessageData*>(context->datagrams[i].data);
      ASSERT_EQ(uint64_t{header->counter}, next);
      ASSERT_EQ(context->datagrams[i].frame, &frames[next / kEach]);
      ++next;
    }
  }
  EXPECT_EQ(next, 3 * kEach);
  give_back(frames);
}

TEST_F(IngressOuter, AStrideOfNothingIsNoEndlessLoop) {
  RxFrame frame = outer_frame(Bytes(64, 4));
  frame.segment_bytes = 0;
  OuterCursor cursor;
  EXPECT_FALSE(ingress_outer(*context, {&frame, 1}, cursor));
  EXPECT_EQ(dropped(DropReason::outer_malformed), 64u);
  give_back({&frame, 1});
}

}  // namespace
}  // namespace sallyport::test
