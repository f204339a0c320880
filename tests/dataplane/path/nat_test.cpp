// Flows through the line: made, followed both ways, translated, filtered.
#include "dataplane/path/nat.h"

#include <map>
#include <random>
#include <set>

#include "dataplane/path/track.h"
#include "tests/dataplane/path/nat_line.h"

namespace sallyport::test {
namespace {

using NatTest = NatLine;

TEST_F(NatTest, WithoutRulesAFlowIsKeptAndNothingChanges) {
  made_->rule(all(), use_exit(made_->peer(tag(12))));
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53)});
  EXPECT_EQ(only(at_peer(12)), "192.168.1.7:5000 > 198.51.100.1:53");
  EXPECT_EQ(flows_->size(), 1u);
  EXPECT_EQ(dropped_in_all(), 0u);
}

TEST_F(NatTest, MasqueradeBothWays) {
  made_->rule(by(0, true), use_exit(made_->peer(tag(12))));
  nat(from("192.168.1.0/24"), masquerade());
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53)});
  EXPECT_EQ(only(at_peer(12)), "10.9.1.1:5000 > 198.51.100.1:53")
      << "the port is free, so it stays";
  second_tunnel.allowed_v4.insert(Lpm4::from_bytes(parse_address("198.51.100.0")->bytes.data()), 24,
                                  12);
  from_peer(12, udp("198.51.100.1", 53, "10.9.1.1", 5000));
  EXPECT_EQ(only(to_host()), "198.51.100.1:53 > 192.168.1.7:5000")
      << "by the port it came from, though it came in by the other tunnel";
  EXPECT_TRUE(second_plain.sent.empty());
  forget();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53)});
  EXPECT_EQ(only(at_peer(12)), "10.9.1.1:5000 > 198.51.100.1:53");
  EXPECT_EQ(flows_->size(), 1u);
  EXPECT_EQ(dropped_in_all(), 0u);
}

TEST_F(NatTest, TwoOfOnePortGetTwoPorts) {
  made_->rule(all(), use_exit(made_->peer(tag(12))));
  nat(all(), masquerade());
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 40001, "198.51.100.1", 53),
                    udp("192.168.1.8", 40001, "198.51.100.1", 53),
                    udp("192.168.1.8", 40001, "198.51.100.1", 53)});
  const auto out = at_peer(12);
  ASSERT_EQ(out.size(), 3u);
  EXPECT_EQ(ends(out[0]), "10.9.1.1:40001 > 198.51.100.1:53");
  EXPECT_NE(ends(out[1]), ends(out[0]));
  EXPECT_EQ(ends(out[2]), ends(out[1])) << "the second packet of a flow that the burst began";
  EXPECT_EQ(flows_->size(), 2u);
}

TEST_F(NatTest, ExhaustionHasAName) {
  made_->rule(all(), use_exit(made_->peer(tag(12))));
  nat(all(), masquerade());
  begin_policy(40000, 40003);
  for (int i = 1; i <= 9; ++i) {
    from_host(Packets{tcp("192.168.1." + std::to_string(i), 40000, "198.51.100.1", 443, kTcpSyn)});
  }
  const auto out = at_peer(12);
  EXPECT_EQ(out.size(), 4u);
  std::set<std::string> seen;
  for (const Bytes& packet : out) {
    seen.insert(ends(packet));
  }
  EXPECT_EQ(seen.size(), 4u) << "never a reuse";
  EXPECT_EQ(dropped(DropReason::nat_no_port), 5u);
  from_host(Packets{tcp("192.168.1.9", 40000, "198.51.100.2", 443, kTcpSyn)});
  EXPECT_EQ(at_peer(12).size(), 5u) << "towards another destination they are free";
}

TEST_F(NatTest, TheFirstRuleCountsAndNoneIsOne) {
  made_->rule(all(), use_exit(made_->peer(tag(12))));
  nat(to("198.51.100.0/24"), rule_of(NatKind::none));
  nat(all(), snat("203.0.113.5"));
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53),
                    udp("192.168.1.7", 5000, "192.0.2.1", 53)});
  const auto out = at_peer(12);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(ends(out[0]), "192.168.1.7:5000 > 198.51.100.1:53");
  EXPECT_EQ(ends(out[1]), "203.0.113.5:5000 > 192.0.2.1:53");
}

TEST_F(NatTest, ARuleMayAskForTheWayOut) {
  made_->rule(to("198.51.100.0/24"), use_exit(made_->peer(tag(12))));
  NatRule rule = snat("203.0.113.5");
  rule.way_out.oif.values = {iif_number(1, false)};
  nat(all(), rule);
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53),
                    udp("192.168.1.7", 5000, "10.0.0.2", 53)});
  EXPECT_EQ(only(at_peer(12)), "203.0.113.5:5000 > 198.51.100.1:53");
  EXPECT_EQ(only(at_peer(1)), "192.168.1.7:5000 > 10.0.0.2:53");
}

TEST_F(NatTest, DestinationIsTranslatedBeforeTheRules) {
  made_->rule(to("10.1.0.13"), use_exit(made_->peer(tag(12))));
  tag(1);  // answers find their way by it
  nat(dport(22), rule_of(NatKind::none));
  nat(by(0, false), dnat("10.1.0.13", 8080));
  begin_policy();
  from_peer(1, tcp("10.0.0.2", 4000, "192.0.2.80", 80, kTcpSyn));
  EXPECT_EQ(only(at_peer(12)), "10.0.0.2:4000 > 10.1.0.13:8080");
  from_peer(12, tcp("10.1.0.13", 8080, "10.0.0.2", 4000, kTcpSyn | kTcpAck));
  EXPECT_EQ(only(at_peer(1)), "192.0.2.80:80 > 10.0.0.2:4000");
  from_peer(1, tcp("10.0.0.2", 4000, "192.0.2.80", 22, kTcpSyn));
  EXPECT_EQ(only(to_host()), "10.0.0.2:4000 > 192.0.2.80:22") << "an exception";
}

TEST_F(NatTest, AnErrorFindsItsFlow) {
  made_->rule(by(0, true), use_exit(made_->peer(tag(12))));
  nat(all(), masquerade());
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53)});
  Bytes quoted = at_peer(12).at(0);
  quoted.resize(28);
  Packet words_of = words(Family::v4, kProtocolIcmp, 0);
  words_of.payload = {3, 1, 0, 0, 0, 0, 0, 0};  // from a router on the way
  words_of.payload.insert(words_of.payload.end(), quoted.begin(), quoted.end());
  put16(words_of.payload, 2,
        0xffffu & ~naive_sum(words_of.payload.data(), words_of.payload.size()));
  from_peer(12, between("10.1.0.13", "10.9.1.1", words_of));
  ASSERT_EQ(to_host().size(), 1u);
  const Bytes error = to_host()[0];
  EXPECT_EQ(IpAddress::v4(error.data() + 28 + 12), *parse_address("192.168.1.7"))
      << "as it sent it";
  EXPECT_EQ(error[28 + 20] << 8 | error[28 + 21], 5000);
  EXPECT_EQ(naive_sum(error.data() + 20, error.size() - 20), 0xffff);
  EXPECT_EQ(IpAddress::v4(error.data() + 16), *parse_address("192.168.1.7"));
  EXPECT_EQ(IpAddress::v4(error.data() + 12), *parse_address("10.1.0.13"));
}

TEST_F(NatTest, AReplyGoesBackWhereItsFlowCameFrom) {
  // Peers 11 and 12 both may send from everywhere; the host's own route to 172.16.0.1 would be peer 11.
  made_->rule(by(0, true), use_exit(made_->peer(tag(11))));
  const uint32_t twelve = tag(12);
  made_->rule(sallyport::test::from_peer(twelve), use_exit(made_->exit(ExitKind::host)));
  begin_policy();
  const uint8_t everywhere[4] = {};
  second_tunnel.allowed_v4.insert(Lpm4::from_bytes(everywhere), 0, 12);
  from_peer(12, tcp("172.16.0.1", 4000, "10.9.1.1", 80, kTcpSyn));
  ASSERT_EQ(second_plain.sent.size(), 1u);
  from_host(Packets{tcp("10.9.1.1", 80, "172.16.0.1", 4000, kTcpSyn | kTcpAck)});
  EXPECT_EQ(at_peer(12).size(), 1u);
  EXPECT_EQ(at_peer(11).size(), 0u);
  from_host(Packets{tcp("10.9.1.1", 81, "172.16.0.1", 4000, kTcpSyn)});
  EXPECT_EQ(at_peer(11).size(), 1u) << "a flow of its own goes by the rules";
}

TEST_F(NatTest, ANewPolicyIsAskedAtTheNextPacket) {
  const uint32_t eleven = tag(11), twelve = tag(12);
  made_->rule(all(), use_exit(made_->peer(twelve)));
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53)});
  EXPECT_EQ(at_peer(12).size(), 1u);
  auto before = std::move(in_force);
  again();
  made_->rule(all(), use_exit(made_->peer(eleven)));
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53)});
  EXPECT_EQ(at_peer(11).size(), 1u);
  EXPECT_EQ(at_peer(12).size(), 1u);
  EXPECT_EQ(flows_->size(), 1u) << "it is the same flow";
}

TEST_F(NatTest, WhatWasDecidedIsOfWhereItCameIn) {
  made_->rule(by(0, true), use_exit(made_->peer(tag(12))));
  made_->rule(by(1, true), use_exit(made_->peer(tag(11))));
  begin_policy();
  const Bytes packet = udp("192.168.1.7", 5000, "198.51.100.1", 53);
  from_host(Packets{packet});
  context->enter(1);
  from_host(Packets{packet});
  context->enter(0);
  EXPECT_EQ(at_peer(12).size(), 1u);
  EXPECT_EQ(at_peer(11).size(), 1u) << "the host sends it into the other tunnel now";
  EXPECT_EQ(flows_->size(), 1u);
}

TEST_F(NatTest, AMasqueradedFlowBeginsAnewWhenItsTunnelChanges) {
  const uint32_t one = tag(1), twelve = tag(12);
  made_->rule(all(), use_exit(made_->peer(twelve)));
  nat(all(), masquerade());
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53)});
  auto before = std::move(in_force);
  again();
  made_->rule(all(), use_exit(made_->peer(one)));
  nat(all(), masquerade());
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53)});
  EXPECT_EQ(only(at_peer(1)), "10.9.0.1:5000 > 198.51.100.1:53");
  EXPECT_EQ(flows_->size(), 1u);
}

TEST_F(NatTest, WhatHasNoAddressThereIsNotSent) {
  made_->rule(all(), use_exit(made_->peer(tag(12))));
  nat(all(), masquerade());
  begin_policy();
  from_host(Packets{udp("fd00::7", 5000, "2001:db8::1", 53)});
  EXPECT_EQ(at_peer(12).size(), 0u);
  EXPECT_EQ(dropped(DropReason::nat_no_address), 1u);
}

TEST_F(NatTest, FiltersByStateAndWayOut) {
  made_->rule(to("198.51.100.0/24"), use_exit(made_->peer(tag(12))));
  filter(all(),
         does(FilterAction::accept, static_cast<uint8_t>(FilterRule::bit(FlowState::established) |
                                                         FilterRule::bit(FlowState::related))));
  filter(by(0, true), does(FilterAction::accept));
  filter(dport(7), does(FilterAction::reject));
  made_->policy().filter.accept_unmatched = false;
  begin_policy();
  from_host(Packets{udp("10.0.0.9", 5000, "10.0.0.2", 53)});
  EXPECT_EQ(at_peer(1).size(), 1u);
  from_peer(1, udp("10.0.0.2", 53, "10.0.0.9", 5000));
  EXPECT_EQ(to_host().size(), 1u) << "an answer is of an established flow";
  from_peer(1, udp("10.0.0.2", 54, "10.0.0.9", 5000));
  EXPECT_EQ(to_host().size(), 1u);
  EXPECT_EQ(dropped(DropReason::filter_drop), 1u);
  from_peer(1, udp("10.0.0.2", 54, "10.0.0.9", 7));
  EXPECT_EQ(dropped(DropReason::filter_reject), 1u);
  EXPECT_EQ(at_peer(1).size(), 2u) << "who is told";
  EXPECT_EQ(flows_->size(), 1u) << "what may not pass makes no flow";
}

TEST_F(NatTest, FlowsThatAreNotPairedAreSpread) {
  made_->rule(all(), use_exit(made_->peer(tag(12))));
  NatRule rule = rule_of(NatKind::snat, "203.0.113.1", "203.0.113.4");
  rule.paired = false;
  nat(all(), rule);
  begin_policy();
  std::set<std::string> addresses;
  for (uint16_t port = 1; port <= 64; ++port) {
    forget();
    from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", port)});
    const std::string is = only(at_peer(12));
    addresses.insert(is.substr(0, is.find(':')));
  }
  EXPECT_EQ(addresses.size(), 4u);
}

TEST_F(NatTest, FlowsThatAreNotPairedGoOnToTheNextAddress) {
  made_->rule(all(), use_exit(made_->peer(tag(12))));
  NatRule rule = rule_of(NatKind::snat, "203.0.113.1", "203.0.113.4");
  rule.paired = false;
  nat(all(), rule);
  begin_policy(40000, 40000);
  std::set<std::string> seen;
  for (int i = 1; i <= 5; ++i) {
    forget();
    from_host(Packets{udp("192.168.1." + std::to_string(i), 5000, "198.51.100.1", 53)});
    seen.insert(only(at_peer(12)));
  }
  EXPECT_EQ(seen.size(), 5u) << "four addresses with a port each, and one that gets none";
  EXPECT_EQ(dropped(DropReason::nat_no_port), 1u);
}

TEST_F(NatTest, AnEndThatIsNotPairedHasOneOuterEnd) {
  made_->rule(all(), use_exit(made_->peer(tag(12))));
  NatRule rule = independent(rule_of(NatKind::snat, "203.0.113.1", "203.0.113.4"));
  rule.paired = false;
  nat(all(), rule);
  begin_policy();
  std::set<std::string> ends;
  for (uint16_t port = 1; port <= 32; ++port) {
    forget();
    from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", port)});
    const std::string is = only(at_peer(12));
    ends.insert(is.substr(0, is.find(' ')));
  }
  EXPECT_EQ(ends.size(), 1u);
}

TEST_F(NatTest, AMappingGoesWithItsLastFlow) {
  made_->rule(all(), use_exit(made_->peer(tag(12))));
  nat(all(), independent(masquerade()));
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53),
                    udp("192.168.1.7", 5000, "198.51.100.2", 53)});
  EXPECT_EQ(flows_->size(), 2u);
  EXPECT_EQ(flows_->mappings().size(), 1u);
  for (int left = 1; left >= 0; --left) {
    uint32_t one = FlowRef::kNone;
    flows_->for_each([&](const FlowInfo& flow) { one = flow.flow; });
    EXPECT_TRUE(flows_->remove(one));
    EXPECT_EQ(flows_->mappings().size(), left > 0 ? 1u : 0u);
  }
}

TEST_F(NatTest, OtherRulesKeepAwayFromMappings) {
  made_->rule(all(), use_exit(made_->peer(tag(12))));
  nat(from("192.168.1.7"), independent(masquerade()));
  nat(all(), masquerade());
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53)});
  forget();
  from_host(Packets{udp("192.168.1.8", 5000, "198.51.100.2", 53)});
  const std::string is = only(at_peer(12));
  EXPECT_FALSE(is.starts_with("10.9.1.1:5000 ")) << is;
  EXPECT_TRUE(is.starts_with("10.9.1.1:")) << is;
}

TEST_F(NatTest, ADestinationStaysTranslatedWhenTheFlowBeginsAnew) {
  const uint32_t one = tag(1), twelve = tag(12);
  made_->rule(all(), use_exit(made_->peer(twelve)));
  nat(to("192.0.2.80"), dnat("10.1.0.13"));
  nat(all(), masquerade());
  begin_policy();
  from_host(Packets{udp("192.168.1.7", 5000, "192.0.2.80", 53)});
  EXPECT_EQ(only(at_peer(12)), "10.9.1.1:5000 > 10.1.0.13:53");
  auto before = std::move(in_force);
  again();
  made_->rule(all(), use_exit(made_->peer(one)));
  begin_policy();
  forget();
  for (int i = 0; i < 2; ++i) {
    from_host(Packets{udp("192.168.1.7", 5000, "192.0.2.80", 53)});
  }
  const auto out = at_peer(1);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(ends(out[0]), "192.168.1.7:5000 > 10.1.0.13:53");
  EXPECT_EQ(ends(out[1]), ends(out[0]));
}

TEST_F(NatTest, OurOwnErrorsAreAboutWhatWasSent) {
  tag(1);
  made_->rule(to("10.1.0.13"), act(RuleAction::Kind::unreachable));
  nat(to("192.0.2.80"), dnat("10.1.0.13", 8080));
  begin_policy();
  const Bytes sent = tcp("10.0.0.2", 4000, "192.0.2.80", 80, kTcpSyn);
  from_peer(1, sent);
  const auto told = at_peer(1);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(ends(told[0]), "192.0.2.80:0 > 10.0.0.2:0");
  EXPECT_EQ(ends(quoted(told[0])), ends(sent)) << "not about where it was sent on to";
}

TEST_F(NatTest, OurOwnResetsAreFromWhereItWasSent) {
  tag(1);
  made_->rule(to("10.1.0.13"), act(RuleAction::Kind::reset));
  nat(to("192.0.2.80"), dnat("10.1.0.13", 8080));
  begin_policy();
  from_peer(1, tcp("10.0.0.2", 4000, "192.0.2.80", 80, kTcpSyn));
  EXPECT_EQ(only(at_peer(1)), "192.0.2.80:80 > 10.0.0.2:4000");
}

TEST_F(NatTest, AFilterSeesTheMarkOfAKnownFlow) {
  made_->rule(all(), set_mark(7));
  made_->rule(all(), use_exit(made_->peer(tag(12))));
  filter(marked(7, UINT32_MAX), does(FilterAction::accept));
  made_->policy().filter.accept_unmatched = false;
  begin_policy();
  for (int i = 0; i < 2; ++i) {
    from_host(Packets{udp("192.168.1.7", 5000, "198.51.100.1", 53)});
  }
  EXPECT_EQ(at_peer(12).size(), 2u);
}

TEST_F(NatTest, LaterFragmentsGoWithTheFirst) {
  made_->rule(by(0, true), use_exit(made_->peer(tag(12))));
  nat(all(), masquerade());
  begin_policy();
  Bytes first = udp("192.168.1.7", 5000, "198.51.100.1", 53);
  first[4] = 1;
  first[6] = 0x20;  // more follow
  Bytes later = first;
  later[6] = 0;
  later[7] = static_cast<uint8_t>((first.size() - 20) / 8);
  first.resize(20 + 48);
  later.resize(20 + 16);
  for (Bytes* packet : {&first, &later}) {
    (*packet)[3] = static_cast<uint8_t>(packet->size());
    fix_ip_checksum(*packet);
  }
  from_host(Packets{later});
  EXPECT_EQ(dropped(DropReason::fragment_early), 1u);
  from_host(Packets{first});
  from_host(Packets{later});
  const auto out = at_peer(12);
  ASSERT_EQ(out.size(), 2u);
  for (const Bytes& packet : out) {
    EXPECT_EQ(IpAddress::v4(packet.data() + 12), *parse_address("10.9.1.1"));
    EXPECT_EQ(naive_sum(packet.data(), 20), 0xffff);
  }
}

// Whatever is sent by whom in whichever order: what leaves never has the tuple of another flow, answers come back to where their
// flow came from with the ends it had, and every checksum is right.
TEST_F(NatTest, IsABijection) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  made_->rule(by(0, true), use_exit(made_->peer(tag(12))));
  nat(from("192.168.1.0/28"), masquerade());
  nat(from("192.168.1.16/28"), rule_of(NatKind::snat, "203.0.113.1", "203.0.113.3"));
  begin_policy(40000, 40031);
  const uint8_t everywhere[4] = {};
  second_tunnel.allowed_v4.insert(Lpm4::from_bytes(everywhere), 0, 12);
  std::map<std::string, std::string> outside;  // what it left as, by what it was
  std::map<std::string, std::string> inside;
  for (int i = 0; i < 600; ++i) {
    forget();
    const std::string host = "192.168.1." + std::to_string(1 + random() % 40);
    const auto sport = static_cast<uint16_t>(40000 + random() % 4);
    const std::string server = "198.51.100." + std::to_string(1 + random() % 2);
    const bool is_tcp = random() % 2 == 0;
    const Bytes packet =
        is_tcp ? tcp(host, sport, server, 443, kTcpSyn) : udp(host, sport, server, 53);
    const std::string was = (is_tcp ? "tcp " : "udp ") + ends(packet);
    const uint64_t exhausted = dropped(DropReason::nat_no_port);
    from_host(Packets{packet});
    const auto out = at_peer(12);
    if (out.empty()) {
      EXPECT_EQ(dropped(DropReason::nat_no_port), exhausted + 1) << was;
      EXPECT_FALSE(outside.contains(was));
      continue;
    }
    const std::string is = (is_tcp ? "tcp " : "udp ") + only(out);
    ASSERT_EQ(is.find("damaged"), std::string::npos) << was << " as " << is;
    const auto [known, fresh] = outside.emplace(was, is);
    ASSERT_EQ(known->second, is) << "a flow keeps its translation";
    ASSERT_EQ(inside.emplace(is, was).first->second, was) << "and no other has it";
    // Its answer.
    const Bytes& sent = out[0];
    const std::string source = to_text(IpAddress::v4(sent.data() + 12));
    const auto port = static_cast<uint16_t>(sent[20] << 8 | sent[21]);
    from_peer(12, is_tcp ? tcp(server, 443, source, port, kTcpSyn | kTcpAck)
                         : udp(server, 53, source, port));
    ASSERT_EQ(only(to_host()), ends(is_tcp ? tcp(server, 443, host, sport, kTcpSyn | kTcpAck)
                                           : udp(server, 53, host, sport)));
  }
  EXPECT_GT(outside.size(), 50u);
}

}  // namespace
}  // namespace sallyport::test
