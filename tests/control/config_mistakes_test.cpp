// The TOML grammar by its mistakes: each file has one, and the answer must be that one alone, with its line, its key and
// words that help.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "control/config.h"
#include "tests/control/config_texts.h"

namespace sallyport::config {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

struct Mistake {
  const char* what;
  std::string text;
  unsigned line;
  std::string key;
  std::string answer;
};

void PrintTo(const Mistake& mistake, std::ostream* out) {
  *out << mistake.what;
}

class ConfigMistakes : public testing::TestWithParam<Mistake> {};

TEST_P(ConfigMistakes, AreTheOnlyOneTold) {
  const Mistake& mistake = GetParam();
  const ReadResult result = read_toml(mistake.text, "x.toml");
  ASSERT_THAT(result.errors, SizeIs(1)) << mistake.what << "\n" << all(result.errors);
  const Problem& problem = result.errors[0];
  EXPECT_EQ(problem.where.file, "x.toml");
  EXPECT_EQ(problem.where.line, mistake.line) << to_text(problem);
  EXPECT_EQ(problem.key, mistake.key) << to_text(problem);
  EXPECT_THAT(problem.text, HasSubstr(mistake.answer));
}

std::string host(const std::string& line) {
  return "[host]\n" + line + "\n";
}
std::string tunnel(const std::string& line) {
  return "[tunnel.wg0]\nprivate_key_file = \"k\"\n" + line + "\n";
}
// wg1, and a wg0 whose keys begin at line 5.
std::string below(const std::string& lines) {
  return "[tunnel.wg1]\nprivate_key_file = \"k\"\n" + tunnel(lines);
}
std::string peer(const std::string& line) {
  return tunnel("[[tunnel.wg0.peer]]\npublic_key = \"" + kKeyB + "\"\n" + line);
}
std::string rule(const std::string& lines) {
  return "[[rule]]\npriority = 5\n" + lines + "\n";
}
std::string dropping(const std::string& line) {
  return rule("action = \"drop\"\n" + line);
}
std::string nat(const std::string& lines) {
  return "[[nat]]\n" + lines + "\n";
}
std::string filter(const std::string& line) {
  return "[[filter]]\naction = \"drop\"\n" + line + "\n";
}
std::string flows(const std::string& line) {
  return "[flows]\n" + line + "\n";
}
std::string exit_of(const std::string& lines) {
  return "[exit.x]\n" + lines + "\n";
}

const Mistake kSyntax[] = {
    {"no TOML", "[host\n", 1, "", "not TOML"},
    {"a key twice", "[host]\ntable = 1\ntable = 2\n", 3, "", "not TOML"},
    {"an unknown section", "[tunel.wg0]\n", 1, "tunel", "did you mean 'tunnel'?"},
    {"a key outside", "table = 5\n", 1, "table", "a table for each name"},
    {"a NAT without brackets", "[nat]\nmasquerade = true\n", 1, "nat", "[[nat]]"},
    {"a rule without brackets", "[rule]\npriority = 1\n", 1, "rule", "[[rule]]"},
    {"a key too deep", std::string(3000, '.') + "\n", 1, "", "too many dots"},
    {"a letter beyond ASCII", "[host]\nt\xc3\xa4t = 5\n", 2, "", "outside of a string"},
    {"one behind a string", "[set.\"\\\"#\"]\n# '\n= \xef\xbb\x9f\n", 3, "", "outside of a string"},
    {"one in a string that is none", "[host]\ntable = 1u\"\xc3\xa4\"\n", 2, "", "within a word"},
    {"several lines", "[set.a]\nfile = \"\"\"x\ny\"\"\"\n", 2, "", "several lines"},
    {"lists too deep", "a = " + std::string(40, '[') + std::string(40, ']') + "\n", 1, "",
     "too deeply"},
};

const Mistake kHost[] = {
    {"an unknown key", host("tabel = 5"), 2, "host.tabel", "did you mean 'table'?"},
    {"the host's own table", host("table = 254"), 2, "host.table", "254 main"},
    {"a table of no number", host("table = \"main\""), 2, "host.table", "is a string"},
    {"table 0", host("table = 0"), 2, "host.table", "1 to 4294967295"},
    {"a negative table", host("table = -1"), 2, "host.table", "1 to 4294967295"},
    {"no mark", host("from_mark = 0"), 2, "host.from_mark", "is no mark"},
    {"a negative mark", host("from_mark = -1"), 2, "host.from_mark", "is no mark"},
    {"marks alike", host("to_mark = 0x51820"), 2, "host.to_mark", "is from_mark too"},
    {"behind main", host("rule_priority = 32766"), 2, "host.rule_priority", "32765"},
    {"the kernel's protocol", host("route_protocol = 4"), 2, "host.route_protocol", "5 to 255"},
    {"no truth", host("manage = \"yes\""), 2, "host.manage", "true or false"},
};

const Mistake kTunnel[] = {
    {"no key", "[tunnel.wg0]\nlisten_port = 1\n", 1, "tunnel.wg0.private_key", "is missing"},
    {"a short key", "[tunnel.wg0]\nprivate_key = \"abc\"\n", 2, "tunnel.wg0.private_key",
     "this has 3"},
    {"a key in hexadecimal", "[tunnel.wg0]\nprivate_key = \"" + std::string(64, 'a') + "\"\n", 2,
     "tunnel.wg0.private_key", "is hexadecimal"},
    {"a key with a blank",
     "[tunnel.wg0]\nprivate_key = \"yAnz5TF+lXXJte14tji3 lMNq+hd2rYUIgJBgB3fBmk=\"\n", 2,
     "tunnel.wg0.private_key", "its character 21 "},
    {"a changed key",
     "[tunnel.wg0]\nprivate_key = \"yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBml=\"\n", 2,
     "tunnel.wg0.private_key", "more than 32 bytes"},
    {"two keys", tunnel("private_key = \"" + kKeyA + "\""), 2, "tunnel.wg0.private_key_file",
     "from one place"},
    {"a credential elsewhere", "[tunnel.wg0]\nprivate_key_credential = \"../x\"\n", 2,
     "tunnel.wg0.private_key_credential", "no '/'"},
    {"a key of no string", "[tunnel.wg0]\nprivate_key = 5\n", 2, "tunnel.wg0.private_key",
     "an integer"},
    {"a long name", "[tunnel.abcdefghijklmnop]\nprivate_key_file = \"k\"\n", 1,
     "tunnel.abcdefghijklmnop", "1 to 15 characters"},
    {"a name with a slash", "[tunnel.'a/b']\nprivate_key_file = \"k\"\n", 1, "tunnel.\"a/b\"",
     "no interface name"},
    {"called host", "[tunnel.host]\nprivate_key_file = \"k\"\n", 1, "tunnel.host", "not called"},
    {"a port too high", tunnel("listen_port = 65536"), 3, "tunnel.wg0.listen_port", "0 to 65535"},
    {"an unknown key", tunnel("adress = \"10.0.0.1/8\""), 3, "tunnel.wg0.adress",
     "did you mean 'address'?"},
    {"another's word", tunnel("dns = \"10.0.0.1\""), 3, "tunnel.wg0.dns", "'resolver'"},
    {"a bad address", tunnel("address = [\"10.0.0.1/33\"]"), 3, "tunnel.wg0.address[1]", "0 to 32"},
    {"a small MTU", tunnel("mtu = 100"), 3, "tunnel.wg0.mtu", "576 to 65455"},
    {"a bad mark", tunnel("fwmark = \"x\""), 3, "tunnel.wg0.fwmark", "is no mark"},
    {"an unknown set", tunnel("capture = \"@lan\""), 3, "tunnel.wg0.capture", "no set 'lan'"},
    {"capturing nonsense", tunnel("capture = \"all\""), 3, "tunnel.wg0.capture", "allowed_ips"},
    {"a hole of a set", tunnel("capture = [\"10.0.0.0/8\", \"!@x\"]"), 3, "tunnel.wg0.capture[2]",
     "holes are prefixes"},
    {"holes only", tunnel("capture = \"!10.0.0.0/8\""), 3, "tunnel.wg0.capture", "holes only"},
    {"off and on", tunnel("capture = [\"off\", \"10.0.0.0/8\"]"), 3, "tunnel.wg0.capture",
     "stands alone"},
    {"an empty list", tunnel("capture = []"), 3, "tunnel.wg0.capture", "leave the key out"},
    {"a bad underlay", tunnel("underlay = \"a b\""), 3, "tunnel.wg0.underlay", "no interface name"},
    {"no tunnel to go through", tunnel("via = \"wg1\""), 3, "tunnel.wg0.via",
     "did you mean 'wg0'?"},
    {"through itself", tunnel("via = \"wg0\""), 3, "tunnel.wg0.via", "within itself: wg0 via wg0"},
    {"through nothing", tunnel("via = \"\""), 3, "tunnel.wg0.via", "is empty"},
    {"an underlay and a tunnel", below("via = \"wg1\"\nunderlay = \"eth0\""), 5, "tunnel.wg0.via",
     "by one of them"},
    {"a mark that nobody sees", below("via = \"wg1\"\nfwmark = 7"), 6, "tunnel.wg0.fwmark",
     "is for the host"},
    {"a path MTU of a tunnel's", below("via = \"wg1\"\npath_mtu = 1400"), 6, "tunnel.wg0.path_mtu",
     "is the MTU of tunnel 'wg1'"},
    {"an MTU that does not fit", below("via = \"wg1\"\nmtu = 1400"), 6, "tunnel.wg0.mtu",
     "'wg1' carries 1420, and 80 of that are headers; at most 1340"},
    {"an MTU beyond the path's", tunnel("path_mtu = 1400\nmtu = 1400"), 4, "tunnel.wg0.mtu",
     "at most 1320"},
    {"no room for IPv6", tunnel("path_mtu = 1300\naddress = \"fd00::1/64\""), 3,
     "tunnel.wg0.path_mtu", "less than the 1280 that IPv6 needs"},
    {"a small path MTU", tunnel("path_mtu = 576"), 3, "tunnel.wg0.path_mtu", "636 to 65535"},
    {"a path MTU in words", tunnel("path_mtu = \"probe\""), 3, "tunnel.wg0.path_mtu",
     "\"measured\""},
    {"a small MSS", tunnel("mss = 500"), 3, "tunnel.wg0.mss", "536 to"},
    {"an MSS in words", tunnel("mss = \"pmtu\""), 3, "tunnel.wg0.mss", "\"clamp\""},
    {"a bad resolver", tunnel("resolver = \"dns.example.net\""), 3, "tunnel.wg0.resolver",
     "is no resolver"},
    {"a conf that is not there", tunnel("conf = \"/nonexistent/wg0.conf\""), 3, "tunnel.wg0.conf",
     "No such file"},
    {"a conf that is a directory", tunnel("conf = \"/\""), 3, "tunnel.wg0.conf", "it is no file"},
    {"a tunnel of no table", "[tunnel]\nwg0 = 5\n", 2, "tunnel.wg0", "where a table belongs"},
    {"tunnels of no table", "tunnel = 5\n", 1, "tunnel", "[tunnel.NAME]"},
};

const Mistake kPeer[] = {
    {"no key", tunnel("[[tunnel.wg0.peer]]\nname = \"a\""), 3, "tunnel.wg0.peer[1].public_key",
     "is missing"},
    {"a bad key", tunnel("[[tunnel.wg0.peer]]\npublic_key = \"a\""), 4,
     "tunnel.wg0.peer[1].public_key", "44 characters"},
    {"a key twice", peer("[[tunnel.wg0.peer]]\npublic_key = \"" + kKeyB + "\"\nname = \"b\""), 6,
     "tunnel.wg0.peer[2].public_key", "x.toml:3 too"},
    {"a name twice",
     peer("name = \"a\"\n[[tunnel.wg0.peer]]\npublic_key = \"" + kKeyC + "\"\nname = \"a\""), 8,
     "tunnel.wg0.peer[2].name", "x.toml:3 too"},
    {"a name that negates", peer("name = \"!a\""), 5, "tunnel.wg0.peer[1].name", "is no name"},
    {"one bracket", tunnel("[tunnel.wg0.peer]\npublic_key = \"" + kKeyB + "\""), 3,
     "tunnel.wg0.peer", "[[tunnel.wg0.peer]]"},
    {"no port", peer("endpoint = \"vpn.example.net\""), 5, "tunnel.wg0.peer[1].endpoint",
     "the port is missing"},
    {"port 0", peer("endpoint = \"vpn.example.net:0\""), 5, "tunnel.wg0.peer[1].endpoint",
     "1 to 65535"},
    {"v6 without brackets", peer("endpoint = \"2001:db8::1:51820\""), 5,
     "tunnel.wg0.peer[1].endpoint", "in brackets"},
    {"v4 in brackets", peer("endpoint = \"[192.0.2.1]:51820\""), 5, "tunnel.wg0.peer[1].endpoint",
     "IPv4 does not"},
    {"no address and no name", peer("endpoint = \"192.0.2.300:51820\""), 5,
     "tunnel.wg0.peer[1].endpoint", "neither an IPv4 address nor"},
    {"a name with a blank", peer("endpoint = \"a b:51820\""), 5, "tunnel.wg0.peer[1].endpoint",
     "letters, digits"},
    {"a name with two dots", peer("endpoint = \"a..b:51820\""), 5, "tunnel.wg0.peer[1].endpoint",
     "between the dots"},
    {"bad allowed-IPs", peer("allowed_ips = [\"10.0.0.0/8\", \"all\"]"), 5,
     "tunnel.wg0.peer[1].allowed_ips[2]", "not an IPv4 or IPv6 address"},
    {"keepalive 0", peer("persistent_keepalive = 0"), 5, "tunnel.wg0.peer[1].persistent_keepalive",
     "1 to 65535"},
    {"a long keepalive", peer("persistent_keepalive = 65536"), 5,
     "tunnel.wg0.peer[1].persistent_keepalive", "1 to 65535"},
    {"a small path MTU", peer("path_mtu = 0"), 5, "tunnel.wg0.peer[1].path_mtu", "636 to 65535"},
    {"no lan", peer("lan = \"no\""), 5, "tunnel.wg0.peer[1].lan", "\"only:SET\""},
    {"an unknown set", peer("lan = \"only:x\""), 5, "tunnel.wg0.peer[1].lan", "no set 'x'"},
    {"wg's spelling", peer("AllowedIPs = \"10.0.0.0/8\""), 5, "tunnel.wg0.peer[1].AllowedIPs",
     "did you mean 'allowed_ips'?"},
};

const Mistake kSetAndTable[] = {
    {"nothing in it", "[set.a]\n", 1, "set.a", "neither prefixes nor a file"},
    {"holes only", "[set.a]\nprefixes = \"!10.0.0.0/8\"\n", 2, "set.a.prefixes", "holes only"},
    {"a bad prefix", "[set.a]\nprefixes = [\"10.0.0.0/8\",\n\"10.0.0/8\"]\n", 3,
     "set.a.prefixes[2]", "'10.0.0'"},
    {"a set in a set", "[set.a]\nprefixes = \"@b\"\n", 2, "set.a.prefixes", "does not contain"},
    {"nothing to watch", "[set.a]\nprefixes = \"10.0.0.0/8\"\nwatch = true\n", 3, "set.a.watch",
     "no file to watch"},
    {"a name with a blank in front", "[set.' a']\nprefixes = \"10.0.0.0/8\"\n", 1, "set.\" a\"",
     "is no name"},
    {"a route without exit", "[table.a]\nroutes = [{ to = \"default\" }]\n", 2,
     "table.a.routes[1].exit", "is missing"},
    {"a route to nowhere", "[table.a]\nroutes = [{ exit = \"host\" }]\n", 2, "table.a.routes[1].to",
     "is missing"},
    {"a hole", "[table.a]\nroutes = [{ to = \"!10.0.0.0/8\", exit = \"host\" }]\n", 2,
     "table.a.routes[1].to", "a route has no '!'"},
    {"a route twice",
     "[table.a]\nroutes = [\n{ to = \"default\", exit = \"host\" },\n{ to = \"::/0\", exit = "
     "\"drop\" }]\n",
     4, "table.a.routes", "::/0 is routed already, at x.toml:3"},
    {"an unknown exit", "[table.a]\nroutes = [{ to = \"default\", exit = \"hots\" }]\n", 2,
     "table.a.routes", "did you mean 'host'?"},
    {"an unknown set", "[table.a]\nroutes = [{ to = \"@b\", exit = \"host\" }]\n", 2,
     "table.a.routes", "no set 'b'"},
    {"an unknown key",
     "[table.a]\nroutes = [{ to = \"default\", via = \"host\", exit = \"host\" "
     "}]\n",
     2, "table.a.routes[1].via", "there are: to, exit"},
};

const Mistake kExit[] = {
    {"nothing", exit_of(""), 1, "exit.x", "exactly one of"},
    {"two things", exit_of("host = true\ndrop = true"), 1, "exit.x", "more than one thing"},
    {"host = false", exit_of("host = false"), 2, "exit.x.host", "is true or not there"},
    {"built in", "[exit.host]\nhost = true\n", 1, "exit.host", "without being declared"},
    {"an unknown peer", exit_of("peer = \"a\""), 2, "exit.x.peer", "no peer 'a', nor any other"},
    {"a peer nearby", peer("name = \"alpha\"\n[exit.x]\npeer = \"wg0/alhpa\""), 7, "exit.x.peer",
     "did you mean 'wg0/alpha'?"},
    {"an unknown tunnel", exit_of("tunnel = \"wg0\""), 2, "exit.x.tunnel", "no tunnel 'wg0'"},
    {"an unknown port", tunnel("[exit.x]\nport = \"wg1\""), 4, "exit.x.port",
     "did you mean 'wg0'?"},
    {"an empty group", exit_of("group = []"), 2, "exit.x.group", "this has 0"},
    {"itself", exit_of("group = [\"x\"]"), 2, "exit.x.group", "x > x"},
    {"a member twice", exit_of("group = [\"host\", \"host\"]"), 2, "exit.x.group[2]", "twice"},
    {"an unknown member", exit_of("group = [\"drop\", \"hostt\"]"), 2, "exit.x.group[2]",
     "did you mean 'host'?"},
    {"weight without weights", exit_of("group = [{ exit = \"host\", weight = 2 }]"), 2,
     "exit.x.group[1].weight", "mode = \"weighted\""},
    {"weight 0", exit_of("mode = \"weighted\"\ngroup = [{ exit = \"host\", weight = 0 }]"), 3,
     "exit.x.group[1].weight", "1 to 65535"},
    {"no mode", exit_of("group = [\"host\"]\nmode = \"random\""), 3, "exit.x.mode",
     "\"failover\" or \"weighted\""},
    {"mode of no group", exit_of("host = true\nmode = \"failover\""), 3, "exit.x.mode",
     "a group only"},
    {"an unknown fallback", exit_of("group = [\"host\"]\nwhen_down = \"exit:a\""), 3,
     "exit.x.when_down", "no exit 'a'"},
    {"no fallback", exit_of("group = [\"host\"]\nwhen_down = \"open\""), 3, "exit.x.when_down",
     "\"exit:NAME\""},
    {"its own fallback", exit_of("group = [\"host\"]\nwhen_down = \"exit:x\""), 2, "exit.x.group",
     "contains itself"},
    {"sticky for no duration", exit_of("group = [\"host\"]\nsticky = \"long\""), 3, "exit.x.sticky",
     "is no duration"},
    {"sticky in part", exit_of("group = [\"host\"]\nsticky = 0.5"), 3, "exit.x.sticky",
     "whole seconds"},
    {"sticky too long", exit_of("group = [\"host\"]\nsticky = \"9999h\""), 3, "exit.x.sticky",
     "out of range"},
    {"probing the host", exit_of("host = true\nprobe = \"192.0.2.1\""), 3, "exit.x.probe",
     "is probed"},
    {"probing a name", tunnel("[exit.x]\ntunnel = \"wg0\"\nprobe = \"a.example.net\""), 5,
     "exit.x.probe", "not an IPv4 or IPv6 address"},
    {"probing at once", tunnel("[exit.x]\ntunnel = \"wg0\"\nprobe = { interval = 0 }"), 5,
     "exit.x.probe.interval", "10ms to"},
    {"probing never", tunnel("[exit.x]\ntunnel = \"wg0\"\nprobe = { up = 0 }"), 5,
     "exit.x.probe.up", "1 to 100"},
};

const Mistake kRule[] = {
    {"no priority", "[[rule]]\naction = \"drop\"\n", 1, "rule[1].priority", "is missing"},
    {"priority in words", "[[rule]]\npriority = \"5\"\naction = \"drop\"\n", 2, "rule[1].priority",
     "is a string"},
    {"nothing to do", rule("to = \"10.0.0.0/8\""), 1, "rule[1]", "does nothing"},
    {"two things to do", rule("exit = \"host\"\naction = \"drop\""), 4, "rule[1].action",
     "has exit already"},
    {"table and lookup", "[table.t]\n" + rule("table = \"t\"\nlookup = \"t\""), 5, "rule[1].lookup",
     "has table already"},
    {"an unknown table", rule("table = \"main\""), 3, "rule[1].table", "no table 'main'"},
    {"an unknown table by lookup", rule("lookup = \"main\""), 1, "rule[1].table",
     "no table 'main'"},
    {"an unknown exit", rule("exit = \"drpo\""), 3, "rule[1].exit", "did you mean 'drop'?"},
    {"an unknown action", rule("action = \"rejct\""), 3, "rule[1].action",
     "did you mean 'reject'?"},
    {"goto back", rule("goto = 5"), 3, "rule[1].goto", "forward only"},
    {"goto nowhere",
     rule("goto = 6") + rule("action = \"drop\"\n") + "[[rule]]\npriority = 9\n" +
         "action = \"drop\"\n",
     3, "rule[1].goto", "the next is 9"},
    {"a mixed list", dropping("to = [\"10.0.0.0/8\", \"!10.1.0.0/16\"]"), 4, "rule[1].to[2]",
     "either all begin with '!' or none"},
    {"from all", dropping("from = \"all\""), 4, "rule[1].from", "leave the key out"},
    {"an unknown set", dropping("from = \"!@x\""), 4, "rule[1].from", "no set 'x'"},
    {"a family", dropping("family = 5"), 4, "rule[1].family", "\"ipv4\" or \"ipv6\""},
    {"the wrong family", dropping("family = 4\nto = \"2001:db8::/32\""), 4, "rule[1].family",
     "other family"},
    {"both families", dropping("from = \"10.0.0.0/8\"\nto = \"::/0\""), 5, "rule[1].to",
     "different families"},
    {"an unknown interface", tunnel(dropping("iif = \"wg1\"")), 6, "rule[1].iif",
     "did you mean 'wg0'?"},
    {"an unknown host side", tunnel(dropping("iif = \"!host:wg1\"")), 6, "rule[1].iif",
     "did you mean 'wg0'?"},
    {"an unknown peer", dropping("peer = \"a\""), 4, "rule[1].peer", "no peer 'a'"},
    {"an unknown protocol", dropping("ipproto = \"tpc\""), 4, "rule[1].ipproto", "is no protocol"},
    {"a large protocol", dropping("ipproto = 256"), 4, "rule[1].ipproto", "is no protocol"},
    {"ports of ICMP", dropping("ipproto = \"icmp\"\ndport = 53"), 5, "rule[1].dport",
     "have no ports"},
    {"a large port", dropping("dport = 65536"), 4, "rule[1].dport", "is no port"},
    {"a range backwards", dropping("sport = \"20-10\""), 4, "rule[1].sport",
     "larger than its last"},
    {"a bit outside", dropping("fwmark = \"0x100/0xff\""), 4, "rule[1].fwmark", "outside its mask"},
    {"ECN", dropping("tos = 1"), 4, "rule[1].tos", "outside its mask"},
    {"a large tos", dropping("tos = 256"), 4, "rule[1].tos", "0 to 255"},
    {"no mask", dropping("fwmark = \"0/0\""), 4, "rule[1].fwmark", "looks at nothing"},
    {"a mark that is not", rule("set_mark = \"!5\""), 3, "rule[1].set_mark", "has no '!'"},
    {"suppress without table", dropping("suppress_prefixlength = 0"), 4,
     "rule[1].suppress_prefixlength", "belongs to a rule with a table"},
    {"nft's word", dropping("saddr = \"10.0.0.0/8\""), 4, "rule[1].saddr", "'from'"},
    {"an unknown key", dropping("uidrange = \"0-99\""), 4, "rule[1].uidrange", "there are: "},
};

const Mistake kNat[] = {
    {"tables of the host's",
     "[host]\ntable = 252\n[tunnel.wg0]\nprivate_key_file = \"k\"\n[flows]\n", 2, "host.table",
     "choose a smaller one"},
    {"no priorities left",
     "[host]\nrule_priority = 2\n[tunnel.wg0]\nprivate_key_file = \"k\"\n[flows]\n", 2,
     "host.rule_priority", "at least 3"},
    {"nothing to do", nat("dport = 53"), 1, "nat[1]", "says nothing of what to do"},
    {"two things", nat("masquerade = true\nnone = true"), 3, "nat[1].none", "has masquerade"},
    {"not to", nat("masquerade = false"), 2, "nat[1].masquerade", "true or not there"},
    {"an unknown key", nat("none = true\npriority = 5"), 3, "nat[1].priority", "no NAT key"},
    {"iptables' word", nat("to_source = \"192.0.2.1\"\nnone = true"), 2, "nat[1].to_source",
     "'snat'"},
    {"nft's word", nat("none = true\noifname = \"wg0\""), 3, "nat[1].oifname", "'oif'"},
    {"a bad name", nat("none = true\nname = \"!a\""), 3, "nat[1].name", "is no name"},
    {"an unknown set", nat("none = true\nfrom = \"@x\""), 3, "nat[1].from", "no set 'x'"},
    {"an unknown way out", tunnel(nat("none = true\noif = \"wg1\"")), 5, "nat[1].oif",
     "did you mean 'wg0'?"},
    {"an unknown exit", nat("none = true\nexit = \"hots\""), 3, "nat[1].exit",
     "did you mean 'host'?"},
    {"the exit that is none", nat("none = true\nexit = \"drop\""), 3, "nat[1].exit", "is gone"},
    {"a mixed list", nat("none = true\nexit = [\"host\", \"!host\"]"), 3, "nat[1].exit[2]",
     "either all"},
    {"both families", nat("none = true\nfrom = \"10.0.0.0/8\"\nto = \"::/0\""), 4, "nat[1].to",
     "different families"},
    {"nothing to masquerade by", tunnel(nat("oif = \"wg0\"\nmasquerade = true")), 5,
     "nat[1].masquerade", "'wg0' has no address"},
    {"nothing of the family",
     tunnel("address = \"10.0.0.1/8\"\n" + nat("oif = \"wg0\"\nfamily = 6\nmasquerade = true")), 7,
     "nat[1].masquerade", "has no IPv6 address"},
    {"no address", nat("snat = \"wg0\""), 2, "nat[1].snat", "not an IPv4 or IPv6 address"},
    {"a range backwards", nat("snat = \"192.0.2.9-192.0.2.1\""), 2, "nat[1].snat",
     "larger than its last"},
    {"a range over families", nat("snat = \"192.0.2.9-2001:db8::1\""), 2, "nat[1].snat",
     "from one family into the other"},
    {"a group's address", nat("snat = \"224.0.0.1\""), 2, "nat[1].snat", "no host can have"},
    {"a pool of two families", nat("snat = [\"192.0.2.1\", \"2001:db8::1\"]"), 2, "nat[1].snat",
     "both families"},
    {"the other family", nat("from = \"fd00::/8\"\nsnat = \"192.0.2.1\""), 3, "nat[1].snat",
     "is IPv4, and what matches is IPv6"},
    {"the other family of a destination", nat("family = 4\ndnat = \"fd00::2\""), 3, "nat[1].dnat",
     "is IPv6, and what matches is IPv4"},
    {"ports of dnat", nat("dnat = \"10.0.0.2\"\nports = \"1024-65535\""), 3, "nat[1].ports",
     "dnat has `port`"},
    {"a port of snat", nat("snat = \"192.0.2.1\"\nport = 80"), 3, "nat[1].port", "have `ports`"},
    {"port 0", nat("masquerade = true\nports = \"0-1023\""), 3, "nat[1].ports", "no port 0"},
    {"independent of nothing", nat("none = true\nendpoint_independent = true"), 3,
     "nat[1].endpoint_independent", "belongs to masquerade and snat"},
    {"paired with one", nat("masquerade = true\npaired = false"), 3, "nat[1].paired",
     "belongs to snat"},
    {"dnat behind the rules", tunnel(nat("dnat = \"10.0.0.2\"\noif = \"wg0\"")), 5, "nat[1].oif",
     "before the rules"},
    {"dnat by an exit", nat("dnat = \"10.0.0.2\"\nexit = \"host\""), 3, "nat[1].exit",
     "before the rules"},
    {"a destination that is a name", nat("dnat = \"web.example:80\"\ndport = 80"), 2, "nat[1].dnat",
     "is no destination"},
    {"two ports", nat("dnat = \"10.0.0.2:80\"\nport = 81\ndport = 80"), 3, "nat[1].port",
     "has a port already"},
    {"a port of what may have none", nat("dnat = \"10.0.0.2\"\nport = 80"), 3, "nat[1].port",
     "add dport"},
    {"ports of nothing", nat("dnat = \"10.0.0.2\"\nport = \"80-90\"\nipproto = \"tcp\""), 3,
     "nat[1].port", "one range in dport"},
    {"ports of another size", nat("dnat = \"10.0.0.2\"\nport = \"8000-8009\"\ndport = \"80-84\""),
     3, "nat[1].port", "has 10 ports, and dport has 5"},
    {"half a prefix translation", nat("nptv6 = { from = \"fd00::/48\" }"), 2, "nat[1].nptv6.to",
     "is missing"},
    {"IPv4 prefixes", nat("nptv6 = { from = \"10.0.0.0/8\", to = \"2001:db8::/48\" }"), 2,
     "nat[1].nptv6.from", "no IPv6 prefix"},
    {"prefixes of two lengths", nat("nptv6 = { from = \"fd00::/48\", to = \"2001:db8::/56\" }"), 2,
     "nat[1].nptv6", "of one length"},
    {"a prefix to itself", nat("nptv6 = { from = \"fd00::/48\", to = \"fd00::/48\" }"), 2,
     "nat[1].nptv6", "nothing would change"},
    {"one way only",
     nat("nptv6 = { from = \"fd00::/48\", to = \"2001:db8::/48\" }\niif = \"host\""), 2,
     "nat[1].nptv6", "no condition but oif"},
};

const Mistake kFilterAndFlows[] = {
    {"no action", "[[filter]]\ndport = 22\n", 1, "filter[1].action", "is missing"},
    {"an unknown action", "[[filter]]\naction = \"acept\"\n", 2, "filter[1].action",
     "did you mean 'accept'?"},
    {"an unknown state", filter("state = \"establised\""), 3, "filter[1].state",
     "did you mean 'established'?"},
    {"conntrack's word", filter("ctstate = \"new\""), 3, "filter[1].ctstate", "'state'"},
    {"no state at all", filter("state = [\"!new\", \"!established\", \"!related\", \"!invalid\"]"),
     3, "filter[1].state", "one of the four"},
    {"an unknown way out", tunnel(filter("oif = \"host:wg1\"")), 5, "filter[1].oif",
     "did you mean 'wg0'?"},
    {"ports of ICMP", filter("ipproto = \"icmp\"\nsport = 5"), 4, "filter[1].sport",
     "have no ports"},
    {"a state of a rule", dropping("state = \"new\""), 4, "rule[1].state", "no rule key"},
    {"few flows", flows("max = 10"), 2, "flows.max", "1024 to 16777216"},
    {"many flows", flows("max = 16777217"), 2, "flows.max", "1024 to 16777216"},
    {"no duration", flows("udp = \"soon\""), 2, "flows.udp", "is no duration"},
    {"parts of a second", flows("icmp = 1.5"), 2, "flows.icmp", "whole seconds"},
    {"never", flows("tcp_established = \"800h\""), 2, "flows.tcp_established", "out of range"},
    {"no way back", flows("reverse_path = true"), 2, "flows.reverse_path", "a string"},
    {"an unknown way back", flows("reverse_path = \"lose\""), 2, "flows.reverse_path", "\"loose\""},
    {"half a truth", flows("pickup = 1"), 2, "flows.pickup", "true or false"},
    {"rejecting by default", flows("filter_default = \"reject\""), 2, "flows.filter_default",
     "\"accept\" or \"drop\""},
    {"an unknown key", flows("udp_streams = 5"), 2, "flows.udp_streams",
     "did you mean 'udp_stream'?"},
};

INSTANTIATE_TEST_SUITE_P(Syntax, ConfigMistakes, testing::ValuesIn(kSyntax));
INSTANTIATE_TEST_SUITE_P(Host, ConfigMistakes, testing::ValuesIn(kHost));
INSTANTIATE_TEST_SUITE_P(Tunnel, ConfigMistakes, testing::ValuesIn(kTunnel));
INSTANTIATE_TEST_SUITE_P(Peer, ConfigMistakes, testing::ValuesIn(kPeer));
INSTANTIATE_TEST_SUITE_P(SetAndTable, ConfigMistakes, testing::ValuesIn(kSetAndTable));
INSTANTIATE_TEST_SUITE_P(Exit, ConfigMistakes, testing::ValuesIn(kExit));
INSTANTIATE_TEST_SUITE_P(Rule, ConfigMistakes, testing::ValuesIn(kRule));
INSTANTIATE_TEST_SUITE_P(Nat, ConfigMistakes, testing::ValuesIn(kNat));
INSTANTIATE_TEST_SUITE_P(FilterAndFlows, ConfigMistakes, testing::ValuesIn(kFilterAndFlows));

}  // namespace
}  // namespace sallyport::config
