// May a peer begin a flow from there? By what would be sent back, and by how strict the check is.
#include "dataplane/path/reverse_path.h"

#include "tests/dataplane/path/nat_line.h"

namespace sallyport::test {
namespace {

// Peer 12 may send from everywhere, and what the host sends is for it too, unless rules say otherwise.
class ReversePathTest : public NatLine {
 protected:
  void SetUp() override {
    NatLine::SetUp();
    const uint8_t everywhere[4] = {};
    second_tunnel.allowed_v4.insert(Lpm4::from_bytes(everywhere), 0, 12);
    eleven_ = tag(11);
    twelve_ = tag(12);
  }
  // Of what the host sends there.
  void rule(const std::string& prefix, RuleAction action) {
    RuleConditions conditions = to(prefix);
    conditions.iif.values = {iif_number(1, true)};
    made_->rule(std::move(conditions), action);
  }
  void begin(ReversePath how) {
    made_->policy().reverse_path = how;
    begin_policy();
  }
  bool passes(const std::string& source, uint16_t port = 1) {
    const size_t before = second_plain.sent.size();
    from_peer(12, udp(source, port, "10.9.1.1", 53));
    return second_plain.sent.size() > before;
  }

  uint32_t eleven_ = 0, twelve_ = 0;
};

TEST_F(ReversePathTest, EachWayForEachMode) {
  const struct {
    const char* source;
    bool loose, strict;
    const char* why;
  } truths[] = {
      /* 1 */ {"198.51.100.1", true, true, "no rule: allowed-IPs lead back to it"},
      /* 2 */ {"172.16.0.1", true, false, "a rule sends what is for it to another peer"},
      /* 3 */ {"172.17.0.1", true, true, "to that peer"},
      /* 4 */ {"172.18.0.1", true, true, "to a group with that peer"},
      /* 5 */ {"172.19.0.1", true, false, "to a group without it"},
      /* 6 */ {"172.20.0.1", false, false, "nowhere: dropped"},
      /* 7 */ {"172.21.0.1", false, false, "nowhere: unreachable"},
      /* 8 */ {"172.22.0.1", false, false, "back to the host, where it came from"},
      /* 9 */ {"172.23.0.1", true, false, "to the host by another port"},
      /* 10 */ {"172.24.0.1", true, true, "by the tunnel's allowed-IPs"},
      /* 11 */ {"172.25.0.1", false, false, "to a peer that is to see no private addresses"},
      /* 12 */ {"172.26.0.1", false, false, "to an exit that drops"},
      /* 13 */ {"172.27.0.1", true, true, "to a group that falls back on it"},
  };
  for (const ReversePath how : {ReversePath::off, ReversePath::loose, ReversePath::strict}) {
    if (in_force != nullptr) {
      again();
    }
    const uint32_t to_eleven = made_->peer(eleven_), to_twelve = made_->peer(twelve_);
    const uint32_t nowhere = made_->exit(ExitKind::drop);
    rule("172.16.0.0/16", use_exit(to_eleven));
    rule("172.17.0.0/16", use_exit(to_twelve));
    rule("172.18.0.0/16",
         use_exit(made_->group(GroupMode::failover, {{to_eleven, 1}, {to_twelve, 1}})));
    rule("172.19.0.0/16", use_exit(made_->group(GroupMode::failover, {{to_eleven, 1}})));
    rule("172.20.0.0/16", act(RuleAction::Kind::drop));
    rule("172.21.0.0/16", act(RuleAction::Kind::unreachable));
    rule("172.22.0.0/16", use_exit(made_->exit(ExitKind::host)));
    rule("172.23.0.0/16", use_exit(made_->port(0)));
    rule("172.24.0.0/16", use_exit(made_->tunnel(1)));
    rule("172.25.0.0/16", use_exit(made_->peer(twelve_, LanPolicy::deny)));
    rule("172.26.0.0/16", use_exit(nowhere));
    rule("172.27.0.0/16", use_exit(made_->group(GroupMode::weighted, {{to_eleven, 1}}, to_twelve)));
    auto before = std::move(in_force);
    begin(how);
    int row = 0;
    for (const auto& truth : truths) {
      const bool expected = how == ReversePath::off || (how == ReversePath::loose && truth.loose) ||
                            (how == ReversePath::strict && truth.strict);
      const uint64_t refused = dropped(DropReason::reverse_path);
      const auto port = static_cast<uint16_t>(100 + static_cast<int>(how));  // a flow of its own
      EXPECT_EQ(passes(truth.source, port), expected)
          << "row " << ++row << ", mode " << static_cast<int>(how) << ": " << truth.why;
      EXPECT_EQ(dropped(DropReason::reverse_path), refused + (expected ? 0 : 1)) << truth.source;
    }
  }
}

TEST_F(ReversePathTest, AKnownFlowIsNotAskedAbout) {
  rule("172.16.0.0/16", use_exit(made_->peer(twelve_)));
  begin(ReversePath::strict);
  EXPECT_TRUE(passes("172.16.0.1"));
  auto before = std::move(in_force);
  again();
  rule("172.16.0.0/16", use_exit(made_->peer(eleven_)));
  begin(ReversePath::strict);
  EXPECT_TRUE(passes("172.16.0.1"));
  EXPECT_FALSE(passes("172.16.0.1", 2)) << "but about a new one";
}

TEST_F(ReversePathTest, TheHostMaySendFromAnywhere) {
  rule("0.0.0.0/0", act(RuleAction::Kind::drop));
  begin(ReversePath::strict);
  from_host(Packets{udp("172.16.0.1", 1, "10.0.0.2", 53)});
  EXPECT_EQ(at_peer(1).size(), 1u);
}

TEST_F(ReversePathTest, CountsNothingAndTellsATrace) {
  const uint32_t exit = made_->peer(twelve_);
  rule("172.16.0.0/16", use_exit(exit));
  begin(ReversePath::strict);
  EXPECT_TRUE(passes("172.16.0.1"));
  EXPECT_EQ(rule_packets(*in_force, 0), 0u) << "nothing was sent there";
  EXPECT_EQ(exit_packets(*in_force, exit), 0u);
  Bytes packet = udp("172.16.0.2", 1, "10.9.1.1", 53);
  context->dry = true;
  context->enter(1);
  sallyport::Run& run = context->burst.add();
  run.head = packet.data();
  run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
  ASSERT_TRUE(parse(run));
  run.from = &peer(12);
  context->traces[0].count = 0;
  run.trace = 1;
  decide(*context);
  const auto told = steps(context->traces[0], TraceStep::What::reverse_path);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].a, 1u);
  EXPECT_EQ(told[0].b, static_cast<uint32_t>(ReversePath::strict));
  context->end_burst();
}

}  // namespace
}  // namespace sallyport::test
