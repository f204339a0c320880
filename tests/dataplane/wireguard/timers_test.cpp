#include "dataplane/wireguard/timers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

namespace sallyport::wireguard {
namespace {

constexpr Time kStart = 1'000 * kSecond;
constexpr Time kFar = INT64_MAX;
constexpr Time kNewHandshake = kKeepaliveTimeout + kRekeyTimeout;
constexpr Time kZeroKeys = 3 * kRejectAfterTime;

bool nothing(const TimerActions& actions) {
  return !actions.initiate && !actions.keepalive && !actions.zero_keys && !actions.give_up;
}

// Nothing is due one nanosecond before `at`; what is due then is returned.
TimerActions due_exactly_at(Timers& timers, Time at) {
  EXPECT_EQ(timers.next_deadline(), at);
  EXPECT_TRUE(nothing(timers.tick(at - 1)));
  return timers.tick(at);
}

TEST(Timers, AFreshPeerIsIdle) {
  Timers timers;
  EXPECT_TRUE(timers.idle());
  EXPECT_EQ(timers.next_deadline(), kFar);
  EXPECT_TRUE(nothing(timers.tick(kStart)));
  EXPECT_FALSE(timers.handshake_in_progress());
}

// 6.4: "after sending a handshake initiation message ... no response is received within Rekey-Timeout
// seconds ... a new handshake initiation message is sent", plus jitter.
TEST(Timers, AnUnansweredInitiationIsRetriedAfterRekeyTimeoutAndJitter) {
  for (const Time jitter : {Time{0}, 123 * kMillisecond, kRekeyTimeoutJitterMax}) {
    Timers timers;
    timers.handshake_initiated(kStart, jitter);
    EXPECT_TRUE(timers.handshake_in_progress());
    const auto actions = due_exactly_at(timers, kStart + kRekeyTimeout + jitter);
    EXPECT_TRUE(actions.initiate);
    EXPECT_FALSE(actions.give_up);
  }
}

TEST(Timers, AnAnsweredInitiationIsNotRetried) {
  Timers timers;
  timers.handshake_initiated(kStart, 0);
  timers.handshake_complete(77);
  EXPECT_FALSE(timers.handshake_in_progress());
  EXPECT_TRUE(timers.idle());
  EXPECT_EQ(timers.last_handshake(), 77);
}

struct Attempts {
  unsigned initiations = 0;
  Time gave_up = 0;
};

// Sends what tick() asks for until it gives up.
Attempts exhaust(Timers& timers, Time now, Time jitter) {
  Attempts attempts;
  for (bool send = true; attempts.gave_up == 0;) {
    if (send) {
      timers.handshake_initiated(now, jitter);
      ++attempts.initiations;
    }
    now = timers.next_deadline();
    const auto actions = timers.tick(now);
    send = actions.initiate;
    attempts.gave_up = actions.give_up ? now : 0;
    EXPECT_NE(send, actions.give_up);
  }
  return attempts;
}

// 6.4: "after Rekey-Attempt-Time seconds of retrying, the retries stop".
TEST(Timers, RetriesStopAfterNinetySeconds) {
  Timers timers;
  const auto attempts = exhaust(timers, kStart, 0);
  EXPECT_EQ(attempts.initiations, kHandshakeAttemptsMax);
  EXPECT_EQ(attempts.gave_up, kStart + kRekeyAttemptTime);
  EXPECT_FALSE(timers.handshake_in_progress());
}

TEST(Timers, JitterStretchesTheAttemptsByItselfOnly) {
  Timers timers;
  const auto attempts = exhaust(timers, kStart, kRekeyTimeoutJitterMax);
  EXPECT_EQ(attempts.initiations, kHandshakeAttemptsMax);
  EXPECT_LE(attempts.gave_up - kStart, kRekeyAttemptTime + 6 * kSecond);
}

TEST(Timers, AfterGivingUpANewInitiationHasAllItsAttemptsAgain) {
  Timers timers;
  const auto first = exhaust(timers, kStart, 0);
  EXPECT_EQ(exhaust(timers, first.gave_up + kSecond, 0).initiations, kHandshakeAttemptsMax);
}

// 6.4: "if a packet is explicitly sent ... this timer is reset".
TEST(Timers, NewDataLetsAttemptsCountFromZero) {
  Timers timers;
  timers.handshake_initiated(kStart, 0);
  Time now = kStart;
  for (int i = 0; i < 10; ++i) {
    now = timers.next_deadline();
    ASSERT_TRUE(timers.tick(now).initiate);
    timers.handshake_initiated(now, 0);
  }
  timers.handshake_wanted_anew();
  EXPECT_EQ(exhaust(timers, now, 0).gave_up, now + kRekeyAttemptTime);
}

TEST(Timers, AnAnswerLetsAttemptsCountFromZero) {
  Timers timers;
  timers.handshake_initiated(kStart, 0);
  ASSERT_TRUE(timers.tick(kStart + kRekeyTimeout).initiate);
  timers.handshake_complete(1);
  EXPECT_EQ(exhaust(timers, kStart + 200 * kSecond, 0).initiations, kHandshakeAttemptsMax);
}

TEST(Timers, GivingUpForgetsTheOwedKeepaliveAndDatesTheKeysEnd) {
  Timers timers;
  timers.handshake_initiated(kStart, 0);
  while (timers.next_deadline() < kStart + kRekeyAttemptTime) {
    const Time now = timers.next_deadline();
    ASSERT_TRUE(timers.tick(now).initiate);
    timers.handshake_initiated(now, 0);
  }
  timers.data_received(kStart + kRekeyAttemptTime - kSecond);
  const auto actions = timers.tick(kStart + kRekeyAttemptTime);
  EXPECT_TRUE(actions.give_up);
  EXPECT_FALSE(actions.keepalive);
  EXPECT_TRUE(due_exactly_at(timers, kStart + kRekeyAttemptTime + kZeroKeys).zero_keys);
  EXPECT_TRUE(timers.idle());
}

TEST(Timers, ACallerWhoCannotSendIsAskedOnlyOnceATimeout) {
  Timers timers;
  timers.handshake_initiated(kStart, 0);
  ASSERT_TRUE(timers.tick(kStart + kRekeyTimeout).initiate);
  EXPECT_TRUE(nothing(timers.tick(kStart + kRekeyTimeout)));
  EXPECT_TRUE(due_exactly_at(timers, kStart + 2 * kRekeyTimeout).initiate);
}

// 6.5: "if a peer has received a validly-authenticated transport data message, but does not have any
// packets itself to send back for Keepalive-Timeout seconds, it sends a keepalive message".
TEST(Timers, ReceivedDataIsAnsweredByAKeepaliveAfterTenSeconds) {
  Timers timers;
  timers.any_authenticated_packet_received(kStart);
  timers.data_received(kStart);
  timers.data_received(kStart + 9 * kSecond);  // does not postpone it
  const auto actions = due_exactly_at(timers, kStart + kKeepaliveTimeout);
  EXPECT_TRUE(actions.keepalive);
  EXPECT_FALSE(actions.initiate);
  timers.any_authenticated_packet_sent(kStart + kKeepaliveTimeout);
  EXPECT_TRUE(timers.idle());
}

TEST(Timers, DataReceivedAfterAKeepaliveEarnsAnotherOne) {
  Timers timers;
  timers.data_received(kStart);
  ASSERT_TRUE(timers.tick(kStart + kKeepaliveTimeout).keepalive);
  timers.any_authenticated_packet_sent(kStart + kKeepaliveTimeout);
  timers.data_received(kStart + 11 * kSecond);
  EXPECT_TRUE(due_exactly_at(timers, kStart + 21 * kSecond).keepalive);
}

TEST(Timers, AnythingSentSavesTheKeepalive) {
  Timers timers;
  timers.data_received(kStart);
  timers.any_authenticated_packet_sent(kStart + 9 * kSecond);
  EXPECT_TRUE(timers.idle());
  EXPECT_TRUE(nothing(timers.tick(kStart + 100 * kSecond)));
}

TEST(Timers, AReceivedKeepaliveIsNotAnsweredByOne) {
  Timers timers;
  timers.any_authenticated_packet_received(kStart);
  EXPECT_TRUE(timers.idle());
}

// 6.4 and the kernel: data sent, and nothing authenticated back for Keepalive-Timeout + Rekey-Timeout.
TEST(Timers, UnansweredDataBeginsAHandshakeAfterFifteenSeconds) {
  Timers timers;
  timers.data_sent(kStart);
  timers.data_sent(kStart + 14 * kSecond);  // does not postpone it
  const auto actions = due_exactly_at(timers, kStart + kNewHandshake);
  EXPECT_TRUE(actions.initiate);
  EXPECT_FALSE(actions.keepalive);
}

TEST(Timers, TheNewHandshakeHasTheLastJitterToo) {
  Timers timers;
  timers.handshake_initiated(kStart - 100 * kSecond, 250 * kMillisecond);
  timers.handshake_complete(1);
  timers.data_sent(kStart);
  EXPECT_TRUE(due_exactly_at(timers, kStart + kNewHandshake + 250 * kMillisecond).initiate);
}

TEST(Timers, AnythingReceivedAnswersTheDataSent) {
  Timers timers;
  timers.data_sent(kStart);
  timers.any_authenticated_packet_received(kStart + 14 * kSecond);
  EXPECT_TRUE(timers.idle());
  timers.data_sent(kStart + 20 * kSecond);
  EXPECT_EQ(timers.next_deadline(), kStart + 20 * kSecond + kNewHandshake);
}

TEST(Timers, UnansweredDataDuringAHandshakeAddsNoInitiation) {
  Timers timers;
  timers.data_sent(kStart);
  timers.handshake_initiated(kStart + 14 * kSecond, 0);
  EXPECT_TRUE(nothing(timers.tick(kStart + kNewHandshake)));
  EXPECT_EQ(timers.next_deadline(), kStart + 14 * kSecond + kRekeyTimeout);
}

TEST(Timers, UnansweredDataDuringAHandshakeLetsAttemptsCountFromZero) {
  Timers timers;
  timers.handshake_initiated(kStart, 0);
  timers.data_sent(kStart + kSecond);
  Time now = kStart;
  for (int i = 0; i < 3; ++i) {
    now += kRekeyTimeout;
    ASSERT_TRUE(timers.tick(now).initiate);
    timers.handshake_initiated(now, 0);
  }
  ASSERT_TRUE(nothing(timers.tick(kStart + kSecond + kNewHandshake)));
  EXPECT_EQ(exhaust(timers, now, 0).gave_up, now + kRekeyAttemptTime);
}

// 6.3 and the kernel: "after Reject-After-Time x 3 seconds ... all keys are erased".
TEST(Timers, KeysAreZeroedNineMinutesAfterTheLastSession) {
  Timers timers;
  timers.session_derived(kStart);
  timers.session_derived(kStart + kRekeyAfterTime);
  EXPECT_FALSE(timers.idle());
  const auto actions = due_exactly_at(timers, kStart + kRekeyAfterTime + 540 * kSecond);
  EXPECT_TRUE(actions.zero_keys);
  EXPECT_TRUE(timers.idle());
}

TEST(Timers, APersistentKeepaliveIsDueAtOnceAndThenEachInterval) {
  Timers timers;
  timers.set_persistent_keepalive(kStart, 25);
  EXPECT_EQ(timers.persistent_keepalive(), 25);
  EXPECT_FALSE(timers.idle());
  EXPECT_TRUE(due_exactly_at(timers, kStart).keepalive);
  timers.any_authenticated_packet_sent(kStart);
  EXPECT_TRUE(due_exactly_at(timers, kStart + 25 * kSecond).keepalive);
  EXPECT_TRUE(due_exactly_at(timers, kStart + 50 * kSecond).keepalive);  // even if none was sent
}

TEST(Timers, TrafficEitherWayPostponesThePersistentKeepalive) {
  Timers timers;
  timers.set_persistent_keepalive(kStart, 25);
  ASSERT_TRUE(timers.tick(kStart).keepalive);
  timers.any_authenticated_packet_sent(kStart + 10 * kSecond);
  EXPECT_EQ(timers.next_deadline(), kStart + 35 * kSecond);
  timers.any_authenticated_packet_received(kStart + 20 * kSecond);
  EXPECT_EQ(timers.next_deadline(), kStart + 45 * kSecond);
}

TEST(Timers, ThePersistentIntervalMayChangeAndEnd) {
  Timers timers;
  timers.set_persistent_keepalive(kStart, 25);
  ASSERT_TRUE(timers.tick(kStart).keepalive);
  timers.set_persistent_keepalive(kStart + kSecond, 5);
  EXPECT_EQ(timers.next_deadline(), kStart + 5 * kSecond);
  timers.set_persistent_keepalive(kStart + kSecond, 60);
  EXPECT_EQ(timers.next_deadline(), kStart + 60 * kSecond);
  timers.set_persistent_keepalive(kStart + kSecond, 0);
  EXPECT_TRUE(timers.idle());
  timers.set_persistent_keepalive(kStart + 100 * kSecond, 25);
  EXPECT_TRUE(timers.tick(kStart + 100 * kSecond).keepalive);
}

TEST(Timers, APersistentKeepaliveWorksRightAfterBoot) {
  for (const Time now : {Time{1}, kSecond, 65'535 * kSecond, 65'535 * kSecond + 1}) {
    Timers timers;
    timers.set_persistent_keepalive(now, 65'535);
    EXPECT_TRUE(timers.tick(now).keepalive);
    EXPECT_EQ(timers.next_deadline(), now + 65'535 * kSecond);
  }
}

TEST(Timers, TheLastMinuteIsClaimedOnceASession) {
  Timers timers;
  EXPECT_TRUE(timers.claim_last_minute());
  EXPECT_FALSE(timers.claim_last_minute());
  timers.handshake_complete(1);
  EXPECT_TRUE(timers.claim_last_minute());
  timers.stop();
  EXPECT_TRUE(timers.claim_last_minute());
}

TEST(Timers, StopLeavesNothingPending) {
  Timers timers;
  timers.set_persistent_keepalive(kStart, 25);
  timers.data_sent(kStart);
  timers.data_received(kStart);
  timers.handshake_initiated(kStart, 0);
  timers.session_derived(kStart);
  timers.stop();
  EXPECT_TRUE(timers.idle());
  EXPECT_TRUE(nothing(timers.tick(kStart + 10'000 * kSecond)));
  EXPECT_EQ(timers.persistent_keepalive(), 25);
  timers.set_persistent_keepalive(kStart + kSecond, 25);  // the interface is up again
  EXPECT_TRUE(timers.tick(kStart + kSecond).keepalive);
}

// Two threads, one event each, stamps crossing: nothing underflows and nothing fires early.
TEST(Timers, StampsOutOfOrderNeverFireEarly) {
  Timers timers;
  timers.data_received(kStart + 3);
  timers.data_sent(kStart + 5);
  timers.any_authenticated_packet_sent(kStart);      // older than the data received
  timers.any_authenticated_packet_received(kStart);  // older than the data sent
  EXPECT_TRUE(nothing(timers.tick(kStart)));         // and an even older tick
  EXPECT_EQ(timers.next_deadline(), kStart + 3 + kKeepaliveTimeout);
  timers.any_authenticated_packet_sent(kStart + 3);
  timers.any_authenticated_packet_received(kStart + 5);
  EXPECT_TRUE(timers.idle());

  timers.set_persistent_keepalive(kStart, 1);
  ASSERT_TRUE(timers.tick(kStart).keepalive);
  timers.any_authenticated_packet_sent(kStart + kSecond);
  timers.any_authenticated_packet_sent(kStart + kMillisecond);
  EXPECT_EQ(timers.next_deadline(), kStart + 2 * kSecond);
}

// -- Ticking only at deadlines is as good as ticking all the time.

struct Event {
  Time at;
  int kind;
};

struct Fired {
  Time at;
  bool initiate, keepalive, zero_keys, give_up;
  bool operator==(const Fired&) const = default;
};

void apply(Timers& timers, const Event& event) {
  switch (event.kind) {
    case 0:
      return timers.data_sent(event.at);
    case 1:
      return timers.data_received(event.at);
    case 2:
      return timers.any_authenticated_packet_sent(event.at);
    case 3:
      return timers.any_authenticated_packet_received(event.at);
    case 4:
      return timers.handshake_initiated(event.at, event.at / kSecond % 4 * 10 * kMillisecond);
    case 5:
      return timers.handshake_complete(event.at);
    case 6:
      return timers.session_derived(event.at);
    case 7:
      return timers.set_persistent_keepalive(event.at,
                                             static_cast<uint16_t>(event.at / kSecond % 3 * 7));
    default:
      return timers.handshake_wanted_anew();
  }
}

void tick_and_obey(Timers& timers, Time now, std::vector<Fired>& fired) {
  const auto actions = timers.tick(now);
  if (nothing(actions)) {
    return;
  }
  fired.push_back({now, actions.initiate, actions.keepalive, actions.zero_keys, actions.give_up});
  if (actions.initiate) {
    timers.handshake_initiated(now, now / kSecond % 5 * 10 * kMillisecond);
  }
  if (actions.keepalive) {
    timers.any_authenticated_packet_sent(now);
  }
}

constexpr Time kStep = 10 * kMillisecond;
constexpr Time kHorizon = kStart + 1'500 * kSecond;

std::vector<Fired> run_stepwise(const std::vector<Event>& events) {
  Timers timers;
  std::vector<Fired> fired;
  size_t next = 0;
  for (Time now = kStart; now < kHorizon; now += kStep) {
    tick_and_obey(timers, now, fired);
    for (; next < events.size() && events[next].at == now; ++next) {
      apply(timers, events[next]);
      tick_and_obey(timers, now, fired);
    }
  }
  return fired;
}

std::vector<Fired> run_by_deadlines(const std::vector<Event>& events) {
  Timers timers;
  std::vector<Fired> fired;
  size_t next = 0;
  for (Time now = kStart;;) {
    const Time deadline = timers.next_deadline();
    const Time event = next < events.size() ? events[next].at : kFar;
    EXPECT_EQ(timers.idle(), deadline == kFar);
    now = std::max(now, std::min(deadline, event));  // an event may bring a deadline into the past
    if (now >= kHorizon) {
      return fired;
    }
    if (deadline <= now) {
      tick_and_obey(timers, now, fired);
      EXPECT_GT(timers.next_deadline(), now) << "a tick that does not quiet its own deadline";
    } else {
      apply(timers, events[next++]);
    }
  }
}

TEST(Timers, TickingAtDeadlinesOnlyMissesNothing) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int run = 0; run < 30; ++run) {
    std::vector<Event> events(random() % 120);
    // Bursts, so that stamps are renewed and pass each other; silence, so that timers run out.
    for (Event& event : events) {
      const Time burst = static_cast<Time>(random() % 8) * 150 * kSecond;
      event.at = kStart + kStep + burst + static_cast<Time>(random() % 6000) * kStep;
      event.kind = static_cast<int>(random() % 9);
    }
    std::sort(events.begin(), events.end(),
              [](const Event& a, const Event& b) { return a.at < b.at; });
    std::erase_if(events, [](const Event& event) { return event.at >= kHorizon; });
    const auto stepwise = run_stepwise(events);
    const auto by_deadlines = run_by_deadlines(events);
    ASSERT_EQ(stepwise.size(), by_deadlines.size()) << "run " << run;
    for (size_t i = 0; i < stepwise.size(); ++i) {
      ASSERT_EQ(stepwise[i], by_deadlines[i])
          << "run " << run << ", at " << (stepwise[i].at - kStart) / kMillisecond << " and "
          << (by_deadlines[i].at - kStart) / kMillisecond;
    }
  }
}

// Workers stamp while the handshaker ticks. What matters here is that a sanitizer sees no race and
// that no action fires that no event could have caused.
TEST(Timers, WorkersStampWhileTheHandshakerTicks) {
  Timers timers;
  std::atomic<Time> clock{kStart};
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  for (int i = 0; i < 2; ++i) {
    workers.emplace_back([&, i] {
      while (!stop) {
        const Time now = clock.load();
        if (i == 0) {
          timers.data_sent(now);
          timers.any_authenticated_packet_sent(now);
        } else {
          timers.data_received(now);
          timers.any_authenticated_packet_received(now);
        }
      }
    });
  }
  unsigned wrong = 0;
  for (int round = 0; round < 20'000; ++round) {
    const auto actions = timers.tick(clock.fetch_add(kMillisecond));
    wrong += actions.zero_keys || actions.give_up;
    timers.next_deadline();
  }
  stop = true;
  for (auto& worker : workers) {
    worker.join();
  }
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace sallyport::wireguard
