// Tunnels within tunnels: chains, their MTUs, and what ends both.
#include "control/config_nesting.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "control/config_diff.h"
#include "tests/control/config_texts.h"

namespace sallyport::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string tunnel(const std::string& name, const std::string& keys,
                   const std::string& endpoint = "192.0.2.1:1") {
  return "[tunnel." + name + "]\nprivate_key_file = \"k\"\n" + keys + "\n[[tunnel." + name +
         ".peer]]\nname = \"p\"\npublic_key = \"" + kKeyB + "\"\n" +
         (endpoint.empty() ? "" : "endpoint = \"" + endpoint + "\"\n");
}

std::string errors(const std::string& text) {
  return all(read_toml(text, "x.toml").errors);
}

uint32_t mtu(const std::string& text, const std::string& name) {
  const ReadResult result = read_toml(text, "x.toml");
  EXPECT_EQ(all(result.errors), "") << text;
  for (const Tunnel& each : result.config.tunnels) {
    if (each.name == name) {
      return mtu_of(result.config, each);
    }
  }
  return 0;
}

TEST(ConfigNesting, MtuOfOneTunnel) {
  EXPECT_EQ(mtu(tunnel("wg0", ""), "wg0"), 1420u) << "where nothing says";
  EXPECT_EQ(mtu(tunnel("wg0", "mtu = 1300"), "wg0"), 1300u);
  EXPECT_EQ(mtu(tunnel("wg0", "path_mtu = 1500"), "wg0"), 1440u) << "IPv4 adds 60";
  EXPECT_EQ(mtu(tunnel("wg0", "path_mtu = 1500", "[2001:db8::1]:1"), "wg0"), 1420u);
  EXPECT_EQ(mtu(tunnel("wg0", "path_mtu = 1500", "vpn.example:1"), "wg0"), 1420u);
  EXPECT_EQ(mtu(tunnel("wg0", "path_mtu = 1500", ""), "wg0"), 1420u);
  EXPECT_EQ(mtu(tunnel("wg0", "path_mtu = \"measured\""), "wg0"), 1420u);
}

TEST(ConfigNesting, MtuAlongAChain) {
  const std::string chain = tunnel("wg2", "via = \"wg1\"") +
                            tunnel("wg1", "via = \"wg0\"", "[2001:db8::1]:1") +
                            tunnel("wg0", "path_mtu = 1500");
  EXPECT_EQ(mtu(chain, "wg0"), 1440u);
  EXPECT_EQ(mtu(chain, "wg1"), 1360u);
  EXPECT_EQ(mtu(chain, "wg2"), 1300u);
  EXPECT_EQ(mtu(tunnel("wg1", "via = \"wg0\"\nmtu = 1280") + tunnel("wg0", ""), "wg1"), 1280u);
  EXPECT_EQ(mtu(tunnel("wg1", "via = \"wg0\"") + tunnel("wg0", "mtu = 1400"), "wg1"), 1340u);
}

TEST(ConfigNesting, AChainThatComesBackIsSpelled) {
  const std::string around = tunnel("wg0", "via = \"wg1\"") + tunnel("wg1", "via = \"wg2\"") +
                             tunnel("wg2", "via = \"wg0\"") + tunnel("wg3", "via = \"wg0\"");
  EXPECT_EQ(errors(around),
            "x.toml:3: tunnel.wg0.via: the tunnel would be within itself: wg0 via wg1 via wg2 via "
            "wg0\n"
            "x.toml:10: tunnel.wg1.via: the tunnel would be within itself: wg1 via wg2 via wg0 via "
            "wg1\n"
            "x.toml:17: tunnel.wg2.via: the tunnel would be within itself: wg2 via wg0 via wg1 via "
            "wg2\n");
}

TEST(ConfigNesting, AChainIsAsDeepAsThereIsRoom) {
  std::string deep = tunnel("wg0", "mtu = 9000");
  for (int i = 1; i < 9; ++i) {
    const std::string more =
        tunnel("wg" + std::to_string(i), "via = \"wg" + std::to_string(i - 1) + "\"");
    deep += more;
    EXPECT_EQ(errors(deep).empty(), i < 8) << errors(deep);
  }
  EXPECT_THAT(errors(deep), HasSubstr("wg8 via wg7 via wg6"));
  EXPECT_THAT(errors(deep), HasSubstr("nest at most 8 deep"));
  std::string narrow = tunnel("wg0", "mtu = 640");
  EXPECT_EQ(errors(narrow + tunnel("wg1", "via = \"wg0\"")), "");
  EXPECT_THAT(
      errors(narrow + tunnel("wg1", "via = \"wg0\"", "")),
      HasSubstr("tunnel.wg1.via: tunnel 'wg0' carries 640, and 80 of that are headers: what "
                "is left, 560, is less than the 576 that IPv4 needs"));
}

TEST(ConfigNesting, APeersPathIsNotWiderThanTheTunnelBelow) {
  EXPECT_THAT(errors(tunnel("wg0", "") + tunnel("wg1", "via = \"wg0\"") + "path_mtu = 1500\n"),
              HasSubstr("tunnel.wg1.peer[1].path_mtu: is more than tunnel 'wg0' carries, 1420"));
  EXPECT_EQ(errors(tunnel("wg0", "") + tunnel("wg1", "via = \"wg0\"") + "path_mtu = 1400\n"), "");
}

TEST(ConfigNesting, AScopeIsNoWayThroughATunnel) {
  EXPECT_THAT(errors(tunnel("wg0", "") + tunnel("wg1", "via = \"wg0\"", "[fe80::1%eth0]:1")),
              HasSubstr("tunnel.wg1.peer[1].endpoint: has the scope of an interface"));
}

TEST(ConfigNesting, ADiff) {
  const std::string below = tunnel("wg0", "");
  const Config from = read_toml(below + tunnel("wg1", ""), "x.toml").config;
  const Config to =
      read_toml(below + tunnel("wg1", "via = \"wg0\"\nmss = 1200") + "path_mtu = 1300\n", "x.toml")
          .config;
  EXPECT_THAT(diff(from, to),
              ElementsAre("tunnel wg1: via none -> wg0", "tunnel wg1: mss clamp -> 1200",
                          "peer wg1/p: path_mtu the tunnel's -> 1300"));
  EXPECT_THAT(diff(to, from),
              ElementsAre("tunnel wg1: via wg0 -> none", "tunnel wg1: mss 1200 -> clamp",
                          "peer wg1/p: path_mtu 1300 -> the tunnel's"));
}

}  // namespace
}  // namespace sallyport::config
