// When an exit counts as alive, and that it cannot flap faster than its rule.
#include "control/exit_health.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

namespace sallyport::test {
namespace {

constexpr Time kStart = 1000 * kSecond;
constexpr Time ms = kMillisecond;

config::Probe probing(unsigned up = 2, unsigned down = 3, uint32_t timeout_ms = 1000) {
  config::Probe probe;
  probe.target = *parse_address("192.0.2.1");
  probe.up = up;
  probe.down = down;
  probe.timeout_ms = timeout_ms;
  return probe;
}

// One probe a second from kStart; '+' is answered after 20 ms, '-' never. What alive() is after each was decided.
std::string alive_after(const config::Probe& probe, const std::string& outcomes) {
  ExitHealth health(probe, kStart);
  std::string alive;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const Time sent = kStart + static_cast<Time>(i) * kSecond;
    const auto sequence = static_cast<uint16_t>(i);
    health.probe_sent(sequence, sent);
    if (outcomes[i] == '+') {
      health.probe_answered(sequence, sent + 20 * ms);
    } else {
      health.tick(sent + kSecond);
    }
    alive += health.alive() ? '+' : '-';
  }
  return alive;
}

TEST(ExitHealth, ProbesTruthTable) {
  const struct {
    int number;
    unsigned up, down;
    const char* outcomes;
    const char* alive;
  } truths[] = {
      {1, 2, 3, "+", "+"},                    // the first answer is enough
      {2, 2, 3, "-", "-"},                    // unknown is not alive
      {3, 2, 3, "--+", "--+"},                // still unknown: one answer is enough
      {4, 2, 3, "---+", "----"},              // decided down: one is not
      {5, 2, 3, "---++", "----+"},            //
      {6, 2, 3, "+--+--+--", "+++++++++"},    // never three in a row
      {7, 2, 3, "+---", "+++-"},              //
      {8, 2, 3, "+---+-+-++", "+++------+"},  // never two in a row, until
      {9, 1, 1, "+-+-", "+-+-"},              // no hysteresis asked for
      {10, 5, 1, "+-++++-+++++", "+----------+"},
      {11, 1, 5, "-----+----",
       "-----++++"
       "+"},
      {12, 0, 0, "+-+-", "+-+-"},  // nought means one
  };
  for (const auto& truth : truths) {
    EXPECT_EQ(alive_after(probing(truth.up, truth.down), truth.outcomes), truth.alive)
        << "truth " << truth.number;
  }
}

TEST(ExitHealth, AProbeIsLostAtItsTimeoutAndNotBefore) {
  ExitHealth health(probing(1, 1, 500), kStart);
  EXPECT_FALSE(health.next_tick());
  health.probe_sent(1, kStart);
  EXPECT_EQ(health.next_tick(), kStart + 500 * ms);
  EXPECT_TRUE(health.probe_answered(1, kStart + 499 * ms));
  EXPECT_FALSE(health.next_tick());
  health.probe_sent(2, kStart + kSecond);
  EXPECT_FALSE(health.tick(kStart + kSecond + 499 * ms));
  EXPECT_TRUE(health.tick(kStart + kSecond + 500 * ms));
  EXPECT_FALSE(health.alive());
}

TEST(ExitHealth, WhatIsNoAnswer) {
  ExitHealth health(probing(1, 3), kStart);
  EXPECT_FALSE(health.probe_answered(1, kStart)) << "never sent";
  health.probe_sent(1, kStart);
  EXPECT_FALSE(health.probe_answered(2, kStart + ms)) << "another";
  EXPECT_FALSE(health.probe_answered(1, kStart + kSecond)) << "too late";
  EXPECT_EQ(health.state(), ExitHealth::State::unknown);
  EXPECT_EQ(health.loss(), 1.0);
  health.probe_sent(3, kStart + 2 * kSecond);
  EXPECT_TRUE(health.probe_answered(3, kStart + 2 * kSecond + ms));
  EXPECT_FALSE(health.probe_answered(3, kStart + 2 * kSecond + ms)) << "twice";
  EXPECT_EQ(health.probes_decided(), 2u);
}

TEST(ExitHealth, EventsSayWhetherTheyChangedIt) {
  ExitHealth health(probing(2, 2), kStart);
  health.probe_sent(1, kStart);
  EXPECT_TRUE(health.probe_answered(1, kStart + ms));
  EXPECT_EQ(health.since(), kStart + ms);
  health.probe_sent(2, kStart + 1 * kSecond);
  health.probe_sent(3, kStart + 2 * kSecond);
  EXPECT_TRUE(health.probe_sent(4, kStart + 3 * kSecond)) << "2 and 3 are lost by now";
  EXPECT_EQ(health.since(), kStart + 3 * kSecond);
  EXPECT_FALSE(health.probe_answered(4, kStart + 3 * kSecond + ms));
  health.probe_sent(5, kStart + 4 * kSecond);
  EXPECT_TRUE(health.probe_answered(5, kStart + 4 * kSecond + ms));
}

TEST(ExitHealth, MoreOutstandingThanPlaces) {
  ExitHealth health(probing(1, 3, 100'000), kStart);
  for (uint16_t i = 0; i < 34; ++i) {
    EXPECT_FALSE(health.probe_sent(i, kStart + i * kSecond));
  }
  health.probe_sent(34, kStart + 34 * kSecond);
  EXPECT_EQ(health.state(), ExitHealth::State::down) << "three had to go, unanswered";
  EXPECT_FALSE(health.probe_answered(0, kStart + 35 * kSecond));
  EXPECT_TRUE(health.probe_answered(34, kStart + 35 * kSecond));
}

TEST(ExitHealth, WhenProbesAreDue) {
  ExitHealth health(probing(), kStart);
  EXPECT_EQ(health.next_probe(), kStart);
  health.probe_sent(1, kStart + 5 * ms);
  EXPECT_EQ(health.next_probe(), kStart + 1005 * ms);
  health.probe_answered(1, kStart + 10 * ms);
  EXPECT_EQ(health.next_probe(), kStart + 1005 * ms);
}

TEST(ExitHealth, RoundTripAndLoss) {
  ExitHealth health(probing(1, 100), kStart);
  EXPECT_FALSE(health.round_trip());
  EXPECT_EQ(health.loss(), 0.0);
  Time now = kStart;
  uint16_t sequence = 0;
  const auto one = [&](Time round_trip) {
    health.probe_sent(++sequence, now);
    if (round_trip != 0) {
      health.probe_answered(sequence, now + round_trip);
    }
    now += kSecond;
    health.tick(now);
  };
  one(80 * ms);
  EXPECT_EQ(health.round_trip(), 80 * ms);
  one(160 * ms);
  EXPECT_EQ(health.round_trip(), 90 * ms);
  one(0);
  EXPECT_EQ(health.round_trip(), 90 * ms);
  EXPECT_NEAR(health.loss(), 1.0 / 3, 1e-9);
  for (int i = 0; i < 24; ++i) {
    one(10 * ms);
  }
  for (int i = 0; i < 8; ++i) {
    one(0);
  }
  EXPECT_EQ(health.probes_decided(), 32u);
  EXPECT_EQ(health.loss(), 0.25) << "only the last 32 count";
}

TEST(ExitHealth, HandshakeTruthTable) {
  const config::Probe probe;
  const struct {
    int number;
    Time handshake;  // kNever: none; seconds after the start
    Time wanted;     // kNever: nothing to send
    Time asked;      // when alive() is looked at
    bool alive;
  } truths[] = {
      {1, kNever, kNever, 0, false},   // unknown
      {2, 0, kNever, 0, true},         // the first handshake
      {3, 0, kNever, 179, true},       //
      {4, 0, kNever, 10'000, true},    // idle is not dead
      {5, 0, 100, 10'000, true},       // its session carried it
      {6, 0, 180, 10'000, true},       // just so
      {7, 0, 181, 182, true},          // has not had its time yet
      {8, 0, 181, 195, true},          //
      {9, 0, 181, 196, false},         // three initiations unanswered
      {10, 0, 5000, 5014, true},       // woken after a long idle time
      {11, 0, 5000, 5015, false},      //
      {12, kNever, 0, 10, false},      // never was one
      {13, kNever, 0, 10'000, false},  //
  };
  for (const auto& truth : truths) {
    ExitHealth health(probe, kStart);
    if (truth.handshake != kNever) {
      health.handshake(kStart + truth.handshake * kSecond, kStart + truth.handshake * kSecond);
    }
    if (truth.wanted != kNever) {
      health.wanted(kStart + truth.wanted * kSecond);
    }
    health.tick(kStart + truth.asked * kSecond);
    EXPECT_EQ(health.alive(), truth.alive) << "truth " << truth.number;
  }
}

TEST(ExitHealth, AHandshakeBringsItBack) {
  ExitHealth health(config::Probe{}, kStart);
  EXPECT_FALSE(health.handshake(kNever, kStart));
  EXPECT_TRUE(health.handshake(kStart + kSecond, kStart + 2 * kSecond));
  EXPECT_FALSE(health.next_tick());
  const Time late = kStart + 400 * kSecond;
  EXPECT_FALSE(health.wanted(late));
  EXPECT_FALSE(health.wanted(late + 10 * kSecond)) << "the wait began with the first";
  EXPECT_EQ(health.next_tick(), late + 15 * kSecond);
  EXPECT_TRUE(health.wanted(late + 15 * kSecond));
  EXPECT_FALSE(health.alive());
  EXPECT_FALSE(health.handshake(kStart + kSecond, late + 16 * kSecond)) << "the old one";
  EXPECT_TRUE(health.handshake(late + 17 * kSecond, late + 17 * kSecond));
  EXPECT_TRUE(health.alive());
  EXPECT_FALSE(health.tick(late + 150 * kSecond));
}

TEST(ExitHealth, AHandshakeOfLongAgoProvesNothing) {
  ExitHealth health(config::Probe{}, kStart);
  EXPECT_FALSE(health.handshake(kStart - 1000 * kSecond, kStart));
  EXPECT_EQ(health.state(), ExitHealth::State::unknown);
}

TEST(ExitHealth, WithoutATargetItIsNudgedOnlyWhileItIsNotUp) {
  ExitHealth health(config::Probe{}, kStart);
  EXPECT_EQ(health.next_probe(), kStart);
  health.probe_sent(0, kStart);
  EXPECT_EQ(health.next_probe(), kStart + 5 * kSecond);
  health.tick(kStart + 100 * kSecond);
  EXPECT_EQ(health.probes_decided(), 0u) << "a nudge is no probe";
  health.handshake(kStart + 101 * kSecond, kStart + 101 * kSecond);
  EXPECT_FALSE(health.next_probe());
}

TEST(ExitHealth, WithATargetHandshakesDecideNothing) {
  ExitHealth health(probing(), kStart);
  EXPECT_FALSE(health.handshake(kStart, kStart));
  EXPECT_FALSE(health.alive());
  EXPECT_FALSE(health.wanted(kStart + 1000 * kSecond));
  EXPECT_FALSE(health.tick(kStart + 2000 * kSecond));
  EXPECT_EQ(health.state(), ExitHealth::State::unknown);
}

TEST(ExitHealth, SaysWhy) {
  ExitHealth probed(probing(), kStart);
  EXPECT_EQ(probed.why(kStart), "no probe to 192.0.2.1 decided yet");
  probed.probe_sent(1, kStart);
  probed.probe_answered(1, kStart + 12'300 * kMicrosecond);
  EXPECT_EQ(probed.why(kStart + 512'300 * kMicrosecond),
            "probe to 192.0.2.1 answered 0.5 s ago, RTT 12.3 ms, loss 0 %");
  probed.probe_sent(2, kStart + 1 * kSecond);
  probed.tick(kStart + 2 * kSecond);
  EXPECT_EQ(probed.why(kStart + 2 * kSecond),
            "1 probe to 192.0.2.1 unanswered since 1.0 s, 3 take it out");
  for (uint16_t i = 2; i < 4; ++i) {
    probed.probe_sent(i, kStart + i * kSecond);
  }
  probed.tick(kStart + 13 * kSecond);
  EXPECT_EQ(probed.why(kStart + 13 * kSecond), "3 probes to 192.0.2.1 unanswered since 12 s");
  probed.probe_sent(9, kStart + 14 * kSecond);
  probed.probe_answered(9, kStart + 14 * kSecond);
  EXPECT_EQ(probed.why(kStart + 14 * kSecond),
            "1 probe to 192.0.2.1 answered in a row, 2 bring it back");

  ExitHealth shaken(config::Probe{}, kStart);
  EXPECT_EQ(shaken.why(kStart), "no handshake yet");
  shaken.wanted(kStart);
  EXPECT_EQ(shaken.why(kStart + 20 * kSecond), "no handshake yet, tried for 20 s");
  shaken.handshake(kStart + 30 * kSecond, kStart + 30 * kSecond);
  EXPECT_EQ(shaken.why(kStart + 44 * kSecond), "handshake 14 s ago");
  EXPECT_EQ(shaken.why(kStart + 330 * kSecond), "handshake 300 s ago, nothing sent since");
  shaken.wanted(kStart + 330 * kSecond);
  EXPECT_EQ(shaken.why(kStart + 350 * kSecond), "handshake 320 s ago, a new one tried for 20 s");
}

// Against a model that knows each probe's fate beforehand: the same state after each event, and no flip without its row.
TEST(ExitHealth, FlapsNoFasterThanItsRule) {
  const unsigned seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    const auto up = static_cast<unsigned>(1 + random() % 4);
    const auto down = static_cast<unsigned>(1 + random() % 4);
    const auto timeout = static_cast<uint32_t>(100 + random() % 4000);
    ExitHealth health(probing(up, down, timeout), kStart);
    struct Fate {
      Time decided;
      uint16_t sequence;
      bool answered;
    };
    std::vector<Fate> fates;
    std::vector<std::pair<Time, uint16_t>> sends;
    const auto answer_percent = static_cast<unsigned>(random() % 101);
    for (unsigned i = 0; i < 300; ++i) {
      const Time sent = kStart + Time{i} * kSecond;
      const bool answered = random() % 100 < answer_percent;
      const Time after = answered ? static_cast<Time>(random() % (timeout * 1000ull)) * kMicrosecond
                                  : timeout * ms;
      sends.emplace_back(sent, static_cast<uint16_t>(i));
      fates.push_back({sent + after, static_cast<uint16_t>(i), answered});
    }
    std::stable_sort(fates.begin(), fates.end(),
                     [](const Fate& a, const Fate& b) { return a.decided < b.decided; });
    unsigned wins = 0, losses = 0, flips = 0, since_flip = 0;
    auto state = ExitHealth::State::unknown;
    size_t sent = 0;
    for (const Fate& fate : fates) {
      for (; sent < sends.size() && sends[sent].first <= fate.decided; ++sent) {
        health.probe_sent(sends[sent].second, sends[sent].first);
      }
      const bool was = health.alive();
      const bool changed = fate.answered ? health.probe_answered(fate.sequence, fate.decided)
                                         : health.tick(fate.decided);
      wins = fate.answered ? wins + 1 : 0;
      losses = fate.answered ? 0 : losses + 1;
      ++since_flip;
      auto next = state;
      if (wins >= (state == ExitHealth::State::unknown ? 1 : up)) {
        next = ExitHealth::State::up;
      } else if (losses >= down) {
        next = ExitHealth::State::down;
      }
      if (next != state) {
        if (state != ExitHealth::State::unknown) {
          ++flips;
          ASSERT_GE(since_flip, next == ExitHealth::State::up ? up : down);
        }
        since_flip = 0;
        state = next;
      }
      ASSERT_EQ(health.state(), state) << "round " << round << ", probe " << fate.sequence;
      if (changed) {
        ASSERT_NE(health.alive(), was);
      }
    }
    EXPECT_LE(flips, fates.size() / std::min(up, down));
  }
}

}  // namespace
}  // namespace sallyport::test
