// The LPM table against LpmModel on random and adversarial tables: every operation, every form,
// both families.
#include "dataplane/table/lpm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include "dataplane/base/rcu.h"
#include "tests/dataplane/table/lpm_model.h"

namespace sallyport {
namespace {

template <class Table>
class LpmTest : public testing::Test {
 public:
  using Address = typename Table::Address;
  using Prefix = typename Table::Prefix;
  using Model = LpmModel<Table>;
  static constexpr unsigned kBits = Table::kBits;

 protected:
  void SetUp() override {
    seed_ = std::random_device{}();
    std::printf("seed %u\n", seed_);
    random_.seed(seed_);
  }

  uint64_t bits64() { return random_(); }
  unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }

  Address random_address() {
    if constexpr (kBits == 32) {
      return static_cast<uint32_t>(bits64());
    } else {
      return {bits64(), bits64()};
    }
  }

  // An address with few bits set: small universes make prefixes meet.
  Address sparse_address(unsigned set_bits) {
    Address address{};
    for (unsigned i = 0; i < set_bits; ++i) {
      address = flipped(address, below(kBits));
    }
    return address;
  }

  static Address flipped(Address address, unsigned bit) {
    if constexpr (kBits == 32) {
      return address ^ 1u << (31 - bit);
    } else {
      (bit < 64 ? address.high : address.low) ^= uint64_t{1} << (63 - bit % 64);
      return address;
    }
  }

  static Address without_upper(Address address, unsigned bits) {
    if constexpr (kBits == 32) {
      return address & ~uint32_t{0} >> bits;
    } else {
      address.high &= ~uint64_t{0} >> bits;
      return address;
    }
  }

  // The last address that the prefix holds.
  static Address last(Address address, unsigned length) {
    address = Model::masked(address, length);
    for (unsigned bit = length; bit < kBits; ++bit) {
      address = flipped(address, bit);
    }
    return address;
  }

  static Address next(Address address) {
    if constexpr (kBits == 32) {
      return address + 1;
    } else {
      ++address.low;
      address.high += address.low == 0 ? 1 : 0;
      return address;
    }
  }

  static Address previous(Address address) {
    if constexpr (kBits == 32) {
      return address - 1;
    } else {
      address.high -= address.low == 0 ? 1 : 0;
      --address.low;
      return address;
    }
  }

  void insert(const Prefix& prefix) {
    ASSERT_EQ(table_.insert(prefix.address, prefix.length, prefix.value),
              model_.insert(prefix.address, prefix.length, prefix.value));
  }

  void remove(const Prefix& prefix) {
    ASSERT_EQ(table_.remove(prefix.address, prefix.length),
              model_.remove(prefix.address, prefix.length));
  }

  // The addresses where an answer can change because of this prefix.
  static std::vector<Address> edges(const Prefix& prefix) {
    const Address first = Model::masked(prefix.address, prefix.length);
    const Address end = last(prefix.address, prefix.length);
    return {first, end, next(end), previous(first), next(first), prefix.address};
  }

  static void expect_same_walk(const Table& table, const Model& model) {
    const std::vector<Prefix> expected = model.all();
    size_t i = 0;
    table.walk([&](const Address& address, unsigned length, LpmValue value) {
      ASSERT_LT(i, expected.size());
      ASSERT_TRUE(address == expected[i].address) << "at " << i;
      ASSERT_EQ(length, expected[i].length) << "at " << i;
      ASSERT_EQ(value, expected[i].value) << "at " << i;
      ++i;
    });
    EXPECT_EQ(i, expected.size());
    EXPECT_EQ(table.size(), model.size());
  }

  static void expect_same_answers(const Table& table, const Model& model,
                                  const std::vector<Address>& addresses) {
    std::vector<LpmValue> many(addresses.size());
    table.lookup_many(addresses.data(), many.data(), addresses.size());
    for (size_t i = 0; i < addresses.size(); ++i) {
      const LpmValue expected = model.lookup(addresses[i]);
      ASSERT_EQ(table.lookup(addresses[i]), expected) << "at " << i;
      ASSERT_EQ(many[i], expected) << "at " << i << " of " << addresses.size();
    }
  }

  void check(const Table& table, unsigned random_probes = 64) {
    expect_same_walk(table, model_);
    std::vector<Address> addresses;
    for (const Prefix& prefix : model_.all()) {
      ASSERT_EQ(table.find(prefix.address, prefix.length), prefix.value);
      const auto more = edges(prefix);
      addresses.insert(addresses.end(), more.begin(), more.end());
    }
    std::shuffle(addresses.begin(), addresses.end(), random_);
    addresses.resize(std::min<size_t>(addresses.size(), 4000));
    for (unsigned i = 0; i < random_probes; ++i) {
      addresses.push_back(i % 2 == 0 ? random_address() : sparse_address(3));
    }
    expect_same_answers(table, model_, addresses);
  }

  void check() { check(table_); }

  unsigned seed_ = 0;
  std::mt19937_64 random_;
  Table table_;
  Model model_;
};

using Tables = testing::Types<Lpm4, Lpm6>;
TYPED_TEST_SUITE(LpmTest, Tables);

TYPED_TEST(LpmTest, EmptyTableMatchesNothing) {
  EXPECT_EQ(this->table_.lookup(this->random_address()), kLpmMiss);
  EXPECT_FALSE(this->table_.remove(this->random_address(), 0));
  EXPECT_FALSE(this->table_.find(this->random_address(), 8).has_value());
  EXPECT_EQ(this->table_.size(), 0u);
  EXPECT_LE(this->table_.memory_bytes(), 1024u);
  this->check();
}

TYPED_TEST(LpmTest, AnswersWithTheLongest) {
  const auto address = this->random_address();
  this->insert({address, 0, 100});
  this->insert({address, 8, 108});
  this->insert({address, 24, 124});
  this->insert({address, 32, 132});
  EXPECT_EQ(this->table_.lookup(address), 132u);
  EXPECT_EQ(this->table_.lookup(this->flipped(address, 31)), 124u);
  EXPECT_EQ(this->table_.lookup(this->flipped(address, 23)), 108u);
  EXPECT_EQ(this->table_.lookup(this->flipped(address, 0)), 100u);
}

TYPED_TEST(LpmTest, ReplacingKeepsSize) {
  const auto address = this->random_address();
  EXPECT_TRUE(this->table_.insert(address, 17, 1));
  EXPECT_FALSE(this->table_.insert(address, 17, 2));
  EXPECT_EQ(this->table_.size(), 1u);
  EXPECT_EQ(this->table_.find(address, 17), 2u);
  EXPECT_EQ(this->table_.lookup(address), 2u);
}

// Bits beyond the length do not count, in any call.
TYPED_TEST(LpmTest, MasksItsArguments) {
  const auto address = this->random_address();
  const auto other = this->flipped(this->flipped(address, 21), 30);
  EXPECT_TRUE(this->table_.insert(address, 20, 7));
  EXPECT_FALSE(this->table_.insert(other, 20, 8));
  EXPECT_EQ(this->table_.find(other, 20), 8u);
  EXPECT_TRUE(this->table_.remove(other, 20));
  EXPECT_EQ(this->table_.size(), 0u);
}

// A chain of every length over one address, put in and taken out in random order.
TYPED_TEST(LpmTest, NestedChainOfEveryLength) {
  for (int round = 0; round < 6; ++round) {
    std::vector<typename TestFixture::Prefix> chain;
    const auto address = round == 0 ? typename TestFixture::Address{} : this->random_address();
    for (unsigned length = 0; length <= TestFixture::kBits; ++length) {
      chain.push_back({address, length, 1000 + length});
    }
    std::shuffle(chain.begin(), chain.end(), this->random_);
    for (const auto& prefix : chain) {
      this->insert(prefix);
    }
    this->check();
    std::shuffle(chain.begin(), chain.end(), this->random_);
    for (const auto& prefix : chain) {
      this->remove(prefix);
      if (prefix.length % 8 == 0) {
        this->check();
      }
    }
    EXPECT_EQ(this->table_.size(), 0u);
  }
}

// Six prefixes chosen to make every kind of node, removed in each of the 720 orders, out of a table
// just large enough to be a trie.
TYPED_TEST(LpmTest, RemovalInEveryOrder) {
  const auto address = this->random_address();
  const unsigned bits = TestFixture::kBits;
  std::vector<typename TestFixture::Prefix> six = {
      {address, bits, 1},
      {this->flipped(address, bits - 1), bits, 2},
      {this->flipped(address, bits - 9), bits - 5, 3},
      {address, bits / 2, 4},
      {this->flipped(address, bits / 2 + 3), bits / 2 + 4, 5},
      {this->flipped(address, bits / 2 - 2), bits - 2, 6}};
  for (unsigned i = 0; i < 20; ++i) {
    this->insert({this->flipped(this->random_address(), i), 7 + i, 50 + i});
  }
  std::vector<int> order = {0, 1, 2, 3, 4, 5};
  do {
    for (const auto& prefix : six) {
      this->insert(prefix);
    }
    for (const int i : order) {
      this->remove(six[i]);
      for (const auto& prefix : six) {
        ASSERT_EQ(this->table_.lookup(prefix.address), this->model_.lookup(prefix.address));
        ASSERT_EQ(this->table_.find(prefix.address, prefix.length),
                  this->model_.find(prefix.address, prefix.length));
      }
    }
  } while (std::next_permutation(order.begin(), order.end()));
  this->check();
}

// Random inserts, replacements and removals in universes from crowded to empty, so that the form
// changes both ways.
TYPED_TEST(LpmTest, RandomOperationsInCrowdedUniverses) {
  for (const unsigned set_bits : {1u, 2u, 3u, 6u}) {
    for (const unsigned target : {12u, 40u, 900u}) {
      for (unsigned i = 0; i < target * 6; ++i) {
        const auto address = this->sparse_address(set_bits);
        const unsigned length = this->below(TestFixture::kBits + 1);
        const bool shrink = this->below(100) < (i < target * 3 ? 20 : 70);
        if (shrink && this->model_.size() > 0) {
          this->remove({address, length, 0});
        } else {
          this->insert({address, length, this->below(1000)});
        }
      }
      this->check();
    }
    for (const auto& prefix : this->model_.all()) {
      this->remove(prefix);
    }
    this->check();
  }
}

// Prefixes of all lengths around the places where the trie has seams: stride ends, the root's
// reach, bit 64.
TYPED_TEST(LpmTest, SeamsBetweenStridesAndWords) {
  for (int round = 0; round < 20; ++round) {
    const auto base = this->random_address();
    for (int i = 0; i < 300; ++i) {
      static constexpr unsigned kSeams[] = {6, 12, 18, 24, 30, 32, 54, 60, 64, 70, 124, 128};
      const unsigned seam = kSeams[this->below(TestFixture::kBits == 32 ? 6 : 12)];
      const unsigned length = std::min(TestFixture::kBits, seam - 1 + this->below(3));
      auto address = base;
      for (unsigned flips = this->below(4); flips > 0; --flips) {
        address =
            this->flipped(address, std::max(1u, length - std::min(length, this->below(8))) - 1);
      }
      if (this->below(3) == 0) {
        this->remove({address, length, 0});
      } else {
        this->insert({address, length, this->below(100)});
      }
    }
    this->check();
    this->table_.clear();
    this->model_.clear();
    this->check();
  }
}

// Grows one by one to a size, checks, shrinks one by one to nothing.
TYPED_TEST(LpmTest, GrowsAndShrinksThroughEveryForm) {
  std::vector<typename TestFixture::Prefix> prefixes;
  for (unsigned i = 0; i < 3000; ++i) {
    const unsigned length = i % 40 == 0 ? this->below(13) : 9 + this->below(TestFixture::kBits - 8);
    prefixes.push_back({this->random_address(), length, i});
  }
  for (const auto& prefix : prefixes) {
    this->insert(prefix);
  }
  this->check();
  std::shuffle(prefixes.begin(), prefixes.end(), this->random_);
  for (size_t i = 0; i < prefixes.size(); ++i) {
    this->remove(prefixes[i]);
    if (i % 250 == 0 || i + 40 > prefixes.size()) {
      this->check();
    }
  }
  EXPECT_EQ(this->table_.size(), 0u);
}

TYPED_TEST(LpmTest, BuildsFromSortedPrefixes) {
  for (const unsigned count : {0u, 1u, 10u, 16u, 17u, 500u, 3000u}) {
    this->model_.clear();
    for (unsigned i = 0; i < count; ++i) {
      const auto address = i % 2 == 0 ? this->random_address() : this->sparse_address(4);
      this->model_.insert(address, this->below(TestFixture::kBits + 1), i);
    }
    const auto built = TypeParam::build(this->model_.all());
    ASSERT_NE(built, nullptr);
    this->check(*built);
  }
}

TYPED_TEST(LpmTest, BuildsFromUnsortedPrefixesTheLastOfEqualsCounts) {
  std::vector<typename TestFixture::Prefix> prefixes;
  for (unsigned i = 0; i < 400; ++i) {
    prefixes.push_back({this->sparse_address(2), this->below(33), i});
    this->model_.insert(prefixes.back().address, prefixes.back().length, i);
  }
  const auto built = TypeParam::build(prefixes);
  ASSERT_NE(built, nullptr);
  this->check(*built);
}

struct ProgressLog {
  size_t calls = 0;
  size_t last_done = 0;
  size_t total = 0;
  size_t cancel_at = 0;

  static bool note(void* context, size_t done, size_t total) {
    auto& log = *static_cast<ProgressLog*>(context);
    EXPECT_GT(done, log.last_done);
    ++log.calls;
    log.last_done = done;
    log.total = total;
    return done < log.cancel_at;
  }
};

// All under one root entry, so that progress is seen from inside it.
TYPED_TEST(LpmTest, BuildReportsProgressAndCanBeCancelled) {
  for (unsigned i = 0; i < 50000; ++i) {
    const auto address = this->random_address();
    this->model_.insert(this->without_upper(address, 12), 24 + this->below(9), i);
  }
  const auto prefixes = this->model_.all();
  ProgressLog whole{.cancel_at = prefixes.size() + 1};
  const auto built = TypeParam::build(prefixes, ProgressLog::note, &whole);
  ASSERT_NE(built, nullptr);
  EXPECT_EQ(whole.total, prefixes.size());
  EXPECT_GE(whole.calls, prefixes.size() / 10000);
  EXPECT_EQ(built->size(), prefixes.size());

  ProgressLog cut{.cancel_at = 20000};
  EXPECT_EQ(TypeParam::build(prefixes, ProgressLog::note, &cut), nullptr);
  EXPECT_LT(cut.last_done, 30000u);  // one call more than asked for at most
}

}  // namespace
}  // namespace sallyport
