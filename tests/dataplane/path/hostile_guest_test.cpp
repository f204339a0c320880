// One peer opens flows as fast as it can: it takes its share of the table and of the ports, and nobody else notices.
#include "tests/dataplane/path/nat_line.h"

namespace sallyport::test {
namespace {

class HostileGuest : public NatLine {
 protected:
  static constexpr size_t kCapacity = 1024;
  static constexpr int kMany = 3000;

  // Peers 1 and 2, and the host, reach the world by peer 12.
  void SetUp() override {
    NatLine::SetUp();
    const uint8_t everywhere[4] = {};
    second_tunnel.allowed_v4.insert(Lpm4::from_bytes(everywhere), 0, 12);
    guest_ = tag(1);
    neighbour_ = tag(2);
    made_->rule(by(1, false), use_exit(made_->tunnel(0)));
    made_->rule(all(), use_exit(made_->peer(tag(12))));
  }
  void begin(NatRule rule, uint16_t first_port = 1024, uint16_t last_port = 65535) {
    nat(all(), std::move(rule));
    begin_policy(first_port, last_port);
  }

  bool opens(uint32_t slot, uint16_t port) {
    forget();
    const Bytes packet = udp(slot == 1 ? "10.0.0.2" : "10.0.0.3", port, "198.51.100.1", 53);
    from_peer(slot, packet);
    return at_peer(12).size() == 1;
  }
  bool host_opens(uint16_t port) {
    forget();
    from_host(Packets{udp("192.168.1.7", port, "198.51.100.1", 53)});
    return at_peer(12).size() == 1;
  }
  // The server answers what has just left.
  void answer() {
    const std::string left = only(at_peer(12));
    const size_t colon = left.find(':');
    forget();
    from_peer(12, udp("198.51.100.1", 53, "10.9.1.1",
                      static_cast<uint16_t>(std::stoi(left.substr(colon + 1)))));
  }
  void flood(bool answered) {
    for (int i = 0; i < kMany; ++i) {
      if (opens(1, static_cast<uint16_t>(2000 + i)) && answered) {
        answer();
      }
    }
  }
  void neighbours_open(int count) {
    for (int i = 0; i < count; ++i) {
      EXPECT_TRUE(opens(2, static_cast<uint16_t>(10000 + i))) << i;
      EXPECT_TRUE(host_opens(static_cast<uint16_t>(10000 + i))) << i;
    }
  }

  uint32_t guest_ = 0, neighbour_ = 0;
};

TEST_F(HostileGuest, TakesItsShareOfFlows) {
  begin(masquerade());
  for (uint16_t port = 1; port <= 20; ++port) {
    ASSERT_TRUE(opens(2, static_cast<uint16_t>(5000 + port)));
    answer();
  }
  flood(/*answered=*/false);
  EXPECT_LE(flows_->flows_of(static_cast<uint16_t>(guest_ % kFlowOwners)), kCapacity * 15 / 16 + 1);
  neighbours_open(100);
  EXPECT_EQ(flows_->flows_of(static_cast<uint16_t>(neighbour_ % kFlowOwners)), 120u);
  for (uint16_t port = 1; port <= 20; ++port) {
    forget();
    from_peer(12, udp("198.51.100.1", 53, "10.9.1.1", static_cast<uint16_t>(5000 + port)));
    EXPECT_EQ(at_peer(2).size(), 1u) << "an established flow lives";
  }
}

TEST_F(HostileGuest, EvenWithAFriendOutsideWhoAnswers) {
  begin(masquerade());
  flood(/*answered=*/true);
  EXPECT_LE(flows_->flows_of(static_cast<uint16_t>(guest_ % kFlowOwners)), kCapacity * 15 / 16 + 1);
  EXPECT_GT(dropped(DropReason::flow_share), 0u);
  EXPECT_EQ(dropped(DropReason::flow_table_full), 0u);
  neighbours_open(25);
}

TEST_F(HostileGuest, TakesItsShareOfPorts) {
  begin(independent(masquerade()), 40000, 40159);
  flood(/*answered=*/true);
  EXPECT_EQ(flows_->mappings().size(), 150u);
  EXPECT_GT(dropped(DropReason::flow_share), 0u);
  EXPECT_TRUE(opens(2, 5000));
  EXPECT_TRUE(host_opens(5000));
}

}  // namespace
}  // namespace sallyport::test
