#include "dataplane/path/policy.h"

#include "dataplane/net/icmp.h"
#include "tests/dataplane/path/line.h"

namespace sallyport::test {
namespace {

using Kind = RuleAction::Kind;
using What = TraceStep::What;

// What comes from the host goes to peer 1, 2 or the drain, as rules will have it.
class PolicyTest : public Line {
 protected:
  void SetUp() override {
    Line::SetUp();
    one_ = &session(1);
    two_ = &session(2);
    made_ = std::make_unique<PolicyMaker>(tags, kWorkers);
    to_one_ = made_->peer(tag(1));
    to_two_ = made_->peer(tag(2));
    to_none_ = made_->exit(ExitKind::drop);
  }
  const Policy& begin_policy() { return put_in_force(*made_); }

  // 1 or 2, the peer that a packet from the host to this address went to; 0: neither.
  int peer_for(const std::string& destination, const Packet& packet) {
    outer.sent.clear();
    from_host(std::vector<Bytes>{between("10.0.0.9", destination, packet)});
    const size_t first = arrived_at(*one_).size(), second_count = arrived_at(*two_).size();
    EXPECT_LE(first + second_count, 1u);
    return first == 1 ? 1 : second_count == 1 ? 2 : 0;
  }
  int peer_for(const std::string& destination) {
    return peer_for(destination, words(Family::v4, kProtocolUdp, 40));
  }

  // What the stage makes of a packet from the host, told.
  Trace told(const std::string& destination) {
    Bytes packet = between("10.0.0.9", destination);
    sallyport::Run& run = context->burst.add();
    run.head = packet.data();
    run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
    EXPECT_TRUE(parse(run));
    run.trace = 1;
    context->traces[0].count = 0;
    context->dry = true;
    policy(*context);
    context->dry = false;
    context->end_burst();
    return context->traces[0];
  }

  wireguard::Keypair *one_ = nullptr, *two_ = nullptr;
  std::unique_ptr<PolicyMaker> made_;
  uint32_t to_one_ = 0, to_two_ = 0, to_none_ = 0;
};

TEST_F(PolicyTest, WithoutAPolicyAllowedIpsDecide) {
  EXPECT_EQ(peer_for("10.0.0.2"), 1);
  EXPECT_EQ(peer_for("10.0.0.3"), 2);
  EXPECT_EQ(peer_for("192.0.2.1"), 0);
  EXPECT_EQ(dropped(DropReason::no_peer), 1u);
}

TEST_F(PolicyTest, WhereNoRuleDecidesItIsAsWithoutOne) {
  begin_policy();
  EXPECT_EQ(in_force->rules, nullptr) << "a policy of no rules";
  EXPECT_EQ(peer_for("10.0.0.3"), 2);
  PolicyMaker other = maker();
  other.rule(to("192.0.2.0/24"), use_exit(other.exit(ExitKind::drop)));
  put_in_force(other);
  EXPECT_EQ(peer_for("10.0.0.3"), 2);
  EXPECT_EQ(peer_for("192.0.2.1"), 0);
  EXPECT_EQ(dropped(DropReason::policy_drop), 1u);
}

TEST_F(PolicyTest, TheFirstRuleThatMatchesDecides) {
  made_->rule(to("192.0.2.0/25"), use_exit(to_one_));
  made_->rule(to("192.0.2.0/24"), use_exit(to_two_));
  made_->rule(all(), use_exit(to_none_));
  const Policy& policy = begin_policy();
  EXPECT_EQ(peer_for("192.0.2.1"), 1);
  EXPECT_EQ(peer_for("192.0.2.200"), 2);
  EXPECT_EQ(peer_for("10.0.0.2"), 0) << "the last rule is before allowed-IPs";
  EXPECT_EQ(rule_packets(policy, 0), 1u);
  EXPECT_EQ(rule_packets(policy, 1), 1u);
  EXPECT_EQ(rule_packets(policy, 2), 1u);
}

TEST_F(PolicyTest, MarksAreSetAndMatchedByTheirMasks) {
  made_->rule(to("192.0.2.0/24"), set_mark(0x5a10, 0xff00));      // 0x5a00: no bit beside the mask
  made_->rule(marked(0x10, 0xff), use_exit(to_none_));            // so not this one
  made_->rule(marked(0x5a00, 0xff00), set_mark(0x0003, 0x000f));  // 0x5a03
  made_->rule(marked(0x5a03, UINT32_MAX), use_exit(to_one_));
  made_->rule(marked(0, UINT32_MAX), use_exit(to_two_));
  begin_policy();
  EXPECT_EQ(peer_for("192.0.2.1"), 1);
  EXPECT_EQ(peer_for("198.51.100.1"), 2) << "a mark begins as zero, for each packet";
  EXPECT_EQ(peer_for("192.0.2.1"), 1);
  const auto marks = steps(told("192.0.2.1"), What::mark);
  ASSERT_EQ(marks.size(), 2u);
  EXPECT_EQ(marks[0].a, 0x5a00u);
  EXPECT_EQ(marks[1].a, 0x5a03u);
}

TEST_F(PolicyTest, ARuleMayMarkAndDecideInOne) {
  RuleAction action = use_table(made_->table({}));
  action.mark_value = 7;
  action.mark_mask = 0xff;
  made_->rule(all(), action);
  made_->rule(marked(7, 0xff), use_exit(to_one_));
  begin_policy();
  EXPECT_EQ(peer_for("192.0.2.1"), 1);
}

TEST_F(PolicyTest, ATableAnswersByItsLongestPrefix) {
  const uint32_t table = made_->table(
      {{"192.0.2.0/24", to_one_}, {"192.0.2.128/25", to_two_}, {"2001:db8::/32", to_two_}});
  made_->rule(all(), use_table(table));
  made_->rule(all(), use_exit(to_none_));
  begin_policy();
  EXPECT_EQ(peer_for("192.0.2.1"), 1);
  EXPECT_EQ(peer_for("192.0.2.129"), 2);
  EXPECT_EQ(peer_for("198.51.100.1"), 0) << "a miss goes on to the next rule";
  outer.sent.clear();
  from_host(std::vector<Bytes>{between("fd00::9", "2001:db8::1")});
  EXPECT_EQ(arrived_at(*two_).size(), 1u);
}

TEST_F(PolicyTest, AShortAnswerCanBeSuppressed) {
  const uint32_t table = made_->table({{"0.0.0.0/0", to_one_}, {"192.0.2.0/24", to_one_}});
  made_->rule(all(), use_table(table, 0));
  made_->rule(to("203.0.113.0/24"), use_table(table, 23));
  made_->rule(to("192.0.2.0/24"), use_table(table, 24));
  made_->rule(all(), use_exit(to_two_));
  begin_policy();
  EXPECT_EQ(peer_for("192.0.2.1"), 1) << "not the default route";
  EXPECT_EQ(peer_for("198.51.100.1"), 2) << "the default route is no answer";
  EXPECT_EQ(peer_for("203.0.113.1"), 2);
  EXPECT_EQ(steps(told("198.51.100.1"), What::suppressed).size(), 1u);
  EXPECT_EQ(steps(told("203.0.113.1"), What::suppressed).size(), 2u);
}

TEST_F(PolicyTest, ASetLeadsToItsExitByTheLengthOfItsEntry) {
  PrefixSet* set = sets.add({"192.0.2.0/24", "!192.0.2.64/26", "198.51.100.0/24"});
  const uint32_t table = made_->table(
      {{"192.0.0.0/16", to_two_}, {"198.51.100.0/24", to_two_}, {"192.0.2.7/32", to_two_}},
      {{set, to_one_}});
  made_->rule(all(), use_table(table));
  begin_policy();
  EXPECT_EQ(peer_for("192.0.2.1"), 1);
  EXPECT_EQ(peer_for("192.0.2.7"), 2) << "a longer route of the table's own";
  EXPECT_EQ(peer_for("192.0.2.65"), 2) << "a hole is no answer";
  EXPECT_EQ(peer_for("198.51.100.1"), 2) << "of two that are alike the table's own";
  const auto hits = steps(told("192.0.2.1"), What::table_hit);
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_EQ(hits[0].a, 3u) << "behind the three entries";
  EXPECT_EQ(hits[0].b, 24u);
  Sets::fill(*set, {"203.0.113.0/24"});
  EXPECT_EQ(peer_for("192.0.2.1"), 2) << "the set changed without the table";
  EXPECT_EQ(peer_for("203.0.113.1"), 1);
}

TEST_F(PolicyTest, GotoPassesOver) {
  made_->rule(to("192.0.2.0/24"), act(Kind::go_to, 2));
  made_->rule(all(), use_exit(to_one_));
  made_->rule(all(), use_exit(to_two_));
  begin_policy();
  EXPECT_EQ(peer_for("192.0.2.1"), 2);
  EXPECT_EQ(peer_for("198.51.100.1"), 1);
  const auto jumps = steps(told("192.0.2.1"), What::jump);
  ASSERT_EQ(jumps.size(), 1u);
  EXPECT_EQ(jumps[0].number, 2u);
}

TEST_F(PolicyTest, RefusalsHaveTheirReasonAndAnswer) {
  made_->rule(to("192.0.2.1/32"), act(Kind::drop));
  made_->rule(to("192.0.2.2/32"), act(Kind::unreachable));
  made_->rule(to("192.0.2.3/32"), act(Kind::prohibit));
  made_->rule(to("192.0.2.4/32"), act(Kind::reset));
  const Policy& policy = begin_policy();
  EXPECT_EQ(peer_for("192.0.2.1"), 0);
  EXPECT_EQ(dropped(DropReason::policy_drop), 1u);
  EXPECT_TRUE(plain.sent.empty()) << "dropped means silently";
  const struct {
    const char* destination;
    uint8_t protocol, answer_protocol, type, code;
  } cases[] = {
      {"192.0.2.2", kProtocolUdp, kProtocolIcmp, 3, 1},
      {"192.0.2.3", kProtocolTcp, kProtocolIcmp, 3, 13},
      {"192.0.2.4", kProtocolUdp, kProtocolIcmp, 3, 13},
      {"192.0.2.4", kProtocolTcp, kProtocolTcp, 0, 0},
  };
  for (const auto& each : cases) {
    plain.sent.clear();
    EXPECT_EQ(peer_for(each.destination, words(Family::v4, each.protocol)), 0);
    ASSERT_EQ(plain.sent.size(), 1u) << each.destination;
    const Bytes& answer = plain.sent[0].bytes;
    EXPECT_EQ(answer[9], each.answer_protocol);
    if (each.answer_protocol == kProtocolIcmp) {
      EXPECT_EQ(answer[20], each.type);
      EXPECT_EQ(answer[21], each.code);
    } else {
      EXPECT_EQ(answer[33], kTcpRst) << "it had an ACK";
    }
  }
  EXPECT_EQ(dropped(DropReason::policy_reject), 4u);
  for (uint32_t rule = 0; rule < 3; ++rule) {
    EXPECT_EQ(rule_drops(policy, rule), 1u);
  }
  EXPECT_EQ(rule_drops(policy, 3), 2u);
}

TEST_F(PolicyTest, APeerIsAnsweredThroughItsTunnel) {
  made_->rule(to("192.0.2.2/32"), act(Kind::prohibit));
  made_->rule(to("192.0.2.4/32"), act(Kind::reset));
  begin_policy();
  from_network(*one_, 0, between("10.0.0.2", "192.0.2.2"));
  from_network(*one_, 1, between("10.0.0.2", "192.0.2.4", words()));
  EXPECT_TRUE(plain.sent.empty());
  const auto answers = arrived_at(*one_);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0][9], kProtocolIcmp);
  EXPECT_EQ(answers[0][21], 13);
  EXPECT_EQ(answers[0][15], 2) << "from the address it was for";
  EXPECT_EQ(answers[0][19], 2) << "to the one that sent it";
  EXPECT_EQ(answers[1][9], kProtocolTcp);
  EXPECT_EQ(answers[1][33], kTcpRst);
  EXPECT_EQ(dropped(DropReason::policy_reject), 2u);
  EXPECT_EQ(peer(1).drops[static_cast<size_t>(DropReason::policy_reject)], 2u);
}

TEST_F(PolicyTest, IngressPeerAndTunnelCanBeAskedFor) {
  RuleConditions from_two = from_peer(tag(2));
  made_->rule(from_two, use_exit(to_one_));
  made_->rule(by(0, true), use_exit(to_two_));
  made_->rule(by(0, false), use_exit(to_none_));
  begin_policy();
  from_network(*two_, 0, between("10.0.0.3", "10.0.0.1"));
  EXPECT_EQ(arrived_at(*one_).size(), 1u);
  EXPECT_EQ(peer_for("10.0.0.2"), 2) << "from the host";
  from_network(*one_, 0, between("10.0.0.2", "10.0.0.1"));
  EXPECT_EQ(dropped(DropReason::policy_drop), 1u);
  EXPECT_TRUE(plain.sent.empty());
}

TEST_F(PolicyTest, CountsEveryRuleThatMatchedForEveryPacket) {
  made_->rule(to("192.0.2.0/24"), set_mark(1));
  made_->rule(marked(1, 1), use_table(made_->table({})));
  made_->rule(marked(1, 1), act(Kind::go_to, 4));
  made_->rule(all(), use_exit(to_none_));
  made_->rule(marked(1, 1), use_exit(to_one_));
  const Policy& policy = begin_policy();
  const Bytes packet = between("10.0.0.9", "192.0.2.1");
  from_host(std::vector<Bytes>{packet, packet, packet});  // one burst, equal keys
  EXPECT_EQ(arrived_at(*one_).size(), 3u);
  for (const uint32_t rule : {0u, 1u, 2u, 4u}) {
    EXPECT_EQ(rule_packets(policy, rule), 3u) << "rule " << rule;
    EXPECT_EQ(rule_bytes(policy, rule), 3 * packet.size()) << "rule " << rule;
  }
  EXPECT_EQ(rule_packets(policy, 3), 0u);
  EXPECT_EQ(exit_packets(policy, to_one_), 3u);
  EXPECT_EQ(exit_packets(policy, to_none_), 0u);
}

TEST_F(PolicyTest, CountsRulesThatDecideNothing) {
  made_->rule(all(), set_mark(1));
  const Policy& policy = begin_policy();
  const Bytes packet = between("10.0.0.9", "10.0.0.2");
  from_host(std::vector<Bytes>{packet, packet});
  EXPECT_EQ(arrived_at(*one_).size(), 2u);
  EXPECT_EQ(rule_packets(policy, 0), 2u);
}

TEST_F(PolicyTest, CountsALongWayThroughTheRules) {
  for (uint32_t i = 0; i < 40; ++i) {
    made_->rule(all(), set_mark(i));
  }
  made_->rule(all(), use_exit(to_one_));
  const Policy& policy = begin_policy();
  const Bytes packet = between("10.0.0.9", "192.0.2.1");
  from_host(std::vector<Bytes>{packet, packet, packet});
  EXPECT_EQ(arrived_at(*one_).size(), 3u);
  for (uint32_t i = 0; i <= 40; ++i) {
    EXPECT_EQ(rule_packets(policy, i), 3u) << "rule " << i;
  }
}

TEST_F(PolicyTest, CountsTheSegmentsOfARun) {
  made_->rule(all(), use_exit(to_one_));
  const Policy& policy = begin_policy();
  const Packet super = words(Family::v4, kProtocolTcp, 3001);
  from_host(std::vector<RxFrame>{plain_frame(build(super), offload_of(super, 1000))});
  EXPECT_EQ(rule_packets(policy, 0), 4u);
  EXPECT_EQ(rule_bytes(policy, 0), super.header_bytes() + 3001);
  EXPECT_EQ(arrived_at(*one_).size(), 4u);
}

TEST_F(PolicyTest, CountsWhatAnExitLoses) {
  made_->rule(to("192.0.2.0/24"), use_exit(to_none_));
  const uint32_t group = made_->group(GroupMode::failover, {{to_two_}});
  made_->rule(to("198.51.100.0/24"), use_exit(group));
  const Policy& policy = begin_policy();
  in_force->alive[to_two_] = false;
  from_host(std::vector<Bytes>{between("10.0.0.9", "192.0.2.1"), between("10.0.0.9", "192.0.2.1"),
                               between("10.0.0.9", "198.51.100.1"),
                               between("10.0.0.9", "198.51.100.1")});
  EXPECT_EQ(dropped(DropReason::policy_drop), 2u);
  EXPECT_EQ(dropped(DropReason::exit_down), 2u);
  EXPECT_EQ(rule_drops(policy, 0), 2u);
  EXPECT_EQ(exit_drops(policy, to_none_), 2u);
  EXPECT_EQ(rule_drops(policy, 1), 2u);
}

// Packets of a burst that look alike are decided once, and those that do not are not.
TEST_F(PolicyTest, ABurstOfMixedFlowsIsDecidedOneByOne) {
  made_->rule(dport(80), use_exit(to_one_));
  made_->rule(dport(443), use_exit(to_two_));
  begin_policy();
  std::vector<Bytes> packets;
  Packet packet = words(Family::v4, kProtocolUdp, 40);
  for (int i = 0; i < 30; ++i) {
    packet.destination_port = static_cast<uint16_t>(i % 5 < 3 ? 80 : 443);
    packets.push_back(between("10.0.0.9", "192.0.2.1", packet));
  }
  from_host(packets);
  EXPECT_EQ(arrived_at(*one_).size(), 18u);
  EXPECT_EQ(arrived_at(*two_).size(), 12u);
}

TEST_F(PolicyTest, ATraceTellsTheWholeWay) {
  PrefixSet* set = sets.add({"192.0.2.0/24", "!192.0.2.7"});
  made_->name_sets(sets);
  made_->rule(to(set), set_mark(5, 0xff));
  RuleConditions not_in = to(set);
  not_in.to.negated = true;
  made_->rule(not_in, use_exit(to_two_));
  made_->rule(all(), use_exit(to_one_));
  begin_policy();
  const Trace trace = told("192.0.2.1");
  const auto rules = steps(trace, What::rule);
  ASSERT_EQ(rules.size(), 2u);
  EXPECT_EQ(rules[0].number, 0u);
  EXPECT_EQ(rules[1].number, 2u);
  const auto entries = steps(trace, What::set_entry);
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].a, 0u) << "the destination";
  EXPECT_EQ(entries[0].b, 24u);
  EXPECT_EQ(entries[0].c, 1u);
  EXPECT_EQ(steps(trace, What::exit)[0].number, to_one_);
  const auto holes = steps(told("192.0.2.7"), What::set_entry);
  ASSERT_EQ(holes.size(), 1u);
  EXPECT_EQ(holes[0].b, 32u);
  EXPECT_EQ(holes[0].c, 0u);
  EXPECT_EQ(rule_packets(*in_force, 0), 0u) << "a rehearsal is not counted";
}

TEST_F(PolicyTest, ATraceSaysThatNoRuleDecided) {
  made_->rule(to("192.0.2.0/24"), use_exit(to_one_));
  begin_policy();
  EXPECT_EQ(steps(told("198.51.100.1"), What::no_rule).size(), 1u);
}

TEST_F(PolicyTest, ATraceIsBounded) {
  for (uint32_t i = 0; i < 100; ++i) {
    made_->rule(all(), set_mark(i));
  }
  begin_policy();
  const Trace trace = told("192.0.2.1");
  EXPECT_EQ(trace.count, 201u);
  EXPECT_GT(trace.count, Trace::kStepsMax);
}

class ProbeAnswers : public PolicyTest {
 protected:
  void SetUp() override {
    PolicyTest::SetUp();
    probe_.source = *parse_address("10.0.0.1");
    probe_.target = *parse_address("10.0.0.2");
    probe_.id = 77;
    probe_.tag = 0x1122334455667788;
    made_->probes({{probe_, tag(1)}});
    begin_policy();
  }
  // The far host's answer to request number `sequence`.
  Bytes answer(uint16_t sequence) const {
    Bytes packet(kProbeBytesMax);
    packet.resize(build_probe(probe_, sequence, packet));
    std::swap_ranges(packet.begin() + 12, packet.begin() + 16, packet.begin() + 16);
    packet[20] = 0;
    put16(packet, 22, 0);
    put16(packet, 22, ~naive_sum(packet.data() + 20, packet.size() - 20) & 0xffff);
    return packet;
  }
  uint64_t answered() const { return in_force->probes[0].answer.load(); }

  Probe probe_;
};

TEST_F(ProbeAnswers, AreConsumed) {
  from_network(*one_, 0, answer(513));
  EXPECT_TRUE(plain.sent.empty());
  EXPECT_EQ(dropped_in_all(), 0u) << "arrived, not lost";
  EXPECT_EQ(answered() >> 48, 513u);
  EXPECT_EQ(answered() & ((uint64_t{1} << 48) - 1), static_cast<uint64_t>(kNow / kMicrosecond));
}

TEST_F(ProbeAnswers, OnlyByTheirPeerAndOnlyOurs) {
  tunnel.allowed_v4.insert(Lpm4::from_bytes(probe_.target.bytes.data()), 32, 2);
  from_network(*two_, 0, answer(513));  // another peer answers in its name
  EXPECT_EQ(answered(), 0u);
  EXPECT_EQ(plain.sent.size(), 1u);
  tunnel.allowed_v4.insert(Lpm4::from_bytes(probe_.target.bytes.data()), 32, 1);
  Bytes other = answer(514);
  other[24] ^= 1;  // another id: the host's own ping
  put16(other, 22, 0);
  put16(other, 22, ~naive_sum(other.data() + 20, other.size() - 20) & 0xffff);
  from_network(*one_, 0, other);
  EXPECT_EQ(answered(), 0u);
  EXPECT_EQ(plain.sent.size(), 2u);
  from_host(std::vector<Bytes>{answer(515)});  // the host is nobody's far end
  EXPECT_EQ(answered(), 0u);
}

}  // namespace
}  // namespace sallyport::test
