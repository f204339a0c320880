// Netlink carries batches: which message was refused, and what happens when the kernel's answers are lost.
#include "control/netlink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>

#include "control/host_route_messages.h"
#include "tests/control/host_network.h"

namespace sallyport::test {
namespace {

constexpr uint8_t kProtocol = 180;
constexpr uint32_t kTable = 180;

HostRoute nth(size_t i, uint32_t link) {
  const uint8_t bytes[4] = {20, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i), 0};
  return {{IpAddress::v4(bytes), 24}, link, false};
}

size_t count_routes() {
  const std::string shown = ip("route show table 180");
  return static_cast<size_t>(std::ranges::count(shown, '\n'));
}

bool exists(int code) {
  return code == EEXIST;
}
bool missing(int code) {
  return code == ESRCH;
}

TEST(HostNetlinkTest, NamesTheMessageThatWasRefused) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    auto netlink = Netlink::open();
    ASSERT_TRUE(netlink);
    constexpr size_t kBad = 4321;
    const auto batch = netlink->change_many(
        20000,
        [&](size_t i) {
          return new_route(nth(i, i == kBad ? 9999 : link), kTable, kProtocol, NLM_F_EXCL);
        },
        exists);
    ASSERT_TRUE(batch.refused);
    EXPECT_EQ(batch.refused->index, kBad);
    EXPECT_EQ(batch.refused->error.code, ENODEV);
    EXPECT_GT(batch.sent, kBad);
    EXPECT_LT(batch.sent, 20000u);  // it stops
    EXPECT_EQ(count_routes(), batch.sent - 1);
  });
}

TEST(HostNetlinkTest, AnswersThatWereLost) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    auto netlink = Netlink::open();
    ASSERT_TRUE(netlink);
    const int tiny = 1;
    ASSERT_EQ(setsockopt(netlink->descriptor(), SOL_SOCKET, SO_RCVBUF, &tiny, sizeof(tiny)), 0);
    // Every one is answered, since there is none of them.
    const auto removed = netlink->change_many(
        3000, [&](size_t i) { return delete_route(nth(i, link), kTable, kProtocol); }, missing);
    EXPECT_FALSE(removed.refused) << removed.refused->error.text;
    EXPECT_EQ(removed.sent, 3000u);
    const auto added = netlink->change_many(
        3000, [&](size_t i) { return new_route(nth(i, link), kTable, kProtocol, NLM_F_EXCL); },
        exists);
    EXPECT_FALSE(added.refused) << added.refused->error.text;
    const auto again = netlink->change_many(
        3000, [&](size_t i) { return new_route(nth(i, link), kTable, kProtocol, NLM_F_EXCL); },
        exists);
    EXPECT_FALSE(again.refused) << again.refused->error.text;
    EXPECT_EQ(count_routes(), 3000u);
    const auto refused = netlink->change_many(
        3000,
        [&](size_t i) { return new_route(nth(i + 2990, link), kTable, kProtocol, NLM_F_EXCL); },
        missing);
    ASSERT_TRUE(refused.refused);
    EXPECT_EQ(refused.refused->index, 0u);
    // The socket works on.
    const auto found = netlink->dump<FoundRoute>(
        route_dump(Family::v4, kTable),
        [](const nlmsghdr& message) { return parse_route(message, Family::v4); });
    ASSERT_TRUE(found) << found.error().text;
    EXPECT_GE(found->size(), 3000u);
  });
}

TEST(HostNetlinkTest, CarriesTheKernelsOwnWords) {
  SALLYPORT_IN_NAMESPACE([] {
    auto netlink = Netlink::open();
    ASSERT_TRUE(netlink);
    HostRoute route = nth(1, if_nametoindex("lo"));
    route.prefix.length = 33;
    const auto refused = netlink->change(new_route(route, kTable, kProtocol, 0));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EINVAL);
    EXPECT_EQ(refused.error().text, "Invalid argument (Invalid prefix length)");
  });
}

}  // namespace
}  // namespace sallyport::test
