// Mappings: one outer end for one inner end while anybody holds it, and no outer end for two.
#include "dataplane/table/mapping_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>
#include <vector>

#include "dataplane/net/headers.h"

namespace sallyport::test {
namespace {

using Claimed = MappingTable::Claimed;
constexpr size_t kNoLimit = SIZE_MAX;

// Inner ends 10.0.0.n:port, towards the outer address 203.0.113.m.
FlowTuple original(uint8_t n, uint16_t port, uint8_t protocol = kProtocolUdp) {
  const uint8_t from[4] = {10, 0, 0, n}, to[4] = {198, 51, 100, 1};
  return FlowTuple::make(Family::v4, 1, protocol, from, to, be16{port}, be16{53});
}
MappedEnd end_of(uint8_t n, uint16_t port, uint8_t m = 1, uint8_t protocol = kProtocolUdp) {
  const uint8_t outer[16] = {203, 0, 113, m};
  return MappedEnd::make(original(n, port, protocol), outer);
}
// A packet to an outer end.
FlowTuple towards(uint16_t port, uint8_t m = 1, uint8_t protocol = kProtocolUdp) {
  const uint8_t from[4] = {198, 51, 100, 9}, to[4] = {203, 0, 113, m};
  return FlowTuple::make(Family::v4, 1, protocol, from, to, be16{1}, be16{port});
}

TEST(MappingTable, OneEndHasOnePort) {
  MappingTable table(8, 4);
  EXPECT_FALSE(table.join(end_of(1, 5000)).has_value());
  EXPECT_EQ(table.claim(end_of(1, 5000), be16{7000}, {3, 0, 9}, kNoLimit).result, Claimed::done);
  EXPECT_EQ(table.join(end_of(1, 5000)), be16{7000});
  const auto again = table.claim(end_of(1, 5000), be16{7001}, {3, 0, 9}, kNoLimit);
  EXPECT_EQ(again.result, Claimed::joined);
  EXPECT_EQ(again.port, be16{7000}) << "who was slower takes what is there";
  EXPECT_EQ(table.claim(end_of(2, 5000), be16{7000}, {}, kNoLimit).result, Claimed::taken);
  EXPECT_EQ(table.claim(end_of(1, 5000, 1, kProtocolTcp), be16{7000}, {}, kNoLimit).result,
            Claimed::done)
      << "of another protocol";
  EXPECT_EQ(table.claim(end_of(1, 5000, 2), be16{7000}, {}, kNoLimit).result, Claimed::done)
      << "of another outer address";
  EXPECT_EQ(table.size(), 3u);
}

TEST(MappingTable, TellsWhoHasAnOuterEnd) {
  MappingTable table(8, 4);
  table.claim(end_of(1, 5000), be16{7000}, {3, 0, 9}, kNoLimit);
  const auto inner = table.find_outer(towards(7000));
  ASSERT_TRUE(inner.has_value());
  EXPECT_EQ(IpAddress::v4(inner->address), *parse_address("10.0.0.1"));
  EXPECT_EQ(inner->port, be16{5000});
  EXPECT_EQ(inner->origin.rule, 3);
  EXPECT_EQ(inner->origin.towards, 9u);
  EXPECT_FALSE(table.find_outer(towards(7001)).has_value());
  EXPECT_FALSE(table.find_outer(towards(7000, 2)).has_value());
  EXPECT_FALSE(table.find_outer(towards(7000, 1, kProtocolTcp)).has_value());
}

TEST(MappingTable, GoesWithItsLastShare) {
  MappingTable table(8, 4);
  table.claim(end_of(1, 5000), be16{7000}, {}, kNoLimit);
  table.join(end_of(1, 5000));
  table.leave(end_of(1, 5000));
  EXPECT_EQ(table.claim(end_of(2, 5000), be16{7000}, {}, kNoLimit).result, Claimed::taken);
  table.leave(end_of(1, 5000));
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(table.claim(end_of(2, 5000), be16{7000}, {}, kNoLimit).result, Claimed::done);
  table.leave(end_of(9, 9));  // who has none
  EXPECT_EQ(table.size(), 1u);
}

TEST(MappingTable, IsBounded) {
  MappingTable table(4, 4);
  for (uint8_t n = 1; n <= 4; ++n) {
    EXPECT_EQ(table.claim(end_of(n, 1), be16{n}, {}, kNoLimit).result, Claimed::done);
  }
  EXPECT_EQ(table.claim(end_of(5, 1), be16{5}, {}, kNoLimit).result, Claimed::full);
  table.leave(end_of(2, 1));
  EXPECT_EQ(table.claim(end_of(5, 1), be16{5}, {}, kNoLimit).result, Claimed::done);
  EXPECT_EQ(table.size(), 4u);
  EXPECT_LE(MappingTable(1 << 20, 1024).memory_bytes(), size_t{68} << 20);
}

TEST(MappingTable, AnOwnerHasItsShare) {
  MappingTable table(8, 4);
  const MappingTable::Origin one{0, 1, 0}, other{0, 2, 0};
  EXPECT_EQ(table.claim(end_of(1, 1), be16{1}, one, 2).result, Claimed::done);
  EXPECT_EQ(table.claim(end_of(1, 2), be16{2}, one, 2).result, Claimed::done);
  EXPECT_EQ(table.claim(end_of(1, 3), be16{3}, one, 2).result, Claimed::over_share);
  EXPECT_EQ(table.claim(end_of(1, 2), be16{3}, one, 2).result, Claimed::joined);
  EXPECT_EQ(table.claim(end_of(2, 3), be16{3}, other, 2).result, Claimed::done);
  table.leave(end_of(1, 1));
  EXPECT_EQ(table.claim(end_of(1, 3), be16{4}, one, 2).result, Claimed::done);
}

// Whatever is taken and left in whichever order, as a plain map would have it.
TEST(MappingTable, IsABijectionAtAllTimes) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  MappingTable table(64, 4);
  std::map<int, std::pair<uint16_t, int>> held;  // by inner end: its port and shares
  std::map<uint16_t, int> outer;
  for (int i = 0; i < 20'000; ++i) {
    const int n = static_cast<int>(random() % 40);
    const auto end = end_of(static_cast<uint8_t>(n), 5000);
    const auto known = held.find(n);
    if (random() % 2 == 0 && known != held.end()) {
      table.leave(end);
      if (--known->second.second == 0) {
        outer.erase(known->second.first);
        held.erase(known);
      }
    } else {
      const auto port = static_cast<uint16_t>(random() % 50);
      const auto claim = table.claim(end, be16{port}, {}, kNoLimit);
      if (known != held.end()) {
        ASSERT_EQ(claim.result, Claimed::joined);
        ASSERT_EQ(claim.port, be16{known->second.first});
        ++known->second.second;
      } else if (outer.contains(port)) {
        ASSERT_EQ(claim.result, Claimed::taken);
      } else {
        ASSERT_EQ(claim.result, Claimed::done);
        held[n] = {port, 1};
        outer[port] = n;
      }
    }
    ASSERT_EQ(table.size(), held.size());
    const auto port = static_cast<uint16_t>(random() % 50);
    ASSERT_EQ(table.find_outer(towards(port)).has_value(), outer.contains(port));
  }
}

TEST(MappingTable, ManyThreadsNeverShareAnEnd) {
  MappingTable table(256, 4);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 5000; ++i) {
        const auto n = static_cast<uint8_t>(t * 8 + random() % 8);  // this thread's own
        const auto end = end_of(n, 5000);
        const auto port = static_cast<uint16_t>(random() % 24);
        const auto claim = table.claim(end, be16{port}, {n, 0, 0}, kNoLimit);
        if (claim.result == Claimed::taken) {
          continue;
        }
        const auto inner = table.find_outer(towards(claim.port));
        wrong[t] += !inner.has_value() || inner->origin.rule != n ? 1 : 0;
        table.leave(end);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, std::vector<int>(4));
  EXPECT_EQ(table.size(), 0u);
}

}  // namespace
}  // namespace sallyport::test
