// The status report: its JSON members are an interface, its text tells what matters, and no secret is in either.
#include "control/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sallyport {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int64_t kNow = 1'700'000'100;

TunnelState some_tunnel() {
  TunnelState tunnel;
  tunnel.private_key.fill(0x5e);
  tunnel.public_key.fill(0xff);
  tunnel.fwmark = 7;
  PeerState peer;
  peer.preshared_key.fill(0x5e);
  peer.endpoint = *parse_endpoint("192.0.2.1:51820");
  peer.allowed_ips = {*parse_prefix("10.0.0.0/8")};
  peer.last_handshake = (kNow - 12) * kSecond;
  peer.handshakes = 3;
  peer.rx_bytes = 5 << 20;
  peer.tx_bytes = 1023;
  peer.rx_packets = 10;
  peer.drops[static_cast<size_t>(DropReason::replayed_counter)] = 4;
  tunnel.peers = {peer, PeerState{}};
  return tunnel;
}

EngineStatus some_engine() {
  EngineStatus engine;
  engine.aead = "sodium";
  engine.uptime = 100 * kSecond;
  engine.handshakes_initiated = 2;
  engine.workers.resize(2);
  engine.workers[1].busy = 25 * kSecond;
  engine.workers[1].rx_packets = 100;
  engine.workers[1].rx_runs = 10;
  engine.workers[0].drops[static_cast<size_t>(DropReason::no_peer)] = 2;
  engine.workers[1].drops[static_cast<size_t>(DropReason::no_peer)] = 3;
  engine.handshaker.drops[static_cast<size_t>(DropReason::bad_mac1)] = 1;
  PortStatus port;
  port.driver = "tun";
  port.name = "wg0";
  port.offloads = {{"tso4", true, ""}, {"uso", false, "needs Linux 6.2"}};
  engine.plain_ports = {port, port};
  return engine;
}

Json some_report() {
  return status_json({"wg0", {true, 1420}, 51820, kNow}, some_tunnel(), some_engine());
}

TEST(StatusJson, SaysWhatAndWho) {
  const Json report = some_report();
  EXPECT_EQ(report["interface"], "wg0");
  EXPECT_EQ(report["backend"], "tun");
  EXPECT_EQ(report["aead"], "sodium");
  EXPECT_EQ(report["up"], true);
  EXPECT_EQ(report["mtu"], 1420);
  EXPECT_EQ(report["listen_port"], 51820);
  EXPECT_EQ(report["fwmark"], 7);
  EXPECT_EQ(report["uptime_seconds"], 100.0);
  EXPECT_EQ(report["time"], kNow);
}

TEST(StatusJson, CountsTransferAndHandshakes) {
  const Json report = some_report();
  EXPECT_EQ(report["totals"]["rx_bytes"], 5 << 20);
  EXPECT_EQ(report["totals"]["tx_bytes"], 1023);
  EXPECT_EQ(report["totals"]["rx_packets"], 10);
  EXPECT_EQ(report["handshakes"]["initiated"], 2);
  EXPECT_EQ(report["handshakes"]["rekeys"], 2);
}

TEST(StatusJson, NamesDropsWhereTheyHappened) {
  const Json report = some_report();
  EXPECT_EQ(report["totals"]["drops"], Json({{"bad_mac1", 1}, {"no_peer", 5}}));
  EXPECT_EQ(report["workers"][0]["drops"], Json({{"no_peer", 2}}));
  EXPECT_EQ(report["handshaker"]["drops"], Json({{"bad_mac1", 1}}));
  EXPECT_EQ(report["peers"][0]["drops"], Json({{"replayed_counter", 4}}));
  EXPECT_EQ(report["peers"][1]["drops"], Json::object());
}

TEST(StatusJson, TellsEachWorkersLoad) {
  const Json report = some_report();
  EXPECT_EQ(report["workers"][0]["load"], 0.0);
  EXPECT_EQ(report["workers"][1]["load"], 0.25);
  EXPECT_EQ(report["workers"][1]["busy_seconds"], 25.0);
}

TEST(StatusJson, TellsOffloadsAndWhyNot) {
  const Json offloads = some_report()["plain_ports"][0]["offloads"];
  EXPECT_EQ(offloads[0], Json({{"name", "tso4"}, {"on", true}, {"reason", ""}}));
  EXPECT_EQ(offloads[1]["reason"], "needs Linux 6.2");
}

TEST(StatusJson, DescribesPeers) {
  const Json peers = some_report()["peers"];
  ASSERT_EQ(peers.size(), 2u);
  EXPECT_EQ(peers[0]["public_key"], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
  EXPECT_EQ(peers[0]["endpoint"], "192.0.2.1:51820");
  EXPECT_EQ(peers[0]["allowed_ips"], Json::array({"10.0.0.0/8"}));
  EXPECT_EQ(peers[0]["last_handshake"], kNow - 12);
  EXPECT_TRUE(peers[1]["endpoint"].is_null());
  EXPECT_EQ(peers[1]["last_handshake"], 0);
}

TEST(StatusJson, HoldsNoSecret) {
  const std::string text = some_report().dump();
  EXPECT_THAT(text, Not(HasSubstr("5e5e5e")));
  EXPECT_THAT(text, Not(HasSubstr("Xl5eXl5e")));  // the same in base64
  EXPECT_THAT(text, Not(HasSubstr("private")));
}

TEST(StatusJson, ABareEngineHasAReportToo) {
  const Json report = status_json({"wg0", {}, 0, kNow}, TunnelState{}, EngineStatus{});
  EXPECT_EQ(report["backend"], "none");
  EXPECT_EQ(report["peers"], Json::array());
  EXPECT_FALSE(status_text(report, report).empty());
}

TEST(StatusText, TellsWhatMatters) {
  const Json before = some_report();
  EngineStatus engine = some_engine();
  engine.uptime += kSecond;
  engine.workers[0].busy += kSecond / 2;
  const Json after = status_json({"wg0", {true, 1420}, 51820, kNow}, some_tunnel(), engine);
  const std::string text = status_text(after, before);
  EXPECT_THAT(text, HasSubstr("wg0: up, MTU 1420, UDP port 51820"));
  EXPECT_THAT(text, HasSubstr("backend tun, cipher by sodium, 2 workers"));
  EXPECT_THAT(text, HasSubstr("tso4 on, uso off (needs Linux 6.2)"));
  EXPECT_THAT(text, HasSubstr("worker 0: 50 % busy now"));
  EXPECT_THAT(text, HasSubstr("worker 1: 0.0 % busy now"));
  EXPECT_THAT(text, HasSubstr("bad_mac1 1, no_peer 5"));
  EXPECT_THAT(text, HasSubstr("192.0.2.1:51820, handshake 12 s ago"));
  EXPECT_THAT(text, HasSubstr("5.0 MiB received, 1023 B sent"));
  EXPECT_THAT(text, HasSubstr("no endpoint, no handshake yet"));
}

TEST(StatusText, AReportWithoutItsMembersIsAnExceptionNotACrash) {
  EXPECT_THROW(status_text(Json::object(), Json::object()), Json::exception);
}

}  // namespace
}  // namespace sallyport
