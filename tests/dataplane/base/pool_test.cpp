#include "dataplane/base/pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

namespace sallyport {
namespace {

std::vector<Buffer*> take_all(BufferCache& cache) {
  std::vector<Buffer*> taken;
  while (Buffer* buffer = cache.take()) {
    taken.push_back(buffer);
  }
  return taken;
}

void give_all(BufferCache& cache, const std::vector<Buffer*>& buffers) {
  for (Buffer* buffer : buffers) {
    cache.give(buffer);
  }
}

TEST(BufferPool, GivesEachBufferOnceAndThenNone) {
  for (const size_t capacity : {1, 31, 32, 33, 64, 65, 200}) {
    BufferPool pool(capacity);
    EXPECT_EQ(pool.capacity(), capacity);
    EXPECT_EQ(pool.reserved_bytes(), capacity * Buffer::kBlockBytes);
    BufferCache cache(pool);
    const std::vector<Buffer*> taken = take_all(cache);
    EXPECT_EQ(std::set<Buffer*>(taken.begin(), taken.end()).size(), capacity);
    EXPECT_EQ(cache.take(), nullptr) << "dry, and stays so";
    give_all(cache, taken);
    EXPECT_EQ(take_all(cache).size(), capacity) << "nothing is lost";
    give_all(cache, taken);
  }
}

// The contract of pool.h: headroom before, 64 KiB and tailroom behind, inside the buffer's own
// block.
TEST(BufferPool, RoomOnEverySideOfTheData) {
  BufferPool pool(40);
  BufferCache cache(pool);
  std::vector<Buffer*> taken = take_all(cache);
  for (Buffer* buffer : taken) {
    const auto* block = reinterpret_cast<uint8_t*>(buffer);
    EXPECT_GE(buffer->data() - block, static_cast<ptrdiff_t>(sizeof(Buffer) + Buffer::kHeadroom));
    EXPECT_LE(buffer->data() + Buffer::kDataBytes + Buffer::kTailroom, block + Buffer::kBlockBytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 8, 0u);
    std::memset(buffer->data() - Buffer::kHeadroom, 0xff,
                Buffer::kHeadroom + Buffer::kDataBytes + Buffer::kTailroom);
  }
  std::set<uint32_t> numbers;
  for (const Buffer* buffer : taken) {
    numbers.insert(buffer->number);
  }
  EXPECT_EQ(numbers.size(), 40u) << "filling one buffer to its bounds touches no other's header";
  EXPECT_EQ(*numbers.rbegin(), 39u);
  give_all(cache, taken);
}

TEST(BufferPool, DataIsStaggeredOverCacheSets) {
  BufferPool pool(16);
  BufferCache cache(pool);
  const std::vector<Buffer*> taken = take_all(cache);
  std::set<uintptr_t> in_page;
  for (Buffer* buffer : taken) {
    in_page.insert(reinterpret_cast<uintptr_t>(buffer->data()) % 4096 / 64);
  }
  EXPECT_EQ(in_page.size(), 16u);
  give_all(cache, taken);
}

TEST(BufferCache, LastInFirstOut) {
  BufferPool pool(100);
  BufferCache cache(pool);
  Buffer* one = cache.take();
  Buffer* two = cache.take();
  cache.give(one);
  cache.give(two);
  EXPECT_EQ(cache.take(), two) << "the warmest first";
  EXPECT_EQ(cache.take(), one);
  cache.give(one);
  cache.give(two);
}

TEST(BufferCache, ATakersCacheRefillsFromAGiversExcess) {
  BufferPool pool(200);
  BufferCache receiver(pool), sender(pool);
  const std::vector<Buffer*> taken = take_all(receiver);
  EXPECT_EQ(sender.take(), nullptr);
  give_all(sender, taken);
  // What one cache may keep to itself is bounded, so the rest is there for the other.
  const std::vector<Buffer*> again = take_all(receiver);
  EXPECT_GE(again.size(), 200u - 64u);
  EXPECT_EQ(again.size() + take_all(sender).size(), 200u);
  give_all(receiver, taken);
}

TEST(BufferCache, GivesBackWhatItHoldsWhenItGoes) {
  BufferPool pool(50);
  {
    BufferCache cache(pool);
    give_all(cache, take_all(cache));
  }
  BufferCache other(pool);
  EXPECT_EQ(take_all(other).size(), 50u);
}

TEST(BufferCache, ThreadsTradeWithoutLossOrDoubling) {
  constexpr size_t kThreads = 4, kRounds = 3000;
  BufferPool pool(64);
  std::vector<std::thread> threads;
  std::atomic<bool> doubled{false};
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      BufferCache cache(pool);
      std::vector<Buffer*> held;
      const auto give_back = [&] {
        uint32_t mark;
        std::memcpy(&mark, held.back()->data(), sizeof(mark));
        if (mark != t) {
          doubled = true;  // somebody else writes to what is ours
        }
        cache.give(held.back());
        held.pop_back();
      };
      for (size_t i = 0; i < kRounds; ++i) {
        for (size_t n = (i * 7 + t) % 24; n > 0; --n) {
          if (Buffer* buffer = cache.take()) {
            const auto mark = static_cast<uint32_t>(t);
            std::memcpy(buffer->data(), &mark, sizeof(mark));
            held.push_back(buffer);
          }
        }
        for (size_t n = std::min(held.size(), (i * 5 + t) % 24); n > 0; --n) {
          give_back();
        }
      }
      while (!held.empty()) {
        give_back();
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_FALSE(doubled);
  BufferCache cache(pool);
  EXPECT_EQ(take_all(cache).size(), 64u);
}

}  // namespace
}  // namespace sallyport
