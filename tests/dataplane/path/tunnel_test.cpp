#include "dataplane/path/tunnel.h"

#include "dataplane/base/rcu.h"
#include "tests/dataplane/path/line.h"

namespace sallyport::test {
namespace {

TEST(PeerSlots, ClaimsEachOnceAndTheReleasedAgain) {
  PeerSlots slots;
  EXPECT_EQ(slots.claim(), 0u);
  EXPECT_EQ(slots.claim(), 1u);
  EXPECT_EQ(slots.claim(), 2u);
  slots.release(1);
  EXPECT_EQ(slots.claim(), 1u);
  EXPECT_EQ(slots.claim(), 3u);
}

TEST(PeerSlots, AreBounded) {
  PeerSlots slots;
  for (uint32_t i = 0; i < wireguard::kPeersMax; ++i) {
    ASSERT_EQ(slots.claim(), i);
  }
  EXPECT_EQ(slots.claim(), std::nullopt);
  slots.release(12345);
  EXPECT_EQ(slots.claim(), 12345u);
}

TEST(PeerSlots, GetsWhatWasSet) {
  PeerSlots slots;
  wireguard::Peer one({}, 0, 1), other({}, 0, 1);
  EXPECT_EQ(slots.get(0), nullptr);
  EXPECT_EQ(slots.get(wireguard::kPeersMax - 1), nullptr) << "a chunk that is not there yet";
  slots.set(0, &one);
  slots.set(1023, &other);
  slots.set(1024, &one);
  slots.set(wireguard::kPeersMax - 1, &other);
  EXPECT_EQ(slots.get(0), &one);
  EXPECT_EQ(slots.get(1), nullptr);
  EXPECT_EQ(slots.get(1023), &other);
  EXPECT_EQ(slots.get(1024), &one);
  EXPECT_EQ(slots.get(wireguard::kPeersMax - 1), &other);
  slots.set(1024, nullptr);
  EXPECT_EQ(slots.get(1024), nullptr);
}

TEST(SharedOwners, ListsAreFoundByTheirValue) {
  SharedOwners shared;
  std::vector<LpmValue> values;
  for (uint32_t i = 0; i < 700; ++i) {  // more than two chunks
    values.push_back(*shared.add({i, i + 1, i + 2}));
    EXPECT_TRUE(SharedOwners::is_shared(values.back()));
    EXPECT_NE(values.back(), kLpmMiss);
  }
  for (uint32_t i = 0; i < 700; ++i) {
    EXPECT_EQ(shared.get(values[i]), (SharedOwners::List{i, i + 1, i + 2}));
  }
  for (const uint32_t slot : {0u, 1u, uint32_t{wireguard::kPeersMax} - 1}) {
    EXPECT_FALSE(SharedOwners::is_shared(slot));
  }
}

TEST(SharedOwners, ANumberIsUsedAgainAfterAGracePeriod) {
  SharedOwners shared;
  const LpmValue first = *shared.add({1, 2});
  shared.remove(first);
  rcu_barrier_all();
  EXPECT_EQ(shared.add({3, 4}), first);
  EXPECT_EQ(shared.get(first), (SharedOwners::List{3, 4}));
}

TEST(SharedOwners, AreBounded) {
  SharedOwners shared;
  LpmValue last = 0;
  for (uint32_t i = 0; i < SharedOwners::kListsMax; ++i) {
    last = *shared.add({i});
  }
  EXPECT_NE(last, kLpmMiss);
  EXPECT_EQ(shared.add({1, 2}), std::nullopt);
  shared.remove(last);
  rcu_barrier_all();
  EXPECT_EQ(shared.add({1, 2}), last);
}

TEST(IndexEntry, IsASessionOrAPeerOrNothing) {
  wireguard::Keypair keypair;
  wireguard::Peer peer({}, 0, 1);
  EXPECT_EQ(IndexEntry(&keypair).keypair(), &keypair);
  EXPECT_EQ(IndexEntry(&keypair).peer(), nullptr);
  EXPECT_EQ(IndexEntry(&peer).peer(), &peer);
  EXPECT_EQ(IndexEntry(&peer).keypair(), nullptr);
  EXPECT_EQ(IndexEntry(uintptr_t{0}).keypair(), nullptr);
  EXPECT_EQ(IndexEntry(uintptr_t{0}).peer(), nullptr);
  EXPECT_EQ(IndexEntry(IndexEntry(&peer).value()).peer(), &peer);
}

class TunnelTest : public Line {};

TEST_F(TunnelTest, OwnersByAddress) {
  const auto owner = [&](const Bytes& address) {
    return tunnel.owner_of(address.size() == 4 ? Family::v4 : Family::v6, address.data());
  };
  EXPECT_EQ(owner({10, 0, 0, 2}), &peer(1));
  EXPECT_EQ(owner({10, 0, 0, 3}), &peer(2));
  EXPECT_EQ(owner({10, 0, 0, 4}), nullptr);
  Bytes v6(16);
  v6[0] = 0xfd;
  v6[15] = 2;
  EXPECT_EQ(owner(v6), &peer(1));
  v6[14] = 1;
  EXPECT_EQ(owner(v6), nullptr);
  tunnel.peers.set(1, nullptr);
  EXPECT_EQ(owner({10, 0, 0, 2}), nullptr) << "its table entry may outlive a peer for a moment";
  tunnel.peers.set(1, &peer(1));
}

class SharedPrefix : public TunnelTest {
 protected:
  // 0.0.0.0/0 is these slots' from now on.
  void share(const SharedOwners::List& slots) {
    value_ = *tunnel.shared.add(slots);
    tunnel.allowed_v4.insert(Lpm4::from_bytes(any_), 0, value_);
  }
  wireguard::Peer* owner(const Bytes& address) {
    return tunnel.owner_of(Family::v4, address.data());
  }
  bool allows(uint32_t slot, const Bytes& address) {
    return tunnel.allows(peer(slot), Family::v4, address.data());
  }

  LpmValue value_ = 0;
  const uint8_t any_[4] = {};
};

TEST_F(SharedPrefix, AllOfTheListMaySendAndTheFirstIsSentTo) {
  add_peer(3);
  share({2, 1});
  EXPECT_EQ(owner({192, 0, 2, 1}), &peer(2));
  EXPECT_TRUE(allows(1, {192, 0, 2, 1}));
  EXPECT_TRUE(allows(2, {192, 0, 2, 1}));
  EXPECT_FALSE(allows(3, {192, 0, 2, 1}));
}

TEST_F(SharedPrefix, ALongerPrefixIsStillItsOwners) {
  share({1, 2});
  EXPECT_EQ(owner({10, 0, 0, 3}), &peer(2));
  EXPECT_TRUE(allows(2, {10, 0, 0, 3}));
  EXPECT_FALSE(allows(1, {10, 0, 0, 3})) << "the longest prefix decides, as in WireGuard";
}

TEST_F(SharedPrefix, WhoHasLeftMaySendNoMore) {
  share({1, 2});
  tunnel.peers.set(1, nullptr);
  EXPECT_FALSE(allows(1, {192, 0, 2, 1}));
  EXPECT_TRUE(allows(2, {192, 0, 2, 1}));
  EXPECT_EQ(owner({192, 0, 2, 1}), nullptr) << "for a moment: the list is about to be replaced";
  wireguard::Peer successor({}, 1, kWorkers);
  tunnel.peers.set(1, &successor);
  EXPECT_FALSE(allows(1, {192, 0, 2, 1})) << "his place is another's now";
  EXPECT_TRUE(tunnel.allows(successor, Family::v4, any_));
  tunnel.peers.set(1, &peer(1));
}

TEST_F(SharedPrefix, DownToOneAndNone) {
  share({1, 2});
  tunnel.allowed_v4.insert(Lpm4::from_bytes(any_), 0, 2);
  tunnel.shared.remove(value_);
  EXPECT_EQ(owner({192, 0, 2, 1}), &peer(2));
  EXPECT_FALSE(allows(1, {192, 0, 2, 1}));
  EXPECT_TRUE(allows(2, {192, 0, 2, 1}));
  tunnel.allowed_v4.remove(Lpm4::from_bytes(any_), 0);
  EXPECT_EQ(owner({192, 0, 2, 1}), nullptr);
  EXPECT_FALSE(allows(2, {192, 0, 2, 1}));
  rcu_barrier_all();
}

TEST_F(TunnelTest, ARetiredSessionIsFoundNoMore) {
  const uint32_t first = session(1).local_index;
  const uint32_t second = session(1).local_index;
  const uint32_t third = session(1).local_index;  // displaces the first
  EXPECT_EQ(tunnel.indices.lookup(first), 0u);
  EXPECT_NE(tunnel.indices.lookup(second), 0u);
  EXPECT_NE(tunnel.indices.lookup(third), 0u);
  tunnel.retire(peer(1).keypairs.clear());
  EXPECT_EQ(tunnel.indices.lookup(second), 0u);
  EXPECT_EQ(tunnel.indices.lookup(third), 0u);
  EXPECT_EQ(tunnel.indices.size(), 0u);
  tunnel.retire({});
  rcu_barrier_all();
}

}  // namespace
}  // namespace sallyport::test
