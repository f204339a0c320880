#include "dataplane/table/flow_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/net/headers.h"

namespace sallyport {
namespace {

constexpr uint8_t kSyn = kTcpSyn;
constexpr uint8_t kSynAck = kTcpSyn | kTcpAck;
constexpr uint8_t kAck = kTcpAck;
constexpr uint8_t kFin = kTcpFin | kTcpAck;
constexpr uint8_t kRst = kTcpRst | kTcpAck;

// 32 bits at a time, and they are so many.
struct Random {
  explicit Random(unsigned seed) : engine(seed) {}
  uint32_t operator()() { return static_cast<uint32_t>(engine()); }
  std::mt19937 engine;
};

FlowTuple make_tuple4(uint32_t source, uint32_t destination, uint16_t source_port,
                      uint16_t destination_port, uint8_t protocol = kProtocolUdp,
                      unsigned zone = 1) {
  const be32 from = source;
  const be32 to = destination;
  return FlowTuple::make(Family::v4, zone, protocol, reinterpret_cast<const uint8_t*>(&from),
                         reinterpret_cast<const uint8_t*>(&to), source_port, destination_port);
}

FlowTuple make_tuple6(uint64_t source, uint64_t destination, uint16_t source_port,
                      uint16_t destination_port, uint8_t protocol = kProtocolUdp,
                      unsigned zone = 1) {
  be64 from[2] = {0x20010db800000000 | source >> 32, source};
  be64 to[2] = {0x20010db8ffff0000, destination};
  return FlowTuple::make(Family::v6, zone, protocol, reinterpret_cast<const uint8_t*>(from),
                         reinterpret_cast<const uint8_t*>(to), source_port, destination_port);
}

NewFlow untranslated(const FlowTuple& original, uint16_t owner = 0, uint8_t tcp_flags = kSyn) {
  NewFlow fresh;
  fresh.original = original;
  fresh.reply = original.reversed(0);
  fresh.owner = owner;
  fresh.tcp_flags = tcp_flags;
  return fresh;
}

// Flow number n of an owner: its own source and ports.
NewFlow numbered(uint32_t n, uint16_t owner = 0, uint32_t sources = UINT32_MAX) {
  return untranslated(make_tuple4(0x0a000000 + uint32_t{owner} * 65536 + n % sources, 0xc0000201,
                                  static_cast<uint16_t>(n), static_cast<uint16_t>(n >> 16)),
                      owner);
}

class FlowTableTest : public testing::Test {
 protected:
  void SetUp() override { rcu_join(); }
  void TearDown() override { rcu_leave(); }

  // All that was retired may be used again.
  static void pass_grace_period() {
    rcu_offline();
    rcu_barrier_all();
    rcu_online();
  }

  static Inserted insert(FlowTable& table, const NewFlow& fresh, uint32_t seconds = 1000) {
    return table.insert(fresh, seconds * kSecond);
  }
  static FlowRef insert_done(FlowTable& table, const NewFlow& fresh, uint32_t seconds = 1000) {
    const Inserted inserted = table.insert(fresh, seconds * kSecond);
    EXPECT_EQ(inserted.result, FlowInsert::done);
    return inserted.ref;
  }
  static FlowRef reply_of(FlowRef ref) { return {ref.word ^ 1}; }
};

TEST_F(FlowTableTest, FindsAFlowByBothItsTuples) {
  FlowTable table({.capacity = 100});
  NewFlow fresh = untranslated(make_tuple4(0x0a000001, 0xc0000201, 1234, 80, kProtocolTcp));
  fresh.reply = make_tuple4(0xc0000201, 0xcb007101, 80, 40000, kProtocolTcp, 0);
  fresh.owner = 3;
  fresh.tunnel = 7;
  fresh.peer_tag = 0x12345678;
  fresh.mark = 0xfeed;
  fresh.snat_rule = 0xabc;
  fresh.dnat_rule = 0x123;
  const FlowRef ref = insert_done(table, fresh);
  EXPECT_EQ(ref.direction(), FlowDirection::original);
  EXPECT_EQ(table.find(fresh.original), ref);
  EXPECT_EQ(table.find(fresh.reply), reply_of(ref));
  EXPECT_EQ(table.find(fresh.reply).direction(), FlowDirection::reply);
  EXPECT_FALSE(table.find(fresh.original.reversed(0)));
  EXPECT_TRUE(table.tuple(ref) == fresh.original);
  EXPECT_TRUE(table.opposite_tuple(ref) == fresh.reply);
  EXPECT_TRUE(table.opposite_tuple(reply_of(ref)) == fresh.original);

  const FlowInfo info = table.info(ref.flow());
  EXPECT_EQ(info.owner, 3);
  EXPECT_EQ(info.tunnel, 7);
  EXPECT_EQ(info.peer_tag, 0x12345678u);
  EXPECT_EQ(info.mark, 0xfeedu);
  EXPECT_EQ(info.snat_rule, 0xabc);
  EXPECT_EQ(info.dnat_rule, 0x123);
  EXPECT_EQ(info.tcp, TcpState::syn_sent);
  EXPECT_TRUE(table.is_translated(ref.flow()));
  EXPECT_EQ(table.peer_tag(ref.flow()), 0x12345678u);
  EXPECT_EQ(table.tunnel(ref.flow()), 7);
  table.set_mark(ref.flow(), 5);
  EXPECT_EQ(table.mark(ref.flow()), 5u);

  EXPECT_EQ(table.size(), 1u);
  EXPECT_TRUE(table.remove(ref.flow()));
  EXPECT_FALSE(table.remove(ref.flow()));
  EXPECT_FALSE(table.find(fresh.original));
  EXPECT_FALSE(table.find(fresh.reply));
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(FlowTableTest, EveryPartOfATupleCounts) {
  FlowTable table({.capacity = 100});
  const FlowTuple base = make_tuple6(0x100000002, 3, 1000, 2000, kProtocolUdp, 5);
  insert_done(table, untranslated(base));
  auto* const bytes = reinterpret_cast<const uint8_t*>(&base);
  for (size_t i = 0; i < sizeof(FlowTuple); ++i) {
    FlowTuple other;
    std::memcpy(static_cast<void*>(&other), bytes, sizeof(other));
    reinterpret_cast<uint8_t*>(&other)[i] ^= 1;
    EXPECT_FALSE(table.find(other)) << i;
  }
  EXPECT_TRUE(table.find(base));
  EXPECT_EQ(base.zone(), 5u);
  EXPECT_EQ(base.family(), Family::v6);
}

TEST_F(FlowTableTest, NoTupleIsTwoFlowsInWhicheverDirection) {
  FlowTable table({.capacity = 100});
  const FlowTuple a = make_tuple4(1, 2, 10, 20);
  const FlowTuple b = make_tuple4(2, 9, 20, 30, kProtocolUdp, 0);
  const FlowTuple c = make_tuple4(3, 2, 10, 20);
  const auto with = [](const FlowTuple& original, const FlowTuple& reply) {
    NewFlow fresh;
    fresh.original = original;
    fresh.reply = reply;
    return fresh;
  };
  insert_done(table, with(a, b));
  EXPECT_EQ(insert(table, with(a, c)).result, FlowInsert::original_taken);
  EXPECT_EQ(insert(table, with(c, b)).result, FlowInsert::reply_taken);
  EXPECT_EQ(insert(table, with(b, c)).result, FlowInsert::original_taken);
  EXPECT_EQ(insert(table, with(c, a)).result, FlowInsert::reply_taken);
  EXPECT_EQ(insert(table, with(c, c)).result, FlowInsert::reply_taken);
  EXPECT_EQ(table.size(), 1u);
  EXPECT_FALSE(table.find(c));
}

TEST_F(FlowTableTest, CountsAndKeepsVerdictsByDirection) {
  FlowTable table({.capacity = 100});
  const FlowRef ref = insert_done(table, numbered(1));
  const FlowRef reply = reply_of(ref);
  EXPECT_EQ(table.verdict(ref), (FlowVerdict{}));
  table.set_verdict(ref, {7, 65535, 4095});
  table.set_verdict(reply, {8, FlowVerdict::kNone, 0});
  EXPECT_EQ(table.verdict(ref), (FlowVerdict{7, 65535, 4095}));
  EXPECT_EQ(table.verdict(reply), (FlowVerdict{8, FlowVerdict::kNone, 0}));

  EXPECT_EQ(table.note(ref, {3, 300}, 1001 * kSecond), FlowSeen::fresh);
  EXPECT_EQ(table.info(ref.flow()).counters[1].bytes, 0u);
  EXPECT_EQ(table.note(reply, {2, 2000}, 1002 * kSecond), FlowSeen::established);
  EXPECT_EQ(table.note(ref, {1, 100}, 1003 * kSecond), FlowSeen::established);
  const FlowInfo info = table.info(ref.flow());
  EXPECT_EQ(info.counters[0].packets, 4u);
  EXPECT_EQ(info.counters[0].bytes, 400u);
  EXPECT_EQ(info.counters[0].last_seen, 1003u);
  EXPECT_EQ(info.counters[1].packets, 2u);
  EXPECT_EQ(info.counters[1].bytes, 2000u);
  EXPECT_EQ(info.counters[1].last_seen, 1002u);
  table.note(ref, {UINT32_MAX, 0}, 1003 * kSecond);
  table.note(ref, {UINT32_MAX, 0}, 1003 * kSecond);
  EXPECT_EQ(table.info(ref.flow()).counters[0].packets, 4 + 2 * uint64_t{UINT32_MAX});
}

TEST_F(FlowTableTest, TracksTcpAndRefusesWhatCannotBe) {
  FlowTable table({.capacity = 100, .pick_up = false});
  const FlowTuple tuple = make_tuple4(1, 2, 10, 20, kProtocolTcp);
  EXPECT_EQ(insert(table, untranslated(tuple, 0, kAck)).result, FlowInsert::invalid);
  EXPECT_EQ(insert(table, untranslated(tuple, 0, kRst)).result, FlowInsert::invalid);
  const FlowRef ref = insert_done(table, untranslated(tuple));
  const struct {
    bool reply;
    uint8_t flags;
    FlowSeen seen;
    TcpState state;
  } steps[] = {
      {false, kSyn, FlowSeen::fresh, TcpState::syn_sent},
      {false, kTcpSyn | kTcpFin, FlowSeen::invalid, TcpState::syn_sent},
      {true, kSynAck, FlowSeen::established, TcpState::syn_recv},
      {false, kAck, FlowSeen::established, TcpState::established},
      {true, kAck, FlowSeen::established, TcpState::established},
      {true, 0, FlowSeen::invalid, TcpState::established},
      {true, kRst, FlowSeen::established, TcpState::reset},
      {false, kAck, FlowSeen::established, TcpState::established},
      {false, kFin, FlowSeen::established, TcpState::fin_wait},
      {true, kAck, FlowSeen::established, TcpState::close_wait},
      {true, kFin, FlowSeen::established, TcpState::last_ack},
      {false, kAck, FlowSeen::established, TcpState::time_wait},
      {false, kSyn, FlowSeen::established, TcpState::syn_sent},
  };
  for (size_t i = 0; i < std::size(steps); ++i) {
    EXPECT_EQ(table.note(steps[i].reply ? reply_of(ref) : ref, {1, 40, steps[i].flags}, kSecond),
              steps[i].seen)
        << i;
    EXPECT_EQ(table.info(ref.flow()).tcp, steps[i].state) << i;
  }
  EXPECT_EQ(table.info(ref.flow()).counters[0].packets, 6u);  // invalid ones are not counted
  EXPECT_EQ(table.info(ref.flow()).counters[1].packets, 5u);
}

TEST_F(FlowTableTest, ARefusedConnectionHadNoReply) {
  FlowTable table({.capacity = 100});
  const FlowRef ref = insert_done(table, untranslated(make_tuple4(1, 2, 3, 4, kProtocolTcp)));
  EXPECT_EQ(table.note(reply_of(ref), {1, 40, kRst}, kSecond), FlowSeen::established);
  EXPECT_EQ(table.info(ref.flow()).tcp, TcpState::close);
  EXPECT_FALSE(table.info(ref.flow()).is_replied);
}

// ---- time

// How long after its last packet a flow lives, seconds; swept each second.
uint32_t lifetime(FlowTable& table, FlowRef ref, uint32_t last) {
  const FlowTuple tuple = table.tuple(ref);
  for (uint32_t now = last;; ++now) {
    table.expire(now * kSecond, 1 << 20);
    if (!table.find(tuple)) {
      return now - last;
    }
  }
}

TEST_F(FlowTableTest, EveryTimeoutIsKept) {
  FlowTimeouts timeouts;
  uint32_t distinct = 100;
  for (uint32_t* each : {&timeouts.tcp_syn_sent, &timeouts.tcp_syn_recv, &timeouts.tcp_fin_wait,
                         &timeouts.tcp_close_wait, &timeouts.tcp_last_ack, &timeouts.tcp_time_wait,
                         &timeouts.tcp_close, &timeouts.tcp_reset, &timeouts.udp_unreplied,
                         &timeouts.udp_replied, &timeouts.udp_stream, &timeouts.icmp,
                         &timeouts.other, &timeouts.tcp_unreplied, &timeouts.tcp_established}) {
    *each = distinct += 20;
  }
  using Packets = std::vector<std::pair<bool, uint8_t>>;  // is a reply, flags
  const Packets open = {{true, kSynAck}, {false, kAck}};
  const auto after = [&](Packets more) {
    Packets all = open;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const struct {
    const char* name;
    uint8_t protocol;
    uint8_t first;
    Packets packets;
    uint32_t timeout;
  } cases[] = {
      {"syn_sent", kProtocolTcp, kSyn, {}, timeouts.tcp_syn_sent},
      {"syn_recv", kProtocolTcp, kSyn, {{true, kSynAck}}, timeouts.tcp_syn_recv},
      {"established", kProtocolTcp, kSyn, open, timeouts.tcp_established},
      {"fin_wait", kProtocolTcp, kSyn, after({{false, kFin}}), timeouts.tcp_fin_wait},
      {"close_wait", kProtocolTcp, kSyn, after({{false, kFin}, {true, kAck}}),
       timeouts.tcp_close_wait},
      {"last_ack", kProtocolTcp, kSyn, after({{false, kFin}, {true, kFin}}), timeouts.tcp_last_ack},
      {"time_wait", kProtocolTcp, kSyn, after({{false, kFin}, {true, kFin}, {false, kAck}}),
       timeouts.tcp_time_wait},
      {"close", kProtocolTcp, kSyn, {{true, kRst}}, timeouts.tcp_close},
      {"reset", kProtocolTcp, kSyn, after({{true, kRst}}), timeouts.tcp_reset},
      {"picked up", kProtocolTcp, kAck, {{false, kAck}}, timeouts.tcp_unreplied},
      {"picked up and answered", kProtocolTcp, kAck, {{true, kAck}}, timeouts.tcp_established},
      {"udp", kProtocolUdp, 0, {{false, 0}, {false, 0}, {false, 0}}, timeouts.udp_unreplied},
      {"udp replied", kProtocolUdp, 0, {{false, 0}, {true, 0}}, timeouts.udp_replied},
      {"udp stream",
       kProtocolUdp,
       0,
       {{false, 0}, {true, 0}, {false, 0}, {true, 0}, {false, 0}, {true, 0}},
       timeouts.udp_stream},
      {"icmp", kProtocolIcmp, 0, {{false, 0}, {true, 0}}, timeouts.icmp},
      {"icmpv6", kProtocolIcmpv6, 0, {{false, 0}}, timeouts.icmp},
      {"gre", 47, 0, {{false, 0}, {true, 0}}, timeouts.other},
  };
  FlowTable table({.capacity = 100, .timeouts = timeouts});
  uint32_t now = 1000;
  for (const auto& each : cases) {
    SCOPED_TRACE(each.name);
    const FlowRef ref = insert_done(
        table, untranslated(make_tuple4(1, 2, 3, 4, each.protocol), 0, each.first), now);
    for (const auto& [is_reply, flags] : each.packets) {
      table.note(is_reply ? reply_of(ref) : ref, {1, 40, flags}, ++now * kSecond);
    }
    EXPECT_EQ(table.info(ref.flow()).timeout, each.timeout);
    const uint32_t lived = lifetime(table, ref, now);
    EXPECT_GT(lived, each.timeout);
    EXPECT_LE(lived, each.timeout + 5);
    now += 10'000;
    pass_grace_period();
  }
}

TEST_F(FlowTableTest, APacketKeepsItAlive) {
  FlowTable table({.capacity = 100});
  const FlowRef ref = insert_done(table, numbered(1), 1000);
  for (uint32_t now = 1100; now < 5000; now += 100) {
    EXPECT_EQ(table.expire(now * kSecond, 1000), 0u);
    table.note(ref, {}, now * kSecond);
  }
  EXPECT_EQ(lifetime(table, ref, 4900) / 10, 12u);
}

TEST_F(FlowTableTest, TimeoutsOfDaysAndSleepsOfDaysAreKept) {
  for (const uint32_t days : {1u, 2u, 3u, 4u, 10u}) {
    SCOPED_TRACE(days);
    FlowTimeouts timeouts;
    timeouts.udp_unreplied = days * 86400;
    FlowTable table({.capacity = 100, .timeouts = timeouts});
    const FlowRef ref = insert_done(table, numbered(1), 1000);
    const FlowTuple tuple = table.tuple(ref);
    uint32_t now = 1000;
    for (; now <= 1000 + timeouts.udp_unreplied; now += 1800) {
      table.expire(now * kSecond, 1000);
      ASSERT_TRUE(table.find(tuple)) << now;
    }
    table.expire((now + 3000) * kSecond, 1000);
    table.expire((now + 3000) * kSecond, 1000);
    EXPECT_FALSE(table.find(tuple));
  }
  for (uint32_t hours = 1; hours < 200; ++hours) {  // the machine sleeps, or nobody sweeps
    FlowTable table({.capacity = 10, .owners = 1});
    insert_done(table, numbered(1), 1000);
    table.expire(1001 * kSecond, 1000);
    EXPECT_EQ(table.expire((1001 + hours * 3601) * kSecond, 1000), 1u) << hours;
  }
}

TEST_F(FlowTableTest, ASweepLooksAtNoMoreThanItMay) {
  FlowTable table({.capacity = 1000});
  for (uint32_t i = 0; i < 640; ++i) {
    insert_done(table, numbered(i), 1000);
  }
  table.expire(1000 * kSecond, 1);
  size_t removed = 0;
  for (int i = 0; i < 64; ++i) {
    const size_t now = table.expire(1200 * kSecond, 10);
    EXPECT_LE(now, 10u);
    removed += now;
  }
  EXPECT_EQ(removed, 640u);
  EXPECT_EQ(table.size(), 0u);
}

// ---- against a naive map

struct Less {
  bool operator()(const FlowTuple& a, const FlowTuple& b) const {
    return std::memcmp(&a, &b, sizeof(a)) < 0;
  }
};

class Model {
 public:
  Model(unsigned seed, size_t capacity) : table_({.capacity = capacity}), random_(seed) {}

  void step() {
    switch (random_() % 8) {
      case 0:
      case 1:
      case 2:
        insert();
        break;
      case 3:
        remove();
        break;
      case 4:
      case 5:
        note();
        break;
      case 6:
        now_ += random_() % 3;
        break;
      default:
        find();
        break;
    }
  }

  void compare_all() {
    size_t seen = 0;
    table_.for_each([&](const FlowInfo& info) {
      ++seen;
      const auto found = flows_.find(info.flow);
      ASSERT_NE(found, flows_.end());
      const Flow& flow = found->second;
      for (unsigned i = 0; i < 2; ++i) {
        ASSERT_TRUE(info.tuples[i] == flow.tuples[i]);
        ASSERT_EQ(info.counters[i].packets, flow.packets[i]);
        ASSERT_EQ(info.counters[i].bytes, flow.bytes[i]);
      }
      ASSERT_EQ(info.is_replied, flow.packets[1] > 0);
      ASSERT_EQ(info.peer_tag, flow.peer_tag);
    });
    ASSERT_EQ(seen, flows_.size());
    ASSERT_EQ(table_.size(), flows_.size());
    std::vector<FlowTuple> tuples;
    std::vector<FlowRef> expected;
    for (const auto& [tuple, ref] : by_tuple_) {
      tuples.push_back(tuple);
      expected.push_back(ref);
      tuples.push_back(random_tuple());
      const auto found = by_tuple_.find(tuples.back());
      expected.push_back(found == by_tuple_.end() ? FlowRef{} : found->second);
    }
    std::vector<FlowRef> refs(tuples.size());
    table_.find_many(tuples.data(), refs.data(), tuples.size());
    ASSERT_TRUE(refs == expected);
  }

  // Everything is quiet for longer than any timeout.
  void expire_all() {
    now_ += 10'000;
    const size_t before = flows_.size();
    ASSERT_EQ(table_.expire(now_ * kSecond, 1 << 20), before);
    flows_.clear();
    by_tuple_.clear();
  }

 private:
  struct Flow {
    FlowTuple tuples[2];
    uint64_t packets[2] = {}, bytes[2] = {};
    uint32_t peer_tag;
  };

  // Few enough that they meet.
  FlowTuple random_tuple() {
    const auto port = [&] { return static_cast<uint16_t>(random_() % 12); };
    const unsigned zone = random_() % 2;
    const uint8_t protocol = random_() % 2 == 0 ? kProtocolUdp : 47;
    const uint32_t from = random_() % 4, to = random_() % 4;
    return random_() % 2 == 0 ? make_tuple4(from, to, port(), port(), protocol, zone)
                              : make_tuple6(from, to, port(), port(), protocol, zone);
  }

  void insert() {
    NewFlow fresh;
    fresh.original = random_tuple();
    fresh.reply = random_tuple();
    fresh.owner = static_cast<uint16_t>(random_() % 4);
    fresh.peer_tag = random_();
    const Inserted inserted = table_.insert(fresh, now_ * kSecond);
    const FlowInsert expected = by_tuple_.contains(fresh.original) ? FlowInsert::original_taken
                                : by_tuple_.contains(fresh.reply) || fresh.original == fresh.reply
                                    ? FlowInsert::reply_taken
                                    : FlowInsert::done;
    ASSERT_EQ(inserted.result, expected);
    if (expected == FlowInsert::done) {
      const uint32_t number = inserted.ref.flow();
      ASSERT_TRUE(
          flows_.emplace(number, Flow{{fresh.original, fresh.reply}, {}, {}, fresh.peer_tag})
              .second);
      by_tuple_[fresh.original] = inserted.ref;
      by_tuple_[fresh.reply] = {inserted.ref.word ^ 1};
    }
  }

  std::map<uint32_t, Flow>::iterator any_flow() {
    auto found = flows_.lower_bound(static_cast<uint32_t>(random_() % (flows_.size() * 2 + 1)));
    return found == flows_.end() ? flows_.begin() : found;
  }

  void remove() {
    if (!flows_.empty()) {
      const auto it = any_flow();
      ASSERT_TRUE(table_.remove(it->first));
      ASSERT_FALSE(table_.remove(it->first));
      by_tuple_.erase(it->second.tuples[0]);
      by_tuple_.erase(it->second.tuples[1]);
      flows_.erase(it);
    }
  }

  void note() {
    if (!flows_.empty()) {
      const auto it = any_flow();
      Flow& flow = it->second;
      const unsigned direction = random_() % 2;
      const FlowPackets seen{1 + static_cast<uint32_t>(random_() % 3),
                             static_cast<uint32_t>(random_() % 1500)};
      const FlowSeen expected =
          direction == 1 || flow.packets[1] > 0 ? FlowSeen::established : FlowSeen::fresh;
      ASSERT_EQ(table_.note({it->first * 2 + direction}, seen, now_ * kSecond), expected);
      flow.packets[direction] += seen.packets;
      flow.bytes[direction] += seen.bytes;
    }
  }

  void find() {
    const FlowTuple tuple = random_tuple();
    const auto found = by_tuple_.find(tuple);
    ASSERT_EQ(table_.find(tuple), found == by_tuple_.end() ? FlowRef{} : found->second);
  }

  FlowTable table_;
  Random random_;
  uint32_t now_ = 1000;
  std::map<uint32_t, Flow> flows_;
  std::map<FlowTuple, FlowRef, Less> by_tuple_;
};

TEST_F(FlowTableTest, AgreesWithANaiveMap) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  Model model(seed, 20'000);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 2000; ++i) {
      ASSERT_NO_FATAL_FAILURE(model.step());
    }
    rcu_quiescent();
    ASSERT_NO_FATAL_FAILURE(model.compare_all());
    if (round % 4 == 3) {
      ASSERT_NO_FATAL_FAILURE(model.expire_all());
      ASSERT_NO_FATAL_FAILURE(model.compare_all());
      pass_grace_period();
    }
  }
}

// Lines overflow into the next one, round the end of a segment and back.
TEST_F(FlowTableTest, HoldsAllThatItWasMadeFor) {
  constexpr uint32_t kCapacity = 6000;
  FlowTable table({.capacity = kCapacity});
  std::vector<NewFlow> flows;
  for (int round = 0; round < 3; ++round) {
    flows.clear();
    for (uint32_t i = 0; i < kCapacity * 62 / 64; ++i) {  // 62 owners, each within its share
      flows.push_back(numbered(i, static_cast<uint16_t>(i % 62)));
      insert_done(table, flows.back());
    }
    for (const NewFlow& each : flows) {
      ASSERT_TRUE(table.find(each.original) && table.find(each.reply));
    }
    std::mt19937 random(std::random_device{}());
    std::shuffle(flows.begin(), flows.end(), random);
    for (size_t i = 0; i < flows.size(); ++i) {
      ASSERT_TRUE(table.remove(table.find(flows[i].original).flow()));
      if (i % 500 == 0) {
        for (size_t k = 0; k < flows.size(); ++k) {
          ASSERT_EQ(bool{table.find(flows[k].reply)}, k > i);
        }
      }
    }
    pass_grace_period();
  }
}

TEST_F(FlowTableTest, TakesNoMoreMemoryThanItSays) {
  const FlowTable table({.capacity = 1 << 20});
  EXPECT_LE(table.memory_bytes(), size_t{160} << 20);
}

// ---- shares

TEST_F(FlowTableTest, OneOwnerAloneLeavesRoomForOthers) {
  constexpr uint32_t kCapacity = 1600;
  FlowTable table({.capacity = kCapacity});
  for (uint32_t i = 0; i < kCapacity * 2; ++i) {
    const Inserted inserted = insert(table, numbered(i, 1));
    if (i < kCapacity * 15 / 16) {
      ASSERT_EQ(inserted.result, FlowInsert::done) << i;
      ASSERT_EQ(table.note(reply_of(inserted.ref), {}, 1000 * kSecond), FlowSeen::established);
    } else {
      ASSERT_NE(inserted.result, FlowInsert::done) << i;  // all had replies: none gives way
    }
  }
  EXPECT_EQ(table.flows_of(1), kCapacity * 15 / 16);
  for (uint32_t i = 0; i < kCapacity / 16; ++i) {
    insert_done(table, numbered(i, 2));
  }
  EXPECT_EQ(insert(table, numbered(5000, 2)).result, FlowInsert::full);
  EXPECT_EQ(table.flows_of(2), kCapacity / 16);
  EXPECT_EQ(table.size(), kCapacity);
}

TEST_F(FlowTableTest, TheOldestFlowWithoutReplyOfWhoHasMostGivesWay) {
  constexpr uint32_t kCapacity = 1600;
  FlowTable table({.capacity = kCapacity});
  const uint32_t flood = kCapacity * 15 / 16;
  for (uint32_t i = 0; i < flood; ++i) {
    const FlowRef ref = insert_done(table, numbered(i, 1));
    if (i % 3 == 0) {
      table.note(reply_of(ref), {}, 1000 * kSecond);
    }
  }
  // The other owner takes what is free, and then from the first one until it has a third of all.
  const uint32_t share = kCapacity / 3;
  uint32_t gone = 0;
  for (uint32_t i = 0; i < share; ++i) {
    insert_done(table, numbered(i, 2));
    gone += i >= kCapacity / 16 ? 1 : 0;
  }
  EXPECT_EQ(table.flows_of(1), flood - gone);
  uint32_t missing = 0;
  for (uint32_t i = 0; i < flood; ++i) {
    const bool is_there{table.find(numbered(i, 1).original)};
    ASSERT_TRUE(is_there || i % 3 != 0) << "a flow with a reply gave way";
    ASSERT_TRUE(is_there || missing < gone) << "not the oldest";
    missing += is_there ? 0 : 1;
    if (i % 3 != 0 && missing < gone) {
      ASSERT_FALSE(is_there) << i;
    }
  }
  EXPECT_EQ(missing, gone);
  for (uint32_t i = 0; i < share; ++i) {
    ASSERT_TRUE(table.find(numbered(i, 2).original));
  }
}

TEST_F(FlowTableTest, BeyondItsShareAnOwnerReplacesItsOwn) {
  constexpr uint32_t kCapacity = 1600;
  FlowTable table({.capacity = kCapacity});
  for (uint32_t i = 0; i < kCapacity / 4; ++i) {
    insert_done(table, numbered(i, 2));
  }
  uint32_t n = 0;
  while (table.size() < kCapacity * 15 / 16) {
    insert_done(table, numbered(n++, 1, 1));
  }
  for (uint32_t i = 0; i < 100; ++i) {
    insert_done(table, numbered(n + i, 1, 1));
    ASSERT_EQ(table.size(), kCapacity * 15 / 16);
    ASSERT_FALSE(table.find(numbered(i, 1, 1).original));
    ASSERT_TRUE(table.find(numbered(i + 1, 1, 1).original));
  }
  EXPECT_EQ(table.flows_of(2), kCapacity / 4);
  // Nobody reaches a quiescent state: places become short, and then it is refused.
  uint32_t refused = 0;
  for (uint32_t i = 100; i < 4000; ++i) {
    const FlowInsert result = insert(table, numbered(n + i, 1, 1)).result;
    ASSERT_TRUE(result == FlowInsert::done || result == FlowInsert::owner_over_share);
    refused += result == FlowInsert::done ? 0 : 1;
  }
  EXPECT_GT(refused, 0u);
  // And after a grace period they are not.
  pass_grace_period();
  insert_done(table, numbered(n + 4000, 1, 1));
  insert_done(table, numbered(kCapacity, 2));
  insert_done(table, numbered(0, 3));
}

TEST_F(FlowTableTest, WithinAnOwnerASourceBeyondItsShareIsRefused) {
  constexpr uint32_t kCapacity = 1600;
  FlowTable table({.capacity = kCapacity});
  // Source 0 of owner 1 has most; some others have a few.
  uint32_t n = 0;
  for (; n < 40; ++n) {
    insert_done(table, numbered(n, 1));
  }
  while (table.size() < kCapacity * 15 / 16) {
    insert_done(table, numbered(n++, 1, 1));
  }
  EXPECT_EQ(insert(table, numbered(n, 1, 1)).result, FlowInsert::source_over_share);
  // Others come in, but for those in the bucket of source 0.
  uint32_t done = 0;
  for (uint32_t i = 2000; i < 2200; ++i) {
    done += insert(table, numbered(i, 1)).result == FlowInsert::done ? 1 : 0;
  }
  EXPECT_GT(done, 100u);
  EXPECT_EQ(table.size(), kCapacity * 15 / 16);
}

// ---- at once

struct Noise {
  explicit Noise(unsigned seed) : random(seed) {}
  // A flow of a small set, so that inserters meet; original and reply fit each other.
  NewFlow any() {
    const uint32_t n = random() % 400;
    NewFlow fresh = untranslated(make_tuple4(n, 7, static_cast<uint16_t>(n), 80));
    fresh.reply = make_tuple4(7, 8, 80, static_cast<uint16_t>(random() % 200), kProtocolUdp, 0);
    fresh.owner = static_cast<uint16_t>(n % 5);
    fresh.peer_tag = n;
    return fresh;
  }
  Random random;
};

TEST_F(FlowTableTest, ReadersInsertersAndASweepAtOnce) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  FlowTable table({.capacity = 300});
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> wrong = 0;
  std::atomic<uint32_t> clock = 1000;
  std::atomic<uint64_t> inserted = 0, removed = 0;
  const auto in_thread = [&](unsigned number, auto work) {
    return std::thread([&, number, work] {
      rcu_join();
      Noise noise(seed + number);
      while (!stop.load(std::memory_order_relaxed)) {
        work(noise);
        rcu_quiescent();
      }
      rcu_leave();
    });
  };
  const auto read = [&](Noise& noise) {
    FlowTuple tuples[64];
    FlowRef refs[64];
    for (int i = 0; i < 32; ++i) {
      const NewFlow fresh = noise.any();
      tuples[2 * i] = fresh.original;
      tuples[2 * i + 1] = fresh.reply;
    }
    table.find_many(tuples, refs, 64);
    for (int i = 0; i < 64; ++i) {
      if (refs[i]) {
        const uint32_t n = table.peer_tag(refs[i].flow());
        const FlowTuple original = make_tuple4(n, 7, static_cast<uint16_t>(n), 80);
        wrong += table.tuple(refs[i]) == tuples[i] ? 0 : 1;
        wrong += table.tuple({refs[i].flow() * 2}) == original ? 0 : 1;
        wrong += static_cast<int>(refs[i].direction()) == i % 2 ? 0 : 1;
        table.note(refs[i], {1, 1}, clock * kSecond);
      }
    }
  };
  const auto change = [&](Noise& noise) {
    for (int i = 0; i < 20; ++i) {
      const NewFlow fresh = noise.any();
      const Inserted result = table.insert(fresh, clock * kSecond);
      inserted += result.result == FlowInsert::done ? 1 : 0;
      if (noise.random() % 3 == 0) {
        const FlowRef ref = table.find(noise.any().original);
        removed += ref && table.remove(ref.flow()) ? 1 : 0;
      }
    }
  };
  const auto sweep = [&](Noise& noise) {
    clock += noise.random() % 30;
    table.expire(clock * kSecond, 500);
    std::map<FlowTuple, uint32_t, Less> seen;
    size_t flows = 0;
    table.for_each([&](const FlowInfo& info) {
      const FlowTuple original =
          make_tuple4(info.peer_tag, 7, static_cast<uint16_t>(info.peer_tag), 80);
      wrong += info.tuples[0] == original ? 0 : 1;
      ++flows;
    });
    wrong += flows <= 1000 ? 0 : 1;
  };
  std::vector<std::thread> threads;
  threads.push_back(in_thread(1, read));
  threads.push_back(in_thread(2, read));
  threads.push_back(in_thread(3, change));
  threads.push_back(in_thread(4, change));
  threads.push_back(in_thread(5, sweep));
  rcu_offline();
  while (inserted < 20'000) {
    std::this_thread::yield();
  }
  stop = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
  rcu_online();
  EXPECT_EQ(wrong, 0u);

  // At rest: no tuple twice, each flow found by both, accounts that add up, and nothing left behind.
  std::map<FlowTuple, FlowRef, Less> tuples;
  size_t flows = 0;
  size_t of_owners[5] = {};
  table.for_each([&](const FlowInfo& info) {
    ++flows;
    ++of_owners[info.owner];
    for (uint32_t i = 0; i < 2; ++i) {
      EXPECT_TRUE(tuples.emplace(info.tuples[i], FlowRef{2 * info.flow + i}).second);
      EXPECT_EQ(table.find(info.tuples[i]), (FlowRef{2 * info.flow + i}));
    }
  });
  EXPECT_EQ(table.size(), flows);
  for (uint16_t owner = 0; owner < 5; ++owner) {
    EXPECT_EQ(table.flows_of(owner), of_owners[owner]);
  }
  table.for_each([&](const FlowInfo& info) { EXPECT_TRUE(table.remove(info.flow)); });
  EXPECT_EQ(table.size(), 0u);
  for (uint32_t n = 0; n < 400; ++n) {
    EXPECT_FALSE(table.find(make_tuple4(n, 7, static_cast<uint16_t>(n), 80)));
  }
}

// Two workers want the same port for different flows, again and again: one gets it.
TEST_F(FlowTableTest, APortIsGivenOnceWhoeverAsksAtOnce) {
  constexpr uint32_t kPorts = 500;
  FlowTable table({.capacity = 4000});
  std::atomic<uint32_t> won = 0;
  std::atomic<unsigned> ready = 0;
  std::vector<std::thread> workers;
  for (uint32_t worker = 0; worker < 2; ++worker) {
    workers.emplace_back([&, worker] {
      rcu_join();
      ++ready;
      while (ready < 2) {
      }
      for (uint32_t port = 0; port < kPorts; ++port) {
        NewFlow fresh = untranslated(make_tuple4(worker, 7, static_cast<uint16_t>(port), 80));
        fresh.reply = make_tuple4(7, 8, 80, static_cast<uint16_t>(port), kProtocolUdp, 0);
        const FlowInsert result = table.insert(fresh, kSecond).result;
        EXPECT_TRUE(result == FlowInsert::done || result == FlowInsert::reply_taken);
        won += result == FlowInsert::done ? 1 : 0;
      }
      rcu_leave();
    });
  }
  rcu_offline();
  for (std::thread& worker : workers) {
    worker.join();
  }
  rcu_online();
  EXPECT_EQ(won, kPorts);
  EXPECT_EQ(table.size(), kPorts);
}

// A reply and the eviction of the same flow: it is replied and stays, or it is gone; never both.
TEST_F(FlowTableTest, AFlowThatHadAReplyIsNotEvicted) {
  constexpr uint32_t kCapacity = 320;
  FlowTable table({.capacity = kCapacity});
  const uint32_t flood = kCapacity * 15 / 16;
  for (uint32_t i = 0; i < flood; ++i) {
    insert_done(table, numbered(i, 1));
  }
  std::vector<uint32_t> answered;
  std::thread replies([&] {
    rcu_join();
    for (uint32_t i = 0; i < flood; ++i) {
      const FlowRef ref = table.find(numbered(i, 1).reply);
      if (ref) {
        table.note(ref, {}, 1000 * kSecond);
        if (table.info(ref.flow()).is_replied) {
          answered.push_back(i);
        }
      }
    }
    rcu_leave();
  });
  for (uint32_t i = 0; i < kCapacity / 3; ++i) {
    insert(table, numbered(i, 2));
  }
  rcu_offline();
  replies.join();
  rcu_online();
  for (const uint32_t i : answered) {
    EXPECT_TRUE(table.find(numbered(i, 1).original)) << i;
  }
}

}  // namespace
}  // namespace sallyport
