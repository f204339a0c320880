// The engine under control's hand: peers that come and go, keys that change, ports and pools that
// run out, several workers.
#include "dataplane/base/mailbox.h"
#include "tests/dataplane/pair.h"

namespace sallyport::test {
namespace {

using wireguard::MessageKind;
using Texts = std::vector<std::string>;

class Control : public Pair {
 protected:
  static PeerChange removal(const Node& node) {
    PeerChange change;
    change.public_key = node.public_key();
    change.remove = true;
    return change;
  }
  std::unique_ptr<Node> add_c() {
    auto c =
        std::make_unique<Node>(filled_key(0x33), *parse_endpoint("192.0.2.3:3000"), NodeOptions{});
    network_.add(*c);
    c->apply(as_peer(*a_, {"10.0.0.1/32"}));
    return c;
  }
};

// -- Up and down.

TEST_F(Control, DownForgetsSessionsAndSendsNothing) {
  meet();
  a_->engine().set_up(false);
  EXPECT_EQ(a_->engine().status().indices, 0u);
  send_a("nobody leaves");
  network_.settle();
  EXPECT_TRUE(network_.wire().empty());
  EXPECT_EQ(a_->drops(DropReason::tunnel_down), 1u);
  send_b("nobody home");
  network_.advance(60 * kSecond);
  EXPECT_EQ(network_.count(MessageKind::initiation, *a_), 0u);
  EXPECT_EQ(network_.count(MessageKind::response, *a_), 0u);
  EXPECT_EQ(data_messages(*a_), 0u);
  EXPECT_TRUE(a_->host_packets().empty());
}

TEST_F(Control, UpAgainMakesANewSession) {
  meet();
  a_->engine().set_up(false);
  network_.advance(kSecond);
  a_->engine().set_up(true);
  send_a("back");
  network_.settle();
  EXPECT_EQ(initiations(*a_), 1u);
  EXPECT_EQ(texts(*b_), Texts{"back"});
}

TEST_F(Control, UpAgainBeginsPersistentKeepalives) {
  a_->engine().set_up(false);
  PeerChange change = as_peer(*b_, {});
  change.persistent_keepalive = 25;
  a_->apply(change);
  network_.advance(30 * kSecond);
  EXPECT_TRUE(network_.wire().empty());
  a_->engine().set_up(true);
  network_.advance(10 * kMillisecond);
  EXPECT_EQ(initiations(*a_), 1u);
  EXPECT_EQ(data_messages(*a_), 1u);
}

TEST_F(Control, StagedPacketsDoNotOutliveTheInterface) {
  network_.set_filter([](Datagram&) { return false; });
  send_a("too late");
  network_.settle();
  a_->engine().set_up(false);
  network_.advance(6 * kSecond);
  a_->engine().set_up(true);
  network_.pass_all();
  send_a("fresh");
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"fresh"});
}

TEST_F(Control, WithoutSocketsNothingLeavesAndNothingBreaks) {
  meet();
  a_->engine().set_outer_ports({});
  a_->plain().inject(udp(forth(), text("no way out")));
  a_->settle();
  EXPECT_EQ(a_->drops(DropReason::outer_send_failed), 1u);
  a_->connect_outer();
  send_a("a way out");
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"a way out"});
}

TEST_F(Control, NewPortsTakeOverInTheMiddleOfASession) {
  meet();
  for (int i = 0; i < 5; ++i) {
    a_->connect_outer();
    a_->connect_plain();
    send_a("still here");
    network_.settle();
    EXPECT_EQ(texts(*b_), Texts{"still here"});
  }
  EXPECT_EQ(initiations(*a_), 0u);
}

// -- Keys.

TEST_F(Control, ANewPrivateKeyEndsAllSessions) {
  meet();
  const KeyBytes fresh = filled_key(0x77);
  TunnelChange change;
  change.private_key = fresh;
  a_->apply(change);
  EXPECT_EQ(a_->engine().status().indices, 0u);
  EXPECT_EQ(a_->engine().describe().public_key, public_key_of(fresh));
  send_a("who am I?");
  network_.settle();
  EXPECT_TRUE(texts(*b_).empty());
  EXPECT_EQ(b_->drops(DropReason::initiation_unknown_peer), 1u);
  PeerChange peer;
  peer.public_key = public_key_of(fresh);
  peer.allowed_ips = {{*parse_prefix("10.0.0.1/32"), false}};
  b_->apply(peer);
  network_.advance(6 * kSecond);
  EXPECT_EQ(texts(*b_), Texts{"who am I?"});
}

TEST_F(Control, TheSamePrivateKeyAgainChangesNothing) {
  meet();
  TunnelChange change;
  change.private_key = filled_key(0x11);
  a_->apply(change);
  meet();
  EXPECT_EQ(initiations(*a_), 0u);
}

TEST_F(Control, WithoutAPrivateKeyNothingIsSaid) {
  TunnelChange change;
  change.private_key = KeyBytes{};
  a_->apply(change);
  send_a("mute");
  send_b("deaf");
  network_.settle();
  EXPECT_EQ(initiations(*a_), 0u);
  EXPECT_EQ(sent(MessageKind::response, *a_), 0u);
  EXPECT_EQ(a_->drops(DropReason::handshake_no_private_key), 2u);  // ours to send, theirs to answer
}

TEST_F(Control, OurOwnKeyIsNobodysPeer) {
  PeerChange self;
  self.public_key = a_->public_key();
  self.allowed_ips = {{*parse_prefix("0.0.0.0/0"), false}};
  a_->apply(self);
  EXPECT_EQ(a_->engine().describe().peers.size(), 1u);
  TunnelChange becomes_b;  // and a peer that we become is a peer no more
  becomes_b.private_key = filled_key(0x22);
  a_->apply(becomes_b);
  EXPECT_TRUE(a_->engine().describe().peers.empty());
}

// -- Peers.

TEST_F(Control, APeerCanBeRemovedWhilePacketsWaitForIt) {
  network_.set_filter([](Datagram&) { return false; });
  send_a("one");
  send_a("two");
  network_.settle();
  const size_t blocks = a_->engine().status().staging_blocks_free;
  a_->apply(removal(*b_));
  EXPECT_EQ(a_->drops(DropReason::peer_removed), 2u);
  EXPECT_GT(a_->engine().status().staging_blocks_free, blocks);
  EXPECT_TRUE(a_->engine().describe().peers.empty());
  EXPECT_EQ(a_->engine().status().indices, 0u);
  network_.wire().clear();
  network_.advance(30 * kSecond);
  EXPECT_TRUE(network_.wire().empty());
  send_a("nobody's");
  network_.settle();
  EXPECT_EQ(a_->drops(DropReason::no_peer), 1u);
}

TEST_F(Control, ARemovedPeersMessagesAreStrangers) {
  meet();
  b_->apply(removal(*a_));
  send_a("hello?");
  network_.settle();
  EXPECT_TRUE(texts(*b_).empty());
  EXPECT_EQ(b_->drops(DropReason::unknown_index), 1u);
}

TEST_F(Control, APeerAddedAgainStartsFromNothing) {
  meet();
  a_->apply(removal(*b_));
  network_.advance(kSecond);
  a_->apply(as_peer(*b_, {"10.0.0.2/32"}));
  EXPECT_EQ(a_->peer().handshakes, 0u);
  EXPECT_EQ(a_->peer().tx_bytes, 0u);
  send_a("me again");
  network_.settle();
  EXPECT_EQ(initiations(*a_), 1u);
  EXPECT_EQ(texts(*b_), Texts{"me again"});
}

TEST_F(Control, PeersComeAndGoWithoutLeakingSlots) {
  meet();
  for (int i = 0; i < 200; ++i) {
    a_->apply(removal(*b_));
    a_->apply(as_peer(*b_, {"10.0.0.2/32"}));
  }
  network_.advance(kSecond);
  send_a("after all that");
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"after all that"});
}

TEST_F(Control, AnAllowedIpMovesToWhoeverClaimedItLast) {
  const std::unique_ptr<Node> c = add_c();
  meet();
  a_->apply(as_peer(*c, {"10.0.0.2/32"}));
  TunnelState state = a_->engine().describe();
  ASSERT_EQ(state.peers.size(), 2u);
  EXPECT_EQ(state.peers[0].allowed_ips, std::vector<IpPrefix>{*parse_prefix("fd00::2/128")});
  EXPECT_EQ(state.peers[1].allowed_ips, std::vector<IpPrefix>{*parse_prefix("10.0.0.2/32")});
  send_a("for c now");
  network_.settle();
  EXPECT_EQ(texts(*c), Texts{"for c now"});
  send_b("no longer mine to say");
  network_.settle();
  EXPECT_TRUE(texts(*a_).empty());
  EXPECT_EQ(a_->drops(DropReason::source_not_allowed), 1u);
  PeerChange gives_up = as_peer(*c, {}, false);
  gives_up.allowed_ips = {{*parse_prefix("10.0.0.2/32"), true}};
  a_->apply(gives_up);
  send_a("for nobody");
  network_.settle();
  EXPECT_EQ(a_->drops(DropReason::no_peer), 1u);
}

TEST_F(Control, TheLongestPrefixWins) {
  const std::unique_ptr<Node> c = add_c();
  a_->apply(as_peer(*c, {"10.0.0.0/8"}));
  send_a("to b");
  a_->plain().inject(udp({.destination = "10.9.9.9"}, text("to c")));
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"to b"});
  EXPECT_EQ(texts(*c), Texts{"to c"});
}

TEST_F(Control, UpdateOnlyAndReplaceMeanWhatTheySay) {
  PeerChange stranger;
  stranger.public_key = public_key_of(filled_key(0x99));
  stranger.update_only = true;
  a_->apply(stranger);
  EXPECT_EQ(a_->engine().describe().peers.size(), 1u);
  PeerChange narrower = as_peer(*b_, {"10.0.0.7/32"});
  narrower.replace_allowed_ips = true;
  a_->apply(narrower);
  EXPECT_EQ(a_->peer().allowed_ips, std::vector<IpPrefix>{*parse_prefix("10.0.0.7/32")});
  TunnelChange only_stranger;
  only_stranger.replace_peers = true;
  stranger.update_only = false;
  only_stranger.peers = {stranger};
  a_->apply(only_stranger);
  ASSERT_EQ(a_->engine().describe().peers.size(), 1u);
  EXPECT_EQ(a_->peer().public_key, stranger.public_key);
}

// -- Staging.

TEST_F(Control, APeersQueueKeepsTheNewest128) {
  network_.set_filter([](Datagram&) { return false; });
  for (int i = 0; i < 200; ++i) {
    send_a(std::to_string(i));
    network_.settle();
  }
  EXPECT_EQ(a_->drops(DropReason::staged_overflow), 200 - wireguard::kStagedPacketsMax);
  network_.pass_all();
  network_.advance(6 * kSecond);
  const Texts got = texts(*b_);
  ASSERT_EQ(got.size(), wireguard::kStagedPacketsMax);
  EXPECT_EQ(got.front(), "72");
  EXPECT_EQ(got.back(), "199");
}

TEST_F(Control, AllQueuesTogetherAreBounded) {
  begin({.staging_blocks = 16});
  network_.set_filter([](Datagram&) { return false; });
  for (int i = 0; i < 40; ++i) {
    send_a(std::to_string(i));
  }
  network_.settle();
  EXPECT_EQ(a_->engine().status().staging_blocks_free, 0u);
  EXPECT_EQ(a_->drops(DropReason::staged_overflow), 24u);
  network_.pass_all();
  network_.advance(6 * kSecond);
  EXPECT_EQ(texts(*b_).size(), 16u);
  EXPECT_EQ(a_->engine().status().staging_blocks_free, 16u);
}

// -- Memory.

TEST_F(Control, ADryPoolIsACountedDropAndPasses) {
  begin({.buffers_per_worker = 24});  // of these the host's packets alone take 32 at a time
  meet();
  for (int i = 0; i < 50; ++i) {
    a_->plain().inject(udp(forth(), pattern(1'200)));
  }
  network_.settle();
  const uint64_t lost = a_->drops(DropReason::pool_dry);
  EXPECT_GT(lost, 0u);
  EXPECT_EQ(data_messages(*a_) + lost, 50u);
  EXPECT_EQ(b_->host_packets().size() + lost, 50u);
  send_a("all is well");
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"all is well"});
}

// -- Several workers.

class Workers : public Control {
 protected:
  void begin_default() override { begin({.workers = 4}, {.workers = 4}); }
};

TEST_F(Workers, APacketLeavesByAnyAndArrivesAtTheIndexsOwner) {
  meet();
  for (unsigned i = 0; i < 4; ++i) {
    a_->plain(i).inject(udp(forth(), text("by " + std::to_string(i))));
  }
  network_.settle();
  Texts got = texts(*b_);
  std::sort(got.begin(), got.end());
  EXPECT_EQ(got, (Texts{"by 0", "by 1", "by 2", "by 3"}));
  uint64_t handed_over = 0;
  for (const WorkerStatus& worker : b_->engine().status().workers) {
    handed_over += worker.handed_over;
  }
  EXPECT_EQ(handed_over, 0u);
}

TEST_F(Workers, NewSessionsTakeTurnsOverTheWorkers) {
  std::vector<uint32_t> owners;
  for (int i = 0; i < 4; ++i) {
    send_a("x");
    network_.settle();
    owners.push_back(network_.wire().back().receiver() & 0xff);
    network_.advance(121 * kSecond);
    send_a("rekey");
    network_.settle();
  }
  std::sort(owners.begin(), owners.end());
  EXPECT_EQ(owners.front(), 0u);
  EXPECT_EQ(owners.back(), 3u);
}

TEST_F(Workers, WhatArrivesAtTheWrongWorkerFindsItsOwner) {
  meet();
  network_.set_filter([this](Datagram& datagram) {
    if (datagram.is_data()) {
      b_->outer((datagram.receiver() + 1) % 4).inject(datagram.bytes, datagram.from);
    }
    return !datagram.is_data();
  });
  send_a("detour");
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"detour"});
}

TEST_F(Workers, ATrainOfSeveralOwnersIsSortedOut) {
  const std::unique_ptr<Node> c = add_c();
  c->apply(as_peer(*b_, {"10.0.0.2/32"}));
  b_->apply(as_peer(*c, {"10.0.0.3/32"}));
  meet();
  c->plain().inject(udp({.source = "10.0.0.3"}, text("hello, too")));
  network_.settle();
  b_->host_packets();
  std::vector<Datagram> held;
  network_.set_filter([&](Datagram& datagram) {
    held.push_back(datagram);
    return false;
  });
  for (int i = 0; i < 5; ++i) {
    send_a("from a");
    c->plain().inject(udp({.source = "10.0.0.3"}, text("from c")));
    network_.settle();
  }
  ASSERT_EQ(held.size(), 10u);
  ASSERT_NE(held[0].receiver() & 0xff, held[1].receiver() & 0xff);
  Bytes train;
  for (const Datagram& datagram : held) {
    ASSERT_EQ(datagram.bytes.size(), held[0].bytes.size());
    train.insert(train.end(), datagram.bytes.begin(), datagram.bytes.end());
  }
  b_->outer(2).inject_train(train, static_cast<uint32_t>(held[0].bytes.size()), a_->address());
  network_.settle();
  Texts got = texts(*b_);
  std::sort(got.begin(), got.end());
  ASSERT_EQ(got.size(), 10u);
  EXPECT_EQ(got[4], "from a");
  EXPECT_EQ(got[5], "from c");
}

TEST_F(Workers, HandshakesThatLandOnAWorkersSocketAreAnswered) {
  network_.set_filter([this](Datagram& datagram) {
    Node& to = datagram.to.same_remote(a_->address()) ? *a_ : *b_;
    if (!datagram.is_data()) {
      to.outer(3).inject(datagram.bytes, datagram.from);
    }
    return datagram.is_data();
  });
  send_a("roundabout");
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"roundabout"});
}

TEST_F(Workers, DataThatLandsOnTheHandshakeSocketIsOpened) {
  meet();
  network_.set_filter([this](Datagram& datagram) {
    b_->handshake_port().inject(datagram.bytes, datagram.from);
    return false;
  });
  send_a("wrong door");
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"wrong door"});
}

TEST_F(Workers, AFullMailboxIsACountedDrop) {
  meet();
  std::vector<Datagram> held;
  network_.set_filter([&](Datagram& datagram) {
    held.push_back(datagram);
    return false;
  });
  constexpr size_t kPackets = 300;
  for (size_t i = 0; i < kPackets; ++i) {
    send_a("x");
  }
  network_.settle();
  const unsigned owner = held[0].receiver() & 0xff;
  const unsigned other = (owner + 1) % 4;
  for (const Datagram& datagram : held) {
    b_->outer(other).inject(datagram.bytes, datagram.from);
  }
  b_->enter();
  while (b_->engine().step_worker(other)) {  // while the owner does nothing
  }
  network_.settle();
  EXPECT_EQ(b_->host_packets().size() + b_->drops(DropReason::mailbox_full), kPackets);
}

// More peers want a handshake at once than the handshaker's mailbox holds: none is forgotten.
TEST_F(Control, RequestsThatFindTheMailboxFullAreFoundByLooking) {
  begin({.staging_blocks = 8'192});
  constexpr uint32_t kPeers = Mailbox::kMessages + 104;
  TunnelChange change;
  for (uint32_t i = 0; i < kPeers; ++i) {
    PeerChange peer;
    wireguard::PublicKey key{};
    SeededSodium::buf(key.data(), key.size());
    peer.public_key = key;
    peer.endpoint = *parse_endpoint("198.51.100.1:1");
    peer.allowed_ips = {
        {*parse_prefix("10.1." + std::to_string(i / 256) + "." + std::to_string(i % 256) + "/32"),
         false}};
    change.peers.push_back(peer);
  }
  a_->apply(change);
  for (uint32_t i = 0; i < kPeers; ++i) {
    a_->plain().inject(
        udp({.destination = "10.1." + std::to_string(i / 256) + "." + std::to_string(i % 256)},
            text("x")));
  }
  a_->enter();
  while (a_->engine().step_worker(0)) {
  }
  a_->settle();
  EXPECT_EQ(a_->engine().status().handshakes_initiated, kPeers);
}

}  // namespace
}  // namespace sallyport::test
