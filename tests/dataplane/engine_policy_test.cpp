// Engines under a policy: A stands in the middle with two tunnels, and its policy decides.
//
//     B 10.0.0.2 ---+                                  each of B, C and D holds all addresses, B and C
//                   +-- tunnel 0 -- A -- tunnel 1 -- D 10.1.0.4     on one tunnel
//     C 10.0.0.3 ---+
#include "dataplane/net/probe.h"
#include "tests/dataplane/pair.h"
#include "tests/dataplane/policies.h"

namespace sallyport::test {
namespace {

using Kind = RuleAction::Kind;
using What = TraceStep::What;
using Names = std::vector<std::string>;

class EnginePolicy : public testing::Test {
 protected:
  EnginePolicy() {
    FakeClock::reset();
    SeededSodium::seed(42);
    a_ = make(0x11, "192.0.2.1:1000");
    b_ = make(0x22, "192.0.2.2:2000");
    c_ = make(0x33, "192.0.2.3:3000");
    d_ = make(0x44, "192.0.2.4:4000");
    second_ = a_->add_tunnel(filled_key(0x12), *parse_endpoint("192.0.2.1:1001"));
    a_->apply(holder(*b_, {"10.0.0.2/32", "fd00::2/128"}));
    a_->apply(holder(*c_, {"10.0.0.3/32", "fd00::3/128"}));
    a_->apply(holder(*d_, {"10.1.0.4/32", "fd01::4/128"}), second_);
    b_->apply(as_peer(*a_, {"0.0.0.0/0", "::/0"}));
    c_->apply(as_peer(*a_, {"0.0.0.0/0", "::/0"}));
    PeerChange a_at_d = as_peer(*a_, {"0.0.0.0/0", "::/0"});
    a_at_d.public_key = public_key_of(filled_key(0x12));
    a_at_d.endpoint = *parse_endpoint("192.0.2.1:1001");
    d_->apply(a_at_d);
    meet();
    tag_b_ = tag_of(*b_, 0);
    tag_c_ = tag_of(*c_, 0);
    tag_d_ = tag_of(*d_, second_);
    maker_ = std::make_unique<PolicyMaker>(a_->engine().tags(), a_->workers());
  }
  ~EnginePolicy() override {
    a_.reset();
    b_.reset();
    c_.reset();
    d_.reset();
    FakeClock::current = nullptr;
  }

  std::unique_ptr<Node> make(uint8_t key, const std::string& place) {
    auto node = std::make_unique<Node>(filled_key(key), *parse_endpoint(place), NodeOptions{});
    network_.add(*node);
    return node;
  }
  // With its own addresses and, shared, all others.
  static PeerChange holder(const Node& node, const std::vector<std::string>& own) {
    PeerChange peer = as_peer(node, own);
    for (const char* all : {"0.0.0.0/0", "::/0"}) {
      peer.allowed_ips.push_back({*parse_prefix(all), false, true});
    }
    return peer;
  }
  // A session with everybody.
  void meet() {
    for (Node* node : {b_.get(), c_.get(), d_.get()}) {
      node->plain().inject(udp({.source = own(*node), .destination = "10.0.0.1"}, text("hello")));
      network_.settle();
    }
    ASSERT_EQ(a_->host_packets().size(), 2u);
    ASSERT_EQ(a_->plain_of(second_).sent().size(), 1u);
    network_.wire().clear();
  }
  std::string own(const Node& node) const {
    return &node == b_.get() ? "10.0.0.2" : &node == c_.get() ? "10.0.0.3" : "10.1.0.4";
  }
  uint32_t tag_of(const Node& node, TunnelNumber tunnel) {
    return *a_->engine().tag(node.public_key(), tunnel);
  }

  const Policy& begin_policy() {
    a_->engine().set_policy(maker_->finish());
    maker_ = std::make_unique<PolicyMaker>(a_->engine().tags(), a_->workers());
    return *a_->engine().policy();
  }
  void set_alive(uint32_t exit, bool alive) { a_->engine().policy()->alive[exit] = alive; }

  // Where a packet is found: with a peer's host, or at A's by one of its ports.
  Names found(const Bytes& packet) {
    Names out;
    const size_t at = packet[0] >> 4 == 4 ? 12 : 8, bytes = packet[0] >> 4 == 4 ? 8 : 32;
    const auto look = [&](const char* name, const std::vector<MemoryPort::Frame>& frames) {
      for (const MemoryPort::Frame& frame : frames) {
        const Bytes& found = frame.bytes;
        EXPECT_TRUE(checksums_right(found) || found[0] >> 4 == 6);
        if (found[0] >> 4 == packet[0] >> 4 &&
            std::equal(found.begin() + static_cast<ptrdiff_t>(at),
                       found.begin() + static_cast<ptrdiff_t>(at + bytes),
                       packet.begin() + static_cast<ptrdiff_t>(at))) {
          out.emplace_back(name);
          last_ = found;
        } else {
          answers_.emplace_back(name, found);
        }
      }
    };
    look("b", b_->plain().sent());
    look("c", c_->plain().sent());
    look("d", d_->plain().sent());
    look("port 0", a_->plain().sent());
    if (!a_->added().empty()) {
      look("port 1", a_->plain_of(second_).sent());
    }
    return out;
  }
  Names send(MemoryPort& port, const Bytes& packet) {
    answers_.clear();
    port.inject(packet);
    network_.settle();
    return found(packet);
  }
  static Bytes between(const std::string& source, const std::string& destination,
                       uint16_t port = 2222) {
    return udp({.source = source, .destination = destination, .destination_port = port},
               text("letter"));
  }
  Names from_host(const std::string& destination, uint16_t port = 2222) {
    return send(a_->plain(), between("10.0.0.1", destination, port));
  }
  Names from(Node& node, const std::string& destination, uint16_t port = 2222) {
    return send(node.plain(), between(own(node), destination, port));
  }

  Sets sets_;
  Network network_;
  std::unique_ptr<Node> a_, b_, c_, d_;
  TunnelNumber second_ = 0;
  uint32_t tag_b_ = 0, tag_c_ = 0, tag_d_ = 0;
  std::unique_ptr<PolicyMaker> maker_;
  std::vector<std::pair<std::string, Bytes>> answers_;  // what else was found
  Bytes last_;                                          // the packet as it was found last
};

// -- Tunnels.

TEST_F(EnginePolicy, TunnelsOfAnEngineHaveTheirOwnSessions) {
  EXPECT_EQ(second_, 1u);
  EXPECT_EQ(from_host("10.0.0.2"), Names{"b"});
  EXPECT_EQ(from_host("10.0.0.3"), Names{"c"});
  EXPECT_EQ(from_host("10.1.0.4"), Names{"b"}) << "who holds all addresses first, of this tunnel";
  EXPECT_EQ(send(a_->plain_of(second_), between("10.1.0.1", "10.0.0.2")), Names{"d"});
  EXPECT_EQ(from(*d_, "10.0.0.2"), Names{"port 1"});
  EXPECT_EQ(from(*b_, "10.1.0.4"), Names{"port 0"});
  EXPECT_EQ(a_->engine().describe(second_).peers.size(), 1u);
  EXPECT_EQ(a_->engine().status(0).indices, 2u);
  EXPECT_EQ(a_->engine().status(second_).indices, 1u);
}

TEST_F(EnginePolicy, ForwardsFromTunnelToTunnel) {
  maker_->rule(from_peer(tag_b_), use_exit(maker_->tunnel(second_)));
  maker_->rule(from_peer(tag_d_), use_exit(maker_->peer(tag_b_)));
  begin_policy();
  EXPECT_EQ(from(*b_, "10.1.0.4"), Names{"d"});
  EXPECT_EQ(last_[8], 63);
  EXPECT_EQ(from(*d_, "10.0.0.2"), Names{"b"});
  EXPECT_EQ(last_[8], 63);
  Bytes last_hop = between("10.0.0.2", "10.1.0.4");
  last_hop[8] = 1;
  at<Ipv4Header>(last_hop, 0).checksum = 0;
  at<Ipv4Header>(last_hop, 0).checksum = static_cast<uint16_t>(~ones_sum(last_hop.data(), 20));
  EXPECT_EQ(send(b_->plain(), last_hop), Names{});
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].first, "b");
  EXPECT_EQ(answers_[0].second[20], 11);
  EXPECT_EQ(a_->drops(DropReason::ttl_exceeded), 1u);
}

TEST_F(EnginePolicy, ForwardsToAPeerThatHasNoSessionYet) {
  maker_->rule(from_peer(tag_b_), use_exit(maker_->tunnel(second_)));
  begin_policy();
  a_->engine().set_up(false, second_);  // forgets the session
  EXPECT_EQ(from(*b_, "10.1.0.4"), Names{});
  EXPECT_EQ(a_->drops(DropReason::tunnel_down), 1u);
  network_.advance(6 * kSecond);
  a_->engine().set_up(true, second_);
  network_.settle();
  EXPECT_TRUE(d_->host_packets().empty()) << "what was sent while it was down does not come later";
  EXPECT_EQ(from(*b_, "10.1.0.4"), Names{"d"});
}

TEST_F(EnginePolicy, AThirdTunnelIsAddedUnderWay) {
  auto e = make(0x55, "192.0.2.5:5000");
  const TunnelNumber third = a_->add_tunnel(filled_key(0x13), *parse_endpoint("192.0.2.1:1002"));
  EXPECT_EQ(third, 2u);
  a_->apply(as_peer(*e, {"10.2.0.5/32"}), third);
  maker_->rule(to("10.2.0.0/16"), use_exit(maker_->tunnel(third)));
  begin_policy();
  PeerChange a_at_e = as_peer(*a_, {"0.0.0.0/0"});
  a_at_e.public_key = public_key_of(filled_key(0x13));
  e->apply(a_at_e);
  from_host("10.2.0.5");
  EXPECT_EQ(e->host_packets().size(), 1u);
  e.reset(new Node(filled_key(0x66), *parse_endpoint("192.0.2.6:1"), {}));  // outlives no network
  network_ = Network();
}

// -- The same prefix with several peers.

TEST_F(EnginePolicy, TwoPeersHoldAllAddressesAndPolicyPicksBySource) {
  const auto peers = a_->engine().describe().peers;
  for (const PeerState& peer : peers) {
    EXPECT_EQ(peer.allowed_ips.size(), 4u);
  }
  maker_->rule(sallyport::test::from("10.7.0.0/16"), use_exit(maker_->peer(tag_b_)));
  maker_->rule(sallyport::test::from("10.8.0.0/16"), use_exit(maker_->peer(tag_c_)));
  begin_policy();
  EXPECT_EQ(send(a_->plain(), between("10.7.0.1", "198.51.100.1")), Names{"b"});
  EXPECT_EQ(send(a_->plain(), between("10.8.0.1", "198.51.100.1")), Names{"c"});
  EXPECT_EQ(send(a_->plain(), between("10.9.0.1", "198.51.100.1")), Names{"b"}) << "the first";
  EXPECT_EQ(send(b_->plain(), between("198.51.100.1", "10.7.0.1")), Names{"port 0"});
  EXPECT_EQ(send(c_->plain(), between("198.51.100.1", "10.7.0.1")), Names{"port 0"});
  EXPECT_EQ(send(c_->plain(), between("10.0.0.2", "10.7.0.1")), Names{}) << "B's very own";
  EXPECT_EQ(a_->drops(DropReason::source_not_allowed), 1u);
}

TEST_F(EnginePolicy, ASharedPrefixLosesItsHoldersOneByOne) {
  const auto holds = [&](Node& node) {
    return send(node.plain(), between("198.51.100.1", "10.0.0.1")) == Names{"port 0"};
  };
  const auto give_up = [&](Node& node) {
    PeerChange change;
    change.public_key = node.public_key();
    change.allowed_ips = {{*parse_prefix("0.0.0.0/0"), true}};
    a_->apply(change);
  };
  EXPECT_TRUE(holds(*b_) && holds(*c_));
  give_up(*b_);
  EXPECT_FALSE(holds(*b_));
  EXPECT_TRUE(holds(*c_));
  EXPECT_EQ(from_host("198.51.100.1"), Names{"c"});
  give_up(*c_);
  EXPECT_FALSE(holds(*c_));
  EXPECT_EQ(from_host("198.51.100.1"), Names{});
  a_->apply(holder(*c_, {}));
  a_->apply(holder(*b_, {}));
  EXPECT_EQ(from_host("198.51.100.1"), Names{"c"}) << "first come";
  a_->apply(as_peer(*b_, {"0.0.0.0/0"}));  // not shared: it moves, as WireGuard has it
  EXPECT_FALSE(holds(*c_));
  EXPECT_TRUE(holds(*b_));
  EXPECT_EQ(a_->engine().describe().peers[1].allowed_ips.size(), 3u);
}

TEST_F(EnginePolicy, ARemovedHolderLeavesTheOthers) {
  PeerChange gone;
  gone.public_key = b_->public_key();
  gone.remove = true;
  a_->apply(gone);
  EXPECT_EQ(from_host("198.51.100.1"), Names{"c"});
  EXPECT_EQ(send(c_->plain(), between("198.51.100.1", "10.0.0.1")), Names{"port 0"});
}

TEST_F(EnginePolicy, SharedPrefixesAreBoundedForGood) {
  constexpr uint32_t kMost = SharedOwners::kListsMax / 2;
  const auto change = [&](const Node& node, uint32_t first, uint32_t count) {
    TunnelChange out;
    PeerChange& peer = out.peers.emplace_back();
    peer.public_key = node.public_key();
    for (uint32_t i = 0; i < count; ++i) {
      const be32 address = 0x14000000 + (first + i) * 256;
      peer.allowed_ips.push_back({{IpAddress::v4(&address), 24}, false, true});
    }
    return out;
  };
  Engine& engine = a_->engine();
  const uint32_t room = kMost - 2;  // 0.0.0.0/0 and ::/0 are two
  ASSERT_TRUE(engine.apply(change(*b_, 0, room)).has_value());
  ASSERT_TRUE(engine.apply(change(*c_, 0, room)).has_value());
  ASSERT_TRUE(engine.apply(change(*c_, 0, room)).has_value()) << "once more is no more";
  const auto refused = engine.apply(change(*c_, room, 10));
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().text.find("32768"), std::string::npos) << refused.error().text;
  const auto key = public_key_of(filled_key(0x77));
  for (int round = 0; round < 3; ++round) {  // lists of three and of two, anew each time
    TunnelChange third = change(*b_, 0, room);
    third.peers[0].public_key = key;
    ASSERT_TRUE(engine.apply(third).has_value());
    ASSERT_EQ(engine.describe().peers[2].allowed_ips.size(), room);
    third.peers[0].allowed_ips.clear();
    third.peers[0].remove = true;
    ASSERT_TRUE(engine.apply(third).has_value());
  }
  EXPECT_EQ(send(c_->plain(), between("20.0.1.1", "10.0.0.1")), Names{"port 0"});
  EXPECT_EQ(send(b_->plain(), between("20.0.1.1", "10.0.0.1")), Names{"port 0"});
}

// -- Exits.

TEST_F(EnginePolicy, EachKindOfExit) {
  maker_->rule(dport(1), use_exit(maker_->peer(tag_c_)));
  maker_->rule(dport(2), use_exit(maker_->tunnel(second_)));
  maker_->rule(dport(3), use_exit(maker_->exit(ExitKind::host)));
  maker_->rule(dport(4), use_exit(maker_->port(second_)));
  maker_->rule(dport(5), use_exit(maker_->exit(ExitKind::drop)));
  maker_->rule(dport(6), use_exit(maker_->exit(ExitKind::unreachable)));
  const Policy& policy = begin_policy();
  EXPECT_EQ(from_host("198.51.100.1", 1), Names{"c"});
  EXPECT_EQ(from_host("198.51.100.1", 2), Names{"d"});
  EXPECT_EQ(from(*b_, "198.51.100.1", 3), Names{"port 0"});
  EXPECT_EQ(from_host("198.51.100.1", 4), Names{"port 1"});
  EXPECT_EQ(from(*b_, "198.51.100.1", 4), Names{"port 1"});
  EXPECT_EQ(from_host("198.51.100.1", 5), Names{});
  EXPECT_TRUE(answers_.empty());
  EXPECT_EQ(from_host("198.51.100.1", 6), Names{});
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].first, "port 0");
  EXPECT_EQ(from_host("198.51.100.1", 3), Names{});
  EXPECT_EQ(a_->drops(DropReason::exit_is_origin), 1u);
  const uint64_t expected[] = {1, 1, 2, 2, 1, 1};
  for (uint32_t rule = 0; rule < 6; ++rule) {
    EXPECT_EQ(rule_packets(policy, rule), expected[rule]) << "rule " << rule;
  }
  EXPECT_EQ(rule_drops(policy, 4) + rule_drops(policy, 5) + rule_drops(policy, 2), 3u);
}

TEST_F(EnginePolicy, AGroupFailsOverAndComesBack) {
  const uint32_t b = maker_->peer(tag_b_), c = maker_->peer(tag_c_);
  const uint32_t closed = maker_->group(GroupMode::failover, {{b}, {c}});
  maker_->rule(dport(1), use_exit(closed));
  maker_->rule(dport(2),
               use_exit(maker_->group(GroupMode::failover, {{b}, {c}}, maker_->peer(tag_d_))));
  maker_->rule(dport(3), use_exit(maker_->group(GroupMode::failover, {{b}, {c}}, kNoExit,
                                                sets_.add_affinity())));
  begin_policy();
  EXPECT_EQ(from_host("198.51.100.1", 1), Names{"b"});
  set_alive(b, false);
  EXPECT_EQ(from_host("198.51.100.1", 1), Names{"c"});
  EXPECT_EQ(from_host("198.51.100.1", 3), Names{"c"});
  set_alive(b, true);
  EXPECT_EQ(from_host("198.51.100.1", 1), Names{"b"});
  EXPECT_EQ(from_host("198.51.100.1", 3), Names{"c"}) << "sticky";
  EXPECT_EQ(from_host("198.51.100.2", 3), Names{"b"}) << "another flow";
  set_alive(b, false);
  set_alive(c, false);
  EXPECT_EQ(from_host("198.51.100.1", 1), Names{}) << "closed";
  EXPECT_EQ(a_->drops(DropReason::exit_down), 1u);
  EXPECT_EQ(from_host("198.51.100.1", 2), Names{"d"}) << "another exit";
}

TEST_F(EnginePolicy, AWeightedGroupSharesFlows) {
  const uint32_t b = maker_->peer(tag_b_), c = maker_->peer(tag_c_);
  maker_->rule(all(), use_exit(maker_->group(GroupMode::weighted, {{b, 3}, {c, 1}})));
  begin_policy();
  std::map<std::string, int> shares;
  for (uint16_t port = 1; port <= 400; ++port) {
    const Names first = from_host("198.51.100.1", port);
    ASSERT_EQ(first.size(), 1u);
    ++shares[first[0]];
    if (port % 10 == 0) {
      EXPECT_EQ(from_host("198.51.100.1", port), first);
    }
  }
  EXPECT_NEAR(shares["b"], 300, 50);
  EXPECT_NEAR(shares["c"], 100, 50);
}

// -- Rules that do not decide at once.

TEST_F(EnginePolicy, MarksTablesAndJumpsTogether) {
  PrefixSet* set = sets_.add({"203.0.113.0/24", "!203.0.113.7/32"});
  const uint32_t b = maker_->peer(tag_b_), c = maker_->peer(tag_c_), d = maker_->peer(tag_d_);
  const uint32_t table = maker_->table({{"0.0.0.0/0", b}, {"198.51.100.0/24", c}}, {{set, d}});
  maker_->rule(dport(1), set_mark(0x0100, 0xff00));
  maker_->rule(dport(2), set_mark(0x0201, 0xffff));
  maker_->rule(marked(0x0001, 0x00ff), act(Kind::go_to, 5));
  maker_->rule(marked(0x0100, 0xff00), use_table(table, 0));
  maker_->rule(marked(0x0100, 0xff00), use_exit(maker_->exit(ExitKind::drop)));
  maker_->rule(all(), use_table(table));
  begin_policy();
  EXPECT_EQ(from_host("198.51.100.1", 1), Names{"c"});
  EXPECT_EQ(from_host("203.0.113.1", 1), Names{"d"});
  EXPECT_EQ(from_host("192.0.2.77", 1), Names{}) << "the default route is suppressed";
  EXPECT_EQ(a_->drops(DropReason::policy_drop), 1u);
  EXPECT_EQ(from_host("192.0.2.77", 2), Names{"b"});
  EXPECT_EQ(from_host("203.0.113.7", 3), Names{"b"}) << "a hole in the set";
  Sets::fill(*set, {"203.0.113.7/32"});
  EXPECT_EQ(from_host("203.0.113.7", 3), Names{"d"});
}

TEST_F(EnginePolicy, PrivateAddressesStayOutOfAnExit) {
  PrefixSet* only = sets_.add({"192.168.1.0/24"});
  maker_->rule(dport(1), use_exit(maker_->peer(tag_b_, LanPolicy::deny)));
  maker_->rule(dport(2), use_exit(maker_->peer(tag_b_, LanPolicy::only, only)));
  begin_policy();
  EXPECT_EQ(from_host("192.168.1.1", 1), Names{});
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].second[21], 13);
  EXPECT_EQ(from_host("198.51.100.1", 1), Names{"b"});
  EXPECT_EQ(from_host("192.168.1.1", 2), Names{"b"});
  EXPECT_EQ(from_host("192.168.2.1", 2), Names{});
  EXPECT_EQ(a_->drops(DropReason::lan_denied), 2u);
}

TEST_F(EnginePolicy, RejectionsReachTheHostAndThePeer) {
  maker_->rule(dport(1), act(Kind::unreachable));
  maker_->rule(dport(2), act(Kind::reset));
  begin_policy();
  EXPECT_EQ(from_host("198.51.100.1", 1), Names{});
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].first, "port 0");
  EXPECT_EQ(answers_[0].second[20], 3);
  EXPECT_EQ(from(*b_, "198.51.100.1", 1), Names{});
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].first, "b");
  const Bytes call = tcp({.source = "10.0.0.2",
                          .destination = "198.51.100.1",
                          .destination_port = 2,
                          .flags = kTcpSyn},
                         {});
  EXPECT_EQ(send(b_->plain(), call), Names{});
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(answers_[0].first, "b");
  EXPECT_EQ(at<TcpHeader>(answers_[0].second, 20).flags, kTcpRst | kTcpAck);
  EXPECT_EQ(at<TcpHeader>(answers_[0].second, 20).acknowledgement, 1001u);
  EXPECT_EQ(a_->drops(DropReason::policy_reject), 3u);
}

// -- Peers and policies that come and go.

TEST_F(EnginePolicy, APeerPutBackIsFoundByItsName) {
  maker_->rule(from_peer(tag_c_), use_exit(maker_->exit(ExitKind::drop)));
  maker_->rule(to("198.51.100.0/24"), use_exit(maker_->peer(tag_c_)));
  begin_policy();
  EXPECT_EQ(from_host("198.51.100.1"), Names{"c"});
  PeerChange gone;
  gone.public_key = c_->public_key();
  gone.remove = true;
  a_->apply(gone);
  EXPECT_FALSE(a_->engine().brief(tag_c_).has_value());
  EXPECT_EQ(from_host("198.51.100.1"), Names{});
  EXPECT_EQ(a_->drops(DropReason::exit_gone), 1u);
  PeerChange other = as_peer(*d_, {"10.0.0.9/32"});  // takes the slot
  a_->apply(other);
  EXPECT_EQ(from_host("198.51.100.1"), Names{}) << "the name is not another's";
  a_->apply(holder(*c_, {"10.0.0.3/32"}));
  EXPECT_TRUE(a_->engine().brief(tag_c_).has_value());
  EXPECT_FALSE(a_->engine().brief(tag_c_)->has_session);
  from_host("198.51.100.1");
  network_.advance(6 * kSecond);
  EXPECT_TRUE(a_->engine().brief(tag_c_)->has_session);
  EXPECT_EQ(from_host("198.51.100.1"), Names{"c"});
  const uint64_t before = a_->drops(DropReason::policy_drop);
  from(*c_, "10.0.0.1");
  EXPECT_EQ(a_->drops(DropReason::policy_drop), before + 1) << "and known by it";
}

TEST_F(EnginePolicy, ANameMayComeBeforeItsPeer) {
  auto e = make(0x55, "192.0.2.5:5000");
  const uint32_t tag = tag_of(*e, 0);
  EXPECT_EQ(tag_of(*e, 0), tag);
  EXPECT_FALSE(a_->engine().brief(tag).has_value());
  EXPECT_FALSE(a_->engine().send_packet(tag, between("10.0.0.1", "10.0.0.5")));
  a_->engine().want_session(tag);  // nobody there: nothing happens
  a_->apply(as_peer(*e, {}));
  e->apply(as_peer(*a_, {"0.0.0.0/0"}));
  ASSERT_TRUE(a_->engine().brief(tag).has_value());
  EXPECT_EQ(a_->engine().brief(tag)->public_key, e->public_key());
  EXPECT_EQ(a_->engine().brief(tag)->last_handshake, 0);
  a_->engine().want_session(tag);
  network_.settle();
  const auto brief = a_->engine().brief(tag);
  EXPECT_TRUE(brief->has_session);
  EXPECT_EQ(brief->tunnel, 0u);
  EXPECT_TRUE(brief->endpoint.same_remote(e->address()));
  EXPECT_GT(brief->last_handshake, 0);
  network_ = Network();
}

TEST_F(EnginePolicy, PoliciesAreSwappedUnderTraffic) {
  for (int round = 0; round < 60; ++round) {
    const int way = round % 3;
    if (way < 2) {
      maker_->rule(all(), use_exit(maker_->peer(way == 0 ? tag_b_ : tag_c_)));
    }
    for (int i = 0; i < 4; ++i) {
      a_->plain().inject(between("10.0.0.1", "10.0.0.2"));
    }
    begin_policy();  // with packets waiting
    network_.settle();
    const size_t at_b = b_->host_packets().size(), at_c = c_->host_packets().size();
    EXPECT_EQ(at_b, way == 1 ? 0u : 4u);
    EXPECT_EQ(at_c, way == 1 ? 4u : 0u);
  }
  a_->engine().set_policy(nullptr);
  EXPECT_EQ(a_->engine().policy(), nullptr);
  EXPECT_EQ(from_host("10.0.0.3"), Names{"c"});
}

TEST_F(EnginePolicy, ATunnelIsRemovedWithTrafficInFlight) {
  maker_->rule(dport(1), use_exit(maker_->peer(tag_d_)));
  maker_->rule(dport(2), use_exit(maker_->tunnel(second_)));
  maker_->rule(dport(3), use_exit(maker_->port(second_)));
  begin_policy();
  // In every place where a packet can wait: ports, a mailbox, the queue for a session.
  for (uint16_t port = 1; port <= 3; ++port) {
    a_->plain().inject(between("10.0.0.1", "198.51.100.1", port));
  }
  d_->plain().inject(between("10.1.0.4", "10.1.0.1"));
  d_->settle();
  network_.deliver();
  a_->plain_of(second_).inject(between("10.1.0.1", "10.1.0.4"));
  const Bytes own = between("10.0.0.1", "10.1.0.4");
  ASSERT_TRUE(a_->engine().send_packet(tag_d_, own));
  a_->engine().want_session(tag_d_);
  a_->remove_tunnel(second_);
  EXPECT_FALSE(a_->engine().brief(tag_d_).has_value());
  EXPECT_FALSE(a_->engine().send_packet(tag_d_, own));
  network_.settle();
  EXPECT_EQ(a_->drops(DropReason::exit_gone), 3u);
  EXPECT_EQ(a_->drops(DropReason::tunnel_down), 1u) << "the packet of our own";
  EXPECT_TRUE(d_->host_packets().empty());
  EXPECT_EQ(from_host("10.0.0.2"), Names{"b"}) << "the other tunnel goes on";
  // Its number is another's now, and no name of old means anybody there.
  const TunnelNumber again = a_->add_tunnel(filled_key(0x12), *parse_endpoint("192.0.2.1:1001"));
  EXPECT_EQ(again, second_);
  a_->apply(holder(*d_, {"10.1.0.4/32"}), again);
  EXPECT_EQ(from_host("198.51.100.1", 1), Names{});
  EXPECT_EQ(a_->drops(DropReason::exit_gone), 4u);
  const uint32_t fresh = tag_of(*d_, again);
  EXPECT_NE(fresh, tag_d_);
  maker_->rule(all(), use_exit(maker_->peer(fresh)));
  begin_policy();
  from_host("198.51.100.1");
  network_.advance(6 * kSecond);
  EXPECT_EQ(from_host("198.51.100.1"), Names{"d"});
}

TEST_F(EnginePolicy, NoBufferIsLostWithATunnel) {
  NodeOptions few;
  few.buffers_per_worker = 40;
  Node node(filled_key(0x66), *parse_endpoint("192.0.2.6:1"), few);
  for (int i = 0; i < 120; ++i) {
    const TunnelNumber number = node.add_tunnel(filled_key(0x67), *parse_endpoint("192.0.2.6:2"));
    node.apply(as_peer(*d_, {"10.1.0.4/32"}), number);
    const uint32_t tag = *node.engine().tag(d_->public_key(), number);
    ASSERT_TRUE(node.engine().send_packet(tag, between("10.0.0.1", "10.1.0.4"))) << i;
    node.plain_of(number).inject(between("10.0.0.1", "10.1.0.4"));
    if (i % 2 == 0) {
      node.settle();
    }
    node.remove_tunnel(number);
    node.settle();
  }
}

// -- What control sends and sees.

TEST_F(EnginePolicy, ProbesGoOutAndTheirAnswersAreConsumed) {
  Probe probe;
  probe.source = *parse_address("10.0.0.1");
  probe.target = *parse_address("10.0.0.2");
  probe.id = 9;
  probe.tag = 0xabcdef;
  maker_->probes({{probe, tag_b_}});
  maker_->rule(all(), use_exit(maker_->exit(ExitKind::drop)));  // past all policy
  const Policy& policy = begin_policy();
  Bytes request(kProbeBytesMax);
  request.resize(build_probe(probe, 5, request));
  ASSERT_TRUE(a_->engine().send_packet(tag_b_, request));
  network_.settle();
  const auto heard = b_->host_packets();
  ASSERT_EQ(heard, std::vector<Bytes>{request});
  Bytes reply = request;
  std::swap_ranges(reply.begin() + 12, reply.begin() + 16, reply.begin() + 16);
  reply[20] = 0;
  at<be16>(reply, 22) = 0;
  at<be16>(reply, 22) = static_cast<uint16_t>(~ones_sum(reply.data() + 20, reply.size() - 20));
  EXPECT_EQ(send(b_->plain(), reply), Names{});
  EXPECT_EQ(policy.probes[0].answer >> 48, 5u);
  EXPECT_EQ(a_->drops(DropReason::policy_drop), 0u);
  from(*b_, "10.0.0.1");
  EXPECT_EQ(a_->drops(DropReason::policy_drop), 1u) << "anything else is dropped";
}

TEST_F(EnginePolicy, OwnPacketsWaitForNoLinkThatIsDown) {
  EXPECT_FALSE(a_->engine().send_packet(tag_b_, Bytes(Buffer::kDataBytes + 1)));
  a_->engine().set_up(false);
  EXPECT_TRUE(a_->engine().send_packet(tag_b_, between("10.0.0.1", "10.0.0.2")));
  network_.settle();
  EXPECT_EQ(a_->drops(DropReason::tunnel_down), 1u);
}

TEST_F(EnginePolicy, ATapFollowsWhatItsFilterPicks) {
  maker_->rule(dport(7), use_exit(maker_->peer(tag_c_)));
  begin_policy();
  TraceFilter filter;
  filter.dport = 7;
  a_->engine().set_tap(std::make_unique<Tap>(filter));
  from_host("198.51.100.1", 7);
  from_host("198.51.100.1", 8);
  from(*b_, "198.51.100.1", 7);
  std::vector<TracedPacket> all;
  while (const auto packet = a_->engine().tap()->take()) {
    all.push_back(*packet);
  }
  ASSERT_EQ(all.size(), 2u);
  EXPECT_TRUE(all[0].from_host);
  EXPECT_EQ(all[1].from_tag, tag_b_);
  for (const TracedPacket& packet : all) {
    EXPECT_EQ(steps(packet.trace, What::rule).size(), 1u);
    EXPECT_EQ(steps(packet.trace, What::peer)[0].b, tag_c_);
    EXPECT_EQ(steps(packet.trace, What::sealed).size(), 1u);
  }
  for (int i = 0; i < 20; ++i) {
    a_->plain().inject(between("10.0.0.1", "198.51.100.1", 7));
  }
  network_.settle();
  EXPECT_EQ(a_->engine().tap()->missed(), 20 - Context::kTracesMax);
  a_->engine().set_tap(nullptr);
  EXPECT_EQ(a_->engine().tap(), nullptr);
  from_host("198.51.100.1", 7);
}

// -- Explain.

TEST_F(EnginePolicy, ExplainRefusesWhatCannotBe) {
  Engine& engine = a_->engine();
  const Bytes packet = between("10.0.0.1", "10.0.0.2");
  EXPECT_FALSE(engine.explain({.tunnel = 7, .from_tag = {}, .packet = packet}).has_value());
  EXPECT_FALSE(engine.explain({.tunnel = 0, .from_tag = {}, .packet = text("?")}).has_value());
  EXPECT_FALSE(engine.explain({.tunnel = 0, .from_tag = 4711, .packet = packet}).has_value());
  EXPECT_FALSE(engine.explain({.tunnel = 0, .from_tag = tag_d_, .packet = packet}).has_value())
      << "a peer of another tunnel";
  EXPECT_TRUE(engine.explain({.tunnel = 0, .from_tag = {}, .packet = packet}).has_value());
}

TEST_F(EnginePolicy, ExplainLeavesNoMark) {
  const uint32_t group =
      maker_->group(GroupMode::failover, {{maker_->peer(tag_b_)}}, kNoExit, sets_.add_affinity());
  maker_->rule(dport(1), act(Kind::reset));
  maker_->rule(all(), use_exit(group));
  const Policy& policy = begin_policy();
  for (uint16_t port = 1; port <= 2; ++port) {
    const auto told = a_->engine().explain(
        {.tunnel = 0, .from_tag = {}, .packet = between("10.0.0.1", "198.51.100.1", port)});
    ASSERT_TRUE(told.has_value());
    EXPECT_EQ(told->discarded, port == 1);
    EXPECT_EQ(told->to_peer, port == 2);
    EXPECT_EQ(told->mtu, 1420u);
    network_.settle();
  }
  EXPECT_EQ(rule_packets(policy, 0) + rule_packets(policy, 1) + rule_drops(policy, 0), 0u);
  EXPECT_EQ(a_->drops(DropReason::policy_reject), 0u);
  EXPECT_TRUE(network_.wire().empty());
  EXPECT_TRUE(a_->host_packets().empty());
}

TEST_F(EnginePolicy, ExplainKnowsOfATunnelThatIsDown) {
  a_->engine().set_up(false);
  const auto told = a_->engine().explain(
      {.tunnel = 0, .from_tag = {}, .packet = between("10.0.0.1", "10.0.0.2")});
  ASSERT_TRUE(told.has_value());
  EXPECT_TRUE(told->discarded);
  EXPECT_EQ(steps(told->trace, What::drop)[0].a, static_cast<uint32_t>(DropReason::tunnel_down));
}

// Policies and packets by chance. What is told of a packet must be what becomes of it.
class ExplainAgrees : public EnginePolicy {
 protected:
  explicit ExplainAgrees(uint64_t seed = 20'261) : random_(seed), seed_(seed) {}

  template <class T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[random_.below(values.size())];
  }
  std::string any_address(bool v4) {
    return v4 ? one_of<std::string>({"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.1.0.1", "10.1.0.4",
                                     "192.168.7.7", "198.51.100.1", "198.51.100.200",
                                     "203.0.113.9"})
              : one_of<std::string>({"fd00::1", "fd00::2", "fd00::3", "fd01::4", "2001:db8::1",
                                     "2001:db8:1::1", "fe80::1"});
  }
  std::string any_prefix() {
    return one_of<std::string>({"0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/16",
                                "198.51.100.0/24", "198.51.100.128/25", "203.0.113.9/32", "::/0",
                                "fd00::/8", "2001:db8::/32", "2001:db8:1::/48"});
  }
  uint16_t any_port() { return one_of<uint16_t>({53, 80, 443}); }

  PrefixSet* any_set() {
    std::vector<std::string> prefixes;
    for (uint64_t i = random_.below(4); i > 0; --i) {
      prefixes.push_back((random_.chance(0.3) ? "!" : "") + any_prefix());
    }
    return sets_.add(prefixes);
  }

  uint32_t any_exit(unsigned depth = 0) {
    switch (random_.below(depth < 3 ? 10 : 8)) {
      case 0:
      case 1: {
        const uint32_t tag = one_of({tag_b_, tag_c_, tag_d_, nobody_});
        const LanPolicy lan = one_of({LanPolicy::allow, LanPolicy::deny, LanPolicy::only});
        return maker_->peer(tag, lan, lan == LanPolicy::only ? any_set() : nullptr);
      }
      case 2:
        return maker_->peer(one_of({tag_b_, tag_c_, tag_d_}));
      case 3:
        return maker_->tunnel(one_of<TunnelNumber>({0, 1, 9}));
      case 4:
        return maker_->exit(ExitKind::host);
      case 5:
        return maker_->port(one_of<TunnelNumber>({0, 1, 9}));
      case 6:
        return maker_->exit(ExitKind::drop);
      case 7:
        return maker_->exit(ExitKind::unreachable);
      default: {
        std::vector<ExitMember> members;
        for (uint64_t i = 1 + random_.below(3); i > 0; --i) {
          members.push_back({any_exit(depth + 1), static_cast<uint32_t>(random_.below(4))});
        }
        const uint32_t when_down = random_.chance(0.5) ? kNoExit : any_exit(depth + 1);
        return maker_->group(one_of({GroupMode::failover, GroupMode::weighted}), members, when_down,
                             random_.chance(0.4) ? sets_.add_affinity() : nullptr);
      }
    }
  }
  uint32_t any_table() {
    std::vector<std::pair<std::string, uint32_t>> routes;
    for (uint64_t i = random_.below(4); i > 0; --i) {
      routes.emplace_back(any_prefix(), any_exit());
    }
    std::vector<SetRoute> set_routes;
    if (random_.chance(0.4)) {
      set_routes.push_back({any_set(), any_exit()});
    }
    return maker_->table(routes, set_routes);
  }

  void ask_address(AddressCondition& condition) {
    if (random_.chance(0.4)) {
      condition.sets.push_back(any_set());
    } else {
      condition.prefixes.push_back(set_entry(any_prefix()));
    }
    condition.negated = random_.chance(0.2);
  }
  RuleConditions any_conditions() {
    RuleConditions rule;
    if (random_.chance(0.3)) {
      ask_address(rule.from);
    }
    if (random_.chance(0.4)) {
      ask_address(rule.to);
    }
    if (random_.chance(0.2)) {
      rule.iif.values.push_back(static_cast<uint32_t>(random_.below(4)));
      rule.iif.negated = random_.chance(0.2);
    }
    if (random_.chance(0.2)) {
      rule.peer.values.push_back(one_of({tag_b_, tag_c_, tag_d_}));
      rule.peer.negated = random_.chance(0.2);
    }
    if (random_.chance(0.2)) {
      rule.protocol.values.push_back(one_of<uint32_t>({1, 6, 17, 58}));
    }
    if (random_.chance(0.2)) {
      rule.dport.ranges.push_back({any_port(), 443});
    }
    if (random_.chance(0.3)) {
      const auto mask = one_of<uint32_t>({1, 2, 3, 0xff});
      rule.mark = {true, static_cast<uint32_t>(random_.below(4)) & mask, mask, random_.chance(0.2)};
    }
    if (random_.chance(0.1)) {
      rule.tos = {true, 0x20, 0xe0, random_.chance(0.5)};
    }
    return rule;
  }
  RuleAction any_action(uint32_t rule, uint32_t rules) {
    RuleAction action;
    if (random_.chance(0.3)) {
      action.mark_value = static_cast<uint32_t>(random_.below(8));
      action.mark_mask = one_of<uint32_t>({1, 3, 0xf});
    }
    switch (random_.below(10)) {
      case 0:
        break;
      case 1:
      case 2:
      case 3:
        action.kind = Kind::table;
        action.target = any_table();
        action.suppress_length = static_cast<int16_t>(one_of({-1, -1, 0, 24}));
        break;
      case 4:
        if (rule + 1 < rules) {
          action.kind = Kind::go_to;
          action.target = rule + 1 + static_cast<uint32_t>(random_.below(rules - rule - 1));
        }
        break;
      case 5:
        action.kind = one_of({Kind::drop, Kind::unreachable, Kind::prohibit, Kind::reset});
        break;
      default:
        action.kind = Kind::exit;
        action.target = any_exit();
        break;
    }
    return action;
  }
  void put_any_policy() {
    const auto rules = static_cast<uint32_t>(random_.below(8));
    for (uint32_t rule = 0; rule < rules; ++rule) {
      maker_->rule(any_conditions(), any_action(rule, rules));
    }
    maker_->name_sets(sets_);
    const Policy& policy = begin_policy();
    for (size_t exit = 0; exit < policy.exits.size(); ++exit) {
      policy.alive[exit] = random_.chance(0.7);
    }
  }

  Bytes any_packet() {
    const bool v4 = random_.chance(0.7);
    Flow flow{.source = any_address(v4), .destination = any_address(v4)};
    while (flow.source == flow.destination) {  // or an answer could not be told from the packet
      flow.destination = any_address(v4);
    }
    flow.destination_port = any_port();
    flow.source_port = any_port();
    flow.tos = one_of<uint8_t>({0, 0x20});
    const uint64_t kind = random_.below(3);
    Bytes packet = kind == 0   ? udp(flow, text("letter"))
                   : kind == 1 ? tcp(flow, text("letter"))
                               : icmp(flow, v4 ? 8 : 128, 0, text("ping"));
    packet[v4 ? 8 : 7] = one_of<uint8_t>({1, 2, 64, 64, 64});
    if (v4) {
      at<be16>(packet, 10) = 0;
      at<be16>(packet, 10) = static_cast<uint16_t>(~ones_sum(packet.data(), 20));
    }
    return packet;
  }

  std::array<uint64_t, kDropReasons> all_drops() {
    std::array<uint64_t, kDropReasons> out{};
    for (size_t i = 0; i < kDropReasons; ++i) {
      out[i] = a_->drops(static_cast<DropReason>(i));
    }
    return out;
  }
  // Where it went, or under which name it was lost.
  std::string what_happens(MemoryPort& port, const Bytes& packet) {
    const auto before = all_drops();
    const Names places = send(port, packet);
    const auto after = all_drops();
    std::string out;
    for (const std::string& place : places) {
      out += place + ";";
    }
    for (size_t i = 0; i < kDropReasons; ++i) {
      if (after[i] != before[i]) {
        out += std::string(drop_name(static_cast<DropReason>(i))) + ";";
      }
    }
    return out;
  }
  std::string what_is_told(const PacketToExplain& query) {
    const auto told = a_->engine().explain(query);
    if (!told.has_value()) {
      return told.error().text;
    }
    if (told->discarded) {
      const auto drops = steps(told->trace, What::drop);
      return drops.empty() ? "no reason"
                           : std::string(drop_name(static_cast<DropReason>(drops[0].a))) + ";";
    }
    if (!told->to_peer) {
      return "port " + std::to_string(told->port) + ";";
    }
    const wireguard::PublicKey& key = told->peer.public_key;
    return key == b_->public_key()   ? "b;"
           : key == c_->public_key() ? "c;"
           : key == d_->public_key() ? "d;"
                                     : "a stranger;";
  }

  Random random_;
  const uint64_t seed_;
  const uint32_t nobody_ = *a_->engine().tag(public_key_of(filled_key(0x99)), 0);
};

TEST_F(ExplainAgrees, WithWhatBecomesOfThePacket) {
  std::map<std::string, int> outcomes;
  for (int round = 0; round < 400; ++round) {
    put_any_policy();
    for (int i = 0; i < 6; ++i) {
      const Bytes packet = any_packet();
      const uint64_t side = random_.below(5);
      PacketToExplain query{.tunnel = 0, .from_tag = {}, .packet = packet};
      MemoryPort* port = &a_->plain();
      if (side == 1) {
        query.tunnel = second_;
        port = &a_->plain_of(second_);
      } else if (side > 1) {
        Node& node = side == 2 ? *b_ : side == 3 ? *c_ : *d_;
        query.tunnel = side == 4 ? second_ : TunnelNumber{0};
        query.from_tag = side == 2 ? tag_b_ : side == 3 ? tag_c_ : tag_d_;
        port = &node.plain();
      }
      const std::string told = what_is_told(query);
      const std::string done = what_happens(*port, packet);
      ASSERT_EQ(told, done) << "seed " << seed_ << ", policy " << round << ", packet " << i
                            << ", side " << side;
      ++outcomes[done];
    }
  }
  for (const char* outcome :
       {"b;", "c;", "d;", "port 0;", "port 1;", "policy_drop;", "policy_reject;", "exit_down;",
        "exit_gone;", "exit_is_origin;", "lan_denied;", "ttl_exceeded;", "source_not_allowed;"}) {
    EXPECT_GT(outcomes[outcome], 0) << outcome << " never happened; seed " << seed_;
  }
}

}  // namespace
}  // namespace sallyport::test
