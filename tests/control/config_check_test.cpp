// What check() says of configurations made by hand, beyond what a file's table of mistakes shows: bounds, long chains, and
// cycles against a walk that tries every path.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "control/config.h"
#include "control/limits.h"
#include "dataplane/table/rule_table.h"
#include "tests/control/config_texts.h"

namespace sallyport::config {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::string wrong(const Config& config) {
  std::vector<Problem> problems;
  check(config, problems);
  return all(problems);
}

Tunnel make_tunnel(const std::string& name) {
  Tunnel tunnel;
  tunnel.name = name;
  tunnel.private_key = {KeySource::Kind::file, "key", {}};
  tunnel.where = {"x.toml", 1};
  return tunnel;
}

Peer make_peer(const std::string& name, uint8_t key) {
  Peer peer;
  peer.name = name;
  peer.public_key[0] = key;
  peer.where = {"x.toml", key};
  return peer;
}

Exit make_group(const std::string& name, std::vector<std::string> members) {
  Exit exit;
  exit.name = name;
  exit.kind = Exit::Kind::group;
  for (std::string& member : members) {
    exit.members.push_back({std::move(member), 1});
  }
  return exit;
}

Exit make_host(const std::string& name) {
  Exit exit;
  exit.name = name;
  exit.kind = Exit::Kind::host;
  return exit;
}

Config two_tunnels() {
  Config config;
  config.tunnels = {make_tunnel("wg0"), make_tunnel("wg1")};
  config.tunnels[0].peers = {make_peer("alpha", 1), make_peer("beta", 2)};
  config.tunnels[1].peers = {make_peer("alpha", 1), make_peer("wg0/beta", 3)};
  return config;
}

TEST(ConfigCheck, AcceptsAnEmptyConfig) {
  EXPECT_EQ(wrong({}), "");
}

TEST(ConfigCheck, OneKeyInTwoTunnelsIsTwoPeers) {
  EXPECT_EQ(wrong(two_tunnels()), "");
}

TEST(ConfigCheck, FindsPeersByEitherName) {
  const Config config = two_tunnels();
  EXPECT_THAT(find_peers(config, "alpha"), SizeIs(2));
  EXPECT_THAT(find_peers(config, "wg1/alpha"), SizeIs(1));
  EXPECT_EQ(find_peers(config, "wg1/alpha")[0].tunnel, 1u);
  EXPECT_EQ(find_peers(config, "wg0/alpha")[0].tunnel, 0u);
  EXPECT_THAT(find_peers(config, "beta"), SizeIs(1));
  EXPECT_THAT(find_peers(config, "wg0/beta"), SizeIs(2))
      << "a peer's name may look like a long one";
  EXPECT_THAT(find_peers(config, "wg0"), IsEmpty());
  EXPECT_THAT(find_peers(config, "wg0/"), IsEmpty());
  EXPECT_THAT(find_peers(config, ""), IsEmpty());
}

TEST(ConfigCheck, AsksWhichPeerIsMeant) {
  Config config = two_tunnels();
  Rule rule;
  rule.action = Rule::Action::drop;
  rule.match.peer.values = {"alpha"};
  rule.where = {"x.toml", 9};
  config.rules = {rule};
  EXPECT_THAT(wrong(config), HasSubstr("x.toml:9: rule[1].peer: 'alpha' is more than one peer: "
                                       "'wg0/alpha', 'wg1/alpha'"));
}

TEST(ConfigCheck, NamesGivenTwice) {
  Config config;
  config.tunnels = {make_tunnel("wg0"), make_tunnel("wg0")};
  config.exits = {make_host("a"), make_host("a")};
  config.tables = {{"t", {}, {}}, {"t", {}, {}}};
  const std::string text = wrong(config);
  EXPECT_THAT(text, HasSubstr("tunnel.wg0: is there already, at x.toml:1"));
  EXPECT_THAT(text, HasSubstr("exit.a: is there already"));
  EXPECT_THAT(text, HasSubstr("table.t: is there already"));
}

TEST(ConfigCheck, OneListeningPortATunnel) {
  Config config = two_tunnels();
  config.tunnels[0].listen_port = config.tunnels[1].listen_port = 51820;
  EXPECT_THAT(wrong(config),
              HasSubstr("tunnel.wg1.listen_port: 51820 is the port of tunnel 'wg0'"));
  config.tunnels[0].listen_port = config.tunnels[1].listen_port = 0;
  EXPECT_EQ(wrong(config), "") << "any port is no port in common";
}

TEST(ConfigCheck, APrefixIsCapturedOnce) {
  Config config = two_tunnels();
  const IpPrefix everything = *parse_prefix("0.0.0.0/0");
  config.tunnels[0].capture.prefixes = {everything, everything};
  config.tunnels[1].capture.prefixes = {*parse_prefix("10.0.0.0/8")};
  EXPECT_EQ(wrong(config), "") << "a longer prefix may go elsewhere";
  config.tunnels[1].peers[0].allowed_ips = {everything};
  EXPECT_EQ(wrong(config), "") << "allowed-IPs that are not captured are nothing to the host";
  config.tunnels[1].capture.allowed_ips = true;
  EXPECT_THAT(wrong(config),
              HasSubstr("tunnel.wg1.capture: 0.0.0.0/0 is captured for tunnel 'wg0'"));
}

TEST(ConfigCheck, ASetIsCapturedOnce) {
  Config config = two_tunnels();
  Set set;
  set.name = "lan";
  set.file = "lan.txt";
  config.sets = {set};
  config.tunnels[0].capture.sets = {"lan"};
  EXPECT_EQ(wrong(config), "");
  config.tunnels[1].capture.sets = {"lan"};
  EXPECT_THAT(wrong(config), HasSubstr("@lan is captured for tunnel 'wg0'"));
}

TEST(ConfigCheck, PeersOfOneTunnelMayShareAPrefix) {
  Config config = two_tunnels();
  config.tunnels[0].capture.allowed_ips = true;
  config.tunnels[0].peers[0].allowed_ips = {*parse_prefix("::/0")};
  config.tunnels[0].peers[1].allowed_ips = {*parse_prefix("::/0")};
  EXPECT_EQ(wrong(config), "");
}

TEST(ConfigCheck, GroupsAndRulesAreBounded) {
  Config config;
  std::vector<std::string> members;
  for (size_t i = 0; i <= kGroupMembersMax; ++i) {
    config.exits.push_back(make_host("e" + std::to_string(i)));
    members.push_back(config.exits.back().name);
  }
  config.exits.push_back(make_group("g", members));
  EXPECT_THAT(wrong(config), HasSubstr("exit.g.group: a group has 1 to 255 members"));
  config.exits.back().members.pop_back();
  EXPECT_EQ(wrong(config), "");
  Rule rule;
  rule.action = Rule::Action::drop;
  config.rules.assign(kRulesMax, rule);
  EXPECT_EQ(wrong(config), "");
  config.rules.push_back(rule);
  EXPECT_THAT(wrong(config), HasSubstr("there are 4097 rules"));
}

TEST(ConfigCheck, ALongChainOfExitsIsNoTrouble) {
  constexpr size_t kLong = 50'000;
  Config config;
  for (size_t i = 0; i < kLong; ++i) {
    config.exits.push_back(make_group(std::to_string(i), {std::to_string(i + 1)}));
  }
  config.exits.push_back(make_host(std::to_string(kLong)));
  EXPECT_EQ(wrong(config), "");
  config.exits.back() = make_group(std::to_string(kLong), {"0"});
  const std::string text = wrong(config);
  EXPECT_THAT(text, HasSubstr("contains itself"));
  EXPECT_LT(text.size(), 1000u);
}

// Tries every path of at most so many steps.
bool reaches(const Config& config, size_t from, size_t to, size_t steps) {
  for (const Exit::Member& member : config.exits[from].members) {
    const size_t next = std::stoul(member.exit);
    if (next == to || (steps > 1 && reaches(config, next, to, steps - 1))) {
      return true;
    }
  }
  return false;
}

TEST(ConfigCheck, FindsACycleExactlyWhenThereIsOne) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  size_t with = 0;
  for (int round = 0; round < 500; ++round) {
    constexpr size_t kExits = 6;
    Config config;
    for (size_t i = 0; i < kExits; ++i) {
      config.exits.push_back(make_host(std::to_string(i)));
      std::vector<std::string> members;
      for (size_t j = 0; j < kExits; ++j) {
        if (random() % 6 == 0) {
          members.push_back(std::to_string(j));
        }
      }
      if (!members.empty()) {
        config.exits.back() = make_group(std::to_string(i), std::move(members));
      }
    }
    bool cycle = false;
    for (size_t i = 0; i < kExits; ++i) {
      cycle |= reaches(config, i, i, kExits);
    }
    with += cycle;
    EXPECT_EQ(wrong(config).find("contains itself") != std::string::npos, cycle)
        << "round " << round;
  }
  EXPECT_GT(with, 20u);
  EXPECT_LT(with, 480u);
}

TEST(ConfigCheck, ProblemsAreBounded) {
  Config config;
  Tunnel tunnel = make_tunnel("wg0");
  tunnel.peers.assign(3 * kConfigProblemsMax, make_peer("a", 1));
  config.tunnels = {tunnel};
  std::vector<Problem> problems;
  check(config, problems);
  EXPECT_THAT(problems, SizeIs(kConfigProblemsMax + 1));
}

TEST(ConfigNearest, IsTheSlipOfAFinger) {
  const std::vector<std::string_view> known = {"table",    "exit", "goto",
                                               "priority", "to",   "set_mark"};
  EXPECT_EQ(nearest("tabel", known), "table");
  EXPECT_EQ(nearest("TABLE", known), "table");
  EXPECT_EQ(nearest("prioritiy", known), "priority");
  EXPECT_EQ(nearest("prority", known), "priority");
  EXPECT_EQ(nearest("gotto", known), "goto");
  EXPECT_EQ(nearest("setmark", known), "set_mark");
  EXPECT_EQ(nearest("ot", known), "to");
  EXPECT_EQ(nearest("masquerade", known), "");
  EXPECT_EQ(nearest("x", known), "");
  EXPECT_EQ(nearest("", known), "");
  EXPECT_EQ(nearest("tabel", {}), "");
  EXPECT_EQ(nearest(std::string(1000, 'x'), known), "");
}

}  // namespace
}  // namespace sallyport::config
