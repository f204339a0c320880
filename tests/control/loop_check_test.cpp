// The loop proof: a table of configurations with and without a loop, and random ones against packets that take the data
// plane's own stages, one by one.
#include "control/loop_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>

#include "control/build.h"
#include "control/explain.h"
#include "control/uapi.h"

namespace sallyport {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// "$key" becomes a public key, another one each time, "$private" a private one.
std::string with_keys(std::string text) {
  uint8_t number = 0;
  for (size_t at; (at = text.find('$')) != std::string::npos;) {
    const bool is_private = text.substr(at, 8) == "$private";
    KeyBytes key{};
    key[0] = static_cast<uint8_t>(8 * ++number);
    key[1] = is_private ? 1 : 2;
    text.replace(
        at, is_private ? 8 : 4,
        std::string(is_private ? "private_key" : "public_key") + " = \"" + base64_of(key) + "\"");
  }
  return text;
}

config::Config read(const std::string& text) {
  config::ReadResult read = config::read_toml(with_keys(text), "x.toml");
  for (const config::Problem& problem : read.errors) {
    ADD_FAILURE() << to_text(problem) << "\n" << text;
  }
  return std::move(read.config);
}

// These have inline entries alone.
SetEntries entries_of(const config::Config& config) {
  return [&config](const std::string& name) -> const std::vector<config::Set::Entry>& {
    return std::ranges::find(config.sets, name, &config::Set::name)->entries;
  };
}

std::string loops(const config::Config& config, uint64_t effort = kLoopEffortMax) {
  std::vector<config::Problem> problems;
  check_loops(config, entries_of(config), problems, effort);
  std::string text;
  for (const config::Problem& problem : problems) {
    text += to_text(problem) + "\n";
  }
  return text;
}

std::string loops(const std::string& text) {
  return loops(read(text));
}

// wg0 with one peer, an endpoint at 192.0.2.2.
std::string wg0(const std::string& keys, const std::string& peer_keys = "") {
  return "[tunnel.wg0]\n$private\n" + keys +
         "\n[[tunnel.wg0.peer]]\nname = \"a\"\n$key\nendpoint = \"192.0.2.2:51820\"\n" + peer_keys +
         "\n[exit.a]\npeer = \"wg0/a\"\n";
}

const std::string kToA = "[[rule]]\npriority = 100\nexit = \"a\"\n";
const std::string kCaptured = "capture = [\"192.0.2.0/24\"]\n";
const std::string kOff = "fwmark = \"off\"\n";

TEST(LoopCheck, SaysTheWholeWay) {
  EXPECT_EQ(
      loops(wg0("fwmark = 1\ncapture = [\"@lan\"]") + "[set.lan]\nprefixes = [\"192.0.2.0/24\"]\n" +
            kToA),
      "x.toml:5: tunnel.wg0: a loop: wg0 sends to a at 192.0.2.2:51820 (mark 0x1); the host routes "
      "that into wg0 (capture 192.0.2.0/24 of @lan); rule 100 (x.toml:14: from all exit a): it "
      "goes "
      "to wg0/a; wg0 seals again what it has sealed. Leave out fwmark, so that its datagrams carry "
      "host.from_mark (0x51820), or exclude the endpoint: tunnel.wg0.capture = [..., "
      "\"!192.0.2.2\"]\n");
}

struct Case {
  const char* what;
  std::string text;
  bool loop;
};

void check_cases(const std::vector<Case>& cases) {
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(std::to_string(i + 1) + ": " + cases[i].what);
    EXPECT_EQ(!loops(cases[i].text).empty(), cases[i].loop)
        << loops(cases[i].text) << cases[i].text;
  }
}

TEST(LoopCheck, TheHostsPart) {
  const std::string set = "[set.lan]\nprefixes = [\"192.0.2.0/24\", \"!192.0.2.2\"]\n";
  check_cases({
      {"the from-mark is not captured", wg0(kCaptured) + kToA, false},
      {"another mark is", wg0("fwmark = 7\n" + kCaptured) + kToA, true},
      {"and none", wg0(kOff + kCaptured) + kToA, true},
      {"other prefixes are not", wg0(kOff + "capture = [\"198.51.100.0/24\"]") + kToA, false},
      {"a hole", wg0(kOff + "capture = [\"192.0.2.0/24\", \"!192.0.2.2\"]") + kToA, false},
      {"a hole of the same length", wg0(kOff + "capture = [\"192.0.2.2\", \"!192.0.2.2\"]") + kToA,
       false},
      {"a shorter hole", wg0(kOff + "capture = [\"192.0.2.0/24\", \"!192.0.0.0/16\"]") + kToA,
       true},
      {"a hole of the set", wg0(kOff + "capture = [\"@lan\"]") + set + kToA, false},
      {"an underlay", wg0(kOff + "underlay = \"wan0\"\n" + kCaptured) + kToA, false},
      {"an underlay that is the tunnel", wg0("underlay = \"wg0\"\n") + kToA, true},
      {"the host is somebody else's", "[host]\nmanage = false\n" + wg0(kOff + kCaptured) + kToA,
       false},
      {"the endpoint is our own", wg0(kOff + "address = \"192.0.2.2/24\"\n" + kCaptured) + kToA,
       false},
      {"allowed-ips, all of it, without rules",
       wg0(kOff + "capture = [\"allowed_ips\"]", "allowed_ips = [\"0.0.0.0/0\"]"), true},
      {"as wg-quick would with its mark",
       wg0("capture = [\"allowed_ips\"]", "allowed_ips = [\"0.0.0.0/0\"]"), false},
      {"to-mark: without it", "[host]\nto_mark = 9\n" + wg0(kOff + kCaptured) + kToA, false},
      {"to-mark: with it", "[host]\nto_mark = 9\n" + wg0("fwmark = 9\n" + kCaptured) + kToA, true},
      {"to-mark: with it, elsewhere",
       "[host]\nto_mark = 9\n" + wg0("fwmark = 9\ncapture = [\"198.51.100.0/24\"]") + kToA, false},
  });
}

TEST(LoopCheck, TheRulesPart) {
  const auto rules = [](const std::string& text, const std::string& peer = "") {
    return wg0(kOff + kCaptured, peer) + text;
  };
  const auto rule = [](int priority, const std::string& keys) {
    return "[[rule]]\npriority = " + std::to_string(priority) + "\n" + keys + "\n";
  };
  const std::string drop = "action = \"drop\"", to_a = "exit = \"a\"";
  check_cases({
      {"nobody has the destination", rules(""), false},
      {"dropped before", rules(rule(1, drop + "\nto = \"192.0.2.0/25\"") + kToA), false},
      {"dropped by port", rules(rule(1, drop + "\nipproto = \"udp\"\ndport = 51820") + kToA),
       false},
      {"another port is dropped", rules(rule(1, drop + "\ndport = 51821") + kToA), true},
      {"only some sources are dropped", rules(rule(1, drop + "\nfrom = \"10.0.0.0/8\"") + kToA),
       true},
      {"all sources are",
       rules(rule(1, drop + "\nfrom = \"10.0.0.0/8\"") +
             rule(2, drop + "\nfrom = \"!10.0.0.0/8\"") + kToA),
       false},
      {"no packet has both sources",
       rules(rule(1, "set_mark = 1\nfrom = \"10.0.0.0/8\"") +
             rule(2, to_a + "\nfwmark = 1\nfrom = \"!10.0.0.0/8\"")),
       false},
      {"one has",
       rules(rule(1, "set_mark = 1\nfrom = \"10.0.0.0/8\"") +
             rule(2, to_a + "\nfwmark = 1\nfrom = \"10.1.0.0/16\"")),
       true},
      {"any source port, and one is dropped", rules(rule(1, drop + "\nsport = 51820") + kToA),
       true},
      {"the port is known",
       wg0("listen_port = 51820\n" + kOff + kCaptured) + rule(1, drop + "\nsport = 51820") + kToA,
       false},
      {"a handshake's tos alone", rules(rule(1, to_a + "\ntos = 0x88")), true},
      {"a tos that no datagram has", rules(rule(1, to_a + "\ntos = 0x10")), false},
      {"from a tunnel only", rules(rule(1, to_a + "\niif = \"wg0\"")), false},
      {"from the host", rules(rule(1, to_a + "\niif = \"host:wg0\"\npeer = \"!wg0/a\"")), true},
      {"from a peer only", rules(rule(1, to_a + "\npeer = \"wg0/a\"")), false},
      {"jumped over", rules(rule(1, "goto = 200") + kToA + rule(200, drop)), false},
      {"to the host", rules(rule(1, "exit = \"host\"") + kToA), false},
      {"no private destination", rules(kToA, "lan = \"deny\""), true},
      {"to the tunnel, which has no allowed-ips for it",
       rules("[exit.t]\ntunnel = \"wg0\"\n" + rule(1, "exit = \"t\"")), false},
      {"to the tunnel, which has",
       rules("[exit.t]\ntunnel = \"wg0\"\n" + rule(1, "exit = \"t\""),
             "allowed_ips = [\"192.0.2.2\"]"),
       true},
      {"a table's longest route",
       rules("[table.t]\nroutes = [{ to = \"default\", exit = \"a\" }, { to = \"192.0.2.2\", exit "
             "= \"host\" }]\n" +
             rule(1, "table = \"t\"")),
       false},
      {"a table's default route",
       rules("[table.t]\nroutes = [{ to = \"default\", exit = \"a\" }]\n" +
             rule(1, "table = \"t\"")),
       true},
      {"suppressed",
       rules("[table.t]\nroutes = [{ to = \"default\", exit = \"a\" }]\n" +
             rule(1, "table = \"t\"\nsuppress_prefixlength = 0")),
       false},
      {"a set's route",
       rules("[set.s]\nprefixes = [\"192.0.2.0/30\"]\n[table.t]\nroutes = [{ to = "
             "\"@s\", exit = \"a\" }, { to = \"192.0.2.0/24\", exit = \"host\" }]\n" +
             rule(1, "table = \"t\"")),
       true},
  });
}

TEST(LoopCheck, PrivateDestinations) {
  const auto with = [](const std::string& lan, const std::string& set) {
    std::string text = wg0(kOff + "capture = [\"10.0.0.0/8\"]", lan) + set + kToA;
    text.replace(text.find("192.0.2.2:"), 9, "10.1.2.3");
    return text;
  };
  check_cases({
      {"allowed", with("", ""), true},
      {"denied", with("lan = \"deny\"", ""), false},
      {"only others", with("lan = \"only:s\"", "[set.s]\nprefixes = [\"10.2.0.0/16\"]\n"), false},
      {"only these", with("lan = \"only:s\"", "[set.s]\nprefixes = [\"10.1.0.0/16\"]\n"), true},
  });
}

TEST(LoopCheck, Groups) {
  const auto group = [](const std::string& keys, const std::string& more = "") {
    return wg0(kOff + kCaptured) + "[exit.g]\n" + keys + "\n[exit.b]\npeer = \"wg1/b\"\n" + more +
           "[tunnel.wg1]\n$private\n[[tunnel.wg1.peer]]\nname = \"b\"\n$key\n" +
           "[[rule]]\npriority = 1\nexit = \"g\"\n";
  };
  check_cases({
      {"a member", group("group = [\"b\", \"a\"]"), true},
      {"a member behind one that never fails", group("group = [\"b\", \"host\", \"a\"]"), false},
      {"weighted, every member has its share",
       group("group = [\"host\", \"a\"]\nmode = \"weighted\""), true},
      {"when all are down", group("group = [\"b\"]\nwhen_down = \"exit:a\""), true},
      {"which they never are", group("group = [\"b\", \"drop\"]\nwhen_down = \"exit:a\""), false},
      {"a group in it", group("group = [\"h\", \"b\"]", "[exit.h]\ngroup = [\"b\", \"a\"]\n"),
       true},
      {"a group in it that never fails",
       group("group = [\"h\", \"a\"]", "[exit.h]\ngroup = [\"b\", \"host\"]\n"), false},
  });
}

// wg0's datagrams go into wg1, by which its peer is reached; `rule` says what becomes of them there.
std::string nested(const std::string& wg1, const std::string& rules) {
  return wg0(kOff) + "[tunnel.wg1]\n$private\n" + wg1 +
         "\ncapture = [\"192.0.2.0/24\"]\n[[tunnel.wg1.peer]]\nname = \"b\"\n$key\nendpoint = "
         "\"[2001:db8::2]:51821\"\n[exit.b]\npeer = \"wg1/b\"\n" +
         rules;
}

TEST(LoopCheck, ThroughASecondTunnel) {
  const std::string to_b = "[[rule]]\npriority = 1\nto = \"192.0.2.2\"\nexit = \"b\"\n";
  EXPECT_EQ(loops(nested("", to_b)), "") << "a tunnel within a tunnel ends";
  std::string back = nested(kOff, to_b + "[[rule]]\npriority = 2\niif = \"host\"\nexit = \"a\"\n");
  back.replace(back.find("\"192.0.2.0/24\""), 0, "\"2001:db8::/32\", ");
  const std::string text = loops(back);
  EXPECT_THAT(
      text,
      HasSubstr("tunnel.wg0: a loop: wg0 sends to a at 192.0.2.2:51820 (no mark); the host routes "
                "that into wg1 (capture 192.0.2.0/24); rule 1 "));
  EXPECT_THAT(
      text,
      HasSubstr(
          "it goes to wg1/b; wg1 seals that again and sends it to [2001:db8::2]:51821 (no mark); "
          "the host routes that into wg1 (capture 2001:db8::/32); rule 2 "));
  EXPECT_THAT(text, HasSubstr("it goes to wg0/a; wg0 seals again what it has sealed."));
  EXPECT_EQ(std::ranges::count(text, '\n'), 1) << "a loop is told once, wherever one begins\n"
                                               << text;
}

// wg0's datagrams are packets in wg1.
std::string through(const std::string& wg1_peer, const std::string& rules) {
  return wg0("via = \"wg1\"") +
         "[tunnel.wg1]\n$private\n[[tunnel.wg1.peer]]\nname = \"b\"\n$key\nendpoint = "
         "\"198.51.100.2:51821\"\n" +
         wg1_peer + "[exit.b]\npeer = \"wg1/b\"\n" + rules;
}

TEST(LoopCheck, ViaAnotherTunnel) {
  EXPECT_EQ(loops(through("allowed_ips = [\"192.0.2.0/24\"]\n", "")), "");
  EXPECT_EQ(loops(through("", "[[rule]]\npriority = 1\niif = \"host:wg1\"\nexit = \"b\"\n")), "");
  EXPECT_EQ(loops(through("allowed_ips = [\"192.0.2.0/24\"]\n",
                          "[[rule]]\npriority = 1\niif = \"host:wg0\"\nexit = \"a\"\n")),
            "")
      << "a rule for what comes into wg0 is none for what comes into wg1";
}

TEST(LoopCheck, ViaATunnelThatDoesNotTakeIt) {
  const std::string nothing =
      "x.toml:4: tunnel.wg0.via: nothing that wg0 sends to a at 192.0.2.2:51820 can leave by wg1: "
      "neither a rule nor the allowed-ips there take it to one of its peers\n";
  EXPECT_EQ(loops(through("allowed_ips = [\"10.0.0.0/8\"]\n", "")), nothing);
  EXPECT_EQ(loops(through("allowed_ips = [\"192.0.2.0/24\"]\n",
                          "[[rule]]\npriority = 1\nexit = \"host\"\n")),
            nothing);
}

TEST(LoopCheck, ViaARuleThatLeadsBack) {
  const std::string text = loops(through("allowed_ips = [\"192.0.2.0/24\"]\n",
                                         "[exit.g]\ngroup = [\"b\", \"a\"]\n"
                                         "[[rule]]\npriority = 7\nexit = \"g\"\n"));
  EXPECT_THAT(text, HasSubstr("tunnel.wg0: a loop: wg0 sends to a at 192.0.2.2:51820; that is a "
                              "packet in wg1 (via); rule 7 "));
  EXPECT_THAT(text,
              HasSubstr("it goes to wg0/a; wg0 seals again what it has sealed. Let a rule take "
                        "what iif = \"host:wg1\" brings to 192.0.2.2 to a peer of wg1"));
  EXPECT_EQ(std::ranges::count(text, '\n'), 1) << text;
}

TEST(LoopCheck, AnEndpointWithAScope) {
  const auto scoped = [](const std::string& scope) {
    std::string text = wg0(kOff + "capture = [\"fe80::/10\"]") + kToA;
    return text.replace(text.find("192.0.2.2:"), 9, "[fe80::2%" + scope + "]");
  };
  EXPECT_EQ(loops(scoped("wan0")), "");
  EXPECT_THAT(loops(scoped("wg0")), HasSubstr("into wg0 (the endpoint's scope)"));
}

TEST(LoopCheck, Loopback) {
  std::string text = wg0(kOff + "capture = [\"0.0.0.0/0\"]") + kToA;
  text.replace(text.find("192.0.2.2:"), 9, "127.0.0.1");
  EXPECT_EQ(loops(text), "");
}

TEST(LoopCheck, NamesAreAskedAboutWhenTheyAreKnown) {
  std::string text = wg0(kOff + kCaptured) + kToA;
  text.replace(text.find("192.0.2.2:"), 9, "vpn.example");
  const config::Config config = read(text);
  EXPECT_EQ(loops(config), "");
  const SetEntries entries = entries_of(config);
  const auto ask = [&](const char* tunnel, const char* address) {
    return loop_of(config, entries, tunnel, *parse_address(address), 51820).value_or("");
  };
  EXPECT_THAT(
      ask("wg0", "192.0.2.9"),
      HasSubstr("a loop: wg0 sends to 192.0.2.9:51820 (no mark); the host routes that into wg0"));
  EXPECT_EQ(ask("wg0", "198.51.100.1"), "");
  EXPECT_EQ(ask("wg7", "192.0.2.9"), "");
}

TEST(LoopCheck, NamesThatAreMetOnTheWay) {
  std::string text = nested(
      kOff,
      "[[rule]]\npriority = 1\niif = \"host:wg1\"\nto = \"192.0.2.2\"\nexit = \"b\"\n" + kToA);
  text.replace(text.find("[2001:db8::2]"), 13, "vpn.example");
  const config::Config config = read(text);
  const SetEntries entries = entries_of(config);
  const NameAddresses known = [](const std::string& host) {
    return std::vector{*parse_address(host == "vpn.example" ? "192.0.2.77" : "::1")};
  };
  const IpAddress a = *parse_address("192.0.2.2");
  EXPECT_FALSE(loop_of(config, entries, "wg0", a, 51820).has_value());
  EXPECT_THAT(loop_of(config, entries, "wg0", a, 51820, known).value_or(""),
              HasSubstr("192.0.2.77:51821"));
}

TEST(LoopCheck, GivesUpAloud) {
  const std::string text = wg0(kOff + kCaptured) + "[[rule]]\npriority = 1\naction = \"drop\"\n";
  EXPECT_EQ(loops(read(text)), "");
  EXPECT_THAT(loops(read(text), 3), HasSubstr("tunnel.wg0: the rules tell too many packets apart"));
}

// -- Random configurations

// What of a packet is not known makes a difference only by these: one of each kind that the rules below tell apart.
const std::vector<std::string> kSources4 = {"10.0.0.1", "10.1.0.1", "10.1.1.1", "192.0.2.1",
                                            "203.0.113.1"};
const std::vector<std::string> kSources6 = {"2001:db8::1", "2001:db8:1::1", "2001:db9::1"};
const std::vector<std::string> kPrefixes4 = {"10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24",
                                             "192.0.2.0/24", "0.0.0.0/0"};
const std::vector<std::string> kPrefixes6 = {"2001:db8::/32", "2001:db8:1::/48"};
const std::vector<std::string> kEndpoints = {"10.1.1.9:51820",      "10.1.2.9:51821",
                                             "192.0.2.2:51820",     "203.0.113.9:51820",
                                             "[2001:db8::2]:51820", "[2001:db8:1::2]:51821"};

class RandomConfig {
 public:
  explicit RandomConfig(unsigned seed) : random_(seed) {}

  std::string text() {
    tunnels_ = 1 + below(3);
    std::string out =
        likely(6) ? one_of({"[host]\nto_mark = 9\n", "[host]\nmanage = false\n"}) : "";
    for (unsigned i = 0; i < tunnels_; ++i) {
      out += tunnel(i);
    }
    out += set("s") + set("r") + exits() + table();
    for (unsigned i = 0; i < 1 + below(5); ++i) {
      out += rule(10 * i);
    }
    return out + "[[rule]]\npriority = 90\n" +
           (likely(2) ? "action = \"drop\"\n" : "set_mark = 1\n");
  }

 private:
  unsigned below(unsigned bound) { return static_cast<unsigned>(random_() % bound); }
  bool likely(unsigned one_in) { return below(one_in) == 0; }
  std::string one_of(const std::vector<std::string>& these) {
    return these[below(static_cast<unsigned>(these.size()))];
  }
  std::string prefix(bool v4) { return one_of(v4 ? kPrefixes4 : kPrefixes6); }
  std::string wg(unsigned i) { return "wg" + std::to_string(i); }

  std::string tunnel(unsigned i) {
    const std::string name = wg(i);
    std::string out = "[tunnel." + name + "]\n$private\n";
    const bool via = i > 0 && likely(4);
    out += via ? "via = \"" + wg(below(i)) + "\"\n" : "";
    out += via || likely(6) ? "" : likely(3) ? "fwmark = 9\n" : "fwmark = \"off\"\n";
    out += likely(2) ? "listen_port = " + std::to_string(51820 + i) + "\n" : "";
    out +=
        !via && likely(8) ? "underlay = \"" + one_of({"wan0", wg(below(tunnels_))}) + "\"\n" : "";
    std::string capture;
    // Of its own for each tunnel, or check() refuses it.
    for (size_t each = i; each < kPrefixes4.size(); each += tunnels_) {
      capture += !likely(4) ? "\"" + kPrefixes4[each] + "\", " : "";
    }
    for (size_t each = i; each < kPrefixes6.size(); each += tunnels_) {
      capture += !likely(4) ? "\"" + kPrefixes6[each] + "\", " : "";
    }
    capture += i == 0 && likely(3) ? "\"@s\", " : "";
    capture += likely(9) ? "\"allowed_ips\", " : "";
    if (!capture.empty()) {
      capture += likely(3) ? "\"!" + prefix(likely(2)) + "\"" : "";
      out += "capture = [" + capture + "]\n";
    }
    for (const char* peer : {"x", "y"}) {
      out += "[[tunnel." + name + ".peer]]\nname = \"" + peer + "\"\n$key\n";
      out += likely(6) ? "" : "endpoint = \"" + one_of(kEndpoints) + "\"\n";
      out += likely(2) ? "allowed_ips = [\"" + prefix(!likely(3)) + "\"]\n" : "";
      out += one_of({"", "", "lan = \"deny\"\n", "lan = \"only:s\"\n"});
    }
    return out;
  }

  std::string set(const std::string& name) {
    const bool v4 = !likely(3);
    const std::string inner = v4 ? "10.1.0.0/16" : "2001:db8:1::/48",
                      outer = v4 ? "10.0.0.0/8" : "2001:db8::/32";
    return "[set." + name + "]\nprefixes = [\"" + outer + "\", \"" + (likely(2) ? "!" : "") +
           inner + "\"]\n";
  }

  std::string exits() {
    std::string out;
    for (unsigned i = 0; i < tunnels_; ++i) {
      out += "[exit.x" + std::to_string(i) + "]\npeer = \"" + wg(i) + "/x\"\n";
    }
    out += "[exit.y]\npeer = \"" + wg(below(tunnels_)) + "/y\"\n";
    out += "[exit.t]\ntunnel = \"" + wg(below(tunnels_)) + "\"\n[exit.p]\nport = \"wg0\"\n";
    const auto members = [&](const std::string& third) {
      return "group = [\"" + one_of({"y", "host", "drop"}) + "\", \"x0\", \"" + third + "\"]\n" +
             one_of({"", "", "mode = \"weighted\"\n"}) +
             one_of({"", "when_down = \"exit:p\"\n", "when_down = \"exit:t\"\n"});
    };
    return out + "[exit.h]\n" + members("p") + "[exit.g]\n" + members("h");
  }
  std::string exit() {
    return one_of({"x0", "x" + std::to_string(tunnels_ - 1), "y", "t", "p", "h", "g", "host"});
  }

  std::string table() {
    return "[table.t]\nroutes = [{ to = \"" + one_of({"default", "10.0.0.0/8", "192.0.2.0/25"}) +
           "\", exit = \"" + exit() + "\" }, { to = \"" +
           one_of({"@s", "10.1.1.0/24", "2001:db8::/32"}) + "\", exit = \"" + exit() + "\" }]\n";
  }

  std::string rule(unsigned priority) {
    std::string out = "[[rule]]\npriority = " + std::to_string(priority) + "\n";
    const bool v4 = !likely(3);
    const std::string no = likely(3) ? "!" : "";
    out += likely(2)
               ? "from = [\"" + no + prefix(v4) + (likely(3) ? "\", \"" + no + "@r" : "") + "\"]\n"
               : "";
    out += likely(3) ? "to = \"" + one_of({"", "!"}) + one_of({prefix(v4), "@s"}) + "\"\n" : "";
    out += likely(6)
               ? "iif = " +
                     one_of({"\"wg0\"", "\"host\"", "\"host:wg0\"", "\"!host:wg0\"", "\"!wg0\""}) +
                     "\n"
               : "";
    out += likely(8) ? "peer = \"" + one_of({"", "!"}) + "wg0/x\"\n" : "";
    out += likely(5) ? "fwmark = \"" + one_of({"", "!"}) + one_of({"1", "0/1", "2/3", "0"}) + "\"\n"
                     : "";
    out += likely(6) ? "sport = \"" + one_of({"", "!"}) + one_of({"1-1000", "1000-2000", "51820"}) +
                           "\"\n"
                     : "";
    out += likely(6)
               ? "dport = \"" + one_of({"", "!"}) + one_of({"51820", "53", "51821-60000"}) + "\"\n"
               : "";
    out += likely(9)
               ? "ipproto = " + one_of({"\"udp\"", "[\"tcp\", \"udp\"]", "\"!udp\"", "\"!tcp\""}) +
                     "\n"
               : "";
    out += likely(9)
               ? "tos = \"" + one_of({"", "!"}) + one_of({"0x88", "1/0x3", "0", "0/0x1"}) + "\"\n"
               : "";
    out += likely(3) ? "set_mark = \"" + one_of({"1", "2/2", "0/1", "3"}) + "\"\n" : "";
    return out +
           one_of({"exit = \"" + exit() + "\"", "exit = \"" + exit() + "\"", "table = \"t\"",
                   "table = \"t\"\nsuppress_prefixlength = " + one_of({"0", "8", "24"}),
                   "goto = 90", "action = \"drop\"", "set_mark = 1"}) +
           "\n";
  }

  std::mt19937 random_;
  unsigned tunnels_ = 1;
};

// The same configuration in an engine, asked about one packet after the other.
class Packets {
 public:
  explicit Packets(const config::Config& config)
      : config_(config), engine_({.tunnels = static_cast<unsigned>(config.tunnels.size())}) {
    std::vector<config::Problem> errors;
    assets_.commit(assets_.prepare(config, errors));
    TunnelNumbers numbers;
    for (TunnelNumber i = 0; i < config.tunnels.size(); ++i) {
      numbers[config.tunnels[i].name] = i;
      auto change = build_tunnel(config, config.tunnels[i],
                                 [](const std::string&) { return std::vector<IpAddress>(); });
      EXPECT_TRUE(change && engine_.apply(*change, i));
      engine_.set_up(true, i);
    }
    auto built = build_policy(config, numbers, engine_, assets_);
    EXPECT_TRUE(built.has_value());
    engine_.set_policy(std::move(built->policy));
    for (const config::Rule& rule : config.rules) {
      asks_sources_ |= rule.match.from.asks();
      asks_ports_ |= !rule.match.sport.ranges.empty();
      asks_tos_ |= rule.match.tos.has_value();
    }
  }

  // The peers that seal a datagram of this port and destination when it comes into this tunnel from the host.
  std::set<std::pair<size_t, std::string>> sealed_by(size_t into, uint16_t listen_port,
                                                     const IpAddress& to, uint16_t port) {
    std::set<std::pair<size_t, std::string>> out;
    const std::vector<std::string>& sources = to.family == Family::v4 ? kSources4 : kSources6;
    std::vector<uint16_t> ports = {1, 1000, 1500, 40000, 51820};
    if (listen_port != 0) {
      ports = {listen_port};
    }
    for (size_t source = 0; source < (asks_sources_ ? sources.size() : 1); ++source) {
      for (size_t i = 0; i < (asks_ports_ ? ports.size() : 1); ++i) {
        for (const uint8_t tos :
             asks_tos_ ? std::vector<uint8_t>{0, 1, 2, 3, 0x88} : std::vector<uint8_t>{0}) {
          PacketQuery query;
          query.from = *parse_prefix(sources[source]);
          query.to = IpPrefix{to, static_cast<uint8_t>(to.bits())};
          query.protocol = 17;
          query.source_port = ports[i];
          query.destination_port = port;
          query.tos = tos;
          with_all_members({static_cast<TunnelNumber>(into), std::nullopt, make_packet(query)},
                           out);
        }
      }
    }
    return out;
  }

 private:
  // Kept to what does not always work, as control/exit_monitor.cpp does.
  bool can_fail(uint32_t exit) const {
    const Exit& at = engine_.policy()->exits[exit];
    return at.kind == ExitKind::peer || at.kind == ExitKind::tunnel ||
           (at.kind == ExitKind::group &&
            std::ranges::all_of(at.members,
                                [&](const ExitMember& member) { return can_fail(member.exit); }));
  }

  void with_all_members(const PacketToExplain& packet,
                        std::set<std::pair<size_t, std::string>>& out) {
    const Policy& policy = *engine_.policy();
    std::vector<uint32_t> failing;
    if (!ask(packet, out)) {
      return;  // no group was asked
    }
    // A weighted group goes by the flow: other sources that no rule can tell apart, by their last byte.
    PacketToExplain other = packet;
    for (uint8_t flow = 2; flow < 34; ++flow) {
      other.packet[other.packet[0] >> 4 == 4 ? 15 : 23] = flow;
      ask(other, out);
    }
    for (uint32_t i = 0; i < policy.exits.size(); ++i) {
      if (can_fail(i)) {
        failing.push_back(i);
      }
    }
    for (uint32_t dead = 1; dead < 1u << failing.size(); ++dead) {
      for (size_t i = 0; i < failing.size(); ++i) {
        policy.alive[failing[i]].store((dead >> i & 1) == 0);
      }
      ask(packet, out);
    }
    for (const uint32_t each : failing) {
      policy.alive[each].store(true);
    }
  }

  // True when a group had a say in it.
  bool ask(const PacketToExplain& packet, std::set<std::pair<size_t, std::string>>& out) {
    const auto told = engine_.explain(packet);
    EXPECT_TRUE(told.has_value());
    if (told->to_peer) {
      for (const config::Peer& peer : config_.tunnels[told->peer.tunnel].peers) {
        if (peer.public_key == told->peer.public_key) {
          out.emplace(told->peer.tunnel, peer.name);
        }
      }
    }
    bool group = false;
    for (size_t i = 0; i < std::min<size_t>(told->trace.count, Trace::kStepsMax); ++i) {
      group |= told->trace.steps[i].what == TraceStep::What::member;
    }
    return group;
  }

  const config::Config& config_;
  PolicyAssets assets_;  // outlives the policy
  Engine engine_;
  bool asks_sources_ = false, asks_ports_ = false, asks_tos_ = false;
};

bool is_in(const IpPrefix& prefix, const IpAddress& address) {
  return prefix.address.family == address.family &&
         parse_prefix(to_text(address) + "/" + std::to_string(prefix.length)) == prefix;
}

// The tunnel that the host's table has for it, found by trying lengths from the longest on.
std::optional<size_t> routed_into(const config::Config& config, const config::Tunnel& from,
                                  const IpAddress& to) {
  for (size_t i = 0; i < config.tunnels.size(); ++i) {
    if (config.tunnels[i].name == from.via) {
      return i;
    }
  }
  for (size_t i = 0; i < config.tunnels.size(); ++i) {
    if (config.tunnels[i].name == from.underlay) {
      return i;
    }
  }
  const uint32_t mark = from.fwmark.value_or(config.host.from_mark);
  if (!from.underlay.empty() || !config.host.manage ||
      (config.host.to_mark ? mark != *config.host.to_mark : mark == config.host.from_mark)) {
    return std::nullopt;
  }
  for (int length = 128; length >= 0; --length) {
    std::optional<size_t> into;
    bool hole = false;
    for (size_t i = config.tunnels.size(); i-- > 0;) {
      const config::Capture& capture = config.tunnels[i].capture;
      const auto hit = [&](const IpPrefix& prefix) {
        return prefix.length == length && is_in(prefix, to);
      };
      std::vector<IpPrefix> prefixes = capture.prefixes;
      hole |= std::ranges::any_of(capture.holes, hit);
      for (const config::Peer& peer : config.tunnels[i].peers) {
        if (capture.allowed_ips) {
          prefixes.insert(prefixes.end(), peer.allowed_ips.begin(), peer.allowed_ips.end());
        }
      }
      for (const std::string& set : capture.sets) {
        for (const config::Set::Entry& entry : entries_of(config)(set)) {
          hole |= entry.hole && hit(entry.prefix);
          if (!entry.hole) {
            prefixes.push_back(entry.prefix);
          }
        }
      }
      if (std::ranges::any_of(prefixes, hit)) {
        into = i;
      }
    }
    if (hole || into) {
      return hole ? std::nullopt : into;
    }
  }
  return std::nullopt;
}

// Does any walk come back to the tunnel that it began in? Packet by packet.
bool walks_back(const config::Config& config) {
  config::Config reversed =
      config;  // which of two peers with the same allowed-IPs comes first is not ours to know
  for (config::Tunnel& tunnel : reversed.tunnels) {
    std::ranges::reverse(tunnel.peers);
  }
  Packets packets(config), others(reversed);
  using Node = std::pair<size_t, std::string>;
  std::map<Node, std::set<Node>> edges;
  for (size_t i = 0; i < config.tunnels.size(); ++i) {
    for (const config::Peer& peer : config.tunnels[i].peers) {
      const IpAddress to = peer.endpoint ? *parse_address(peer.endpoint->host) : IpAddress{};
      const auto into = to.is_set() ? routed_into(config, config.tunnels[i], to) : std::nullopt;
      if (into) {
        std::set<Node>& next = edges[{i, peer.name}];
        for (Packets* each : {&packets, &others}) {
          next.merge(
              each->sealed_by(*into, config.tunnels[i].listen_port, to, peer.endpoint->port));
        }
      }
    }
  }
  for (const auto& [start, first] : edges) {
    std::set<Node> seen, now = first;
    while (!now.empty()) {
      const Node node = *now.begin();
      now.erase(now.begin());
      if (node.first == start.first) {
        return true;
      }
      if (seen.insert(node).second && edges.contains(node)) {
        now.insert(edges[node].begin(), edges[node].end());
      }
    }
  }
  return false;
}

TEST(LoopCheck, AgreesWithPacketsThatAreWalked) {
  const unsigned seed = std::random_device{}();
  int refused_by_check = 0, with_loop = 0, without = 0;
  for (unsigned round = 0; round < 120; ++round) {
    RandomConfig random(seed + round);
    const std::string text = with_keys(random.text());
    const config::ReadResult read = config::read_toml(text, "x.toml");
    if (!read.ok()) {  // such as a prefix that two tunnels capture
      ++refused_by_check;
      continue;
    }
    const bool found = loops(read.config).find("a loop: ") != std::string::npos;
    ++(found ? with_loop : without);
    ASSERT_EQ(found, walks_back(read.config)) << "seed " << seed + round << "\n"
                                              << loops(read.config) << text;
  }
  RecordProperty("with_loop", with_loop);
  RecordProperty("without", without);
  EXPECT_GT(with_loop, 5) << "seed " << seed;
  EXPECT_GT(without, 5) << "seed " << seed;
  EXPECT_LT(refused_by_check, 90) << "seed " << seed;
}

}  // namespace
}  // namespace sallyport
