// From the wire to the host: ingress_outer, open, join, egress_plain. The far end seals by hand.
#include "dataplane/path/open.h"

#include "tests/dataplane/path/line.h"

namespace sallyport::test {
namespace {

using wireguard::Keypair;

class Open : public Line {
 protected:
  static Packet theirs(Family family = Family::v4, uint8_t protocol = kProtocolTcp,
                       size_t payload = 100) {
    return words(family, protocol, payload, false);
  }
  uint64_t peer_drops(DropReason reason) {
    return peer(1).drops[static_cast<size_t>(reason)].load();
  }
};

TEST_F(Open, APacketReachesTheHost) {
  const Keypair& keypair = session(1);
  uint64_t counter = 0;
  for (const Family family : {Family::v4, Family::v6}) {
    for (const size_t pad : {0, 1, 15}) {
      plain.sent.clear();
      Bytes inner = build(theirs(family));
      inner.resize(inner.size() + pad);
      from_network(sealed(keypair, counter++, inner));
      EXPECT_EQ(to_host(), Packets{build(theirs(family))});
      EXPECT_TRUE(plain.sent[0].offload.checksum_valid) << "it was verified";
    }
  }
  EXPECT_EQ(peer(1).totals().rx_packets, 6u);
  EXPECT_EQ(context->counters.rx_packets, 6u);
  EXPECT_EQ(context->counters.rx_runs, 6u);
  EXPECT_EQ(dropped_in_all(), 0u);
}

TEST_F(Open, ATrainOfOneFlowIsOneRun) {
  const Keypair& keypair = session(1);
  Packet super = theirs(Family::v4, kProtocolTcp, 40'000);
  super.fragment = 0;
  Bytes train;
  uint64_t counter = 0;
  for (const Bytes& segment : naive_segments(super, 1000)) {
    const Bytes datagram = sealed(keypair, counter++, segment);
    train.insert(train.end(), datagram.begin(), datagram.end());
  }
  from_network(std::vector{outer_frame(train, 1000 + 40 + 32)});
  ASSERT_EQ(plain.sent.size(), 1u);
  EXPECT_EQ(plain.sent[0].offload.gso, Gso::tcp4);
  Bytes whole = plain.sent[0].bytes;
  fix_l4_checksum(whole, super);
  EXPECT_EQ(whole, build(super));
  EXPECT_EQ(context->counters.rx_runs, 1u);
}

TEST_F(Open, APortThatTakesNoRunsGetsPackets) {
  plain.joined = false;
  const Keypair& keypair = session(1);
  const std::vector<Bytes> packets = naive_segments(theirs(Family::v6, kProtocolUdp, 5000), 1000);
  std::vector<RxFrame> frames;
  for (size_t i = 0; i < packets.size(); ++i) {
    frames.push_back(outer_frame(sealed(keypair, i, packets[i])));
  }
  from_network(std::move(frames));
  EXPECT_EQ(to_host(), packets);
}

TEST_F(Open, ForgedOrDamagedIsDroppedAlone) {
  const Keypair& keypair = session(1);
  const Bytes good = sealed(keypair, 5, build(theirs()));
  for (const size_t at : std::vector<size_t>{8, 16, 60, 155, 171}) {
    Bytes bad = good;
    bad[at] ^= 1;
    from_network(bad, 66);
  }
  Bytes shorter = good;
  shorter.pop_back();
  from_network(shorter, 66);
  EXPECT_EQ(dropped(DropReason::bad_tag), 6u);
  EXPECT_EQ(peer_drops(DropReason::bad_tag), 6u);
  EXPECT_TRUE(plain.sent.empty());
  EXPECT_EQ(peer(1).endpoint.load(), endpoint(1)) << "only the authentic moves an endpoint";
  from_network(good);
  EXPECT_EQ(plain.sent.size(), 1u) << "nor did it spend the counter";
}

TEST_F(Open, AReplayIsDropped) {
  const Keypair& keypair = session(1);
  const Bytes datagram = sealed(keypair, 9000, build(theirs()));
  from_network(datagram);
  from_network(datagram);
  from_network(std::vector{outer_frame(datagram), outer_frame(datagram)});
  from_network(sealed(keypair, 9000 - wireguard::kReplayWindow - 1, build(theirs())));
  EXPECT_EQ(dropped(DropReason::replayed_counter), 4u);
  EXPECT_EQ(plain.sent.size(), 1u);
  Bytes twice = sealed(keypair, 9001, build(theirs()));
  twice.insert(twice.end(), twice.begin(), twice.end());
  from_network(std::vector{outer_frame(twice, static_cast<uint32_t>(twice.size() / 2))});
  EXPECT_EQ(plain.sent.size(), 2u) << "in one train too";
}

TEST_F(Open, WhatIsNoIpPacketInside) {
  const Keypair& keypair = session(1);
  const Bytes whole = build(theirs());
  const auto changed = [&](size_t at, uint8_t value) {
    Bytes bytes = whole;
    bytes[at] = value;
    return bytes;
  };
  const std::vector<Bytes> insides = {{0},
                                      Bytes(19, 0x45),
                                      Bytes(100, 0),
                                      changed(0, 0x44),
                                      changed(0, 0x55),
                                      changed(2, 0x01),
                                      changed(3, 10),
                                      Bytes(1, 0x45),
                                      Bytes(39, 0x60)};
  uint64_t counter = 0;
  for (const Bytes& inside : insides) {
    from_network(sealed(keypair, counter++, inside));
  }
  EXPECT_EQ(dropped(DropReason::inner_malformed), insides.size());
  EXPECT_EQ(peer_drops(DropReason::inner_malformed), insides.size());
  EXPECT_TRUE(plain.sent.empty());
}

// What is behind the inner packet's length is padding; it must neither be read as a packet nor go
// to the host.
TEST_F(Open, ALongTailIsPadding) {
  const Keypair& keypair = session(1);
  Bytes inner = build(theirs());
  inner.resize(1400, 0x45);
  from_network(sealed(keypair, 0, inner));
  EXPECT_EQ(to_host(), Packets{build(theirs())});
}

TEST_F(Open, OnlyFromAllowedSources) {
  const Keypair& keypair = session(1);
  uint64_t counter = 0;
  for (const Family family : {Family::v4, Family::v6}) {
    for (const uint8_t source : Bytes{1, 3, 99}) {  // nobody's; another peer's; nobody's
      Packet packet = theirs(family);
      packet.source = source;
      from_network(sealed(keypair, counter++, build(packet)));
    }
  }
  EXPECT_EQ(dropped(DropReason::source_not_allowed), 6u);
  EXPECT_EQ(peer_drops(DropReason::source_not_allowed), 6u);
  EXPECT_TRUE(plain.sent.empty());
}

TEST_F(Open, EcnOfTheOuterHeaderGoesIn) {
  const Keypair& keypair = session(1);
  Packet packet = theirs();
  from_network(sealed(keypair, 0, build(packet)), 1, 3);
  EXPECT_EQ(dropped(DropReason::ecn_invalid), 1u);
  packet.tos = 0xb8 | 2;
  from_network(sealed(keypair, 1, build(packet)), 1, 3);
  packet.tos = 0xb8 | 3;
  EXPECT_EQ(to_host(), Packets{build(packet)});
}

// A mark that arrives in the middle of a flow must not be smeared over its neighbours.
TEST_F(Open, EcnMarksAreKeptApartByJoining) {
  const Keypair& keypair = session(1);
  Packet packet = theirs();
  packet.tos = 2;
  std::vector<RxFrame> frames;
  std::vector<Bytes> expected;
  for (uint64_t i = 0; i < 5; ++i) {
    frames.push_back(outer_frame(sealed(keypair, i, build(packet)), 0, 1, i == 2 ? 3 : 2));
    Packet marked = packet;
    marked.tos = i == 2 ? 3 : 2;
    expected.push_back(build(marked));
    packet.sequence += 100;
    ++packet.id;
  }
  from_network(std::move(frames));
  ASSERT_EQ(plain.sent.size(), 3u);
  EXPECT_EQ(plain.sent[1].bytes, expected[2]);
}

TEST_F(Open, AKeepaliveIsForNobody) {
  const Keypair& keypair = session(1);
  from_network(sealed(keypair, 0, {}), 55);
  EXPECT_TRUE(plain.sent.empty());
  EXPECT_EQ(dropped_in_all(), 0u);
  EXPECT_EQ(peer(1).totals().rx_packets, 1u);
  EXPECT_EQ(peer(1).totals().rx_bytes, 32u);
  EXPECT_EQ(peer(1).endpoint.load(), endpoint(55));
}

TEST_F(Open, AnAuthenticPacketMovesTheEndpointWhateverIsInside) {
  const Keypair& keypair = session(1);
  from_network(sealed(keypair, 0, Bytes(50)), 55);
  EXPECT_EQ(dropped(DropReason::inner_malformed), 1u);
  EXPECT_EQ(peer(1).endpoint.load(), endpoint(55));
  std::vector<RxFrame> frames;
  for (const uint16_t port : std::vector<uint16_t>{7, 8}) {
    frames.push_back(outer_frame(sealed(keypair, port, build(theirs())), 0, port));
  }
  frames.push_back(outer_frame(Bytes(frames[1].data, frames[1].data + frames[1].length), 0, 9));
  from_network(std::move(frames));
  EXPECT_EQ(peer(1).endpoint.load(), endpoint(8)) << "the last that was authentic and new";
}

TEST_F(Open, TheFirstPacketConfirmsAnAnsweredSession) {
  Keypair& old = session(1);
  Keypair& fresh = session(1, kNow, false);
  EXPECT_EQ(peer(1).keypairs.current(), &old);
  from_network(sealed(fresh, 0, {}));
  EXPECT_EQ(peer(1).keypairs.current(), &fresh);
  EXPECT_EQ(peer(1).keypairs.previous(), &old);
  EXPECT_EQ(peer(1).requests.load() & wireguard::kConfirmed, wireguard::kConfirmed);
  from_network(sealed(old, 0, build(theirs())));
  EXPECT_EQ(plain.sent.size(), 1u) << "what was on its way under the old one still opens";
}

TEST_F(Open, SessionsOfOneBurstAreKeptApart) {
  const Keypair& first = session(1);
  const Keypair& second = session(2);
  std::vector<RxFrame> frames;
  for (uint64_t i = 0; i < 6; ++i) {
    Packet packet = theirs();
    packet.source = i % 2 == 0 ? 2 : 3;
    frames.push_back(outer_frame(sealed(i % 2 == 0 ? first : second, i, build(packet)), 0,
                                 static_cast<uint16_t>(10 + i)));
  }
  from_network(std::move(frames));
  EXPECT_EQ(peer(1).totals().rx_packets, 3u);
  EXPECT_EQ(peer(2).totals().rx_packets, 3u);
  EXPECT_EQ(peer(1).endpoint.load(), endpoint(14));
  EXPECT_EQ(peer(2).endpoint.load(), endpoint(15));
  EXPECT_EQ(dropped_in_all(), 0u);
}

TEST_F(Open, WhatTheHostRefusesIsCounted) {
  const Keypair& keypair = session(1);
  plain.error = EIO;
  std::vector<RxFrame> frames;
  uint64_t counter = 0;
  for (const Bytes& segment : naive_segments(theirs(Family::v4, kProtocolTcp, 5000), 1000)) {
    frames.push_back(outer_frame(sealed(keypair, counter++, segment)));
  }
  from_network(std::move(frames));
  EXPECT_EQ(plain.sent.size(), 1u);
  EXPECT_EQ(dropped(DropReason::plain_send_failed), 5u) << "a run counts its packets";
  context->plain = nullptr;
  from_network(sealed(keypair, counter, build(theirs())));
  EXPECT_EQ(dropped(DropReason::plain_send_failed), 6u);
}

// More runs than egress_plain hands over at a time, none of them joinable.
TEST_F(Open, ABurstOfStrangers) {
  const Keypair& keypair = session(1);
  std::vector<Bytes> expected;
  Bytes train;
  for (uint16_t i = 0; i < 300; ++i) {
    Packet packet = theirs(Family::v4, kProtocolUdp, 100);
    packet.source_port = i;
    expected.push_back(build(packet));
    const Bytes datagram = sealed(keypair, i, expected.back());
    train.insert(train.end(), datagram.begin(), datagram.end());
  }
  from_network(std::vector{outer_frame(train, 100 + 28 + 32)});
  EXPECT_EQ(to_host(), expected);
}

}  // namespace
}  // namespace sallyport::test
