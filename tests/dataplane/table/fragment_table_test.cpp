#include "dataplane/table/fragment_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

namespace sallyport {
namespace {

using State = FragmentState;

FragmentKey key_of(uint32_t id, Family family = Family::v4) {
  FragmentKey key;
  key.source.family = key.destination.family = family;
  key.source.bytes[0] = 10;
  key.destination.bytes[0] = 192;
  key.id = id;
  key.protocol = family == Family::v4 ? 17 : 0;
  return key;
}

// One packet's worth of calls.
struct Asking {
  FragmentTable& table;
  FragmentKey key;
  uint32_t now = 100;
  uint16_t port = 7;

  State add(uint32_t offset, uint32_t bytes, bool more) {
    FragmentPorts ports;
    if (offset == 0) {
      ports = {port, 9};
    }
    const State state = table.add(key, {key.id, offset, bytes, key.protocol, more}, ports, now);
    if (state == State::known) {
      EXPECT_EQ(ports.source, port);
      EXPECT_EQ(ports.destination, 9);
    }
    return state;
  }
};

TEST(FragmentTable, LaterFragmentsHaveThePortsOfTheFirst) {
  FragmentTable table(64, 1);
  Asking packet{table, key_of(5)};
  EXPECT_EQ(packet.add(800, 800, true), State::early);
  EXPECT_EQ(packet.add(0, 800, true), State::first);
  EXPECT_EQ(packet.add(1600, 100, false), State::known);
  EXPECT_EQ(packet.add(800, 800, true), State::known);
  EXPECT_EQ(packet.add(800, 800, true), State::duplicate);
  EXPECT_EQ(packet.add(1600, 100, false), State::duplicate);
}

TEST(FragmentTable, OtherKeysAreOtherPackets) {
  FragmentTable table(64, 1);
  Asking packet{table, key_of(5)};
  EXPECT_EQ(packet.add(0, 800, true), State::first);
  FragmentKey others[5] = {key_of(6), key_of(5), key_of(5), key_of(5), key_of(5, Family::v6)};
  others[1].zone = 1;
  others[2].protocol = 6;
  others[3].source.bytes[3] = 1;
  for (const FragmentKey& each : others) {
    Asking other{table, each};
    EXPECT_EQ(other.add(800, 800, true), State::early);
  }
}

// RFC 5722.
TEST(FragmentTable, AnOverlapEndsThePacket) {
  const struct {
    uint32_t offset, bytes;
  } overlaps[] = {{792, 16}, {0, 1600}, {1592, 16}, {2392, 100}, {8, 2400}};
  for (const auto& each : overlaps) {
    FragmentTable table(64, 1);
    Asking packet{table, key_of(5)};
    EXPECT_EQ(packet.add(0, 800, true), State::first);
    EXPECT_EQ(packet.add(1600, 800, true), State::known);
    EXPECT_EQ(packet.add(each.offset, each.bytes, true), State::overlap) << each.offset;
    EXPECT_EQ(packet.add(800, 800, true), State::overlap) << "nothing of it any more";
    EXPECT_EQ(packet.add(0, 800, true), State::overlap);
    packet.now += FragmentTable::kSecondsV4;
    EXPECT_EQ(packet.add(0, 800, true), State::first);
  }
}

TEST(FragmentTable, AnotherEndIsImpossible) {
  const struct {
    uint32_t offset, bytes;
    bool more;
  } cases[] = {{1600, 80, true}, {1600, 80, false}, {808, 80, false}};
  for (const auto& each : cases) {
    FragmentTable table(64, 1);
    Asking packet{table, key_of(5)};
    EXPECT_EQ(packet.add(0, 800, true), State::first);
    EXPECT_EQ(packet.add(1200, 400, false), State::known);
    EXPECT_EQ(packet.add(each.offset, each.bytes, each.more), State::impossible);
    EXPECT_EQ(packet.add(800, 400, true), State::overlap);
  }
  FragmentTable table(64, 1);
  Asking packet{table, key_of(5)};
  EXPECT_EQ(packet.add(0, 800, true), State::first);
  EXPECT_EQ(packet.add(1600, 800, true), State::known);
  EXPECT_EQ(packet.add(808, 8, false), State::impossible) << "an end before what has come";
}

TEST(FragmentTable, FirstFragmentsAgain) {
  FragmentTable table(64, 1);
  Asking packet{table, key_of(5)};
  EXPECT_EQ(packet.add(0, 800, true), State::first);
  EXPECT_EQ(packet.add(0, 800, true), State::first) << "a copy";
  EXPECT_EQ(packet.add(800, 80, false), State::known);
  packet.port = 8;
  EXPECT_EQ(packet.add(0, 400, true), State::first) << "complete before: the id comes again";
  EXPECT_EQ(packet.add(400, 400, true), State::known);
  packet.port = 9;
  EXPECT_EQ(packet.add(0, 400, true), State::overlap) << "other ports for the same packet";
}

TEST(FragmentTable, ForgetsAfterAWhile) {
  for (const Family family : {Family::v4, Family::v6}) {
    const uint32_t seconds = family == Family::v4 ? 30 : 60;
    for (const uint32_t start : {0u, 100u, UINT32_MAX - 10}) {
      FragmentTable table(64, 1);
      Asking packet{table, key_of(5, family), start};
      EXPECT_EQ(packet.add(0, 800, true), State::first);
      packet.now = start + seconds - 1;
      EXPECT_EQ(packet.add(800, 800, true), State::known);
      packet.now = start + seconds;
      EXPECT_EQ(packet.add(1600, 800, true), State::early);
      packet.now = start - 2;  // another worker's clock
      EXPECT_EQ(packet.add(1600, 800, true), State::known);
    }
  }
}

TEST(FragmentTable, HolesAreBounded) {
  FragmentTable table(64, 1);
  Asking packet{table, key_of(5)};
  EXPECT_EQ(packet.add(0, 8, true), State::first);
  for (uint32_t i = 1; i < FragmentTable::kRangesMax; ++i) {
    EXPECT_EQ(packet.add(16 * i, 8, true), State::known);
  }
  EXPECT_EQ(packet.add(16 * FragmentTable::kRangesMax, 8, true), State::scattered);
  EXPECT_EQ(packet.add(8, 8, true), State::known) << "one that fills a hole may come";
  EXPECT_EQ(packet.add(16 * FragmentTable::kRangesMax, 8, true), State::known);
}

TEST(FragmentTable, CompletePacketsGiveWayFirstThenTheOldest) {
  FragmentTable table(8, 1);  // one set
  for (uint32_t id = 0; id < 8; ++id) {
    Asking packet{table, key_of(id), 100 + id};
    EXPECT_EQ(packet.add(0, 800, true), State::first);
  }
  Asking complete{table, key_of(3), 110};
  EXPECT_EQ(complete.add(800, 8, false), State::known);
  Asking ninth{table, key_of(8), 110}, tenth{table, key_of(9), 110};
  EXPECT_EQ(ninth.add(0, 800, true), State::first);
  EXPECT_EQ(complete.add(1600, 8, true), State::early) << "gone";
  EXPECT_EQ(tenth.add(0, 800, true), State::first);
  for (uint32_t id = 0; id < 10; ++id) {
    Asking packet{table, key_of(id), 111};
    EXPECT_EQ(packet.add(800, 800, true), id == 0 || id == 3 ? State::early : State::known) << id;
  }
}

// Against a map of bytes.
TEST(FragmentTable, AgreesWithBytes) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 3000; ++round) {
    FragmentTable table(8, seed);
    Asking packet{table, key_of(static_cast<uint32_t>(random()))};
    std::vector<bool> come(80);
    const auto first = static_cast<uint32_t>(1 + random() % 4);
    ASSERT_EQ(packet.add(0, first * 8, true), State::first);
    std::fill_n(come.begin(), first, true);
    for (int i = 0; i < 20; ++i) {
      const auto offset = static_cast<uint32_t>(1 + random() % 40);
      const auto units = static_cast<uint32_t>(1 + random() % 3);
      const auto begin = come.begin() + offset;
      const auto held = std::count(begin, begin + units, true);
      const State state = packet.add(offset * 8, units * 8, true);
      if (held == units) {
        ASSERT_EQ(state, State::duplicate);
      } else if (held > 0) {
        ASSERT_EQ(state, State::overlap);
        break;
      } else {
        ASSERT_TRUE(state == State::known || state == State::scattered);
        std::fill_n(begin, state == State::known ? units : 0, true);
      }
    }
  }
}

TEST(FragmentTable, ManyThreads) {
  FragmentTable table(1024, 7);
  std::vector<std::thread> threads;
  for (uint32_t worker = 0; worker < 4; ++worker) {
    threads.emplace_back([&table, worker] {
      for (uint32_t i = 0; i < 20'000; ++i) {
        Asking packet{table, key_of(i % 512)};
        packet.key.zone = worker % 2;
        const State state = packet.add(i % 3 * 8, 8, true);
        EXPECT_TRUE(i % 3 == 0 ? state == State::first
                               : state != State::first && state != State::overlap);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace
}  // namespace sallyport
