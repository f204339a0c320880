// Packets as they are asked about, and a trace in words: each kind of step with what the numbers mean and where that stands.
#include "control/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/capture.h"
#include "control/gateway.h"
#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "tests/control/built_engine.h"

namespace sallyport::test {
namespace {

using testing::HasSubstr;
using What = TraceStep::What;

// -- Packets

PacketFacts facts_of(const std::vector<uint8_t>& packet) {
  return packet_facts(packet.data(), static_cast<uint32_t>(packet.size()));
}

TEST(ExplainPacket, IsWhatWasAskedAbout) {
  const struct {
    Words words;
    const char* text;
    size_t bytes;
  } truths[] = {
      {{.from = "10.0.0.5",
        .to = "198.51.100.7",
        .protocol = "tcp",
        .source_port = "40000",
        .destination_port = "443"},
       "tcp 10.0.0.5:40000 -> 198.51.100.7:443",
       40},
      {{.from = "10.0.0.5", .to = "198.51.100.7", .destination_port = "443"},
       "tcp 10.0.0.5:0 -> 198.51.100.7:443",
       40},
      {{.from = "10.0.0.5",
        .to = "198.51.100.7",
        .protocol = "udp",
        .destination_port = "53",
        .size = "100"},
       "udp 10.0.0.5:0 -> 198.51.100.7:53",
       100},
      {{.from = "10.0.0.5", .to = "198.51.100.7"}, "icmp 10.0.0.5 -> 198.51.100.7", 28},
      {{.from = "10.0.0.5", .to = "198.51.100.7", .protocol = "gre"},
       "gre 10.0.0.5 -> 198.51.100.7",
       28},
      {{.from = "10.0.0.5", .to = "198.51.100.7", .size = "1"},
       "icmp 10.0.0.5 -> 198.51.100.7",
       28},
      {{.from = "10.0.0.5", .to = "198.51.100.7", .size = "65535"},
       "icmp 10.0.0.5 -> 198.51.100.7",
       65535},
      {{.from = "2001:db8::5",
        .to = "2001:db8::7",
        .protocol = "tcp",
        .source_port = "1",
        .destination_port = "2"},
       "tcp [2001:db8::5]:1 -> [2001:db8::7]:2",
       60},
      {{.from = "2001:db8::5", .to = "2001:db8::7", .protocol = "udp", .size = "1280"},
       "udp [2001:db8::5]:0 -> [2001:db8::7]:0",
       1280},
      {{.from = "2001:db8::5", .to = "2001:db8::7"}, "icmpv6 2001:db8::5 -> 2001:db8::7", 48},
      {{.from = "2001:db8::5", .to = "2001:db8::7", .size = "65535"},
       "icmpv6 2001:db8::5 -> 2001:db8::7",
       65535},
  };
  for (const auto& truth : truths) {
    SCOPED_TRACE(truth.text);
    const PacketQuery query = query_of(truth.words);
    const std::vector<uint8_t> packet = make_packet(query);
    EXPECT_EQ(packet.size(), truth.bytes);
    const PacketFacts facts = facts_of(packet);
    EXPECT_EQ(facts.text, truth.text);
    EXPECT_EQ(facts.source, query.from->address);
    EXPECT_EQ(facts.destination, query.to->address);
  }
}

TEST(ExplainPacket, HasTheHeadersOfItsKind) {
  PacketQuery query = query_of(
      {.from = "10.0.0.5", .to = "10.0.0.7", .protocol = "udp", .tos = "0x10", .size = "100"});
  std::vector<uint8_t> packet = make_packet(query);
  const auto* ip = reinterpret_cast<const Ipv4Header*>(packet.data());
  EXPECT_EQ(ip->tos, 0x10);
  EXPECT_EQ(ip->total_length, 100);
  EXPECT_EQ(reinterpret_cast<const UdpHeader*>(packet.data() + 20)->length, 80);
  query = query_of({.from = "::5", .to = "::7", .protocol = "tcp", .tos = "0xb8"});
  packet = make_packet(query);
  const auto* ip6 = reinterpret_cast<const Ipv6Header*>(packet.data());
  EXPECT_EQ(ip6->version_class_flow, 0x6b800000u);
  EXPECT_EQ(ip6->payload_length, 20);
  EXPECT_EQ(reinterpret_cast<const TcpHeader*>(packet.data() + 40)->flags, kTcpSyn);
  query = query_of({.from = "10.0.0.5", .to = "10.0.0.7"});
  EXPECT_EQ(make_packet(query)[20], 8) << "an echo request";
  query = query_of({.from = "::5", .to = "::7"});
  EXPECT_EQ(make_packet(query)[40], 128);
}

TEST(ExplainPacket, FactsOfWhatIsCutOrStrange) {
  std::vector<uint8_t> packet = make_packet(query_of(
      {.from = "10.0.0.5", .to = "10.0.0.7", .protocol = "udp", .destination_port = "53"}));
  EXPECT_EQ(packet_facts(packet.data(), 23).text, "udp 10.0.0.5 -> 10.0.0.7") << "ports are cut";
  EXPECT_EQ(packet_facts(packet.data(), 19).text, "no IP packet");
  EXPECT_EQ(packet_facts(packet.data(), 0).text, "no IP packet");
  packet[7] = 1;  // a later fragment
  EXPECT_EQ(facts_of(packet).text, "udp 10.0.0.5 -> 10.0.0.7");
  packet[0] = 0x65;
  EXPECT_EQ(facts_of(packet).text, "no IP packet") << "too short for IPv6";
}

// -- Steps. Lines: the rules begin at 15 and 19, the routes stand at 9 and 10.

const std::string kText = R"([tunnel.wg0]
$private
[[tunnel.wg0.peer]]
name = "a"
$key
[set.lan]
prefixes = ["10.0.0.0/8", "!10.9.0.0/16"]
[table.main]
routes = [{ to = "10.0.0.0/8", exit = "a" },
  { to = "default", exit = "host" }]
[exit.a]
peer = "a"
[exit.g]
group = ["a"]
[[rule]]
priority = 10
to = "@lan"
table = "main"
[[rule]]
priority = 20
name = "rest"
action = "drop"
)";

class ExplainSteps : public testing::Test {
 protected:
  ExplainSteps() {
    facts_ = facts_of(
        make_packet(query_of({.from = "10.9.0.5", .to = "10.2.0.7", .destination_port = "443"})));
  }
  Json step(What what, uint32_t number = 0, uint32_t a = 0, uint32_t b = 0, uint32_t c = 0) {
    Trace trace;
    trace.add(what, number, a, b, c);
    const Json steps = steps_json(trace, built_.names, facts_);
    EXPECT_EQ(steps.size(), 1u);
    return steps[0];
  }
  // "stage: text", with " (x.toml:15)" where it stands in the file.
  std::string text(What what, uint32_t number = 0, uint32_t a = 0, uint32_t b = 0, uint32_t c = 0) {
    const Json json = step(what, number, a, b, c);
    std::string text = json["stage"].get<std::string>() + ": " + json["text"].get<std::string>();
    EXPECT_EQ(json.contains("line"), json.contains("file"));
    if (json.contains("line")) {
      text += " (" + json["file"].get<std::string>() + ":" +
              std::to_string(json["line"].get<unsigned>()) + ")";
    }
    return text;
  }
  BuiltEngine built_{kText};
  PacketFacts facts_;
};

TEST_F(ExplainSteps, OfRules) {
  EXPECT_EQ(text(What::rule, 0), "policy: rule 10 matches: to @lan lookup main (x.toml:15)");
  EXPECT_EQ(text(What::rule, 1), "policy: rule 20 (rest) matches: from all drop (x.toml:19)");
  EXPECT_EQ(text(What::rule, 7), "policy: the end of the rules");
  EXPECT_EQ(text(What::mark, 0, 0x1f), "policy: the mark is now 0x1f");
  EXPECT_EQ(text(What::jump, 1), "policy: the search goes on at rule 20 (rest) (x.toml:19)");
  EXPECT_EQ(text(What::no_rule), "policy: no rule decides: as WireGuard alone sends it");
}

TEST_F(ExplainSteps, OfSetsAndTables) {
  EXPECT_EQ(text(What::set_entry, 0, 0, 8, 1), "policy: set lan holds 10.2.0.7 by 10.0.0.0/8");
  EXPECT_EQ(text(What::set_entry, 0, 1, 16, 0),
            "policy: set lan has a hole for 10.9.0.5, !10.9.0.0/16");
  EXPECT_EQ(text(What::set_entry, 9, 1, 16, 0),
            "policy: set number 9 has a hole for 10.9.0.5, !10.9.0.0/16");
  EXPECT_EQ(text(What::table_hit, 0, 0, 8), "policy: table main: 10.0.0.0/8 exit a (x.toml:9)");
  EXPECT_EQ(text(What::table_hit, 0, 2, 0), "policy: table main: ::/0 exit host (x.toml:10)");
  EXPECT_EQ(text(What::table_miss, 0), "policy: table main has no route: the search goes on");
  EXPECT_EQ(text(What::suppressed, 0, 1, 0),
            "policy: table main: 0.0.0.0/0 is suppressed, being no longer than asked: the search "
            "goes on (x.toml:10)");
}

TEST_F(ExplainSteps, OfExits) {
  EXPECT_EQ(text(What::exit, 1), "exit: exit g");
  EXPECT_EQ(text(What::exit, 4), "exit: exit unreachable");
  const auto why = [](MemberWhy each) { return static_cast<uint32_t>(each); };
  EXPECT_EQ(text(What::member, 0, why(MemberWhy::first_alive)),
            "exit: member a: the first that is alive");
  EXPECT_EQ(text(What::member, 0, why(MemberWhy::weight)),
            "exit: member a: this flow's share by weight");
  EXPECT_EQ(text(What::member, 0, why(MemberWhy::kept)),
            "exit: member a: where this flow was before");
  EXPECT_EQ(text(What::all_down, 1, kNoExit), "exit: every member of g is down: closed");
  EXPECT_EQ(text(What::all_down, 1, 2), "exit: every member of g is down: exit host instead");
}

TEST_F(ExplainSteps, OfFlows) {
  const auto state = [](FlowState each) { return static_cast<uint32_t>(each); };
  EXPECT_EQ(text(What::flow, state(FlowState::fresh)), "track: flow new");
  EXPECT_EQ(text(What::flow, state(FlowState::established), 1), "track: flow established, reply");
  EXPECT_EQ(text(What::flow, state(FlowState::established), 0, 1, 1),
            "track: flow established, its exit is remembered");
  EXPECT_EQ(text(What::flow, state(FlowState::invalid)), "track: flow invalid");
  EXPECT_EQ(text(What::nat, 3), "nat: rule 3: stays as it is");
  EXPECT_EQ(text(What::way_back, 0, 0), "route: back where its flow came from: the host");
  EXPECT_EQ(text(What::way_back, 0, built_.tag("wg0", "a")),
            "route: back where its flow came from: peer wg0/a");
  EXPECT_EQ(text(What::reverse_path, 0, 1, static_cast<uint32_t>(ReversePath::strict)),
            "policy: reverse path: what is sent to its source would go to that peer");
  EXPECT_EQ(text(What::reverse_path, 0, 0, static_cast<uint32_t>(ReversePath::loose)),
            "policy: reverse path: what is sent to its source would get nowhere");
  EXPECT_EQ(text(What::filter, 2, 1), "filter: filter 2 matches");
  EXPECT_EQ(text(What::filter, UINT32_MAX, 0), "filter: no filter matches");
}

TEST_F(ExplainSteps, OfTheWayOut) {
  EXPECT_EQ(text(What::lan_denied, 0),
            "route: a private destination, which exit a is not to see (lan)");
  EXPECT_EQ(text(What::allowed_ips, 0, 1), "route: allowed-ips of wg0: found");
  EXPECT_EQ(text(What::allowed_ips, 0, 0),
            "route: allowed-ips of wg0: no peer has the destination");
  EXPECT_EQ(text(What::peer, 0, 0, built_.tag("wg0", "a")), "route: to peer wg0/a");
  EXPECT_EQ(text(What::host, 0), "route: to the host, by wg0");
  EXPECT_EQ(text(What::ttl, 0, 63), "route: TTL 63");
  EXPECT_EQ(text(What::drop, 0, static_cast<uint32_t>(DropReason::exit_down)), "drop: exit_down");
  EXPECT_EQ(text(What::staged), "seal: waits for a session");
  EXPECT_EQ(text(What::sealed, 0, 1, 96), "seal: sealed into 1 datagram, 96 bytes");
  EXPECT_EQ(text(What::sealed, 0, 3, 4000), "seal: sealed into 3 datagrams, 4000 bytes");
}

TEST_F(ExplainSteps, BeyondWhatATraceKeepsAreCounted) {
  Trace trace;
  for (size_t i = 0; i < Trace::kStepsMax + 3; ++i) {
    trace.add(What::no_rule);
  }
  const Json steps = steps_json(trace, built_.names, facts_);
  ASSERT_EQ(steps.size(), Trace::kStepsMax + 1);
  EXPECT_EQ(steps.back()["text"], "3 more steps");
}

TEST_F(ExplainSteps, Verdicts) {
  Trace trace;
  EXPECT_EQ(verdict_text(trace, built_.names), "nothing was decided");
  trace.add(What::rule, 0);
  trace.add(What::host, 0);
  EXPECT_EQ(verdict_text(trace, built_.names), "to the host, by wg0");
  trace.add(What::peer, 0, 0, built_.tag("wg0", "a"));
  EXPECT_EQ(verdict_text(trace, built_.names), "to peer wg0/a");
  trace.add(What::drop, 0, static_cast<uint32_t>(DropReason::lan_denied));
  EXPECT_EQ(verdict_text(trace, built_.names), "dropped: lan_denied");
}

TEST_F(ExplainSteps, OfAnEnginesOwnTrace) {
  const auto ask = [&](const std::string& to) {
    const auto told = built_.engine.explain(
        {0, std::nullopt, make_packet(query_of({.from = "10.9.0.5", .to = to}))});
    EXPECT_TRUE(told.has_value());
    std::string words;
    for (const Json& step : steps_json(told->trace, built_.names, facts_)) {
      words += step["text"].get<std::string>() + "; ";
    }
    return words + verdict_text(told->trace, built_.names);
  };
  EXPECT_EQ(ask("10.2.0.7"),
            "rule 10 matches: to @lan lookup main; set lan holds 10.2.0.7 by 10.0.0.0/8; "
            "table main: 10.0.0.0/8 exit a; exit a; to peer wg0/a; to peer wg0/a");
  EXPECT_THAT(ask("10.9.0.1"), HasSubstr("rule 20 (rest) matches: from all drop; "));
  EXPECT_THAT(ask("10.9.0.1"), HasSubstr("; dropped: policy_drop"));
}

// -- Where a packet comes in

const std::string kTwoTunnels = R"([tunnel.wg0]
$private
capture = ["10.0.0.0/8", "!10.7.0.0/16"]
[[tunnel.wg0.peer]]
name = "a"
$key
allowed_ips = ["10.0.0.0/8"]
[[tunnel.wg0.peer]]
name = "b"
$key
allowed_ips = ["10.2.0.0/16"]
[tunnel.wg1]
$private
capture = ["@six", "10.1.0.0/16"]
[[tunnel.wg1.peer]]
name = "a"
$key
allowed_ips = ["2001:db8::/32"]
[set.six]
prefixes = ["2001:db8::/32"]
)";

class Locate : public testing::Test {
 protected:
  // "wg0", with " from wg0/a" when a peer sends it; or what is wrong.
  std::string place(Words words) {
    if (words.from.empty()) {
      words.from = "10.2.0.1";
    }
    if (words.to.empty()) {
      words.to = "10.3.0.1";
    }
    const PacketQuery query = query_of(words);
    const SetEntries entries = [&](const std::string& set) -> const auto& {
      return built_.assets.entries(set);
    };
    const auto found = locate(query, built_.config, built_.numbers, built_.names, entries);
    if (!found) {
      return found.error().text + (found.error().code == ENOENT ? " (ENOENT)" : "");
    }
    EXPECT_EQ(found->packet, make_packet(query));
    return built_.names.tunnel(found->tunnel) +
           (found->from_tag ? " from " + built_.names.peer(*found->from_tag) : "");
  }
  BuiltEngine built_{kTwoTunnels};
};

TEST_F(Locate, ByTheCaptureOfItsDestination) {
  EXPECT_EQ(place({.to = "10.3.0.1"}), "wg0");
  EXPECT_EQ(place({.to = "10.1.0.1"}), "wg1") << "the longest prefix";
  EXPECT_EQ(place({.to = "10.1.0.1", .iif = "host"}), "wg1");
  EXPECT_EQ(place({.from = "2001:db8::1", .to = "2001:db8::2"}), "wg1") << "of a set";
  EXPECT_EQ(place({.to = "10.7.0.1"}), "in a hole of what is captured (ENOENT)");
  EXPECT_EQ(place({.to = "192.0.2.1"}), "not captured (ENOENT)");
}

TEST_F(Locate, ByTheInterfaceItIsSaidToComeFrom) {
  EXPECT_EQ(place({.to = "192.0.2.1", .iif = "host:wg1"}), "wg1");
  EXPECT_EQ(place({.iif = "host:wg7"}), "there is no tunnel 'wg7'");
  EXPECT_EQ(place({.from = "10.2.0.1", .iif = "wg0"}), "wg0 from wg0/b") << "the longest prefix";
  EXPECT_EQ(place({.from = "10.3.0.1", .iif = "wg0"}), "wg0 from wg0/a");
  EXPECT_EQ(place({.from = "192.0.2.1", .iif = "wg0"}), "no peer of wg0 may send from 192.0.2.1");
  EXPECT_EQ(place({.from = "10.2.0.1", .iif = "wg1"}), "no peer of wg1 may send from 10.2.0.1");
  EXPECT_EQ(place({.iif = "wg7"}), "there is no tunnel 'wg7'");
}

TEST_F(Locate, ByThePeerItIsSaidToComeFrom) {
  EXPECT_EQ(place({.peer = "b"}), "wg0 from wg0/b");
  EXPECT_EQ(place({.peer = "wg1/a"}), "wg1 from wg1/a");
  EXPECT_EQ(place({.peer = "a"}), "several peers are called 'a': write TUNNEL/PEER");
  EXPECT_EQ(place({.peer = "c"}), "no peer is called 'c': write TUNNEL/PEER");
}

}  // namespace
}  // namespace sallyport::test
