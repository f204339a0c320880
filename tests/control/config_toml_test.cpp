// The TOML grammar: a file that says everything there is, and what holds for all errors (config_mistakes_test.cpp has each).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "control/config.h"
#include "control/limits.h"
#include "control/uapi.h"
#include "tests/control/config_texts.h"

namespace sallyport::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

IpPrefix prefix(std::string_view text) {
  return *parse_prefix(text);
}

const std::string kWhole = R"(
[host]
table = 181
from_mark = "0x51830"
to_mark = 0x51821
rule_priority = 5000
route_protocol = 99
manage = false

[tunnel.wg0]
private_key = ")" + kKeyA + R"("
listen_port = 51820
fwmark = 0x77
address = ["10.9.0.1/24", "2001:db8:9::1/64"]
mtu = 1400
capture = ["@lan", "192.0.2.0/24", "!192.0.2.128/25", "allowed_ips"]
underlay = "wan0"
resolver = ["192.0.2.53", "[2001:db8::53]:5353"]

[[tunnel.wg0.peer]]
name = "alpha one"
public_key = ")" + kKeyB + R"("
preshared_key_file = "psk"
endpoint = "vpn.example.net:51820"
allowed_ips = ["0.0.0.0/0", "::/0"]
persistent_keepalive = 25
lan = "only:lan"

[[tunnel.wg0.peer]]
public_key = ")" + kKeyC + R"("
endpoint = "[fe80::1%eth0]:51820"
persistent_keepalive = "off"
lan = "deny"

[tunnel.'wg.1']
private_key_credential = "wg1"
capture = "off"
fwmark = "off"

[set.lan]
prefixes = ["10.0.0.0/8", "!10.1.0.0/16"]
file = "lan.txt"
watch = true

[exit.a]
peer = "alpha one"
probe = "198.51.100.1"

[exit.b]
peer = "wg0/gN65BkIK"
probe = { target = "2001:db8::1", interval = 0.5, timeout = "250ms", up = 1, down = 5 }

[exit.t]
tunnel = "wg.1"

[exit.back]
port = "wg0"

[exit.pair]
group = ["a", "b", "host"]
when_down = "exit:drop"
sticky = "5m"

[exit.weighed]
group = [{ exit = "a", weight = 3 }, "b"]
mode = "weighted"
when_down = "unreachable"
sticky = 0

[table.out]
routes = [
  { to = "default", exit = "pair" },
  { to = ["10.0.0.0/8", "@lan"], exit = "host" },
]

[[rule]]
priority = 10
name = "dns"
family = "ipv4"
from = ["10.0.0.0/8", "@lan"]
to = "!@lan"
iif = ["wg0", "host:wg.1"]
peer = "!alpha one"
ipproto = ["tcp", "UDP", 132]
sport = "1024-65535"
dport = ["!53", "!5353-5355"]
fwmark = "0x10/0xf0"
tos = 0x10
set_mark = "0x1/0xff"
goto = 20

[[rule]]
priority = 20
lookup = "out"
suppress_prefixlength = 0

[[rule]]
priority = 30
family = 6
exit = "drop"

[[rule]]
priority = 40
action = "reject"
)";

ReadResult whole() {
  return read_toml(kWhole, "whole.toml");
}

TEST(ConfigToml, WholeFileHasNoProblems) {
  const ReadResult result = whole();
  EXPECT_TRUE(result.ok()) << all(result.errors);
  EXPECT_THAT(result.warnings, IsEmpty());
}

TEST(ConfigToml, ReadsTheHost) {
  const Host host = whole().config.host;
  EXPECT_EQ(host.table, 181u);
  EXPECT_EQ(host.from_mark, 0x51830u);
  EXPECT_EQ(host.to_mark, 0x51821u);
  EXPECT_EQ(host.rule_priority, 5000u);
  EXPECT_EQ(host.route_protocol, 99);
  EXPECT_FALSE(host.manage);
  EXPECT_EQ(host.where.line, 2u);
}

TEST(ConfigToml, AnEmptyFileHasTheDefaults) {
  const ReadResult result = read_toml("", "empty.toml");
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.config.host.table, 180u);
  EXPECT_EQ(result.config.host.from_mark, 0x51820u);
  EXPECT_FALSE(result.config.host.to_mark);
  EXPECT_TRUE(result.config.host.manage);
}

TEST(ConfigToml, ReadsTunnels) {
  const Config config = whole().config;
  ASSERT_THAT(config.tunnels, SizeIs(2));
  const Tunnel& wg0 = config.tunnels[0];
  EXPECT_EQ(wg0.name, "wg0");
  EXPECT_EQ(wg0.where.line, 10u);
  EXPECT_EQ(wg0.private_key.kind, KeySource::Kind::inline_text);
  EXPECT_EQ(wg0.private_key.text, kKeyA);
  EXPECT_EQ(wg0.private_key.where.line, 11u);
  EXPECT_EQ(wg0.listen_port, 51820);
  EXPECT_EQ(wg0.fwmark, 0x77u);
  ASSERT_THAT(wg0.addresses, SizeIs(2));
  EXPECT_EQ(to_text(wg0.addresses[0]), "10.9.0.1/24") << "host bits stay";
  EXPECT_EQ(wg0.mtu, 1400u);
  EXPECT_TRUE(wg0.capture.allowed_ips);
  EXPECT_THAT(wg0.capture.sets, ElementsAre("lan"));
  EXPECT_THAT(wg0.capture.prefixes, ElementsAre(prefix("192.0.2.0/24")));
  EXPECT_THAT(wg0.capture.holes, ElementsAre(prefix("192.0.2.128/25")));
  EXPECT_EQ(wg0.underlay, "wan0");
  EXPECT_THAT(wg0.resolvers, ElementsAre("192.0.2.53", "[2001:db8::53]:5353"));
  const Tunnel& wg1 = config.tunnels[1];
  EXPECT_EQ(wg1.name, "wg.1");
  EXPECT_EQ(wg1.private_key.kind, KeySource::Kind::credential);
  EXPECT_FALSE(wg1.capture.any());
  EXPECT_EQ(wg1.fwmark, 0u);
}

TEST(ConfigToml, ReadsPeers) {
  const Config config = whole().config;
  ASSERT_THAT(config.tunnels[0].peers, SizeIs(2));
  const Peer& alpha = config.tunnels[0].peers[0];
  EXPECT_EQ(alpha.name, "alpha one");
  EXPECT_EQ(base64_of(alpha.public_key), kKeyB);
  EXPECT_EQ(alpha.preshared_key.kind, KeySource::Kind::file);
  EXPECT_EQ(alpha.preshared_key.text, "psk");
  ASSERT_TRUE(alpha.endpoint);
  EXPECT_EQ(alpha.endpoint->host, "vpn.example.net");
  EXPECT_EQ(alpha.endpoint->port, 51820);
  EXPECT_FALSE(alpha.endpoint->numeric);
  EXPECT_THAT(alpha.allowed_ips, ElementsAre(prefix("0.0.0.0/0"), prefix("::/0")));
  EXPECT_EQ(alpha.persistent_keepalive, 25);
  EXPECT_EQ(alpha.lan, Peer::Lan::only);
  EXPECT_EQ(alpha.lan_set, "lan");
  const Peer& other = config.tunnels[0].peers[1];
  EXPECT_EQ(other.name, "gN65BkIK") << "without a name, the key's first characters";
  EXPECT_EQ(other.endpoint->host, "fe80::1%eth0");
  EXPECT_TRUE(other.endpoint->numeric);
  EXPECT_EQ(other.persistent_keepalive, 0);
  EXPECT_EQ(other.lan, Peer::Lan::deny);
}

TEST(ConfigToml, ReadsSets) {
  const Config config = whole().config;
  ASSERT_THAT(config.sets, SizeIs(1));
  const Set& lan = config.sets[0];
  ASSERT_THAT(lan.entries, SizeIs(2));
  EXPECT_EQ(lan.entries[0].prefix, prefix("10.0.0.0/8"));
  EXPECT_FALSE(lan.entries[0].hole);
  EXPECT_TRUE(lan.entries[1].hole);
  EXPECT_EQ(lan.file, "lan.txt");
  EXPECT_TRUE(lan.watch);
}

TEST(ConfigToml, ReadsExits) {
  const Config config = whole().config;
  ASSERT_THAT(config.exits, SizeIs(6));
  const Exit& a = config.exits[0];
  EXPECT_EQ(a.kind, Exit::Kind::peer);
  EXPECT_EQ(a.tunnel, "wg0") << "a short name is made long";
  EXPECT_EQ(a.peer, "alpha one");
  ASSERT_TRUE(a.probe);
  EXPECT_EQ(to_text(*a.probe->target), "198.51.100.1");
  EXPECT_EQ(a.probe->interval_ms, 1000u);
  const Exit& b = config.exits[1];
  EXPECT_EQ(b.tunnel, "wg0");
  EXPECT_EQ(b.peer, "gN65BkIK");
  EXPECT_EQ(b.probe->interval_ms, 500u);
  EXPECT_EQ(b.probe->timeout_ms, 250u);
  EXPECT_EQ(b.probe->up, 1u);
  EXPECT_EQ(b.probe->down, 5u);
  EXPECT_EQ(config.exits[2].kind, Exit::Kind::tunnel);
  EXPECT_EQ(config.exits[2].tunnel, "wg.1");
  EXPECT_EQ(config.exits[3].kind, Exit::Kind::port);
  EXPECT_EQ(config.exits[3].tunnel, "wg0");
}

TEST(ConfigToml, ReadsGroups) {
  const Config config = whole().config;
  const Exit& pair = config.exits[4];
  EXPECT_EQ(pair.kind, Exit::Kind::group);
  EXPECT_EQ(pair.mode, Exit::Mode::failover);
  ASSERT_THAT(pair.members, SizeIs(3));
  EXPECT_EQ(pair.members[2].exit, "host");
  EXPECT_EQ(pair.when_down, Exit::WhenDown::exit);
  EXPECT_EQ(pair.fallback, "drop");
  EXPECT_EQ(pair.sticky_s, 300u);
  const Exit& weighed = config.exits[5];
  EXPECT_EQ(weighed.mode, Exit::Mode::weighted);
  EXPECT_EQ(weighed.members[0].weight, 3u);
  EXPECT_EQ(weighed.members[1].weight, 1u);
  EXPECT_EQ(weighed.when_down, Exit::WhenDown::unreachable);
  EXPECT_EQ(weighed.sticky_s, 0u);
}

TEST(ConfigToml, ReadsTables) {
  const Config config = whole().config;
  ASSERT_THAT(config.tables, SizeIs(1));
  const auto& routes = config.tables[0].routes;
  ASSERT_THAT(routes, SizeIs(3)) << "a list with a set is two routes";
  EXPECT_THAT(routes[0].prefixes, ElementsAre(prefix("0.0.0.0/0"), prefix("::/0")));
  EXPECT_EQ(routes[0].exit, "pair");
  EXPECT_EQ(routes[1].set, "lan");
  EXPECT_EQ(routes[1].exit, "host");
  EXPECT_THAT(routes[2].prefixes, ElementsAre(prefix("10.0.0.0/8")));
  EXPECT_GT(routes[1].where.line, routes[0].where.line);
}

TEST(ConfigToml, ReadsConditionsOfRules) {
  const Config config = whole().config;
  ASSERT_THAT(config.rules, SizeIs(4));
  const Rule& rule = config.rules[0];
  EXPECT_EQ(rule.priority, 10u);
  EXPECT_EQ(rule.name, "dns");
  EXPECT_EQ(rule.match.family, Family::v4);
  EXPECT_THAT(rule.match.from.prefixes, ElementsAre(prefix("10.0.0.0/8")));
  EXPECT_THAT(rule.match.from.sets, ElementsAre("lan"));
  EXPECT_FALSE(rule.match.from.negated);
  EXPECT_THAT(rule.match.to.sets, ElementsAre("lan"));
  EXPECT_TRUE(rule.match.to.negated);
  EXPECT_THAT(rule.match.iif.values, ElementsAre("wg0", "host:wg.1"));
  EXPECT_THAT(rule.match.peer.values, ElementsAre("wg0/alpha one"));
  EXPECT_TRUE(rule.match.peer.negated);
  EXPECT_THAT(rule.match.protocols, ElementsAre(6, 17, 132));
  EXPECT_FALSE(rule.match.protocols_negated);
  EXPECT_THAT(rule.match.sport.ranges, ElementsAre(std::pair<uint16_t, uint16_t>(1024, 65535)));
  EXPECT_THAT(rule.match.dport.ranges, ElementsAre(std::pair<uint16_t, uint16_t>(53, 53),
                                                   std::pair<uint16_t, uint16_t>(5353, 5355)));
  EXPECT_TRUE(rule.match.dport.negated);
}

TEST(ConfigToml, ReadsMarksAndEffectsOfRules) {
  const Config config = whole().config;
  const Rule& rule = config.rules[0];
  EXPECT_EQ(rule.match.fwmark->value, 0x10u);
  EXPECT_EQ(rule.match.fwmark->mask, 0xf0u);
  EXPECT_EQ(rule.match.tos->value, 0x10u);
  EXPECT_EQ(rule.match.tos->mask, 0xfcu) << "ECN is not looked at";
  EXPECT_EQ(rule.set_mark->value, 1u);
  EXPECT_EQ(rule.set_mark->mask, 0xffu);
  EXPECT_EQ(rule.action, Rule::Action::go_to);
  EXPECT_EQ(rule.target, 20u);
  EXPECT_EQ(config.rules[1].action, Rule::Action::table);
  EXPECT_EQ(config.rules[1].table, "out");
  EXPECT_EQ(config.rules[1].suppress_prefixlength, 0);
  EXPECT_EQ(config.rules[2].action, Rule::Action::exit);
  EXPECT_EQ(config.rules[2].exit, "drop");
  EXPECT_EQ(config.rules[2].match.family, Family::v6);
  EXPECT_EQ(config.rules[3].action, Rule::Action::prohibit);
}

TEST(ConfigToml, ActionsHaveTheirOtherNames) {
  const std::pair<const char*, Rule::Action> names[] = {{"drop", Rule::Action::drop},
                                                        {"blackhole", Rule::Action::drop},
                                                        {"reject", Rule::Action::prohibit},
                                                        {"prohibit", Rule::Action::prohibit},
                                                        {"unreachable", Rule::Action::unreachable},
                                                        {"reset", Rule::Action::reset}};
  for (const auto& [name, action] : names) {
    const ReadResult result =
        read_toml("[[rule]]\npriority = 1\naction = \"" + std::string(name) + "\"\n", "x.toml");
    ASSERT_TRUE(result.ok()) << all(result.errors);
    EXPECT_EQ(result.config.rules[0].action, action) << name;
  }
}

TEST(ConfigToml, TellsEveryErrorInTheFilesOrder) {
  const ReadResult result = read_toml(
      "[host]\ntabel = 1\n" + std::string("[[rule]]\npriority = 1\nexit = \"a\"\ndport = 70000\n") +
          "[set.a]\n",
      "x.toml");
  EXPECT_EQ(all(result.errors).find("x.toml:2: host.tabel: "), 0u) << all(result.errors);
  ASSERT_THAT(result.errors, SizeIs(4));
  EXPECT_EQ(result.errors[1].key, "rule[1].exit");
  EXPECT_EQ(result.errors[2].key, "rule[1].dport");
  EXPECT_EQ(result.errors[3].key, "set.a");
}

TEST(ConfigToml, NeverShowsASecret) {
  const std::string secret = "sEcReTsEcReTsEcReTsEcReTsEcReTsEcReTsEcReTs!";
  const ReadResult result = read_toml("[tunnel.wg0]\nprivate_key = \"" + secret +
                                          "\"\n[[tunnel.wg0.peer]]\npublic_key = \"" + kKeyB +
                                          "\"\npreshared_key = \"" + secret + "x\"\n",
                                      "x.toml");
  EXPECT_THAT(result.errors, SizeIs(2));
  EXPECT_EQ(all(result.errors).find("sEcReT"), std::string::npos) << all(result.errors);
}

TEST(ConfigToml, NamesNoMoreThanItsShareOfProblems) {
  std::string text = "[set.a]\nprefixes = [\n";
  for (size_t i = 0; i < 2 * kConfigProblemsMax; ++i) {
    text += "\"x\",\n";
  }
  const ReadResult result = read_toml(text + "]\n", "x.toml");
  EXPECT_THAT(result.errors, SizeIs(kConfigProblemsMax + 1));
}

TEST(ConfigToml, StringsAndCommentsMayHoldAnything) {
  const ReadResult result =
      read_toml("\xef\xbb\xbf# \xc3\xa4 ''' \"\"\" " + std::string(200, '.') +
                    "\n[exit.\"\xc3\xa4 # ' . !\"]\nhost = true # \xef\xbb\x9f\n"
                    "[exit.'\xd0\x96\"']\ndrop = true",
                "x.toml");
  ASSERT_TRUE(result.ok()) << all(result.errors);
  EXPECT_EQ(result.config.exits.at(0).name, "\xc3\xa4 # ' . !");
  EXPECT_EQ(result.config.exits.at(1).name, "\xd0\x96\"");
}

TEST(ConfigToml, KeepsTheFilesOrder) {
  std::string text;
  for (const char* name : {"zeta", "alpha", "mid"}) {
    text += "[exit." + std::string(name) + "]\nhost = true\n";
  }
  const ReadResult result = read_toml(text, "x.toml");
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.config.exits[0].name, "zeta");
  EXPECT_EQ(result.config.exits[1].name, "alpha");
  EXPECT_EQ(result.config.exits[2].name, "mid");
}

}  // namespace
}  // namespace sallyport::config
