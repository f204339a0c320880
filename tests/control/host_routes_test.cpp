// HostRoutes puts exactly what is wanted into its table and its rules, and never touches what is not its own. Each test has
// a network namespace of its own; ip(8) says what is really there.
#include "control/host_routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>
#include <chrono>
#include <iostream>
#include <random>
#include <thread>

#include "control/host_route_query.h"
#include "tests/control/host_network.h"

namespace sallyport::test {
namespace {

using testing::HasSubstr;
using testing::Not;
using Clock = std::chrono::steady_clock;

std::unique_ptr<HostRoutes> open_routes(const HostRoutes::Options& options = {}) {
  auto opened = HostRoutes::open(options);
  EXPECT_TRUE(opened) << opened.error().text;
  return std::move(*opened);
}

HostRoutes::Wanted wanted(std::vector<HostRoute> routes, const HostRoutes::Options& options = {}) {
  HostRoutes::Wanted out{std::move(routes), {}};
  out.rules = HostRoutes::rules_for(options, out.routes);
  return out;
}

HostRoute to(const std::string& text, uint32_t link) {
  return {prefix(text), link, false};
}

HostRoute hole(const std::string& text) {
  return {prefix(text), 0, true};
}

HostRoutes::Report apply(HostRoutes& routes, const HostRoutes::Wanted& what) {
  const auto report = routes.apply(what);
  EXPECT_TRUE(report) << report.error().text;
  return report.value_or(HostRoutes::Report{});
}

std::string table4() {
  return ip("route show table 180");
}
std::string table6() {
  const std::string shown = ip("-6 route show table 180");
  return shown.find("FIB table does not exist") == std::string::npos ? shown : "";
}
std::string rules4() {
  return ip("rule show");
}
std::string rules6() {
  return ip("-6 rule show");
}
std::string everything() {
  return ip("route show table all") + ip("-6 route show table all") + rules4() + rules6();
}
std::string way_to(const std::string& destination, const std::string& more = "") {
  return ip("route get " + destination + " " + more);
}

// `count` prefixes of either family, disjoint, by one link.
std::vector<HostRoute> many(size_t count, uint32_t link) {
  std::vector<HostRoute> out;
  for (uint32_t i = 0; i < count / 2; ++i) {
    const uint8_t v4[4] = {static_cast<uint8_t>(20 + (i >> 18)), static_cast<uint8_t>(i >> 10),
                           static_cast<uint8_t>(i >> 2), static_cast<uint8_t>(i << 6)};
    out.push_back({{IpAddress::v4(v4), 26}, link, false});
    uint8_t v6[16] = {0x20,
                      0x01,
                      0x0d,
                      static_cast<uint8_t>(i >> 16),
                      static_cast<uint8_t>(i >> 8),
                      static_cast<uint8_t>(i)};
    out.push_back({{IpAddress::v6(v6), 48}, link, false});
  }
  return out;
}

TEST(HostRoutesTest, AddsKeepsAndRemovesBothFamiliesAndHoles) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    const std::string before = everything();
    const auto routes = open_routes();
    const auto what = wanted({to("10.0.0.0/8", link), hole("10.1.0.0/16"), to("fd00::/8", link),
                              hole("fd01::/16"), to("192.0.2.7/32", link)});
    auto report = apply(*routes, what);
    EXPECT_EQ(report.routes.added, 5u);
    EXPECT_EQ(report.rules.added, 2u);
    EXPECT_TRUE(report.warnings.empty()) << report.warnings.front();
    EXPECT_EQ(table4(),
              "10.0.0.0/8 dev wg0 proto 180 scope link linkdown \n"
              "throw 10.1.0.0/16 proto 180 \n"
              "192.0.2.7 dev wg0 proto 180 scope link linkdown \n");
    EXPECT_THAT(table6(), HasSubstr("throw fd01::/16 dev lo proto 180"));
    EXPECT_THAT(table6(), HasSubstr("fd00::/8 dev wg0 proto 180"));
    EXPECT_THAT(rules4(), HasSubstr("5180:\tnot from all fwmark 0x51820 lookup 180 proto 180"));
    EXPECT_THAT(rules6(), HasSubstr("5180:\tnot from all fwmark 0x51820 lookup 180 proto 180"));

    report = apply(*routes, what);
    EXPECT_EQ(report.routes.kept, 5u);
    EXPECT_EQ(report.rules.kept, 2u);
    EXPECT_FALSE(report.changed());

    report = apply(*routes, wanted({to("10.0.0.0/8", link), to("10.2.0.0/16", link)}));
    EXPECT_EQ(report.routes.added, 1u);
    EXPECT_EQ(report.routes.removed, 4u);
    EXPECT_EQ(report.rules.removed, 1u);  // IPv6's
    EXPECT_EQ(table6(), "");

    EXPECT_TRUE(routes->remove_all());
    EXPECT_EQ(everything(), before);
    EXPECT_TRUE(routes->remove_all());
  });
}

TEST(HostRoutesTest, SelectsByDestinationUnlessMarkedAsComingFromATunnel) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    make_link("wan");
    ip("route add default dev wan");
    const auto routes = open_routes();
    apply(*routes, wanted({to("10.0.0.0/8", link), hole("10.1.0.0/16")}));
    EXPECT_THAT(way_to("10.9.9.9"), HasSubstr("dev wg0"));
    EXPECT_THAT(way_to("10.1.0.1"), HasSubstr("dev wan"));  // through the hole
    EXPECT_THAT(way_to("9.9.9.9"), HasSubstr("dev wan"));
    EXPECT_THAT(way_to("10.9.9.9", "mark 0x51820"), HasSubstr("dev wan"));
  });
}

TEST(HostRoutesTest, SelectsByMarkWhereThereIsAToMark) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    make_link("wan");
    ip("route add default dev wan");
    HostRoutes::Options options;
    const auto by_destination = open_routes(options);
    apply(*by_destination, wanted({to("0.0.0.0/0", link)}, options));
    options.to_mark = 0x51821;
    const auto routes = open_routes(options);
    const auto report = apply(*routes, wanted({to("0.0.0.0/0", link)}, options));
    EXPECT_EQ(report.rules.added, 1u);
    EXPECT_EQ(report.rules.removed, 4u);
    EXPECT_EQ(report.routes.kept, 1u);
    EXPECT_THAT(rules4(), HasSubstr("5180:\tfrom all fwmark 0x51821 lookup 180 proto 180"));
    EXPECT_THAT(way_to("9.9.9.9"), HasSubstr("dev wan"));
    EXPECT_THAT(way_to("9.9.9.9", "mark 0x51821"), HasSubstr("dev wg0"));
    EXPECT_THAT(way_to("9.9.9.9", "mark 0x51820"), HasSubstr("dev wan"));
  });
}

TEST(HostRoutesTest, AWholeFamilyLeavesMainItsOwnRoutes) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    make_link("wan");
    ip("route add default dev wan");
    ip("route add 172.16.0.0/12 dev wan");
    ip("-6 route add default dev wan");
    ip("-6 route add fd77::/64 dev wan");
    const auto routes = open_routes();
    apply(*routes, wanted({to("0.0.0.0/0", link), to("::/0", link)}));
    EXPECT_THAT(rules4(),
                HasSubstr("5179:\tfrom all lookup main suppress_prefixlength 0 proto 180\n"
                          "5179:\tfrom all iif wg0 lookup 180 suppress_prefixlength 0 proto 180\n"
                          "5179:\tfrom all iif wg0 lookup main proto 180\n5180:"));
    EXPECT_THAT(way_to("9.9.9.9"), HasSubstr("dev wg0"));
    EXPECT_THAT(way_to("172.16.0.1"), HasSubstr("dev wan"));
    EXPECT_THAT(way_to("2001:db8::1"), HasSubstr("dev wg0"));
    EXPECT_THAT(way_to("fd77::1"), HasSubstr("dev wan"));
    apply(*routes, wanted({to("0.0.0.0/1", link)}));
    EXPECT_THAT(rules4() + rules6(), Not(HasSubstr("suppress")));
    EXPECT_THAT(way_to("100.64.0.1"), HasSubstr("dev wg0"));
  });
}

// Asks for the way to each address over and over, until told to stop; counts the answers that are not by table 180.
class Checker {
 public:
  explicit Checker(std::vector<std::string> addresses)
      : thread_([this, addresses = std::move(addresses)] {
          auto query = HostRouteQuery::open();
          for (size_t i = 0; !stop_; ++i) {
            const auto path = query->query(address(addresses[i % addresses.size()]), 0);
            lost_ += path && path->table == 180 ? 0 : 1;
            ++asked_;
          }
        }) {}
  ~Checker() { stop(); }
  void stop() {
    stop_ = true;
    if (thread_.joinable()) {
      thread_.join();
    }
  }
  size_t asked() const { return asked_; }
  size_t lost() const { return lost_; }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<size_t> asked_ = 0, lost_ = 0;
  std::thread thread_;
};

TEST(HostRoutesTest, WhatIsInTheOldAndTheNewSetIsNeverWithoutARoute) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t one = make_link("wg0"), other = make_link("wg1");
    const auto routes = open_routes();
    // Kept: 10.1 and fd01. By another link each time: 10.2 and fd02. A hole each other time: 10.3.
    const auto set = [&](uint32_t link, std::vector<HostRoute> more) {
      more.insert(more.end(), {to("10.1.0.0/16", one), to("fd01::/16", one),
                               to("10.2.0.0/16", link), to("fd02::/16", link)});
      return wanted(std::move(more));
    };
    const auto left = set(one, many(600, one));
    auto right = set(other, many(200, other));
    right.routes.push_back(to("0.0.0.0/0", one));  // the suppressing rule comes and goes
    right.routes.push_back(to("::/0", one));
    right = wanted(right.routes);
    apply(*routes, left);
    Checker checker({"10.1.0.1", "10.2.0.1", "fd01::1", "fd02::1"});
    while (checker.asked() < 100) {
      std::this_thread::yield();
    }
    for (int i = 0; i < 60; ++i) {
      const auto report = apply(*routes, i % 2 == 0 ? right : left);
      EXPECT_EQ(report.routes.kept, 2u);
      EXPECT_EQ(report.routes.changed, 202u);
    }
    checker.stop();
    EXPECT_EQ(checker.lost(), 0u) << "of " << checker.asked();
    // The checker can fail:
    apply(*routes, {});
    Checker failing({"10.1.0.1"});
    while (failing.asked() < 10) {
      std::this_thread::yield();
    }
    failing.stop();
    EXPECT_GT(failing.lost(), 0u);
  });
}

TEST(HostRoutesTest, HolesBecomeRoutesInPlaceAndBack) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    const auto routes = open_routes();
    for (const char* text : {"10.3.0.0/16", "fd03::/16"}) {
      apply(*routes, wanted({to(text, link)}));
      auto report = apply(*routes, wanted({hole(text)}));
      EXPECT_EQ(report.routes.changed, 1u);
      EXPECT_THAT(table4() + table6(), HasSubstr(std::string("throw ") + text));
      EXPECT_THAT(table4() + table6(), Not(HasSubstr("wg0")));
      report = apply(*routes, wanted({to(text, link)}));
      EXPECT_EQ(report.routes.changed, 1u);
      EXPECT_THAT(table4() + table6(), Not(HasSubstr("throw")));
      apply(*routes, {});
      EXPECT_EQ(table4() + table6(), "");
    }
  });
}

TEST(HostRoutesTest, CleansUpAfterADaemonThatWasKilled) {
  SALLYPORT_IN_NAMESPACE([] {
    const std::string clean = everything();
    {
      const uint32_t link = make_link("wg0");
      const auto killed = open_routes();
      apply(*killed, wanted({to("0.0.0.0/0", link), to("10.0.0.0/8", link), hole("10.1.0.0/16"),
                             to("::/0", link), hole("fd01::/16")}));
      delete_interface("wg0");
    }
    EXPECT_THAT(table4(), HasSubstr("throw"));
    EXPECT_THAT(rules4(), HasSubstr("suppress"));
    const uint32_t link = make_link("wg0");
    const auto next = open_routes();
    const auto report = apply(*next, wanted({to("10.0.0.0/8", link), hole("10.2.0.0/16")}));
    EXPECT_EQ(report.routes.added, 2u);
    EXPECT_EQ(report.routes.removed, 2u);
    EXPECT_EQ(report.rules.kept, 1u);
    EXPECT_EQ(report.rules.removed, 7u);
    EXPECT_EQ(table4(),
              "10.0.0.0/8 dev wg0 proto 180 scope link linkdown \nthrow 10.2.0.0/16 proto 180 \n");
    EXPECT_TRUE(next->remove_all());
    delete_interface("wg0");
    EXPECT_EQ(everything(), clean);
  });
}

TEST(HostRoutesTest, FindsItsRulesAlsoUnderAnotherPriority) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    HostRoutes::Options options;
    options.rule_priority = 700;
    apply(*open_routes(options), wanted({to("0.0.0.0/0", link)}, options));
    const auto routes = open_routes();
    apply(*routes, wanted({to("0.0.0.0/0", link)}));
    EXPECT_THAT(rules4(), Not(HasSubstr("700:")));
    EXPECT_THAT(rules4(), Not(HasSubstr("699:")));
    EXPECT_THAT(rules4(), HasSubstr("5179:"));
  });
}

TEST(HostRoutesTest, TwoDaemonsWithTablesOfTheirOwn) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    HostRoutes::Options options;
    options.table = 181;
    options.rule_priority = 700;
    const auto other = open_routes(options);
    apply(*other, wanted({to("0.0.0.0/0", link)}, options));
    const std::string before = everything();
    const auto routes = open_routes();
    apply(*routes, wanted({to("0.0.0.0/0", link), to("10.0.0.0/8", link)}));
    EXPECT_FALSE(apply(*other, wanted({to("0.0.0.0/0", link)}, options)).changed());
    EXPECT_TRUE(routes->remove_all());
    EXPECT_EQ(everything(), before);
  });
}

TEST(HostRoutesTest, LeavesWhatIsNotItsOwnAlone) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    make_link("wan");
    for (const char* one :
         {"route add default dev wan", "route add 10.5.0.0/16 dev wan table 180 proto static",
          "-6 route add fd05::/16 dev wan table 180 proto static",
          "route add 10.6.0.0/16 dev wan table 181 proto 180",
          "route add 10.7.0.0/16 dev wan table 180 metric 77 proto static",
          "rule add fwmark 7 lookup 180 pref 5180",
          "rule add lookup main suppress_prefixlength 0 pref 5179",
          "rule add from 192.0.2.1 lookup 77 pref 99 protocol 180",
          "-6 rule add not fwmark 0x51820 lookup 180 pref 5180"}) {
      EXPECT_EQ(ip(one), "") << one;
    }
    const std::string before = everything();
    const auto routes = open_routes();
    const auto what =
        wanted({to("10.5.0.0/16", link), to("fd05::/16", link), to("10.7.0.0/16", link),
                to("10.8.0.0/16", link), to("0.0.0.0/0", link)});
    const auto report = apply(*routes, what);
    EXPECT_EQ(report.routes.added, 3u);  // 10.7 has another metric, so there is room for ours
    EXPECT_EQ(report.rules.added, 5u);
    std::string warnings;
    for (const std::string& warning : report.warnings) {
      warnings += warning + "\n";
    }
    EXPECT_THAT(
        warnings,
        HasSubstr(
            "\"10.5.0.0/16 dev wg0\" is not in table 180: somebody else has a route for it there"));
    EXPECT_THAT(warnings, HasSubstr("\"fd05::/16 dev wg0\" is not in table 180"));
    EXPECT_THAT(warnings, HasSubstr("somebody else has IPv4 routes in table 180 (2, the first: "
                                    "10.5.0.0/16, protocol static)"));
    EXPECT_THAT(warnings, HasSubstr("somebody else has an IPv4 rule at priority 5180 (\"fwmark 0x7 "
                                    "lookup 180 pref 5180\", protocol none)"));
    EXPECT_THAT(table4(), HasSubstr("10.5.0.0/16 dev wan proto static"));
    EXPECT_FALSE(apply(*routes, what).changed());
    EXPECT_TRUE(routes->remove_all());
    EXPECT_EQ(everything(), before);
  });
}

TEST(HostRoutesTest, AFailureInTheMiddleUndoesAll) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0"), other = make_link("wg1");
    const auto routes = open_routes();
    auto old_set = many(1000, link);
    old_set.push_back(hole("10.3.0.0/16"));
    apply(*routes, wanted(old_set));
    const std::string before = everything();

    auto what = many(4000, other);  // changes, additions
    what.push_back(to("100.0.0.0/8", 9999));
    auto failed = routes->apply(wanted(what));
    ASSERT_FALSE(failed);
    EXPECT_THAT(failed.error().text,
                HasSubstr("cannot add 100.0.0.0/8 dev #9999 to table 180: No such device"));
    EXPECT_EQ(everything(), before);

    what.pop_back();
    auto with_rules = wanted(what);
    with_rules.rules.push_back(
        {Family::v6, 5181, 0, 7, false, {}});  // refused: a table 0 there is not
    failed = routes->apply(with_rules);
    ASSERT_FALSE(failed);
    EXPECT_THAT(failed.error().text,
                HasSubstr("cannot add the IPv6 rule \"fwmark 0x7 lookup 0 pref 5181\": "));
    EXPECT_EQ(everything(), before);
  });
}

TEST(HostRoutesTest, ALinkThatIsDown) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    ip("link set wg0 down");
    const auto failed = open_routes()->apply(wanted({to("10.0.0.0/8", link)}));
    ASSERT_FALSE(failed);
    EXPECT_THAT(failed.error().text,
                HasSubstr("cannot add 10.0.0.0/8 dev wg0 to table 180: Network is down"));
    EXPECT_THAT(failed.error().text, HasSubstr("; set the link up first"));
  });
}

TEST(HostRoutesTest, WithoutThePrivilege) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    apply(*open_routes(), wanted({to("10.1.0.0/16", link)}));
    const std::string before = everything();
    ASSERT_TRUE(give_up_root());
    const auto routes = open_routes();
    EXPECT_FALSE(apply(*routes, wanted({to("10.1.0.0/16", link)}))
                     .changed());  // nothing to do needs nothing
    auto failed = routes->apply(wanted({to("10.0.0.0/8", link)}));
    ASSERT_FALSE(failed);
    EXPECT_EQ(
        failed.error().text,
        "cannot add 10.0.0.0/8 dev wg0 to table 180: Operation not permitted; needs CAP_NET_ADMIN");
    failed = routes->apply({});
    ASSERT_FALSE(failed);
    EXPECT_THAT(failed.error().text, HasSubstr("cannot remove the IPv4 rule \"not fwmark 0x51820 "
                                               "lookup 180 pref 5180\": Operation not permitted"));
    EXPECT_EQ(everything(), before);
  });
}

TEST(HostRoutesTest, RefusesWhatCannotBe) {
  const auto text_of = [](const HostRoutes::Options& options) {
    const auto opened = HostRoutes::open(options);
    return opened ? std::string() : opened.error().text;
  };
  EXPECT_THAT(text_of({.table = 254}), HasSubstr("table 254 is the host's own"));
  EXPECT_THAT(text_of({.protocol = 2}), HasSubstr("route protocol 2 is the kernel's"));
  EXPECT_THAT(text_of({.rule_priority = 32766}), HasSubstr("rule priority 32766"));
  EXPECT_THAT(text_of({.rule_priority = 1}), HasSubstr("rule priority 1 "));
  const auto routes = open_routes();
  const auto twice = routes->apply({{to("10.0.0.0/8", 9998), to("10.0.0.0/8", 9999)}, {}});
  ASSERT_FALSE(twice);
  EXPECT_THAT(
      twice.error().text,
      HasSubstr(
          "two routes for one prefix: \"10.0.0.0/8 dev #9998\" and \"10.0.0.0/8 dev #9999\""));
  EXPECT_FALSE(routes->apply({{to("10.0.0.0/8", 0)}, {}}));
}

TEST(HostRoutesTest, AHugeTableNumberAndHostBits) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    HostRoutes::Options options;
    options.table = 4000000000;
    const auto routes = open_routes(options);
    const HostRoute with_bits{{address("10.1.2.3"), 9}, link, false},
        with_bits6{{address("fd00::1"), 44}, link, false};
    const auto what = wanted({with_bits, with_bits6}, options);
    EXPECT_EQ(apply(*routes, what).routes.added, 2u);
    EXPECT_EQ(ip("route show table 4000000000"),
              "10.0.0.0/9 dev wg0 proto 180 scope link linkdown \n");
    EXPECT_FALSE(apply(*routes, what).changed());
    EXPECT_THAT(way_to("10.9.9.9"), HasSubstr("dev wg0"));
  });
}

// Random sets, one after the other: the table is the set, and ip(8) shows as many.
TEST(HostRoutesTest, AnySetAfterAnyOther) {
  SALLYPORT_IN_NAMESPACE([] {
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const uint32_t links[] = {make_link("wg0"), make_link("wg1")};
    const auto routes = open_routes();
    const auto pool = many(400, links[0]);
    for (int round = 0; round < 20; ++round) {
      std::vector<HostRoute> set;
      for (HostRoute route : pool) {
        if (random() % 2 == 0) {
          route.is_throw = random() % 4 == 0;
          route.link = route.is_throw ? 0 : links[random() % 2];
          set.push_back(route);
        }
      }
      std::ranges::shuffle(set, random);
      apply(*routes, wanted(set));
      const auto report = apply(*routes, wanted(set));
      EXPECT_EQ(report.routes.kept, set.size());
      EXPECT_FALSE(report.changed());
      const std::string shown = table4() + table6();
      EXPECT_EQ(static_cast<size_t>(std::ranges::count(shown, '\n')), set.size());
    }
  });
}

// SALLYPORT_HOST_ROUTES=300000 measures more.
TEST(HostRoutesTest, ManyPrefixes) {
  SALLYPORT_IN_NAMESPACE([] {
    const char* more = std::getenv("SALLYPORT_HOST_ROUTES");
    const size_t count = more != nullptr ? std::strtoul(more, nullptr, 10) : 50000;
    const uint32_t link = make_link("wg0"), other = make_link("wg1");
    boost::asio::io_context context;  // outlives what watches on it
    int calls = 0;
    const auto routes = open_routes();
    ASSERT_TRUE(routes->watch(context, [&] { ++calls; }));
    const auto timed = [&](const char* what, const std::vector<HostRoute>& set) {
      const auto start = Clock::now();
      const auto report = apply(*routes, wanted(set));
      const auto ms =
          std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count();
      std::cout << what << " " << count << ": " << ms << " ms\n";
      return report;
    };
    EXPECT_EQ(timed("add", many(count, link)).routes.added, count);
    EXPECT_EQ(timed("keep", many(count, link)).routes.kept, count);
    EXPECT_EQ(timed("change", many(count, other)).routes.changed, count);
    EXPECT_EQ(timed("remove", {}).routes.removed, count);
    context.poll();
    EXPECT_EQ(calls, 0) << "so many changes of its own must not look like somebody else's";
    EXPECT_EQ(table4() + table6(), "");
  });
}

TEST(HostRoutesTest, WatchTellsWhenSomebodyMeddles) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    make_link("wan");
    boost::asio::io_context context;
    int calls = 0;
    const auto routes = open_routes();
    const auto called = [&] {
      context.restart();
      context.poll();
      return std::exchange(calls, 0) > 0;
    };
    ASSERT_TRUE(routes->watch(context, [&] { ++calls; }));
    const auto what = wanted({to("10.0.0.0/8", link), hole("10.1.0.0/16"), to("fd00::/8", link)});
    apply(*routes, what);
    EXPECT_FALSE(called()) << "by its own changes";
    for (const char* quiet :
         {"route add 10.9.0.0/16 dev wan", "route add 10.0.0.0/8 dev wan table 181 proto 180",
          "route add 11.0.0.0/8 dev wan table 180 proto static",
          "rule add fwmark 9 lookup 77 pref 90", "-6 route add fd09::/16 dev wan",
          "link set wan down", "link set wan up", "link set wg0 mtu 1400"}) {
      EXPECT_EQ(ip(quiet), "") << quiet;
      EXPECT_FALSE(called()) << quiet;
    }
    for (const char* loud :
         {"route del 10.0.0.0/8 table 180", "route replace 10.0.0.0/8 dev wan table 180",
          "route del throw 10.1.0.0/16 table 180", "-6 route del fd00::/8 table 180",
          "-6 route replace fd00::/8 dev wan table 180", "rule del pref 5180",
          "-6 rule del pref 5180", "route flush table 180"}) {
      EXPECT_EQ(ip(loud), "") << loud;
      EXPECT_TRUE(called()) << loud;
      for (const char* theirs :
           {"route flush table 180 proto boot", "-6 route flush table 180 proto boot"}) {
        ip(theirs);
      }
      apply(*routes, what);
      EXPECT_THAT(table4(), HasSubstr("10.0.0.0/8 dev wg0 proto 180")) << loud;
      EXPECT_THAT(table6(), HasSubstr("fd00::/8 dev wg0 proto 180")) << loud;
      EXPECT_THAT(rules4() + rules6(), HasSubstr("5180:")) << loud;
      EXPECT_FALSE(called()) << "by the repair after " << loud;
    }
    ip("link set wg0 down");
    EXPECT_FALSE(called()) << "a link that goes down";
    EXPECT_EQ(table4(), "throw 10.1.0.0/16 proto 180 \n");
    ip("link set wg0 up");
    EXPECT_TRUE(called()) << "a link that came up";
    EXPECT_EQ(apply(*routes, what).routes.added, 2u);
  });
}

TEST(HostRoutesTest, AWatchThatEndsIsSilent) {
  SALLYPORT_IN_NAMESPACE([] {
    const uint32_t link = make_link("wg0");
    boost::asio::io_context context;
    int calls = 0;
    auto routes = open_routes();
    // By its own call.
    ASSERT_TRUE(routes->watch(context, [&] {
      ++calls;
      routes.reset();
      ++calls;
    }));
    apply(*routes, wanted({to("10.0.0.0/8", link)}));
    ip("route del 10.0.0.0/8 table 180");
    context.poll();
    EXPECT_EQ(calls, 2);
    // With a call on its way.
    routes = open_routes();
    ASSERT_TRUE(routes->watch(context, [&] { ++calls; }));
    apply(*routes, wanted({to("10.0.0.0/8", link)}));
    ip("route del 10.0.0.0/8 table 180");
    bool ended = false;
    context.restart();
    boost::asio::post(context, [&] {
      routes.reset();
      ended = true;
    });
    context.poll();
    EXPECT_TRUE(ended);
    EXPECT_LE(calls, 3);
  });
}

}  // namespace
}  // namespace sallyport::test
