// From a file to what the engine takes: every number of a policy means what the file's name does.
#include "control/build.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "dataplane/path/classify.h"
#include "tests/control/built_engine.h"

namespace sallyport::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;
using Kind = RuleAction::Kind;

const std::string kTunnels = R"([tunnel.wg0]
$private
address = ["10.9.0.1/24", "fd09::1/64", "10.8.0.1/24"]
[[tunnel.wg0.peer]]
name = "a"
$key
allowed_ips = ["0.0.0.0/0", "10.1.0.0/16"]
[[tunnel.wg0.peer]]
name = "b"
$key
allowed_ips = ["0.0.0.0/0", "::/0"]
lan = "only:lan"
[tunnel.wg1]
$private
[[tunnel.wg1.peer]]
name = "a"
$key
lan = "deny"
[set.lan]
prefixes = ["10.0.0.0/8", "!10.9.0.0/16"]
[set.other]
prefixes = ["192.0.2.0/24"]
)";

const std::string kExits = R"([exit.a0]
peer = "wg0/a"
[exit.b]
peer = "b"
[exit.a1]
peer = "wg1/a"
[exit.t]
tunnel = "wg1"
[exit.p]
port = "wg1"
[exit.h]
host = true
[exit.d]
drop = true
[exit.g]
group = [{ exit = "b", weight = 3 }, { exit = "a0" }, { exit = "drop" }]
mode = "weighted"
when_down = "exit:t"
sticky = 60
[exit.u]
group = ["a1"]
when_down = "unreachable"
[exit.c]
group = ["g", "host"]
)";

std::string rule(unsigned priority, const std::string& keys) {
  return "[[rule]]\npriority = " + std::to_string(priority) + "\n" + keys + "\n";
}

const std::string kDropRule = rule(1, "action = \"drop\"");

class BuildExits : public testing::Test {
 protected:
  const Exit& exit(const std::string& name) const { return built_.policy().exits[number(name)]; }
  uint32_t number(const std::string& name) const {
    const auto& names = built_.names.exits;
    EXPECT_EQ(std::ranges::count(names, name), 1) << name;
    return static_cast<uint32_t>(std::ranges::find(names, name) - names.begin());
  }
  BuiltEngine built_{kTunnels + kExits + kDropRule};
};

TEST_F(BuildExits, HaveTheFilesOrderAndThenTheBuiltInOnes) {
  EXPECT_THAT(built_.names.exits, ElementsAre("a0", "b", "a1", "t", "p", "h", "d", "g", "u", "c",
                                              "host", "drop", "unreachable"));
  ASSERT_THAT(built_.policy().exits, SizeIs(built_.names.exits.size()));
  EXPECT_EQ(exit("host").kind, ExitKind::host);
  EXPECT_EQ(exit("drop").kind, ExitKind::drop);
  EXPECT_EQ(exit("unreachable").kind, ExitKind::unreachable);
  EXPECT_EQ(exit("h").kind, ExitKind::host);
  EXPECT_EQ(exit("d").kind, ExitKind::drop);
  for (size_t i = 0; i < built_.names.exits.size(); ++i) {
    EXPECT_TRUE(built_.policy().alive[i].load()) << "until somebody says otherwise";
  }
}

TEST_F(BuildExits, LeadToPeersByTheirTags) {
  EXPECT_EQ(exit("a0").kind, ExitKind::peer);
  EXPECT_EQ(exit("a0").tag, built_.tag("wg0", "a"));
  EXPECT_EQ(exit("b").tag, built_.tag("wg0", "b"));
  EXPECT_EQ(exit("a1").tag, built_.tag("wg1", "a")) << "names of peers are their tunnel's";
  EXPECT_EQ(exit("a1").tunnel, built_.numbers.at("wg1"));
  EXPECT_THAT(built_.names.peers, SizeIs(3));
  for (const config::Tunnel& tunnel : built_.config.tunnels) {
    for (const config::Peer& peer : tunnel.peers) {
      EXPECT_EQ(*built_.engine.tag(peer.public_key, built_.numbers.at(tunnel.name)),
                built_.tag(tunnel.name, peer.name));
      EXPECT_EQ(built_.names.peer(built_.tag(tunnel.name, peer.name)),
                tunnel.name + "/" + peer.name);
    }
  }
  EXPECT_THAT(built_.names.peer(77), HasSubstr("not in the configuration"));
  EXPECT_EQ(built_.names.tunnel(1), "wg1");
  EXPECT_EQ(built_.names.tunnel(7), "tunnel 7");
}

TEST_F(BuildExits, SayWhatOfTheLanTheyMaySee) {
  EXPECT_EQ(exit("a0").lan, LanPolicy::allow);
  EXPECT_EQ(exit("a1").lan, LanPolicy::deny);
  EXPECT_EQ(exit("b").lan, LanPolicy::only);
  EXPECT_EQ(exit("b").lan_set, &built_.assets.set("lan"));
  EXPECT_EQ(exit("a1").lan_set, nullptr);
}

TEST_F(BuildExits, LeadIntoTunnelsAndOutOfPorts) {
  EXPECT_EQ(exit("t").kind, ExitKind::tunnel);
  EXPECT_EQ(exit("t").tunnel, built_.numbers.at("wg1"));
  EXPECT_EQ(exit("p").kind, ExitKind::port);
  EXPECT_EQ(exit("p").tunnel, built_.numbers.at("wg1"));
}

TEST_F(BuildExits, GroupsNameTheirMembersAndWhatIsLeft) {
  const Exit& group = exit("g");
  EXPECT_EQ(group.kind, ExitKind::group);
  EXPECT_EQ(group.mode, GroupMode::weighted);
  ASSERT_THAT(group.members, SizeIs(3));
  EXPECT_EQ(group.members[0].exit, number("b"));
  EXPECT_EQ(group.members[0].weight, 3u);
  EXPECT_EQ(group.members[1].exit, number("a0"));
  EXPECT_EQ(group.members[2].exit, number("drop")) << "a built-in one";
  EXPECT_EQ(group.when_down, number("t"));
  EXPECT_EQ(group.sticky_seconds, 60u);
  EXPECT_EQ(group.affinity, &built_.assets.affinity(built_.config.exits[7]));
  EXPECT_EQ(exit("u").when_down, number("unreachable"));
  EXPECT_EQ(exit("u").mode, GroupMode::failover);
  EXPECT_EQ(exit("c").when_down, kNoExit) << "closed";
  EXPECT_EQ(exit("c").members[0].exit, number("g"));
}

// Whoever calls an exit so must not get what a group closes with.
TEST(Build, AnExitThatIsCalledUnreachableIsNotTheBuiltInOne) {
  const std::string text =
      kTunnels +
      "[exit.unreachable]\npeer = \"b\"\n[exit.a]\npeer = \"wg0/a\"\n[exit.g]\ngroup = "
      "[\"a\"]\nwhen_down = \"unreachable\"\n" +
      rule(1, "exit = \"unreachable\"");
  const config::ReadResult read = config::read_toml(text_with_keys(text), "x.toml");
  if (!read.ok()) {
    return;  // it may be refused
  }
  BuiltEngine built(read.config);
  const Policy& policy = built.policy();
  EXPECT_EQ(policy.exits[policy.exits[2].when_down].kind, ExitKind::unreachable);
  EXPECT_EQ(policy.exits[policy.actions[0].target].kind, ExitKind::peer);
}

TEST(Build, TablesAndTheirRoutesBearTheFilesNumbers) {
  BuiltEngine built(kTunnels + kExits + R"([table.other]
routes = [{ to = "192.0.2.0/24", exit = "d" }]
[table.main]
routes = [
  { to = ["10.0.0.0/8", "2001:db8::/32"], exit = "a0" },
  { to = "@lan", exit = "b" },
  { to = "default", exit = "host" },
]
)" + rule(1, "table = \"main\"\nsuppress_prefixlength = 8") +
                    rule(2, "table = \"other\""));
  const Policy& policy = built.policy();
  EXPECT_THAT(built.names.tables, ElementsAre("other", "main"));
  ASSERT_THAT(policy.tables, SizeIs(2));
  std::vector<std::string> routes;
  for (const PolicyNames::Route& route : built.names.routes[1]) {
    routes.push_back(route.to + " " + route.exit);
  }
  EXPECT_THAT(routes, ElementsAre("10.0.0.0/8 a0", "2001:db8::/32 a0", "0.0.0.0/0 host",
                                  "::/0 host", "@lan b"))
      << "those of sets come last, as a trace counts them";
  EXPECT_EQ(built.names.routes[1][1].where.line, built.names.routes[1][0].where.line);
  EXPECT_EQ(built.names.routes[1][4].where.line, built.names.routes[1][0].where.line + 1);
  const RouteTable& table = *policy.tables[1];
  ASSERT_THAT(table.entries, SizeIs(4));
  for (size_t i = 0; i < table.entries.size(); ++i) {
    EXPECT_EQ(built.names.exits[table.entries[i].exit], built.names.routes[1][i].exit);
  }
  EXPECT_EQ(table.entries[1].length, 32);
  EXPECT_EQ(table.v4.lookup(0x0a010203), 0u) << "the number of the route";
  EXPECT_EQ(table.v4.lookup(0x08080808), 2u);
  ASSERT_THAT(table.set_routes, SizeIs(1));
  EXPECT_EQ(table.set_routes[0].set, &built.assets.set("lan"));
  EXPECT_EQ(built.names.exits[table.set_routes[0].exit], "b");
  EXPECT_EQ(policy.actions[0].kind, Kind::table);
  EXPECT_EQ(policy.actions[0].target, 1u);
  EXPECT_EQ(policy.actions[0].suppress_length, 8);
  EXPECT_EQ(policy.actions[1].target, 0u);
  EXPECT_EQ(policy.actions[1].suppress_length, -1) << "even a default route counts";
}

TEST(Build, RulesAreInPriorityOrderAndGotoFindsItsRule) {
  BuiltEngine built(kTunnels + rule(30, "name = \"last\"\naction = \"reset\"") +
                    rule(10, "name = \"jump\"\ngoto = 20") +
                    rule(15, "name = \"between\"\naction = \"unreachable\"") +
                    rule(20, "name = \"one\"\naction = \"prohibit\"") +
                    rule(20, "name = \"two\"\nset_mark = \"0x10/0xf0\""));
  std::vector<std::string> names;
  for (const config::Rule& each : built.names.rules) {
    names.push_back(each.name);
  }
  EXPECT_THAT(names, ElementsAre("jump", "between", "one", "two", "last"));
  const Policy& policy = built.policy();
  EXPECT_EQ(policy.actions[0].kind, Kind::go_to);
  EXPECT_EQ(policy.actions[0].target, 2u) << "the first of that priority";
  EXPECT_EQ(policy.actions[1].kind, Kind::unreachable);
  EXPECT_EQ(policy.actions[2].kind, Kind::prohibit);
  EXPECT_EQ(policy.actions[3].kind, Kind::none);
  EXPECT_EQ(policy.actions[3].mark_value, 0x10u);
  EXPECT_EQ(policy.actions[3].mark_mask, 0xf0u);
  EXPECT_EQ(policy.actions[4].kind, Kind::reset);
  EXPECT_NE(policy.rules, nullptr);
}

TEST(Build, ConditionsSayWhatTheFileSays) {
  BuiltEngine built(kTunnels +
                    rule(1,
                         "from = [\"10.0.0.0/8\", \"@lan\"]\nto = \"!@other\"\nipproto = [\"tcp\", "
                         "\"udp\"]\nsport = \"!1-1023\"\ndport = [53, \"8000-8080\"]\nfwmark = "
                         "\"!0x1/0x3\"\ntos = \"0x10\"\naction = \"drop\"") +
                    rule(2, "family = \"ipv6\"\npeer = [\"wg1/a\", \"b\"]\naction = \"drop\"") +
                    rule(3, "iif = \"host\"\naction = \"drop\"") +
                    rule(4, "iif = [\"!host:wg1\", \"!wg0\"]\naction = \"drop\""));
  const Policy& policy = built.policy();
  EXPECT_THAT(built.names.sets, ElementsAre("lan", "other"));
  EXPECT_THAT(policy.sets, ElementsAre(&built.assets.set("lan"), &built.assets.set("other")));
  const RuleConditions& all = policy.conditions[0];
  ASSERT_THAT(all.from.prefixes, SizeIs(1));
  EXPECT_EQ(all.from.prefixes[0].length, 8);
  EXPECT_EQ(all.from.prefixes[0].address[0], 10);
  EXPECT_TRUE(all.from.prefixes[0].v4);
  EXPECT_THAT(all.from.sets, ElementsAre(policy.sets[0]));
  EXPECT_FALSE(all.from.negated);
  EXPECT_THAT(all.to.sets, ElementsAre(policy.sets[1]));
  EXPECT_TRUE(all.to.negated);
  EXPECT_THAT(all.protocol.values, ElementsAre(6u, 17u));
  EXPECT_TRUE(all.sport.negated);
  EXPECT_EQ(all.sport.ranges[0].last, 1023);
  ASSERT_THAT(all.dport.ranges, SizeIs(2));
  EXPECT_EQ(all.dport.ranges[1].first, 8000);
  EXPECT_TRUE(all.mark.asks && all.mark.negated);
  EXPECT_EQ(all.mark.value, 1u);
  EXPECT_EQ(all.mark.mask, 3u);
  EXPECT_TRUE(all.tos.asks);
  EXPECT_EQ(all.tos.mask, 0xfcu);
  EXPECT_TRUE(all.v4);
  EXPECT_FALSE(policy.conditions[1].v4);
  EXPECT_TRUE(policy.conditions[1].v6);
  EXPECT_FALSE(policy.conditions[1].mark.asks);
  EXPECT_THAT(policy.conditions[1].peer.values,
              UnorderedElementsAre(built.tag("wg1", "a"), built.tag("wg0", "b")));
  EXPECT_THAT(policy.conditions[2].iif.values,
              UnorderedElementsAre(iif_number(0, true), iif_number(1, true)));
  EXPECT_THAT(policy.conditions[3].iif.values,
              UnorderedElementsAre(iif_number(1, true), iif_number(0, false)));
  EXPECT_TRUE(policy.conditions[3].iif.negated);
}

TEST(Build, ProbesHaveTheAddressThatTheirAnswersComeTo) {
  BuiltEngine built(kTunnels + R"([exit.none]
peer = "wg0/a"
[exit.four]
peer = "wg0/a"
probe = "192.0.2.1"
[exit.six]
peer = "b"
probe = "2001:db8::1"
[exit.handshakes]
peer = "b"
probe = { interval = "2s" }
[exit.bare]
peer = "wg1/a"
probe = "192.0.2.1"
)" + kDropRule);
  const Policy& policy = built.policy();
  ASSERT_THAT(built.probed, ElementsAre(1u, 2u, 4u));
  ASSERT_EQ(policy.probe_count, 3u);
  EXPECT_EQ(to_text(policy.probes[0].probe.source), "10.9.0.1") << "the first of its family";
  EXPECT_EQ(to_text(policy.probes[0].probe.target), "192.0.2.1");
  EXPECT_EQ(policy.probes[0].tag, built.tag("wg0", "a"));
  EXPECT_EQ(to_text(policy.probes[1].probe.source), "fd09::1");
  EXPECT_EQ(policy.probes[1].tag, built.tag("wg0", "b"));
  EXPECT_FALSE(policy.probes[2].probe.source.is_set()) << "wg1 has no address";
  EXPECT_NE(policy.probes[0].probe.tag, policy.probes[1].probe.tag);
}

TEST(Build, MoreRulesThanFitAreAnError) {
  config::Config config = config_of(kTunnels + kDropRule);
  config.rules.resize(kRulesMax + 1, config.rules[0]);
  Engine engine({.tunnels = 2});
  PolicyAssets assets;
  EXPECT_FALSE(build_policy(config, {{"wg0", 0}, {"wg1", 1}}, engine, assets).has_value());
}

// -- Tunnels

TEST(BuildTunnel, SharesThePrefixesThatTwoPeersHave) {
  const config::Config config = config_of(kTunnels);
  const auto change = build_tunnel(config, config.tunnels[0], no_addresses);
  ASSERT_TRUE(change.has_value());
  EXPECT_EQ(*change->private_key, *config::load_key(config.tunnels[0].private_key));
  EXPECT_EQ(change->fwmark, 0x51820u);
  ASSERT_THAT(change->peers, SizeIs(2));
  std::vector<std::string> found;
  for (const PeerChange& peer : change->peers) {
    EXPECT_TRUE(peer.replace_allowed_ips);
    EXPECT_FALSE(peer.endpoint.has_value());
    EXPECT_EQ(peer.preshared_key, KeyBytes{}) << "none, and one that was there goes";
    for (const AllowedIpChange& allowed : peer.allowed_ips) {
      found.push_back(to_text(allowed.prefix) + (allowed.shared ? " shared" : ""));
    }
  }
  EXPECT_THAT(found, ElementsAre("0.0.0.0/0 shared", "10.1.0.0/16", "0.0.0.0/0 shared", "::/0"));
}

TEST(BuildTunnel, TakesKeysMarksAndEndpoints) {
  KeyBytes preshared{};
  preshared[5] = 5;
  const config::Config config = config_of(
      "[host]\nfrom_mark = 7\n[tunnel.wg0]\n$private\nfwmark = 9\n[tunnel.wg1]\n$private\nfwmark = "
      "\"off\"\n[tunnel.wg2]\n$private\n[[tunnel.wg2.peer]]\nname = \"a\"\n$key\npreshared_key = "
      "\"" +
      base64_of(preshared) +
      "\"\nendpoint = \"192.0.2.1:51820\"\npersistent_keepalive = 25\n[[tunnel.wg2.peer]]\nname = "
      "\"b\"\n$key\nendpoint = \"[2001:db8::1]:51821\"\n[[tunnel.wg2.peer]]\nname = "
      "\"c\"\n$key\nendpoint = \"known.example:1\"\n[[tunnel.wg2.peer]]\nname = \"d\"\n$key\n"
      "endpoint = \"unknown.example:2\"\n");
  EXPECT_EQ(outer_mark(config, config.tunnels[0]), 9u);
  EXPECT_EQ(outer_mark(config, config.tunnels[1]), 0u);
  EXPECT_EQ(outer_mark(config, config.tunnels[2]), 7u);
  const auto known = [](const std::string& host) -> std::vector<IpAddress> {
    if (host == "known.example") {
      return {*parse_address("203.0.113.1"), *parse_address("203.0.113.2")};
    }
    return {};
  };
  const auto change = build_tunnel(config, config.tunnels[2], known);
  ASSERT_TRUE(change.has_value());
  EXPECT_EQ(change->fwmark, 7u);
  ASSERT_THAT(change->peers, SizeIs(4));
  EXPECT_EQ(change->peers[0].preshared_key, preshared);
  EXPECT_EQ(change->peers[0].persistent_keepalive, 25);
  EXPECT_EQ(change->peers[1].persistent_keepalive, 0) << "said, so that a former one ends";
  EXPECT_EQ(to_text(*change->peers[0].endpoint), "192.0.2.1:51820");
  EXPECT_EQ(to_text(*change->peers[1].endpoint), "[2001:db8::1]:51821");
  EXPECT_EQ(to_text(*change->peers[2].endpoint), "203.0.113.1:1");
  EXPECT_FALSE(change->peers[3].endpoint.has_value()) << "the name will be found later";
}

// -- Keys

class BuildKeys : public testing::Test {
 protected:
  BuildKeys() {
    char name[] = "/tmp/build_test.XXXXXX";
    folder_ = mkdtemp(name);
    KeyBytes key{};
    key[0] = 8;
    std::ofstream(folder_ / "good.key") << base64_of(key) << "\n";
    std::ofstream(folder_ / "bad.key") << "secret words\n";
  }
  ~BuildKeys() override {
    unsetenv("CREDENTIALS_DIRECTORY");
    std::filesystem::remove_all(folder_);
  }
  config::Config config(const std::string& keys, const std::string& peer_keys) {
    const std::string text =
        "[tunnel.wg0]\n" + keys + "\n[[tunnel.wg0.peer]]\nname = \"a\"\n$key\n" + peer_keys + "\n";
    config::ReadResult read = config::read_toml(text_with_keys(text), folder_ / "x.toml");
    EXPECT_EQ(lines_of(read.errors), "");
    return std::move(read.config);
  }
  static std::vector<config::Problem> check(const config::Config& config, bool credentials) {
    std::vector<config::Problem> errors;
    check_keys(config, credentials, errors);
    return errors;
  }
  std::filesystem::path folder_;
};

TEST_F(BuildKeys, InFilesAreLookedAt) {
  EXPECT_THAT(check(config("private_key_file = \"good.key\"", ""), false), IsEmpty());
  const config::Config both =
      config("private_key_file = \"none.key\"", "preshared_key_file = \"bad.key\"");
  const auto errors = check(both, false);
  ASSERT_THAT(errors, SizeIs(2));
  EXPECT_EQ(errors[0].where.line, 2u);
  EXPECT_EQ(errors[0].key, "tunnel.wg0.private_key");
  EXPECT_THAT(errors[0].text, HasSubstr("none.key"));
  EXPECT_EQ(errors[1].where.line, 6u);
  EXPECT_EQ(errors[1].key, "tunnel.wg0.a.preshared_key");
  EXPECT_THAT(lines_of(errors), Not(HasSubstr("secret words")));
  const auto change = build_tunnel(both, both.tunnels[0], no_addresses);
  ASSERT_FALSE(change.has_value());
  EXPECT_THAT(change.error().text, HasSubstr("x.toml:2: "));
}

TEST_F(BuildKeys, CredentialsAreLookedAtByTheServiceAlone) {
  const config::Config config =
      this->config("private_key_credential = \"good.key\"", "preshared_key_credential = \"psk\"");
  unsetenv("CREDENTIALS_DIRECTORY");
  EXPECT_THAT(check(config, false), IsEmpty());
  EXPECT_THAT(check(config, true), SizeIs(2));
  setenv("CREDENTIALS_DIRECTORY", folder_.c_str(), 1);
  const auto errors = check(config, true);
  ASSERT_THAT(errors, SizeIs(1));
  EXPECT_EQ(errors[0].where.line, 6u);
}

}  // namespace
}  // namespace sallyport::test
