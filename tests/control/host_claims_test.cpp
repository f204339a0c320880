// Claims in a namespace of their own: ip(8) says what is there.
#include "control/host_claims.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/control/host_network.h"

namespace sallyport::test {
namespace {

using testing::HasSubstr;
using testing::Not;

std::unique_ptr<HostClaims> open_claims() {
  auto opened = HostClaims::open({});
  EXPECT_TRUE(opened) << opened.error().text;
  return std::move(*opened);
}

HostRule claim(const std::string& to, std::pair<uint16_t, uint16_t> ports, uint32_t table) {
  HostRule rule;
  rule.to = prefix(to);
  rule.family = rule.to->address.family;
  rule.protocol = 6;
  rule.dport = ports;
  rule.table = table;
  return rule;
}

Claims claims_for(uint32_t link, std::vector<HostRule> first) {
  Claims out;
  out.first = std::move(first);
  out.tables = {{181, link, Family::v4}, {181, link, Family::v6}};
  HostRule source;
  source.priority = 5178;
  source.table = 181;
  source.from = prefix("10.9.0.1/32");
  out.sources = {source};
  return out;
}

void apply(HostClaims& host, const Claims& wanted) {
  const auto applied = host.apply(wanted);
  EXPECT_TRUE(applied) << applied.error().text;
}

// The rules of priority 0, as ip(8) prints them.
std::string first_rules(const std::string& family = "") {
  std::string out;
  const std::string all = ip(family + " rule show");
  for (size_t at = 0; at < all.size();) {
    const size_t end = all.find('\n', at) + 1;
    const std::string line = all.substr(at, end - at);
    out += line.starts_with("0:") ? line : "";
    at = end;
  }
  return out;
}

std::string everything() {
  return ip("rule show") + ip("-6 rule show") + ip("route show table all") +
         ip("-6 route show table all");
}

constexpr uint32_t kLocal = 255;

TEST(HostClaimsTest, StandBeforeLocalInTheirOrderAndGo) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    const std::string before = everything();
    const auto host = open_claims();
    const Claims wanted = claims_for(
        link, {claim("192.0.2.1/32", {22, 22}, kLocal), claim("192.0.2.1/32", {1, 65534}, 181),
               claim("2001:db8::1/128", {61000, 65534}, 181)});
    apply(*host, wanted);
    EXPECT_EQ(first_rules(),
              "0:\tfrom all to 192.0.2.1 ipproto tcp dport 22 lookup local proto 180\n"
              "0:\tfrom all to 192.0.2.1 ipproto tcp dport 1-65534 lookup 181 proto 180\n"
              "0:\tfrom all lookup local\n");
    EXPECT_THAT(first_rules("-6"), HasSubstr("to 2001:db8::1 ipproto tcp dport 61000-65534"));
    EXPECT_THAT(ip("rule show"), HasSubstr("5178:\tfrom 10.9.0.1 lookup 181 proto 180"));
    EXPECT_THAT(ip("route show table 181"), HasSubstr("default dev wg0"));

    const std::string there = everything();
    apply(*host, wanted);
    EXPECT_EQ(everything(), there) << "the same again changes nothing";
    EXPECT_TRUE(host->remove_all());
    EXPECT_EQ(everything(), before);
  });
}

TEST(HostClaimsTest, AChangeKeepsTheOrder) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    const auto host = open_claims();
    const HostRule a = claim("192.0.2.1/32", {1000, 2000}, 181),
                   b = claim("192.0.2.1/32", {22, 22}, kLocal),
                   c = claim("192.0.2.9/32", {1, 65534}, 181);
    apply(*host, claims_for(link, {a, c}));
    apply(*host, claims_for(link, {b, a, c}));
    EXPECT_EQ(first_rules(),
              "0:\tfrom all to 192.0.2.1 ipproto tcp dport 22 lookup local proto 180\n"
              "0:\tfrom all to 192.0.2.1 ipproto tcp dport 1000-2000 lookup 181 proto 180\n"
              "0:\tfrom all to 192.0.2.9 ipproto tcp dport 1-65534 lookup 181 proto 180\n"
              "0:\tfrom all lookup local\n");
    apply(*host, claims_for(link, {c}));
    EXPECT_EQ(first_rules(),
              "0:\tfrom all to 192.0.2.9 ipproto tcp dport 1-65534 lookup 181 proto 180\n"
              "0:\tfrom all lookup local\n");
  });
}

TEST(HostClaimsTest, RepairsAndLeavesAloneWhatIsSomebodyElses) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    EXPECT_EQ(ip("rule add to 192.0.2.77 lookup 99 pref 0"), "");
    const std::string before = everything();
    const auto host = open_claims();
    const Claims wanted = claims_for(link, {claim("192.0.2.1/32", {1, 65534}, 181)});
    apply(*host, wanted);
    const std::string there = everything();
    EXPECT_THAT(there, HasSubstr("to 192.0.2.77 lookup 99"));
    EXPECT_EQ(ip("rule del to 192.0.2.1 ipproto tcp dport 1-65534 lookup 181 pref 0"), "");
    EXPECT_EQ(ip("rule add from all lookup local pref 0"), "");  // a second one
    apply(*host, wanted);
    EXPECT_THAT(first_rules(), HasSubstr("to 192.0.2.1 ipproto tcp dport 1-65534 lookup 181"));
    EXPECT_EQ(first_rules().find("lookup local"), first_rules().rfind("lookup local"))
        << first_rules();
    EXPECT_TRUE(host->remove_all());
    EXPECT_THAT(everything(), HasSubstr("to 192.0.2.77 lookup 99"));
    EXPECT_THAT(everything(), Not(HasSubstr("proto 180")));
    EXPECT_THAT(first_rules(), HasSubstr("lookup local"));
  });
}

// A daemon that was killed: its successor knows nothing, and finds what it left.
TEST(HostClaimsTest, CleansUpAfterAnother) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    const std::string before = ip("rule show") + ip("-6 rule show");
    apply(*open_claims(), claims_for(link, {claim("192.0.2.1/32", {1, 65534}, 181),
                                            claim("192.0.2.1/32", {22, 22}, kLocal)}));
    apply(*open_claims(), Claims{});
    EXPECT_EQ(ip("rule show") + ip("-6 rule show"), before);
  });
}

}  // namespace
}  // namespace sallyport::test
