// Thousands of configurations, each a few slips away from a valid one: refused with a place, or accepted and then fit for all
// that comes after: sets, the loop proof, building, and packets asked about.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <random>

#include "control/config.h"
#include "control/config_diff.h"
#include "control/loop_check.h"
#include "tests/control/built_engine.h"

namespace sallyport::test {
namespace {

using testing::IsEmpty;
using Lines = std::vector<std::string>;

const std::string kKeyA = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const std::string kKeyB = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const std::string kKeyC = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=";

// Every key of docs/config.md that opens no other file.
const std::string kAll = R"([host]
table = 190
from_mark = 0x51820
rule_priority = 5000
route_protocol = 181
[tunnel.wg0]
private_key = ")" + kKeyA +
                         R"("
listen_port = 51820
address = ["10.9.0.1/24", "fd09::1/64"]
mtu = 1420
capture = ["@lan", "198.51.100.0/24", "!198.51.100.7", "allowed_ips"]
resolver = "192.0.2.53"
[[tunnel.wg0.peer]]
name = "a"
public_key = ")" + kKeyB +
                         R"("
preshared_key = ")" + kKeyC +
                         R"("
endpoint = "198.51.100.7:51820"
allowed_ips = ["10.1.0.0/16", "fd01::/32"]
persistent_keepalive = 25
lan = "only:lan"
[[tunnel.wg0.peer]]
name = "b"
public_key = ")" + kKeyC +
                         R"("
endpoint = "[2001:db8::7]:51821"
allowed_ips = "10.2.0.0/16"
lan = "deny"
[tunnel.wg1]
private_key = ")" + kKeyB +
                         R"("
fwmark = "off"
underlay = "wan0"
[[tunnel.wg1.peer]]
public_key = ")" + kKeyA +
                         R"("
endpoint = "vpn.example:51820"
[set.lan]
prefixes = ["10.0.0.0/8", "!10.9.0.0/16", "fc00::/7"]
[set.more]
prefixes = "192.0.2.0/24"
[exit.a]
peer = "a"
probe = { target = "198.51.100.1", interval = "2s", timeout = "500ms", up = 3, down = 5 }
[exit.b]
peer = "wg0/b"
probe = "10.2.0.1"
[exit.t]
tunnel = "wg1"
[exit.p]
port = "wg0"
[exit.h]
host = true
[exit.d]
drop = true
[exit.g]
group = [{ exit = "a", weight = 3 }, { exit = "b" }]
mode = "weighted"
when_down = "exit:t"
sticky = "5m"
[exit.f]
group = ["g", "p", "drop"]
when_down = "unreachable"
sticky = 0
[table.main]
routes = [
  { to = "default", exit = "g" },
  { to = ["10.0.0.0/8", "2001:db8::/32"], exit = "host" },
  { to = "@more", exit = "t" },
]
[[rule]]
priority = 10
name = "mark"
iif = "host"
from = ["10.0.0.0/8", "@more"]
set_mark = "0x10/0xf0"
[[rule]]
priority = 20
peer = ["wg0/a", "b"]
family = "ipv4"
goto = 40
[[rule]]
priority = 30
to = "!@lan"
ipproto = ["tcp", "udp"]
dport = [53, "8000-8080"]
sport = "!1-1023"
action = "reject"
[[rule]]
priority = 40
fwmark = "0x10/0xf0"
tos = "0x10"
table = "main"
suppress_prefixlength = 0
[[rule]]
priority = 50
iif = ["wg0", "host:wg1"]
exit = "f"
[[rule]]
priority = 60
ipproto = "tcp"
action = "reset"
[[rule]]
priority = 60
family = "ipv6"
exit = "b"
[tunnel.wg2]
private_key = ")" + kKeyC +
                         R"("
via = "wg0"
mss = 1200
[[tunnel.wg2.peer]]
public_key = ")" + kKeyA +
                         R"("
path_mtu = 1400
endpoint = "inner.example:51820"
[[nat]]
name = "not these"
dport = [22, 51820]
none = true
[[nat]]
iif = "host"
ipproto = "tcp"
dport = "80-89"
dnat = "10.1.0.2"
port = "8000-8009"
[[nat]]
dport = 53
dnat = "[fd01::2]:5353"
[[nat]]
from = "@lan"
oif = "wg0"
masquerade = true
ports = "1024-65535"
endpoint_independent = true
[[nat]]
exit = ["!host", "!t"]
snat = ["192.0.2.1-192.0.2.9", "198.51.100.0/28"]
paired = false
[[nat]]
oif = "wg1"
nptv6 = { from = "fd00:1::/48", to = "2001:db8:1::/48" }
[[filter]]
name = "known"
state = ["established", "related"]
action = "accept"
[[filter]]
oif = "!host:wg0"
peer = "a"
state = "!new"
action = "reject"
[flows]
max = 65536
tcp_established = "3h"
tcp_transitory = 240
udp = 120
udp_stream = "5m"
icmp = 60
other = "10m"
reverse_path = "loose"
pickup = false
filter_default = "drop"
)";

const std::string kConf = R"([Interface]
PrivateKey = )" + kKeyA + R"(
ListenPort = 51820
FwMark = 0x51820
Address = 10.9.0.1/24, fd09::1/64
MTU = 1420
Table = auto
[Peer]
# laptop
PublicKey = )" + kKeyB + R"(
PresharedKey = )" + kKeyC +
                          R"(
Endpoint = 198.51.100.7:51820
AllowedIPs = 10.1.0.0/16, fd01::/32
PersistentKeepalive = 25
[Peer]
PublicKey = )" + kKeyC + R"(
AllowedIPs = 0.0.0.0/0
)";

Lines lines_in(const std::string& text) {
  Lines lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == ':' ||
         c == '/' || c == '@' || c == '!';
}

// Where a word of the line begins and how long it is; nothing in a line without one.
std::vector<std::pair<size_t, size_t>> words_in(const std::string& line) {
  std::vector<std::pair<size_t, size_t>> words;
  for (size_t i = 0; i < line.size();) {
    size_t end = i;
    while (end < line.size() && is_word(line[end])) {
      ++end;
    }
    if (end > i) {
      words.emplace_back(i, end - i);
    }
    i = std::max(end, i + 1);
  }
  return words;
}

class Slips {
 public:
  Slips(uint64_t seed, const Lines& from) : random_(seed), from_(from) {
    for (const std::string& line : from) {
      for (const auto& [at, length] : words_in(line)) {
        known_.push_back(line.substr(at, length));
        by_key_[key_of(line)].push_back(known_.back());
      }
    }
  }

  std::string text() {
    Lines lines = from_;
    for (size_t slips = below(3) == 0 ? 1 + below(4) : 1; slips > 0 && !lines.empty(); --slips) {
      slip(lines);
    }
    std::string text;
    for (const std::string& line : lines) {
      text += line + "\n";
    }
    return text;
  }
  size_t below(size_t bound) { return random_() % bound; }

 private:
  static std::string key_of(const std::string& line) { return line.substr(0, line.find('=')); }
  void slip(Lines& lines) {
    const size_t at = below(lines.size()), other = below(lines.size());
    const auto place = [&](size_t i) { return lines.begin() + static_cast<ptrdiff_t>(i); };
    switch (below(12)) {
      case 0:
        lines.erase(place(at));
        break;
      case 1: {
        const std::string line = lines[at];
        lines.insert(place(other), line);
        break;
      }
      case 2:
        std::swap(lines[at], lines[other]);
        break;
      case 3:
        lines[at].insert(below(lines[at].size() + 1), 1, "\"[]{}=,!@#\\ \t-\x01\xff"[below(16)]);
        break;
      case 4:
        if (!lines[at].empty()) {
          lines[at].erase(below(lines[at].size()), 1);
        }
        break;
      default:
        change_word(lines[at]);
    }
  }
  void change_word(std::string& line) {
    static const Lines kStrange = {"0",
                                   "1",
                                   "-1",
                                   "4",
                                   "255",
                                   "256",
                                   "65535",
                                   "65536",
                                   "4294967295",
                                   "4294967296",
                                   "99999999999999999999",
                                   "0x",
                                   "",
                                   "10.0.0.0/33",
                                   "::/0",
                                   "0.0.0.0/0",
                                   "!10.0.0.0/8",
                                   "@lan",
                                   "@nobody",
                                   "host",
                                   "drop",
                                   "wg0",
                                   "wg0/a",
                                   "true",
                                   "off",
                                   "1ms",
                                   "g",
                                   "f",
                                   "default",
                                   "127.0.0.1",
                                   "fe80::1",
                                   "unreachable"};
    const auto words = words_in(line);
    if (words.empty()) {
      return;
    }
    const auto [at, length] = words[below(words.size())];
    const std::vector<std::string>& alike = by_key_[key_of(line)];
    const size_t how = below(4);
    line.replace(at, length,
                 how < 2 && !alike.empty() ? alike[below(alike.size())]
                 : how == 2                ? kStrange[below(kStrange.size())]
                                           : known_[below(known_.size())]);
  }

  std::mt19937_64 random_;
  Lines from_;
  std::vector<std::string> known_;
  std::map<std::string, std::vector<std::string>> by_key_;  // words of lines that begin alike
};

void expect_places(const std::vector<config::Problem>& problems, const config::Config& config,
                   size_t lines) {
  // A wg-quick file without [Interface] is a tunnel all the same, of no line.
  const bool whole = !config.tunnels.empty() && config.tunnels[0].where.line == 0;
  for (const config::Problem& problem : problems) {
    EXPECT_EQ(problem.where.file, config.file) << to_text(problem);
    EXPECT_LE(problem.where.line, lines + 1) << to_text(problem);
    EXPECT_TRUE(problem.where.line > 0 || problem.key.empty() || whole) << to_text(problem);
    EXPECT_NE(problem.text, "") << to_text(problem);
  }
}

void ask_about_packets(BuiltEngine& built, Slips& slips) {
  static const char* const kAddresses[2][5] = {
      {"10.1.0.1", "10.9.0.5", "198.51.100.7", "192.0.2.1", "8.8.8.8"},
      {"fd01::1", "fd09::5", "2001:db8::7", "2a00::1", "fe80::1"}};
  static const char* const kProtocols[] = {"tcp", "udp", "icmp", "sctp", "47"};
  for (int i = 0; i < 6; ++i) {
    const auto& addresses = kAddresses[slips.below(2)];
    Words words;
    words.from = addresses[slips.below(5)];
    words.to = addresses[slips.below(5)];
    words.protocol = kProtocols[slips.below(5)];
    if (words.protocol != "icmp" && words.protocol != "47") {
      words.source_port = std::to_string(slips.below(65536));
      words.destination_port = slips.below(2) == 0 ? "53" : "8080";
    }
    words.tos = slips.below(2) == 0 ? "0x10" : "";
    PacketToExplain packet;
    packet.packet = make_packet(query_of(words));
    packet.tunnel = static_cast<TunnelNumber>(slips.below(built.config.tunnels.size()));
    const config::Tunnel& tunnel = built.config.tunnels[packet.tunnel];
    if (!tunnel.peers.empty() && slips.below(2) == 0) {
      packet.from_tag = built.tag(tunnel.name, tunnel.peers[slips.below(tunnel.peers.size())].name);
    }
    const auto told = built.engine.explain(packet);
    ASSERT_TRUE(told.has_value()) << told.error().text;
    const PacketFacts facts =
        packet_facts(packet.packet.data(), static_cast<uint32_t>(packet.packet.size()));
    const Json steps = steps_json(told->trace, built.names, facts);
    EXPECT_FALSE(steps.empty());
    for (const Json& step : steps) {
      EXPECT_NE(step["text"], "");
      EXPECT_TRUE(!step.contains("line") || step["file"] == built.config.file) << step;
    }
    const std::string verdict = verdict_text(told->trace, built.names);
    EXPECT_EQ(told->discarded, verdict.starts_with("dropped: ")) << verdict << steps;
    EXPECT_EQ(told->to_peer, verdict.starts_with("to peer ")) << verdict << steps;
    EXPECT_NE(verdict, "nothing was decided") << steps;
  }
}

// With what is not done yet.
config::ReadResult read(const std::string& text, const std::string& file) {
  return file.ends_with(".conf") ? config::read_text(text, file) : config::read_toml(text, file);
}

// Returns whether it could be used.
bool use(const config::Config& config, Slips& slips, size_t lines) {
  EXPECT_THAT(config::diff(config, config), IsEmpty());
  std::vector<config::Problem> problems;
  const PolicyAssets::Prepared sets = PolicyAssets::prepare(config, problems);
  EXPECT_THAT(problems, IsEmpty()) << "no list files here: " << lines_of(problems);
  constexpr uint64_t kEffort = uint64_t{1} << 22;
  check_loops(
      config, [&](const std::string& set) -> const auto& { return sets.entries(set); }, problems,
      kEffort);
  expect_places(problems, config, lines);
  check_keys(config, false, problems);
  BuiltEngine built(config);  // with a loop, too: nothing is sent
  if (!config.tunnels.empty()) {
    ask_about_packets(built, slips);
  }
  return problems.empty();
}

void try_slips(const std::string& valid, const std::string& file, unsigned rounds) {
  const Lines lines = lines_in(valid);
  const uint64_t seed = std::random_device{}();
  unsigned refused = 0, used = 0, with_a_loop = 0;
  {
    Slips slips(seed, lines);
    const config::ReadResult result = read(valid, file);
    ASSERT_TRUE(result.ok()) << lines_of(result.errors);
    EXPECT_TRUE(use(result.config, slips, lines.size()));
  }
  for (unsigned round = 0; round < rounds && !testing::Test::HasFailure(); ++round) {
    Slips slips(seed + round, lines);
    const std::string text = slips.text();
    const auto trace = testing::ScopedTrace(__FILE__, __LINE__,
                                            "seed " + std::to_string(seed + round) + "\n" + text);
    const auto begin = std::chrono::steady_clock::now();
    const config::ReadResult result = read(text, file);
    if (result.ok()) {
      ++(use(result.config, slips, lines.size() + 4) ? used : with_a_loop);
    } else {
      ++refused;
      EXPECT_EQ(result.config.file, file);
      expect_places(result.errors, result.config, lines.size() + 4);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  }
  testing::Test::RecordProperty("refused", static_cast<int>(refused));
  testing::Test::RecordProperty("used", static_cast<int>(used));
  testing::Test::RecordProperty("with_a_loop", static_cast<int>(with_a_loop));
  std::printf("seed %llu: %u refused, %u used, %u with a loop\n",
              static_cast<unsigned long long>(seed), refused, used, with_a_loop);
  EXPECT_GT(refused, rounds / 20);
  EXPECT_GT(used, rounds / 20);
}

TEST(ConfigRandom, SlipsInAToml) {
  try_slips(kAll, "x.toml", 2000);
}

TEST(ConfigRandom, SlipsInAWgQuickFile) {
  try_slips(kConf, "/nowhere/wg0.conf", 600);
}

}  // namespace
}  // namespace sallyport::test
