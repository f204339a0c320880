// iptables commands of hooks beside the TOML that takes their place, and the advice where there is none.
#include "control/config_wg_nat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "control/config_wg_quick.h"
#include "control/config_words.h"

namespace sallyport::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kNatTable = "iptables -t nat -A ";

struct Command {
  std::string command;
  const char* toml;   // "" where it is not translated
  const char* words;  // what that TOML then means here
};

// One line as a file: each key on a line of its own.
std::string as_file(const std::string& line) {
  std::string text =
      "[tunnel.wg0]\nprivate_key_file = \"k\"\naddress = [\"10.9.0.1/24\", \"fd09::1/64\"]\n";
  bool quoted = false;
  int lists = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    quoted ^= line[i] == '"';
    lists += line[i] == '[' ? 1 : line[i] == ']' ? -1 : 0;
    const bool key_begins = line[i] == ' ' && !quoted && lists == 0 && line[i + 1] >= 'a' &&
                            line.find(" = ", i + 1) != std::string::npos && line[i - 1] != '=' &&
                            !line.substr(i + 1).starts_with("true");
    text += key_begins ? '\n' : line[i];
  }
  return text + "\n";
}

const Command kCommands[] = {
    {kNatTable + "POSTROUTING -s 10.9.0.0/24 -o %i -j MASQUERADE",
     "[[nat]] from = \"10.9.0.0/24\" oif = \"wg0\" masquerade = true",
     "from 10.9.0.0/24 oif wg0 masquerade"},
    {kNatTable + "POSTROUTING -o wg0 -j MASQUERADE --to-ports 1024-65535",
     "[[nat]] family = \"ipv4\" oif = \"wg0\" masquerade = true ports = \"1024-65535\"",
     "family ipv4 oif wg0 masquerade ports 1024-65535"},
    {"/sbin/ip6tables -t nat -I POSTROUTING 1 -o %i -j MASQUERADE",
     "[[nat]] family = \"ipv6\" oif = \"wg0\" masquerade = true", "family ipv6 oif wg0 masquerade"},
    {kNatTable +
         "POSTROUTING ! -d 10.0.0.0/8 -o %i -j SNAT --to-source 10.9.0.1-10.9.0.4:1024-2000",
     "[[nat]] to = \"!10.0.0.0/8\" oif = \"wg0\" snat = \"10.9.0.1-10.9.0.4\" ports = "
     "\"1024-2000\"",
     "to !10.0.0.0/8 oif wg0 snat 10.9.0.1-10.9.0.4 ports 1024-2000"},
    {kNatTable + "PREROUTING -i enp0s6 -p tcp --dport 2222 -j ACCEPT",
     "[[nat]] family = \"ipv4\" iif = \"host\" ipproto = \"tcp\" dport = 2222 none = true",
     "family ipv4 iif host ipproto tcp dport 2222 none"},
    {kNatTable + "PREROUTING -i enp0s6 -j DNAT --to-destination 10.0.18.2",
     "[[nat]] iif = \"host\" dnat = \"10.0.18.2\"", "iif host dnat 10.0.18.2"},
    {kNatTable + "PREROUTING -i %i -p tcp -m multiport --dports 80,8000:8010 -m comment --comment "
                 "\"to the web\" -j DNAT --to-destination 10.0.0.2:8080",
     "[[nat]] iif = \"wg0\" ipproto = \"tcp\" dport = [80, \"8000-8010\"] dnat = \"10.0.0.2\" port "
     "= "
     "8080",
     "iif wg0 ipproto tcp dport 80,8000-8010 dnat 10.0.0.2 port 8080"},
    {"sudo ip6tables -t nat -A PREROUTING -w -i %i -p udp ! --dport 53 -j DNAT --to-destination "
     "[fd00::2]:5353",
     "[[nat]] iif = \"wg0\" ipproto = \"udp\" dport = \"!53\" dnat = \"fd00::2\" port = 5353",
     "iif wg0 ipproto udp dport !53 dnat fd00::2 port 5353"},
    {"ip6tables -t nat -A PREROUTING -i %i -j DNAT --to-destination fd00::2",
     "[[nat]] iif = \"wg0\" dnat = \"fd00::2\"", "iif wg0 dnat fd00::2"},
    {"iptables -t nat -A PREROUTING ! -i %i -s 192.0.2.1 -j DNAT --to-destination 10.0.0.2",
     "[[nat]] iif = \"!wg0\" from = \"192.0.2.1\" dnat = \"10.0.0.2\"",
     "from 192.0.2.1/32 iif !wg0 dnat 10.0.0.2"},
    {kNatTable + "POSTROUTING -o eth0 -j MASQUERADE",
     "[[nat]] family = \"ipv4\" oif = \"host\" masquerade = true",
     "family ipv4 oif host masquerade"},
    // Not understood to the last word.
    {"iptables -A FORWARD -i %i -j ACCEPT", "", ""},
    {"iptables -t nat -D POSTROUTING -o %i -j MASQUERADE", "", ""},
    {kNatTable + "POSTROUTING -o %i -j MASQUERADE --random", "", ""},
    {kNatTable + "MINE -o %i -j MASQUERADE", "", ""},
    {kNatTable + "PREROUTING -i %i -m addrtype --dst-type LOCAL -j DNAT --to-destination 10.0.0.2",
     "", ""},
    {kNatTable + "PREROUTING -i %i -p tcp --dport 80 -j REDIRECT --to-ports 8080", "", ""},
    {kNatTable + "PREROUTING -i %i -d example.net -j DNAT --to-destination 10.0.0.2", "", ""},
    {kNatTable + "POSTROUTING -o", "", ""},
    {"nft add rule ip nat postrouting oifname %i masquerade", "", ""},
    {"iptables", "", ""},
    {"", "", ""},
};

TEST(ConfigWgNat, CommandsBesideTheirToml) {
  for (const Command& each : kCommands) {
    SCOPED_TRACE(each.command);
    const std::string toml = nat_replacement(each.command, "wg0").value_or("");
    EXPECT_EQ(toml, each.toml);
    if (toml.empty()) {
      continue;
    }
    const ReadResult result = read_toml(as_file(toml), "x.toml");
    EXPECT_TRUE(result.ok()) << to_text(result.errors.at(0)) << as_file(toml);
    ASSERT_EQ(result.config.nats.size(), 1u);
    EXPECT_EQ(nat_text(result.config.nats[0]), each.words);
  }
}

TEST(ConfigWgNat, Mss) {
  EXPECT_EQ(mss_replacement("iptables -A FORWARD -j TCPMSS --set-mss 1360", "wg0"),
            "[tunnel.wg0] mss = 1360");
  EXPECT_EQ(mss_replacement("iptables -A FORWARD -j TCPMSS --clamp-mss-to-pmtu", "wg0"),
            std::nullopt);
  EXPECT_EQ(mss_replacement("iptables -A FORWARD -j TCPMSS --set-mss", "wg0"), std::nullopt);
}

TEST(ConfigWgNat, HooksAreAnswered) {
  const std::string line = kNatTable + "POSTROUTING -o %i -j MASQUERADE; " + kNatTable +
                           "POSTROUTING -o eth0 -j MASQUERADE; iptables -A FORWARD -j TCPMSS "
                           "--set-mss 1360; iptables -A FORWARD -j TCPMSS --clamp-mss-to-pmtu";
  EXPECT_THAT(hook_replacements(line, "wg0"),
              ElementsAre(HasSubstr("[[nat]] family = \"ipv4\" oif = \"wg0\" masquerade = true"),
                          HasSubstr("[[nat]] family = \"ipv4\" oif = \"host\" masquerade = true"),
                          HasSubstr("[tunnel.wg0] mss = 1360"),
                          HasSubstr("clamps the MSS to its path MTU")));
}

// Whatever stands in a hook: an answer, and TOML that can be read where there is one.
TEST(ConfigWgNat, RandomCommands) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::vector<std::string> words = {"!", "\"", "-i", "0", "--", ""};
  for (const Command& each : kCommands) {
    for (size_t begin = 0; begin < each.command.size();) {
      const size_t end = std::min(each.command.find(' ', begin), each.command.size());
      words.push_back(each.command.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  for (int round = 0; round < 3000; ++round) {
    std::string command = kNatTable + "PREROUTING";
    for (size_t i = random() % 9; i > 0; --i) {
      command += " " + words[random() % words.size()];
    }
    EXPECT_FALSE(hook_replacements(command, "wg0").empty());
    if (const auto toml = nat_replacement(command, "wg0")) {
      EXPECT_TRUE(toml->starts_with("[[nat]]")) << command;
    }
  }
}

}  // namespace
}  // namespace sallyport::config
