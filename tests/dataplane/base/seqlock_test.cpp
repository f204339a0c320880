#include "dataplane/base/seqlock.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>
#include <vector>

namespace sallyport {
namespace {

// All words equal, so that a mixture of two values shows.
using Wide = std::array<uint64_t, 7>;

Wide all(uint64_t word) {
  Wide value;
  value.fill(word);
  return value;
}

TEST(Seqlock, StartsAllZero) {
  const Seqlocked<Wide> cell;
  EXPECT_EQ(cell.load(), all(0));
}

TEST(Seqlock, LoadsWhatWasStored) {
  Seqlocked<Wide> cell;
  cell.store(all(7));
  EXPECT_EQ(cell.load(), all(7));
  cell.store(all(8));
  EXPECT_EQ(cell.load(), all(8));
}

TEST(Seqlock, HoldsValuesThatAreNoMultipleOfAWord) {
  struct Odd {
    uint8_t bytes[11];
  };
  Seqlocked<Odd> cell;
  Odd odd;
  for (uint8_t i = 0; i < 11; ++i) {
    odd.bytes[i] = static_cast<uint8_t>(0xf0 + i);
  }
  cell.store(odd);
  EXPECT_EQ(std::memcmp(cell.load().bytes, odd.bytes, sizeof(odd.bytes)), 0);
}

TEST(Seqlock, ReadersNeverSeeHalfOfAWrite) {
  constexpr uint64_t kWrites = 20'000;
  Seqlocked<Wide> cell;
  std::atomic<unsigned> writing{2};
  std::atomic<bool> torn{false};
  std::vector<std::thread> threads;
  for (uint64_t writer = 0; writer < 2; ++writer) {
    threads.emplace_back([&, writer] {
      for (uint64_t i = 1; i <= kWrites; ++i) {
        cell.store(all(2 * i + writer));
      }
      --writing;
    });
  }
  for (int reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&] {
      do {
        const Wide value = cell.load();
        if (value != all(value[0])) {
          torn = true;
        }
      } while (writing > 0);
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_FALSE(torn);
  EXPECT_GE(cell.load()[0], 2 * kWrites);
}

}  // namespace
}  // namespace sallyport
