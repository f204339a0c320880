// Policies for path_bench: as many rules as are asked for, and a set of a million prefixes.
//
// All destinations are members of the set, and the last rule is the one that leads there, so a packet's search goes
// through all rules and ends with a look into the set. Those before are a mixture as of policy_bench: prefixes to ports, peers,
// ranges, marks, a small set, tos, and IPv6; nearly none of them matches. A policy may have NAT, too.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "bench/lpm_tables.h"
#include "dataplane/path/policy.h"

namespace sallyport::bench {

class RuleBook {
 public:
  RuleBook() {
    std::vector<SetEntry> entries;
    for (const auto& prefix : Generator<Lpm4>(9).make(800'000, 1, kInternet4, 1).prefixes) {
      write_word(entries.emplace_back(), prefix.address);
      entries.back().length = static_cast<uint8_t>(prefix.length);
    }
    members_ = entries;
    for (const auto& prefix : Generator<Lpm6>(10).make(200'000, 1, kInternet6, 1).prefixes) {
      SetEntry& entry = entries.emplace_back();
      entry.v4 = false;
      entry.length = static_cast<uint8_t>(prefix.length);
      for (unsigned i = 0; i < 8; ++i) {
        entry.address[i] = static_cast<uint8_t>(prefix.address.high >> (56 - 8 * i));
      }
      few6_.push_back(entry);
    }
    small_.replace(PrefixSet::Content::build(std::span(entries).first(10)));
    large_.replace(PrefixSet::Content::build(entries));
  }

  size_t set_size() const { return large_.size(); }

  // `count` rules, the last of which leads to the peer of this tag. 0: a policy without rules.
  std::unique_ptr<Policy> make(const PeerTags& tags, uint32_t tag, size_t count) {
    auto policy = std::make_unique<Policy>(tags, 1);
    Exit peer;
    peer.kind = ExitKind::peer;
    peer.tag = tag;
    policy->exits = {peer, Exit{}};
    for (size_t i = 0; i + 1 < count; ++i) {
      ask(policy->conditions.emplace_back(), i % 10);
      policy->actions.emplace_back().kind = RuleAction::Kind::exit;
      policy->actions.back().target = 1;
    }
    if (count > 0) {
      policy->conditions.emplace_back().to.sets = {&large_};
      policy->actions.emplace_back().kind = RuleAction::Kind::exit;
      auto rules = RuleTable::build(policy->conditions);
      if (!rules.has_value()) {
        return nullptr;
      }
      policy->rules = std::move(*rules);
    }
    policy->finish();
    return policy;
  }

  // What comes next is what came after the same call before: the same flows again.
  void begin_again(uint64_t seed) { random_ = Random(seed); }

  // An address of some member, in network order.
  void fill_destination(uint8_t* out) {
    const SetEntry& member = members_[random_.below(members_.size())];
    SetEntry any;
    write_word(any, static_cast<uint32_t>(random_.next()));
    for (unsigned bit = 0; bit < 32; ++bit) {
      const auto mask = static_cast<uint8_t>(0x80 >> bit % 8);
      const uint8_t from = (bit < member.length ? member : any).address[bit / 8];
      out[bit / 8] = static_cast<uint8_t>((out[bit / 8] & ~mask) | (from & mask));
    }
  }
  void fill_ports(uint8_t* out) {
    const uint64_t ports = random_.next() | 0x0004'0004;  // 1,024 and above
    for (unsigned i = 0; i < 4; ++i) {
      out[i] = static_cast<uint8_t>(ports >> (8 * i));
    }
  }

  // A masquerading NAT on top, with a table for a million flows.
  void add_nat(Policy& policy) {
    policy.flows = &flows_;
    policy.fragments = &fragments_;
    std::vector<RuleConditions> all(1);
    policy.nat.table = std::move(*RuleTable::build(all));
    policy.nat.rules.emplace_back().kind = NatKind::masquerade;
    policy.nat.ports.emplace_back().push_back(
        std::make_unique<PortBlocks>(uint16_t{1024}, uint16_t{65535}, 0, 1, 11));
  }

 private:
  uint16_t any_port() { return static_cast<uint16_t>(1024 + random_.below(60'000)); }

  static void write_word(SetEntry& entry, uint32_t address) {
    for (unsigned i = 0; i < 4; ++i) {
      entry.address[i] = static_cast<uint8_t>(address >> (24 - 8 * i));
    }
  }
  const SetEntry& member() { return members_[random_.below(members_.size())]; }
  uint32_t number(uint64_t below) { return static_cast<uint32_t>(random_.below(below)); }

  void ask(RuleConditions& rule, size_t kind) {
    switch (kind) {
      case 0:
      case 1: {
        rule.from.prefixes.push_back(member());
        rule.to.prefixes.push_back(member());
        const uint16_t port = any_port();
        rule.dport.ranges.push_back({port, port});
        break;
      }
      case 2:
      case 3:
        rule.peer.values.push_back(1000 + number(300));
        rule.to.prefixes.push_back(member());
        break;
      case 4: {
        const uint16_t first = static_cast<uint16_t>(number(1000));
        rule.protocol.values.push_back(17);
        rule.dport.ranges.push_back({first, static_cast<uint16_t>(first + 20)});
        break;
      }
      case 5:
        rule.peer.values.push_back(1000 + number(300));
        rule.mark = {true, number(64) << 8, 0xff00, false};
        break;
      case 6:
        rule.to.sets = {&large_};
        rule.protocol.values.push_back(132);
        break;
      case 7:
        rule.from.sets = {&small_};
        rule.mark = {true, 1 + number(4), 0x0f, false};
        break;
      case 8:
        rule.iif.values.push_back(2 + number(6));
        rule.tos = {true, number(16) << 3, 0xff, false};
        break;
      default:
        rule.to.prefixes.push_back(few6_[random_.below(few6_.size())]);
        break;
    }
  }

  Random random_{7};
  FlowTable flows_{{.capacity = 1'000'000}};
  FragmentTable fragments_{64, 13};
  std::vector<SetEntry> members_, few6_;
  PrefixSet large_, small_;
};

}  // namespace sallyport::bench
