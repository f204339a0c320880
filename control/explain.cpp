#include "control/explain.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "control/config_words.h"
#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "dataplane/net/parse.h"

namespace sallyport {
namespace {

using What = TraceStep::What;

std::string with_port(const IpAddress& address, std::optional<uint16_t> port) {
  const std::string text = to_text(address);
  if (!port.has_value()) {
    return text;
  }
  return (address.family == Family::v6 ? "[" + text + "]" : text) + ":" + std::to_string(*port);
}

// The entry of this length that covers the address.
std::string entry_text(const IpAddress& address, uint32_t length) {
  return to_text(prefix_of(address, length));
}

std::string name_of(const std::vector<std::string>& names, uint32_t number) {
  return number < names.size() ? names[number] : "number " + std::to_string(number);
}

std::string rule_name(const config::Rule& rule) {
  return "rule " + std::to_string(rule.priority) +
         (rule.name.empty() ? "" : " (" + rule.name + ")");
}

const char* why_text(uint32_t why) {
  switch (static_cast<MemberWhy>(why)) {
    case MemberWhy::first_alive:
      return "the first that is alive";
    case MemberWhy::weight:
      return "this flow's share by weight";
    case MemberWhy::kept:
      return "where this flow was before";
  }
  return "";
}

class Words {
 public:
  Words(const PolicyNames& names, const PacketFacts& packet) : names_(names), packet_(packet) {}

  Json step(const TraceStep& step) const;

 private:
  Json rule(const TraceStep& step) const;
  Json table(const TraceStep& step) const;
  Json set_entry(const TraceStep& step) const;
  Json nat(const TraceStep& step) const;
  Json filter(const TraceStep& step) const;
  Json fit(const TraceStep& step) const;

  const PolicyNames& names_;
  const PacketFacts& packet_;
};

Json Words::rule(const TraceStep& step) const {
  if (step.number >= names_.rules.size()) {
    return step_json("policy", "the end of the rules");
  }
  const config::Rule& rule = names_.rules[step.number];
  if (step.what == What::mark) {
    return step_json("policy", "the mark is now " + config::hex_text(step.a));
  }
  if (step.what == What::jump) {
    return step_json("policy", "the search goes on at " + rule_name(rule), rule.where);
  }
  return step_json("policy", rule_name(rule) + " matches: " + config::rule_text(rule), rule.where);
}

// "exit: to 0.0.0.0/0 masquerade: source 198.51.100.1:61005", where the file says so.
Json Words::nat(const TraceStep& step) const {
  const std::string becomes =
      step.address.is_set()
          ? (step.a == 1 ? "destination " : "source ") +
                with_port(step.address,
                          step.b == 0 ? std::nullopt : std::optional(static_cast<uint16_t>(step.b)))
      : step.c == 1 ? "there is no address of that family to become"
                    : "stays as it is";
  if (step.number >= names_.nats.size()) {
    return step_json("nat", "rule " + std::to_string(step.number) + ": " + becomes);
  }
  const config::Nat& nat = names_.nats[step.number];
  return step_json(
      "nat", (nat.name.empty() ? "" : nat.name + ": ") + config::nat_text(nat) + ": " + becomes,
      nat.where);
}

Json Words::fit(const TraceStep& step) const {
  const std::string mtu = "the way carries packets of " + std::to_string(step.b) + " bytes";
  switch (static_cast<TraceStep::Fitted>(step.number)) {
    case TraceStep::Fitted::mss:
      return step_json("fit", "MSS " + std::to_string(step.a) + ": " + mtu);
    case TraceStep::Fitted::cut:
      return step_json("fit", std::to_string(step.a) + " bytes are cut: " + mtu);
    case TraceStep::Fitted::refused:
      return step_json("fit", std::to_string(step.a) + " bytes are too big: " + mtu +
                                  ", and the sender is told");
  }
  return step_json("fit", mtu);
}

Json Words::filter(const TraceStep& step) const {
  if (step.a == 0) {
    return step_json("filter", "no filter matches");
  }
  if (step.number >= names_.filters.size()) {
    return step_json("filter", "filter " + std::to_string(step.number) + " matches");
  }
  const config::Filter& filter = names_.filters[step.number];
  return step_json(
      "filter",
      (filter.name.empty() ? "" : filter.name + " ") + "matches: " + config::filter_text(filter),
      filter.where);
}

Json Words::table(const TraceStep& step) const {
  const std::string table = "table " + name_of(names_.tables, step.number);
  if (step.what == What::table_miss) {
    return step_json("policy", table + " has no route: the search goes on");
  }
  PolicyNames::Route route;
  if (step.number < names_.routes.size() && step.a < names_.routes[step.number].size()) {
    route = names_.routes[step.number][step.a];
  }
  if (step.what == What::suppressed) {
    return step_json(
        "policy",
        table + ": " + route.to + " is suppressed, being no longer than asked: the search goes on",
        route.where);
  }
  return step_json("policy", table + ": " + route.to + " exit " + route.exit, route.where);
}

Json Words::set_entry(const TraceStep& step) const {
  const IpAddress& address = step.a == 1 ? packet_.source : packet_.destination;
  const std::string entry = entry_text(address, step.b);
  return step_json("policy",
                   "set " + name_of(names_.sets, step.number) +
                       (step.c == 1 ? " holds " + to_text(address) + " by " + entry
                                    : " has a hole for " + to_text(address) + ", !" + entry));
}

Json Words::step(const TraceStep& step) const {
  switch (step.what) {
    case What::rule:
    case What::mark:
    case What::jump:
      return rule(step);
    case What::set_entry:
      return set_entry(step);
    case What::table_hit:
    case What::table_miss:
    case What::suppressed:
      return table(step);
    case What::no_rule:
      return step_json("policy", "no rule decides: as WireGuard alone sends it");
    case What::exit:
      return step_json("exit", "exit " + name_of(names_.exits, step.number));
    case What::member:
      return step_json("exit",
                       "member " + name_of(names_.exits, step.number) + ": " + why_text(step.a));
    case What::all_down:
      return step_json(
          "exit", "every member of " + name_of(names_.exits, step.number) + " is down: " +
                      (step.a == kNoExit ? std::string("closed")
                                         : "exit " + name_of(names_.exits, step.a) + " instead"));
    case What::lan_denied:
      return step_json("route", "a private destination, which exit " +
                                    name_of(names_.exits, step.number) + " is not to see (lan)");
    case What::allowed_ips:
      return step_json("route", "allowed-ips of " +
                                    names_.tunnel(static_cast<TunnelNumber>(step.number)) +
                                    (step.a == 1 ? ": found" : ": no peer has the destination"));
    case What::peer:
      return step_json("route", "to peer " + names_.peer(step.b));
    case What::host:
      return step_json("route",
                       "to the host, by " + names_.tunnel(static_cast<TunnelNumber>(step.number)));
    case What::flow: {
      static constexpr std::array<const char*, 5> kStates = {"no", "new", "established", "related",
                                                             "invalid"};
      const char* state = step.number < kStates.size() ? kStates[step.number] : "?";
      return step_json("track", std::string("flow ") + state + (step.a == 1 ? ", reply" : "") +
                                    (step.c == 1 ? ", its exit is remembered" : ""));
    }
    case What::nat:
      return nat(step);
    case What::way_back:
      return step_json(
          "route", "back where its flow came from: " +
                       (step.a == PeerTags::kNone ? "the host" : "peer " + names_.peer(step.a)));
    case What::reverse_path: {
      const bool is_strict = static_cast<ReversePath>(step.b) == ReversePath::strict;
      return step_json("policy",
                       std::string("reverse path: what is sent to its source would ") +
                           (is_strict ? (step.a == 1 ? "go to that peer" : "not go to that peer")
                                      : (step.a == 1 ? "get somewhere" : "get nowhere")));
    }
    case What::filter:
      return filter(step);
    case What::fit:
      return fit(step);
    case What::ttl:
      return step_json("route", "TTL " + std::to_string(step.a));
    case What::drop:
      return step_json("drop", std::string(drop_name(static_cast<DropReason>(step.a))));
    case What::staged:
      return step_json("seal", "waits for a session");
    case What::sealed:
      return step_json("seal", "sealed into " + std::to_string(step.a) +
                                   (step.a == 1 ? " datagram, " : " datagrams, ") +
                                   std::to_string(step.b) + " bytes");
  }
  return step_json("", "");
}

}  // namespace

Json step_json(const std::string& stage, const std::string& text, const config::Where& where) {
  Json step = {{"stage", stage}, {"text", text}};
  if (where.line != 0) {
    step["file"] = where.file;
    step["line"] = where.line;
  }
  return step;
}

PacketFacts packet_facts(const uint8_t* packet, uint32_t bytes) {
  PacketFacts facts;
  const bool v4 = bytes >= sizeof(Ipv4Header) && packet[0] >> 4 == 4;
  if (!v4 && (bytes < sizeof(Ipv6Header) || packet[0] >> 4 != 6)) {
    facts.text = "no IP packet";
    return facts;
  }
  facts.source = v4 ? IpAddress::v4(packet + 12) : IpAddress::v6(packet + 8);
  facts.destination = v4 ? IpAddress::v4(packet + 16) : IpAddress::v6(packet + 24);
  const uint8_t protocol = v4 ? packet[9] : packet[6];
  const size_t l4 = v4 ? (packet[0] & 15u) * 4 : sizeof(Ipv6Header);
  std::optional<uint16_t> sport, dport;
  const bool first = !v4 || (load<be16>(packet + 6) & kIpv4FragmentOffset) == 0;
  if ((protocol == kProtocolTcp || protocol == kProtocolUdp) && first && l4 + 4 <= bytes) {
    sport = load<be16>(packet + l4);
    dport = load<be16>(packet + l4 + 2);
  }
  facts.text = protocol_name(protocol) + " " + with_port(facts.source, sport) + " -> " +
               with_port(facts.destination, dport);
  return facts;
}

std::vector<uint8_t> make_packet(const PacketQuery& query) {
  const IpAddress& from = query.from->address;
  const IpAddress& to = query.to->address;
  const bool v4 = from.family == Family::v4;
  const uint8_t protocol =
      query.protocol.value_or(query.destination_port.has_value() || query.source_port.has_value()
                                  ? kProtocolTcp
                                  : (v4 ? kProtocolIcmp : kProtocolIcmpv6));
  const size_t ip_bytes = v4 ? sizeof(Ipv4Header) : sizeof(Ipv6Header);
  const size_t l4_bytes = protocol == kProtocolTcp ? sizeof(TcpHeader) : sizeof(UdpHeader);
  std::vector<uint8_t> packet(std::max<size_t>(query.size.value_or(0), ip_bytes + l4_bytes));
  uint8_t* l4 = packet.data() + ip_bytes;
  if (v4) {
    auto* ip = reinterpret_cast<Ipv4Header*>(packet.data());
    ip->version_ihl = 0x45;
    ip->tos = query.tos.value_or(0);
    ip->total_length = static_cast<uint16_t>(packet.size());
    ip->ttl = 64;
    ip->protocol = protocol;
    std::memcpy(ip->source, from.bytes.data(), 4);
    std::memcpy(ip->destination, to.bytes.data(), 4);
    checksum_ipv4(packet.data(), sizeof(Ipv4Header));
  } else {
    auto* ip = reinterpret_cast<Ipv6Header*>(packet.data());
    ip->version_class_flow = 0x60000000 | uint32_t{query.tos.value_or(0)} << 20;
    ip->payload_length = static_cast<uint16_t>(packet.size() - ip_bytes);
    ip->next_header = protocol;
    ip->hop_limit = 64;
    std::memcpy(ip->source, from.bytes.data(), 16);
    std::memcpy(ip->destination, to.bytes.data(), 16);
  }
  if (protocol == kProtocolIcmp || protocol == kProtocolIcmpv6) {
    l4[0] = protocol == kProtocolIcmp ? 8 : 128;  // an echo request
  } else {
    // The first two words of TCP, UDP and SCTP alike.
    be16 ports[2] = {query.source_port.value_or(0), query.destination_port.value_or(0)};
    std::memcpy(l4, ports, sizeof(ports));
  }
  if (protocol == kProtocolTcp) {
    auto* tcp = reinterpret_cast<TcpHeader*>(l4);
    tcp->data_offset = (sizeof(TcpHeader) / 4) << 4;
    tcp->flags = kTcpSyn;
  } else if (protocol == kProtocolUdp) {
    reinterpret_cast<UdpHeader*>(l4)->length = static_cast<uint16_t>(packet.size() - ip_bytes);
  }
  return packet;
}

Json steps_json(const Trace& trace, const PolicyNames& names, const PacketFacts& packet) {
  const Words words(names, packet);
  Json steps = Json::array();
  const size_t kept = std::min<size_t>(trace.count, Trace::kStepsMax);
  for (size_t i = 0; i < kept; ++i) {
    steps.push_back(words.step(trace.steps[i]));
  }
  if (trace.count > kept) {
    steps.push_back(step_json("", std::to_string(trace.count - kept) + " more steps"));
  }
  return steps;
}

std::string verdict_text(const Trace& trace, const PolicyNames& names) {
  std::string verdict = "nothing was decided";
  for (size_t i = 0; i < std::min<size_t>(trace.count, Trace::kStepsMax); ++i) {
    const TraceStep& step = trace.steps[i];
    switch (step.what) {
      case What::drop:
        return "dropped: " + std::string(drop_name(static_cast<DropReason>(step.a)));
      case What::peer:
        verdict = "to peer " + names.peer(step.b);
        break;
      case What::host:
        verdict = "to the host, by " + names.tunnel(static_cast<TunnelNumber>(step.number));
        break;
      default:
        break;
    }
  }
  return verdict;
}

}  // namespace sallyport
