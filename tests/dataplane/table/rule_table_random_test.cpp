// The rule table against rules that are simply evaluated one after the other, and with sets that are replaced while
// others walk.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/base/rcu.h"
#include "dataplane/table/rule_table.h"
#include "tests/dataplane/table/set_entries.h"

namespace sallyport {
namespace {

using test::entry4;
using test::Ip;

struct Packet {
  Ip source, destination;
  uint32_t iif, peer;
  uint8_t protocol;
  bool has_ports;
  uint16_t source_port, destination_port;
  uint8_t tos;

  RuleKey key() const {
    return {source.v4, source.bytes, destination.bytes, iif, peer, protocol,
            has_ports, source_port,  destination_port,  tos};
  }
};

struct Model {
  explicit Model(uint64_t seed) : random(seed), sets(6) {
    for (PrefixSet& set : sets) {
      replace(set);
    }
  }

  void replace(PrefixSet& set) {
    std::vector<SetEntry>& entries = contents[&set];
    entries.clear();
    for (uint64_t i = random() % 40; i > 0; --i) {
      entries.push_back(test::random_entry(random, true));
    }
    set.replace(PrefixSet::Content::build(entries));
  }

  // -- rules

  bool one_in(uint64_t n) { return random() % n == 0; }

  AddressCondition address_condition() {
    AddressCondition condition;
    condition.negated = one_in(3);
    for (uint64_t i = one_in(3) ? 0 : 1 + random() % 3; i > 0; --i) {
      condition.prefixes.push_back(test::random_entry(random, true));
    }
    for (uint64_t i = one_in(2) ? 0 : 1 + random() % 3; i > 0; --i) {
      condition.sets.push_back(&sets[random() % sets.size()]);
    }
    return condition;
  }
  NumberCondition number_condition(uint32_t below) {
    NumberCondition condition{{}, one_in(3)};
    for (uint64_t i = random() % 4; i > 0; --i) {
      condition.values.push_back(static_cast<uint32_t>(random() % below));
    }
    return condition;
  }
  PortCondition port_condition() {
    PortCondition condition{{}, one_in(3)};
    for (uint64_t i = random() % 3; i > 0; --i) {
      condition.ranges.push_back({port(), port()});
    }
    return condition;
  }
  MaskedCondition masked_condition() {
    constexpr uint32_t kMasks[] = {0x03, 0x0c, 0xff, 0x01};
    const uint32_t mask = kMasks[random() % 4];
    return {true, static_cast<uint32_t>(random()) & (one_in(8) ? 0x0f : mask), mask, one_in(3)};
  }
  uint16_t port() {
    return static_cast<uint16_t>(one_in(4) ? random() : random() % 4 * 256 + random() % 3);
  }

  RuleConditions rule(unsigned often) {
    RuleConditions rule;
    if (one_in(4)) {
      (one_in(2) ? rule.v4 : rule.v6) = false;
    }
    const auto asks = [&] { return one_in(often); };
    rule.from = asks() ? address_condition() : AddressCondition{};
    rule.to = asks() ? address_condition() : AddressCondition{};
    rule.iif = asks() ? number_condition(4) : NumberCondition{};
    rule.peer = asks() ? number_condition(6) : NumberCondition{};
    rule.protocol = asks() ? number_condition(4) : NumberCondition{};
    rule.sport = asks() ? port_condition() : PortCondition{};
    rule.dport = asks() ? port_condition() : PortCondition{};
    rule.tos = asks() ? masked_condition() : MaskedCondition{};
    rule.mark = asks() ? masked_condition() : MaskedCondition{};
    return rule;
  }

  Packet packet() {
    Packet packet{};
    packet.source = packet.destination = test::random_ip(random);
    do {
      packet.destination = test::random_ip(random);
    } while (packet.source.v4 != packet.destination.v4);
    packet.iif = static_cast<uint32_t>(random() % 5);
    packet.peer = static_cast<uint32_t>(random() % 7);
    packet.protocol = static_cast<uint8_t>(random() % 5);
    packet.has_ports = !one_in(4);
    packet.source_port = port();
    packet.destination_port = port();
    packet.tos = static_cast<uint8_t>(random() % 16);
    return packet;
  }

  // -- and what they say

  bool matches(const AddressCondition& asked, const Ip& ip) const {
    const bool any = std::any_of(asked.prefixes.begin(), asked.prefixes.end(),
                                 [&](const SetEntry& entry) { return test::covers(entry, ip); }) ||
                     std::any_of(asked.sets.begin(), asked.sets.end(), [&](const PrefixSet* set) {
                       return test::naive_match(contents.at(set), ip).member;
                     });
    return !asked.asks() || any != asked.negated;
  }
  static bool matches(const NumberCondition& asked, uint32_t value) {
    const bool any = std::count(asked.values.begin(), asked.values.end(), value) > 0;
    return asked.values.empty() || any != asked.negated;
  }
  static bool matches(const PortCondition& asked, bool has_ports, uint16_t port) {
    const bool any = std::any_of(
        asked.ranges.begin(), asked.ranges.end(),
        [&](const PortRange& range) { return range.first <= port && port <= range.last; });
    return asked.ranges.empty() || (has_ports && any != asked.negated);
  }
  static bool matches(const MaskedCondition& asked, uint32_t value) {
    return !asked.asks || ((value & asked.mask) == asked.value) != asked.negated;
  }
  bool matches(const RuleConditions& rule, const Packet& packet, uint32_t mark) const {
    return (packet.source.v4 ? rule.v4 : rule.v6) && matches(rule.mark, mark) &&
           matches(rule.tos, packet.tos) && matches(rule.iif, packet.iif) &&
           matches(rule.peer, packet.peer) && matches(rule.protocol, packet.protocol) &&
           matches(rule.sport, packet.has_ports, packet.source_port) &&
           matches(rule.dport, packet.has_ports, packet.destination_port) &&
           matches(rule.from, packet.source) && matches(rule.to, packet.destination);
  }

  std::mt19937_64 random;
  std::vector<PrefixSet> sets;
  std::map<const PrefixSet*, std::vector<SetEntry>> contents;
};

// One packet to the end of the rules, its mark changing now and then. Returns how many matched, or -1 at a wrong answer.
int walk_all(Model& model, const RuleTable& table, const std::vector<RuleConditions>& rules) {
  const Packet packet = model.packet();
  auto walk = table.walk(packet.key());
  auto mark = static_cast<uint32_t>(model.random() % 16);
  int found = 0;
  for (uint32_t from = 0;;) {
    uint32_t right = from;
    while (right < rules.size() && !model.matches(rules[right], packet, mark)) {
      ++right;
    }
    const uint32_t answer = walk.next(from, mark);
    if (answer != (right < rules.size() ? right : kNoRule)) {
      return -1;
    }
    if (answer == kNoRule) {
      return found;
    }
    ++found;
    from = answer + 1;
    if (model.one_in(3)) {
      mark = static_cast<uint32_t>(model.random() % 16);
    }
  }
}

TEST(RuleTableRandom, AgreesWithRulesEvaluatedOneByOne) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Model model(seed);
  int matched = 0;
  for (const size_t size :
       {1u, 1u, 2u, 5u, 20u, 63u, 64u, 65u, 200u, 447u, 448u, 449u, 1000u, 4096u}) {
    for (const unsigned often : {1u, 2u, 5u}) {
      std::vector<RuleConditions> rules;
      while (rules.size() < size) {
        rules.push_back(model.rule(often));
      }
      const auto table = RuleTable::build(rules);
      ASSERT_TRUE(table.has_value()) << table.error().text;
      ASSERT_EQ((*table)->size(), size);
      for (size_t i = 0; i < 20 + 2000 / size; ++i) {
        if (i % 8 == 0) {
          model.replace(model.sets[model.random() % model.sets.size()]);
        }
        const int found = walk_all(model, **table, rules);
        ASSERT_GE(found, 0) << size << " rules, packet " << i;
        matched += found;
      }
    }
  }
  EXPECT_GT(matched, 5000);
}

// Rules 0 and 1 say the opposite of each other about one set: one of them matches, never both, never none, whatever the
// set holds at the moment.
TEST(RuleTableRandom, AWalkIsOfOneMindBesideAWriter) {
  PrefixSet set;
  std::vector<RuleConditions> rules(2);
  rules[0].to.sets = {&set};
  rules[1].to = {{}, {&set}, true};
  const auto table = RuleTable::build(rules);
  ASSERT_TRUE(table.has_value());
  std::atomic<bool> is_over = false;
  // Of the walks, each that ended is counted in one of the last two.
  std::atomic<uint64_t> wrong = 0, inside = 0, outside = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      const Ip ip = test::ip4(0x0a000001);
      RuleKey key;
      key.source = key.destination = ip.bytes;
      rcu_join();
      while (!is_over.load(std::memory_order_relaxed)) {
        auto walk = (*table)->walk(key);
        const uint32_t first = walk.next(0, 0);
        wrong +=
            first > 1 || walk.next(first + 1, 0) != kNoRule || walk.next(0, 0) != first ? 1 : 0;
        ++(first == 0 ? inside : outside);
        rcu_quiescent();
      }
      rcu_leave();
    });
  }
  uint32_t number = 0;
  // Until the readers have met both contents, too: on a busy machine they may sleep through hundreds of them.
  while (number < 300 || inside + outside < 1000 ||
         (number < 1'000'000 && (inside == 0 || outside == 0))) {
    std::vector<SetEntry> entries(number % 30, entry4(0x0b000000, 8));
    entries.push_back(entry4(0x0a000000, 8, number % 2 == 0));
    set.replace(PrefixSet::Content::build(entries));
    ++number;
  }
  is_over = true;
  for (std::thread& reader : readers) {
    reader.join();
  }
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(inside, 0u);
  EXPECT_GT(outside, 0u);
  rcu_barrier_all();
}

}  // namespace
}  // namespace sallyport
