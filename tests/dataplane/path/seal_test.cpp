// From the host to the wire: ingress_plain, route, seal, egress_outer. What comes out is opened and
// compared with what a naive segmenter makes of what went in.
#include "dataplane/path/seal.h"

#include <numeric>

#include "tests/dataplane/path/line.h"

namespace sallyport::test {
namespace {

using wireguard::Keypair;

class Seal : public Line {
 protected:
  // The datagrams of each train that went out.
  std::vector<size_t> trains() const {
    std::vector<size_t> out;
    for (const Sent& train : outer.sent) {
      out.push_back(train.datagrams().size());
    }
    return out;
  }
  RxFrame super(const Packet& packet, uint16_t gso_size) {
    return plain_frame(build(packet), offload_of(packet, gso_size));
  }
  bool asked_for(uint32_t bit) {
    Message message;
    bool posted = false;
    while (handshaker.take(message)) {
      posted |= message.kind == Message::Kind::request && message.peer == 1;
    }
    return posted && (peer(1).requests.exchange(0) & bit) != 0;
  }
};

TEST_F(Seal, OnePacketOneDatagram) {
  const Keypair& keypair = session(1);
  for (const Family family : {Family::v4, Family::v6}) {
    outer.sent.clear();
    Packet packet = words(family);
    packet.tos = 0xb9;
    from_host({build(packet)});
    ASSERT_EQ(outer.sent.size(), 1u);
    EXPECT_EQ(outer.sent[0].to, endpoint(1));
    EXPECT_EQ(outer.sent[0].tos, 1) << "ECN, not DSCP";
    EXPECT_EQ(without_padding(opened(keypair)), Packets{build(packet)});
  }
  EXPECT_EQ(counters, (std::vector<uint64_t>{0, 1}));
  EXPECT_EQ(peer(1).totals().tx_packets, 2u);
  EXPECT_EQ(context->counters.tx_packets, 2u);
  EXPECT_EQ(context->counters.tx_runs, 2u);
  EXPECT_EQ(dropped_in_all(), 0u);
}

// Whitepaper section 5.4.6: zeros to a multiple of 16, but not beyond the MTU.
TEST_F(Seal, Padding) {
  const Keypair& keypair = session(1);
  for (const uint32_t mtu : {1420u, 1280u, 1417u, 0u}) {
    snapshot.tunnels[0].mtu = mtu;
    for (size_t size = 40; size <= 1500; size += size < 100 ? 1 : 13) {
      outer.sent.clear();
      from_host({build(words(Family::v4, kProtocolTcp, size - 40))});
      const std::vector<Bytes> packets = opened(keypair);
      ASSERT_EQ(packets.size(), 1u);
      const size_t full = (size + 15) / 16 * 16;
      size_t expected = full;
      if (mtu != 0) {
        const size_t rest = size > mtu ? size % mtu : size;
        expected = size - rest + std::min<size_t>((rest + 15) / 16 * 16, mtu);
      }
      ASSERT_EQ(packets[0].size(), expected) << size << " with an MTU of " << mtu;
    }
  }
}

TEST_F(Seal, SuperPacketsAreCutAsTheKernelWould) {
  const Keypair& keypair = session(1);
  for (const Family family : {Family::v4, Family::v6}) {
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      for (const size_t payload : {1001, 1448, 2896, 2897, 30'000, 64'000}) {
        outer.sent.clear();
        Packet packet = words(family, protocol, payload);
        packet.tcp_options = {1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8};
        packet.flags = kTcpAck | kTcpPsh;
        from_host(std::vector{super(packet, 1000)});
        ASSERT_EQ(without_padding(opened(keypair)), naive_segments(packet, 1000)) << payload;
      }
    }
  }
  EXPECT_EQ(dropped_in_all(), 0u);
}

TEST_F(Seal, MoreSegmentsThanOneCallOfTheCipherTakes) {
  const Keypair& keypair = session(1);
  const Packet packet = words(Family::v4, kProtocolUdp, 3000);
  from_host(std::vector{super(packet, 1)});
  EXPECT_EQ(without_padding(opened(keypair)), naive_segments(packet, 1));
  std::vector<uint64_t> expected(3000);
  std::iota(expected.begin(), expected.end(), 0u);
  EXPECT_EQ(counters, expected) << "each counter once, in order";
}

TEST_F(Seal, AnOpenChecksumIsCompleted) {
  const Keypair& keypair = session(1);
  const Packet packet = words(Family::v6, kProtocolUdp, 333);
  Bytes open = build(packet);
  const size_t l4 = packet.ip_bytes();
  const uint32_t partial = pseudo_sum(open, packet.family, packet.protocol, l4);
  put16(open, packet.checksum_at(), (partial & 0xffff) + (partial >> 16));
  Offload offload = offload_of(packet, 0);
  offload.gso = Gso::none;
  from_host(std::vector{plain_frame(open, offload)});
  EXPECT_EQ(without_padding(opened(keypair)), Packets{build(packet)});
}

// -- Trains.

TEST_F(Seal, EqualLengthsShareATrain) {
  session(1);
  const auto packet = [&](size_t payload) {
    return build(words(Family::v4, kProtocolTcp, payload));
  };
  from_host({packet(600), packet(600), packet(100), packet(100), packet(600), packet(600)});
  EXPECT_EQ(trains(), (std::vector<size_t>{3, 1, 2})) << "a shorter one is the last of its train";
}

TEST_F(Seal, PeersAndEcnDivideTrains) {
  const Keypair& first = session(1);
  const Keypair& second = session(2);
  Packet packet = words();
  Packet other = packet, marked = packet;
  other.destination = 3;
  marked.tos = 2;
  from_host({build(packet), build(packet), build(other), build(packet), build(marked)});
  EXPECT_EQ(trains(), (std::vector<size_t>{2, 1, 1, 1}));
  EXPECT_EQ(outer.sent[1].to, endpoint(2));
  EXPECT_EQ(outer.sent[3].tos, 2);
  EXPECT_EQ(without_padding(opened(first)).size(), 4u);
  EXPECT_EQ(without_padding(opened(second)), Packets{build(other)});
}

// Several trains share a buffer, and a train that began in the middle of one must not grow beyond
// its end.
TEST_F(Seal, ATrainNeverOutgrowsItsBuffer) {
  const Keypair& keypair = session(1);
  const Packet closing = words(Family::v4, kProtocolTcp, 20 * 1000 - 1);
  const Packet whole = words(Family::v4, kProtocolTcp, 20 * 1000);
  std::vector<Bytes> expected;
  std::vector<RxFrame> frames;
  for (const Packet* packet : {&closing, &whole, &whole, &whole, &closing, &whole, &whole}) {
    frames.push_back(super(*packet, 1000));
    const std::vector<Bytes> segments = naive_segments(*packet, 1000);
    expected.insert(expected.end(), segments.begin(), segments.end());
  }
  from_host(std::move(frames));
  EXPECT_EQ(without_padding(opened(keypair)), expected);
  expect_buffers_back();
}

TEST_F(Seal, AnyMixOfRunsComesOutWhole) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const Keypair& first = session(1);
    const Keypair& second = session(2);
    std::vector<Bytes> expected[2];
    std::vector<RxFrame> frames;
    for (size_t i = 0; i < 32; ++i) {
      Packet packet = words(random() % 2 == 0 ? Family::v4 : Family::v6,
                            random() % 2 == 0 ? kProtocolTcp : kProtocolUdp, 1 + random() % 1300);
      packet.destination = random() % 4 == 0 ? 3 : 2;
      packet.tos = static_cast<uint8_t>(random() % 8 == 0 ? 2 : 0);
      std::vector<Bytes> segments;
      if (random() % 2 == 0) {
        packet.payload.resize(2 + random() % (random() % 2 == 0 ? 5000 : 60'000), 0x5a);
        const auto gso_size =
            static_cast<uint16_t>(std::min<size_t>(1 + random() % 1380, packet.payload.size() - 1));
        frames.push_back(super(packet, gso_size));
        segments = naive_segments(packet, gso_size);
      } else {
        frames.push_back(plain_frame(build(packet)));
        segments = {build(packet)};
      }
      auto& all = expected[packet.destination - 2];
      all.insert(all.end(), segments.begin(), segments.end());
    }
    outer.sent.clear();
    from_host(std::move(frames));
    ASSERT_EQ(without_padding(opened(first)), expected[0]);
    ASSERT_EQ(without_padding(opened(second)), expected[1]);
    ASSERT_EQ(dropped_in_all(), 0u);
    expect_buffers_back();
  }
}

TEST_F(Seal, ADryPoolDropsAndCounts) {
  begin(1);
  session(1);
  from_host({build(words())});  // its own frame has the only buffer
  EXPECT_EQ(dropped(DropReason::pool_dry), 1u);
  const Packet packet = words(Family::v4, kProtocolTcp, 10'000);
  from_host(std::vector{super(packet, 1000)});
  EXPECT_EQ(dropped(DropReason::pool_dry), 11u) << "each segment counts";
  EXPECT_TRUE(outer.sent.empty());
}

TEST_F(Seal, WhatNoDatagramHoldsIsDropped) {
  session(1);
  snapshot.tunnels[0].mtu = 65'535;
  from_host({build(words(Family::v4, kProtocolTcp, 65'000))});
  EXPECT_EQ(dropped(DropReason::too_big_for_train), 1u);
  EXPECT_TRUE(outer.sent.empty());
}

// -- No way to send.

TEST_F(Seal, WithoutASessionPacketsWaitAndComeOutAsTheyWentIn) {
  const Packet large = words(Family::v6, kProtocolTcp, 9000);
  std::vector<Bytes> expected = {build(words())};
  const std::vector<Bytes> segments = naive_segments(large, 1000);
  expected.insert(expected.end(), segments.begin(), segments.end());
  expected.push_back(build(words(Family::v4, kProtocolUdp, 0)));
  from_host(
      std::vector{plain_frame(expected.front()), super(large, 1000), plain_frame(expected.back())});
  EXPECT_TRUE(outer.sent.empty());
  EXPECT_TRUE(asked_for(wireguard::kWantHandshake));
  expect_buffers_back();

  const Keypair& keypair = session(1);
  EXPECT_FALSE(unstage(*context, peer(1)));
  advance(*context);
  context->end_burst();
  EXPECT_EQ(without_padding(opened(keypair)), expected);
  EXPECT_EQ(dropped_in_all(), 0u);
  EXPECT_FALSE(unstage(*context, peer(1))) << "once";
  EXPECT_EQ(context->burst.count, 0u);
}

TEST_F(Seal, WhatWaitsIsBounded) {
  for (size_t i = 0; i < wireguard::kStagedPacketsMax + 5; ++i) {
    from_host({build(words())});
  }
  EXPECT_EQ(dropped(DropReason::staged_overflow), 5u);
  tunnel.staging.clear(peer(1).staged);
}

TEST_F(Seal, AKeepaliveWithoutASessionAsksForOne) {
  add_keepalive(*context, peer(1));
  advance(*context);
  context->end_burst();
  EXPECT_TRUE(outer.sent.empty());
  EXPECT_TRUE(asked_for(wireguard::kWantHandshake));
  EXPECT_TRUE(tunnel.staging.empty(peer(1).staged));
}

TEST_F(Seal, AKeepaliveIsAnEmptyPacket) {
  const Keypair& keypair = session(1);
  add_keepalive(*context, peer(1));
  advance(*context);
  context->end_burst();
  EXPECT_EQ(opened(keypair), Packets{Bytes{}});
  EXPECT_EQ(outer.sent[0].tos, 0);
}

TEST_F(Seal, WithoutAPeerOrAnEndpointTheHostIsTold) {
  Packet packet = words();
  packet.destination = 99;
  from_host({build(packet)});
  EXPECT_EQ(dropped(DropReason::no_peer), 1u);
  peer(1).endpoint.store({});
  from_host({build(words())});
  EXPECT_EQ(dropped(DropReason::no_endpoint), 1u);
  EXPECT_TRUE(outer.sent.empty());
  ASSERT_EQ(plain.sent.size(), 2u);
  for (const Sent& answer : plain.sent) {
    EXPECT_EQ(answer.bytes[9], kProtocolIcmp);
    EXPECT_EQ(answer.bytes[20], 3);
  }
  EXPECT_EQ(Bytes(plain.sent[0].bytes.begin() + 28, plain.sent[0].bytes.end()), build(packet));
}

TEST_F(Seal, TheHostIsNotToldTooOften) {
  Packet packet = words();
  packet.destination = 99;
  for (int i = 0; i < 100; ++i) {
    from_host({build(packet)});
  }
  EXPECT_EQ(dropped(DropReason::no_peer), 100u);
  EXPECT_EQ(plain.sent.size(), 50u) << "the budget's depth";
}

TEST_F(Seal, AnExpiredSessionSendsNothing) {
  session(1, kNow - wireguard::kRejectAfterTime);
  from_host({build(words())});
  EXPECT_TRUE(outer.sent.empty());
  EXPECT_TRUE(asked_for(wireguard::kWantHandshake));
  tunnel.staging.clear(peer(1).staged);
}

TEST_F(Seal, AnInitiatorsOldSessionSendsAndAsksForANewOne) {
  wireguard::Displaced displaced;
  Keypair& answered = session(1, kNow - wireguard::kRekeyAfterTime, false);
  ASSERT_TRUE(peer(1).keypairs.confirm(&answered, displaced));
  from_host({build(words())});
  EXPECT_FALSE(asked_for(wireguard::kWantHandshake)) << "the responder waits to be called";
  session(1, kNow - wireguard::kRekeyAfterTime);
  from_host({build(words())});
  EXPECT_TRUE(asked_for(wireguard::kWantHandshake));
  EXPECT_EQ(outer.sent.size(), 2u);
}

TEST_F(Seal, NoCounterBeyondTheLast) {
  Keypair& keypair = session(1);
  keypair.sending_counter = wireguard::kRejectAfterMessages - 2;
  from_host({build(words())});
  EXPECT_EQ(opened(keypair).size(), 1u);
  EXPECT_TRUE(asked_for(wireguard::kWantHandshake));
  from_host({build(words()), build(words())});
  EXPECT_EQ(dropped(DropReason::counter_exhausted), 2u);
  EXPECT_TRUE(keypair.dead);
  EXPECT_EQ(outer.sent.size(), 1u);
  from_host({build(words())});
  EXPECT_FALSE(tunnel.staging.empty(peer(1).staged)) << "it waits for the next session";
  tunnel.staging.clear(peer(1).staged);
}

// A run large enough to carry the counter around zero must not: that would be a nonce used twice.
TEST_F(Seal, ARunDoesNotWrapTheCounter) {
  Keypair& keypair = session(1);
  keypair.sending_counter = wireguard::kRejectAfterMessages - 1;
  const Packet packet = words(Family::v4, kProtocolUdp, 9000);
  from_host(std::vector{super(packet, 1)});
  EXPECT_TRUE(outer.sent.empty());
  EXPECT_EQ(dropped(DropReason::counter_exhausted), 9000u);
}

// -- What became of it.

TEST_F(Seal, ARefusedTrainIsCounted) {
  session(1);
  outer.error = ENETUNREACH;
  from_host({build(words()), build(words())});
  EXPECT_EQ(dropped(DropReason::outer_send_failed), 2u);
  EXPECT_EQ(peer(1).drops[static_cast<size_t>(DropReason::outer_send_failed)], 2u);
  expect_buffers_back();
}

TEST_F(Seal, WithoutSocketsNothingIsSent) {
  session(1);
  snapshot.tunnels[0].outer.clear();
  from_host({build(words())});
  EXPECT_EQ(dropped(DropReason::outer_send_failed), 1u);
  expect_buffers_back();
}

TEST_F(Seal, ARefusedSourceIsForgotten) {
  session(1);
  Endpoint with_source = endpoint(1);
  with_source.local = with_source.remote;
  with_source.interface = 3;
  peer(1).endpoint.store(with_source);
  outer.refuse_source = true;
  from_host({build(words())});
  EXPECT_EQ(peer(1).endpoint.load(), endpoint(1));
  EXPECT_EQ(dropped_in_all(), 0u);
}

}  // namespace
}  // namespace sallyport::test
