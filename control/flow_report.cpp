#include "control/flow_report.h"

#include "control/config_words.h"
#include "control/limits.h"
#include "control/packet_query.h"
#include "dataplane/base/rcu.h"
#include "dataplane/path/classify.h"
#include "dataplane/path/track.h"

namespace sallyport {
namespace {

class Report {
 public:
  Report(const Policy& policy, const PolicyNames& names, std::span<const config::Nat> nats,
         Time now)
      : policy_(policy), names_(names), nats_(nats), now_(static_cast<uint32_t>(now / kSecond)) {}

  Json flow(const FlowInfo& flow) const {
    const uint32_t idle =
        std::min(age(flow.counters[0].last_seen), age(flow.counters[1].last_seen));
    Json json = {{"protocol", protocol_name(flow.tuples[0].protocol)},
                 {"state", flow.tcp != TcpState::none ? to_text(flow.tcp)
                           : flow.is_replied          ? "replied"
                                                      : "unreplied"},
                 {"replied", flow.is_replied},
                 {"original", direction(flow, 0)},
                 {"reply", direction(flow, 1)},
                 {"tunnel", names_.tunnel(flow.tunnel)},
                 {"peer", Json()},
                 {"exit", Json()},
                 {"mark", config::hex_text(flow.mark)},
                 {"snat", nat(flow.snat_rule)},
                 {"dnat", nat(flow.dnat_rule)},
                 {"idle_s", idle},
                 {"timeout_s", flow.timeout},
                 {"left_s", flow.timeout > idle ? flow.timeout - idle : 0}};
    if (flow.peer_tag != PeerTags::kNone) {
      json["peer"] = names_.peer(flow.peer_tag);
    }
    if (const uint32_t exit = exit_of_flow(flow, policy_); exit < names_.exits.size()) {
      json["exit"] = names_.exits[exit];
    }
    return json;
  }

 private:
  // Workers' clocks may be a little ahead.
  uint32_t age(uint32_t seen) const { return now_ > seen ? now_ - seen : 0; }

  Json direction(const FlowInfo& flow, size_t number) const {
    const FlowTuple& tuple = flow.tuples[number];
    const auto text = [&](const uint8_t* address) {
      return to_text(tuple.family() == Family::v4 ? IpAddress::v4(address)
                                                  : IpAddress::v6(address));
    };
    Json json = {{"from", text(tuple.source)}, {"to", text(tuple.destination)}};
    if (is_icmp(tuple.protocol)) {
      json["id"] = uint16_t{tuple.source_port};
    } else if (tuple.source_port != 0 || tuple.destination_port != 0) {
      json["sport"] = uint16_t{tuple.source_port};
      json["dport"] = uint16_t{tuple.destination_port};
    }
    json["in"] = tuple.zone() == kZoneHost ? "host" : "tunnel";
    json["packets"] = flow.counters[number].packets;
    json["bytes"] = flow.counters[number].bytes;
    json["idle_s"] = age(flow.counters[number].last_seen);
    return json;
  }

  Json nat(uint16_t number) const {
    if (number == kNoNatRule) {
      return {};
    }
    Json json = {{"number", number}};
    if (number < nats_.size()) {
      json["name"] = nats_[number].name;
      json["file"] = nats_[number].where.file;
      json["line"] = nats_[number].where.line;
    }
    return json;
  }

  const Policy& policy_;
  const PolicyNames& names_;
  std::span<const config::Nat> nats_;
  const uint32_t now_;
};

}  // namespace

Json flows_json(const Policy& policy, const PolicyNames& names, std::span<const config::Nat> nats,
                const FlowFilter& filter, Time now) {
  const Report report(policy, names, nats, now);
  Json list = Json::array();
  uint64_t more = 0;
  if (policy.flows != nullptr) {
    more = step_as_reader([&] {
      uint64_t beyond = 0;
      policy.flows->for_each([&](const FlowInfo& flow) {
        if (!filter.matches(flow)) {
          return;
        }
        if (list.size() < kFlowsShown) {
          list.push_back(report.flow(flow));
        } else {
          ++beyond;
        }
      });
      return beyond;
    });
  }
  const size_t total = policy.flows == nullptr ? 0 : policy.flows->size();
  return {{"flows", std::move(list)}, {"more", more}, {"total", total}};
}

size_t flush_flows(const Policy& policy, const FlowFilter& filter) {
  if (policy.flows == nullptr) {
    return 0;
  }
  return step_as_reader([&] {
    size_t forgotten = 0;
    policy.flows->for_each([&](const FlowInfo& flow) {
      if (filter.matches(flow) && policy.flows->remove(flow.flow)) {
        ++forgotten;
      }
    });
    return forgotten;
  });
}

}  // namespace sallyport
