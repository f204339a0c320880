// Which routes the host is to have: every source of prefixes, and what wins where two say the same one.
#include "control/capture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/control/built_engine.h"

namespace sallyport::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

using Links = std::map<std::string, uint32_t>;
const Links kLinks = {{"wg0", 10}, {"wg1", 11}};

std::string tunnel(const std::string& name, const std::string& capture,
                   const std::string& allowed = "") {
  return "[tunnel." + name + "]\n$private\n" +
         (capture.empty() ? "" : "capture = [" + capture + "]\n") + "[[tunnel." + name +
         ".peer]]\nname = \"a\"\n$key\n" +
         (allowed.empty() ? "" : "allowed_ips = [" + allowed + "]\n");
}

// "10.0.0.0/8 10", or "throw 10.1.0.0/16".
std::vector<std::string> routes(const config::Config& config, const Links& links = kLinks) {
  const SetEntries entries = [&](const std::string& name) -> const auto& {
    return std::ranges::find(config.sets, name, &config::Set::name)->entries;
  };
  std::vector<std::string> texts;
  for (const HostRoute& route : captured_routes(config, entries, links)) {
    EXPECT_EQ(route.is_throw, route.link == 0);
    texts.push_back(route.is_throw ? "throw " + to_text(route.prefix)
                                   : to_text(route.prefix) + " " + std::to_string(route.link));
  }
  return texts;
}

TEST(Capture, NothingIsCapturedUnasked) {
  EXPECT_THAT(routes(config_of(tunnel("wg0", "", "\"10.0.0.0/8\""))), IsEmpty());
}

TEST(Capture, PrefixesAndHolesOfBothFamilies) {
  EXPECT_THAT(routes(config_of(tunnel("wg0",
                                      "\"10.0.0.0/8\", \"!10.1.0.0/16\", \"2001:db8::/32\", "
                                      "\"!2001:db8:1::/48\", \"10.1.2.0/24\""))),
              ElementsAre("10.0.0.0/8 10", "throw 10.1.0.0/16", "10.1.2.0/24 10",
                          "2001:db8::/32 10", "throw 2001:db8:1::/48"));
}

TEST(Capture, TheAllowedIpsOfEveryPeer) {
  std::string text = tunnel("wg0", "\"allowed_ips\", \"!10.2.0.0/16\"",
                            "\"10.1.0.0/16\", \"10.2.0.0/16\", \"::/0\"");
  text += "[[tunnel.wg0.peer]]\nname = \"b\"\n$key\nallowed_ips = [\"10.1.0.0/16\", \"0.0.0.0/0\"]";
  EXPECT_THAT(routes(config_of(text)),
              ElementsAre("0.0.0.0/0 10", "10.1.0.0/16 10", "throw 10.2.0.0/16", "::/0 10"))
      << "one route for a prefix of two peers; the hole wins over its equal";
}

TEST(Capture, SetsWithTheirHoles) {
  EXPECT_THAT(routes(config_of(tunnel("wg0", "\"@lan\", \"!10.7.0.0/16\"") +
                               "[set.lan]\nprefixes = [\"10.0.0.0/8\", \"!10.9.0.0/16\"]\n")),
              ElementsAre("10.0.0.0/8 10", "throw 10.7.0.0/16", "throw 10.9.0.0/16"));
}

// As the set itself has it (policy_assets.h): inline entries come behind the list's.
TEST(Capture, OfTwoEqualPrefixesOfASetTheLastCounts) {
  config::Config config = config_of(tunnel("wg0", "\"@lan\"") +
                                    "[set.lan]\nprefixes = [\"10.0.0.0/8\", \"!10.9.0.0/16\"]\n");
  std::vector<config::Set::Entry>& entries = config.sets[0].entries;
  entries.push_back(entries[1]);
  entries.back().hole = false;
  EXPECT_THAT(routes(config), ElementsAre("10.0.0.0/8 10", "10.9.0.0/16 10"));
  entries.push_back(entries[0]);
  entries.back().hole = true;
  EXPECT_THAT(routes(config), ElementsAre("throw 10.0.0.0/8", "10.9.0.0/16 10"));
  config.tunnels[0].capture.holes.push_back(entries[1].prefix);
  EXPECT_THAT(routes(config), ElementsAre("throw 10.0.0.0/8", "throw 10.9.0.0/16"))
      << "the capture's own holes are in all of it";
}

TEST(Capture, TheFirstTunnelOfTheFileHasItsPrefix) {
  config::Config config = config_of(tunnel("wg1", "\"10.0.0.0/8\"") +
                                    tunnel("wg0", "\"10.1.0.0/16\", \"!10.2.0.0/16\""));
  EXPECT_THAT(routes(config), ElementsAre("10.0.0.0/8 11", "10.1.0.0/16 10", "throw 10.2.0.0/16"));
  config.tunnels[1].capture.prefixes.push_back(config.tunnels[0].capture.prefixes[0]);
  EXPECT_THAT(routes(config), ElementsAre("10.0.0.0/8 11", "10.1.0.0/16 10", "throw 10.2.0.0/16"));
  config.tunnels[1].capture.holes.push_back(config.tunnels[0].capture.prefixes[0]);
  EXPECT_THAT(routes(config),
              ElementsAre("throw 10.0.0.0/8", "10.1.0.0/16 10", "throw 10.2.0.0/16"))
      << "a hole is one in the whole table";
}

TEST(Capture, ATunnelWithoutALinkHasNoRoutes) {
  const config::Config config =
      config_of(tunnel("wg0", "\"10.0.0.0/8\"") + tunnel("wg1", "\"10.1.0.0/16\""));
  EXPECT_THAT(routes(config, {{"wg1", 11}}), ElementsAre("10.1.0.0/16 11"));
  EXPECT_THAT(routes(config, {}), IsEmpty());
}

}  // namespace
}  // namespace sallyport::test
