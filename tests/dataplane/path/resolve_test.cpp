#include <map>

#include "tests/dataplane/path/line.h"

namespace sallyport::test {
namespace {

class Resolve : public Line {
 protected:
  // The exit that packet number `flow` of many flows takes from here.
  uint32_t take(uint32_t exit, uint32_t flow = 0, Trace* trace = nullptr) {
    std::memcpy(source_, &flow, sizeof(flow));
    RuleKey key;
    key.source = source_;
    key.destination = destination_;
    return resolve(*context, *in_force, exit, key, trace);
  }
  void set_alive(uint32_t exit, bool alive) { in_force->alive[exit] = alive; }

  std::map<uint32_t, size_t> spread(uint32_t exit, uint32_t flows) {
    std::map<uint32_t, size_t> shares;
    for (uint32_t flow = 0; flow < flows; ++flow) {
      ++shares[take(exit, flow)];
    }
    return shares;
  }

  uint8_t source_[16] = {}, destination_[16] = {192, 0, 2, 1};
};

TEST_F(Resolve, WhatIsNoGroupIsItself) {
  PolicyMaker made = maker();
  const uint32_t drop = made.exit(ExitKind::drop), host = made.exit(ExitKind::host);
  put_in_force(made);
  set_alive(host, false);
  EXPECT_EQ(take(drop), drop);
  EXPECT_EQ(take(host), host) << "only a group asks who is alive";
}

TEST_F(Resolve, FailoverTakesTheFirstThatIsAlive) {
  PolicyMaker made = maker();
  const uint32_t a = made.port(1), b = made.port(2), c = made.port(3);
  const uint32_t group = made.group(GroupMode::failover, {{a}, {b}, {c}});
  put_in_force(made);
  EXPECT_EQ(spread(group, 100), (std::map<uint32_t, size_t>{{a, 100}}));
  set_alive(a, false);
  EXPECT_EQ(take(group), b);
  set_alive(b, false);
  EXPECT_EQ(take(group), c);
  set_alive(a, true);
  EXPECT_EQ(take(group), a);
}

TEST_F(Resolve, AllDownIsClosedUnlessAnotherExitIsNamed) {
  PolicyMaker made = maker();
  const uint32_t a = made.port(1), host = made.exit(ExitKind::host);
  const uint32_t closed = made.group(GroupMode::failover, {{a}});
  const uint32_t open = made.group(GroupMode::weighted, {{a}}, host);
  const uint32_t chained = made.group(GroupMode::failover, {{a}}, open);
  put_in_force(made);
  set_alive(a, false);
  EXPECT_EQ(take(closed), kNoExit);
  EXPECT_EQ(take(open), host);
  EXPECT_EQ(take(chained), host);
  Trace trace;
  take(chained, 0, &trace);
  const auto down = steps(trace, TraceStep::What::all_down);
  ASSERT_EQ(down.size(), 2u);
  EXPECT_EQ(down[0].number, chained);
  EXPECT_EQ(down[0].a, open);
  EXPECT_EQ(down[1].a, host);
}

TEST_F(Resolve, WeightsAreShares) {
  PolicyMaker made = maker();
  const uint32_t a = made.port(1), b = made.port(2), c = made.port(3), never = made.port(4);
  const uint32_t group = made.group(GroupMode::weighted, {{a, 1}, {never, 0}, {b, 2}, {c, 5}});
  put_in_force(made);
  const auto shares = spread(group, 8000);
  EXPECT_NEAR(static_cast<double>(shares.at(a)), 1000, 150);
  EXPECT_NEAR(static_cast<double>(shares.at(b)), 2000, 200);
  EXPECT_NEAR(static_cast<double>(shares.at(c)), 5000, 250);
  EXPECT_FALSE(shares.contains(never));
  EXPECT_EQ(spread(group, 8000), shares) << "a flow's choice is always the same";
}

TEST_F(Resolve, AMemberThatDiesMovesItsOwnFlowsOnly) {
  PolicyMaker made = maker();
  const uint32_t a = made.port(1), b = made.port(2), c = made.port(3);
  const uint32_t group = made.group(GroupMode::weighted, {{a}, {b}, {c}});
  put_in_force(made);
  std::vector<uint32_t> before;
  for (uint32_t flow = 0; flow < 3000; ++flow) {
    before.push_back(take(group, flow));
  }
  set_alive(b, false);
  std::map<uint32_t, size_t> heirs;
  for (uint32_t flow = 0; flow < 3000; ++flow) {
    const uint32_t now = take(group, flow);
    if (before[flow] == b) {
      ++heirs[now];
    } else {
      ASSERT_EQ(now, before[flow]) << "flow " << flow << " worked where it was";
    }
  }
  EXPECT_NEAR(static_cast<double>(heirs[a]), 500, 100);
  EXPECT_NEAR(static_cast<double>(heirs[c]), 500, 100);
  EXPECT_FALSE(heirs.contains(b));
}

TEST_F(Resolve, WeightlessMembersAreNoMembers) {
  PolicyMaker made = maker();
  const uint32_t a = made.port(1);
  const uint32_t group = made.group(GroupMode::weighted, {{a, 0}});
  put_in_force(made);
  EXPECT_EQ(take(group), kNoExit);
}

TEST_F(Resolve, AGroupInAGroupHasSharesOfItsOwn) {
  PolicyMaker made = maker();
  const uint32_t a = made.port(1), b = made.port(2), c = made.port(3), d = made.port(4);
  const uint32_t left = made.group(GroupMode::weighted, {{a}, {b}});
  const uint32_t right = made.group(GroupMode::weighted, {{c}, {d}});
  const uint32_t group = made.group(GroupMode::weighted, {{left}, {right}});
  put_in_force(made);
  const auto shares = spread(group, 4000);
  for (const uint32_t exit : {a, b, c, d}) {
    ASSERT_TRUE(shares.contains(exit)) << exit;
    EXPECT_NEAR(static_cast<double>(shares.at(exit)), 1000, 150);
  }
}

TEST_F(Resolve, GroupsNestAsDeepAsIsSaidAndNoDeeper) {
  PolicyMaker made = maker();
  const uint32_t leaf = made.exit(ExitKind::host);
  std::vector<uint32_t> depth{leaf};
  for (unsigned i = 0; i <= kGroupDepthMax; ++i) {
    depth.push_back(made.group(GroupMode::failover, {{depth.back()}}));
  }
  put_in_force(made);
  for (unsigned groups = 0; groups <= kGroupDepthMax; ++groups) {
    EXPECT_EQ(take(depth[groups]), leaf) << groups << " groups deep";
  }
  EXPECT_EQ(take(depth[kGroupDepthMax + 1]), kNoExit);
}

TEST_F(Resolve, AStickyFlowStaysWhereItWorks) {
  PolicyMaker made = maker();
  const uint32_t a = made.port(1), b = made.port(2);
  const uint32_t group =
      made.group(GroupMode::failover, {{a}, {b}}, kNoExit, sets.add_affinity(), 60);
  put_in_force(made);
  set_alive(a, false);
  EXPECT_EQ(take(group, 1), b);
  set_alive(a, true);
  EXPECT_EQ(take(group, 1), b) << "it works there";
  EXPECT_EQ(take(group, 2), a) << "a fresh flow takes the first";
  Trace trace;
  take(group, 1, &trace);
  EXPECT_EQ(steps(trace, TraceStep::What::member)[0].a, static_cast<uint32_t>(MemberWhy::kept));
  set_alive(b, false);
  EXPECT_EQ(take(group, 1), a);
  set_alive(b, true);
  EXPECT_EQ(take(group, 1), a);
}

TEST_F(Resolve, AQuietFlowIsForgotten) {
  PolicyMaker made = maker();
  const uint32_t a = made.port(1), b = made.port(2);
  const uint32_t group =
      made.group(GroupMode::failover, {{a}, {b}}, kNoExit, sets.add_affinity(), 60);
  put_in_force(made);
  set_alive(a, false);
  take(group, 1);
  set_alive(a, true);
  context->now = kNow + 50 * kSecond;
  EXPECT_EQ(take(group, 1), b) << "each packet keeps it";
  context->now = kNow + 100 * kSecond;
  EXPECT_EQ(take(group, 1), b);
  context->now = kNow + 161 * kSecond;
  EXPECT_EQ(take(group, 1), a);
}

TEST_F(Resolve, ARehearsalRemembersNothing) {
  PolicyMaker made = maker();
  const uint32_t a = made.port(1), b = made.port(2);
  const uint32_t group = made.group(GroupMode::failover, {{a}, {b}}, kNoExit, sets.add_affinity());
  put_in_force(made);
  set_alive(a, false);
  context->dry = true;
  EXPECT_EQ(take(group), b);
  context->dry = false;
  set_alive(a, true);
  EXPECT_EQ(take(group), a);
}

TEST_F(Resolve, MoreMembersThanCanBeRememberedAreNotSticky) {
  PolicyMaker made = maker();
  std::vector<ExitMember> members;
  for (uint32_t i = 0; i < 300; ++i) {
    members.push_back({made.port(static_cast<TunnelNumber>(i))});
  }
  const uint32_t group = made.group(GroupMode::failover, members, kNoExit, sets.add_affinity());
  put_in_force(made);
  for (uint32_t i = 0; i < 299; ++i) {
    set_alive(members[i].exit, false);
  }
  for (int times = 0; times < 3; ++times) {
    EXPECT_EQ(take(group), members[299].exit);
  }
  set_alive(members[40].exit, true);
  set_alive(members[43].exit, true);  // 299 in eight bits
  EXPECT_EQ(take(group), members[40].exit);
}

TEST_F(Resolve, ATraceNamesMembersAndWhy) {
  PolicyMaker made = maker();
  const uint32_t a = made.port(1), b = made.port(2);
  const uint32_t inner = made.group(GroupMode::failover, {{a}, {b}});
  const uint32_t outer_group = made.group(GroupMode::weighted, {{inner}});
  put_in_force(made);
  set_alive(a, false);
  Trace trace;
  EXPECT_EQ(take(outer_group, 0, &trace), b);
  EXPECT_EQ(steps(trace, TraceStep::What::exit)[0].number, outer_group);
  const auto members = steps(trace, TraceStep::What::member);
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].number, inner);
  EXPECT_EQ(members[0].a, static_cast<uint32_t>(MemberWhy::weight));
  EXPECT_EQ(members[1].number, b);
  EXPECT_EQ(members[1].a, static_cast<uint32_t>(MemberWhy::first_alive));
  EXPECT_EQ(members[1].b, 1u);
}

}  // namespace
}  // namespace sallyport::test
