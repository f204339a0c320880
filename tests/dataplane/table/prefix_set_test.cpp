#include "dataplane/table/prefix_set.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "dataplane/base/rcu.h"
#include "tests/dataplane/table/set_entries.h"

namespace sallyport {
namespace {

using test::entry4;
using test::entry6;
using test::Ip;
using test::ip4;
using test::ip6;

void fill(PrefixSet& set, const std::vector<SetEntry>& entries) {
  set.replace(PrefixSet::Content::build(entries));
}

SetMatch match(const PrefixSet& set, const Ip& ip) {
  return set.match(ip.v4, ip.bytes);
}

TEST(PrefixSet, AnEmptySetHoldsNobody) {
  PrefixSet set;
  EXPECT_FALSE(match(set, ip4(0x0a000001)).member);
  EXPECT_FALSE(match(set, ip6(0x20010db8'00000000, 1)).covered);
  EXPECT_EQ(set.size(), 0u);
  fill(set, {});
  EXPECT_FALSE(match(set, ip4(0x0a000001)).member);
}

// 10.0.0.0/8, without 10.1.0.0/16, but with 10.1.2.0/24.
TEST(PrefixSet, TheLongestEntryDecides) {
  PrefixSet set;
  fill(set, {entry4(0x0a010000, 16, true), entry4(0x0a000000, 8), entry4(0x0a010200, 24)});
  struct {
    uint32_t address;
    bool member, covered;
    unsigned length;
  } const truths[] = {
      {0x0a000001, true, true, 8},   {0x0a010001, false, true, 16}, {0x0a0102ff, true, true, 24},
      {0x0a010300, false, true, 16}, {0x0b000000, false, false, 0}, {0x09ffffff, false, false, 0},
  };
  for (const auto& truth : truths) {
    SCOPED_TRACE(truth.address);
    const SetMatch found = match(set, ip4(truth.address));
    EXPECT_EQ(found.member, truth.member);
    EXPECT_EQ(found.covered, truth.covered);
    EXPECT_EQ(found.length, truth.length);
  }
  EXPECT_EQ(set.size(), 3u);
}

TEST(PrefixSet, FamiliesAreApart) {
  PrefixSet set;
  fill(set, {entry4(0, 0), entry6(0x20010db8'00000000, 0, 32),
             entry6(0x20010db8'00000000, 1, 128, true)});
  EXPECT_TRUE(match(set, ip4(0xffffffff)).member);
  EXPECT_EQ(match(set, ip4(0)).length, 0);
  EXPECT_TRUE(match(set, ip4(0)).covered);
  EXPECT_TRUE(match(set, ip6(0x20010db8'00000000, 2)).member);
  EXPECT_FALSE(match(set, ip6(0x20010db8'00000000, 1)).member);
  EXPECT_EQ(match(set, ip6(0x20010db8'00000000, 1)).length, 128);
  EXPECT_FALSE(match(set, ip6(0, 1)).covered);
}

TEST(PrefixSet, OfEqualPrefixesTheLastCountsWhateverTheirLowerBits) {
  PrefixSet set;
  fill(set, {entry4(0x0a000001, 8, true), entry4(0x0a020304, 8), entry4(0x0b000000, 8),
             entry4(0x0bffffff, 8, true)});
  EXPECT_EQ(set.size(), 2u);
  EXPECT_TRUE(match(set, ip4(0x0a000000)).member);
  EXPECT_FALSE(match(set, ip4(0x0b000000)).member);
}

TEST(PrefixSet, ReplacingGivesTheOldMemoryBack) {
  PrefixSet set;
  const size_t empty = set.memory_bytes();
  std::vector<SetEntry> many;
  for (uint32_t i = 0; i < 20'000; ++i) {
    many.push_back(entry4(i << 12, 20));
  }
  fill(set, many);
  EXPECT_GT(set.memory_bytes(), empty + 100'000);
  fill(set, {});
  EXPECT_EQ(set.memory_bytes(), empty);
  EXPECT_FALSE(match(set, ip4(0)).covered);
}

TEST(PrefixSet, BuildingReportsBothFamiliesAsOneAndCanBeCancelled) {
  std::vector<SetEntry> entries;
  for (uint32_t i = 0; i < 20'000; ++i) {
    entries.push_back(entry4(i << 8, 24));
    entries.push_back(entry6(uint64_t{i} << 32, 0, 32));
  }
  struct Seen {
    size_t last = 0, total = 0, until = SIZE_MAX;
    static bool report(void* raw, size_t done, size_t total) {
      auto& seen = *static_cast<Seen*>(raw);
      EXPECT_GT(done, seen.last);
      seen.last = done;
      seen.total = total;
      return done < seen.until;
    }
  } seen;
  ASSERT_NE(PrefixSet::Content::build(entries, Seen::report, &seen), nullptr);
  EXPECT_GT(seen.last, 30'000u);
  EXPECT_EQ(seen.total, 40'000u);
  for (const size_t until : {1u, 25'000u}) {
    Seen cancelling{0, 0, until};
    EXPECT_EQ(PrefixSet::Content::build(entries, Seen::report, &cancelling), nullptr);
    EXPECT_LT(cancelling.last, 40'000u);
  }
}

TEST(PrefixSetDeathTest, ALengthBeyondTheFamilyAborts) {
  const SetEntry bad = entry4(0, 33);
  EXPECT_DEATH(PrefixSet::Content::build({&bad, 1}), "length 33");
}

TEST(PrefixSet, AgreesWithAWalkOverItsEntries) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (const size_t count : {1u, 5u, 16u, 17u, 300u, 3000u}) {
    std::vector<SetEntry> entries;
    for (size_t i = 0; i < count; ++i) {
      entries.push_back(test::random_entry(random, true));
    }
    PrefixSet set;
    fill(set, entries);
    for (int i = 0; i < 2000; ++i) {
      const Ip ip = test::random_ip(random);
      const SetMatch found = match(set, ip);
      const SetMatch truth = test::naive_match(entries, ip);
      ASSERT_EQ(found.member, truth.member);
      ASSERT_EQ(found.covered, truth.covered);
      ASSERT_EQ(found.length, truth.length);
    }
  }
}

// Each content says by the length of its entry whether it is a hole, so a mixture would show.
TEST(PrefixSet, ReadersSeeOneContentOrTheOther) {
  PrefixSet set;
  constexpr uint32_t kContents = 300;
  const auto content = [](uint32_t number) {
    std::vector<SetEntry> entries;
    const auto length = 9 + number % 12;
    entries.push_back(entry4(0x0a000000, length, length % 2 == 0));
    entries.push_back(entry6(0x20010db8'00000000, 0, length + 32, length % 2 == 0));
    for (uint32_t i = 0; i < number % 40; ++i) {  // few prefixes and many, so all forms of the trie
      entries.push_back(entry4(0x0b000000 + (i << 8), 24));
    }
    return PrefixSet::Content::build(entries);
  };
  set.replace(content(0));
  std::atomic<bool> is_over = false;
  std::atomic<uint64_t> wrong = 0, passes = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      rcu_join();
      while (!is_over.load(std::memory_order_relaxed)) {
        for (const Ip& ip : {ip4(0x0a000001), ip6(0x20010db8'00000000, 5)}) {
          const SetMatch found = match(set, ip);
          const bool right = found.covered && found.member == (found.length % 2 == 1);
          wrong += right ? 0 : 1;
        }
        rcu_quiescent();
        ++passes;
      }
      rcu_leave();
    });
  }
  for (uint32_t i = 1; i < kContents || passes < 100; ++i) {
    set.replace(content(i));
  }
  is_over = true;
  for (std::thread& reader : readers) {
    reader.join();
  }
  EXPECT_EQ(wrong, 0u);
  rcu_barrier_all();
}

}  // namespace
}  // namespace sallyport
