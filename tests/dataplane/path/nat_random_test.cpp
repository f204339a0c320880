// Random policies, random packets. Whatever the rules, NAT, filters and groups are: two flows never leave as one, a flow always
// leaves as it did, answers and errors come back to where it came from with the ends it had, every checksum is right, and what
// explain says is what happens.
#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "dataplane/path/egress.h"
#include "tests/dataplane/path/nat_line.h"

namespace sallyport::test {
namespace {

// Where a packet comes in or leaves: a peer's slot, or the host by the plain port of tunnel 0 or 1.
struct Place {
  uint32_t slot = 0;  // 0: the host
  TunnelNumber tunnel = 0;
  bool operator==(const Place&) const = default;
  std::string text() const {
    return slot != 0 ? "peer " + std::to_string(slot) : "host by " + std::to_string(tunnel);
  }
};

struct Arrived {
  Place place;
  Bytes packet;
};

class NatRandom : public NatLine {
 protected:
  void SetUp() override {
    NatLine::SetUp();
    const auto add = [](Tunnel& to, const std::string& prefix, uint32_t slot) {
      const IpPrefix parsed = *parse_prefix(prefix);
      const uint8_t* bytes = parsed.address.bytes.data();
      if (parsed.address.family == Family::v4) {
        to.allowed_v4.insert(Lpm4::from_bytes(bytes), parsed.length, slot);
      } else {
        to.allowed_v6.insert(Lpm6::from_bytes(bytes), parsed.length, slot);
      }
    };
    add(second_tunnel, "0.0.0.0/0", 12);
    add(second_tunnel, "::/0", 12);
    snapshot.tunnels[1].address_v6 = *parse_address("fd09:1::1");
    for (const uint32_t slot : kSlots) {
      tags_[slot] = tag(slot);
    }
    flows_ = std::make_unique<FlowTable>(FlowTable::Config{.capacity = 8192});
  }

  uint32_t up_to(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }
  bool one_in(uint32_t bound) { return up_to(bound) == 0; }
  template <class Things>
  auto any_of(const Things& things) {
    return *(std::begin(things) + up_to(static_cast<uint32_t>(std::size(things))));
  }

  RuleConditions some_conditions() {
    RuleConditions conditions;
    switch (up_to(5)) {
      case 0:
        return from(any_of(std::array{"10.0.0.0/16", "192.168.0.0/16", "10.0.0.2", "fd00::/48"}));
      case 1:
        return to(any_of(std::array{"198.51.100.0/24", "10.1.0.0/16", "2001:db8::/32"}));
      case 2:
        return by(static_cast<TunnelNumber>(up_to(2)), one_in(2));
      case 3:
        return dport(any_of(kPorts));
      default:
        return conditions;
    }
  }

  void some_policy() {
    std::vector<uint32_t> exits;
    for (const uint32_t slot : kSlots) {
      exits.push_back(made_->peer(tags_[slot]));
    }
    exits.push_back(made_->tunnel(0));
    exits.push_back(made_->tunnel(1));
    exits.push_back(made_->port(static_cast<TunnelNumber>(up_to(2))));
    exits.push_back(made_->exit(ExitKind::host));
    exits.push_back(made_->group(one_in(2) ? GroupMode::weighted : GroupMode::failover,
                                 {{any_of(exits), 1}, {any_of(exits), 3}}));
    for (uint32_t i = up_to(5); i > 0; --i) {
      made_->rule(some_conditions(),
                  one_in(8) ? act(RuleAction::Kind::drop) : use_exit(any_of(exits)));
    }
    if (one_in(2)) {
      NatRule rule = nptv6("fd00::/48", "2001:db8:1::/48");
      rule.way_out.oif.values = {iif_number(1, false)};
      nat(all(), rule);
    }
    for (uint32_t i = 1 + up_to(4); i > 0; --i) {
      NatRule rule;
      switch (up_to(4)) {
        case 0:
          rule = masquerade();
          break;
        case 1:
          rule = one_in(2) ? snat("203.0.113.50")
                           : rule_of(NatKind::snat, "203.0.113.50", "203.0.113.53");
          break;
        case 2:
          rule = dnat("10.1.0.12", one_in(2) ? 7 : 0);
          break;
        default:
          rule = rule_of(NatKind::none);
          break;
      }
      rule.endpoint_independent = one_in(2);
      rule.paired = one_in(2);
      if (rule.kind != NatKind::dnat && one_in(2)) {
        rule.way_out.oif.values = {iif_number(1, false)};
      }
      RuleConditions conditions = some_conditions();
      if (rule.kind == NatKind::dnat) {
        conditions = to(any_of(std::array{"198.51.100.1", "203.0.113.50", "10.9.1.1"}));
      }
      nat(std::move(conditions), rule);
    }
    for (uint32_t i = up_to(3); i > 0; --i) {
      const auto state = static_cast<FlowState>(1 + up_to(4));
      filter(some_conditions(), does(one_in(2) ? FilterAction::accept : FilterAction::drop,
                                     one_in(2) ? FilterRule::bit(state) : uint8_t{0}));
    }
    made_->policy().reverse_path = one_in(3) ? ReversePath::loose : ReversePath::off;
    begin_policy(40000, 40015);
  }

  static std::string outer_of(const std::string& inner) {
    IpAddress address = *parse_address(inner);
    EXPECT_TRUE(nptv6("fd00::/48", "2001:db8:1::/48").prefixes->to_outside(address.bytes.data()));
    return to_text(address);
  }

  struct Sender {
    Place place;
    const char* address;
  };
  Bytes some_packet(Place& place) {
    static constexpr Sender kSenders[] = {
        {{0, 0}, "192.168.1.7"}, {{0, 0}, "192.168.1.8"},   {{0, 1}, "192.168.2.7"},
        {{1, 0}, "10.0.0.2"},    {{2, 0}, "10.0.0.3"},      {{11, 1}, "10.1.0.12"},
        {{12, 1}, "10.1.0.13"},  {{12, 1}, "198.51.100.1"}, {{0, 0}, "fd05::7"},
        {{1, 0}, "fd00::2"},     {{2, 0}, "fd00::3"},       {{12, 1}, "2001:db8:9::5"}};
    static constexpr const char* kV4[] = {"192.168.1.7",  "10.0.0.2",     "10.0.0.3",
                                          "10.1.0.12",    "10.1.0.13",    "198.51.100.1",
                                          "198.51.100.2", "203.0.113.50", "10.9.1.1"};
    // Outer addresses of insiders among them: an inner one nobody outside knows.
    static const std::array<std::string, 4> kV6{"2001:db8:9::1", "2001:db8:9::2",
                                                outer_of("fd00::2"), outer_of("fd00::3")};
    const Sender& sender = kSenders[up_to(std::size(kSenders))];
    place = sender.place;
    const bool v4 = parse_address(sender.address)->family == Family::v4;
    std::string to;
    do {
      to = v4 ? std::string(any_of(kV4)) : any_of(kV6);
    } while (to == sender.address);
    const auto sport = static_cast<uint16_t>(40000 + up_to(3));
    switch (up_to(5)) {
      case 0:
        return ping(sender.address, to, sport);
      case 1:
        return tcp(sender.address, sport, to, any_of(kPorts), kTcpSyn);
      default:
        return udp(sender.address, sport, to, any_of(kPorts));
    }
  }

  // What comes out when this goes in.
  std::vector<Arrived> send(const Place& place, const Bytes& packet) {
    forget();
    if (place.slot != 0) {
      from_peer(place.slot, packet);
    } else {
      context->enter(place.tunnel);
      from_host(Packets{packet});
      context->enter(0);
    }
    std::vector<Arrived> out;
    for (const uint32_t slot : kSlots) {
      for (Bytes& each : at_peer(slot)) {
        out.push_back({{slot, static_cast<TunnelNumber>(slot > 10 ? 1 : 0)}, std::move(each)});
      }
    }
    for (const Sent& each : plain.sent) {
      out.push_back({{0, 0}, each.bytes});
    }
    for (const Sent& each : second_plain.sent) {
      out.push_back({{0, 1}, each.bytes});
    }
    return out;
  }

  struct Rehearsed {
    bool discarded = false;
    Place place;
    IpAddress source;  // that translation says it gets; unset: none
  };
  Rehearsed rehearse(const Place& place, Bytes packet) {
    context->enter(place.tunnel);
    context->dry = true;
    sallyport::Run& run = context->burst.add();
    run.head = packet.data();
    run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
    EXPECT_TRUE(parse(run));
    run.from = place.slot == 0 ? nullptr : &peer(place.slot);
    context->traces[0].count = 0;
    run.trace = 1;
    decide(*context);
    Rehearsed out;
    out.discarded = run.discarded;
    out.place = run.to != nullptr
                    ? Place{run.to->slot, run.to->tunnel}
                    : Place{0, run.port == kPortItCameBy ? context->number : run.port};
    for (const TraceStep& step : steps(context->traces[0], TraceStep::What::nat)) {
      out.source = step.a == 0 ? step.address : out.source;
    }
    context->end_burst();
    context->dry = false;
    context->enter(0);
    return out;
  }

  static std::string reversed(const std::string& ends) {
    const size_t arrow = ends.find(" > ");
    return ends.substr(arrow + 3) + " > " + ends.substr(0, arrow);
  }
  static uint8_t protocol_of(const Bytes& packet) { return packet[packet[0] >> 4 == 4 ? 9 : 6]; }
  // The answer to a packet that left.
  static Bytes answer_to(const Bytes& left) {
    sallyport::Run run;
    Bytes copy = left;
    run.head = copy.data();
    run.head_bytes = run.bytes = static_cast<uint32_t>(copy.size());
    EXPECT_TRUE(parse(run));
    const Ends ends = ends_of(run);
    const auto text = [&](const uint8_t* address) {
      return to_text(run.family == Family::v4 ? IpAddress::v4(address) : IpAddress::v6(address));
    };
    return is_icmp(run.protocol)
               ? ping(text(ends.destination), text(ends.source), ends.source_port, true)
               : udp(text(ends.destination), ends.destination_port, text(ends.source),
                     ends.source_port);
  }
  // What drops a packet for reasons that are not translation's.
  uint64_t dropped_by_policy() const {
    uint64_t sum = 0;
    for (const DropReason reason : {DropReason::filter_drop, DropReason::source_not_allowed,
                                    DropReason::reverse_path, DropReason::ttl_exceeded}) {
      sum += dropped(reason);
    }
    return sum;
  }

  std::string drops_text() const {
    std::string text;
    for (size_t i = 0; i < kDropReasons; ++i) {
      const auto reason = static_cast<DropReason>(i);
      text += dropped(reason) == 0
                  ? ""
                  : std::string(drop_name(reason)) + " " + std::to_string(dropped(reason)) + ", ";
    }
    return text;
  }

  struct Flow {
    Place came, went;
    Bytes packet, left;
  };

  // One packet, and if it leaves, its answer and an error about it.
  void one_packet() {
    Flow flow;
    flow.packet = some_packet(flow.came);
    const std::string was = std::to_string(protocol_of(flow.packet)) + " " + ends(flow.packet) +
                            " of " + (flow.came.slot == 0 ? "the host" : "a tunnel");
    SCOPED_TRACE(was + ", " + flow.came.text());
    const Rehearsed rehearsed = rehearse(flow.came, flow.packet);
    const uint64_t before = dropped_in_all();
    const auto out = send(flow.came, flow.packet);
    const uint64_t drops = dropped_in_all() - before;
    const bool was_told = std::ranges::any_of(
        out, [&](const Arrived& each) { return drops > 0 && is_icmp(protocol_of(each.packet)); });
    if (rehearsed.discarded) {
      EXPECT_EQ(drops, 1u) << "explain said that it would be";
      EXPECT_TRUE(out.empty() || was_told);
      return;
    }
    if (drops > 0) {  // no port, or no tuple: only who tries knows
      uint64_t refused = 0;
      for (const DropReason reason : {DropReason::nat_no_port, DropReason::flow_clash,
                                      DropReason::flow_invalid, DropReason::flow_share}) {
        refused += dropped(reason);
      }
      EXPECT_EQ(refused, refused_ + 1) << drops_text();
      refused_ += 1;
      return;
    }
    ASSERT_EQ(out.size(), 1u);
    flow.went = out[0].place;
    flow.left = out[0].packet;
    const std::string is = std::to_string(protocol_of(flow.left)) + " " + ends(flow.left) +
                           " answered by " + (flow.went.slot == 0 ? "the host" : "a tunnel");
    ASSERT_EQ(is.find("damaged"), std::string::npos) << is;
    EXPECT_EQ(flow.went.text(), rehearsed.place.text()) << "explain said";
    ASSERT_EQ(outside_.emplace(was, is).first->second, is) << "it leaves as it did";
    ASSERT_EQ(inside_.emplace(is, was).first->second, was) << "and nobody else does as " << is;
    flow.came = came_.emplace(was, flow.came).first->second;
    check_answer(flow);
    check_error(flow);
  }

  void check_answer(const Flow& flow) {
    if (protocol_of(flow.packet) == kProtocolTcp) {
      return;
    }
    const bool was_answer = was_answer_.contains(ends(flow.packet));
    was_answer_.insert(ends(answer_to(flow.left)));
    const uint64_t before = dropped_by_policy();
    const auto back = send(flow.went, answer_to(flow.left));
    if (dropped_by_policy() > before) {
      return;
    }
    ASSERT_EQ(back.size(), 1u) << "answered from " << flow.went.text();
    EXPECT_EQ(ends(back[0].packet), reversed(ends(flow.packet)));
    if (!was_answer) {  // else it is the flow's own direction, and goes on by its exit
      EXPECT_EQ(back[0].place.text(), flow.came.text());
    }
  }

  void check_error(const Flow& flow) {
    const bool v4 = flow.left[0] >> 4 == 4;
    const Bytes answer = answer_to(flow.left);
    const auto text = [&](size_t at) {
      return to_text(v4 ? IpAddress::v4(answer.data() + at) : IpAddress::v6(answer.data() + at));
    };
    const uint64_t before = dropped_by_policy();
    const auto back = send(
        flow.went, error_about(text(v4 ? 12 : 8), text(v4 ? 16 : 24), flow.left, v4 ? 3 : 1, 1));
    if (dropped_by_policy() > before) {
      return;
    }
    ASSERT_EQ(back.size(), 1u) << "from " << flow.went.text();
    EXPECT_EQ(ends(back[0].packet).find("damaged"), std::string::npos) << ends(back[0].packet);
    EXPECT_EQ(ends(quoted(back[0].packet)), ends(flow.packet)) << "as it was sent";
  }

  static constexpr std::array<uint32_t, 4> kSlots{1, 2, 11, 12};
  static constexpr std::array<uint16_t, 3> kPorts{7, 53, 40001};
  std::mt19937 random_;
  std::map<uint32_t, uint32_t> tags_;
  std::map<std::string, std::string> outside_, inside_;
  std::map<std::string, Place> came_;  // where the first packet of a flow did
  std::set<std::string> was_answer_;
  uint64_t refused_ = 0;
};

TEST_F(NatRandom, HoldsForEveryPolicy) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  random_.seed(seed);
  some_policy();
  for (int i = 0; i < 150 && !HasFailure(); ++i) {
    one_packet();
  }
}

// A packet in parts (no more than are kept count of), the first one first: put together again, it is the one packet that would have left whole.
TEST_F(NatRandom, PartsLeaveAsTheWhole) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  random_.seed(seed);
  made_->rule(all(), use_exit(made_->peer(tags_[12])));
  nat(all(), one_in(2) ? independent(masquerade()) : masquerade());
  begin_policy();
  for (uint8_t id = 1; id <= 40; ++id) {
    Packet words = Line::words(Family::v4, kProtocolUdp, 16 + up_to(400));
    words.source_port = static_cast<uint16_t>(2000 + id);
    const Bytes whole = between("10.0.0.2", "198.51.100.1", words);
    std::vector<Bytes> parts;
    for (size_t at = 20; at < whole.size();) {
      const size_t end = std::min(whole.size(), at + 48 + 8 * up_to(8));
      Bytes part(whole.begin(), whole.begin() + 20);
      part.insert(part.end(), whole.begin() + static_cast<ptrdiff_t>(at),
                  whole.begin() + static_cast<ptrdiff_t>(end));
      put16(part, 2, static_cast<uint32_t>(part.size()));
      part[5] = id;
      put16(part, 6, static_cast<uint32_t>((end < whole.size() ? 0x2000u : 0u) | (at - 20) / 8));
      fix_ip_checksum(part);
      parts.push_back(std::move(part));
      at = end;
    }
    std::shuffle(parts.begin() + 1, parts.end(), random_);
    Bytes left(whole.size());
    for (const Bytes& part : parts) {
      const auto out = send({1, 0}, part);
      ASSERT_EQ(out.size(), 1u);
      const Bytes& is = out[0].packet;
      EXPECT_EQ(naive_sum(is.data(), 20), 0xffff);
      const size_t at = 20 + 8 * ((is[6] & 0x1fu) << 8 | is[7]);
      ASSERT_LE(at + is.size() - 20, left.size());
      std::copy(is.begin() + 20, is.end(), left.begin() + static_cast<ptrdiff_t>(at));
      std::copy(is.begin(), is.begin() + 20, left.begin());
    }
    put16(left, 2, static_cast<uint32_t>(left.size()));
    put16(left, 6, 0);
    fix_ip_checksum(left);
    EXPECT_EQ(ends(left), "10.9.1.1:" + std::to_string(words.source_port) + " > 198.51.100.1:2000");
  }
}

}  // namespace
}  // namespace sallyport::test
