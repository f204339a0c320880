// What `show`, `explain` and `trace` print, from JSON as the daemon gives it, and from JSON that is not as it should be.
#include "control/show_text.h"

#include <gtest/gtest.h>

#include <string>

namespace sallyport {
namespace {

TEST(ShowText, AlignsRules) {
  const Json rules = Json::parse(R"([
    {"priority":100,"name":"dns","text":"ipproto udp dport 53","action":"exit b","file":"w.toml","line":12,
     "packets":1234567,"bytes":2048},
    {"priority":20000,"text":"from all","action":"lookup main","file":"w.toml","line":3,"packets":0,"bytes":0}])");
  EXPECT_EQ(show_text("rules", rules),
            "priority  name  match                 action       packets    bytes  where\n"
            "    100:  dns   ipproto udp dport 53  exit b       1234567  2.0 KiB  w.toml:12\n"
            "  20000:        from all              lookup main        0      0 B  w.toml:3\n");
}

TEST(ShowText, LeavesOutColumnsWithNothingInThem) {
  const Json rules = Json::parse(R"([{"priority":1,"text":"from all","action":"drop","line":0}])");
  EXPECT_EQ(show_text("rules", rules), "priority  match     action\n      1:  from all  drop\n");
}

TEST(ShowText, SaysThatThereIsNone) {
  for (const char* what : {"rules", "sets", "tables", "exits", "peers", "drops", "tunnels"}) {
    const std::string text = show_text(what, Json::array());
    EXPECT_TRUE(text.starts_with("No")) << what << ": " << text;
    EXPECT_TRUE(text.ends_with(".\n"));
  }
}

TEST(ShowText, ShowsAGroupWithItsMembers) {
  const Json exits = Json::parse(R"([
    {"name":"out","kind":"group","alive":true,"why":"frankfurt","members":[
      {"exit":"frankfurt","weight":3,"alive":true},{"exit":"paris","weight":1,"alive":false}]},
    {"name":"paris","kind":"peer","alive":false,"why":"3 probes lost","rtt_ms":12.5,"loss":1,"packets":7,"bytes":700}])");
  EXPECT_EQ(show_text("exits", exits),
            "exit         kind      state                    rtt   loss  packets  bytes\n"
            "out          group     alive: frankfurt\n"
            "  frankfurt  weight 3  alive\n"
            "  paris      weight 1  down\n"
            "paris        peer      down: 3 probes lost  12.5 ms  100 %        7  700 B\n");
}

TEST(ShowText, ShowsPeersSetsTablesDropsAndTunnels) {
  EXPECT_EQ(show_text("peers", Json::parse(R"([
    {"tunnel":"wg0","name":"b","public_key":"AAA=","endpoint":null,"last_handshake_age_s":null,"rx_bytes":0,"tx_bytes":1},
    {"tunnel":"wg0","name":"cc","public_key":"BBB=","endpoint":"192.0.2.1:1","last_handshake_age_s":90,"rx_bytes":5,"tx_bytes":6}])")),
            "peer    endpoint     handshake  received  sent  public key\n"
            "wg0/b                never           0 B   1 B  AAA=\n"
            "wg0/cc  192.0.2.1:1  90 s ago        5 B   6 B  BBB=\n");
  EXPECT_EQ(show_text("sets", Json::parse(R"([
    {"name":"lan","prefixes":300000,"holes":1,"memory_bytes":4194304,"source":"lan.txt","loaded_at":"today","error":""}])")),
            "set  prefixes  holes   memory  loaded  source\n"
            "lan    300000      1  4.0 MiB  today   lan.txt\n");
  EXPECT_EQ(show_text("tables", Json::parse(R"([
    {"name":"main","routes":[{"to":"default","exit":"a"},{"to":"10.0.0.0/8","exit":"bb"}]},{"name":"e","routes":[]}])")),
            "table main\n  to          exit\n  default     a\n  10.0.0.0/8  bb\n\ntable e\n  no "
            "routes\n");
  EXPECT_EQ(show_text("drops", Json::parse(R"([
    {"reason":"no_peer","packets":3},{"reason":"policy_drop","packets":12,"rule":100,"tunnel":"wg0"}])")),
            "reason       packets  tunnel  rule\n"
            "no_peer            3\n"
            "policy_drop       12  wg0     100\n");
  EXPECT_EQ(
      show_text(
          "tunnels",
          Json::parse(R"([{"name":"wg0","up":true,"mtu":1420,"listen_port":51820,"peers":2}])")),
      "tunnel  state   mtu   port  peers\n"
      "wg0     up     1420  51820      2\n");
}

TEST(ShowText, ShowsTheOverview) {
  EXPECT_EQ(
      show_text("status",
                Json::parse(R"({"config":"/etc/a.toml","confirm_seconds_left":12,"ok":true})")),
      "config: /etc/a.toml\nconfirm seconds left: 12\nok: yes\n");
}

TEST(ShowText, TakesWhatItDoesNotKnow) {
  EXPECT_EQ(show_text("moons", Json::parse("[1]")), "[\n  1\n]\n");
  EXPECT_EQ(show_text("rules", Json::parse("{\"a\":1}")), "{\n  \"a\": 1\n}\n");
  for (const char* odd :
       {"[1,null,\"x\",[]]", "[{\"members\":3,\"routes\":\"x\",\"loss\":\"y\",\"bytes\":\"z\"}]",
        "[{\"name\":{\"a\":[1]},\"last_handshake_age_s\":\"x\",\"alive\":1}]"}) {
    for (const char* what :
         {"rules", "sets", "tables", "exits", "peers", "drops", "tunnels", "status"}) {
      EXPECT_FALSE(show_text(what, Json::parse(odd)).empty()) << what << odd;
    }
  }
}

TEST(ShowText, DoesNotLetNamesDrawOnTheTerminal) {
  const std::string text = show_text("drops", {{{"reason", "a\x1b[2Jb\n"}, {"packets", 1}}});
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_NE(text.find("a?[2Jb?"), std::string::npos);
}

TEST(ShowText, CountsCharactersAndNotBytes) {
  const Json drops = Json::parse(
      "[{\"reason\":\"\xc3\xa9\",\"packets\":1},{\"reason\":\"abcdefg\",\"packets\":1}]");
  EXPECT_EQ(show_text("drops", drops),
            "reason   packets\n\xc3\xa9              1\nabcdefg        1\n");
}

TEST(ExplainText, HasALineForEachStep) {
  const Json explanation = Json::parse(R"({
    "packet":"tcp 10.0.0.5:40000 -> 198.51.100.7:443",
    "steps":[{"stage":"policy","text":"rule 100 matches","file":"w.toml","line":12},
             {"stage":"mtu","text":"fits"}],
    "verdict":"sent to wg0/b","outer":{"to":"192.0.2.1:51820","mark":"0x51820"}})");
  EXPECT_EQ(explain_text(explanation),
            "tcp 10.0.0.5:40000 -> 198.51.100.7:443\n"
            "  policy  rule 100 matches (w.toml:12)\n"
            "  mtu     fits\n"
            "  outer: to 192.0.2.1:51820, mark 0x51820\n"
            "verdict: sent to wg0/b\n");
  EXPECT_EQ(trace_text(explanation),
            "tcp 10.0.0.5:40000 -> 198.51.100.7:443: sent to wg0/b\n"
            "    policy  rule 100 matches (w.toml:12)\n"
            "    mtu     fits\n");
  EXPECT_EQ(explain_text(Json::array()), "");
}

}  // namespace
}  // namespace sallyport
