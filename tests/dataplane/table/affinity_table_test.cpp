#include "dataplane/table/affinity_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace sallyport {
namespace {

constexpr uint64_t kTagStep = uint64_t{1} << 40;  // same set, another tag

TEST(AffinityTable, RemembersAFlowsMember) {
  AffinityTable table(1000);
  EXPECT_EQ(table.find(7, 100, 60), std::nullopt);
  table.remember(7, 3, 100);
  EXPECT_EQ(table.find(7, 100, 60), 3);
  EXPECT_EQ(table.find(8, 100, 60), std::nullopt);
  EXPECT_EQ(table.find(7 + kTagStep, 100, 60), std::nullopt);
  table.remember(7, 4, 101);
  EXPECT_EQ(table.find(7, 101, 60), 4);
}

TEST(AffinityTable, EveryHashAndMemberIsAllowed) {
  AffinityTable table(1);
  for (const uint64_t hash : {uint64_t{0}, ~uint64_t{0}, uint64_t{1} << 63}) {
    for (const uint8_t member : {uint8_t{0}, uint8_t{1}, uint8_t{254}}) {
      table.remember(hash, member, 0);
      EXPECT_EQ(table.find(hash, 0, 1), member);
    }
  }
}

TEST(AffinityTable, ForgetsAFlowThatWasQuietForTooLong) {
  AffinityTable table(1000);
  table.remember(7, 3, 100);
  EXPECT_EQ(table.find(7, 159, 60), 3);
  EXPECT_EQ(table.find(7, 160, 60), std::nullopt);
  EXPECT_EQ(table.find(7, 160, 61), 3);
  EXPECT_EQ(table.find(7, 100, 0), std::nullopt);
  table.remember(7, 3, 160);
  EXPECT_EQ(table.find(7, 219, 60), 3);
}

TEST(AffinityTable, CountsAcrossTheEndOfItsClock) {
  AffinityTable table(1000);
  const uint32_t end = 1u << 22;
  table.remember(7, 3, end - 1);
  EXPECT_EQ(table.find(7, end + 58, 60), 3);
  EXPECT_EQ(table.find(7, end + 59, 60), std::nullopt);
  table.remember(8, 3, UINT32_MAX);
  EXPECT_EQ(table.find(8, 58, 60), 3);
  EXPECT_EQ(table.find(8, 59, 60), std::nullopt);
}

TEST(AffinityTable, AWorkerWhoseClockIsBehindFindsWhatAnotherStamped) {
  AffinityTable table(1000);
  table.remember(7, 3, 100);
  EXPECT_EQ(table.find(7, 98, 1), 3);
  table.remember(7, 3, 98);
  EXPECT_EQ(table.find(7, 98, 1), 3);
}

TEST(AffinityTable, TheFlowThatWasQuietLongestGivesWay) {
  AffinityTable table(8);  // one set
  for (uint8_t i = 0; i < 8; ++i) {
    table.remember(i * kTagStep, i, 100u + (i * 3u) % 8);  // flow 0 is the oldest, then 3
  }
  for (uint8_t i = 0; i < 8; ++i) {
    EXPECT_EQ(table.find(i * kTagStep, 110, 60), i);
  }
  table.remember(8 * kTagStep, 8, 110);
  EXPECT_EQ(table.find(0, 110, 60), std::nullopt);
  table.remember(9 * kTagStep, 9, 110);
  EXPECT_EQ(table.find(3 * kTagStep, 110, 60), std::nullopt);
  for (const unsigned i : {1u, 2u, 4u, 5u, 6u, 7u, 8u, 9u}) {
    EXPECT_EQ(table.find(i * kTagStep, 110, 60), i);
  }
}

TEST(AffinityTable, HoldsMostOfWhatItWasMadeFor) {
  AffinityTable table(1 << 16);
  EXPECT_LE(table.memory_bytes(), (1u << 16) * 8 + 64);
  std::mt19937_64 random(1);
  std::vector<uint64_t> hashes(1 << 15);
  for (uint64_t& hash : hashes) {
    hash = random();
    table.remember(hash, static_cast<uint8_t>(hash % 255), 100);
  }
  size_t kept = 0;
  for (const uint64_t hash : hashes) {
    const auto member = table.find(hash, 100, 60);
    kept += member == hash % 255 ? 1 : 0;
    ASSERT_TRUE(!member || *member == hash % 255);
  }
  EXPECT_GT(kept, hashes.size() * 97 / 100);  // half full, eight ways: next to none has nine
}

TEST(AffinityTable, WorkersThatMeetLoseAnEntryButNeverMixTwo) {
  AffinityTable table(64);
  std::atomic<uint64_t> wrong = 0;
  std::vector<std::thread> workers;
  for (uint64_t i = 0; i < 3; ++i) {
    workers.emplace_back([&, i] {
      std::mt19937_64 random(i);
      for (uint32_t turn = 0; turn < 20'000; ++turn) {
        const uint64_t flow = random() % 200 * 0x9e3779b97f4a7c15;
        const auto member = table.find(flow, turn / 1000, 60);
        wrong += member && *member != flow % 255 ? 1 : 0;
        table.remember(flow, static_cast<uint8_t>(flow % 255), turn / 1000);
      }
    });
  }
  for (std::thread& worker : workers) {
    worker.join();
  }
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace sallyport
