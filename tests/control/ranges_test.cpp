// Ranges against a set of numbers of eight bits, each looked at by itself.
#include "control/ranges.h"

#include <gtest/gtest.h>

#include <bitset>
#include <random>

namespace sallyport {
namespace {

using Bits = std::bitset<256>;

Ranges of(const Bits& bits) {
  Ranges out;
  for (unsigned i = 0; i < 256; ++i) {
    if (bits[i]) {
      out.add(Ranges(i, i));
    }
  }
  return out;
}

Bits random_bits(std::mt19937& random) {
  Bits bits;
  for (unsigned i = random() % 4; i > 0; --i) {
    for (unsigned at = random() % 256, last = at + random() % 64; at <= last && at < 256; ++at) {
      bits.set(at);
    }
  }
  return bits;
}

TEST(Ranges, AgreeWithSetsOfNumbers) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    const Bits a = random_bits(random), b = random_bits(random);
    EXPECT_EQ(of(a).common(of(b)), of(a & b));
    EXPECT_EQ(of(a).without(of(b)), of(a & ~b));
    Ranges both = of(a);
    both.add(of(b));
    EXPECT_EQ(both, of(a | b));
    const unsigned number = random() % 256;
    EXPECT_EQ(of(a).contains(number), a[number]);
  }
}

TEST(Ranges, TwoThatBothBeginAtZeroBecomeOne) {
  Ranges both(0, 5);
  both.add(Ranges(0, 9));
  EXPECT_EQ(both, Ranges(0, 9));
  both.add(Ranges(0, 3));
  EXPECT_EQ(both, Ranges(0, 9));
}

// Prefixes within 10.0.0.0/24, an eight-bit universe: the longest decides, the last of two equal ones.
TEST(Ranges, MembersAreThoseOfTheLongestEntry) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto base = static_cast<unsigned>(wide(*parse_address("10.0.0.0")));
  for (int round = 0; round < 300; ++round) {
    std::vector<config::Set::Entry> entries;
    for (unsigned i = random() % 8; i > 0; --i) {
      const auto length = static_cast<unsigned>(24 + random() % 9);
      entries.push_back(
          {*parse_prefix("10.0.0." + std::to_string(random() % 256) + "/" + std::to_string(length)),
           random() % 2 == 0});
    }
    entries.push_back({*parse_prefix("2001:db8::/32"), false});
    const Ranges members = Ranges::members(entries, Family::v4);
    for (unsigned i = 0; i < 256; ++i) {
      int longest = -1;
      bool member = false;
      for (const config::Set::Entry& entry : entries) {
        const Ranges::Range range = range_of(entry.prefix);
        if (entry.prefix.address.family == Family::v4 && range.first <= base + i &&
            base + i <= range.last && entry.prefix.length >= longest) {
          longest = entry.prefix.length;
          member = !entry.hole;
        }
      }
      ASSERT_EQ(members.contains(base + i), member) << i;
    }
  }
}

TEST(Ranges, ReachTheEndsOfAFamily) {
  const auto entry = [](const char* text, bool hole) {
    return config::Set::Entry{*parse_prefix(text), hole};
  };
  for (const auto& [family, all, low, high] :
       {std::tuple{Family::v4, "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"},
        std::tuple{Family::v6, "::/0", "::/1", "8000::/1"}}) {
    const Ranges whole = Ranges::whole(family);
    EXPECT_EQ(Ranges::members({entry(all, false)}, family), whole);
    EXPECT_EQ(Ranges::members({entry(low, false), entry(high, false)}, family), whole);
    EXPECT_EQ(Ranges::members({entry(all, false), entry(high, true)}, family),
              Ranges::members({entry(low, false)}, family));
    EXPECT_EQ(whole.without(Ranges::members({entry(low, false)}, family)),
              Ranges::members({entry(high, false)}, family));
    EXPECT_TRUE(whole.without(whole).empty());
    EXPECT_EQ(Ranges::members({entry(all, false), entry(all, true)}, family), Ranges());
  }
}

}  // namespace
}  // namespace sallyport
