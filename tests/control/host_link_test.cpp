// HostLink gives a link the addresses it shall have, and HostRouteQuery says how the host would send. Each test has a network
// namespace of its own; ip(8) says what is really there.
#include "control/host_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/host_route_query.h"
#include "tests/control/host_network.h"

namespace sallyport::test {
namespace {

using testing::HasSubstr;
using testing::Not;

HostLink open_link(uint32_t index) {
  auto opened = HostLink::open(index, 180);
  EXPECT_TRUE(opened) << opened.error().text;
  return std::move(*opened);
}

// With its host bits, as a configuration has it.
IpPrefix own(const std::string& text) {
  const size_t slash = text.find('/');
  return {address(text.substr(0, slash)), static_cast<uint8_t>(std::stoi(text.substr(slash + 1)))};
}

std::string shown(const char* name = "wg0") {
  return ip(std::string("-br address show dev ") + name);
}

HostLink::Report set(HostLink& link, const std::vector<std::string>& texts) {
  std::vector<IpPrefix> wanted;
  for (const std::string& text : texts) {
    wanted.push_back(own(text));
  }
  const auto report = link.set_addresses(wanted);
  EXPECT_TRUE(report) << report.error().text;
  return report.value_or(HostLink::Report{});
}

TEST(HostLinkTest, AddressesComeStayAndGo) {
  SALLYPORT_IN_NAMESPACE([] {
    HostLink link = open_link(make_link("wg0"));
    auto report = set(link, {"10.9.0.1/24", "10.9.0.2/24", "fd09::1/64", "192.0.2.1/32"});
    EXPECT_EQ(report.added, 4u);
    EXPECT_THAT(ip("-6 address show dev wg0"), HasSubstr("fd09::1/64 scope global nodad"));
    EXPECT_THAT(ip("-6 address show dev wg0"), Not(HasSubstr("tentative")));
    report = set(link, {"10.9.0.1/24", "10.9.0.2/24", "fd09::1/64", "192.0.2.1/32"});
    EXPECT_EQ(report.kept, 4u);
    EXPECT_EQ(report.added + report.removed, 0u);
    // The primary of a subnet goes, its secondary stays; a length changes.
    set(link, {"10.9.0.2/24", "fd09::1/48"});
    EXPECT_THAT(shown(), HasSubstr("10.9.0.2/24"));
    EXPECT_THAT(shown(), HasSubstr("fd09::1/48"));
    EXPECT_THAT(shown(), Not(HasSubstr("10.9.0.1/")));
    EXPECT_THAT(shown(), Not(HasSubstr("192.0.2.1")));
    EXPECT_THAT(shown(), Not(HasSubstr("fd09::1/64")));
    set(link, {});
    EXPECT_THAT(shown(), Not(HasSubstr("fd09::")));
    EXPECT_THAT(shown(), Not(HasSubstr("10.9.0.")));
  });
}

TEST(HostLinkTest, SomebodyElsesAddressesStay) {
  SALLYPORT_IN_NAMESPACE([] {
    HostLink link = open_link(make_link("wg0"));
    ip("address add 198.51.100.1/24 dev wg0");
    ip("-6 address add fd0f::1/64 dev wg0");
    const auto report = set(link, {"198.51.100.1/24", "10.9.0.1/24"});
    EXPECT_EQ(report.added, 1u);
    EXPECT_EQ(report.kept, 1u);
    set(link, {});
    EXPECT_THAT(shown(), HasSubstr("198.51.100.1/24"));
    EXPECT_THAT(shown(), HasSubstr("fd0f::1/64"));
    EXPECT_THAT(shown(), Not(HasSubstr("10.9.0.1")));
  });
}

TEST(HostLinkTest, FindsWhatAKilledDaemonLeft) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t index = make_link("wg0");
    {
      HostLink killed = open_link(index);
      set(killed, {"10.9.0.1/24", "fd09::1/64"});
    }
    HostLink next = open_link(index);
    set(next, {"10.9.0.1/24"});
    EXPECT_THAT(shown(), HasSubstr("10.9.0.1/24"));
    EXPECT_THAT(shown(), Not(HasSubstr("fd09::1")));
  });
}

TEST(HostLinkTest, MtuAndState) {
  SALLYPORT_IN_NAMESPACE([] {
    HostLink link = open_link(make_link("wg0"));
    EXPECT_TRUE(link.set_mtu(1380));
    EXPECT_THAT(ip("link show wg0"), HasSubstr("mtu 1380"));
    EXPECT_TRUE(link.set_up(false));
    EXPECT_THAT(ip("link show wg0"), Not(HasSubstr("UP")));
    EXPECT_EQ(ip("link set wg0 name wg7"), "");  // the number stays
    EXPECT_TRUE(link.set_up(true));
    EXPECT_THAT(ip("link show wg7"), HasSubstr(",UP"));
    const auto refused = link.set_mtu(70000);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().text,
                HasSubstr("cannot set the MTU of wg7 to 70000: Invalid argument"));
    delete_interface("wg7");
    EXPECT_FALSE(link.set_up(true));
    EXPECT_FALSE(link.set_addresses({own("10.9.0.1/24")}));
  });
}

TEST(HostLinkTest, WithoutThePrivilege) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t index = make_link("wg0");
    ASSERT_TRUE(give_up_root());
    HostLink link = open_link(index);
    const auto refused = link.set_addresses({own("10.9.0.1/24")});
    ASSERT_FALSE(refused);
    EXPECT_EQ(
        refused.error().text,
        "cannot give wg0 the address 10.9.0.1/24: Operation not permitted; needs CAP_NET_ADMIN");
    EXPECT_THAT(link.set_up(false).error().text,
                HasSubstr("cannot set wg0 down: Operation not permitted; needs"));
  });
}

class HostRouteQueryTest : public testing::Test {
 protected:
  static Result<HostPath> ask(const std::string& destination, uint32_t mark = 0, uint32_t oif = 0) {
    auto query = HostRouteQuery::open();
    EXPECT_TRUE(query) << query.error().text;
    return query->query(address(destination), mark, oif);
  }
  static std::string text(const std::string& destination, uint32_t mark = 0, uint32_t oif = 0) {
    const auto path = ask(destination, mark, oif);
    return path ? to_text(*path) : path.error().text;
  }
};

TEST_F(HostRouteQueryTest, GatewayDeviceSourceTableAndMtu) {
  SALLYPORT_IN_NAMESPACE([] {
    make_link("wan");
    const uint32_t other = make_link("other");
    for (const char* one :
         {"address add 192.0.2.7/24 dev wan", "-6 address add 2001:db8::7/64 dev wan nodad",
          "route add default via 192.0.2.1", "-6 route add default via 2001:db8::1",
          "route add 198.51.100.0/24 via 192.0.2.2 mtu 1300",
          "-6 route add 2001:db8:5::/48 dev wan mtu 1350", "address add 203.0.113.7/24 dev other",
          "route add default via 203.0.113.1 table 200", "rule add fwmark 5 lookup 200",
          "route add default via 203.0.113.9 metric 500",
          "route add 10.0.0.0/8 via inet6 2001:db8::9 dev wan"}) {
      EXPECT_EQ(ip(one), "") << one;
    }
    EXPECT_EQ(text("9.9.9.9"), "via 192.0.2.1 dev wan src 192.0.2.7 table main mtu 1500");
    EXPECT_EQ(text("9.9.9.9", 5), "via 203.0.113.1 dev other src 203.0.113.7 table 200 mtu 1500");
    EXPECT_EQ(text("9.9.9.9", 0, other),
              "via 203.0.113.9 dev other src 203.0.113.7 table main mtu 1500");
    EXPECT_EQ(text("198.51.100.1"), "via 192.0.2.2 dev wan src 192.0.2.7 table main mtu 1300");
    EXPECT_EQ(text("192.0.2.9"), "dev wan src 192.0.2.7 table main mtu 1500");
    EXPECT_EQ(text("2001:db8:9::9"), "via 2001:db8::1 dev wan src 2001:db8::7 table main mtu 1500");
    EXPECT_EQ(text("2001:db8:5::9"), "dev wan src 2001:db8::7 table main mtu 1350");
    EXPECT_EQ(text("10.0.0.1"), "via 2001:db8::9 dev wan src 192.0.2.7 table main mtu 1500");
    const auto here = ask("192.0.2.7");
    ASSERT_TRUE(here);
    EXPECT_TRUE(here->local);
    EXPECT_EQ(here->device, "lo");
  });
}

TEST_F(HostRouteQueryTest, NoWay) {
  SALLYPORT_IN_NAMESPACE([] {
    make_link("wan");
    EXPECT_EQ(text("9.9.9.9"), "the host has no way to 9.9.9.9: Network is unreachable");
    EXPECT_THAT(text("9.9.9.9", 0x51820), HasSubstr("no way to 9.9.9.9 (fwmark 0x51820): "));
    EXPECT_THAT(text("2001:db8::1"), HasSubstr("the host has no way to 2001:db8::1: "));
    for (const char* one :
         {"route add unreachable 10.0.0.0/8", "route add prohibit 11.0.0.0/8",
          "-6 route add blackhole 2001:db8:1::/48", "route add blackhole 12.0.0.0/8"}) {
      EXPECT_EQ(ip(one), "") << one;
    }
    for (const char* destination : {"10.0.0.1", "11.0.0.1", "12.0.0.1", "2001:db8:1::1"}) {
      EXPECT_FALSE(ask(destination)) << destination;
    }
    EXPECT_FALSE(HostRouteQuery::open()->query(IpAddress{}, 0));
  });
}

}  // namespace
}  // namespace sallyport::test
