// Prefix tables and address streams for the LPM benchmark: deterministic, with the length mix,
// de-aggregation and nesting of the tables they stand for.
//
//   internet   a full routing table: 1,000,000 IPv4 or 230,000 IPv6 prefixes, mostly /24 and /48
//   set        a destination set of 10,000 prefixes, as country lists are
//   hosts      100,000 hosts in clusters: a large WireGuard server's allowed-IPs
//   ten        what one laptop has
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "dataplane/table/lpm.h"

namespace sallyport::bench {

// SplitMix64: small, fast, the same everywhere.
struct Random {
  uint64_t state;

  uint64_t next() {
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  uint64_t below(uint64_t n) { return next() % n; }
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
};

struct LengthShare {
  unsigned length;
  double share;
};

inline const std::vector<LengthShare> kInternet4 = {
    {24, 600}, {23, 100}, {22, 110}, {21, 40}, {20, 40}, {19, 25}, {18, 14},  {17, 8},
    {16, 13},  {15, 2},   {14, 1.2}, {13, .6}, {12, .3}, {11, .1}, {10, .04}, {9, .01},
    {8, .02},  {25, 3},   {26, 3},   {27, 3},  {28, 3},  {29, 3},  {30, 2},   {32, 4}};
inline const std::vector<LengthShare> kInternet6 = {
    {48, 450}, {32, 120}, {44, 90}, {40, 80}, {36, 40}, {46, 40}, {29, 25}, {47, 25}, {45, 20},
    {42, 20},  {38, 15},  {43, 10}, {41, 8},  {39, 8},  {37, 6},  {35, 6},  {34, 10}, {33, 12},
    {31, 3},   {30, 5},   {28, 3},  {24, 1},  {20, .3}, {64, 2},  {56, 1}};
inline const std::vector<LengthShare> kSet4 = {{16, 5},  {17, 3},  {18, 5},  {19, 8},  {20, 12},
                                               {21, 12}, {22, 20}, {23, 10}, {24, 18}, {25, 1},
                                               {26, 1},  {27, 1},  {28, 1},  {29, 1},  {32, 2}};

// Upper 16 bits of what the registries hand out.
inline constexpr uint16_t kRegistries6[] = {
    0x2400, 0x2404, 0x2408, 0x240e, 0x2600, 0x2604, 0x2607, 0x2620, 0x2800, 0x2803,
    0x2804, 0x2a00, 0x2a01, 0x2a02, 0x2a03, 0x2a04, 0x2a05, 0x2a06, 0x2a07, 0x2a09,
    0x2a0a, 0x2a0b, 0x2a0c, 0x2a0d, 0x2a0e, 0x2a0f, 0x2a10, 0x2a12, 0x2c0f, 0x2001};

// Addresses as 128-bit numbers, an IPv4 one in the lowest 32 bits, so that one generator serves
// both.
__extension__ using Wide = unsigned __int128;

template <class Table>
struct Numbers {
  static constexpr unsigned kBits = Table::kBits;

  static typename Table::Address address(Wide number) {
    if constexpr (kBits == 32) {
      return static_cast<uint32_t>(number);
    } else {
      return {static_cast<uint64_t>(number >> 64), static_cast<uint64_t>(number)};
    }
  }

  static Wide number(const typename Table::Address& address) {
    if constexpr (kBits == 32) {
      return address;
    } else {
      return Wide{address.high} << 64 | address.low;
    }
  }

  static Wide host_mask(unsigned length) {
    return length == 0 ? (kBits == 32 ? Wide{0xffffffff} : ~Wide{0})
                       : (Wide{1} << (kBits - length)) - 1;
  }

  static Wide random(Random& random) {
    if constexpr (kBits == 32) {
      uint64_t first = 0;
      do {
        first = 1 + random.below(223);
      } while (first == 10 || first == 127);
      return first << 24 | (random.next() & 0xffffff);
    } else {
      const Wide registry = kRegistries6[random.below(std::size(kRegistries6))];
      const Wide high = random.next() >> 16;
      return registry << 112 | high << 64 | random.next();
    }
  }
};

template <class Table>
struct TableData {
  std::vector<typename Table::Prefix> prefixes;  // shuffled
  std::vector<typename Table::Prefix> updates;   // of the same kind, none of them in prefixes
};

// Skewed towards small numbers, 1 to count.
inline LpmValue skewed_value(Random& random, unsigned count) {
  return std::min(count, static_cast<unsigned>(std::pow(count, random.unit())));
}

template <class Table>
class Generator {
 public:
  using Prefix = typename Table::Prefix;
  using N = Numbers<Table>;
  static constexpr unsigned kBits = Table::kBits;

  explicit Generator(uint64_t seed) : random_{seed} {}

  // Six of ten prefixes continue beside the last one of their length, half of the rest lies inside
  // a shorter one.
  TableData<Table> make(size_t count, size_t updates, const std::vector<LengthShare>& shares,
                        unsigned values) {
    TableData<Table> data;
    while (data.prefixes.size() < count) {
      data.prefixes.push_back(one(shares, values));
      const Prefix& made = data.prefixes.back();
      if (made.length <= (kBits == 32 ? 20 : 40)) {
        shorter_.push_back(made);
      }
    }
    while (data.updates.size() < updates) {
      data.updates.push_back(one(shares, values));
    }
    shuffle(data.prefixes);
    return data;
  }

  // Pools of 400 hosts: a /22 in 10/8, or a /64 whose hosts are numbered from below or at random.
  TableData<Table> make_hosts(size_t count, size_t updates, unsigned values) {
    std::vector<Wide> pools;
    for (size_t i = 0; i < count / 400; ++i) {
      pools.push_back(kBits == 32 ? Wide{10u << 24 | random_.below(1 << 14) << 10}
                                  : Wide{0xfd} << 120 | Wide{0xabcdef1234} << 80 |
                                        Wide{random_.below(1 << 16)} << 64);
    }
    TableData<Table> data;
    while (data.prefixes.size() + data.updates.size() < count + updates) {
      const unsigned host_bits = kBits == 32 ? 10 : random_.below(2) == 0 ? 64 : 12;
      const Wide host = random_.next() & ~uint64_t{0} >> (64 - host_bits);
      const Wide number = pools[random_.below(pools.size())] | host;
      if (!known_.insert({number, kBits}).second) {
        continue;
      }
      auto& list = data.prefixes.size() < count ? data.prefixes : data.updates;
      list.push_back(
          {N::address(number), kBits, static_cast<LpmValue>(data.prefixes.size() % values + 1)});
    }
    shuffle(data.prefixes);
    return data;
  }

 private:
  unsigned pick_length(const std::vector<LengthShare>& shares) {
    double total = 0;
    for (const LengthShare& each : shares) {
      total += each.share;
    }
    double point = random_.unit() * total;
    for (const LengthShare& each : shares) {
      point -= each.share;
      if (point < 0) {
        return each.length;
      }
    }
    return shares.back().length;
  }

  Prefix one(const std::vector<LengthShare>& shares, unsigned values) {
    for (;;) {
      const unsigned length = pick_length(shares);
      const double kind = random_.unit();
      Wide number = 0;
      LpmValue value = skewed_value(random_, values);
      if (kind < 0.6 && last_[length].length == length && length != kBits) {
        static constexpr unsigned kSteps[] = {1, 1, 1, 2, 3};
        number =
            N::number(last_[length].address) + (Wide{kSteps[random_.below(5)]} << (kBits - length));
        value = last_[length].value;
        if (kBits == 32 && number >> 32 != 0) {
          continue;
        }
      } else if (kind < 0.8 && !shorter_.empty()) {
        const Prefix& outer = shorter_[random_.below(shorter_.size())];
        if (outer.length >= length) {
          continue;
        }
        const Wide inner = Wide{random_.next()} << 64 | random_.next();
        number = N::number(outer.address) | (inner & N::host_mask(outer.length));
        value = random_.below(2) == 0 ? value : outer.value;
      } else {
        number = N::random(random_);
      }
      number &= ~N::host_mask(length);
      if (known_.insert({number, length}).second) {
        return last_[length] = Prefix{N::address(number), length, value};
      }
    }
  }

  void shuffle(std::vector<Prefix>& list) {
    for (size_t i = list.size(); i > 1; --i) {
      std::swap(list[i - 1], list[random_.below(i)]);
    }
  }

  Random random_;
  std::set<std::pair<Wide, unsigned>> known_;
  std::vector<Prefix> shorter_;
  Prefix last_[kBits + 1] = {};
};

inline TableData<Lpm4> make_ten4() {
  return {{{0x0a000001, 32, 1},
           {0x0a000002, 32, 2},
           {0x0a010000, 16, 3},
           {0x0a010200, 24, 4},
           {0xc0a80000, 16, 5},
           {0xc0a80a00, 24, 6},
           {0xac100000, 12, 7},
           {0x64400000, 10, 8},
           {0xcb007100, 24, 9},
           {0x08080808, 32, 10}},
          {}};
}

inline TableData<Lpm6> make_ten6() {
  const uint64_t doc = 0x20010db800000000;
  return {{{{0xfd00000000000000, 1}, 128, 1},
           {{0xfd00000000000000, 2}, 128, 2},
           {{0xfd00000000000000, 0}, 64, 3},
           {{0xfd00000000000001, 0}, 64, 4},
           {{0xfd01000000000000, 0}, 48, 5},
           {{doc, 0}, 32, 6},
           {{doc | 0xa0000, 0}, 48, 7},
           {{0x2606470000000000, 0}, 32, 8},
           {{0x2a00000000000000, 0}, 16, 9},
           {{0x2400cb0000000000, 0}, 32, 10}},
          {}};
}

// An address at random in a prefix at random; with skew, by Zipf's law over the prefixes.
template <class Table>
std::vector<typename Table::Address> addresses_that_hit(
    const std::vector<typename Table::Prefix>& prefixes, size_t count, bool skew, uint64_t seed) {
  using N = Numbers<Table>;
  Random random{seed};
  std::vector<double> sums;
  double sum = 0;
  for (size_t i = 0; i < prefixes.size(); ++i) {
    sums.push_back(sum += 1.0 / static_cast<double>(i + 1));
  }
  std::vector<typename Table::Address> addresses;
  addresses.reserve(count);
  while (addresses.size() < count) {
    const double point = random.unit() * sum;
    const auto index =
        skew ? static_cast<size_t>(std::lower_bound(sums.begin(), sums.end(), point) - sums.begin())
             : random.below(prefixes.size());
    const auto& prefix = prefixes[std::min(index, prefixes.size() - 1)];
    const Wide host = (Wide{random.next()} << 64 | random.next()) & N::host_mask(prefix.length);
    addresses.push_back(N::address(N::number(prefix.address) | host));
  }
  return addresses;
}

}  // namespace sallyport::bench
