// What a configuration's NAT claims of the host's packets: rules in order, and what the host keeps.
#include "control/claims.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/control/built_engine.h"
#include "tests/control/host_network.h"

namespace sallyport::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::string kTunnels = R"([tunnel.wg0]
$private
address = ["10.9.0.1/24", "fd09::1/64"]
[[tunnel.wg0.peer]]
name = "a"
$key
allowed_ips = ["0.0.0.0/0"]
[tunnel.wg1]
$private
[[tunnel.wg1.peer]]
name = "b"
$key
)";

ClaimFacts facts() {
  ClaimFacts facts;
  facts.host_v4 = address("198.51.100.1");
  facts.host_v6 = address("2001:db8::1");
  facts.links = {{"wg0", 7}, {"wg1", 8}};
  facts.listen_ports = {{"wg0", 51820}, {"wg1", 0}};
  return facts;
}

std::vector<std::string> texts(const std::vector<HostRule>& rules) {
  std::vector<std::string> out;
  for (const HostRule& rule : rules) {
    out.push_back(to_text(rule));
  }
  return out;
}

std::vector<std::string> first(const std::string& nats) {
  return texts(claims_of(config_of(kTunnels + nats), facts()).first);
}

TEST(Claims, NothingWithoutFlows) {
  const Claims claims = claims_of(config_of(kTunnels), facts());
  EXPECT_TRUE(claims.empty());
  EXPECT_THAT(claims.tables, IsEmpty());
}

TEST(Claims, AnswersToWhatIsMasqueradedAsTheHost) {
  EXPECT_THAT(first("[[nat]]\noif = \"host\"\nfamily = 4\nmasquerade = true\n"),
              ElementsAre("to 198.51.100.1/32 ipproto 6 dport 61000-65534 lookup 181 pref 0",
                          "to 198.51.100.1/32 ipproto 17 dport 61000-65534 lookup 181 pref 0"));
  EXPECT_THAT(first("[[nat]]\nfamily = 6\nipproto = \"udp\"\nmasquerade = true\n"
                    "ports = \"40000-65535\"\n"),
              ElementsAre("to 2001:db8::1/128 ipproto 17 dport 40000-65534 lookup 181 pref 0"));
  EXPECT_THAT(first("[[nat]]\noif = \"wg0\"\nmasquerade = true\n"), IsEmpty());
  EXPECT_THAT(first("[[nat]]\noif = \"!host\"\nmasquerade = true\n"), IsEmpty());
}

TEST(Claims, AnswersToAPool) {
  EXPECT_THAT(first("[[nat]]\noif = \"host\"\nipproto = \"tcp\"\nsnat = \"192.0.2.3-192.0.2.5\"\n"),
              ElementsAre("to 192.0.2.3/32 ipproto 6 dport 1024-65534 lookup 181 pref 0",
                          "to 192.0.2.4/31 ipproto 6 dport 1024-65534 lookup 181 pref 0"));
}

TEST(Claims, EverythingButTheHostsOwn) {
  EXPECT_THAT(
      first("[[nat]]\niif = \"host\"\nto = \"198.51.100.1\"\nipproto = \"tcp\"\ndport = 22\n"
            "none = true\n"
            "[[nat]]\niif = \"host:wg1\"\nto = \"198.51.100.1\"\ndnat = \"10.9.0.2\"\n"),
      ElementsAre("to 198.51.100.1/32 ipproto 6 dport 22-22 lookup local pref 0",
                  "to 198.51.100.1/32 ipproto 17 dport 51820-51820 lookup local pref 0",
                  "to 198.51.100.1/32 ipproto 6 dport 32768-60999 lookup local pref 0",
                  "to 198.51.100.1/32 ipproto 17 dport 32768-60999 lookup local pref 0",
                  "to 198.51.100.1/32 ipproto 6 dport 1-65534 lookup 182 pref 0",
                  "to 198.51.100.1/32 ipproto 17 dport 1-65534 lookup 182 pref 0"));
}

TEST(Claims, PortsThatAreNamedAreMeant) {
  EXPECT_THAT(first("[[nat]]\niif = \"host\"\nto = \"198.51.100.1\"\nipproto = \"udp\"\n"
                    "dport = [\"40000-40010\", 53]\ndnat = \"10.9.0.2\"\n"),
              ElementsAre("to 198.51.100.1/32 ipproto 17 dport 40000-40010 lookup 181 pref 0",
                          "to 198.51.100.1/32 ipproto 17 dport 53-53 lookup 181 pref 0"));
}

TEST(Claims, NegatedPorts) {
  const std::vector<std::string> rules = first(
      "[[nat]]\niif = \"host\"\nto = \"198.51.100.1\"\nipproto = \"tcp\"\n"
      "dport = [\"!22\", \"!80-90\"]\ndnat = \"10.9.0.2\"\n");
  ASSERT_EQ(rules.size(), 6u);
  EXPECT_EQ(rules[3], "to 198.51.100.1/32 ipproto 6 dport 1-21 lookup 181 pref 0");
  EXPECT_EQ(rules[4], "to 198.51.100.1/32 ipproto 6 dport 23-79 lookup 181 pref 0");
  EXPECT_EQ(rules[5], "to 198.51.100.1/32 ipproto 6 dport 91-65534 lookup 181 pref 0");
}

TEST(Claims, WhatDoesNotNameTheHostIsTheHosts) {
  EXPECT_THAT(first("[[nat]]\nto = \"198.51.100.1\"\ndnat = \"10.9.0.2\"\n"), IsEmpty());
  EXPECT_THAT(first("[[nat]]\niif = \"!host\"\nto = \"198.51.100.1\"\ndnat = \"10.9.0.2\"\n"),
              IsEmpty());
  EXPECT_THAT(first("[[nat]]\niif = \"host\"\ndnat = \"10.9.0.2\"\n"), IsEmpty());
}

TEST(Claims, WhatAnswersByATunnelsAddressGoesIntoIt) {
  const Claims claims = claims_of(config_of(kTunnels + "[flows]\n"), facts());
  EXPECT_THAT(claims.first, IsEmpty());
  EXPECT_THAT(texts(claims.sources), ElementsAre("from 10.9.0.1/32 lookup 181 pref 5178",
                                                 "from fd09::1/128 lookup 181 pref 5178"));
  EXPECT_THAT(claims.tables,
              ElementsAre(Claims::Table{181, 7, Family::v4}, Claims::Table{181, 7, Family::v6}));
}

// Every address of a range, and no other, is in exactly one of its prefixes.
TEST(Claims, PrefixesOfARange) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto number = [](const IpAddress& each) {
    return uint32_t{each.bytes[0]} << 24 | uint32_t{each.bytes[1]} << 16 |
           uint32_t{each.bytes[2]} << 8 | each.bytes[3];
  };
  const auto of_number = [](uint32_t value) {
    const uint8_t bytes[4] = {static_cast<uint8_t>(value >> 24), static_cast<uint8_t>(value >> 16),
                              static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
    return IpAddress::v4(bytes);
  };
  for (int round = 0; round < 200; ++round) {
    const auto a = static_cast<uint32_t>(random()), b = a + static_cast<uint32_t>(random() % 5000);
    const uint32_t low = std::min(a, b), high = std::max(a, b);
    uint64_t next = low;
    for (const IpPrefix& each : prefixes_of({of_number(low), of_number(high)})) {
      ASSERT_EQ(number(each.address), next);
      ASSERT_EQ(next & ((uint64_t{1} << (32 - each.length)) - 1), 0u) << "not a prefix";
      next += uint64_t{1} << (32 - each.length);
    }
    ASSERT_EQ(next, uint64_t{high} + 1);
  }
  EXPECT_EQ(prefixes_of({of_number(0), of_number(UINT32_MAX)}).size(), 1u);
  EXPECT_EQ(prefixes_of({address("2001:db8::1"), address("2001:db8::3")}).size(), 2u);
}

}  // namespace
}  // namespace sallyport::test
