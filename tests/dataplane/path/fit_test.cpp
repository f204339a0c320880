// What leaves fits: MSS both ways, fragments, ICMP too-big with the right MTU. Peers 1 and 2 on the first tunnel (MTU 1420), 11 and 12 on
// the second (MTU 1300).
#include "dataplane/path/fit.h"

#include <optional>

#include "dataplane/net/mss.h"
#include "tests/dataplane/path/line.h"

namespace sallyport::test {
namespace {

class FitTest : public Line {
 protected:
  void SetUp() override {
    Line::SetUp();
    begin_second();
    for (const uint32_t slot : {1u, 2u, 11u, 12u}) {
      sessions_[slot] = &session(slot);
    }
    snapshot.tunnels[1].mtu = 1300;
    made_ = std::make_unique<PolicyMaker>(tags, kWorkers);
  }
  void TearDown() override {
    Line::TearDown();
    in_force.reset();
  }

  // Everything goes to this peer.
  void all_to(uint32_t slot) {
    made_->rule(all(), use_exit(made_->peer(tag(slot))));
    put_in_force(*made_);
  }
  void from_peer(uint32_t slot, const Bytes& packet) {
    from_network(*sessions_.at(slot), counter_[slot]++, packet);
  }
  std::vector<Bytes> at_peer(uint32_t slot) { return arrived_at(*sessions_.at(slot)); }

  static Bytes syn(Family family, uint16_t mss, uint8_t flags = kTcpSyn) {
    Packet packet = words(family, kProtocolTcp, 0);
    packet.flags = flags;
    packet.tcp_options = {2, 4, static_cast<uint8_t>(mss >> 8), static_cast<uint8_t>(mss)};
    return family == Family::v4 ? between("10.0.0.2", "198.51.100.1", packet)
                                : between("fd00::2", "2001:db8::1", packet);
  }
  static Bytes datagram(Family family, size_t payload, uint16_t fragment = 0) {
    Packet packet = words(family, kProtocolUdp, payload);
    packet.fragment = fragment;
    return family == Family::v4 ? between("10.0.0.2", "198.51.100.1", packet)
                                : between("fd00::2", "2001:db8::1", packet);
  }
  static std::optional<uint16_t> mss_in(std::vector<Bytes> packets) {
    if (packets.size() != 1) {
      return std::nullopt;
    }
    sallyport::Run run;
    run.head = packets[0].data();
    run.head_bytes = run.bytes = static_cast<uint32_t>(packets[0].size());
    EXPECT_TRUE(parse(run));
    EXPECT_TRUE(l4_checksum_right(packets[0], run.family, kProtocolTcp, run.l4_offset));
    return mss_of(run);
  }
  // The MTU that an ICMP error says; 0: it is none of "too big".
  static uint32_t mtu_told(const Bytes& packet) {
    if (packet[0] >> 4 == 4) {
      return packet[9] == 1 && packet[20] == 3 && packet[21] == 4
                 ? uint32_t{packet[26]} << 8 | packet[27]
                 : 0;
    }
    return packet[6] == 58 && packet[40] == 2 ? uint32_t{packet[46]} << 8 | packet[47] : 0;
  }

  std::map<uint32_t, wireguard::Keypair*> sessions_;
  std::map<uint32_t, uint64_t> counter_;
  std::unique_ptr<PolicyMaker> made_;
};

TEST_F(FitTest, ASynAsksForWhatItsWayCarries) {
  all_to(11);
  for (const auto& [family, limit] : {std::pair(Family::v4, 1260), std::pair(Family::v6, 1240)}) {
    for (const uint8_t flags : {kTcpSyn, static_cast<uint8_t>(kTcpSyn | kTcpAck)}) {
      from_host(Packets{syn(family, 1460, flags)});
      EXPECT_EQ(mss_in(at_peer(11)), limit);
      second_outer.sent.clear();
      from_host(Packets{syn(family, 500, flags)});
      EXPECT_EQ(mss_in(at_peer(11)), 500) << "never raised";
      second_outer.sent.clear();
    }
  }
}

TEST_F(FitTest, BothWaysCount) {
  second_tunnel.allowed_v4.insert(Lpm4::from_bytes(parse_address("10.0.0.2")->bytes.data()), 32,
                                  12);
  made_->rule(by(1, false), use_exit(made_->peer(tag(1))));
  put_in_force(*made_);
  from_peer(12, syn(Family::v4, 1460));  // in by 1300, out by 1420
  EXPECT_EQ(mss_in(at_peer(1)), 1260);
}

TEST_F(FitTest, TowardsTheHostTheWayInCounts) {
  put_in_force(*made_);
  from_peer(1, syn(Family::v4, 1460));
  EXPECT_EQ(mss_in(to_host()), 1380);
}

TEST_F(FitTest, ModesOfATunnel) {
  all_to(11);
  snapshot.tunnels[1].mss = MssMode::off;
  from_host(Packets{syn(Family::v4, 1460)});
  EXPECT_EQ(mss_in(at_peer(11)), 1460);
  second_outer.sent.clear();
  snapshot.tunnels[1].mss = MssMode::fixed;
  snapshot.tunnels[1].mss_bytes = 1000;
  from_host(Packets{syn(Family::v6, 1460)});
  EXPECT_EQ(mss_in(at_peer(11)), 1000);
}

TEST_F(FitTest, APeersPathIsSmallerThanItsTunnel) {
  all_to(1);
  peer(1).path_mtu.set_configured(1360);  // by IPv4: 1300 inside
  from_host(Packets{syn(Family::v4, 1460)});
  EXPECT_EQ(mss_in(at_peer(1)), 1260);
  outer.sent.clear();
  peer(1).path_mtu.learn(1260, kNow);
  from_host(Packets{syn(Family::v4, 1460)});
  EXPECT_EQ(mss_in(at_peer(1)), 1160);
  for (const Sent& train : outer.sent) {
    EXPECT_LE(train.bytes.size() + 28, 1260u);
  }
}

TEST_F(FitTest, WhatIsTooBigIsToldTheMtu) {
  all_to(11);
  from_host(Packets{datagram(Family::v4, 1300, kIpv4DontFragment)});
  from_host(Packets{datagram(Family::v6, 1300)});
  EXPECT_TRUE(at_peer(11).empty());
  const auto told = to_host();
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(mtu_told(told[0]), 1300u);
  EXPECT_EQ(mtu_told(told[1]), 1300u);
  EXPECT_EQ(dropped(DropReason::too_big), 2u);
}

TEST_F(FitTest, ExactlyTheMtuFits) {
  all_to(11);
  from_host(Packets{datagram(Family::v4, 1300 - 28, kIpv4DontFragment)});
  const auto arrived = at_peer(11);
  ASSERT_EQ(arrived.size(), 1u);
  EXPECT_EQ(arrived[0].size(), 1300u);
  EXPECT_EQ(dropped_in_all(), 0u);
}

TEST_F(FitTest, Ipv4MayBeCut) {
  all_to(11);
  const Bytes whole = datagram(Family::v4, 3000);
  from_host(Packets{whole});
  const auto parts = at_peer(11);
  ASSERT_EQ(parts.size(), 3u);
  Bytes payload;
  for (const Bytes& part : parts) {
    EXPECT_LE(part.size(), 1300u);
    EXPECT_EQ(naive_sum(part.data(), 20), 0xffff);
    const size_t at = ((part[6] << 8 | part[7]) & 0x1fff) * 8;
    EXPECT_EQ(at, payload.size());
    EXPECT_EQ((part[6] & 0x20) != 0, &part != &parts.back());
    payload.insert(payload.end(), part.begin() + 20, part.end());
  }
  EXPECT_EQ(payload, Bytes(whole.begin() + 20, whole.end()));
  EXPECT_EQ(dropped_in_all(), 0u);
}

TEST_F(FitTest, ASuperPacketCountsByItsSegments) {
  all_to(11);
  for (const auto& [gso_size, fits] : {std::pair(1260, true), std::pair(1261, false)}) {
    Packet packet = words(Family::v4, kProtocolTcp, 5000);
    const Bytes bytes = between("10.0.0.2", "198.51.100.1", packet);
    from_host({plain_frame(bytes, offload_of(packet, static_cast<uint16_t>(gso_size)))});
    EXPECT_EQ(!at_peer(11).empty(), fits) << gso_size;
    second_outer.sent.clear();
  }
  EXPECT_EQ(mtu_told(to_host().at(0)), 1300u);
}

TEST_F(FitTest, AloneWireGuardChangesNothing) {
  peer(1).path_mtu.set_configured(1000);
  Packet packet = words(Family::v4, kProtocolTcp, 0);
  packet.flags = kTcpSyn;
  packet.tcp_options = {2, 4, 0x05, 0xb4};
  from_host(Packets{between("10.9.9.9", "10.0.0.2", packet)});
  EXPECT_EQ(mss_in(at_peer(1)), 1460);
}

TEST_F(FitTest, WhatIsLearnedAges) {
  wireguard::PathMtu path;
  EXPECT_EQ(path.get(kNow), 0u);
  path.learn(1400, kNow);
  path.learn(1450, kNow);
  EXPECT_EQ(path.get(kNow), 1400u);
  path.learn(20, kNow);
  EXPECT_EQ(path.get(kNow), wireguard::kPathMtuMin);
  EXPECT_EQ(path.get(kNow + wireguard::kPathMtuLifetime), 0u);
  path.set_configured(1300);
  EXPECT_EQ(path.get(kNow), wireguard::kPathMtuMin);
  EXPECT_EQ(path.get(kNow + wireguard::kPathMtuLifetime), 1300u);
}

}  // namespace
}  // namespace sallyport::test
