// What a reload would change: a base file, an edit of it, and the lines that must come out. Random edits: no change is missed,
// none is made up, and no secret is in a line.
#include "control/config_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "control/limits.h"

namespace sallyport::config {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* kSecret = "YAnz5TF+lXXJte14tji3zlMNftft3vy9P5gA3n3wJ0k=";
constexpr const char* kOtherSecret = "uJ3nBzGxwYvTnLTUB1TTU7k8vNd5A2CmuUD6mHw7/Uc=";

constexpr const char* kBase = R"(
[host]
table = 180

[tunnel.wglan]
private_key = "YAnz5TF+lXXJte14tji3zlMNftft3vy9P5gA3n3wJ0k="
listen_port = 51820
address = ["10.9.0.1/24", "fd00::1/64"]

[[tunnel.wglan.peer]]
name = "site-b"
public_key = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="
endpoint = "192.0.2.2:51820"
allowed_ips = ["10.9.0.2/32", "0.0.0.0/0"]

[[tunnel.wglan.peer]]
name = "site-c"
public_key = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA="
allowed_ips = ["10.9.0.3/32"]

[set.lan]
prefixes = ["10.0.0.0/8", "192.168.0.0/16", "!10.1.0.0/16"]

[exit.b]
peer = "wglan/site-b"
[exit.c]
peer = "wglan/site-c"

[table.main]
routes = [{ to = "198.51.100.0/24", exit = "b" }, { to = "@lan", exit = "c" }]

[[rule]]
priority = 100
from = "10.0.0.0/8"
dport = 53
exit = "b"

[[rule]]
priority = 200
lookup = "main"

[[rule]]
priority = 200
to = "@lan"
action = "drop"
)";

Config read(const std::string& text) {
  const ReadResult result = read_toml(text, "test.toml");
  for (const Problem& problem : result.errors) {
    ADD_FAILURE() << to_text(problem);
  }
  return result.config;
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return at == std::string::npos ? text : text.replace(at, what.size(), by);
}

std::vector<std::string> edit(const std::string& what, const std::string& by) {
  return diff(read(kBase), read(replaced(kBase, what, by)));
}

std::vector<std::string> add(const std::string& more) {
  return diff(read(kBase), read(std::string(kBase) + more));
}

TEST(ConfigDiff, TheSameFileChangesNothing) {
  EXPECT_THAT(diff(read(kBase), read(kBase)), IsEmpty());
  EXPECT_THAT(diff(read(kBase), read("\n\n# moved\n" + std::string(kBase))), IsEmpty());
  EXPECT_THAT(edit("\"10.0.0.0/8\", \"192.168.0.0/16\"", "\"192.168.0.0/16\", \"10.0.0.0/8\""),
              IsEmpty());
  EXPECT_THAT(edit("[\"10.9.0.2/32\", \"0.0.0.0/0\"]", "[\"0.0.0.0/0\", \"10.9.0.2/32\"]"),
              IsEmpty());
}

TEST(ConfigDiff, Host) {
  EXPECT_THAT(edit("table = 180", "table = 181\nto_mark = 0x51821\nmanage = false"),
              ElementsAre("host: table 180 -> 181", "host: to_mark none -> 0x51821",
                          "host: manage true -> false"));
}

TEST(ConfigDiff, Tunnels) {
  EXPECT_THAT(
      edit("listen_port = 51820", "listen_port = 0\nmtu = 1400\nfwmark = 7\nunderlay = \"eth0\""),
      ElementsAre("tunnel wglan: listen_port 51820 -> any",
                  "tunnel wglan: fwmark host.from_mark -> 0x7",
                  "tunnel wglan: mtu automatic -> 1400", "tunnel wglan: underlay none -> eth0"));
  EXPECT_THAT(edit("\"fd00::1/64\"", "\"fd00::2/64\""),
              ElementsAre("tunnel wglan: address fd00::2/64 added",
                          "tunnel wglan: address fd00::1/64 removed"));
  EXPECT_THAT(
      edit("listen_port = 51820", "listen_port = 51820\ncapture = [\"@lan\", \"!10.3.0.0/16\"]"),
      ElementsAre("tunnel wglan: capture !10.3.0.0/16, @lan added"));
  const std::string second = "[tunnel.wg1]\nprivate_key = \"" + std::string(kOtherSecret) +
                             "\"\naddress = \"10.8.0.1/24\"\n";
  EXPECT_THAT(add(second), ElementsAre("tunnel wg1 added: 10.8.0.1/24, 0 peers"));
  EXPECT_THAT(diff(read(kBase + second), read(kBase)), ElementsAre("tunnel wg1 removed"));
}

TEST(ConfigDiff, SecretsAreNotToldButThatTheyChange) {
  EXPECT_THAT(edit(kSecret, kOtherSecret), ElementsAre("tunnel wglan: the private key changes"));
  EXPECT_THAT(
      edit("private_key = \"" + std::string(kSecret) + "\"", "private_key_file = \"/etc/k\""),
      ElementsAre("tunnel wglan: the private key changes"));
  EXPECT_THAT(
      edit("endpoint =", "preshared_key = \"" + std::string(kOtherSecret) + "\"\nendpoint ="),
      ElementsAre("peer wglan/site-b: the preshared key is added"));
}

TEST(ConfigDiff, Peers) {
  EXPECT_THAT(edit("192.0.2.2:51820", "192.0.2.3:51820"),
              ElementsAre("peer wglan/site-b: endpoint 192.0.2.2:51820 -> 192.0.2.3:51820"));
  EXPECT_THAT(edit("endpoint = \"192.0.2.2:51820\"", "persistent_keepalive = 25\nlan = \"deny\""),
              ElementsAre("peer wglan/site-b: endpoint 192.0.2.2:51820 -> none",
                          "peer wglan/site-b: persistent_keepalive off -> 25",
                          "peer wglan/site-b: lan allow -> deny"));
  EXPECT_THAT(edit("[\"10.9.0.3/32\"]", "[\"10.9.0.4/32\", \"fd00::4/128\"]"),
              ElementsAre("peer wglan/site-c: allowed_ips 10.9.0.4/32, fd00::4/128 added",
                          "peer wglan/site-c: allowed_ips 10.9.0.3/32 removed"));
  // Another key under the same name, another name for the same key.
  EXPECT_THAT(
      edit("HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=",
           "LRnM0cjnJEvX4wfQ0zkVjrn6Z1QbCNRIO4sFkg2xA1U="),
      ElementsAre("peer wglan/site-b: public_key HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw= -> "
                  "LRnM0cjnJEvX4wfQ0zkVjrn6Z1QbCNRIO4sFkg2xA1U="));
  const std::string renamed = replaced(replaced(kBase, "name = \"site-c\"", "name = \"site-d\""),
                                       "peer = \"wglan/site-c\"", "peer = \"wglan/site-d\"");
  EXPECT_THAT(diff(read(kBase), read(renamed)),
              ElementsAre("peer wglan/site-d: name site-c -> site-d",
                          "exit c: peer wglan/site-c -> peer wglan/site-d"));
  const std::string more = R"([[tunnel.wglan.peer]]
name = "site-e"
public_key = "LRnM0cjnJEvX4wfQ0zkVjrn6Z1QbCNRIO4sFkg2xA1U="
endpoint = "[2001:db8::1]:51820"
allowed_ips = ["10.9.0.5/32"]
)";
  EXPECT_THAT(edit("[set.lan]", more + "[set.lan]"),
              ElementsAre("peer wglan/site-e added: LRnM0cjnJEvX4wfQ0zkVjrn6Z1QbCNRIO4sFkg2xA1U=, "
                          "endpoint [2001:db8::1]:51820, allowed_ips 10.9.0.5/32"));
  EXPECT_THAT(diff(read(replaced(kBase, "[set.lan]", more + "[set.lan]")), read(kBase)),
              ElementsAre("peer wglan/site-e removed"));
}

TEST(ConfigDiff, Sets) {
  EXPECT_THAT(edit("\"192.168.0.0/16\"", "\"172.16.0.0/12\", \"100.64.0.0/10\", \"fd00::/8\""),
              ElementsAre("set lan: 3 prefixes added, 1 removed"));
  EXPECT_THAT(edit("\"!10.1.0.0/16\"", "\"10.1.0.0/16\""),
              ElementsAre("set lan: 1 prefix added, 1 removed"));
  EXPECT_THAT(edit(", \"192.168.0.0/16\"", ""), ElementsAre("set lan: 1 prefix removed"));
  EXPECT_THAT(edit("[set.lan]", "[set.lan]\nfile = \"lan.txt\"\nwatch = true"),
              ElementsAre("set lan: file none -> lan.txt", "set lan: watch false -> true"));
  EXPECT_THAT(add("[set.more]\nfile = \"x\"\n[set.one]\nprefixes = [\"10.0.0.0/8\"]\n"),
              ElementsAre("set more added: 0 inline prefixes, file x", "set one added: 1 prefix"));
}

TEST(ConfigDiff, ExitsAndTables) {
  EXPECT_THAT(edit("[exit.b]\npeer = \"wglan/site-b\"", "[exit.b]\ntunnel = \"wglan\""),
              ElementsAre("exit b: peer wglan/site-b -> tunnel wglan"));
  EXPECT_THAT(add("[exit.d]\ngroup = [\"b\", \"c\"]\n"),
              ElementsAre("exit d added: failover b, c; closed when down; sticky 5m"));
  EXPECT_THAT(
      edit("{ to = \"198.51.100.0/24\", exit = \"b\" }",
           "{ to = \"198.51.100.0/24\", exit = \"c\" }, { to = \"default\", exit = \"b\" }"),
      ElementsAre("table main: route 0.0.0.0/0 exit b added",
                  "table main: route 198.51.100.0/24: exit b -> c",
                  "table main: route ::/0 exit b added"));
  EXPECT_THAT(edit(", { to = \"@lan\", exit = \"c\" }", ""),
              ElementsAre("table main: route @lan exit c removed"));
  std::string many;
  for (size_t i = 0; i <= kDiffRoutesMax; ++i) {
    many += ", { to = \"203.0.113." + std::to_string(i) + "\", exit = \"b\" }";
  }
  EXPECT_THAT(edit(", { to = \"@lan\", exit = \"c\" }", many),
              ElementsAre("table main: 21 routes added, 1 removed, 0 with another exit"));
}

TEST(ConfigDiff, Rules) {
  EXPECT_THAT(edit("exit = \"b\"\n\n[[rule]]", "exit = \"c\"\n\n[[rule]]"),
              ElementsAre("rule 100 (from 10.0.0.0/8 dport 53): exit b -> c"));
  EXPECT_THAT(
      edit("dport = 53", "dport = 5353"),
      ElementsAre("rule 100: from 10.0.0.0/8 dport 53 -> from 10.0.0.0/8 dport 5353 (exit b)"));
  EXPECT_THAT(
      edit("dport = 53\nexit = \"b\"", "dport = 5353\naction = \"drop\""),
      ElementsAre("rule 100: from 10.0.0.0/8 dport 53 exit b -> from 10.0.0.0/8 dport 5353 drop"));
  EXPECT_THAT(edit("priority = 100", "priority = 150"),
              ElementsAre("rule 100 removed: from 10.0.0.0/8 dport 53 exit b",
                          "rule 150 added: from 10.0.0.0/8 dport 53 exit b"));
  EXPECT_THAT(edit("priority = 100", "priority = 100\nname = \"dns\""),
              ElementsAre("rule 100 dns (from 10.0.0.0/8 dport 53): name none -> dns"));
  EXPECT_THAT(add("[[rule]]\npriority = 200\naction = \"drop\"\n"),
              ElementsAre("rule 200 added: from all drop"));
}

TEST(ConfigDiff, TheOrderOfRulesOfOnePriorityCounts) {
  const std::string first = "[[rule]]\npriority = 200\nlookup = \"main\"\n",
                    second = "[[rule]]\npriority = 200\nto = \"@lan\"\naction = \"drop\"\n";
  const std::string text =
      std::string(kBase).substr(0, std::string(kBase).find("[[rule]]\npriority = 200"));
  EXPECT_THAT(diff(read(text + first + second), read(text + second + first)),
              ElementsAre("rules of priority 200: their order changes"));
  EXPECT_THAT(diff(read(text + first + second), read(text + second)),
              ElementsAre("rule 200 removed: from all lookup main"));
}

TEST(ConfigDiff, AChangeBehindACutListIsAChange) {
  std::string ports = "[[rule]]\npriority = 300\nexit = \"b\"\ndport = [";
  for (int i = 1; i <= 30; ++i) {
    ports += std::to_string(i) + ",";
  }
  EXPECT_THAT(
      diff(read(kBase + ports + "99]\n"), read(kBase + ports + "98]\n")),
      ElementsAre("rule 300: dport 1,2,3,4,5,6,7,8,... (31 in all): members of its lists change"));
  Config from = read(kBase);
  from.exits.push_back({});
  Exit& big = from.exits.back();
  big.name = "big";
  big.kind = Exit::Kind::group;
  for (int i = 0; i < 9; ++i) {
    big.members.push_back({"m" + std::to_string(i), 1});
  }
  Config to = from;
  to.exits.back().members.back().exit = "other";
  EXPECT_THAT(diff(from, to), ElementsAre("exit big: members of the group change"));
}

// Any edit of any word shows, the way back shows too, and neither tells a secret.
TEST(ConfigDiff, RandomEditsShowAndTellNoSecret) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::vector<std::pair<std::string, std::string>> edits = {
      {"table = 180", "table = 77"},
      {kSecret, kOtherSecret},
      {"listen_port = 51820", "listen_port = 51821"},
      {"10.9.0.1/24", "10.9.0.9/24"},
      {"192.0.2.2:51820", "vpn.example:51820"},
      {"10.9.0.3/32", "10.9.0.4/32"},
      {"192.168.0.0/16", "192.168.0.0/17"},
      {"to = \"198.51.100.0/24\", exit = \"b\"", "to = \"198.51.100.0/24\", exit = \"c\""},
      {"dport = 53", "dport = 54"},
      {"action = \"drop\"", "action = \"reset\""},
  };
  for (int round = 0; round < 200; ++round) {
    std::string text = kBase;
    size_t made = 0;
    for (const auto& [what, by] : edits) {
      if (random() % 2 == 0) {
        text = replaced(text, what, by);
        ++made;
      }
    }
    const Config from = read(kBase), to = read(text);
    for (const auto& lines : {diff(from, to), diff(to, from)}) {
      EXPECT_GE(lines.size(), made);
      EXPECT_LE(lines.size(), 2 * made);
      for (const std::string& line : lines) {
        EXPECT_EQ(line.find(kSecret), std::string::npos) << line;
        EXPECT_EQ(line.find(kOtherSecret), std::string::npos) << line;
        EXPECT_EQ(line.find('\n'), std::string::npos) << line;
      }
    }
  }
}

}  // namespace
}  // namespace sallyport::config
