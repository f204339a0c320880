#include "dataplane/path/route.h"

#include "tests/dataplane/path/line.h"

namespace sallyport::test {
namespace {

using Kind = RuleAction::Kind;
using What = TraceStep::What;

// Two tunnels: peers 1 and 2 on the first, 11 and 12 on the second.
class RouteTest : public Line {
 protected:
  void SetUp() override {
    Line::SetUp();
    begin_second();
    for (const uint32_t slot : {1u, 2u, 11u, 12u}) {
      sessions_[slot] = &session(slot);
      counter_[slot] = 0;
    }
    made_ = std::make_unique<PolicyMaker>(tags, kWorkers);
  }
  // Everything takes this exit.
  const Policy& all_by(uint32_t exit) {
    made_->rule(all(), use_exit(exit));
    return put_in_force(*made_);
  }
  void from_peer(uint32_t slot, const Bytes& packet) {
    from_network(*sessions_.at(slot), counter_[slot]++, packet);
  }
  std::vector<Bytes> at_peer(uint32_t slot) { return arrived_at(*sessions_.at(slot)); }
  std::string address(uint32_t slot) {
    return "10." + std::to_string(peer(slot).tunnel) + ".0." + std::to_string(slot + 1);
  }
  std::string address6(uint32_t slot) {
    return (peer(slot).tunnel == 0 ? "fd00::" : "fd01::") +
           std::string(slot == 11   ? "c"
                       : slot == 12 ? "d"
                                    : std::to_string(slot + 1));
  }

  std::map<uint32_t, wireguard::Keypair*> sessions_;
  std::map<uint32_t, uint64_t> counter_;
  std::unique_ptr<PolicyMaker> made_;
};

TEST_F(RouteTest, WithoutAPolicyEachTunnelIsByItself) {
  from_host(std::vector<Bytes>{between("10.0.0.9", "10.1.0.12")});
  EXPECT_EQ(dropped(DropReason::no_peer), 1u) << "peer 11 is on the other tunnel";
  from_peer(11, between("10.1.0.12", "10.0.0.2"));
  ASSERT_EQ(second_plain.sent.size(), 1u);
  EXPECT_TRUE(outer.sent.empty());
  EXPECT_EQ(plain.sent.size(), 1u) << "the ICMP error";
}

TEST_F(RouteTest, ToAPeerByName) {
  all_by(made_->peer(tag(12)));
  from_host(std::vector<Bytes>{between("10.0.0.9", "192.0.2.1")});
  ASSERT_EQ(at_peer(12).size(), 1u);
  EXPECT_EQ(at_peer(12)[0][8], 64) << "from the host it has passed no router yet";
  EXPECT_TRUE(outer.sent.empty());
}

TEST_F(RouteTest, ToATunnelByItsAllowedIps) {
  all_by(made_->tunnel(1));
  from_host(std::vector<Bytes>{between("10.0.0.9", "10.1.0.12"), between("10.0.0.9", "10.1.0.13"),
                               between("10.0.0.9", "10.1.0.14")});
  EXPECT_EQ(at_peer(11).size(), 1u);
  EXPECT_EQ(at_peer(12).size(), 1u);
  EXPECT_EQ(dropped(DropReason::no_peer), 1u);
}

TEST_F(RouteTest, BetweenPeersWeAreARouter) {
  all_by(made_->peer(tag(11)));
  for (const bool v4 : {true, false}) {
    second_outer.sent.clear();
    const Bytes packet = v4 ? between("10.0.0.2", "192.0.2.1") : between("fd00::2", "2001:db8::1");
    from_peer(1, packet);
    ASSERT_EQ(at_peer(11).size(), 1u);
    Bytes expected = packet;
    --expected[v4 ? 8 : 7];
    if (v4) {
      fix_ip_checksum(expected);
    }
    EXPECT_EQ(at_peer(11)[0], expected);
  }
}

TEST_F(RouteTest, EveryTtlCountsDownRightly) {
  all_by(made_->peer(tag(2)));
  for (int ttl = 2; ttl < 256; ++ttl) {
    outer.sent.clear();
    Packet packet = words(Family::v4, kProtocolUdp, 10);
    packet.ttl = static_cast<uint8_t>(ttl);
    packet.id = static_cast<uint16_t>(ttl * 257);
    from_peer(1, between("10.0.0.2", "192.0.2.1", packet));
    const auto arrived = at_peer(2);
    ASSERT_EQ(arrived.size(), 1u);
    EXPECT_EQ(arrived[0][8], ttl - 1);
    EXPECT_EQ(naive_sum(arrived[0].data(), 20), 0xffff);
  }
}

TEST_F(RouteTest, AUsedUpTtlEndsHereAndItsSenderIsTold) {
  all_by(made_->peer(tag(11)));
  for (const int ttl : {0, 1}) {
    for (const Family family : {Family::v4, Family::v6}) {
      outer.sent.clear();
      Packet packet = words(family, kProtocolUdp, 10);
      packet.ttl = static_cast<uint8_t>(ttl);
      const bool v4 = family == Family::v4;
      from_peer(1, between(v4 ? "10.0.0.2" : "fd00::2", v4 ? "192.0.2.1" : "2001:db8::1", packet));
      const auto told = at_peer(1);
      ASSERT_EQ(told.size(), 1u);
      EXPECT_EQ(told[0][v4 ? 20 : 40], v4 ? 11 : 3);
    }
  }
  EXPECT_TRUE(second_outer.sent.empty());
  EXPECT_EQ(dropped(DropReason::ttl_exceeded), 4u);
  EXPECT_EQ(peer(1).drops[static_cast<size_t>(DropReason::ttl_exceeded)], 4u);
}

TEST_F(RouteTest, ToTheHostByThePortItCameByOrAnother) {
  const uint32_t host = made_->exit(ExitKind::host);
  made_->rule(to("192.0.2.0/24"), use_exit(host));
  made_->rule(all(), use_exit(made_->port(1)));
  put_in_force(*made_);
  from_peer(1, between("10.0.0.2", "192.0.2.1"));
  EXPECT_EQ(plain.sent.size(), 1u);
  from_peer(1, between("10.0.0.2", "10.0.0.1"));
  ASSERT_EQ(second_plain.sent.size(), 1u);
  EXPECT_EQ(second_plain.sent[0].bytes[8], 64) << "the host counts down, if it routes";
  from_peer(11, between("10.1.0.12", "192.0.2.1"));
  EXPECT_EQ(second_plain.sent.size(), 2u);
  EXPECT_EQ(plain.sent.size(), 1u);
  EXPECT_EQ(dropped_in_all(), 0u);
}

TEST_F(RouteTest, FramesOfABurstLeaveByTheirPorts) {
  made_->rule(to("192.0.2.0/24"), use_exit(made_->port(1)));
  plain.joined = second_plain.joined = false;
  put_in_force(*made_);
  std::vector<RxFrame> frames;
  for (int i = 0; i < 12; ++i) {
    frames.push_back(
        outer_frame(sealed(*sessions_[1], static_cast<uint64_t>(i),
                           between("10.0.0.2", i % 3 == 0 ? "192.0.2.1" : "10.0.0.1"))));
  }
  from_network(std::move(frames));
  EXPECT_EQ(second_plain.sent.size(), 4u);
  EXPECT_EQ(plain.sent.size(), 8u);
}

TEST_F(RouteTest, NotBackToTheHostByTheSamePort) {
  made_->rule(to("192.0.2.0/24"), use_exit(made_->exit(ExitKind::host)));
  made_->rule(to("198.51.100.0/24"), use_exit(made_->port(0)));
  made_->rule(all(), use_exit(made_->port(1)));
  put_in_force(*made_);
  from_host(
      std::vector<Bytes>{between("10.0.0.9", "192.0.2.1"), between("10.0.0.9", "198.51.100.1")});
  EXPECT_EQ(dropped(DropReason::exit_is_origin), 2u);
  EXPECT_TRUE(plain.sent.empty());
  from_host(std::vector<Bytes>{between("10.0.0.9", "203.0.113.1")});
  EXPECT_EQ(second_plain.sent.size(), 1u) << "by another it may";
}

TEST_F(RouteTest, ASuperPacketOfTheHostsIsWholeForAnotherPort) {
  all_by(made_->port(1));
  const Packet super = words(Family::v4, kProtocolTcp, 3001);
  from_host(std::vector<RxFrame>{plain_frame(build(super), offload_of(super, 1000))});
  ASSERT_EQ(second_plain.sent.size(), 1u);
  const Sent& sent = second_plain.sent[0];
  EXPECT_EQ(sent.bytes, build(super));
  EXPECT_EQ(sent.offload.gso, Gso::tcp4);
  EXPECT_EQ(sent.offload.gso_size, 1000);
  EXPECT_EQ(sent.offload.header_bytes, super.header_bytes());
}

TEST_F(RouteTest, APortThatTakesNoSuperPacketsGetsThemCut) {
  all_by(made_->port(1));
  second_plain.joined = false;
  for (const Family family : {Family::v4, Family::v6}) {
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      second_plain.sent.clear();
      const Packet super = words(family, protocol, 3001);
      from_host(std::vector<RxFrame>{plain_frame(build(super), offload_of(super, 1000))});
      const std::vector<Bytes> expected = naive_segments(super, 1000);
      ASSERT_EQ(second_plain.sent.size(), expected.size());
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(second_plain.sent[i].bytes, expected[i]);
        EXPECT_EQ(second_plain.sent[i].offload.gso, Gso::none);
        EXPECT_FALSE(second_plain.sent[i].offload.needs_checksum);
      }
    }
  }
}

TEST_F(RouteTest, ManySegmentsForAPortThatTakesNoSuperPackets) {
  all_by(made_->port(1));
  second_plain.joined = false;
  Packet super = words(Family::v4, kProtocolTcp, 60'000);
  super.tcp_options = Bytes(12, 1);
  from_host(std::vector<RxFrame>{plain_frame(build(super), offload_of(super, 100)),
                                 plain_frame(build(super), offload_of(super, 536))});
  std::vector<Bytes> expected = naive_segments(super, 100);
  for (Bytes& segment : naive_segments(super, 536)) {
    expected.push_back(std::move(segment));
  }
  ASSERT_EQ(second_plain.sent.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(second_plain.sent[i].bytes, expected[i]) << i;
  }
}

TEST_F(RouteTest, WhatWasJoinedForOnePortIsCutForAnother) {
  all_by(made_->port(1));
  second_plain.joined = false;
  const Packet super = words(Family::v4, kProtocolTcp, 3000, false);
  std::vector<RxFrame> frames;
  const std::vector<Bytes> segments = naive_segments(super, 1000);
  for (size_t i = 0; i < segments.size(); ++i) {
    frames.push_back(outer_frame(sealed(*sessions_[1], i, segments[i])));
  }
  from_network(std::move(frames));
  ASSERT_EQ(second_plain.sent.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(second_plain.sent[i].bytes, segments[i]);
  }
}

TEST_F(RouteTest, AJoinedRunCrossesToAPeerSegmentBySegment) {
  all_by(made_->peer(tag(11)));
  const Packet super = words(Family::v4, kProtocolTcp, 3000, false);
  std::vector<RxFrame> frames;
  std::vector<Bytes> segments = naive_segments(super, 1000);
  for (size_t i = 0; i < segments.size(); ++i) {
    frames.push_back(outer_frame(sealed(*sessions_[1], i, segments[i])));
    --segments[i][8];
    fix_ip_checksum(segments[i]);
  }
  from_network(std::move(frames));
  EXPECT_EQ(at_peer(11), segments);
}

TEST_F(RouteTest, TrainsOfTwoTunnelsLeaveByTheirOwnSockets) {
  made_->rule(dport(1), use_exit(made_->peer(tag(11))));
  made_->rule(dport(2), use_exit(made_->peer(tag(2))));
  put_in_force(*made_);
  std::vector<Bytes> packets;
  for (int i = 0; i < 30; ++i) {
    Packet packet = words(Family::v4, kProtocolUdp, 20);
    packet.destination_port = static_cast<uint16_t>(1 + i / 2 % 2);
    packets.push_back(between("10.0.0.9", "192.0.2.1", packet));
  }
  from_host(packets);
  EXPECT_EQ(at_peer(11).size(), 16u);
  EXPECT_EQ(at_peer(2).size(), 14u);
  for (const Sent& train : second_outer.sent) {
    EXPECT_EQ(train.to.port, 11);
  }
  for (const Sent& train : outer.sent) {
    EXPECT_EQ(train.to.port, 2);
  }
}

TEST_F(RouteTest, WithoutASessionItWaitsInThePeersOwnTunnel) {
  tunnel_of(peer(11)).retire(peer(11).keypairs.clear());
  all_by(made_->peer(tag(11)));
  from_peer(1, between("10.0.0.2", "192.0.2.1"));
  EXPECT_FALSE(second_tunnel.staging.empty(peer(11).staged));
  Message message;
  ASSERT_TRUE(handshaker.take(message));
  EXPECT_EQ(message.tunnel, 1u);
  EXPECT_EQ(message.peer, 11u);
  EXPECT_EQ(message.kind, Message::Kind::request);
}

TEST_F(RouteTest, ADownTunnelTakesNothing) {
  made_->rule(to("192.0.2.0/24"), use_exit(made_->peer(tag(11))));
  made_->rule(all(), use_exit(made_->tunnel(1)));
  const Policy& policy = put_in_force(*made_);
  snapshot.tunnels[1].up = false;
  tunnel_of(peer(11)).retire(peer(11).keypairs.clear());
  from_host(std::vector<Bytes>{between("10.0.0.9", "192.0.2.1"), between("10.0.0.9", "10.1.0.12")});
  EXPECT_EQ(dropped(DropReason::tunnel_down), 2u);
  EXPECT_TRUE(second_tunnel.staging.empty(peer(11).staged))
      << "it must not come out when that is up";
  EXPECT_EQ(plain.sent.size(), 2u) << "the host is told";
  EXPECT_EQ(rule_drops(policy, 0), 1u);
}

TEST_F(RouteTest, WhatIsBehindAnExitMayBeGone) {
  const uint32_t name = tag(11);
  made_->rule(dport(1), use_exit(made_->peer(name)));
  made_->rule(dport(2), use_exit(made_->tunnel(1)));
  made_->rule(dport(3), use_exit(made_->tunnel(7)));
  made_->rule(dport(4), use_exit(made_->port(1)));
  made_->rule(dport(5), use_exit(made_->port(7)));
  const Policy& policy = put_in_force(*made_);
  tags.unbind(peer(11));
  snapshot.tunnels[1] = TunnelView{};
  for (uint16_t port = 1; port <= 5; ++port) {
    plain.sent.clear();
    Packet packet = words(Family::v4, kProtocolUdp, 20);
    packet.destination_port = port;
    from_host(std::vector<Bytes>{between("10.0.0.9", "192.0.2.1", packet)});
    EXPECT_EQ(dropped(DropReason::exit_gone), port);
    ASSERT_EQ(plain.sent.size(), 1u) << "the host is told, port " << port;
    EXPECT_EQ(plain.sent[0].bytes[20], 3);
    EXPECT_EQ(rule_drops(policy, port - 1u), 1u);
    EXPECT_EQ(exit_drops(policy, port - 1u), 1u);
  }
}

TEST_F(RouteTest, AnExitMayBeUnreachable) {
  all_by(made_->exit(ExitKind::unreachable));
  from_host(std::vector<Bytes>{between("10.0.0.9", "192.0.2.1")});
  from_peer(1, between("10.0.0.2", "192.0.2.1"));
  EXPECT_EQ(dropped(DropReason::policy_reject), 2u);
  EXPECT_EQ(plain.sent.size(), 1u);
  EXPECT_EQ(at_peer(1).size(), 1u);
}

TEST_F(RouteTest, PrivateDestinationsAreKeptFromAnExitPeer) {
  const PrefixSet* only = sets.add({"192.168.7.0/24", "fd12::/16"});
  made_->rule(dport(1), use_exit(made_->peer(tag(11), LanPolicy::deny)));
  made_->rule(dport(2), use_exit(made_->peer(tag(11), LanPolicy::only, only)));
  made_->rule(dport(3), use_exit(made_->peer(tag(11))));
  put_in_force(*made_);
  const struct {
    const char* destination;
    bool is_private, is_in_set;
  } cases[] = {
      {"9.255.255.255", false, false},   {"10.0.0.0", true, false},
      {"10.255.255.255", true, false},   {"11.0.0.0", false, false},
      {"100.63.255.255", false, false},  {"100.64.0.0", true, false},
      {"100.127.255.255", true, false},  {"100.128.0.0", false, false},
      {"169.253.255.255", false, false}, {"169.254.0.0", true, false},
      {"169.255.0.0", false, false},     {"172.15.255.255", false, false},
      {"172.16.0.0", true, false},       {"172.31.255.255", true, false},
      {"172.32.0.0", false, false},      {"192.167.255.255", false, false},
      {"192.168.0.0", true, false},      {"192.168.7.1", true, true},
      {"192.169.0.0", false, false},     {"fbff::1", false, false},
      {"fc00::1", true, false},          {"fd12::1", true, true},
      {"fdff::1", true, false},          {"fe7f::1", false, false},
      {"fe80::1", true, false},          {"febf::1", true, false},
      {"fec0::1", false, false},         {"2001:db8::1", false, false},
  };
  for (const auto& each : cases) {
    const bool v4 = std::string(each.destination).find(':') == std::string::npos;
    for (uint16_t port = 1; port <= 3; ++port) {
      context->now += kSecond;  // for the sake of the ICMP budget
      second_outer.sent.clear();
      plain.sent.clear();
      Packet packet = words(v4 ? Family::v4 : Family::v6, kProtocolUdp, 20);
      packet.destination_port = port;
      from_host(std::vector<Bytes>{between(v4 ? "10.0.0.9" : "fd00::9", each.destination, packet)});
      const bool passes = !each.is_private || port == 3 || (port == 2 && each.is_in_set);
      EXPECT_EQ(at_peer(11).size(), passes ? 1u : 0u) << each.destination << " by " << port;
      ASSERT_EQ(plain.sent.size(), passes ? 0u : 1u);
      if (!passes) {
        const Bytes& told = plain.sent[0].bytes;
        EXPECT_EQ(told[v4 ? 21 : 41], v4 ? 13 : 1) << "administratively prohibited";
      }
    }
  }
  EXPECT_GT(dropped(DropReason::lan_denied), 0u);
}

TEST_F(RouteTest, ErrorsAreFew) {
  all_by(made_->exit(ExitKind::unreachable));
  for (int i = 0; i < 10; ++i) {
    from_host(std::vector<Bytes>(30, between("10.0.0.9", "192.0.2.1")));
  }
  EXPECT_EQ(plain.sent.size(), 50u) << "a burst of them, at one moment";
  EXPECT_EQ(dropped(DropReason::policy_reject), 300u);
}

TEST_F(RouteTest, NoRoomForAnAnswerIsNoHarm) {
  made_->rule(all(), act(Kind::reset));
  put_in_force(*made_);
  std::vector<RxFrame> frames;
  for (size_t i = 0; i < 40; ++i) {  // the pool has 64, and each answer wants one
    frames.push_back(
        outer_frame(sealed(*sessions_[1], i, between("10.0.0.2", "192.0.2.1", words()))));
  }
  from_network(std::move(frames));
  EXPECT_EQ(dropped(DropReason::policy_reject), 40u);
  EXPECT_EQ(at_peer(1).size(), 0u)
      << "the answers took every buffer, and none was left to seal into";
  EXPECT_EQ(dropped(DropReason::pool_dry), 24u);
}

TEST_F(RouteTest, ATraceTellsWhereItWent) {
  made_->rule(dport(1), use_exit(made_->tunnel(1)));
  made_->rule(dport(2), use_exit(made_->port(1)));
  put_in_force(*made_);
  const auto told = [&](uint16_t port) {
    Packet words_of = words(Family::v4, kProtocolUdp, 20);
    words_of.destination_port = port;
    Bytes packet = between("10.0.0.9", "10.1.0.12", words_of);
    sallyport::Run& run = context->burst.add();
    run.head = packet.data();
    run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
    EXPECT_TRUE(parse(run));
    run.trace = 1;
    context->traces[0].count = 0;
    context->dry = true;
    policy(*context);
    route(*context);
    context->dry = false;
    context->end_burst();
    return context->traces[0];
  };
  const Trace by_tunnel = told(1);
  EXPECT_EQ(steps(by_tunnel, What::allowed_ips)[0].number, 1u);
  EXPECT_EQ(steps(by_tunnel, What::allowed_ips)[0].a, 1u);
  EXPECT_EQ(steps(by_tunnel, What::peer)[0].number, 1u);
  EXPECT_EQ(steps(by_tunnel, What::peer)[0].a, 11u);
  EXPECT_EQ(steps(told(2), What::host)[0].number, 1u);
  EXPECT_EQ(steps(told(3), What::drop)[0].a, static_cast<uint32_t>(DropReason::no_peer));
  EXPECT_EQ(dropped_in_all(), 0u) << "a rehearsal drops nothing";
  EXPECT_TRUE(plain.sent.empty()) << "and tells nobody";
}

}  // namespace
}  // namespace sallyport::test
