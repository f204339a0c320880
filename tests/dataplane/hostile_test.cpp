// What an attacker on the wire, a stranger, or a peer that means ill can and cannot do to a real
// engine.
#include "tests/dataplane/puppet.h"

namespace sallyport::test {
namespace {

using wireguard::MessageKind;
using Texts = std::vector<std::string>;

const Endpoint kElsewhere = *parse_endpoint("198.51.100.7:7777");

class Hostile : public Pair {
 protected:
  // B as seen by the puppet: a peer who may send from 10.0.0.66 and fd00::66.
  void introduce(const Puppet& puppet) {
    PeerChange peer;
    peer.public_key = puppet.public_key();
    peer.allowed_ips = {{*parse_prefix("10.0.0.66/32"), false},
                        {*parse_prefix("fd00::66/128"), false}};
    b_->apply(peer);
  }
  Puppet make_puppet() {
    Puppet puppet(filled_key(0x66), b_->public_key());
    introduce(puppet);
    return puppet;
  }
  // A capture of what A sends next, which does not arrive.
  std::vector<Datagram> capture(std::initializer_list<std::string_view> messages) {
    std::vector<Datagram> held;
    network_.set_filter([&](Datagram& datagram) {
      held.push_back(datagram);
      return false;
    });
    for (const std::string_view message : messages) {
      send_a(message);
    }
    network_.settle();
    network_.pass_all();
    return held;
  }
  // Makes B spend so much on junk that it believes itself under load.
  void overload_b() {
    b_->clock().cost_step = 60 * kMillisecond;
    for (int i = 0; i < 4; ++i) {
      Bytes junk(sizeof(wireguard::MessageInitiation));
      junk[0] = 1;
      b_->handshake_port().inject(junk, kElsewhere);
    }
    b_->settle();
    ASSERT_TRUE(b_->engine().status().under_load);
    b_->clock().cost_step = 0;
  }
};

TEST_F(Hostile, ADatagramCountsOnce) {
  meet();
  std::vector<Datagram> held = capture({"pay 100"});
  ASSERT_EQ(held.size(), 1u);
  for (int i = 0; i < 3; ++i) {
    network_.inject(held[0]);
  }
  network_.settle();
  network_.inject(held[0]);
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"pay 100"});
  EXPECT_EQ(b_->drops(DropReason::replayed_counter), 3u);
}

TEST_F(Hostile, WithinTheWindowOrderDoesNotMatter) {
  meet();
  std::vector<Datagram> held = capture({"1", "2", "3", "4"});
  ASSERT_EQ(held.size(), 4u);
  for (const size_t i : {2, 0, 3, 1}) {
    network_.inject(held[i]);
  }
  network_.settle();
  EXPECT_EQ(texts(*b_), (Texts{"3", "1", "4", "2"}));
}

TEST_F(Hostile, BehindTheWindowEverythingIsOld) {
  Puppet puppet = make_puppet();
  puppet.meet(*b_);
  const Bytes inner = udp({.source = "10.0.0.66", .destination = "10.0.0.2"}, text("x"));
  puppet.hand(*b_, puppet.seal(inner, wireguard::kReplayWindow + 10));
  puppet.hand(*b_, puppet.seal(inner, 9));  // one too old
  puppet.hand(*b_, puppet.seal(inner, 10));
  b_->settle();
  EXPECT_EQ(b_->host_packets().size(), 2u);
  EXPECT_EQ(b_->drops(DropReason::replayed_counter), 1u);
}

TEST_F(Hostile, AForgedCounterDoesNotMoveTheWindow) {
  meet();
  std::vector<Datagram> held = capture({"genuine"});
  Datagram forged = held[0];
  at<wireguard::MessageData>(forged.bytes, 0).counter = 1'000'000'000;
  network_.inject(forged);
  network_.inject(held[0]);
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"genuine"});
  EXPECT_EQ(b_->drops(DropReason::bad_tag), 1u);
}

TEST_F(Hostile, AnyChangedBitIsRefused) {
  meet();
  const std::vector<Datagram> held = capture({"untouched"});
  const size_t bits = held[0].bytes.size() * 8;
  for (size_t bit = 0; bit < bits; ++bit) {
    Datagram changed = held[0];
    changed.bytes[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    b_->outer().inject(changed.bytes, changed.from);
    network_.settle();
  }
  EXPECT_TRUE(texts(*b_).empty());
  network_.inject(held[0]);
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"untouched"});
}

TEST_F(Hostile, AuthenticatedDataMovesTheEndpoint) {
  meet();
  a_->move_to(*parse_endpoint("203.0.113.9:5555"));
  send_b("to where you were");
  network_.settle();
  EXPECT_TRUE(texts(*a_).empty());
  send_a("I am here now");
  network_.settle();
  EXPECT_TRUE(b_->peer().endpoint.same_remote(a_->address()));
  send_b("so I see");
  network_.settle();
  EXPECT_EQ(texts(*a_), Texts{"so I see"});
  EXPECT_EQ(initiations(*a_) + initiations(*b_), 0u);
}

TEST_F(Hostile, AnIpv6EndpointIsAsGood) {
  meet();
  a_->move_to(*parse_endpoint("[2001:db8::9]:5555"));
  send_a("over six");
  network_.settle();
  send_b("and back");
  network_.settle();
  EXPECT_EQ(texts(*a_), Texts{"and back"});
}

TEST_F(Hostile, ForgedOrReplayedDataDoesNotMoveTheEndpoint) {
  meet();
  const std::vector<Datagram> held = capture({"first"});
  network_.inject(held[0]);
  network_.settle();
  Datagram replayed = held[0], forged = held[0];
  replayed.from = forged.from = kElsewhere;
  forged.bytes.back() ^= 1;
  at<wireguard::MessageData>(forged.bytes, 0).counter = 77;
  network_.inject(replayed);
  network_.inject(forged);
  network_.settle();
  EXPECT_TRUE(b_->peer().endpoint.same_remote(a_->address()));
}

TEST_F(Hostile, ForgedHandshakesDoNotMoveTheEndpoint) {
  meet();
  Bytes forged;
  for (const MessageKind kind : {MessageKind::initiation, MessageKind::response}) {
    forged.assign(kind == MessageKind::initiation ? 148 : 92, 0xaa);
    at<le32>(forged, 0) = static_cast<uint32_t>(kind);
    b_->handshake_port().inject(forged, kElsewhere);
  }
  network_.settle();
  EXPECT_TRUE(b_->peer().endpoint.same_remote(a_->address()));
  EXPECT_EQ(b_->drops(DropReason::bad_mac1), 2u);
}

TEST_F(Hostile, ARecordedInitiationIsRefused) {
  std::vector<Datagram> recorded;
  network_.set_filter([&](Datagram& datagram) {
    if (datagram.kind() == MessageKind::initiation) {
      recorded.push_back(datagram);
    }
    return true;
  });
  send_a("hello");
  network_.settle();
  ASSERT_EQ(recorded.size(), 1u);
  network_.pass_all();
  network_.advance(10 * kSecond);
  network_.wire().clear();
  recorded[0].from = kElsewhere;
  network_.inject(recorded[0]);
  network_.settle();
  EXPECT_TRUE(network_.wire().empty());
  EXPECT_EQ(b_->drops(DropReason::initiation_replayed), 1u);
  EXPECT_TRUE(b_->peer().endpoint.same_remote(a_->address()));
  network_.advance(kSecond);
  send_b("and the session lives");
  network_.settle();
  EXPECT_EQ(texts(*a_), Texts{"and the session lives"});
}

TEST_F(Hostile, AStrangerGetsNoAnswer) {
  Puppet stranger(filled_key(0x77), b_->public_key());
  stranger.hand(*b_, stranger.initiation());
  network_.settle();
  EXPECT_TRUE(network_.wire().empty());
  EXPECT_EQ(b_->drops(DropReason::initiation_unknown_peer), 1u);
}

TEST_F(Hostile, WhoeverDoesNotKnowOurKeyGetsNoAnswer) {
  Puppet lost(filled_key(0x11), public_key_of(filled_key(0x55)));
  lost.hand(*b_, lost.initiation());
  network_.settle();
  EXPECT_TRUE(network_.wire().empty());
  EXPECT_EQ(b_->drops(DropReason::bad_mac1), 1u);
}

TEST_F(Hostile, DifferentPresharedKeysNeverMakeASession) {
  PeerChange change = as_peer(*b_, {});
  change.preshared_key = filled_key(0x31);
  a_->apply(change);
  send_a("will not arrive");
  send_b("nor this");
  network_.advance(60 * kSecond);
  EXPECT_TRUE(texts(*b_).empty());
  EXPECT_TRUE(texts(*a_).empty());
  EXPECT_GT(a_->drops(DropReason::response_invalid), 3u);
  EXPECT_EQ(data_messages(*a_) + data_messages(*b_), 0u);
  PeerChange agreed = as_peer(*a_, {});
  agreed.preshared_key = filled_key(0x31);
  b_->apply(agreed);
  network_.advance(6 * kSecond);
  EXPECT_EQ(texts(*b_), Texts{"will not arrive"});
}

TEST_F(Hostile, FiftyInitiationsASecondAreAllOnePeerGets) {
  Puppet puppet = make_puppet();
  for (int i = 0; i < 10; ++i) {
    FakeClock::advance(16 * kMillisecond);  // a new timestamp, but sooner than 20 ms
    puppet.hand(*b_, puppet.initiation());
    b_->settle();
  }
  EXPECT_EQ(b_->handshake_port().sent().size(), 5u);
  EXPECT_EQ(b_->drops(DropReason::initiation_too_soon), 5u);
}

TEST_F(Hostile, UnderLoadACookieComesFirst) {
  overload_b();
  network_.wire().clear();
  send_a("patience");
  network_.settle();
  EXPECT_EQ(sent(MessageKind::cookie_reply, *b_), 1u);
  EXPECT_EQ(sent(MessageKind::response, *b_), 0u);
  EXPECT_EQ(b_->drops(DropReason::under_load_no_cookie), 1u);
  EXPECT_EQ(b_->engine().status().cookies_sent, 1u);
  network_.advance(4'900 * kMillisecond);
  overload_b();
  network_.advance(500 * kMillisecond);
  EXPECT_EQ(sent(MessageKind::cookie_reply, *b_), 1u);
  EXPECT_EQ(sent(MessageKind::response, *b_), 1u);
  EXPECT_EQ(texts(*b_), Texts{"patience"});
}

TEST_F(Hostile, ACookieIsWorthNothingFromAnotherAddress) {
  Puppet puppet = make_puppet();
  overload_b();
  puppet.hand(*b_, puppet.initiation());
  b_->settle();
  const std::vector<MemoryPort::Frame> cookie = b_->handshake_port().sent();
  ASSERT_EQ(cookie.size(), 1u);
  ASSERT_TRUE(puppet.consume_cookie(cookie[0].bytes));
  FakeClock::advance(30 * kMillisecond);
  b_->handshake_port().inject(puppet.initiation(), kElsewhere);
  b_->settle();
  const std::vector<MemoryPort::Frame> again = b_->handshake_port().sent();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].bytes[0], 3);  // another cookie, for that address
  FakeClock::advance(30 * kMillisecond);
  puppet.hand(*b_, puppet.initiation());
  b_->settle();
  const std::vector<MemoryPort::Frame> answer = b_->handshake_port().sent();
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer[0].bytes[0], 2);
}

TEST_F(Hostile, UnderLoadOneSourceHasAShareAndNoMore) {
  Puppet puppet = make_puppet();
  overload_b();
  puppet.hand(*b_, puppet.initiation());
  b_->settle();
  ASSERT_TRUE(puppet.consume_cookie(b_->handshake_port().sent().at(0).bytes));
  size_t answered = 0;
  for (int i = 0; i < 30; ++i) {
    FakeClock::advance(20 * kMillisecond);
    puppet.hand(*b_, puppet.initiation());
    b_->settle();
    answered += b_->handshake_port().sent().size();
  }
  // A burst of 5 and 20 a second for 0.6 s.
  EXPECT_GT(answered, 5u);
  EXPECT_LT(answered, 20u);
  EXPECT_EQ(b_->drops(DropReason::under_load_rate_limited) +
                b_->drops(DropReason::initiation_replayed) + answered,
            30u);
}

TEST_F(Hostile, ALoadThatPassesIsForgotten) {
  overload_b();
  network_.advance(2 * kSecond);
  EXPECT_FALSE(b_->engine().status().under_load);
  send_a("business as usual");
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"business as usual"});
}

TEST_F(Hostile, AnInnerSourceThatIsNotThePeersIsDropped) {
  meet();
  a_->plain().inject(udp({.source = "10.0.0.9", .destination = "10.0.0.2"}, text("not me")));
  a_->plain().inject(udp({.source = "fd00::9", .destination = "fd00::2"}, text("not me")));
  network_.settle();
  EXPECT_TRUE(b_->host_packets().empty());
  EXPECT_EQ(b_->drops(DropReason::source_not_allowed), 2u);
  EXPECT_EQ(b_->peer().drops[static_cast<size_t>(DropReason::source_not_allowed)], 2u);
}

TEST_F(Hostile, WhatIsNoIpPacketInsideIsDropped) {
  Puppet puppet = make_puppet();
  puppet.meet(*b_);
  const Bytes good = udp({.source = "10.0.0.66", .destination = "10.0.0.2"}, text("fine"));
  std::vector<Bytes> bad = {{0x45}, Bytes(19, 0x45), Bytes(20, 0x55), Bytes(64, 0), pattern(100)};
  for (const size_t size : {1, 19, 20, 27}) {
    bad.emplace_back(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));  // cut short
  }
  Bytes longer = good;
  at<Ipv4Header>(longer, 0).total_length = static_cast<uint16_t>(good.size() + 1);
  bad.push_back(longer);
  Bytes headless = good;
  headless[0] = 0x44;  // a header of 16 bytes
  bad.push_back(headless);
  Bytes six = udp({.source = "fd00::66", .destination = "fd00::2"}, text("fine"));
  six.resize(six.size() - 1);
  bad.push_back(six);
  uint64_t counter = 1;
  for (const Bytes& inner : bad) {
    puppet.hand(*b_, puppet.seal(inner, counter++));
  }
  b_->settle();
  EXPECT_TRUE(b_->host_packets().empty());
  EXPECT_EQ(b_->drops(DropReason::inner_malformed), bad.size());
  puppet.hand(*b_, puppet.seal(joined(good, Bytes(7, 0)), counter));
  b_->settle();
  EXPECT_EQ(b_->host_packets(), std::vector<Bytes>{good});  // and padding does not come along
}

TEST_F(Hostile, WhatIsNoWireGuardMessageIsDropped) {
  meet();
  const std::vector<Bytes> bad = {{4},           Bytes(15, 4),    Bytes(31, 4),       {1, 0, 0, 0},
                                  Bytes(148, 1), {4, 1, 0, 0, 0}, Bytes(1'000, 0xff), pattern(500)};
  for (const Bytes& bytes : bad) {
    b_->outer().inject(bytes, a_->address());
    b_->handshake_port().inject(bytes, a_->address());
  }
  network_.settle();
  EXPECT_EQ(b_->drops(DropReason::outer_malformed), 2 * bad.size());
  EXPECT_TRUE(network_.wire().empty());
}

TEST_F(Hostile, AnUnknownIndexIsDropped) {
  meet();
  Bytes stray(64, 0);
  stray[0] = 4;
  b_->outer().inject(stray, a_->address());
  network_.settle();
  EXPECT_EQ(b_->drops(DropReason::unknown_index), 1u);
}

TEST_F(Hostile, AResponseToNothingIsDropped) {
  std::vector<Datagram> recorded;
  network_.set_filter([&](Datagram& datagram) {
    if (datagram.kind() == MessageKind::response) {
      recorded.push_back(datagram);
    }
    return true;
  });
  send_a("hello");
  network_.settle();
  ASSERT_EQ(recorded.size(), 1u);
  network_.inject(recorded[0]);
  network_.settle();
  EXPECT_EQ(a_->drops(DropReason::response_unexpected), 1u);
  EXPECT_EQ(a_->peer().handshakes, 1u);
}

TEST_F(Hostile, ACookieNobodyAskedForIsDropped) {
  meet();
  Bytes cookie(sizeof(wireguard::MessageCookieReply), 0x5a);
  at<le32>(cookie, 0) = 3;
  a_->handshake_port().inject(cookie, b_->address());
  network_.settle();
  EXPECT_EQ(a_->drops(DropReason::cookie_reply_invalid), 1u);
}

TEST_F(Hostile, ALowOrderKeyIsKeptAndNeverSpokenTo) {
  PeerChange peer;
  peer.public_key = {};  // the point of order one
  peer.endpoint = kElsewhere;
  peer.allowed_ips = {{*parse_prefix("10.0.0.200/32"), false}};
  a_->apply(peer);
  EXPECT_EQ(a_->engine().describe().peers.size(), 2u);
  a_->plain().inject(udp({.destination = "10.0.0.200"}, text("hm")));
  network_.advance(30 * kSecond);
  EXPECT_TRUE(network_.wire().empty());
  EXPECT_EQ(a_->drops(DropReason::peer_unusable), 1u);
}

}  // namespace
}  // namespace sallyport::test
