// Names of endpoints against a name server of the test's own: slow, lying, silent, missing.
#include "control/resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "dataplane/base/descriptor.h"
#include "tests/control/dns_server.h"

namespace sallyport::test {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using Says = DnsServer::Says;
using List = std::vector<std::string>;

List texts(const std::vector<IpAddress>& addresses) {
  List list;
  for (const IpAddress& address : addresses) {
    list.push_back(to_text(address));
  }
  return list;
}

Says addresses(const List& list, uint32_t ttl = 300) {
  Says says;
  for (const std::string& each : list) {
    says.records.push_back({each, ttl});
  }
  return says;
}

Says slowly(Says says, std::chrono::milliseconds delay) {
  says.delay = delay;
  return says;
}

Says code(uint8_t value) {
  Says says;
  says.code = value;
  return says;
}

Says silence() {
  Says says;
  says.silent = true;
  return says;
}

constexpr uint8_t kServerFailure = 2, kNoSuchName = 3, kRefused = 5;

class ResolverTest : public testing::Test {
 protected:
  ResolverTest() {
    char name[] = "/tmp/resolver_test.XXXXXX";
    folder_ = mkdtemp(name);
    settings_.lookup.resolv_conf = folder_ / "resolv.conf";
    settings_.lookup.hosts = folder_ / "hosts";
    settings_.lookup.server_wait = 100ms;
    settings_.lifetime_min = 50ms;
    settings_.retry_min = 20ms;
    settings_.retry_max = 60ms;
    settings_.resolv_conf_look = 10ms;
  }
  ~ResolverTest() override { fs::remove_all(folder_); }

  Resolver& resolver() {
    if (resolver_ == nullptr) {
      resolver_ = std::make_unique<Resolver>(context_, settings_);
    }
    return *resolver_;
  }
  Underlay by_server() { return {"", 0, {server_.text()}}; }
  Resolver::Handle watch(const std::string& host, const Underlay& underlay) {
    return resolver().watch(host, underlay,
                            [this](const auto& list) { heard_.push_back(texts(list)); });
  }
  Resolver::Handle watch(const std::string& host) { return watch(host, by_server()); }

  // Runs the loop until `done`, at most for a few seconds.
  template <class Condition>
  bool until(Condition done) {
    const auto end = std::chrono::steady_clock::now() + 5s;
    while (!done() && std::chrono::steady_clock::now() < end) {
      context_.run_one_for(10ms);
    }
    return done();
  }
  bool heard(size_t count) {
    return until([&] { return heard_.size() >= count; });
  }
  bool settled(Resolver::Handle handle) {
    return until([&] { return !resolver().describe(handle).asking; });
  }
  bool failed(Resolver::Handle handle, unsigned times = 1) {
    return until([&] { return resolver().describe(handle).failures >= times; });
  }
  void run_for(std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      context_.run_one_for(5ms);
    }
  }

  fs::path folder_;
  boost::asio::io_context context_;
  DnsServer server_{context_};
  Resolver::Settings settings_;
  std::unique_ptr<Resolver> resolver_;
  std::vector<List> heard_;
};

TEST_F(ResolverTest, OnlyA) {
  server_.say("a.test", addresses({"192.0.2.1", "192.0.2.2"}), {});
  const auto handle = watch("a.test");
  EXPECT_TRUE(heard_.empty()) << "never from within watch";
  ASSERT_TRUE(heard(1));
  EXPECT_EQ(heard_[0], (List{"192.0.2.1", "192.0.2.2"}));
  ASSERT_TRUE(settled(handle));
  const auto state = resolver().describe(handle);
  EXPECT_EQ(state.host, "a.test");
  EXPECT_EQ(texts(state.addresses), heard_[0]);
  EXPECT_EQ(state.error, "");
  EXPECT_EQ(state.failures, 0u);
  EXPECT_LT(state.age.value(), 5s);
  EXPECT_GT(state.next.value(), 290s);
  EXPECT_LE(state.next.value(), 300s);
}

TEST_F(ResolverTest, OnlyAaaa) {
  server_.say("a.test", {}, addresses({"2001:db8::1"}));
  watch("a.test");
  ASSERT_TRUE(heard(1));
  EXPECT_EQ(heard_[0], List{"2001:db8::1"});
}

TEST_F(ResolverTest, TheFamilyThatAnswersFirstLeadsAndIsNotKeptWaiting) {
  server_.say("four.test", addresses({"192.0.2.1"}), slowly(addresses({"2001:db8::1"}), 50ms));
  server_.say("six.test", slowly(addresses({"192.0.2.1"}), 50ms), addresses({"2001:db8::1"}));
  watch("four.test");
  ASSERT_TRUE(heard(2));
  EXPECT_EQ(heard_, (std::vector<List>{{"192.0.2.1"}, {"192.0.2.1", "2001:db8::1"}}));
  heard_.clear();
  watch("six.test");
  ASSERT_TRUE(heard(2));
  EXPECT_EQ(heard_, (std::vector<List>{{"2001:db8::1"}, {"2001:db8::1", "192.0.2.1"}}));
}

TEST_F(ResolverTest, AFamilyThatNeverAnswersDoesNotHoldTheOtherUp) {
  server_.say("a.test", addresses({"192.0.2.1"}), silence());
  const auto handle = watch("a.test");
  ASSERT_TRUE(heard(1));
  EXPECT_TRUE(resolver().describe(handle).asking);
  ASSERT_TRUE(settled(handle));
  EXPECT_EQ(resolver().describe(handle).failures, 0u);
  EXPECT_EQ(heard_.size(), 1u);
}

TEST_F(ResolverTest, AskedAgainWhenTheLeastTtlRunsOut) {
  auto mixed = addresses({"192.0.2.1"}, 300);
  mixed.records.push_back({"192.0.2.2", 1});
  server_.say("a.test", mixed, addresses({"2001:db8::1"}, 600));
  const auto handle = watch("a.test");
  ASSERT_TRUE(heard(2));
  ASSERT_TRUE(settled(handle));
  EXPECT_LE(resolver().describe(handle).next.value(), 1s);
  heard_.clear();
  server_.say_of(DnsServer::kA, "a.test", addresses({"192.0.2.9", "192.0.2.2"}));
  ASSERT_TRUE(heard(1));
  EXPECT_EQ(server_.asked(DnsServer::kA), 2);
  EXPECT_EQ(heard_[0], (List{"192.0.2.2", "192.0.2.9", "2001:db8::1"}))
      << "what remains keeps its place";
}

TEST_F(ResolverTest, TheTtlOfAnAliasCounts) {
  auto says = addresses({"192.0.2.1"}, 300);
  says.alias = "real.test";
  says.alias_ttl = 7;
  server_.say("a.test", says, {});
  const auto handle = watch("a.test");
  ASSERT_TRUE(heard(1));
  ASSERT_TRUE(settled(handle));
  EXPECT_LE(resolver().describe(handle).next.value(), 7s);
}

TEST_F(ResolverTest, LifetimesAreClamped) {
  settings_.lifetime_min = 5s;
  settings_.lifetime_max = 1h;
  server_.say("short.test", addresses({"192.0.2.1"}, 0), {});
  server_.say("long.test", addresses({"192.0.2.1"}, 86400), {});
  server_.say("odd.test", addresses({"192.0.2.1"}, 0xffffffff), {});
  const auto shorter = watch("short.test"), longer = watch("long.test"), odd = watch("odd.test");
  ASSERT_TRUE(settled(shorter) && settled(longer) && settled(odd));
  EXPECT_GT(resolver().describe(shorter).next.value(), 4s);
  EXPECT_LE(resolver().describe(longer).next.value(), 1h);
  EXPECT_GT(resolver().describe(longer).next.value(), 59min);
  EXPECT_LE(resolver().describe(odd).next.value(), 1h);
}

TEST_F(ResolverTest, AnOrderThatTurnedRoundIsNoChange) {
  server_.say("a.test", addresses({"192.0.2.1", "192.0.2.2"}, 0), {});
  watch("a.test");
  ASSERT_TRUE(heard(1));
  server_.say("a.test", addresses({"192.0.2.2", "192.0.2.1"}, 0), {});
  ASSERT_TRUE(until([&] { return server_.asked(DnsServer::kA) >= 4; }));
  EXPECT_EQ(heard_.size(), 1u);
}

TEST_F(ResolverTest, AFamilyThatIsTakenAwayGoes) {
  server_.say("a.test", addresses({"192.0.2.1"}, 0), slowly(addresses({"2001:db8::1"}, 0), 10ms));
  watch("a.test");
  ASSERT_TRUE(heard(2));
  server_.say("a.test", {}, addresses({"2001:db8::1"}, 0));
  ASSERT_TRUE(heard(3));
  EXPECT_EQ(heard_[2], List{"2001:db8::1"});
}

TEST_F(ResolverTest, FailuresAreTriedAgainUntilTheyEnd) {
  const struct {
    const char* name;
    Says says;
    const char* words;
  } cases[] = {
      {"servfail.test", code(kServerFailure), "SERVFAIL"},
      {"nxdomain.test", code(kNoSuchName), "no such name"},
      {"refused.test", code(kRefused), "refuses to answer"},
      {"nodata.test", {}, "no address"},
      {"silent.test", silence(), "no answer"},
      {"zero.test", addresses({"0.0.0.0", "255.255.255.255", "224.0.0.1"}), "nobody can be at"},
  };
  for (const auto& each : cases) {
    SCOPED_TRACE(each.name);
    heard_.clear();
    server_.say(each.name, each.says, each.says.records.empty() ? each.says : Says{});
    const auto handle = watch(each.name);
    ASSERT_TRUE(failed(handle, 2));
    EXPECT_TRUE(heard_.empty());
    const auto state = resolver().describe(handle);
    EXPECT_THAT(state.error, testing::HasSubstr(each.words));
    EXPECT_FALSE(state.age);
    server_.say(each.name, addresses({"192.0.2.1"}), {});
    ASSERT_TRUE(heard(1));
    ASSERT_TRUE(settled(handle));
    EXPECT_EQ(resolver().describe(handle).error, "");
    EXPECT_EQ(resolver().describe(handle).failures, 0u);
    resolver().forget(handle);
  }
}

TEST_F(ResolverTest, ErrorsNameWhoWasAsked) {
  const auto handle = watch("nobody.test");
  ASSERT_TRUE(failed(handle));
  EXPECT_EQ(resolver().describe(handle).error, "no such name (asked " + server_.text() + ")");
}

TEST_F(ResolverTest, RetriesGrowToTheirMost) {
  settings_.retry_min = 1000ms;
  settings_.retry_max = 60000ms;
  const auto handle = watch("nobody.test");
  ASSERT_TRUE(failed(handle));
  const auto next = resolver().describe(handle).next.value();
  EXPECT_GT(next, 300ms);
  EXPECT_LE(next, 1000ms);
  settings_.retry_min = 10ms;
  settings_.retry_max = 12ms;
  resolver_.reset();
  const auto quick = watch("nobody.test");
  ASSERT_TRUE(failed(quick, 8));
  EXPECT_LE(resolver().describe(quick).next.value(), 12ms);
}

TEST_F(ResolverTest, WhatIsKnownStaysWhileNamesFail) {
  server_.say("a.test", addresses({"192.0.2.1"}, 0), {});
  const auto handle = watch("a.test");
  ASSERT_TRUE(heard(1));
  server_.say("a.test", code(kNoSuchName), code(kNoSuchName));
  ASSERT_TRUE(failed(handle, 3));
  EXPECT_EQ(texts(resolver().describe(handle).addresses), List{"192.0.2.1"});
  EXPECT_TRUE(resolver().describe(handle).age);
  server_.say("a.test", addresses({"192.0.2.1"}), {});
  ASSERT_TRUE(until([&] { return resolver().describe(handle).failures == 0; }));
  EXPECT_EQ(heard_.size(), 1u);
}

// What comes from a liar counts as no answer, and an honest one that comes later is heard.
TEST_F(ResolverTest, ALyingServer) {
  using Bytes = DnsServer::Bytes;
  const struct {
    const char* name;
    std::function<void(Bytes&)> spoil;
  } lies[] = {
      {"id.test", [](Bytes& bytes) { bytes[0] ^= 0xff; }},
      {"name.test", [](Bytes& bytes) { bytes[13] ^= 0x01; }},
      {"type.test", [](Bytes& bytes) { bytes[24] = 16; }},
      {"short.test", [](Bytes& bytes) { bytes.erase(bytes.begin() + 11, bytes.end()); }},
      {"empty.test", [](Bytes& bytes) { bytes.erase(bytes.begin() + 1, bytes.end()); }},
      {"cut.test", [](Bytes& bytes) { bytes.erase(bytes.end() - 3, bytes.end()); }},
      {"count.test", [](Bytes& bytes) { bytes[6] = bytes[7] = 0xff; }},
      {"loop.test",
       [](Bytes& bytes) {  // a name that points to itself
         const auto at = bytes.size();
         bytes.push_back(0xc0);
         bytes.push_back(static_cast<uint8_t>(at));
         bytes[7] = 9;
       }},
      {"noise.test",
       [](Bytes& bytes) {
         for (size_t i = 12; i < bytes.size(); ++i) {
           bytes[i] = static_cast<uint8_t>(i * 37);
         }
       }},
  };
  for (const auto& lie : lies) {
    SCOPED_TRACE(lie.name);
    heard_.clear();
    Says v4 = addresses({"203.0.113.66"}), v6 = addresses({"2001:db8:66::66"});
    v4.spoil = v6.spoil = lie.spoil;
    server_.say(lie.name, v4, v6);
    const auto handle = watch(lie.name);
    ASSERT_TRUE(failed(handle));
    EXPECT_TRUE(heard_.empty());
    server_.say(lie.name, addresses({"192.0.2.1"}), {});
    ASSERT_TRUE(heard(1));
    EXPECT_EQ(heard_[0], List{"192.0.2.1"});
    resolver().forget(handle);
  }
}

TEST_F(ResolverTest, AddressesOfAnotherNameDoNotCount) {
  Says says = addresses({"203.0.113.66"});
  says.owner = "other.test";
  server_.say("a.test", says, {});
  const auto handle = watch("a.test");
  ASSERT_TRUE(failed(handle));
  EXPECT_TRUE(heard_.empty());
}

TEST_F(ResolverTest, AWrongAnswerBeforeTheRightOneDoesNoHarm) {
  Says says = addresses({"192.0.2.1"});
  says.spoil = [&](DnsServer::Bytes& bytes) {
    bytes[0] ^= 0xff;
    says.spoil = nullptr;
    server_.say_of(DnsServer::kA, "a.test", addresses({"192.0.2.1"}));  // for the next try
  };
  Says first = says;
  server_.say("a.test", first, {});
  const auto handle = watch("a.test");
  ASSERT_TRUE(heard(1));
  EXPECT_EQ(resolver().describe(handle).failures, 0u);
}

TEST_F(ResolverTest, TruncatedGoesByTcp) {
  List many;
  for (int i = 1; i <= 100; ++i) {
    many.push_back("192.0.2." + std::to_string(i));
  }
  Says says = addresses(many);
  says.truncated = true;
  server_.say("a.test", says, {});
  watch("a.test");
  ASSERT_TRUE(heard(1));
  EXPECT_GE(server_.asked_by_tcp(), 1);
  EXPECT_EQ(heard_[0].size(), kResolvedPerFamilyMax) << "bounded";
  EXPECT_EQ(heard_[0][0], "192.0.2.1");
}

TEST_F(ResolverTest, TruncatedWithoutTcpFails) {
  server_.shut_tcp();
  Says says = addresses({"192.0.2.1"});
  says.truncated = true;
  server_.say("a.test", says, {});
  const auto handle = watch("a.test");
  ASSERT_TRUE(failed(handle, 2));
  EXPECT_THAT(resolver().describe(handle).error, testing::HasSubstr("refused"));
}

TEST_F(ResolverTest, NumericHostsAreTheirOwnAnswer) {
  const struct {
    const char* host;
    const char* address;
  } cases[] = {
      {"192.0.2.7", "192.0.2.7"}, {"2001:db8::7", "2001:db8::7"}, {"fe80::7%lo", "fe80::7"}};
  for (const auto& each : cases) {
    heard_.clear();
    const auto handle = watch(each.host);
    EXPECT_TRUE(heard_.empty());
    context_.poll();
    ASSERT_EQ(heard_.size(), 1u);
    EXPECT_EQ(heard_[0], List{each.address});
    resolver().refresh(handle);
    EXPECT_FALSE(resolver().describe(handle).asking);
    EXPECT_FALSE(resolver().describe(handle).next);
  }
  EXPECT_TRUE(server_.names.empty());
}

TEST_F(ResolverTest, NamesThatDnsCannotCarry) {
  for (const std::string& host : {std::string("two..dots"), std::string(64, 'x') + ".test",
                                  std::string(300, 'x'), std::string()}) {
    const auto handle = watch(host);
    ASSERT_TRUE(failed(handle)) << host;
    EXPECT_NE(resolver().describe(handle).error, "") << host;
  }
  EXPECT_TRUE(heard_.empty());
}

TEST_F(ResolverTest, ForgottenAtAnyMomentOfAQuery) {
  server_.say("a.test", slowly(addresses({"192.0.2.1"}), 3ms),
              slowly(addresses({"2001:db8::1"}), 6ms));
  for (int turns = 0; turns < 12; ++turns) {
    const auto handle = watch("a.test");
    for (int i = 0; i < turns; ++i) {
      context_.run_one_for(2ms);
    }
    resolver().forget(handle);
    heard_.clear();
    run_for(15ms);
    EXPECT_TRUE(heard_.empty());
    EXPECT_EQ(resolver().describe(handle).host, "");
  }
  const auto numeric = watch("192.0.2.1");
  resolver().forget(numeric);
  run_for(5ms);
  EXPECT_TRUE(heard_.empty());
}

TEST_F(ResolverTest, TheCallMayForgetAndMayEndTheResolver) {
  server_.say("a.test", addresses({"192.0.2.1"}), addresses({"2001:db8::1"}));
  Resolver::Handle handle{};
  int calls = 0;
  handle = resolver().watch("a.test", by_server(), [&](const auto&) {
    ++calls;
    resolver().forget(handle);
  });
  run_for(50ms);
  EXPECT_EQ(calls, 1);
  resolver().watch("a.test", by_server(), [&](const auto& list) {
    resolver_.reset();
    EXPECT_EQ(list.size(), 1u);
    ++calls;
  });
  run_for(50ms);
  EXPECT_EQ(calls, 2);
}

TEST_F(ResolverTest, EndedDuringQueriesAndRetries) {
  server_.say("slow.test", slowly(addresses({"192.0.2.1"}), 20ms), silence());
  for (int i = 0; i < 3; ++i) {
    watch("slow.test");
    watch("nobody.test");
    watch("192.0.2.1");
    run_for(std::chrono::milliseconds(i * 8));
    heard_.clear();
    resolver_.reset();
    run_for(30ms);
    EXPECT_TRUE(heard_.empty());
  }
}

TEST_F(ResolverTest, ServersChanged) {
  DnsServer other(context_);
  server_.say("a.test", addresses({"192.0.2.1"}), {});
  other.say("a.test", addresses({"192.0.2.2"}), {});
  const auto handle = watch("a.test");
  ASSERT_TRUE(heard(1));
  ASSERT_TRUE(settled(handle));
  resolver().set_underlay(handle, by_server());
  EXPECT_FALSE(resolver().describe(handle).asking) << "the same";
  resolver().set_underlay(handle, {"", 0, {other.text()}});
  EXPECT_EQ(texts(resolver().describe(handle).addresses), List{"192.0.2.1"});
  ASSERT_TRUE(heard(2));
  EXPECT_EQ(heard_[1], List{"192.0.2.2"});
  EXPECT_EQ(server_.asked(DnsServer::kA), 1);
}

TEST_F(ResolverTest, ServersChangedDuringAQuery) {
  DnsServer other(context_);
  server_.say("a.test", slowly(addresses({"192.0.2.1"}), 10ms), {});
  other.say("a.test", addresses({"192.0.2.2"}), {});
  const auto handle = watch("a.test");
  run_for(5ms);
  resolver().set_underlay(handle, {"", 0, {other.text()}});
  ASSERT_TRUE(heard(1));
  run_for(30ms);
  EXPECT_EQ(heard_, std::vector<List>{{"192.0.2.2"}});
}

TEST_F(ResolverTest, TheSecondServerIsAskedWhenTheFirstFails) {
  DnsServer broken(context_);
  broken.say("a.test", code(kServerFailure), code(kServerFailure));
  server_.say("a.test", addresses({"192.0.2.1"}), {});
  watch("a.test", {"", 0, {broken.text(), server_.text()}});
  ASSERT_TRUE(heard(1));
  const uint16_t closed = DnsServer(context_).port();
  heard_.clear();
  watch("a.test", {"", 0, {"127.0.0.1:" + std::to_string(closed), server_.text()}});
  ASSERT_TRUE(heard(1));
}

TEST_F(ResolverTest, RefreshAsksAtOnceButNotAllTheTime) {
  settings_.lifetime_min = 500ms;
  server_.say("a.test", addresses({"192.0.2.1"}), {});
  const auto handle = watch("a.test");
  ASSERT_TRUE(heard(1));
  ASSERT_TRUE(settled(handle));
  run_for(520ms);
  server_.say("a.test", addresses({"192.0.2.2"}), {});
  for (int i = 0; i < 100; ++i) {
    resolver().refresh(handle);
  }
  ASSERT_TRUE(heard(2));
  EXPECT_EQ(server_.asked(DnsServer::kA), 2);
  ASSERT_TRUE(settled(handle));
  resolver().refresh(handle);
  EXPECT_FALSE(resolver().describe(handle).asking);
  EXPECT_LE(resolver().describe(handle).next.value(), 500ms);
  ASSERT_TRUE(until([&] { return server_.asked(DnsServer::kA) == 3; }));
}

TEST_F(ResolverTest, ManyNamesWaitTheirTurn) {
  settings_.lookups_max = 3;
  for (int i = 0; i < 40; ++i) {
    const std::string name = "n" + std::to_string(i) + ".test";
    server_.say(name, slowly(addresses({"192.0.2.1"}), 1ms), {});
  }
  std::vector<Resolver::Handle> handles;
  for (int i = 0; i < 40; ++i) {
    handles.push_back(watch("n" + std::to_string(i) + ".test"));
  }
  resolver().forget(handles[1]);   // asking
  resolver().forget(handles[30]);  // waiting
  ASSERT_TRUE(heard(38));
  run_for(20ms);
  EXPECT_EQ(heard_.size(), 38u);
}

// --- The host's own resolution -------------------------------------------------------------------

TEST_F(ResolverTest, WithoutAnyDnsUntilItComes) {
  server_.say("a.test", addresses({"192.0.2.1"}), {});
  settings_.retry_min = 10s;  // so that only a look at the file can help in time
  settings_.retry_max = 10s;
  const auto handle = watch("a.test", {});
  ASSERT_TRUE(failed(handle));
  EXPECT_THAT(resolver().describe(handle).error, testing::HasSubstr("names no server"));
  std::ofstream(folder_ / "resolv.conf") << "# here now\nnameserver " << server_.text() << "\n";
  ASSERT_TRUE(heard(1));
  EXPECT_EQ(heard_[0], List{"192.0.2.1"});
}

TEST_F(ResolverTest, SearchDomainsAreTheHostsOnly) {
  server_.say("vpn.corp.test", addresses({"192.0.2.1"}), {});
  std::ofstream(folder_ / "resolv.conf")
      << "nameserver " << server_.text() << "\nsearch corp.test\n";
  watch("vpn", {});
  ASSERT_TRUE(heard(1));
  const auto stated = watch("vpn");
  ASSERT_TRUE(failed(stated));
  EXPECT_EQ(server_.names.back(), "vpn");
}

TEST_F(ResolverTest, HostsFileIsTheHostsOnly) {
  std::ofstream(folder_ / "hosts") << "# comment a.test\n"
                                      "192.0.2.1 other.test A.TEST # b.test\n"
                                      "192.0.2.1 a.test\n"
                                      "2001:db8::1\ta.test\n"
                                      "junk a.test\n";
  server_.say("a.test", addresses({"192.0.2.2"}), {});
  const auto handle = watch("a.test", {});
  ASSERT_TRUE(heard(2));
  EXPECT_EQ(heard_[1], (List{"192.0.2.1", "2001:db8::1"}));
  EXPECT_TRUE(server_.names.empty());
  ASSERT_TRUE(settled(handle));
  EXPECT_LE(resolver().describe(handle).next.value(), 60s);
  heard_.clear();
  watch("a.test");
  ASSERT_TRUE(heard(1));
  EXPECT_EQ(heard_[0], List{"192.0.2.2"});
}

TEST(ResolverServers, Notations) {
  const struct {
    const char* text;
    const char* read;
  } good[] = {{"192.0.2.53", "192.0.2.53:53"},
              {"192.0.2.53:5353", "192.0.2.53:5353"},
              {"2001:db8::53", "[2001:db8::53]:53"},
              {"[2001:db8::53]", "[2001:db8::53]:53"},
              {"[2001:db8::53]:54", "[2001:db8::53]:54"},
              {"::1", "[::1]:53"},
              {"fe80::1%1", "[fe80::1%1]:53"},
              {"[fe80::1%1]:54", "[fe80::1%1]:54"}};
  for (const auto& each : good) {
    const auto server = parse_name_server(each.text);
    ASSERT_TRUE(server) << each.text << ": " << server.error().text;
    EXPECT_EQ(to_text(*server), each.read);
  }
  for (const char* bad : {"", "dns.test", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:70000",
                          "192.0.2.300", "fe80::1%nosuch0", "[::1", "192.0.2.1,192.0.2.2"}) {
    EXPECT_FALSE(parse_name_server(bad)) << bad;
  }
}

TEST_F(ResolverTest, AServerThatIsNoneIsAnErrorOfTheName) {
  const auto handle = watch("a.test", {"", 0, {"dns.test"}});
  ASSERT_TRUE(failed(handle));
  EXPECT_THAT(resolver().describe(handle).error,
              testing::HasSubstr("'dns.test' is not a name server"));
}

// --- The underlay --------------------------------------------------------------------------------

TEST_F(ResolverTest, AStubOnThisHostMustBeStatedWhereThereIsADevice) {
  server_.say("a.test", addresses({"192.0.2.1"}), {});
  std::ofstream(folder_ / "resolv.conf") << "nameserver " << server_.text() << "\n";
  const auto handle = watch("a.test", {"wan0", 0, {}});
  ASSERT_TRUE(failed(handle));
  EXPECT_THAT(resolver().describe(handle).error,
              testing::HasSubstr("state the tunnel's resolvers"));
  EXPECT_TRUE(server_.names.empty()) << "not asked all the same";
  watch("a.test", {"wan0", 0, {server_.text()}});
  EXPECT_TRUE(heard(1)) << "the stub's owner vouches for it";
}

TEST_F(ResolverTest, WithoutItsDeviceNothingIsAsked) {
  const auto handle = watch("a.test", {"nosuchdev0", 0, {"192.0.2.53"}});
  ASSERT_TRUE(failed(handle));
  EXPECT_THAT(resolver().describe(handle).error,
              testing::AnyOf(testing::HasSubstr("cannot send DNS queries by nosuchdev0"),
                             testing::HasSubstr("Operation not permitted")));
}

// Two wires out of a namespace of its own, the better route over `mesh`; what leaves on each is counted at its far end.
class ResolverUnderlayTest : public ResolverTest {
 protected:
  static void in_namespace(const std::function<void()>& body) {
    if (geteuid() != 0) {
      GTEST_SKIP() << "needs root for a network namespace";
    }
    bool apart = false;
    std::thread([&] {
      apart = unshare(CLONE_NEWNET) == 0;
      if (!apart) {
        return;
      }
      const char* setup =
          "set -e; ip link set lo up\n"
          "for each in mesh:1 wan:2; do dev=${each%:*}; n=${each#*:}\n"
          "ip link add $dev type veth peer name $dev-far; ip link set $dev up; ip link set "
          "$dev-far up\n"
          "ip address add 198.51.$n.1/24 dev $dev\n"
          "ip neighbour add 198.51.$n.254 lladdr 02:00:00:00:00:01 dev $dev\n"
          "ip route add default via 198.51.$n.254 dev $dev metric $n; done\n"
          "ip route add default via 198.51.2.254 dev wan table 77; ip rule add fwmark 0x77 lookup "
          "77\n";
      if (system(setup) == 0) {
        body();
      } else {
        ADD_FAILURE() << "cannot set up the namespace";
      }
    }).join();
    if (!apart) {
      GTEST_SKIP() << "no network namespace to be had";
    }
  }

  // Counts UDP datagrams to port 53 that come in on a device.
  class Tap {
   public:
    explicit Tap(const char* device) : fd_(socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, 0)) {
      sockaddr_ll address{};
      address.sll_family = AF_PACKET;
      address.sll_protocol = htons(0x0800);
      address.sll_ifindex = static_cast<int>(if_nametoindex(device));
      EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    }
    int count() {
      int found = 0;
      uint8_t packet[1500];
      ssize_t length;
      while ((length = recv(fd_.get(), packet, sizeof(packet), 0)) > 0) {
        found += length > 28 && packet[9] == 17 && packet[22] == 0 && packet[23] == 53;
      }
      return found;
    }

   private:
    Descriptor fd_;
  };
};

TEST_F(ResolverUnderlayTest, QuestionsLeaveByDeviceOrMarkOnly) {
  in_namespace([this] {
    Tap mesh("mesh-far"), wan("wan-far");
    const auto leave = [&](const Underlay& underlay) {
      const auto handle = watch("a.test", underlay);
      EXPECT_TRUE(failed(handle));
      resolver().forget(handle);
      return std::pair(mesh.count() > 0, wan.count() > 0);
    };
    EXPECT_EQ(leave({"", 0, {"203.0.113.53"}}), std::pair(true, false)) << "the host's best route";
    EXPECT_EQ(leave({"wan", 0, {"203.0.113.53"}}), std::pair(false, true));
    EXPECT_EQ(leave({"", 0x77, {"203.0.113.53"}}), std::pair(false, true));
    std::ofstream(folder_ / "resolv.conf") << "nameserver 203.0.113.53\n";
    EXPECT_EQ(leave({"wan", 0x77, {}}), std::pair(false, true)) << "the host's servers too";
    EXPECT_EQ(leave({"nosuch", 0, {"203.0.113.53"}}), std::pair(false, false));
  });
}

}  // namespace
}  // namespace sallyport::test
