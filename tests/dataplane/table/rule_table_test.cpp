#include "dataplane/table/rule_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <random>
#include <string>
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
using testing::HasSubstr;

struct Packet {
  Ip source = ip4(0x0a000001), destination = ip4(0xc6336407);  // 10.0.0.1 to 198.51.100.7
  uint32_t iif = 1, peer = 0;
  uint8_t protocol = 17;
  bool has_ports = true;
  uint16_t source_port = 40000, destination_port = 53;
  uint8_t tos = 0;

  RuleKey key() const {
    return {source.v4, source.bytes, destination.bytes, iif, peer, protocol,
            has_ports, source_port,  destination_port,  tos};
  }
};

// What the sets hold, so that rules can be judged without them.
using Contents = std::map<const PrefixSet*, std::vector<SetEntry>>;

void fill(PrefixSet& set, const std::vector<SetEntry>& entries, Contents& contents) {
  set.replace(PrefixSet::Content::build(entries));
  contents[&set] = entries;
}

std::unique_ptr<RuleTable> build(const std::vector<RuleConditions>& rules) {
  auto table = RuleTable::build(rules);
  EXPECT_TRUE(table.has_value()) << (table.has_value() ? "" : table.error().text);
  return table.has_value() ? std::move(*table) : nullptr;
}

bool matches(const RuleConditions& rule, const Packet& packet, uint32_t mark = 0) {
  return build({rule})->walk(packet.key()).next(0, mark) == 0;
}

// All rules that match while the mark stays.
std::vector<uint32_t> all_matches(const RuleTable& table, const Packet& packet, uint32_t mark = 0) {
  std::vector<uint32_t> found;
  auto walk = table.walk(packet.key());
  for (uint32_t at = walk.next(0, mark); at != kNoRule; at = walk.next(at + 1, mark)) {
    found.push_back(at);
  }
  return found;
}

Packet packet6() {
  Packet packet;
  packet.source = ip6(0x20010db8'00000000, 1);
  packet.destination = ip6(0x20010db8'00010000, 2);
  return packet;
}

// ---- each kind of condition by itself

TEST(RuleTable, ATableWithoutRulesMatchesNothing) {
  EXPECT_TRUE(all_matches(*build({}), {}).empty());
  EXPECT_EQ(build({})->size(), 0u);
}

TEST(RuleTable, ARuleThatAsksNothingMatchesEverything) {
  EXPECT_TRUE(matches({}, {}));
  EXPECT_TRUE(matches({}, packet6(), 77));
  const auto table = build(std::vector<RuleConditions>(3));
  EXPECT_THAT(all_matches(*table, {}), testing::ElementsAre(0, 1, 2));
  auto walk = table->walk(Packet{}.key());
  EXPECT_EQ(walk.next(2, 0), 2u);
  EXPECT_EQ(walk.next(1, 0), 1u);  // a walk can go back
  EXPECT_EQ(walk.next(3, 0), kNoRule);
  EXPECT_EQ(walk.next(kNoRule, 0), kNoRule);
}

TEST(RuleTable, Families) {
  RuleConditions rule;
  rule.v6 = false;
  EXPECT_TRUE(matches(rule, {}));
  EXPECT_FALSE(matches(rule, packet6()));
  rule.v4 = false;
  EXPECT_FALSE(matches(rule, {}));
  rule.v6 = true;
  EXPECT_TRUE(matches(rule, packet6()));
}

TEST(RuleTable, LiteralPrefixes) {
  struct {
    std::vector<SetEntry> prefixes;
    bool v4, v6;  // whether the usual packet's destination of that family is in
  } const truths[] = {
      {{entry4(0xc6336400, 24)}, true, false},
      {{entry4(0xc6336407, 32)}, true, false},
      {{entry4(0xc6336408, 32)}, false, false},
      {{entry4(0, 0)}, true, false},
      {{entry4(0xc6336500, 24), entry4(0xc6000000, 8)}, true, false},
      {{entry6(0, 0, 0)}, false, true},
      {{entry6(0x20010db8'00010000, 0, 48), entry4(0xc6336400, 24)}, true, true},
      {{entry6(0x20010db8'00010000, 2, 128)}, false, true},
      {{entry6(0x20010db8'00010000, 3, 128)}, false, false},
  };
  for (size_t i = 0; i < std::size(truths); ++i) {
    SCOPED_TRACE(i);
    RuleConditions to, from;
    to.to.prefixes = truths[i].prefixes;
    from.from.prefixes = truths[i].prefixes;
    for (const bool negated : {false, true}) {
      to.to.negated = from.from.negated = negated;
      for (Packet packet : {Packet{}, packet6()}) {
        const bool in = packet.source.v4 ? truths[i].v4 : truths[i].v6;
        EXPECT_EQ(matches(to, packet), in != negated);
        std::swap(packet.source, packet.destination);
        EXPECT_EQ(matches(from, packet), in != negated);
      }
    }
  }
}

TEST(RuleTable, APrefixCountsInAllThatCoverIt) {
  std::vector<RuleConditions> rules(5);
  rules[0].to.prefixes = {entry4(0xc6336400, 24)};
  rules[1].to.prefixes = {entry4(0xc6330000, 16)};
  rules[2].to.prefixes = {entry4(0xc6330000, 16)};
  rules[2].to.negated = true;
  rules[3].to.prefixes = {entry4(0xc6336400, 32), entry4(0, 0)};
  const auto table = build(rules);
  Packet packet;
  EXPECT_THAT(all_matches(*table, packet), testing::ElementsAre(0, 1, 3, 4));
  packet.destination = ip4(0xc6330001);
  EXPECT_THAT(all_matches(*table, packet), testing::ElementsAre(1, 3, 4));
  packet.destination = ip4(0xc7000001);
  EXPECT_THAT(all_matches(*table, packet), testing::ElementsAre(2, 3, 4));
}

TEST(RuleTable, NumbersAreAnyOfAListOrNone) {
  struct {
    const char* name;
    NumberCondition RuleConditions::*condition;
    void (*set)(Packet& packet, uint32_t value);
  } const kinds[] = {
      {"iif", &RuleConditions::iif, [](Packet& packet, uint32_t value) { packet.iif = value; }},
      {"peer", &RuleConditions::peer, [](Packet& packet, uint32_t value) { packet.peer = value; }},
      {"protocol", &RuleConditions::protocol,
       [](Packet& packet, uint32_t value) { packet.protocol = static_cast<uint8_t>(value); }},
  };
  for (const auto& kind : kinds) {
    SCOPED_TRACE(kind.name);
    RuleConditions rule;
    (rule.*kind.condition).negated = true;
    EXPECT_TRUE(matches(rule, {}));  // an empty list asks nothing
    (rule.*kind.condition).values = {0, 6, 6, 132};
    for (const bool negated : {false, true}) {
      (rule.*kind.condition).negated = negated;
      for (const uint32_t value : {0u, 1u, 6u, 7u, 132u, 255u}) {
        SCOPED_TRACE(value);
        Packet packet;
        kind.set(packet, value);
        EXPECT_EQ(matches(rule, packet), (value == 0 || value == 6 || value == 132) != negated);
      }
    }
  }
}

TEST(RuleTable, AProtocolBeyondAByteIsNobodys) {
  RuleConditions rule;
  rule.protocol.values = {256 + 17};
  EXPECT_FALSE(matches(rule, {}));
  rule.protocol.negated = true;
  EXPECT_TRUE(matches(rule, {}));
}

TEST(RuleTable, LargeNumbersAreToldApart) {
  RuleConditions rule;
  for (uint32_t i = 0; i < 5000; ++i) {
    rule.peer.values.push_back(i * 0x10001);
  }
  const auto table = build({rule});
  for (uint32_t i = 0; i < 5000; ++i) {
    Packet packet;
    packet.peer = i * 0x10001;
    ASSERT_EQ(table->walk(packet.key()).next(0, 0), 0u);
    packet.peer += 7;
    ASSERT_EQ(table->walk(packet.key()).next(0, 0), kNoRule);
  }
}

TEST(RuleTable, PortsAreInAnyRange) {
  struct {
    std::vector<PortRange> ranges;
    std::vector<uint16_t> in, out;
  } const truths[] = {
      {{{53, 53}}, {53}, {0, 52, 54, 65535}},
      {{{0, 0}}, {0}, {1, 65535}},
      {{{65535, 65535}}, {65535}, {0, 65534}},
      {{{0, 65535}}, {0, 53, 255, 256, 65535}, {}},
      {{{1000, 1999}, {1500, 2500}, {2501, 2501}, {80, 80}},
       {80, 1000, 2500, 2501},
       {79, 81, 999, 2502}},
      {{{0, 1023}, {10, 20}}, {0, 10, 20, 21, 1023}, {1024}},
      {{{20, 10}}, {}, {0, 10, 15, 20}},
      {{{20, 10}, {15, 15}}, {15}, {10, 20}},
  };
  for (size_t i = 0; i < std::size(truths); ++i) {
    SCOPED_TRACE(i);
    RuleConditions source, destination;
    source.sport.ranges = destination.dport.ranges = truths[i].ranges;
    for (const bool negated : {false, true}) {
      source.sport.negated = destination.dport.negated = negated;
      const auto expect = [&](uint16_t port, bool answer) {
        SCOPED_TRACE(port);
        Packet packet;
        packet.source_port = port;
        EXPECT_EQ(matches(source, packet), answer);
        packet.source_port = 1;
        packet.destination_port = port;
        EXPECT_EQ(matches(destination, packet), answer);
      };
      for (const uint16_t port : truths[i].in) {
        expect(port, !negated);
      }
      for (const uint16_t port : truths[i].out) {
        expect(port, negated);
      }
    }
  }
}

TEST(RuleTable, WithoutPortsAPortConditionFailsNegatedOrNot) {
  Packet packet;
  packet.has_ports = false;
  for (const bool negated : {false, true}) {
    RuleConditions source, destination;
    source.sport = {{{0, 65535}}, negated};
    destination.dport = {{{53, 53}}, negated};
    EXPECT_FALSE(matches(source, packet));
    EXPECT_FALSE(matches(destination, packet));
  }
  RuleConditions asks_nothing;
  asks_nothing.dport.negated = true;
  EXPECT_TRUE(matches(asks_nothing, packet));
}

TEST(RuleTable, TosAndMarkAreComparedUnderTheirMask) {
  struct {
    uint32_t value, mask, of_packet;
    bool answer;
  } const truths[] = {
      {0x10, 0xff, 0x10, true}, {0x10, 0xff, 0x11, false},
      {0x10, 0xf0, 0x1f, true}, {0x10, 0xf0, 0x20, false},
      {0, 0, 0x55, true},       {0x11, 0xf0, 0x11, false},  // a value outside its mask
      {0, 0xff, 0, true},       {0, 0xff, 1, false},
  };
  for (size_t i = 0; i < std::size(truths); ++i) {
    SCOPED_TRACE(i);
    const auto& truth = truths[i];
    for (const bool negated : {false, true}) {
      RuleConditions tos, mark, idle;
      tos.tos = mark.mark = {true, truth.value, truth.mask, negated};
      idle.tos = idle.mark = {false, truth.value, truth.mask, negated};
      Packet packet;
      packet.tos = static_cast<uint8_t>(truth.of_packet);
      EXPECT_EQ(matches(tos, packet), truth.answer != negated);
      EXPECT_EQ(matches(mark, {}, truth.of_packet), truth.answer != negated);
      EXPECT_TRUE(matches(idle, packet, truth.of_packet));
    }
  }
}

TEST(RuleTable, AMarkSetOnTheWayIsSeenByTheRulesBehind) {
  std::vector<RuleConditions> rules(4);
  rules[1].mark = {true, 0x100, 0xff00, false};
  rules[2].mark = {true, 1, 0xff, false};
  rules[3].mark = {true, 0x101, UINT32_MAX, true};
  const auto table = build(rules);
  auto walk = table->walk(Packet{}.key());
  EXPECT_EQ(walk.next(0, 0), 0u);
  EXPECT_EQ(walk.next(1, 0x1ff), 1u);
  EXPECT_EQ(walk.next(2, 0x101), 2u);
  EXPECT_EQ(walk.next(3, 0x101), kNoRule);
  EXPECT_EQ(walk.next(2, 0), 3u);
}

// ---- sets

struct Sets {
  Sets() {
    fill(documentation, {entry4(0xc6336400, 24), entry6(0x20010db8'00000000, 0, 32)}, contents);
    fill(hosts, {entry4(0x0a000000, 8), entry4(0x0a000001, 32, true)}, contents);
  }
  PrefixSet documentation, hosts, none;
  Contents contents;
};

TEST(RuleTable, AlternativesOfOneListAreOred) {
  const Sets sets;
  const SetEntry literal = entry4(0xcb007100, 24);
  struct {
    std::vector<SetEntry> prefixes;
    std::vector<const PrefixSet*> sets;
    uint32_t destination;
    bool answer;
  } const truths[] = {
      {{}, {&sets.documentation}, 0xc6336407, true},
      {{}, {&sets.documentation}, 0xcb007101, false},
      {{}, {&sets.hosts}, 0x0a000001, false},  // a hole
      {{}, {&sets.none}, 0x0a000002, false},
      {{}, {&sets.none, &sets.hosts}, 0x0a000002, true},
      {{}, {&sets.hosts, &sets.documentation, &sets.hosts}, 0xc6336407, true},
      {{}, {&sets.hosts, &sets.documentation}, 0x0a000001, false},
      {{literal}, {&sets.none}, 0xcb007101, true},
      {{literal}, {&sets.none, &sets.hosts}, 0x0a000007, true},
      {{literal}, {&sets.none, &sets.hosts}, 0x0a000001, false},
      {{literal, entry4(0x0a000001, 32)}, {&sets.hosts}, 0x0a000001, true},
  };
  for (size_t i = 0; i < std::size(truths); ++i) {
    SCOPED_TRACE(i);
    for (const bool negated : {false, true}) {
      RuleConditions to, from;
      to.to = from.from = {truths[i].prefixes, truths[i].sets, negated};
      Packet packet;
      packet.destination = ip4(truths[i].destination);
      EXPECT_EQ(matches(to, packet), truths[i].answer != negated);
      std::swap(packet.source, packet.destination);
      EXPECT_EQ(matches(from, packet), truths[i].answer != negated);
    }
  }
}

TEST(RuleTable, ARuleWithSeveralWaysToMatchIsFoundOnce) {
  const Sets sets;
  std::vector<RuleConditions> rules(3);
  rules[1].to = {{entry4(0, 0)}, {&sets.documentation, &sets.none}, false};
  rules[1].from = {{entry4(0x0a000000, 8)}, {&sets.documentation}, false};
  EXPECT_THAT(all_matches(*build(rules), {}), testing::ElementsAre(0, 1, 2));
}

TEST(RuleTable, ASetMayChangeBetweenWalksButNotInOne) {
  Sets sets;
  std::vector<RuleConditions> rules(3);
  rules[0].to.sets = {&sets.none};
  rules[1].to = {{}, {&sets.none}, true};
  const auto table = build(rules);
  const Packet packet;
  auto before = table->walk(packet.key());
  EXPECT_EQ(before.next(0, 0), 1u);
  fill(sets.none, {entry4(0, 0)}, sets.contents);
  EXPECT_EQ(before.next(0, 0), 1u);
  EXPECT_THAT(all_matches(*table, packet), testing::ElementsAre(0, 2));
  fill(sets.none, {}, sets.contents);
  EXPECT_THAT(all_matches(*table, packet), testing::ElementsAre(1, 2));
}

TEST(RuleTable, AWalkKeepsNothingOfTheKey) {
  const Sets sets;
  RuleConditions rule;
  rule.to.sets = {&sets.documentation};
  const auto table = build({rule});
  auto packet = std::make_unique<Packet>(packet6());
  auto walk = table->walk(packet->key());
  packet->destination = {};
  packet.reset();
  EXPECT_EQ(walk.next(0, 0), 0u);
}

// ---- limits

std::string error_of(const std::vector<RuleConditions>& rules) {
  auto table = RuleTable::build(rules);
  return table.has_value() ? "" : table.error().text;
}

TEST(RuleTable, RefusesMoreRulesThanItHolds) {
  EXPECT_EQ(error_of(std::vector<RuleConditions>(kRulesMax)), "");
  EXPECT_THAT(error_of(std::vector<RuleConditions>(kRulesMax + 1)), HasSubstr("4097 rules"));
}

TEST(RuleTable, RefusesMoreSetsAndMasksThanAWalkHolds) {
  std::vector<PrefixSet> sets(55);
  std::vector<RuleConditions> rules(55);
  for (size_t i = 0; i < sets.size(); ++i) {
    rules[i].to.sets = {&sets[i]};
  }
  EXPECT_EQ(error_of(rules), "");
  fill(sets[54], {entry4(0, 0)}, *std::make_unique<Contents>());
  EXPECT_THAT(all_matches(*build(rules), {}), testing::ElementsAre(54));
  rules[0].mark.asks = true;
  EXPECT_THAT(error_of(rules), HasSubstr("55 sets"));
  rules[0].mark.asks = false;
  rules[0].from.sets = {&sets[0]};
  EXPECT_THAT(error_of(rules), HasSubstr("56 sets"));
}

TEST(RuleTable, RefusesMoreCombinationsOfSetsThanItHolds) {
  std::vector<PrefixSet> sets(5);
  std::vector<RuleConditions> rules(1400);
  for (RuleConditions& rule : rules) {
    for (const PrefixSet& set : sets) {
      rule.to.sets.push_back(&set);
      rule.from.sets.push_back(&set);
    }
  }
  EXPECT_THAT(error_of(rules), HasSubstr("several sets"));
  for (RuleConditions& rule : rules) {
    rule.from.negated = true;
  }
  EXPECT_EQ(error_of(rules), "");
}

TEST(RuleTable, RefusesMoreDistinctRowsThanItHolds) {
  std::vector<RuleConditions> rules(kRulesMax);
  for (uint32_t i = 0; i < rules.size(); ++i) {
    for (uint32_t k = 1; k <= 60; ++k) {  // each /25 is in two rules, another pair each time
      const uint32_t address = (k * kRulesMax + i) << 8;
      rules[i].to.prefixes.push_back(entry4(address, 24));
      rules[(i + k) % kRulesMax].to.prefixes.push_back(entry4(address, 25));
    }
  }
  EXPECT_THAT(error_of(rules), HasSubstr("values of to apart"));
}

TEST(RuleTable, EqualRowsAreKeptOnce) {
  std::vector<RuleConditions> rules(1000);
  for (uint32_t i = 0; i < 1000; ++i) {
    rules[i].to.prefixes = {entry4(0x0a000000, 8)};
    rules[i].dport.ranges = {{1, 1000}};
  }
  const size_t before = build(rules)->memory_bytes();
  for (uint32_t i = 0; i < 1000; ++i) {
    rules[i].to.prefixes.push_back(entry4(0x0b000000 + (i << 8), 24));
    for (uint32_t k = 0; k < i; ++k) {
      rules[i].to.prefixes.push_back(rules[k].to.prefixes.back());
    }
  }
  const size_t apart = build(rules)->memory_bytes();
  for (uint32_t i = 0; i < 1000; ++i) {
    rules[i].to.prefixes = rules[999].to.prefixes;
  }
  EXPECT_LT(before, 60'000u);
  EXPECT_LT(build(rules)->memory_bytes(), before + 60'000);
  EXPECT_GT(apart, before + 150'000);
}

}  // namespace
}  // namespace sallyport
