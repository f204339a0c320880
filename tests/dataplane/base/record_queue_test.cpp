#include "dataplane/base/record_queue.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <thread>
#include <vector>

namespace sallyport {
namespace {

constexpr size_t kManyRecords = 1000;
constexpr size_t kManyBytes = 1 << 20;

using Bytes = std::vector<uint8_t>;

Bytes pattern(size_t size, uint8_t seed) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<uint8_t>(seed + i * 31);
  }
  return bytes;
}

size_t push(RecordPool& pool, RecordQueue& queue, const Bytes& bytes,
            size_t records_max = kManyRecords, size_t bytes_max = kManyBytes) {
  const std::span<const uint8_t> part(bytes);
  return pool.push(queue, {&part, 1}, records_max, bytes_max);
}

Bytes pop(RecordPool& pool, RecordQueue& queue) {
  Bytes out(65'535);
  out.resize(pool.pop(queue, out));
  return out;
}

TEST(RecordQueue, GivesBackRecordsInOrderWhateverTheirLength) {
  RecordPool pool(128);
  RecordQueue queue;
  const size_t lengths[] = {1, 60, 2039, 2040, 2041, 4080, 4081, 65'535};
  for (const size_t length : lengths) {
    EXPECT_EQ(push(pool, queue, pattern(length, 3)), 0u);
  }
  for (const size_t length : lengths) {
    EXPECT_EQ(pop(pool, queue), pattern(length, 3)) << length;
  }
  EXPECT_TRUE(pool.empty(queue));
  EXPECT_EQ(pop(pool, queue).size(), 0u);
  EXPECT_EQ(pool.free_blocks(), 128u);
}

TEST(RecordQueue, JoinsThePartsOfARecord) {
  RecordPool pool(8);
  RecordQueue queue;
  const Bytes head = pattern(40, 1), none, body = pattern(3000, 2), tail = pattern(5, 9);
  const std::span<const uint8_t> parts[] = {head, none, body, tail};
  EXPECT_EQ(pool.push(queue, parts, kManyRecords, kManyBytes), 0u);
  Bytes joined = head;
  joined.insert(joined.end(), body.begin(), body.end());
  joined.insert(joined.end(), tail.begin(), tail.end());
  EXPECT_EQ(pop(pool, queue), joined);
}

TEST(RecordQueue, AnEmptyRecordIsNoRecord) {
  RecordPool pool(8);
  RecordQueue queue;
  EXPECT_EQ(push(pool, queue, {}), 0u);
  EXPECT_TRUE(pool.empty(queue));
}

TEST(RecordQueue, BeyondItsRecordsGivesUpTheOldest) {
  RecordPool pool(16);
  RecordQueue queue;
  EXPECT_EQ(push(pool, queue, {1}, 2), 0u);
  EXPECT_EQ(push(pool, queue, {2}, 2), 0u);
  EXPECT_EQ(push(pool, queue, {3}, 2), 1u);
  EXPECT_EQ(pop(pool, queue), Bytes{2});
  EXPECT_EQ(pop(pool, queue), Bytes{3});
}

TEST(RecordQueue, BeyondItsBytesGivesUpAsManyAsItTakes) {
  RecordPool pool(16);
  RecordQueue queue;
  for (uint8_t i = 0; i < 4; ++i) {
    EXPECT_EQ(push(pool, queue, pattern(25, i), kManyRecords, 100), 0u);
  }
  EXPECT_EQ(push(pool, queue, pattern(60, 9), kManyRecords, 100), 3u);
  EXPECT_EQ(pop(pool, queue), pattern(25, 3));
  EXPECT_EQ(pop(pool, queue), pattern(60, 9));
}

TEST(RecordQueue, ARecordThatCanNeverFitIsLostAlone) {
  RecordPool pool(16);
  RecordQueue queue;
  EXPECT_EQ(push(pool, queue, {1}, kManyRecords, 100), 0u);
  EXPECT_EQ(push(pool, queue, pattern(101, 0), kManyRecords, 100), 1u);
  EXPECT_EQ(push(pool, queue, {7}, 0, 100), 1u);
  EXPECT_EQ(pop(pool, queue), Bytes{1});
}

TEST(RecordQueue, ADryPoolLosesTheNewcomerAndNobodyElse) {
  RecordPool pool(3);
  RecordQueue first, second;
  EXPECT_EQ(push(pool, first, pattern(4000, 1)), 0u);
  EXPECT_EQ(push(pool, second, pattern(10, 2)), 0u);
  EXPECT_EQ(pool.free_blocks(), 0u);
  EXPECT_EQ(push(pool, second, {3}), 1u);
  EXPECT_EQ(pop(pool, first), pattern(4000, 1));
  EXPECT_EQ(push(pool, second, {3}), 0u);
  EXPECT_EQ(pop(pool, second), pattern(10, 2));
  EXPECT_EQ(pop(pool, second), Bytes{3});
  EXPECT_EQ(pool.free_blocks(), 3u);
}

TEST(RecordQueue, APoolOfNothingTakesNothing) {
  RecordPool pool(0);
  RecordQueue queue;
  EXPECT_EQ(push(pool, queue, {1}), 1u);
  EXPECT_TRUE(pool.empty(queue));
}

TEST(RecordQueue, ClearSaysHowManyItThrewAway) {
  RecordPool pool(16);
  RecordQueue queue;
  push(pool, queue, pattern(5000, 1));
  push(pool, queue, {2});
  EXPECT_EQ(pool.clear(queue), 2u);
  EXPECT_EQ(pool.clear(queue), 0u);
  EXPECT_TRUE(pool.empty(queue));
  EXPECT_EQ(pool.free_blocks(), 16u);
  EXPECT_EQ(push(pool, queue, {3}), 0u);
  EXPECT_EQ(pop(pool, queue), Bytes{3});
}

TEST(RecordQueueDeathTest, TooSmallABufferIsAContradiction) {
  RecordPool pool(4);
  RecordQueue queue;
  push(pool, queue, pattern(10, 1));
  uint8_t small[9];
  EXPECT_DEATH(pool.pop(queue, small), "does not fit");
}

TEST(RecordQueue, BehavesAsAModelUnderRandomUse) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  constexpr size_t kBlocks = 40, kRecords = 6, kBytes = 20'000, kPayload = 2040;
  const auto blocks_of = [](size_t bytes) { return (bytes + kPayload - 1) / kPayload; };
  RecordPool pool(kBlocks);
  RecordQueue queues[3];
  std::deque<Bytes> models[3];
  size_t free_blocks = kBlocks;
  for (int round = 0; round < 5'000; ++round) {
    const size_t which = random() % 3;
    auto& model = models[which];
    if (random() % 5 < 3) {
      const Bytes record = pattern(1 + random() % 25'000, static_cast<uint8_t>(round));
      size_t held = 0, lost = 0;
      for (const auto& bytes : model) {
        held += bytes.size();
      }
      const bool fits = record.size() <= kBytes;
      while (fits && !model.empty() &&
             (model.size() >= kRecords || held + record.size() > kBytes)) {
        held -= model.front().size();
        free_blocks += blocks_of(model.front().size());
        model.pop_front();
        ++lost;
      }
      if (fits && blocks_of(record.size()) <= free_blocks) {
        free_blocks -= blocks_of(record.size());
        model.push_back(record);
      } else {
        ++lost;
      }
      ASSERT_EQ(push(pool, queues[which], record, kRecords, kBytes), lost);
    } else if (model.empty()) {
      ASSERT_TRUE(pool.empty(queues[which]));
    } else {
      ASSERT_EQ(pop(pool, queues[which]), model.front());
      free_blocks += blocks_of(model.front().size());
      model.pop_front();
    }
    ASSERT_EQ(pool.free_blocks(), free_blocks);
  }
}

TEST(RecordQueue, OnePoolServesManyThreads) {
  RecordPool pool(64);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (uint8_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      RecordQueue queue;
      for (int i = 0; i < 2000; ++i) {
        const Bytes record = pattern(1 + static_cast<size_t>(i) % 5000, t);
        if (push(pool, queue, record) == 0) {
          Bytes out(8192);
          out.resize(pool.pop(queue, out));
          wrong += out != record;
        }
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(pool.free_blocks(), 64u);
}

}  // namespace
}  // namespace sallyport
