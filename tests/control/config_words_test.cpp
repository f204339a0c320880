// Rules, routes and exits in words: a table of TOML beside what is said of it.
#include "control/config_words.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace sallyport::config {
namespace {

constexpr const char* kHead = R"(
[tunnel.wg0]
private_key = "YAnz5TF+lXXJte14tji3zlMNftft3vy9P5gA3n3wJ0k="
[[tunnel.wg0.peer]]
name = "site-b"
public_key = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="
[[tunnel.wg0.peer]]
name = "site-c"
public_key = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA="
[set.lan]
prefixes = ["10.0.0.0/8"]
[exit.b]
peer = "wg0/site-b"
[exit.c]
peer = "wg0/site-c"
[table.main]
routes = [{ to = "default", exit = "b" }]
)";

Config read(const std::string& more) {
  const ReadResult result = read_toml(kHead + more, "test.toml");
  for (const Problem& problem : result.errors) {
    ADD_FAILURE() << to_text(problem) << "\n" << more;
  }
  return result.config;
}

Rule rule_of(const std::string& keys) {
  const Config config =
      read("[[rule]]\npriority = 1\n" + keys + "\n[[rule]]\npriority = 9\naction = \"drop\"\n");
  return config.rules.empty() ? Rule{} : config.rules.front();
}

TEST(ConfigWords, RulesAreToldAsIpRuleDoes) {
  const std::pair<const char*, const char*> kRules[] = {
      {"exit = \"b\"", "from all exit b"},
      {"from = \"10.0.0.0/8\"\nexit = \"b\"", "from 10.0.0.0/8 exit b"},
      {"from = [\"10.0.0.0/8\", \"@lan\"]\nto = \"!@lan\"\nlookup = \"main\"",
       "from 10.0.0.0/8,@lan to !@lan lookup main"},
      {"to = [\"!10.0.0.0/8\", \"!2001:db8::/32\"]\ntable = \"main\"\nsuppress_prefixlength = 0",
       "to !10.0.0.0/8,!2001:db8::/32 lookup main suppress_prefixlength 0"},
      {"ipproto = \"udp\"\nsport = \"1000-2000\"\ndport = [53, \"5353\"]\nexit = \"b\"",
       "ipproto udp sport 1000-2000 dport 53,5353 exit b"},
      {"ipproto = [\"tcp\", 47]\ndport = \"!22\"\naction = \"reset\"",
       "ipproto tcp,gre dport !22 reset"},
      {"fwmark = \"0x1/0xff\"\nset_mark = \"0x10/0xf0\"\ngoto = 9",
       "fwmark 0x1/0xff set_mark 0x10/0xf0 goto 9"},
      {"fwmark = 7\nset_mark = 255", "fwmark 0x7 set_mark 0xff"},
      {"family = \"ipv6\"\ntos = \"0x10\"\naction = \"unreachable\"",
       "family ipv6 tos 0x10 unreachable"},
      {"iif = \"wg0\"\npeer = \"site-b\"\naction = \"reject\"", "iif wg0 peer wg0/site-b prohibit"},
      {"peer = [\"!site-b\", \"!site-c\"]\naction = \"blackhole\"",
       "peer !wg0/site-b,!wg0/site-c drop"},
  };
  for (const auto& [keys, words] : kRules) {
    EXPECT_EQ(rule_text(rule_of(keys)), words);
  }
}

TEST(ConfigWords, LongListsAreCutAndCounted) {
  std::string ports = "dport = [";
  for (int i = 1; i <= 20; ++i) {
    ports += std::to_string(i) + ",";
  }
  EXPECT_EQ(rule_text(rule_of(ports + "]\nexit = \"b\"")),
            "dport 1,2,3,4,5,6,7,8,... (20 in all) exit b");
}

TEST(ConfigWords, ExitsAndRoutes) {
  const Config config = read(R"(
[exit.out]
group = [{ exit = "b", weight = 3 }, "c"]
mode = "weighted"
[exit.spare]
group = ["b", "c"]
when_down = "exit:host"
sticky = 0
[exit.probed]
tunnel = "wg0"
probe = { target = "9.9.9.9", interval = "500ms", timeout = "2s" }
[exit.none]
drop = true
[table.other]
routes = [{ to = ["198.51.100.0/24", "@lan"], exit = "c" }, { to = "default", exit = "b" }]
)");
  const auto exit = [&](std::string_view name) -> std::string {
    for (const Exit& each : config.exits) {
      if (each.name == name) {
        return exit_text(each);
      }
    }
    return "not there";
  };
  EXPECT_EQ(exit("b"), "peer wg0/site-b");
  EXPECT_EQ(exit("out"), "weighted b 3, c 1; closed when down; sticky 5m");
  EXPECT_EQ(exit("spare"), "failover b, c; exit host when down; not sticky");
  EXPECT_EQ(exit("probed"),
            "tunnel wg0; probe ping 9.9.9.9 every 500ms (timeout 2s, up 2, down 3)");
  EXPECT_EQ(exit("none"), "drop");
  std::vector<std::string> routes;
  for (const Route& route : config.tables.back().routes) {
    routes.push_back(route_text(route));
  }
  EXPECT_EQ(routes,
            (std::vector<std::string>{"@lan exit c", "198.51.100.0/24 exit c", "default exit b"}));
}

TEST(ConfigWords, EndpointsHaveBracketsWhereTheyMust) {
  EXPECT_EQ(endpoint_text({"192.0.2.1", 51820, true}), "192.0.2.1:51820");
  EXPECT_EQ(endpoint_text({"2001:db8::1", 1, true}), "[2001:db8::1]:1");
  EXPECT_EQ(endpoint_text({"vpn.example", 1, false}), "vpn.example:1");
}

TEST(ConfigWords, Durations) {
  EXPECT_EQ(duration_text(0), "0s");
  EXPECT_EQ(duration_text(1500), "1500ms");
  EXPECT_EQ(duration_text(90'000), "90s");
  EXPECT_EQ(duration_text(300'000), "5m");
}

}  // namespace
}  // namespace sallyport::config
