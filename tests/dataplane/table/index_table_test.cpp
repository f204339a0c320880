#include "dataplane/table/index_table.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>
#include <unordered_map>
#include <vector>

#include "dataplane/base/rcu.h"

namespace sallyport {
namespace {

TEST(IndexTable, AnEmptyTableKnowsNobody) {
  IndexTable table;
  EXPECT_EQ(table.lookup(0), 0u);
  EXPECT_EQ(table.lookup(UINT32_MAX), 0u);
  EXPECT_FALSE(table.remove(0));
  EXPECT_FALSE(table.replace(0, 1));
  EXPECT_EQ(table.size(), 0u);
}

TEST(IndexTable, EveryIndexIsAllowedZeroToo) {
  IndexTable table;
  for (const uint32_t index : {0u, 1u, 0x80000000u, UINT32_MAX}) {
    EXPECT_TRUE(table.insert(index, index + 1ull));
  }
  for (const uint32_t index : {0u, 1u, 0x80000000u, UINT32_MAX}) {
    EXPECT_EQ(table.lookup(index), index + 1ull);
  }
  EXPECT_EQ(table.size(), 4u);
}

TEST(IndexTable, ATakenIndexIsRefusedAndAFreedOneIsNot) {
  IndexTable table;
  EXPECT_TRUE(table.insert(7, 70));
  EXPECT_FALSE(table.insert(7, 71));
  EXPECT_EQ(table.lookup(7), 70u);
  EXPECT_TRUE(table.remove(7));
  EXPECT_FALSE(table.remove(7));
  EXPECT_EQ(table.lookup(7), 0u);
  EXPECT_TRUE(table.insert(7, 72));
  EXPECT_EQ(table.lookup(7), 72u);
}

TEST(IndexTable, ReplaceNeedsSomethingToReplace) {
  IndexTable table;
  EXPECT_FALSE(table.replace(7, 70));
  table.insert(7, 70);
  EXPECT_TRUE(table.replace(7, 71));
  EXPECT_EQ(table.lookup(7), 71u);
  EXPECT_EQ(table.size(), 1u);
  table.remove(7);
  EXPECT_FALSE(table.replace(7, 72));
}

TEST(IndexTable, NothingIsNotAValue) {
  IndexTable table;
  EXPECT_FALSE(table.insert(7, 0));
  table.insert(7, 70);
  EXPECT_FALSE(table.replace(7, 0));
  EXPECT_EQ(table.lookup(7), 70u);
}

TEST(IndexTable, GrowsWithWhatIsAliveAndShrinksAgain) {
  IndexTable table;
  const size_t empty = table.memory_bytes();
  for (uint32_t i = 0; i < 10'000; ++i) {
    ASSERT_TRUE(table.insert(i * 256, i + 1));
  }
  const size_t full = table.memory_bytes();
  EXPECT_GT(full, 10'000u * 16);
  EXPECT_LE(full, 10'000u * 16 * 8 + 4096);
  for (uint32_t i = 0; i < 10'000; ++i) {
    ASSERT_EQ(table.lookup(i * 256), i + 1);
    ASSERT_TRUE(table.remove(i * 256));
  }
  for (uint32_t i = 0; i < 100'000;
       ++i) {  // removed entries hold slots only until the next rebuild
    ASSERT_TRUE(table.insert(i * 7, 1));
    ASSERT_TRUE(table.remove(i * 7));
  }
  EXPECT_LT(table.memory_bytes(), empty * 2);
  EXPECT_EQ(table.size(), 0u);
}

TEST(IndexTable, BehavesAsAMapUnderRandomUse) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  IndexTable table;
  std::unordered_map<uint32_t, uintptr_t> model;
  for (int round = 0; round < 200'000; ++round) {
    // Low bytes name one of four workers, as in the engine, so that neighbours crowd.
    const auto index = static_cast<uint32_t>((random() % 3000) << 8 | random() % 4);
    const uintptr_t value = 1 + random() % 1000;
    switch (random() % 4) {
      case 0:
        ASSERT_EQ(table.insert(index, value), model.try_emplace(index, value).second);
        break;
      case 1:
        ASSERT_EQ(table.remove(index), model.erase(index) == 1);
        break;
      case 2:
        ASSERT_EQ(table.replace(index, value), model.contains(index));
        if (model.contains(index)) {
          model[index] = value;
        }
        break;
      default:
        ASSERT_EQ(table.lookup(index), model.contains(index) ? model[index] : 0);
    }
    ASSERT_EQ(table.size(), model.size());
  }
  for (const auto& [index, value] : model) {
    ASSERT_EQ(table.lookup(index), value);
  }
}

// Values name their index, so a reader who is given another index's value sees it. Indices that are
// never removed must be found throughout, also while the table is rebuilt.
TEST(IndexTable, ReadersBesideWritersNeverMissOrMistake) {
  constexpr uint32_t kPermanent = 200, kWriters = 2, kRounds = 4000;
  IndexTable table;
  for (uint32_t i = 0; i < kPermanent; ++i) {
    table.insert(i, uintptr_t{i} << 8 | 1);
  }
  std::atomic<uint32_t> writing{kWriters};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (uint32_t reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&, reader] {
      rcu_join();
      std::minstd_rand random(reader + 1);
      while (writing > 0) {
        for (int i = 0; i < 64; ++i) {
          const uint32_t index = static_cast<uint32_t>(random()) % 2000;
          const uintptr_t value = table.lookup(index);
          wrong += value == 0 ? index < kPermanent : value >> 8 != index;
        }
        rcu_quiescent();
      }
      rcu_leave();
    });
  }
  for (uint32_t writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      std::minstd_rand random(writer + 77);
      for (uint32_t round = 0; round < kRounds; ++round) {
        const uint32_t index = kPermanent + static_cast<uint32_t>(random()) % 1800;
        table.insert(index, uintptr_t{index} << 8 | 2);
        table.replace(index, uintptr_t{index} << 8 | 3);
        table.remove(kPermanent + static_cast<uint32_t>(random()) % 1800);
        table.replace(round % kPermanent, uintptr_t{round % kPermanent} << 8 | 4);
      }
      --writing;
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, 0);
  rcu_barrier_all();
}

}  // namespace
}  // namespace sallyport
