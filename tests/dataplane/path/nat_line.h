// NatLine: the line with flows, NAT and filters. Two tunnels: peers 1 and 2 on the first, 11 and 12 on the second; 10.0.0.9 is
// the host, which has 10.9.0.1 in the first tunnel and 10.9.1.1 in the second.
#pragma once

#include "dataplane/path/nat.h"

#include <map>

#include "dataplane/path/track.h"
#include "tests/dataplane/path/line.h"

namespace sallyport::test {

class NatLine : public Line {
 protected:
  void SetUp() override {
    Line::SetUp();
    begin_second();
    snapshot.tunnels[0].address_v4 = *parse_address("10.9.0.1");
    snapshot.tunnels[1].address_v4 = *parse_address("10.9.1.1");
    snapshot.tunnels[0].address_v6 = *parse_address("fd09::1");
    for (const uint32_t slot : {1u, 2u, 11u, 12u}) {
      sessions_[slot] = &session(slot);
    }
    made_ = std::make_unique<PolicyMaker>(tags, kWorkers);
    flows_ = std::make_unique<FlowTable>(FlowTable::Config{.capacity = 1024});
    fragments_ = std::make_unique<FragmentTable>(64, 1);
  }
  void TearDown() override {
    Line::TearDown();
    in_force.reset();
  }

  void nat(RuleConditions conditions, NatRule rule) {
    nat_conditions_.push_back(std::move(conditions));
    nat_rules_.push_back(std::move(rule));
  }
  static NatRule rule_of(NatKind kind, const std::string& first = "",
                         const std::string& last = "") {
    NatRule rule;
    rule.kind = kind;
    if (!first.empty()) {
      rule.pool.push_back({*parse_address(first), *parse_address(last.empty() ? first : last)});
    }
    return rule;
  }
  static NatRule masquerade() { return rule_of(NatKind::masquerade); }
  static NatRule snat(const std::string& address) { return rule_of(NatKind::snat, address); }
  // One outer end for one inner one.
  static NatRule independent(NatRule rule) {
    rule.endpoint_independent = true;
    return rule;
  }
  static NatRule nptv6(const std::string& inside, const std::string& outside) {
    NatRule rule;
    rule.kind = NatKind::nptv6;
    rule.prefixes = Nptv6::make(*parse_prefix(inside), *parse_prefix(outside));
    return rule;
  }
  static NatRule dnat(const std::string& address, uint16_t port = 0) {
    NatRule rule = rule_of(NatKind::dnat, address);
    rule.port_first = rule.port_last = port;
    return rule;
  }
  static FilterRule does(FilterAction action, uint8_t states = 0) {
    FilterRule rule;
    rule.action = action;
    rule.states = states;
    return rule;
  }
  void filter(RuleConditions conditions, FilterRule rule) {
    filter_conditions_.push_back(std::move(conditions));
    filter_rules_.push_back(std::move(rule));
  }

  // Makes the policy and puts it in force. Ports `first_port` to `last_port` are there to choose from.
  void begin_policy(uint16_t first_port = 1024, uint16_t last_port = 65535) {
    Policy& policy = made_->policy();
    policy.flows = flows_.get();
    policy.fragments = fragments_.get();
    if (!nat_rules_.empty()) {
      policy.nat.table = std::move(*RuleTable::build(nat_conditions_));
      policy.nat.rules = std::move(nat_rules_);
    }
    for (unsigned worker = 0; worker < kWorkers; ++worker) {
      policy.nat.ports.emplace_back().push_back(
          std::make_unique<PortBlocks>(first_port, last_port, worker, kWorkers, 7));
    }
    if (!filter_rules_.empty()) {
      policy.filter.table = std::move(*RuleTable::build(filter_conditions_));
      policy.filter.rules = std::move(filter_rules_);
    }
    put_in_force(*made_);
  }
  void again() {
    made_ = std::make_unique<PolicyMaker>(tags, kWorkers);
    nat_conditions_.clear();
    filter_conditions_.clear();
    ++snapshot.epoch;
  }

  void from_peer(uint32_t slot, const Bytes& packet) {
    from_network(*sessions_.at(slot), counter_[slot]++, packet);
  }
  std::vector<Bytes> at_peer(uint32_t slot) { return arrived_at(*sessions_.at(slot)); }
  void forget() {
    for (RecordingPort* port : {&plain, &outer, &second_plain, &second_outer}) {
      port->sent.clear();
    }
  }

  static Bytes udp(const std::string& from, uint16_t sport, const std::string& to, uint16_t dport) {
    Packet packet = words(parse_address(from)->family, kProtocolUdp, 40);
    packet.source_port = sport;
    packet.destination_port = dport;
    return between(from, to, packet);
  }
  static Bytes ping(const std::string& from, const std::string& to, uint16_t id,
                    bool is_reply = false) {
    const Family family = parse_address(from)->family;
    const bool v4 = family == Family::v4;
    Packet packet = words(family, v4 ? kProtocolIcmp : kProtocolIcmpv6, 0);
    packet.payload = {static_cast<uint8_t>(v4 ? (is_reply ? 0 : 8) : (is_reply ? 129 : 128)),
                      0,
                      0,
                      0,
                      static_cast<uint8_t>(id >> 8),
                      static_cast<uint8_t>(id),
                      0,
                      1};
    return with_icmp_checksum(from, to, packet);
  }
  // An error about a packet, quoting `bytes` of it.
  static Bytes error_about(const std::string& from, const std::string& to, Bytes about,
                           uint8_t type, uint8_t code, size_t bytes = 512) {
    Packet packet =
        words(parse_address(from)->family, about[0] >> 4 == 4 ? kProtocolIcmp : kProtocolIcmpv6, 0);
    about.resize(std::min(about.size(), bytes));
    packet.payload = {type, code, 0, 0, 0, 0, 0, 0};
    packet.payload.insert(packet.payload.end(), about.begin(), about.end());
    return with_icmp_checksum(from, to, packet);
  }
  static Bytes with_icmp_checksum(const std::string& from, const std::string& to, Packet packet) {
    Bytes bytes = between(from, to, packet);
    const bool v4 = bytes[0] >> 4 == 4;
    const size_t ip_bytes = v4 ? 20 : 40, rest = bytes.size() - ip_bytes;
    const uint32_t pseudo =
        v4 ? 0 : naive_sum(bytes.data() + 8, 32, static_cast<uint32_t>(rest + bytes[6]));
    bytes[ip_bytes + 2] = bytes[ip_bytes + 3] = 0;
    put16(bytes, ip_bytes + 2, 0xffffu & ~naive_sum(bytes.data() + ip_bytes, rest, pseudo));
    return bytes;
  }
  static Bytes tcp(const std::string& from, uint16_t sport, const std::string& to, uint16_t dport,
                   uint8_t flags) {
    Packet packet = words(parse_address(from)->family, kProtocolTcp, 0);
    packet.source_port = sport;
    packet.destination_port = dport;
    packet.flags = flags;
    return between(from, to, packet);
  }
  // "source:port > destination:port", with a mark where a checksum is wrong.
  static std::string ends(Bytes packet) {
    sallyport::Run run;
    run.head = packet.data();
    run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
    EXPECT_TRUE(parse(run) || parse_quoted(run));
    const Ends ends = ends_of(run);
    const auto text = [&](const uint8_t* address, be16 port) {
      return to_text(run.family == Family::v4 ? IpAddress::v4(address) : IpAddress::v6(address)) +
             ":" + std::to_string(uint16_t{port});
    };
    return text(ends.source, ends.source_port) + " > " +
           text(ends.destination, ends.destination_port) +
           (checksums_right(packet) ? "" : " damaged");
  }
  static bool checksums_right(const Bytes& packet) {
    const bool v4 = packet[0] >> 4 == 4;
    const size_t ip_bytes = v4 ? 20 : 40;
    const size_t rest = packet.size() - ip_bytes;
    const uint8_t protocol = packet[v4 ? 9 : 6];
    const uint32_t pseudo = protocol == kProtocolIcmp
                                ? 0
                                : naive_sum(packet.data() + (v4 ? 12 : 8), v4 ? 8 : 32,
                                            static_cast<uint32_t>(rest + protocol));
    return (!v4 || naive_sum(packet.data(), ip_bytes) == 0xffff) &&
           naive_sum(packet.data() + ip_bytes, rest, pseudo) == 0xffff;
  }
  // The packet that an ICMP error quotes.
  static Bytes quoted(const Bytes& error) {
    return Bytes(error.begin() + (error[0] >> 4 == 4 ? 28 : 48), error.end());
  }
  static std::string only(const std::vector<Bytes>& packets) {
    return packets.size() == 1 ? ends(packets[0]) : std::to_string(packets.size()) + " packets";
  }

  std::map<uint32_t, wireguard::Keypair*> sessions_;
  std::map<uint32_t, uint64_t> counter_;
  std::unique_ptr<PolicyMaker> made_;
  std::unique_ptr<FlowTable> flows_;
  std::unique_ptr<FragmentTable> fragments_;
  std::vector<RuleConditions> nat_conditions_, filter_conditions_;
  std::vector<NatRule> nat_rules_;
  std::vector<FilterRule> filter_rules_;
};

}  // namespace sallyport::test
