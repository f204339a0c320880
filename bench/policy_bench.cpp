// What rules cost a packet: tables of 1 to 4,000 rules of a realistic mixture, beside a naive walk over the same rules,
// in turn round after round; medians, then a line for each target.
//
//   policy_bench             the tables, then the targets with met or not; exit status 1 if one is not
//   policy_bench --only N    the table of N rules again and again for five seconds, for a profiler to look at
//
// The mixture, of ten rules: two from a prefix to a port of some prefix; two for a peer to a prefix; one for a port range and a
// protocol; one from a peer by a mark; one to a set of a million prefixes, by protocol and port; one from a small set;
// one by input interface and tos; one to prefixes of IPv6. The one rule of the smallest table asks for each of these
// things, so that it has the same fields. Packets: half of them such that some rule must match, the others by chance.
//
// "first match" is one walk and its first next(): what a packet pays. "all matches" goes on to the end, as a packet does whose
// rules only set marks, a mark changing on the way. Times are CPU time of the thread that measures.
#include <ctime>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/lpm_tables.h"
#include "bench/report.h"
#include "dataplane/base/rcu.h"
#include "dataplane/table/rule_table.h"

namespace sallyport::bench {
namespace {

constexpr int kRounds = 15;
constexpr size_t kPackets = 1 << 14;
constexpr size_t kSizes[] = {1, 100, 1000, 4000};

double thread_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::atomic<uint64_t> sink;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "policy_bench: %s\n", why.c_str());
  std::exit(1);
}

// ---- rules and packets

void write_bytes(uint8_t* out, uint64_t number, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) {
    out[i] = static_cast<uint8_t>(number >> (8 * (bytes - 1 - i)));
  }
}

template <class Prefix>
SetEntry to_entry(const Prefix& prefix) {
  SetEntry entry;
  entry.length = static_cast<uint8_t>(prefix.length);
  if constexpr (std::is_same_v<Prefix, Lpm4::Prefix>) {
    write_bytes(entry.address, prefix.address, 4);
  } else {
    entry.v4 = false;
    write_bytes(entry.address, prefix.address.high, 8);
    write_bytes(entry.address + 8, prefix.address.low, 8);
  }
  return entry;
}

struct Packet {
  uint8_t source[16], destination[16];
  RuleKey key;
  uint32_t mark;
};

using Packets = std::vector<std::unique_ptr<Packet>>;

class World {
 public:
  World() : random_{7} {
    const auto internet4 = Generator<Lpm4>(9).make(800000, 4000, kInternet4, 1);
    const auto internet6 = Generator<Lpm6>(10).make(200000, 4000, kInternet6, 1);
    std::vector<SetEntry> entries;
    for (const auto& prefix : internet4.prefixes) {
      entries.push_back(to_entry(prefix));
    }
    for (const auto& prefix : internet6.prefixes) {
      entries.push_back(to_entry(prefix));
    }
    std::vector<SetEntry> few(entries.begin(), entries.begin() + kSmall);
    const double start = thread_seconds();
    auto content = PrefixSet::Content::build(entries);
    std::printf("a set of %zu prefixes: built in %.0f ms, %.1f bytes a prefix\n", entries.size(),
                (thread_seconds() - start) * 1e3,
                static_cast<double>(content->memory_bytes()) / static_cast<double>(entries.size()));
    large_.replace(std::move(content));
    small_.replace(PrefixSet::Content::build(few));
    for (const auto& prefix : internet4.updates) {
      prefixes4_.push_back(to_entry(prefix));
    }
    for (const auto& prefix : internet6.updates) {
      prefixes6_.push_back(to_entry(prefix));
    }
    entries_ = std::move(entries);
  }

  std::vector<RuleConditions> make_rules(size_t count) {
    std::vector<RuleConditions> rules;
    if (count == 1) {
      RuleConditions all;
      for (unsigned kind = 0; kind < 10; ++kind) {
        ask(all, kind);
      }
      rules.push_back(all);
    }
    while (rules.size() < count) {
      ask(rules.emplace_back(), static_cast<unsigned>(rules.size() % 10));
    }
    return rules;
  }

  Packets make_packets(const std::vector<RuleConditions>& rules) {
    Packets packets;
    while (packets.size() < kPackets) {
      packets.push_back(std::make_unique<Packet>());
      Packet& packet = *packets.back();
      RuleKey& key = packet.key;
      key = {random_.below(4) != 0, packet.source, packet.destination};
      fill(packet.source, any_entry(key.v4));
      fill(packet.destination, any_entry(key.v4));
      key.iif = static_cast<uint32_t>(random_.below(6));
      key.peer = static_cast<uint32_t>(random_.below(300));
      key.protocol = random_.below(10) == 0 ? 1 : random_.below(3) == 0 ? 17 : 6;
      key.source_port = static_cast<uint16_t>(32768 + random_.below(28000));
      key.destination_port = port();
      key.tos = static_cast<uint8_t>(random_.below(4) << 3);
      packet.mark = random_.below(4) == 0 ? static_cast<uint32_t>(random_.below(0x4000)) : 0;
      if (packets.size() % 2 == 0) {
        aim(packet, rules[random_.below(rules.size())]);
      }
      key.has_ports = key.protocol != 1;
    }
    return packets;
  }

 private:
  uint16_t port() {
    constexpr uint16_t kUsual[] = {22, 25, 53, 80, 123, 443, 993, 3306, 5060, 8080};
    return random_.below(3) != 0 ? kUsual[random_.below(std::size(kUsual))]
                                 : static_cast<uint16_t>(random_.below(65536));
  }
  const SetEntry& named(bool v4) {
    const auto& from = v4 ? prefixes4_ : prefixes6_;
    return from[random_.below(from.size())];
  }

  void ask(RuleConditions& rule, unsigned kind) {
    const auto number = [&](uint64_t below) { return static_cast<uint32_t>(random_.below(below)); };
    const auto ask_port = [&] {
      const uint16_t at = port();
      rule.dport.ranges.push_back({at, at});
    };
    switch (kind) {
      case 0:
      case 1:
        rule.from.prefixes.push_back(named(true));
        rule.to.prefixes.push_back(named(true));
        ask_port();
        break;
      case 2:
      case 3:
        rule.peer.values.push_back(number(300));
        rule.to.prefixes.push_back(named(true));
        break;
      case 4: {
        const auto first = static_cast<uint16_t>(random_.below(60000));
        rule.protocol.values.push_back(17);
        rule.dport.ranges.push_back({first, static_cast<uint16_t>(first + 50)});
        break;
      }
      case 5:
        rule.peer.values.push_back(number(300));
        rule.mark = {true, number(64) << 8, 0xff00, false};
        break;
      case 6:
        rule.to.sets = {&large_};
        rule.protocol.values.push_back(6);
        ask_port();
        rule.peer.values.push_back(number(300));
        break;
      case 7:
        rule.from.sets = {&small_};
        rule.mark = {true, number(4), 0x0f, false};
        break;
      case 8:
        rule.iif.values.push_back(number(6));
        rule.tos = {true, number(16) << 3, 0xff, false};
        rule.peer.values.push_back(number(300));
        break;
      default:
        rule.to.prefixes.push_back(named(false));
        break;
    }
  }

  // A prefix that rules name, one of the large set, or all.
  SetEntry any_entry(bool v4) {
    const uint64_t kind = random_.below(4);
    return kind == 0 ? SetEntry{{}, 0, v4} : kind == 1 ? member(v4) : named(v4);
  }
  const SetEntry& member(bool v4) {
    for (;;) {
      const SetEntry& entry = entries_[random_.below(entries_.size())];
      if (entry.v4 == v4) {
        return entry;
      }
    }
  }

  // Some address of the prefix.
  void fill(uint8_t* address, const SetEntry& entry) {
    write_bytes(address, random_.next(), 8);
    write_bytes(address + 8, random_.next(), 8);
    for (unsigned bit = 0; bit < entry.length; ++bit) {
      const auto mask = static_cast<uint8_t>(0x80 >> bit % 8);
      const int bits = (address[bit / 8] & ~mask) | (entry.address[bit / 8] & mask);
      address[bit / 8] = static_cast<uint8_t>(bits);
    }
  }

  template <class T>
  const T& one_of(const std::vector<T>& values) {
    return values[random_.below(values.size())];
  }

  // Makes the packet one that the rule matches.
  void aim(Packet& packet, const RuleConditions& rule) {
    RuleKey& key = packet.key;
    const auto aim_at = [&](uint8_t* address, const AddressCondition& asked) {
      const bool at_set = !asked.sets.empty() && (asked.prefixes.empty() || random_.below(2) == 0);
      if (at_set && asked.sets[0] == &small_) {
        fill(address, entries_[random_.below(kSmall)]);
      } else if (at_set) {
        fill(address, member(key.v4));
      } else if (!asked.prefixes.empty()) {
        const SetEntry& entry = one_of(asked.prefixes);
        key.v4 = entry.v4;
        fill(address, entry);
      } else {
        fill(address, any_entry(key.v4));
      }
    };
    key.v4 = true;
    aim_at(packet.destination, rule.to);
    aim_at(packet.source, rule.from);
    key.iif = rule.iif.values.empty() ? key.iif : one_of(rule.iif.values);
    key.peer = rule.peer.values.empty() ? key.peer : one_of(rule.peer.values);
    key.protocol = rule.protocol.values.empty()
                       ? key.protocol
                       : static_cast<uint8_t>(one_of(rule.protocol.values));
    key.destination_port =
        rule.dport.ranges.empty() ? key.destination_port : one_of(rule.dport.ranges).first;
    key.protocol = rule.dport.ranges.empty() || key.protocol != 1 ? key.protocol : 6;
    key.tos = rule.tos.asks ? static_cast<uint8_t>(rule.tos.value) : key.tos;
    packet.mark = rule.mark.asks ? rule.mark.value : packet.mark;
  }

  static constexpr size_t kSmall = 10;  // entries of the small set: the first of the large one

  Random random_;
  PrefixSet large_, small_;
  std::vector<SetEntry> entries_, prefixes4_, prefixes6_;
};

// ---- the rival: rules evaluated one after the other, as `ip rule` does

bool covers(const SetEntry& entry, bool v4, const uint8_t* address) {
  if (entry.v4 != v4 || std::memcmp(entry.address, address, entry.length / 8) != 0) {
    return false;
  }
  const unsigned rest = entry.length % 8;
  return rest == 0 ||
         (entry.address[entry.length / 8] ^ address[entry.length / 8]) >> (8 - rest) == 0;
}

bool is_in(const AddressCondition& asked, bool v4, const uint8_t* address) {
  return !asked.asks() ||
         std::any_of(asked.prefixes.begin(), asked.prefixes.end(),
                     [&](const SetEntry& entry) { return covers(entry, v4, address); }) ||
         std::any_of(asked.sets.begin(), asked.sets.end(),
                     [&](const PrefixSet* set) { return set->contains(v4, address); });
}

bool is_one_of(const NumberCondition& asked, uint32_t value) {
  return asked.values.empty() ||
         std::find(asked.values.begin(), asked.values.end(), value) != asked.values.end();
}

bool is_in_range(const PortCondition& asked, bool has_ports, uint16_t port) {
  return asked.ranges.empty() ||
         (has_ports && std::any_of(asked.ranges.begin(), asked.ranges.end(), [&](PortRange range) {
            return range.first <= port && port <= range.last;
          }));
}

bool has_bits(const MaskedCondition& asked, uint32_t value) {
  return !asked.asks || (value & asked.mask) == asked.value;
}

uint32_t walk_naively(const std::vector<RuleConditions>& rules, const RuleKey& key, uint32_t from,
                      uint32_t mark) {
  for (uint32_t i = from; i < rules.size(); ++i) {
    const RuleConditions& rule = rules[i];
    if (is_one_of(rule.iif, key.iif) && is_one_of(rule.peer, key.peer) &&
        is_one_of(rule.protocol, key.protocol) && has_bits(rule.tos, key.tos) &&
        has_bits(rule.mark, mark) && is_in_range(rule.dport, key.has_ports, key.destination_port) &&
        is_in(rule.from, key.v4, key.source) && is_in(rule.to, key.v4, key.destination)) {
      return i;
    }
  }
  return kNoRule;
}

// ---- measuring

struct Contest {
  size_t size;
  std::vector<RuleConditions> rules;
  Packets packets;
  std::unique_ptr<RuleTable> table;
  std::vector<double> first_ns, all_ns, naive_ns;
};

double time_first(const Contest& contest) {
  const Packets& packets = contest.packets;
  const double start = thread_seconds();
  uint64_t sum = 0;
  for (size_t i = 0; i < packets.size(); ++i) {
    auto walk = contest.table->walk(packets[i]->key);
    sum += walk.next(0, packets[i]->mark);
  }
  sink += sum;
  return (thread_seconds() - start) * 1e9 / static_cast<double>(packets.size());
}

double time_all(const Contest& contest) {
  const Packets& packets = contest.packets;
  const double start = thread_seconds();
  uint64_t sum = 0;
  for (size_t i = 0; i < packets.size(); ++i) {
    auto walk = contest.table->walk(packets[i]->key);
    uint32_t mark = packets[i]->mark;
    for (uint32_t at = walk.next(0, mark); at != kNoRule; at = walk.next(at + 1, mark)) {
      sum += at;
      mark = mark == 0 ? at % 16 : mark;
    }
  }
  sink += sum;
  return (thread_seconds() - start) * 1e9 / static_cast<double>(packets.size());
}

double time_naive(const Contest& contest) {
  const Packets& packets = contest.packets;
  const size_t count = std::min(packets.size(), packets.size() * 100 / contest.size);
  const double start = thread_seconds();
  uint64_t sum = 0;
  for (size_t i = 0; i < count; ++i) {
    sum += walk_naively(contest.rules, packets[i]->key, 0, packets[i]->mark);
  }
  sink += sum;
  return (thread_seconds() - start) * 1e9 / static_cast<double>(count);
}

// Every answer against the naive walk's; returns how many packets a rule matches.
size_t check(const Contest& contest) {
  const Packets& packets = contest.packets;
  size_t matched = 0;
  for (size_t i = 0; i < packets.size(); ++i) {
    const uint32_t answer = contest.table->walk(packets[i]->key).next(0, packets[i]->mark);
    if (answer != walk_naively(contest.rules, packets[i]->key, 0, packets[i]->mark)) {
      die("the table and the naive walk disagree on packet " + std::to_string(i));
    }
    matched += answer != kNoRule ? 1 : 0;
  }
  return matched;
}

Contest make_contest(World& world, size_t size) {
  Contest contest;
  contest.size = size;
  contest.rules = world.make_rules(size);
  contest.packets = world.make_packets(contest.rules);
  const double start = thread_seconds();
  auto table = RuleTable::build(contest.rules);
  const double seconds = thread_seconds() - start;
  if (!table.has_value()) {
    die(table.error().text);
  }
  contest.table = std::move(*table);
  std::printf("%5zu rules: built in %5.1f ms, %7.1f KB; %2zu %% of packets match one\n", size,
              seconds * 1e3, static_cast<double>(contest.table->memory_bytes()) / 1e3,
              check(contest) * 100 / kPackets);
  return contest;
}

int print(const std::vector<Contest>& contests) {
  std::printf("\n%-12s %12s %12s %12s %18s\n", "ns per packet", "first match", "all matches",
              "naive walk", "of one rule's");
  const double one = median(contests[0].first_ns);
  double thousand = 0;
  size_t bytes = 0;
  for (const Contest& each : contests) {
    const double first = median(each.first_ns);
    std::printf("%5zu rules  %12.1f %12.1f %12.1f %17.2fx\n", each.size, first, median(each.all_ns),
                median(each.naive_ns), first / one);
    if (each.size == 1000) {
      thousand = first;
      bytes = each.table->memory_bytes();
    }
  }
  Report report;
  report.at_most("1,000 rules, of the time of one", thousand / one, 3);
  report.at_most("1,000 rules, to the first match", thousand, 150, "ns");
  report.at_most("1,000 rules", static_cast<double>(bytes) / 1e3, 1000, "KB");
  return report.finish();
}

int run(int argc, char** argv) {
  World world;
  std::vector<Contest> contests;
  const bool only = argc == 3 && std::strcmp(argv[1], "--only") == 0;
  for (const size_t size : kSizes) {
    if (!only || size == std::strtoul(argv[2], nullptr, 10)) {
      contests.push_back(make_contest(world, size));
    }
  }
  if (contests.empty()) {
    die("there is no such table: 1, 100, 1000 or 4000 rules");
  }
  if (only) {
    const double end = thread_seconds() + 5;
    while (thread_seconds() < end) {
      contests[0].first_ns.push_back(time_first(contests[0]));
    }
    std::printf("%.1f ns\n", median(contests[0].first_ns));
    return 0;
  }
  for (int round = 0; round < kRounds; ++round) {
    for (Contest& each : contests) {
      time_all(each);  // what the one before left in the caches is nobody's merit
      time_first(each);
      each.first_ns.push_back(time_first(each));
      each.all_ns.push_back(time_all(each));
      each.naive_ns.push_back(time_naive(each));
    }
  }
  return print(contests);
}

}  // namespace
}  // namespace sallyport::bench

int main(int argc, char** argv) {
  return sallyport::bench::run(argc, argv);
}
