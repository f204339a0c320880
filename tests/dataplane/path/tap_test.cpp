#include "dataplane/path/tap.h"

#include "dataplane/net/probe.h"
#include "tests/dataplane/path/line.h"

namespace sallyport::test {
namespace {

using What = TraceStep::What;

class TapTest : public Line {
 protected:
  void SetUp() override {
    Line::SetUp();
    one_ = &session(1);
  }
  Tap& look(const TraceFilter& filter) {
    tap_ = std::make_unique<Tap>(filter);
    snapshot.tap = tap_.get();
    return *tap_;
  }
  std::vector<TracedPacket> taken() {
    std::vector<TracedPacket> all;
    while (const auto packet = tap_->take()) {
      all.push_back(*packet);
    }
    return all;
  }
  // How many of these packets from the host the filter picks.
  size_t picked(const TraceFilter& filter, const std::vector<Bytes>& packets) {
    look(filter);
    from_host(packets);
    return taken().size();
  }

  wireguard::Keypair* one_ = nullptr;
  std::unique_ptr<Tap> tap_;
};

TEST_F(TapTest, TellsWhatWasDone) {
  look({});
  const Bytes packet = between("10.0.0.9", "10.0.0.2");
  from_host(std::vector<Bytes>{packet, between("10.0.0.9", "192.0.2.1"),
                               between("10.0.0.9", "10.0.0.3")});
  const auto all = taken();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].bytes, packet.size());
  EXPECT_EQ(all[0].segments, 1u);
  EXPECT_TRUE(all[0].from_host);
  EXPECT_EQ(all[0].from_tag, 0u);
  EXPECT_EQ(all[0].tunnel, 0u);
  EXPECT_EQ(all[0].time, kNow);
  EXPECT_FALSE(all[0].discarded);
  EXPECT_EQ(Bytes(all[0].head, all[0].head + all[0].head_bytes), packet);
  ASSERT_EQ(steps(all[0].trace, What::sealed).size(), 1u);
  EXPECT_EQ(steps(all[0].trace, What::sealed)[0].a, 1u);
  EXPECT_EQ(steps(all[0].trace, What::sealed)[0].b, packet.size() + 32);
  EXPECT_EQ(steps(all[0].trace, What::peer)[0].a, 1u) << "the slot";
  EXPECT_TRUE(all[1].discarded);
  EXPECT_EQ(steps(all[1].trace, What::drop)[0].a, static_cast<uint32_t>(DropReason::no_peer));
  EXPECT_EQ(steps(all[2].trace, What::staged).size(), 1u) << "peer 2 has no session";
}

TEST_F(TapTest, SeesAPacketFromAPeerAsItCameIn) {
  const uint32_t name = tag(1);
  PolicyMaker made = maker();
  made.rule(all(), use_exit(made.peer(tag(2))));
  put_in_force(made);
  session(2);
  look({});
  const Bytes packet = between("10.0.0.2", "192.0.2.1");
  from_network(*one_, 0, packet);
  const auto all = taken();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_FALSE(all[0].from_host);
  EXPECT_EQ(all[0].from_tag, name);
  EXPECT_EQ(Bytes(all[0].head, all[0].head + all[0].head_bytes), packet)
      << "its TTL not yet counted down";
  EXPECT_EQ(steps(all[0].trace, What::rule).size(), 1u);
  ASSERT_EQ(steps(all[0].trace, What::ttl).size(), 1u) << "it is forwarded";
  EXPECT_EQ(steps(all[0].trace, What::ttl)[0].a, packet[8] - 1u);
}

TEST_F(TapTest, KeepsTheBeginningOfWhatIsLong) {
  look({});
  const Packet super = words(Family::v4, kProtocolTcp, 3001);
  const Bytes bytes = build(super);
  from_host(std::vector<RxFrame>{plain_frame(bytes, offload_of(super, 1000))});
  from_host(
      std::vector<Bytes>{between("10.0.0.9", "10.0.0.2", words(Family::v4, kProtocolUdp, 500))});
  const auto all = taken();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].head_bytes, super.header_bytes());
  EXPECT_EQ(all[0].segments, 4u);
  EXPECT_EQ(all[0].bytes, bytes.size());
  EXPECT_EQ(all[1].head_bytes, sizeof(all[1].head));
  EXPECT_EQ(all[1].bytes, 528u);
}

TEST_F(TapTest, FiltersByEachField) {
  Packet web = words(Family::v4, kProtocolTcp);
  web.source_port = 5555;
  web.destination_port = 80;
  const std::vector<Bytes> packets = {
      between("10.0.0.9", "10.0.0.2", web),
      between("10.0.0.129", "10.0.0.2"),
      between("10.0.0.9", "192.0.2.129"),
      between("fd00::9", "fd00::2"),
  };
  EXPECT_EQ(picked({}, packets), 4u);
  TraceFilter filter;
  filter.from = *parse_prefix("10.0.0.0/25");
  EXPECT_EQ(picked(filter, packets), 2u);
  filter.to = *parse_prefix("10.0.0.2/32");
  EXPECT_EQ(picked(filter, packets), 1u);
  filter = {};
  filter.from = *parse_prefix("0.0.0.0/0");
  EXPECT_EQ(picked(filter, packets), 3u) << "a prefix is of one family";
  filter.from = *parse_prefix("fd00::8/125");
  EXPECT_EQ(picked(filter, packets), 1u);
  filter = {};
  filter.protocol = kProtocolTcp;
  EXPECT_EQ(picked(filter, packets), 1u);
  filter = {};
  filter.sport = 5555;
  EXPECT_EQ(picked(filter, packets), 1u);
  filter.dport = 81;
  EXPECT_EQ(picked(filter, packets), 0u);
  filter.dport = 80;
  EXPECT_EQ(picked(filter, packets), 1u);
  filter = {};
  filter.iif = iif_number(0, true);
  EXPECT_EQ(picked(filter, packets), 4u);
  filter.iif = iif_number(0, false);
  EXPECT_EQ(picked(filter, packets), 0u);
  filter = {};
  filter.peer = tag(1);
  EXPECT_EQ(picked(filter, packets), 0u);
  from_network(*one_, 0, between("10.0.0.2", "10.0.0.1"));
  EXPECT_EQ(taken().size(), 1u);
  filter = {};
  filter.drops_only = true;
  EXPECT_EQ(picked(filter, packets), 1u);
}

TEST_F(TapTest, APortOfZeroIsNotAPacketWithoutPorts) {
  TraceFilter filter;
  filter.dport = 0;
  EXPECT_EQ(picked(filter, {between("10.0.0.9", "10.0.0.2", words(Family::v4, kProtocolIcmp, 8))}),
            0u);
}

TEST_F(TapTest, FollowsAFewOfABurstAndCountsTheRest) {
  Tap& tap = look({});
  from_host(std::vector<Bytes>(20, between("10.0.0.9", "10.0.0.2")));
  EXPECT_EQ(taken().size(), Context::kTracesMax);
  EXPECT_EQ(tap.missed(), 20 - Context::kTracesMax);
  EXPECT_EQ(arrived_at(*one_).size(), 20u) << "the packets themselves go on";
}

TEST_F(TapTest, AFullQueueCountsAsMissed) {
  Tap& tap = look({});
  for (size_t i = 0; i < Tap::kQueueMax + 10; ++i) {
    from_host(std::vector<Bytes>{between("10.0.0.9", "10.0.0.2")});
  }
  EXPECT_EQ(tap.missed(), 10u);
  EXPECT_EQ(taken().size(), Tap::kQueueMax);
}

TEST_F(TapTest, TakenAwayItIsNotMissed) {
  look({});
  snapshot.tap = nullptr;
  from_host(std::vector<Bytes>{between("10.0.0.9", "10.0.0.2")});
  EXPECT_TRUE(taken().empty());
  EXPECT_EQ(arrived_at(*one_).size(), 1u);
}

TEST_F(TapTest, AnAnswerToAProbeIsNoLoss) {
  Probe probe;
  probe.source = *parse_address("10.0.0.1");
  probe.target = *parse_address("10.0.0.2");
  PolicyMaker made = maker();
  made.probes({{probe, tag(1)}});
  put_in_force(made);
  TraceFilter filter;
  filter.drops_only = true;
  look(filter);
  Bytes packet(kProbeBytesMax);
  packet.resize(build_probe(probe, 1, packet));
  std::swap_ranges(packet.begin() + 12, packet.begin() + 16, packet.begin() + 16);
  packet[20] = 0;
  put16(packet, 22, 0);
  put16(packet, 22, ~naive_sum(packet.data() + 20, packet.size() - 20) & 0xffff);
  from_network(*one_, 0, packet);
  EXPECT_NE(in_force->probes[0].answer, 0u);
  EXPECT_TRUE(taken().empty());
}

TEST_F(TapTest, WhatSealLosesIsTold) {
  one_->sending_counter = wireguard::kRejectAfterMessages;
  look({});
  from_host(std::vector<Bytes>{between("10.0.0.9", "10.0.0.2")});
  const auto all = taken();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_TRUE(all[0].discarded);
  ASSERT_EQ(steps(all[0].trace, What::drop).size(), 1u);
  EXPECT_EQ(steps(all[0].trace, What::drop)[0].a,
            static_cast<uint32_t>(DropReason::counter_exhausted));
  EXPECT_EQ(dropped(DropReason::counter_exhausted), 1u);
}

}  // namespace
}  // namespace sallyport::test
