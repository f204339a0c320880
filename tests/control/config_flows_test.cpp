// [[nat]], [[filter]] and [flows]: everything that can be said, in words, and what a reload would change.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "control/config_diff.h"
#include "control/config_words.h"
#include "tests/control/config_texts.h"

namespace sallyport::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const std::string kHead = R"(
[tunnel.wg0]
private_key_file = "k"
address = ["10.9.0.1/24", "fd09::1/64"]
[[tunnel.wg0.peer]]
name = "a"
public_key = ")" + kKeyB + R"("
[set.lan]
prefixes = "10.0.0.0/8"
[exit.a]
peer = "a"
)";

Config read(const std::string& more) {
  const ReadResult result = read_toml(kHead + more, "x.toml");
  EXPECT_EQ(all(result.errors), "") << more;
  return result.config;
}

std::string nat(const std::string& keys) {
  return "[[nat]]\n" + keys + "\n";
}

TEST(ConfigFlows, EveryNatInWords) {
  const std::pair<const char*, const char*> kNats[] = {
      {"oif = \"wg0\"\nmasquerade = true", "oif wg0 masquerade"},
      {"oif = \"!host\"\nfrom = \"@lan\"\nmasquerade = true\nports = \"1024-65535\"\n"
       "endpoint_independent = true",
       "from @lan oif !host masquerade ports 1024-65535 endpoint_independent"},
      {"exit = [\"a\", \"host\"]\nsnat = \"192.0.2.1\"", "exit a,host snat 192.0.2.1"},
      {"snat = [\"192.0.2.1-192.0.2.9\", \"198.51.100.0/30\"]\npaired = false",
       "from all snat 192.0.2.1-192.0.2.9,198.51.100.0-198.51.100.3 not paired"},
      {"snat = \"2001:db8::/64\"", "from all snat 2001:db8::-2001:db8::ffff:ffff:ffff:ffff"},
      {"iif = \"host\"\ndnat = \"10.0.18.2\"", "iif host dnat 10.0.18.2"},
      {"dport = [22, 51820]\nnone = true", "dport 22,51820 none"},
      {"dport = 80\ndnat = \"10.0.18.2:8080\"", "dport 80 dnat 10.0.18.2 port 8080"},
      {"dport = 80\ndnat = \"[fd00::2]:8080\"", "dport 80 dnat fd00::2 port 8080"},
      {"peer = \"!a\"\ndport = \"80-89\"\ndnat = \"10.0.18.2-10.0.18.3\"\nport = \"8000-8009\"",
       "peer !wg0/a dport 80-89 dnat 10.0.18.2-10.0.18.3 port 8000-8009"},
      {"dport = [80, 443]\ndnat = \"10.0.18.0/30\"\nport = 8080",
       "dport 80,443 dnat 10.0.18.0-10.0.18.3 port 8080"},
      {"ipproto = \"tcp\"\ndnat = \"10.0.18.2:80\"", "ipproto tcp dnat 10.0.18.2 port 80"},
      {"oif = \"wg0\"\nnptv6 = { from = \"fd00:1::/48\", to = \"2001:db8:1::/48\" }",
       "oif wg0 nptv6 fd00:1::/48 to 2001:db8:1::/48"},
      {"family = 4\nto = \"!@lan\"\nfwmark = 7\ntos = \"0x10\"\niif = \"host:wg0\"\noif = "
       "\"host:wg0\"\nsport = \"!53\"\nnone = true",
       "family ipv4 to !@lan tos 0x10 fwmark 0x7 iif host:wg0 oif host:wg0 sport !53 none"},
  };
  for (const auto& [keys, words] : kNats) {
    const Config config = read(nat(keys));
    ASSERT_THAT(config.nats, SizeIs(1));
    EXPECT_EQ(nat_text(config.nats[0]), words);
    EXPECT_EQ(config.nats[0].where.line, 12u);
  }
}

TEST(ConfigFlows, NatIsKeptInTheFilesOrder) {
  const Config config = read(nat("name = \"ours\"\ndport = [22, 51820]\nnone = true") +
                             nat("iif = \"host\"\ndnat = \"10.0.18.2\""));
  ASSERT_THAT(config.nats, SizeIs(2));
  EXPECT_EQ(config.nats[0].name, "ours");
  EXPECT_EQ(config.nats[1].action, Nat::Action::dnat);
}

TEST(ConfigFlows, Filters) {
  const Config config = read(
      "[[filter]]\nname = \"known\"\nstate = [\"established\", \"related\"]\naction = \"accept\"\n"
      "[[filter]]\nstate = \"!new\"\naction = \"drop\"\n"
      "[[filter]]\niif = \"wg0\"\noif = \"host\"\nipproto = \"tcp\"\ndport = 22\naction = "
      "\"reset\"\n"
      "[[filter]]\npeer = \"a\"\naction = \"reject\"\n");
  std::vector<std::string> words;
  for (const Filter& filter : config.filters) {
    words.push_back(filter_text(filter));
  }
  EXPECT_THAT(words,
              ElementsAre("state established,related accept", "state !new drop",
                          "iif wg0 oif host ipproto tcp dport 22 reset", "peer wg0/a reject"));
  EXPECT_EQ(config.filters[0].name, "known");
}

TEST(ConfigFlows, FlowsHaveTheDefaultsOfTheRfcs) {
  const Flows flows = read("").flows;
  EXPECT_EQ(flows.where.line, 0u);
  EXPECT_GE(flows.tcp_established_s, 2u * 3600 + 4 * 60) << "RFC 5382, REQ-5";
  EXPECT_GE(flows.tcp_transitory_s, 4u * 60) << "RFC 5382, REQ-5";
  EXPECT_GE(flows.udp_s, 2u * 60) << "RFC 4787, REQ-5";
  EXPECT_GE(flows.icmp_s, 60u) << "RFC 5508, REQ-2";
  EXPECT_EQ(flows.max, 262144u);
  EXPECT_TRUE(flows.pickup);
  EXPECT_EQ(flows.reverse_path, Flows::ReversePath::loose);
  EXPECT_TRUE(flows.accept_unmatched);
}

const std::string kFlows = R"([flows]
max = 16777216
tcp_established = "120h"
tcp_transitory = 30
udp = "30s"
udp_stream = "2m"
icmp = 10
other = "1h"
reverse_path = "strict"
pickup = false
filter_default = "drop"
)";

TEST(ConfigFlows, ReadsFlows) {
  const Flows flows = read(kFlows).flows;
  EXPECT_EQ(flows.max, 16777216u);
  EXPECT_EQ(flows.tcp_established_s, 432000u);
  EXPECT_EQ(flows.tcp_transitory_s, 30u);
  EXPECT_EQ(flows.udp_s, 30u);
  EXPECT_EQ(flows.udp_stream_s, 120u);
  EXPECT_EQ(flows.icmp_s, 10u);
  EXPECT_EQ(flows.other_s, 3600u);
  EXPECT_EQ(flows.reverse_path, Flows::ReversePath::strict);
  EXPECT_FALSE(flows.pickup);
  EXPECT_FALSE(flows.accept_unmatched);
}

TEST(ConfigFlows, ADiffOfFlows) {
  EXPECT_THAT(diff(read(""), read(kFlows)),
              ElementsAre("flows: max 262144 -> 16777216", "flows: tcp_established 124m -> 7200m",
                          "flows: tcp_transitory 4m -> 30s", "flows: udp 2m -> 30s",
                          "flows: udp_stream 5m -> 2m", "flows: icmp 1m -> 10s",
                          "flows: other 10m -> 60m", "flows: reverse_path loose -> strict",
                          "flows: pickup true -> false", "flows: filter_default accept -> drop"));
}

TEST(ConfigFlows, ADiffOfNat) {
  const std::string masquerade = nat("oif = \"wg0\"\nmasquerade = true"),
                    except = nat("dport = 22\nnone = true"),
                    web = nat("name = \"web\"\ndport = 80\ndnat = \"10.0.18.2\"");
  const Config config = read(except + masquerade + web);
  EXPECT_THAT(diff(config, config), IsEmpty());
  EXPECT_THAT(diff(config, read(except + web)), ElementsAre("nat: removed: oif wg0 masquerade"));
  EXPECT_THAT(diff(read(except + web), config), ElementsAre("nat added: oif wg0 masquerade"));
  EXPECT_THAT(diff(config, read(masquerade + except + web)), ElementsAre("nat: the order changes"));
  EXPECT_THAT(diff(config, read(except + masquerade +
                                nat("name = \"web\"\ndport = 443\ndnat = \"10.0.18.2\""))),
              ElementsAre("nat web: dport 80 dnat 10.0.18.2 -> dport 443 dnat 10.0.18.2"));
  std::string ports = "[[filter]]\nname = \"f\"\naction = \"drop\"\ndport = [";
  for (int i = 1; i <= 30; ++i) {
    ports += std::to_string(i) + ",";
  }
  EXPECT_THAT(diff(read(ports + "99]\n"), read(ports + "98]\n")),
              ElementsAre("filter f: dport 1,2,3,4,5,6,7,8,... (31 in all) drop: members of its "
                          "lists change"));
}

// Whatever two lists are, nothing is told exactly when they are the same.
TEST(ConfigFlows, RandomListsOfFilters) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto list = [&] {
    Config config;
    for (size_t i = random() % 5; i > 0; --i) {
      Filter& filter = config.filters.emplace_back();
      filter.name = random() % 2 == 0 ? "" : std::string(1, static_cast<char>('a' + random() % 2));
      filter.match.family = random() % 2 == 0 ? Family::v4 : Family::v6;
    }
    return config;
  };
  for (int round = 0; round < 1000; ++round) {
    const Config from = list(), to = list();
    const bool same =
        std::ranges::equal(from.filters, to.filters, [](const auto& a, const auto& b) {
          return a.name == b.name && a.match.family == b.match.family;
        });
    EXPECT_EQ(diff(from, to).empty(), same) << "round " << round;
  }
}

TEST(ConfigFlows, BoundsOfLists) {
  Config config;
  config.nats.resize(1025);
  config.filters.resize(4097);
  std::vector<Problem> problems;
  check(config, problems);
  EXPECT_THAT(all(problems), HasSubstr("nat: there are 1025, and at most 1024"));
  EXPECT_THAT(all(problems), HasSubstr("filter: there are 4097, and at most 4096"));
}

}  // namespace
}  // namespace sallyport::config
