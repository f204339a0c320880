#include "dataplane/table/port_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <vector>

namespace sallyport {
namespace {

constexpr uint64_t kTowards = 0x1234;

// All that searches for one destination offer until it is exhausted; nothing is free.
std::vector<uint16_t> all_offers(PortBlocks& ports, uint16_t preferred, bool keep_parity,
                                 size_t range) {
  std::vector<uint16_t> offers;
  for (PortFailure failure = PortFailure::busy; failure == PortFailure::busy;) {
    PortSearch search = ports.search(kTowards, preferred, keep_parity);
    bool is_first = offers.empty();
    while (const auto port = search.next()) {
      // The preferred one is asked for each time, for it may be free; and the last search goes round.
      if ((*port != preferred || is_first) && offers.size() < range) {
        offers.push_back(*port);
      }
      is_first = false;
    }
    EXPECT_LE(search.tries(), PortBlocks::kTries);
    failure = ports.failed(search);
  }
  return offers;
}

TEST(PortBlocks, OffersEachPortOnceAndThenSaysExhausted) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto any_port = [&] { return static_cast<uint16_t>(random()); };
  for (int round = 0; round < 300; ++round) {
    // Ranges small and large, borders odd and even, to 65536 ports.
    uint16_t first = any_port();
    uint16_t last = round % 3 == 0 ? any_port() : static_cast<uint16_t>(first + random() % 200);
    if (round == 0) {
      first = 0, last = 65535;
    }
    if (first > last) {
      std::swap(first, last);
    }
    const bool keep_parity = random() % 2 == 0;
    const uint16_t preferred = random() % 2 == 0
                                   ? any_port()
                                   : static_cast<uint16_t>(first + random() % (last - first + 1u));
    const auto workers = 1 + static_cast<unsigned>(random() % 9);
    PortBlocks ports(first, last, static_cast<unsigned>(random() % workers), workers, random());
    std::vector<uint16_t> offers = all_offers(ports, preferred, keep_parity, last - first + 1u);
    const std::set<uint16_t> distinct(offers.begin(), offers.end());
    ASSERT_EQ(distinct.size(), last - first + 1u) << first << '-' << last << ' ' << preferred;
    ASSERT_EQ(*distinct.begin(), first);
    ASSERT_EQ(*distinct.rbegin(), last);
    ASSERT_EQ(offers.size(), distinct.size());
    if (first <= preferred && preferred <= last) {
      ASSERT_EQ(offers[0], preferred);
    }
    if (keep_parity) {
      const auto same = static_cast<size_t>(std::count_if(
          offers.begin(), offers.end(), [&](uint16_t port) { return port % 2 == preferred % 2; }));
      for (size_t i = 0; i < offers.size(); ++i) {
        ASSERT_EQ(offers[i] % 2 == preferred % 2, i < same) << i;
      }
    }
  }
}

TEST(PortBlocks, ASmallRangeIsExhaustedExactly) {
  PortBlocks ports(5000, 5015, 0, 1, 7);
  std::set<uint16_t> taken;
  for (int i = 0; i < 16; ++i) {
    PortSearch search = ports.search(kTowards, 80, true);
    bool is_found = false;
    while (const auto port = search.next()) {
      if (taken.insert(*port).second) {
        is_found = true;
        break;
      }
    }
    ASSERT_TRUE(is_found) << i;
    ports.found(search);
    ASSERT_EQ(
        std::count_if(taken.begin(), taken.end(), [](uint16_t port) { return port % 2 == 0; }),
        std::min(i + 1, 8));
  }
  for (int i = 0; i < 100; ++i) {
    PortSearch search = ports.search(kTowards, 80, true);
    while (const auto port = search.next()) {
      ASSERT_TRUE(taken.contains(*port));
    }
    ASSERT_EQ(search.tries(), 16u);
    ASSERT_EQ(ports.failed(search), PortFailure::exhausted);
  }
  taken.erase(5007);
  PortSearch search = ports.search(kTowards, 80, true);
  bool is_found = false;
  while (const auto port = search.next()) {
    is_found |= taken.insert(*port).second;
  }
  EXPECT_TRUE(is_found);
}

TEST(PortBlocks, AnExhaustedDestinationCostsLittleAndComesBack) {
  PortBlocks ports(1024, 65535, 0, 1, 7);
  const size_t range = 65536 - 1024;
  all_offers(ports, 0, false, range);
  size_t tries = 0;
  size_t searches = 0;
  for (bool is_found = false; !is_found; ++searches) {  // one port is free again
    PortSearch search = ports.search(kTowards, 0, false);
    while (const auto port = search.next()) {
      is_found |= *port == 40000;
    }
    tries += search.tries();
    ASSERT_LE(search.tries(), PortBlocks::kTriesExhausted);
    if (is_found) {
      ports.found(search);
    } else {
      ASSERT_EQ(ports.failed(search), PortFailure::exhausted);
    }
    ASSERT_LE(tries, range + PortBlocks::kTriesExhausted);
  }
  PortSearch search = ports.search(kTowards, 0, false);
  size_t more = 0;
  while (search.next()) {
    ++more;
  }
  EXPECT_EQ(more, PortBlocks::kTries);  // as before
}

TEST(PortBlocks, AtNineTenthsTakenASearchIsCheapAndHardlyEverFails) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  PortBlocks ports(0, 65535, 0, 1, random());
  std::vector<uint16_t> order(65536);
  std::iota(order.begin(), order.end(), uint16_t{0});
  std::shuffle(order.begin(), order.end(), random);
  std::vector<bool> taken(65536);
  for (size_t i = 0; i < 65536 * 9 / 10; ++i) {
    taken[order[i]] = true;
  }
  size_t tries = 0, failures = 0;
  constexpr size_t kSearches = 20'000;
  for (size_t i = 0; i < kSearches; ++i) {
    PortSearch search = ports.search(kTowards, static_cast<uint16_t>(random()), false);
    bool is_found = false;
    while (const auto port = search.next()) {
      if (!taken[*port]) {
        is_found = true;
        break;
      }
    }
    tries += search.tries();
    if (is_found) {
      ports.found(search);
    } else {
      EXPECT_EQ(ports.failed(search), PortFailure::busy);
      ++failures;
    }
  }
  EXPECT_LT(tries, kSearches * 12);           // ten expected
  EXPECT_LT(failures, kSearches * 6 / 1000);  // 1.2 in a thousand expected
}

TEST(PortBlocks, WorkersBeginInBlocksOfTheirOwnAndInNoOrder) {
  PortBlocks one(1024, 65535, 0, 2, 7);
  PortBlocks other(1024, 65535, 1, 2, 7);
  std::set<uint16_t> first_offers;
  unsigned same = 0, neighbours = 0;
  uint16_t before = 0;
  for (int i = 0; i < 2000; ++i) {
    PortSearch search = one.search(kTowards, 0, false);
    PortSearch beside = other.search(kTowards, 0, false);
    const uint16_t port = *search.next();
    same += port == *beside.next() ? 1 : 0;
    neighbours += std::abs(port - before) <= 2 ? 1 : 0;
    before = port;
    first_offers.insert(port);
  }
  EXPECT_GT(first_offers.size(), 1700u);  // of 32,256, drawn 2,000 times
  EXPECT_LT(same, 20u);
  EXPECT_LT(neighbours, 20u);
}

}  // namespace
}  // namespace sallyport
