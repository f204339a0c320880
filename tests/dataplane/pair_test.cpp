// The protocol between two real engines: one sentence of the whitepaper a test.
#include "tests/dataplane/pair.h"

namespace sallyport::test {
namespace {

using wireguard::MessageKind;
using Texts = std::vector<std::string>;

TEST_F(Pair, OneHandshakeCarriesDataBothWays) {
  send_a("hello");
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"hello"});
  send_b("hello yourself");
  network_.settle();
  EXPECT_EQ(texts(*a_), Texts{"hello yourself"});
  EXPECT_EQ(initiations(*a_), 1u);
  EXPECT_EQ(sent(MessageKind::response, *b_), 1u);
  EXPECT_EQ(initiations(*b_), 0u);
  EXPECT_EQ(a_->peer().handshakes, 1u);
  EXPECT_EQ(b_->peer().handshakes, 1u);
  EXPECT_GT(a_->peer().last_handshake, 0);
  EXPECT_EQ(a_->peer().last_handshake, b_->peer().last_handshake);
}

TEST_F(Pair, BothFamiliesTravelInside) {
  a_->plain().inject(udp(forth6(), text("six")));
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"six"});
  b_->plain().inject(udp(back6(), text("six too")));
  network_.settle();
  EXPECT_EQ(texts(*a_), Texts{"six too"});
}

TEST_F(Pair, WhatIsSentBeforeTheHandshakeArrivesInOrder) {
  Texts expected;
  for (int i = 0; i < 50; ++i) {
    expected.push_back("number " + std::to_string(i));
    send_a(expected.back());
  }
  network_.settle();
  EXPECT_EQ(texts(*b_), expected);
  EXPECT_EQ(initiations(*a_), 1u);
}

TEST_F(Pair, NothingReadableIsOnTheWire) {
  const std::string secret = "attack at dawn, bring biscuits";
  send_a(secret);
  network_.settle();
  send_b(secret);
  network_.settle();
  ASSERT_EQ(texts(*b_), Texts{secret});
  for (const Datagram& datagram : network_.wire()) {
    const std::string seen(datagram.bytes.begin(), datagram.bytes.end());
    EXPECT_EQ(seen.find("attack"), std::string::npos);
    EXPECT_EQ(seen.find("biscuits"), std::string::npos);
  }
}

// A first packet that confirms the session needs no keepalive beside it; a session that A made for
// nothing does.
TEST_F(Pair, OneKeepaliveConfirmsASessionWithNothingToSay) {
  PeerChange change = as_peer(*b_, {});
  change.persistent_keepalive = 25;
  a_->apply(change);
  network_.advance(10 * kMillisecond);
  EXPECT_EQ(initiations(*a_), 1u);
  ASSERT_EQ(data_messages(*a_), 1u);
  EXPECT_EQ(network_.wire().back().bytes.size(), wireguard::kDataOverhead);
  EXPECT_EQ(data_messages(*b_), 0u);
  EXPECT_EQ(b_->peer().handshakes, 1u);
  EXPECT_TRUE(b_->host_packets().empty());
}

TEST_F(Pair, StagedDataIsTheConfirmationAndNoKeepaliveIsAdded) {
  send_a("one");
  network_.settle();
  EXPECT_EQ(data_messages(*a_), 1u);
}

TEST_F(Pair, TheResponderStagesUntilTheInitiatorHasConfirmed) {
  network_.set_filter([](Datagram& datagram) { return !datagram.is_data(); });
  send_a("lost");
  network_.settle();
  send_b("waits");
  network_.settle();
  EXPECT_EQ(data_messages(*b_), 0u);
  network_.pass_all();
  send_a("confirms");
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"confirms"});
  EXPECT_EQ(texts(*a_), Texts{"waits"});
}

TEST_F(Pair, TheInitiatorRekeysAfter120Seconds) {
  meet();
  network_.advance(119 * kSecond);
  network_.wire().clear();
  send_a("before");
  network_.settle();
  EXPECT_EQ(initiations(*a_), 0u);
  network_.advance(kSecond);
  send_a("after");
  network_.settle();
  EXPECT_EQ(initiations(*a_), 1u);
  EXPECT_EQ(texts(*b_), (Texts{"before", "after"}));
  EXPECT_EQ(a_->peer().handshakes, 2u);
}

TEST_F(Pair, TheResponderDoesNotRekeyAfter120Seconds) {
  meet();
  network_.advance(121 * kSecond);
  network_.wire().clear();
  send_b("old key, still good");
  network_.settle();
  EXPECT_EQ(texts(*a_), Texts{"old key, still good"});
  EXPECT_EQ(initiations(*a_) + initiations(*b_), 0u);
}

TEST_F(Pair, TheInitiatorRekeysOnReceivingShortlyBeforeTheEnd) {
  meet();
  network_.advance(164 * kSecond);
  send_b("too early to care");
  network_.settle();
  EXPECT_EQ(initiations(*a_), 0u);
  network_.advance(kSecond);
  send_b("it is time");
  send_b("once is enough");
  network_.settle();
  EXPECT_EQ(initiations(*a_), 1u);
  EXPECT_EQ(initiations(*b_), 0u);
}

TEST_F(Pair, NothingIsSealedUnderAKeyOf180Seconds) {
  meet();
  network_.advance(180 * kSecond);
  network_.wire().clear();
  network_.set_filter([](Datagram&) { return false; });
  send_b("no key for this");
  network_.settle();
  EXPECT_EQ(data_messages(*b_), 0u);
  EXPECT_EQ(initiations(*b_), 1u);
  network_.pass_all();
  network_.advance(6 * kSecond);
  EXPECT_EQ(texts(*a_), Texts{"no key for this"});
}

TEST_F(Pair, NothingIsOpenedUnderAKeyOf180Seconds) {
  meet();
  Datagram late;
  network_.set_filter([&](Datagram& datagram) {
    late = datagram;
    return false;
  });
  send_a("slow boat");
  network_.settle();
  ASSERT_TRUE(late.is_data());
  FakeClock::advance(180 * kSecond);
  network_.inject(late);
  network_.settle();
  EXPECT_TRUE(texts(*b_).empty());
  EXPECT_EQ(b_->drops(DropReason::expired_key), 1u);
}

TEST_F(Pair, KeysAreForgottenAfterThreeTimes180Seconds) {
  meet();
  network_.advance(539 * kSecond);
  EXPECT_EQ(a_->engine().status().indices, 1u);
  EXPECT_EQ(b_->engine().status().indices, 1u);
  network_.advance(2 * kSecond);
  EXPECT_EQ(a_->engine().status().indices, 0u);
  EXPECT_EQ(b_->engine().status().indices, 0u);
  EXPECT_EQ(a_->sleep(), INT64_MAX);  // an idle peer wants nothing any more
  EXPECT_EQ(b_->sleep(), INT64_MAX);
}

TEST_F(Pair, ReceivedDataIsAnsweredByOneKeepaliveAfterTenSeconds) {
  meet();
  network_.advance(30 * kSecond);
  network_.wire().clear();
  send_a("anyone there?");
  network_.advance(9'900 * kMillisecond);
  EXPECT_EQ(data_messages(*b_), 0u);
  network_.advance(200 * kMillisecond);
  ASSERT_EQ(data_messages(*b_), 1u);
  EXPECT_EQ(network_.wire().back().bytes.size(), wireguard::kDataOverhead);
  network_.advance(60 * kSecond);
  EXPECT_EQ(data_messages(*a_) + data_messages(*b_), 2u);  // and a keepalive is not answered
}

TEST_F(Pair, AReplyTakesTheKeepalivesPlace) {
  meet();
  network_.advance(30 * kSecond);
  network_.wire().clear();
  send_a("anyone there?");
  network_.advance(5 * kSecond);
  send_b("yes");
  network_.advance(6 * kSecond);
  EXPECT_EQ(data_messages(*b_), 1u);
}

TEST_F(Pair, FifteenSecondsOfSilenceBeginANewHandshake) {
  meet();
  network_.set_filter(
      [this](Datagram& datagram) { return !datagram.from.same_remote(b_->address()); });
  network_.advance(30 * kSecond);
  network_.wire().clear();
  send_a("hello?");
  network_.advance(14'900 * kMillisecond);
  EXPECT_EQ(initiations(*a_), 0u);
  network_.advance(500 * kMillisecond);  // 15 s and up to a third of a second of jitter
  EXPECT_EQ(initiations(*a_), 1u);
}

TEST_F(Pair, AnUnansweredInitiationIsRepeatedFor90SecondsAndThenGivenUp) {
  network_.set_filter([](Datagram&) { return false; });
  send_a("into the void");
  network_.advance(120 * kSecond);
  std::vector<Time> times;
  for (const Datagram& datagram : network_.wire()) {
    ASSERT_EQ(datagram.kind(), MessageKind::initiation);
    times.push_back(datagram.when);
  }
  ASSERT_EQ(times.size(), wireguard::kHandshakeAttemptsMax);
  for (size_t i = 1; i < times.size(); ++i) {
    EXPECT_GE(times[i] - times[i - 1], wireguard::kRekeyTimeout);
    EXPECT_LE(times[i] - times[i - 1],
              wireguard::kRekeyTimeout + wireguard::kRekeyTimeoutJitterMax + 2 * kMillisecond);
  }
  EXPECT_EQ(a_->drops(DropReason::handshake_gave_up), 1u);
  EXPECT_EQ(a_->peer().drops[static_cast<size_t>(DropReason::handshake_gave_up)], 1u);
  network_.pass_all();
  network_.advance(600 * kSecond);
  EXPECT_TRUE(texts(*b_).empty());
  EXPECT_EQ(network_.wire().size(), times.size());  // and it stays silent
}

TEST_F(Pair, NewDataAfterGivingUpBeginsAnew) {
  network_.set_filter([](Datagram&) { return false; });
  send_a("into the void");
  network_.advance(120 * kSecond);
  network_.pass_all();
  send_a("again");
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"again"});
}

TEST_F(Pair, EachInitiationIsFreshlyMade) {
  network_.set_filter([](Datagram&) { return false; });
  send_a("into the void");
  network_.advance(11 * kSecond);
  ASSERT_EQ(initiations(*a_), 3u);
  const Bytes& first = network_.wire()[0].bytes;
  const Bytes& second = network_.wire()[1].bytes;
  EXPECT_NE(Bytes(first.begin() + 4, first.begin() + 40),
            Bytes(second.begin() + 4, second.begin() + 40));  // index and ephemeral
}

TEST_F(Pair, SimultaneousInitiationsResolve) {
  send_a("from a");
  send_b("from b");
  a_->settle();
  b_->settle();
  network_.settle();
  EXPECT_EQ(initiations(*a_), 1u);
  EXPECT_EQ(initiations(*b_), 1u);
  network_.advance(12 * kSecond);
  EXPECT_EQ(texts(*a_), Texts{"from b"});
  EXPECT_EQ(texts(*b_), Texts{"from a"});
  meet();
  EXPECT_EQ(initiations(*a_) + initiations(*b_), 0u);
}

TEST_F(Pair, APersistentKeepaliveKeepsComing) {
  PeerChange change = as_peer(*b_, {});
  change.persistent_keepalive = 20;
  a_->apply(change);
  network_.advance(101 * kSecond);
  std::vector<Time> times;
  for (const Datagram& datagram : network_.wire()) {
    if (datagram.is_data()) {
      EXPECT_EQ(datagram.bytes.size(), wireguard::kDataOverhead);
      times.push_back(datagram.when - FakeClock::kStart);
    }
  }
  ASSERT_EQ(times.size(), 6u);
  for (size_t i = 1; i < times.size(); ++i) {
    EXPECT_NEAR(static_cast<double>(times[i] - times[i - 1]) / kSecond, 20, 0.1);
  }
  change.persistent_keepalive = 0;
  a_->apply(change);
  network_.wire().clear();
  network_.advance(60 * kSecond);
  EXPECT_TRUE(network_.wire().empty());
}

TEST_F(Pair, TrafficPutsThePersistentKeepaliveOff) {
  PeerChange change = as_peer(*b_, {});
  change.persistent_keepalive = 20;
  a_->apply(change);
  network_.settle();
  for (int i = 0; i < 12; ++i) {
    network_.advance(5 * kSecond);
    send_a("busy");
    network_.settle();
  }
  size_t keepalives = 0;
  for (const Datagram& datagram : network_.wire()) {
    keepalives += datagram.from.same_remote(a_->address()) && datagram.is_data() &&
                  datagram.bytes.size() == wireguard::kDataOverhead;
  }
  EXPECT_EQ(keepalives, 1u);  // the one that confirmed the session
}

TEST_F(Pair, ASleepingMachinesKeysAreOldWhenItWakes) {
  meet();
  FakeClock::advance(kSecond);
  a_->clock().boot_offset = 200 * kSecond;  // A was suspended: its boot time went on
  send_a("good morning");
  network_.settle();
  EXPECT_EQ(initiations(*a_), 1u);
  EXPECT_EQ(texts(*b_), Texts{"good morning"});
}

TEST_F(Pair, RekeyingLosesNothing) {
  meet();
  Texts expected;
  for (int i = 0; i < 400; ++i) {
    expected.push_back(std::to_string(i));
    send_a(expected.back());
    send_b(expected.back());
    network_.advance(kSecond);
  }
  EXPECT_EQ(texts(*b_), expected);
  EXPECT_EQ(texts(*a_), expected);
  EXPECT_EQ(initiations(*a_), 3u);
  EXPECT_EQ(initiations(*b_), 0u);
}

TEST_F(Pair, WhatWasInFlightDuringARekeyStillOpens) {
  meet();
  network_.advance(120 * kSecond);
  std::vector<Datagram> held;
  network_.set_filter([&](Datagram& datagram) {
    if (datagram.is_data()) {
      held.push_back(datagram);
    }
    return !datagram.is_data();
  });
  send_a("under the old key");
  network_.settle();
  network_.pass_all();
  send_a("under the new key");
  network_.settle();
  ASSERT_EQ(texts(*b_), Texts{"under the new key"});
  for (const Datagram& datagram : held) {
    network_.inject(datagram);
  }
  network_.settle();
  EXPECT_EQ(texts(*b_), Texts{"under the old key"});
}

}  // namespace
}  // namespace sallyport::test
