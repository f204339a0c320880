#include "dataplane/table/tcp_state.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "dataplane/net/headers.h"

namespace sallyport {
namespace {

using enum TcpState;

constexpr auto kOriginal = FlowDirection::original;
constexpr auto kReply = FlowDirection::reply;
constexpr uint8_t kSyn = kTcpSyn;
constexpr uint8_t kSynAck = kTcpSyn | kTcpAck;
constexpr uint8_t kAck = kTcpAck;
constexpr uint8_t kFin = kTcpFin | kTcpAck;
constexpr uint8_t kRst = kTcpRst;
constexpr uint8_t kRstAck = kTcpRst | kTcpAck;

// The whole table: for a state, where each packet leads. FINs: 1 original, 2 reply, 3 both. kBad: invalid.
constexpr TcpTrack kBad{static_cast<TcpState>(255), 0};
struct Row {
  TcpTrack from;
  TcpTrack original[5];  // SYN, SYN-ACK, ACK, FIN, RST with ACK
  TcpTrack reply[5];
};
const Row kRows[] = {
    {{syn_sent, 0},
     {{syn_sent, 0}, kBad, {syn_sent, 0}, kBad, {close, 0}},
     {{syn_sent2, 0}, {syn_recv, 0}, {syn_sent, 0}, kBad, {close, 0}}},
    {{syn_sent2, 0},
     {{syn_sent2, 0}, {syn_recv, 0}, {syn_sent2, 0}, kBad, {close, 0}},
     {{syn_sent2, 0}, {syn_recv, 0}, {syn_sent2, 0}, kBad, {close, 0}}},
    {{syn_recv, 0},
     {{syn_recv, 0}, {syn_recv, 0}, {established, 0}, {fin_wait, 1}, {reset, 0}},
     {{syn_recv, 0}, {syn_recv, 0}, {syn_recv, 0}, {fin_wait, 2}, {reset, 0}}},
    {{established, 0},
     {{established, 0}, {established, 0}, {established, 0}, {fin_wait, 1}, {reset, 0}},
     {{established, 0}, {established, 0}, {established, 0}, {fin_wait, 2}, {reset, 0}}},
    {{fin_wait, 1},
     {{fin_wait, 1}, {fin_wait, 1}, {fin_wait, 1}, {fin_wait, 1}, {reset, 1}},
     {{fin_wait, 1}, {fin_wait, 1}, {close_wait, 1}, {last_ack, 3}, {reset, 1}}},
    {{fin_wait, 2},
     {{fin_wait, 2}, {fin_wait, 2}, {close_wait, 2}, {last_ack, 3}, {reset, 2}},
     {{fin_wait, 2}, {fin_wait, 2}, {fin_wait, 2}, {fin_wait, 2}, {reset, 2}}},
    {{close_wait, 1},
     {{close_wait, 1}, {close_wait, 1}, {close_wait, 1}, {close_wait, 1}, {reset, 1}},
     {{close_wait, 1}, {close_wait, 1}, {close_wait, 1}, {last_ack, 3}, {reset, 1}}},
    {{close_wait, 2},
     {{close_wait, 2}, {close_wait, 2}, {close_wait, 2}, {last_ack, 3}, {reset, 2}},
     {{close_wait, 2}, {close_wait, 2}, {close_wait, 2}, {close_wait, 2}, {reset, 2}}},
    {{last_ack, 3},
     {{last_ack, 3}, {last_ack, 3}, {time_wait, 3}, {last_ack, 3}, {close, 3}},
     {{last_ack, 3}, {last_ack, 3}, {time_wait, 3}, {last_ack, 3}, {close, 3}}},
    {{time_wait, 3},
     {{syn_sent, 0}, {time_wait, 3}, {time_wait, 3}, {time_wait, 3}, {time_wait, 3}},
     {{syn_sent2, 0}, {time_wait, 3}, {time_wait, 3}, {time_wait, 3}, {time_wait, 3}}},
    {{close, 0},
     {{syn_sent, 0}, {close, 0}, {close, 0}, {close, 0}, {close, 0}},
     {{syn_sent2, 0}, {close, 0}, {close, 0}, {close, 0}, {close, 0}}},
    {{reset, 0},
     {{syn_sent, 0}, {reset, 0}, {established, 0}, {fin_wait, 1}, {reset, 0}},
     {{syn_sent2, 0}, {reset, 0}, {established, 0}, {fin_wait, 2}, {reset, 0}}},
    {{reset, 1},
     {{syn_sent, 0}, {reset, 1}, {close_wait, 1}, {fin_wait, 1}, {reset, 1}},
     {{syn_sent2, 0}, {reset, 1}, {close_wait, 1}, {last_ack, 3}, {reset, 1}}},
};

TEST(TcpState, EveryPacketLeadsWhereTheTableSays) {
  constexpr uint8_t kFlags[] = {kSyn, kSynAck, kAck, kFin, kRstAck};
  for (const Row& row : kRows) {
    for (unsigned i = 0; i < 5; ++i) {
      for (const auto direction : {kOriginal, kReply}) {
        const TcpTrack& expected = direction == kOriginal ? row.original[i] : row.reply[i];
        SCOPED_TRACE(std::string(to_text(row.from.state)) + " fins " +
                     std::to_string(row.from.fins) + " packet " + std::to_string(i) +
                     (direction == kOriginal ? " original" : " reply"));
        // PSH, URG and the ECN flags say nothing about a connection.
        for (const unsigned more : {0x00u, 0x08u, 0x20u, 0xc0u}) {
          const auto next = tcp_step(row.from, direction, static_cast<uint8_t>(kFlags[i] | more));
          if (expected == kBad) {
            EXPECT_FALSE(next.has_value());
          } else {
            ASSERT_TRUE(next.has_value());
            EXPECT_EQ(next->state, expected.state) << to_text(next->state);
            EXPECT_EQ(next->fins, expected.fins);
          }
        }
      }
    }
  }
}

TEST(TcpState, FlagsThatExcludeEachOtherAreInvalidEverywhere) {
  for (const Row& row : kRows) {
    for (const unsigned flags :
         {0u, 0x01u, 0x03u, 0x06u, 0x07u, 0x13u, 0x16u, 0x05u, 0x15u, 0x17u, 0x28u}) {
      EXPECT_FALSE(tcp_step(row.from, kOriginal, static_cast<uint8_t>(flags)).has_value()) << flags;
      EXPECT_FALSE(tcp_start(static_cast<uint8_t>(flags), true).has_value()) << flags;
    }
  }
}

TEST(TcpState, OnlyAnAnswerThatAcknowledgesRefusesASyn) {
  EXPECT_FALSE(tcp_step({syn_sent, 0}, kReply, kRst).has_value());
  EXPECT_EQ(tcp_step({syn_sent, 0}, kReply, kRstAck)->state, close);
  EXPECT_EQ(tcp_step({syn_sent, 0}, kOriginal, kRst)->state, close);
  EXPECT_EQ(tcp_step({established, 0}, kReply, kRst)->state, reset);
}

TEST(TcpState, AConnectionStartsWithASynOrIsPickedUp) {
  EXPECT_EQ(tcp_start(kSyn, false), (TcpTrack{syn_sent, 0}));
  EXPECT_EQ(tcp_start(kAck, true), (TcpTrack{established, 0}));
  EXPECT_EQ(tcp_start(kFin, true), (TcpTrack{fin_wait, 1}));
  for (const uint8_t flags : {kAck, kFin, kSynAck, kRst, kRstAck}) {
    EXPECT_FALSE(tcp_start(flags, false).has_value()) << +flags;
  }
  for (const uint8_t flags : {kSynAck, kRst, kRstAck}) {
    EXPECT_FALSE(tcp_start(flags, true).has_value()) << +flags;
  }
}

struct Step {
  FlowDirection direction;
  uint8_t flags;
  TcpState after;
};

void walk(const std::vector<Step>& steps) {
  TcpTrack track = *tcp_start(kSyn, false);
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto next = tcp_step(track, steps[i].direction, steps[i].flags);
    ASSERT_TRUE(next.has_value()) << i;
    track = *next;
    ASSERT_EQ(track.state, steps[i].after) << i << ' ' << to_text(track.state);
  }
}

TEST(TcpState, WalksThroughWholeConnections) {
  walk({{kReply, kSynAck, syn_recv},
        {kOriginal, kAck, established},
        {kOriginal, kFin, fin_wait},
        {kReply, kAck, close_wait},
        {kReply, kAck, close_wait},
        {kReply, kFin, last_ack},
        {kOriginal, kAck, time_wait},
        {kOriginal, kSyn, syn_sent}});
  // Both close at once, the server's first FIN is sent twice.
  walk({{kReply, kSynAck, syn_recv},
        {kOriginal, kAck, established},
        {kReply, kFin, fin_wait},
        {kReply, kFin, fin_wait},
        {kOriginal, kFin, last_ack},
        {kReply, kAck, time_wait}});
  // SYNs cross.
  walk({{kReply, kSyn, syn_sent2},
        {kOriginal, kSynAck, syn_recv},
        {kReply, kSynAck, syn_recv},
        {kOriginal, kAck, established}});
  // A forged RST, and the connection goes on; then a true one.
  walk({{kReply, kSynAck, syn_recv},
        {kOriginal, kAck, established},
        {kReply, kRst, reset},
        {kOriginal, kAck, established},
        {kReply, kRst, reset},
        {kReply, kRst, reset}});
}

// Whatever comes: states that exist, FINs that fit them.
TEST(TcpState, NoSequenceOfPacketsLeadsAstray) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  TcpTrack track = *tcp_start(kSyn, false);
  for (int i = 0; i < 100'000; ++i) {
    const auto next =
        tcp_step(track, random() % 2 == 0 ? kOriginal : kReply, static_cast<uint8_t>(random()));
    track = next.value_or(track);
    ASSERT_GE(static_cast<unsigned>(track.state), 1u);
    ASSERT_LT(static_cast<unsigned>(track.state), kTcpStates);
    if (track.state == established || track.state == syn_recv || track.state == syn_sent) {
      ASSERT_EQ(track.fins, 0);
    }
    if (track.state == fin_wait || track.state == close_wait) {
      ASSERT_TRUE(track.fins == 1 || track.fins == 2);
    }
    if (track.state == last_ack || track.state == time_wait) {
      ASSERT_EQ(track.fins, 3);
    }
  }
}

}  // namespace
}  // namespace sallyport
