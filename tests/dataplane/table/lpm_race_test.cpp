// The LPM table with readers beside the writer. Meant for ThreadSanitizer as much as for the
// answers.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "dataplane/base/rcu.h"
#include "dataplane/table/lpm.h"

namespace sallyport {
namespace {

constexpr unsigned kReaders = 2;
constexpr uint64_t kPasses = 20;  // of each reader, before a scene may end

template <class Table>
struct Sample {
  using Address = typename Table::Address;
  using Prefix = typename Table::Prefix;

  static Address random_address(std::mt19937_64& random) {
    if constexpr (Table::kBits == 32) {
      return static_cast<uint32_t>(random());
    } else {
      return {random(), random()};
    }
  }

  static Address with_top(uint8_t top, Address address) {
    if constexpr (Table::kBits == 32) {
      return uint32_t{top} << 24 | (address & 0xffffff);
    } else {
      address.high = uint64_t{top} << 56 | (address.high & (~uint64_t{0} >> 8));
      return address;
    }
  }
};

// Readers that pass over the probes again and again until told to stop.
template <class Check>
class Readers {
 public:
  explicit Readers(Check check) {
    for (unsigned i = 0; i < kReaders; ++i) {
      threads_.emplace_back([this, i, check] {
        rcu_join();
        while (!stop_.load(std::memory_order_relaxed)) {
          wrong_ += check();
          rcu_quiescent();
          passes_[i].fetch_add(1, std::memory_order_relaxed);
        }
        rcu_leave();
      });
    }
  }

  // Whether each reader has made this many passes.
  bool have_passed(uint64_t count) const {
    for (const auto& passes : passes_) {
      if (passes.load(std::memory_order_relaxed) < count) {
        return false;
      }
    }
    return true;
  }

  uint64_t stop() {
    stop_ = true;
    for (std::thread& thread : threads_) {
      thread.join();
    }
    return wrong_;
  }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> wrong_ = 0;
  std::atomic<uint64_t> passes_[kReaders] = {};
  std::vector<std::thread> threads_;
};

template <class Table>
class LpmRaceTest : public testing::Test {
 public:
  using Address = typename Table::Address;
  using Prefix = typename Table::Prefix;

 protected:
  void SetUp() override {
    const unsigned seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    random_.seed(seed);
  }

  // Probes and what comes and goes under them lie in 64/8; the noise does not.
  static constexpr uint8_t kQuietTop = 64;
  static constexpr uint8_t kNoiseTop = 130;

  Address quiet_address() {
    return Sample<Table>::with_top(kQuietTop, Sample<Table>::random_address(random_));
  }
  Address noise_address() {
    return Sample<Table>::with_top(kNoiseTop, Sample<Table>::random_address(random_));
  }
  unsigned below(size_t n) { return static_cast<unsigned>(random_() % n); }

  std::vector<LpmValue> answers(const Table& table, const std::vector<Address>& probes) {
    std::vector<LpmValue> values;
    for (const Address& probe : probes) {
      values.push_back(table.lookup(probe));
    }
    return values;
  }

  void fill(Table& table, size_t count) {
    while (table.size() < count / 2) {
      table.insert(quiet_address(), any_length(), 1 + below(100));
    }
    while (table.size() < count) {
      table.insert(noise_address(), any_length(), 1 + below(100));
    }
  }

  // Long enough that they leave holes in their /8.
  unsigned any_length() { return 16 + below(Table::kBits - 15); }

  // One that no longer prefix of the table hides, at its own address.
  Prefix visible_prefix(Table& table, unsigned length, LpmValue value) {
    for (;;) {
      const Prefix prefix{quiet_address(), length, value};
      const bool is_new = table.insert(prefix.address, length, value);
      const bool is_visible = table.lookup(prefix.address) == value;
      table.remove(prefix.address, length);
      if (is_new && is_visible) {
        return prefix;
      }
    }
  }

  // One prefix over the probes comes and goes, and others elsewhere, around a size at which the
  // form may change.
  void run_scene(Table& table, const Prefix& toggled, unsigned noise_count) {
    std::vector<Address> probes = {toggled.address};
    for (int i = 0; i < 40; ++i) {
      probes.push_back(quiet_address());
    }
    const std::vector<LpmValue> before = answers(table, probes);
    ASSERT_TRUE(table.insert(toggled.address, toggled.length, toggled.value));
    const std::vector<LpmValue> after = answers(table, probes);
    ASSERT_NE(before[0], after[0]);

    Readers readers([&] {
      uint64_t wrong = 0;
      std::vector<LpmValue> many(probes.size());
      table.lookup_many(probes.data(), many.data(), probes.size());
      for (size_t i = 0; i < probes.size(); ++i) {
        const LpmValue one = table.lookup(probes[i]);
        wrong += one != before[i] && one != after[i] ? 1 : 0;
        wrong += many[i] != before[i] && many[i] != after[i] ? 1 : 0;
      }
      return wrong;
    });
    std::vector<Prefix> noise;
    for (unsigned i = 0; i < 300 || !readers.have_passed(kPasses); ++i) {
      if (i % 2 == 0) {
        table.remove(toggled.address, toggled.length);
      } else {
        table.insert(toggled.address, toggled.length, toggled.value);
      }
      if (noise.size() < noise_count) {
        noise.push_back({noise_address(), any_length(), 7});
        table.insert(noise.back().address, noise.back().length, noise.back().value);
      } else {
        for (const Prefix& each : noise) {
          table.remove(each.address, each.length);
        }
        noise.clear();
      }
    }
    EXPECT_EQ(readers.stop(), 0u);
    table.remove(toggled.address, toggled.length);
    for (const Prefix& each : noise) {
      table.remove(each.address, each.length);
    }
  }

  std::mt19937_64 random_;
};

using Tables = testing::Types<Lpm4, Lpm6>;
TYPED_TEST_SUITE(LpmRaceTest, Tables);

// A base of each form and just below the next, with a prefix of each sort toggled over the probes.
TYPED_TEST(LpmRaceTest, EveryAnswerIsOneOfTheTwoAdmissible) {
  for (const size_t size : {size_t{10}, size_t{120}, size_t{2040}, size_t{4000}}) {
    TypeParam table;
    this->fill(table, size);
    for (const unsigned length : {2u, 8u, 11u, 12u, 13u, 20u, 24u, 26u, TypeParam::kBits}) {
      this->run_scene(table, this->visible_prefix(table, length, 5000), 12);
    }
  }
}

TYPED_TEST(LpmRaceTest, EveryAnswerIsAdmissibleWhileATableEmptiesAndFills) {
  TypeParam table;
  const auto inside = this->quiet_address();
  const auto outside = this->noise_address();
  table.insert(inside, 10, 1);
  Readers readers([&] {
    return (table.lookup(inside) != 1 ? 1u : 0u) +
           (table.lookup(outside) != kLpmMiss && table.lookup(outside) != 2 ? 1u : 0u);
  });
  std::vector<typename TestFixture::Prefix> others;
  for (int round = 0; round < 3 || !readers.have_passed(kPasses); ++round) {
    while (others.size() < 60) {
      others.push_back({this->noise_address(), this->any_length(), 2});
      table.insert(others.back().address, others.back().length, 2);
    }
    for (const auto& each : others) {
      table.remove(each.address, each.length);
    }
    others.clear();
  }
  EXPECT_EQ(readers.stop(), 0u);
}

// A prefix that covers half the root array is there for all addresses or for none.
TYPED_TEST(LpmRaceTest, ShortPrefixComesAndGoesEverywhereAtOnce) {
  TypeParam table;
  this->fill(table, 4000);
  const auto first = Sample<TypeParam>::with_top(0x80, {});
  const auto last = Sample<TypeParam>::with_top(0xff, {});
  std::atomic<unsigned> phase = 0;  // odd: being inserted; even: being removed
  Readers readers([&] {
    uint64_t wrong = 0;
    for (int i = 0; i < 500; ++i) {
      const unsigned start = phase.load();
      const LpmValue one = table.lookup(first);
      const LpmValue other = table.lookup(last);
      const LpmValue late = start % 2 == 1 ? kLpmMiss : 77u;
      wrong += start == phase.load() && one != late && other == late ? 1 : 0;
    }
    return wrong;
  });
  for (unsigned i = 1; i < 5000 || !readers.have_passed(kPasses); ++i) {
    phase = i;
    if (i % 2 == 1) {
      table.insert(first, 1, 77);
    } else {
      table.remove(first, 1);
    }
  }
  EXPECT_EQ(readers.stop(), 0u);
}

// A new set is built aside and published with one store; the old one goes while its own last
// updates still wait for a grace period.
TYPED_TEST(LpmRaceTest, WholeTablesAreReplacedByOneStore) {
  std::vector<typename TestFixture::Address> probes;
  for (int i = 0; i < 30; ++i) {
    probes.push_back(this->quiet_address());
  }
  const auto make = [&](LpmValue generation) {
    std::vector<typename TestFixture::Prefix> prefixes;
    for (const auto& probe : probes) {
      prefixes.push_back({probe, 20 + generation % 5, generation});
    }
    return TypeParam::build(prefixes).release();
  };
  std::atomic<TypeParam*> current = make(1);
  Readers readers([&] {
    const TypeParam* table = current.load(std::memory_order_acquire);
    const LpmValue generation = table->lookup(probes[0]);
    uint64_t wrong = 0;
    for (const auto& probe : probes) {
      wrong += table->lookup(probe) != generation ? 1 : 0;
    }
    return wrong;
  });
  for (LpmValue i = 2; i < 40 || !readers.have_passed(kPasses); ++i) {
    TypeParam* old = current.exchange(make(i), std::memory_order_acq_rel);
    for (int update = 0; update < 50; ++update) {
      old->insert(this->noise_address(), 24, 9);
    }
    rcu_delete(old);
  }
  EXPECT_EQ(readers.stop(), 0u);
  rcu_delete(current.load());
  rcu_barrier_all();
}

// Nobody reads, and still what updates replace is used again.
TYPED_TEST(LpmRaceTest, MemoryStaysBoundedUnderUpdates) {
  TypeParam table;
  this->fill(table, 3000);
  size_t settled = 0;
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 1000; ++i) {
      const auto address = this->noise_address();
      table.insert(address, 24, 1);
      table.remove(address, 24);
    }
    rcu_barrier_all();
    if (round == 10) {
      settled = table.memory_bytes();
    }
  }
  EXPECT_LE(table.memory_bytes(), settled + settled / 4);
}

}  // namespace
}  // namespace sallyport
