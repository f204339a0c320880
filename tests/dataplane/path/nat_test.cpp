// Flows through the line: made, followed both ways, translated, filtered. Two tunnels: peers 1 and 2 on the first, 11 and 12 on
// the second; 10.0.0.9 is the host, which has 10.9.0.1 in the first tunnel and 10.9.1.1 in the second.
#include "dataplane/path/nat.h"

#include <map>
#include <random>
#include <set>

#include "dataplane/path/track.h"
#include "tests/dataplane/path/line.h"

namespace sallyport::test {
namespace {

class NatTest : public Line {
 protected:
  void SetUp() override {
    Line::SetUp();
    begin_second();
    snapshot.tunnels[0].address_v4 = *parse_address("10.9.0.1");
    snapshot.tunnels[1].address_v4 = *parse_address("10.9.1.1");
    snapshot.tunnels[0].address_v6 = *parse_address("fd09::1");
    for (const uint32_t slot : {1u, 2u, 11u, 12u}) {
      sessions_[slot] = &session(slot);
    }
    made_ = std::make_unique<PolicyMaker>(tags, kWorkers);
    flows_ = std::make_unique<FlowTable>(FlowTable::Config{.capacity = 1024});
    fragments_ = std::make_unique<FragmentTable>(64, 1);
  }
  void TearDown() override {
    Line::TearDown();
    in_force.reset();
  }

  void nat(RuleConditions conditions, NatRule rule) {
    nat_conditions_.push_back(std::move(conditions));
    nat_rules_.push_back(std::move(rule));
  }
  static NatRule rule_of(NatKind kind, const std::string& first = "",
                         const std::string& last = "") {
    NatRule rule;
    rule.kind = kind;
    if (!first.empty()) {
      rule.pool.push_back({*parse_address(first), *parse_address(last.empty() ? first : last)});
    }
    return rule;
  }
  static NatRule masquerade() { return rule_of(NatKind::masquerade); }
  static NatRule snat(const std::string& address) { return rule_of(NatKind::snat, address); }
  static NatRule dnat(const std::string& address, uint16_t port = 0) {
    NatRule rule = rule_of(NatKind::dnat, address);
    rule.port_first = rule.port_last = port;
    return rule;
  }
  static FilterRule does(FilterAction action, uint8_t states = 0) {
    FilterRule rule;
    rule.action = action;
    rule.states = states;
    return rule;
  }
  void filter(RuleConditions conditions, FilterRule rule) {
    filter_conditions_.push_back(std::move(conditions));
    filter_rules_.push_back(std::move(rule));
  }

  // Makes the policy and puts it in force. Ports `first_port` to `last_port` are there to choose from.
  void begin_policy(uint16_t first_port = 1024, uint16_t last_port = 65535) {
    Policy& policy = made_->policy();
    policy.flows = flows_.get();
    policy.fragments = fragments_.get();
    if (!nat_rules_.empty()) {
      policy.nat.table = std::move(*RuleTable::build(nat_conditions_));
      policy.nat.rules = std::move(nat_rules_);
    }
    for (unsigned worker = 0; worker < kWorkers; ++worker) {
      policy.nat.ports.emplace_back().push_back(
          std::make_unique<PortBlocks>(first_port, last_port, worker, kWorkers, 7));
    }
    if (!filter_rules_.empty()) {
      policy.filter.table = std::move(*RuleTable::build(filter_conditions_));
      policy.filter.rules = std::move(filter_rules_);
    }
    put_in_force(*made_);
  }
  void again() {
    made_ = std::make_unique<PolicyMaker>(tags, kWorkers);
    nat_conditions_.clear();
    filter_conditions_.clear();
    ++snapshot.epoch;
  }

  void from_peer(uint32_t slot, const Bytes& packet) {
    from_network(*sessions_.at(slot), counter_[slot]++, packet);
  }
  std::vector<Bytes> at_peer(uint32_t slot) { return arrived_at(*sessions_.at(slot)); }
  void forget() {
    for (RecordingPort* port : {&plain, &outer, &second_plain, &second_outer}) {
      port->sent.clear();
    }
  }

  static Bytes udp(const std::string& from, uint16_t sport, const std::string& to, uint16_t dport) {
    Packet packet = words(parse_address(from)->family, kProtocolUdp, 40);
    packet.source_port = sport;
    packet.destination_port = dport;
    return between(from, to, packet);
  }
  static Bytes tcp(const std::string& from, uint16_t sport, const std::string& to, uint16_t dport,
                   uint8_t flags) {
    Packet packet = words(parse_address(from)->family, kProtocolTcp, 0);
    packet.source_port = sport;
    packet.destination_port = dport;
    packet.flags = flags;
    return between(from, to, packet);
  }
  // "source:port > destination:port", with a mark where a checksum is wrong.
  static std::string ends(Bytes packet) {
    sallyport::Run run;
    run.head = packet.data();
    run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
    EXPECT_TRUE(parse(run));
    const Ends ends = ends_of(run);
    const auto text = [&](const uint8_t* address, be16 port) {
      return to_text(run.family == Family::v4 ? IpAddress::v4(address) : IpAddress::v6(address)) +
             ":" + std::to_string(uint16_t{port});
    };
    return text(ends.source, ends.source_port) + " > " +
           text(ends.destination, ends.destination_port) +
           (checksums_right(packet) ? "" : " damaged");
  }
  static bool checksums_right(const Bytes& packet) {
    const bool v4 = packet[0] >> 4 == 4;
    const size_t ip_bytes = v4 ? 20 : 40;
    const size_t rest = packet.size() - ip_bytes;
    const uint32_t pseudo = naive_sum(packet.data() + (v4 ? 12 : 8), v4 ? 8 : 32,
                                      static_cast<uint32_t>(rest + packet[v4 ? 9 : 6]));
    return (!v4 || naive_sum(packet.data(), ip_bytes) == 0xffff) &&
           naive_sum(packet.data() + ip_bytes, rest, pseudo) == 0xffff;
  }
  static std::string only(const std::vector<Bytes>& packets) {
    return packets.size() == 1 ? ends(packets[0]) : std::to_string(packets.size()) + " packets";
  }

  std::map<uint32_t, wireguard::Keypair*> sessions_;
  std::map<uint32_t, uint64_t> counter_;
  std::unique_ptr<PolicyMaker> made_;
  std::unique_ptr<FlowTable> flows_;
  std::unique_ptr<FragmentTable> fragments_;
  std::vector<RuleConditions> nat_conditions_, filter_conditions_;
  std::vector<NatRule> nat_rules_;
  std::vector<FilterRule> filter_rules_;
};

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
