#include "dataplane/wireguard/peer.h"

#include <gtest/gtest.h>

namespace sallyport::wireguard {
namespace {

TEST(Peer, BeginsSilentAndUnreachable) {
  PublicKey key;
  key.fill(7);
  const Peer peer(key, 42, 4);
  EXPECT_EQ(peer.public_key, key);
  EXPECT_EQ(peer.slot, 42u);
  EXPECT_FALSE(peer.endpoint.load().is_set());
  EXPECT_EQ(peer.keypairs.current(), nullptr);
  EXPECT_TRUE(peer.timers.idle());
  EXPECT_EQ(peer.staged.records, 0u);
  EXPECT_FALSE(peer.handshake.can_talk());
}

TEST(Peer, TotalsSumEveryWorkerAndTheHandshaker) {
  const Peer peer(PublicKey{}, 0, 3);
  for (unsigned worker = 0; worker <= 3; ++worker) {
    peer.counters[worker].rx_bytes = 1;
    peer.counters[worker].tx_bytes = 10;
    peer.counters[worker].rx_packets = 100;
    peer.counters[worker].tx_packets = 1000;
  }
  const PeerTotals totals = peer.totals();
  EXPECT_EQ(totals.rx_bytes, 4u);
  EXPECT_EQ(totals.tx_bytes, 40u);
  EXPECT_EQ(totals.rx_packets, 400u);
  EXPECT_EQ(totals.tx_packets, 4000u);
}

TEST(Peer, EachWorkersCountersHaveALineOfTheirOwn) {
  EXPECT_EQ(sizeof(PeerCounters), 64u);
  EXPECT_EQ(alignof(PeerCounters), 64u);
}

// The limit is 8 KiB for an idle peer, table entries and allowed-IPs included.
TEST(Peer, AnIdlePeerIsSmall) {
  EXPECT_LE(sizeof(Peer), 2048u);
}

TEST(Peer, ItsCookiesAreForItsKey) {
  Identity ours;
  uint8_t private_key[32] = {1, 2, 3};
  ours.set_private_key(private_key);
  Peer peer(ours.public_key, 0, 1);
  MessageInitiation message{};
  auto* bytes = reinterpret_cast<uint8_t*>(&message);
  peer.cookies.add_macs(kSecond, bytes, sizeof(message));
  CookieChecker checker;
  checker.set_public_key(ours.public_key);
  EXPECT_TRUE(checker.check_mac1(bytes, sizeof(message)));
}

}  // namespace
}  // namespace sallyport::wireguard
