// One prefix for another, both ways, whatever is known of flows.
#include "dataplane/path/prefixes.h"

#include "tests/dataplane/path/nat_line.h"

namespace sallyport::test {
namespace {

// Inside, fd00:: (peers 1 and 2, the first tunnel), is 2001:db8:1:: outside, by peer 12 of the second tunnel.
class Prefixes : public NatLine {
 protected:
  void SetUp() override {
    NatLine::SetUp();
    made_->rule(to("fd00::/48"), use_exit(made_->tunnel(0)));
    made_->rule(to("2000::/3"), use_exit(made_->peer(tag(12))));
    NatRule rule = nptv6("fd00::/48", "2001:db8:1::/48");
    rule.way_out.oif.values = {iif_number(1, false)};
    nat(all(), rule);
    begin_policy();
    const uint8_t everywhere[16] = {};
    second_tunnel.allowed_v6.insert(Lpm6::from_bytes(everywhere), 0, 12);
    outer_ = *parse_address("fd00::2");
    EXPECT_TRUE(Nptv6::make(*parse_prefix("fd00::/48"), *parse_prefix("2001:db8:1::/48"))
                    ->to_outside(outer_.bytes.data()));
  }
  std::string outer() const { return to_text(outer_); }
  std::string outer_of(const std::string& inner) const {
    IpAddress address = *parse_address(inner);
    EXPECT_TRUE(Nptv6::make(*parse_prefix("fd00::/48"), *parse_prefix("2001:db8:1::/48"))
                    ->to_outside(address.bytes.data()));
    return to_text(address);
  }

  IpAddress outer_;  // of peer 1
};

TEST_F(Prefixes, BothWays) {
  from_peer(1, udp("fd00::2", 5000, "2001:db8:9::1", 53));
  EXPECT_EQ(only(at_peer(12)), outer() + ":5000 > 2001:db8:9::1:53");
  from_peer(12, udp("2001:db8:9::1", 53, outer(), 5000));
  EXPECT_EQ(only(at_peer(1)), "2001:db8:9::1:53 > fd00::2:5000");
  EXPECT_EQ(flows_->size(), 1u) << "it is followed, by inner addresses";
  EXPECT_EQ(dropped_in_all(), 0u);
}

TEST_F(Prefixes, TheOutsideMayBegin) {
  from_peer(12, tcp("2001:db8:9::1", 4000, outer(), 80, kTcpSyn));
  EXPECT_EQ(only(at_peer(1)), "2001:db8:9::1:4000 > fd00::2:80");
  from_peer(1, tcp("fd00::2", 80, "2001:db8:9::1", 4000, kTcpSyn | kTcpAck));
  EXPECT_EQ(only(at_peer(12)), outer() + ":80 > 2001:db8:9::1:4000");
}

TEST_F(Prefixes, WithoutAFlowToo) {
  from_peer(1, tcp("fd00::2", 80, "2001:db8:9::1", 4000, kTcpSyn | kTcpFin));
  EXPECT_EQ(only(at_peer(12)), outer() + ":80 > 2001:db8:9::1:4000") << "it is no packet of a flow";
  EXPECT_EQ(flows_->size(), 0u);
}

TEST_F(Prefixes, OnlyByItsWayOut) {
  from_peer(1, udp("fd00::2", 5000, "fd00::3", 53));
  EXPECT_EQ(only(at_peer(2)), "fd00::2:5000 > fd00::3:53");
  from_peer(12, udp("2001:db8:9::1", 1, "2001:db8:2::1", 2));
  EXPECT_EQ(dropped(DropReason::nat_unable), 0u) << "somebody else's prefix";
}

TEST_F(Prefixes, InsidersMeetByOuterAddresses) {
  from_peer(1, udp("fd00::2", 5000, outer_of("fd00::3"), 53));
  EXPECT_EQ(only(at_peer(2)), outer() + ":5000 > fd00::3:53");
  from_peer(2, udp("fd00::3", 53, outer(), 5000));
  EXPECT_EQ(only(at_peer(1)), outer_of("fd00::3") + ":53 > fd00::2:5000");
}

TEST_F(Prefixes, ErrorsInwards) {
  const Bytes sent = udp(outer(), 5000, "2001:db8:9::1", 53);
  from_peer(12, error_about("2001:db8:5::5", outer(), sent, 1, 0, 88));
  const auto out = at_peer(1);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(ends(out[0]), "2001:db8:5::5:0 > fd00::2:0");
  EXPECT_EQ(ends(quoted(out[0])), "fd00::2:5000 > 2001:db8:9::1:53")
      << "the packet that it sent, its checksum right";
}

TEST_F(Prefixes, ErrorsOutwards) {
  const Bytes got = udp("2001:db8:9::1", 4000, "fd00::2", 53);
  from_peer(1, error_about("fd00::2", "2001:db8:9::1", got, 1, 4, 88));
  const auto out = at_peer(12);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(ends(out[0]), outer() + ":0 > 2001:db8:9::1:0");
  EXPECT_EQ(ends(quoted(out[0])), "2001:db8:9::1:4000 > " + outer() + ":53");
}

TEST_F(Prefixes, WhatCannotBeTranslatedIsToldSo) {
  tunnel.allowed_v6.insert(Lpm6::from_bytes(parse_address("fd00:0:0:ffff::")->bytes.data()), 64, 1);
  from_peer(1, udp("fd00:0:0:ffff::2", 5000, "2001:db8:9::1", 53));
  EXPECT_TRUE(at_peer(12).empty());
  EXPECT_EQ(dropped(DropReason::nat_unable), 1u);
}

TEST_F(Prefixes, OurOwnErrorsAreAboutWhatWasSent) {
  Bytes last = udp("2001:db8:9::1", 4000, outer(), 53);
  last[7] = 1;  // its hop limit
  from_peer(12, last);
  const auto told = at_peer(12);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(ends(told[0]), outer() + ":0 > 2001:db8:9::1:0");
  EXPECT_EQ(ends(quoted(told[0])), "2001:db8:9::1:4000 > " + outer() + ":53");
}

}  // namespace
}  // namespace sallyport::test
