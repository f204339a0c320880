// `show flows` and `flush flows`: a filter's words, what is said of a flow, and what is forgotten.
#include "control/flow_report.h"

#include <gtest/gtest.h>

#include <cstring>

#include "control/limits.h"
#include "control/show_text.h"
#include "dataplane/base/rcu.h"
#include "dataplane/net/headers.h"
#include "dataplane/path/track.h"
#include "tests/control/built_engine.h"

namespace sallyport::test {
namespace {

constexpr Time kNow = 1000 * kSecond;

constexpr const char* kConfig = R"(
  [tunnel.wg0]
  $private
  [[tunnel.wg0.peer]]
  name = "a"
  $key
  allowed_ips = ["10.0.0.0/24"]
  [[tunnel.wg0.peer]]
  name = "b"
  $key
  allowed_ips = ["0.0.0.0/0"]
  [tunnel.wg1]
  $private
  [[tunnel.wg1.peer]]
  name = "c"
  $key
  allowed_ips = ["10.1.0.0/24"]
  [exit.out]
  group = ["b", "c"]
  [exit.b]
  peer = "b"
  [exit.c]
  peer = "c"
  [[rule]]
  priority = 10
  exit = "out"
)";

class FlowReport : public testing::Test {
 protected:
  FlowReport() {
    use(flows_);
    nats_.resize(2);
    nats_[1].name = "out";
    nats_[1].where = {"x.toml", 7};
  }
  ~FlowReport() override { built_.engine.set_policy(nullptr); }

  // A policy with these flows comes into force.
  void use(FlowTable& flows) {
    auto built = build_policy(built_.config, built_.numbers, built_.engine, built_.assets);
    ASSERT_TRUE(built.has_value());
    built->policy->flows = &flows;
    built_.engine.set_policy(std::move(built->policy));
  }

  struct Made {
    std::string from = "10.0.0.5";
    uint16_t sport = 40000;
    std::string to = "198.51.100.7";
    uint16_t dport = 443;
    uint8_t protocol = kProtocolUdp;
    std::string outside{};  // translated to this address
    uint32_t peer_tag = PeerTags::kNone;
    std::string exit{};
    uint16_t tunnel = 0;
    bool replied = false;
  };
  // An exit's number in the policy.
  uint32_t exit(const std::string& name) const {
    const auto& exits = built_.names.exits;
    return static_cast<uint32_t>(std::ranges::find(exits, name) - exits.begin());
  }
  void add(const Made& made) {
    NewFlow fresh;
    const auto from = *parse_address(made.from), to = *parse_address(made.to);
    fresh.original = FlowTuple::make(from.family, kZoneTunnel, made.protocol, from.bytes.data(),
                                     to.bytes.data(), be16{made.sport}, be16{made.dport});
    fresh.reply = fresh.original.reversed(kZoneHost);
    if (!made.outside.empty()) {
      std::memcpy(fresh.reply.destination, parse_address(made.outside)->bytes.data(), 16);
      fresh.snat_rule = 1;
    }
    fresh.peer_tag = made.peer_tag;
    fresh.tunnel = made.tunnel;
    fresh.tcp_flags = kTcpSyn;
    step_as_reader([&] {
      const Inserted inserted = flows_.insert(fresh, kNow - 5 * kSecond);
      EXPECT_EQ(inserted.result, FlowInsert::done);
      flows_.note(inserted.ref, {2, 300, kTcpSyn}, kNow - 4 * kSecond);
      if (made.replied) {
        flows_.note({inserted.ref.word ^ 1}, {1, 60, kTcpSyn | kTcpAck}, kNow - 3 * kSecond);
      }
      if (!made.exit.empty()) {
        flows_.set_verdict(inserted.ref, {static_cast<uint32_t>(built_.policy().epoch),
                                          exit(made.exit), FlowVerdict::kNone});
      }
      return true;
    });
  }
  Result<FlowFilter> filter(const std::string& text) const {
    std::vector<std::string> words;
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find(' ', at), text.size());
      words.push_back(text.substr(at, end - at));
      at = end + 1;
    }
    const auto query = read_flow_query(words);
    if (!query) {
      return std::unexpected(query.error());
    }
    return FlowFilter::make(*query, built_.config, built_.numbers, built_.names, built_.policy());
  }
  Json show(const std::string& text = "") const {
    const auto wanted = filter(text);
    EXPECT_TRUE(wanted.has_value()) << wanted.error().text;
    return flows_json(built_.policy(), built_.names, nats_, *wanted, kNow);
  }
  size_t count(const std::string& text) const { return show(text)["flows"].size(); }
  std::string error(const std::string& text) const {
    const auto wanted = filter(text);
    return wanted ? "" : wanted.error().text;
  }

  FlowTable flows_{{.capacity = 64}};
  BuiltEngine built_{kConfig};
  std::vector<config::Nat> nats_;
};

TEST_F(FlowReport, SaysWhatAFlowIs) {
  add({.protocol = kProtocolTcp,
       .outside = "203.0.113.1",
       .peer_tag = built_.tag("wg0", "a"),
       .exit = "c",
       .replied = true});
  const Json shown = show();
  EXPECT_EQ(shown["total"], 1);
  EXPECT_EQ(shown["more"], 0);
  const Json& flow = shown["flows"].at(0);
  EXPECT_EQ(flow["protocol"], "tcp");
  EXPECT_EQ(flow["state"], "syn_recv");
  EXPECT_EQ(flow["replied"], true);
  EXPECT_EQ(flow["original"], Json::parse(R"({"from":"10.0.0.5","to":"198.51.100.7","sport":40000,
    "dport":443,"in":"tunnel","packets":2,"bytes":300,"idle_s":4})"));
  EXPECT_EQ(flow["reply"], Json::parse(R"({"from":"198.51.100.7","to":"203.0.113.1","sport":443,
    "dport":40000,"in":"host","packets":1,"bytes":60,"idle_s":3})"));
  EXPECT_EQ(flow["snat"], Json::parse(R"({"number":1,"name":"out","file":"x.toml","line":7})"));
  EXPECT_TRUE(flow["dnat"].is_null());
  EXPECT_EQ(flow["peer"], "wg0/a");
  EXPECT_EQ(flow["exit"], "c");
  EXPECT_EQ(flow["idle_s"], 3);
  EXPECT_EQ(flow["timeout_s"], 240);
  EXPECT_EQ(flow["left_s"], 237);
  EXPECT_EQ(show_text("flows", shown),
            "protocol  state     flow                                    from   exit  nat       "
            "packets  bytes  idle   left\n"
            "tcp       syn_recv  10.0.0.5:40000 > 198.51.100.7:443       wg0/a  c     snat out  "
            "      2  300 B   4 s  237 s\n"
            "                      198.51.100.7:443 > 203.0.113.1:40000                         "
            "      1   60 B   3 s\n");
}

TEST_F(FlowReport, FiltersByEitherDirection) {
  add({.from = "10.0.0.5", .outside = "203.0.113.1"});
  add({.from = "10.0.0.6", .to = "198.51.100.8", .dport = 53});
  EXPECT_EQ(count(""), 2u);
  EXPECT_EQ(count("from 10.0.0.5"), 1u);
  EXPECT_EQ(count("to 10.0.0.6"), 1u) << "as answers go";
  EXPECT_EQ(count("to 203.0.113.0/24"), 1u) << "as it looks outside";
  EXPECT_EQ(count("from 10.0.0.0/8 dport 53"), 1u);
  EXPECT_EQ(count("from 198.51.100.0/24 sport 50-60"), 1u);
  EXPECT_EQ(count("from 10.0.0.0/8 sport 53"), 0u) << "both of one direction";
  EXPECT_EQ(count("ipproto udp"), 2u);
  EXPECT_EQ(count("ipproto 6"), 0u);
  EXPECT_EQ(count("from 2001:db8::/32"), 0u);
}

TEST_F(FlowReport, FiltersByStateAndNames) {
  add({.from = "10.0.0.5", .protocol = kProtocolTcp, .peer_tag = built_.tag("wg0", "a")});
  add({.from = "10.0.0.6", .exit = "b", .replied = true});
  add({.from = "10.1.0.2", .peer_tag = built_.tag("wg1", "c"), .tunnel = 1});
  EXPECT_EQ(count("state syn_sent"), 1u);
  EXPECT_EQ(count("state replied"), 1u);
  EXPECT_EQ(count("state unreplied"), 2u);
  EXPECT_EQ(count("peer a"), 1u);
  EXPECT_EQ(count("peer wg0/b"), 1u) << "whose exit it is";
  EXPECT_EQ(count("tunnel wg0"), 2u);
  EXPECT_EQ(count("tunnel wg1"), 1u);
  EXPECT_EQ(count("exit b"), 1u);
  EXPECT_EQ(count("exit out"), 1u) << "a group, by its members";
  EXPECT_EQ(count("exit c"), 0u);
}

TEST_F(FlowReport, WhatAnotherPolicyDecidedIsNotShown) {
  add({.exit = "b"});
  EXPECT_EQ(show()["flows"][0]["exit"], "b");
  use(flows_);
  EXPECT_TRUE(show()["flows"][0]["exit"].is_null());
}

TEST_F(FlowReport, AWrongFilterIsASentence) {
  for (const auto& [words, part] : std::initializer_list<std::pair<const char*, const char*>>{
           {"form 10.0.0.1", "'form' is no word of a flow filter: from PREFIX"},
           {"from", "'from' wants a value"},
           {"from 10.0.0.1 from 10.0.0.2", "'from' is there twice"},
           {"from ten", "from 'ten' is no prefix"},
           {"sport 99999", "sport '99999' is no port"},
           {"dport 20-10", "dport '20-10' is no port"},
           {"dport 20-", "dport '20-' is no port"},
           {"ipproto tpc", "proto 'tpc' is not known"},
           {"state new", "state 'new' is not known: replied, unreplied, syn_sent"},
           {"peer x", "no peer is called 'x'"},
           {"tunnel x", "there is no tunnel 'x'"},
           {"exit x", "there is no exit 'x'"}}) {
    EXPECT_TRUE(error(words).starts_with(part)) << words << ": " << error(words);
  }
}

TEST_F(FlowReport, FlushForgetsWhatMatches) {
  add({.from = "10.0.0.5"});
  add({.from = "10.0.0.6"});
  EXPECT_EQ(flush_flows(built_.policy(), *filter("from 10.0.0.6")), 1u);
  EXPECT_EQ(count("from 10.0.0.6"), 0u);
  EXPECT_EQ(flush_flows(built_.policy(), *filter("")), 1u);
  EXPECT_EQ(flows_.size(), 0u);
}

TEST_F(FlowReport, ManyAreBounded) {
  FlowTable many({.capacity = 2 * kFlowsShown});
  use(many);
  NewFlow fresh;
  step_as_reader([&] {
    for (uint32_t i = 0; i < kFlowsShown + 7; ++i) {
      const be32 source{0x0a000000 + i};
      const uint8_t to[4] = {198, 51, 100, 7};
      fresh.original =
          FlowTuple::make(Family::v4, kZoneTunnel, kProtocolUdp,
                          reinterpret_cast<const uint8_t*>(&source), to, be16{1}, be16{2});
      fresh.reply = fresh.original.reversed(kZoneHost);
      fresh.owner = static_cast<uint16_t>(i % 16);
      EXPECT_EQ(many.insert(fresh, kNow).result, FlowInsert::done);
    }
    return true;
  });
  const Json shown = show();
  EXPECT_EQ(shown["flows"].size(), kFlowsShown);
  EXPECT_EQ(shown["more"], 7);
  EXPECT_EQ(shown["total"], kFlowsShown + 7);
  EXPECT_TRUE(show_text("flows", shown).ends_with("and 7 more\n"));
  built_.engine.set_policy(nullptr);
  rcu_barrier_all();
}

// The engine's clock is the host's, and it has been up for some seconds.
TEST_F(FlowReport, AnIdleHostForgetsToo) {
  FlowTable quick({.capacity = 64, .timeouts = {.udp_unreplied = 1}});
  use(quick);
  NewFlow fresh;
  const uint8_t address[4] = {10, 0, 0, 5};
  fresh.original =
      FlowTuple::make(Family::v4, kZoneTunnel, kProtocolUdp, address, address, be16{1}, be16{2});
  fresh.reply = fresh.original.reversed(kZoneHost);
  step_as_reader([&] { return quick.insert(fresh, Time{0}).result; });
  EXPECT_EQ(built_.engine.sweep_flows(64), 1u);
  EXPECT_EQ(quick.size(), 0u);
  step_as_reader([&] { return quick.insert(fresh, now_boottime()).result; });
  EXPECT_EQ(built_.engine.sweep_flows(64), 0u) << "it has just begun";
  EXPECT_EQ(quick.size(), 1u);
  built_.engine.set_policy(nullptr);
  EXPECT_EQ(built_.engine.sweep_flows(64), 0u);
  rcu_barrier_all();
}

}  // namespace
}  // namespace sallyport::test
