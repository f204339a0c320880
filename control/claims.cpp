#include "control/claims.h"

#include <linux/rtnetlink.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "control/build.h"

namespace sallyport {
namespace {

using config::Match;
using config::Nat;
using config::PortRange;

bool names_host(const std::string& name) {
  return name == "host" || name.starts_with("host:");
}

bool claims_arrivals(const Nat& nat) {
  return !nat.match.iif.negated && std::ranges::any_of(nat.match.iif.values, names_host) &&
         !nat.match.to.prefixes.empty() && !nat.match.to.negated;
}

// TCP and UDP are what has ports: what does not say is about both.
std::vector<uint8_t> protocols_of(const Match& match) {
  std::vector<uint8_t> out;
  for (const uint8_t protocol : {uint8_t{IPPROTO_TCP}, uint8_t{IPPROTO_UDP}}) {
    const bool named = std::ranges::find(match.protocols, protocol) != match.protocols.end();
    if (match.protocols.empty() || named != match.protocols_negated) {
      out.push_back(protocol);
    }
  }
  return out;
}

std::vector<PortRange> ports_of(const config::Ports& ports) {
  if (ports.ranges.empty()) {
    return {{1, 65535}};
  }
  if (!ports.negated) {
    return ports.ranges;
  }
  std::vector<PortRange> sorted = ports.ranges, out;
  std::ranges::sort(sorted);
  uint32_t from = 1;
  for (const auto& [first, last] : sorted) {
    if (first > from) {
      out.emplace_back(static_cast<uint16_t>(from), static_cast<uint16_t>(first - 1));
    }
    from = std::max(from, uint32_t{last} + 1);
  }
  if (from <= 65535) {
    out.emplace_back(static_cast<uint16_t>(from), uint16_t{65535});
  }
  return out;
}

class Claiming {
 public:
  Claiming(const config::Config& config, const ClaimFacts& facts)
      : config_(config), facts_(facts) {}

  Claims claims() && {
    if (!keeps_flows(config_) || config_.tunnels.empty()) {
      return {};
    }
    answers();
    arrivals();
    sources();
    return std::move(out_);
  }

 private:
  // The table that leads to this tunnel; made when it is first asked for.
  uint32_t table_of(const std::string& tunnel, Family family) {
    const auto found = std::ranges::find(config_.tunnels, tunnel, &config::Tunnel::name);
    const auto place = static_cast<uint32_t>(found - config_.tunnels.begin());
    const Claims::Table table{config_.host.table + 1 + place, facts_.links.at(tunnel), family};
    if (std::ranges::find(out_.tables, table) == out_.tables.end()) {
      out_.tables.push_back(table);
    }
    return table.number;
  }

  void add(const IpPrefix& to, uint8_t protocol, PortRange ports, uint32_t table) {
    ports.second = std::min(ports.second, kClaimedPortMax);
    if (ports.first > ports.second) {
      return;
    }
    HostRule rule;
    rule.family = to.address.family;
    rule.table = table;
    rule.to = to;
    rule.protocol = protocol;
    rule.dport = ports;
    if (std::ranges::find(out_.first, rule) == out_.first.end()) {
      out_.first.push_back(rule);
    }
  }

  // What comes back for addresses that sources are translated to when they leave to the host.
  void answers() {
    const std::string& tunnel = config_.tunnels.front().name;
    for (const Nat& nat : config_.nats) {
      if (!may_leave_to_host(nat.match)) {
        continue;
      }
      std::vector<IpPrefix> sources;
      if (nat.action == Nat::Action::masquerade) {
        for (const IpAddress& address : {facts_.host_v4, facts_.host_v6}) {
          if (address.is_set() &&
              (nat.match.family == Family::none || nat.match.family == address.family)) {
            sources.push_back({address, static_cast<uint8_t>(address.bits())});
          }
        }
      } else if (nat.action == Nat::Action::snat) {
        for (const AddressRange& range : nat.pool) {
          const auto prefixes = prefixes_of(range);
          sources.insert(sources.end(), prefixes.begin(), prefixes.end());
        }
      }
      const PortRange ports =
          nat.ports.value_or(nat.action == Nat::Action::masquerade ? kHostPorts : kNatPorts);
      for (const IpPrefix& source : sources) {
        for (const uint8_t protocol : protocols_of(nat.match)) {
          add(source, protocol, ports, table_of(tunnel, source.address.family));
        }
      }
    }
  }

  // What the host keeps of an address before the first claim of it.
  void keep_own(const IpPrefix& to) {
    if (std::ranges::find(kept_, to) != kept_.end()) {
      return;
    }
    kept_.push_back(to);
    for (const auto& [tunnel, port] : facts_.listen_ports) {
      if (port != 0) {
        add(to, IPPROTO_UDP, {port, port}, RT_TABLE_LOCAL);
      }
    }
    for (const uint8_t protocol : {uint8_t{IPPROTO_TCP}, uint8_t{IPPROTO_UDP}}) {
      add(to, protocol, facts_.ephemeral, RT_TABLE_LOCAL);
    }
  }

  void arrivals() {
    for (const Nat& nat : config_.nats) {
      const bool keeps = nat.action == Nat::Action::none;
      if (!claims_arrivals(nat) || (!keeps && nat.action != Nat::Action::dnat)) {
        continue;
      }
      for (const IpPrefix& to : nat.match.to.prefixes) {
        if (!keeps) {
          // Ports that are named one by one are meant, though the host may use them.
          if (nat.match.dport.ranges.empty() || nat.match.dport.negated) {
            keep_own(to);
          }
        }
        const uint32_t table =
            keeps ? uint32_t{RT_TABLE_LOCAL} : table_of(tunnel_of(nat.match), to.address.family);
        for (const uint8_t protocol : protocols_of(nat.match)) {
          for (const PortRange& ports : ports_of(nat.match.dport)) {
            add(to, protocol, ports, table);
          }
        }
      }
    }
  }

  std::string tunnel_of(const Match& match) const {
    for (const std::string& name : match.iif.values) {
      if (name.starts_with("host:")) {
        return name.substr(5);
      }
    }
    return config_.tunnels.front().name;
  }

  // A program that answers by a tunnel's address answers to somebody who came through the tunnel.
  void sources() {
    for (const config::Tunnel& tunnel : config_.tunnels) {
      for (const IpPrefix& address : tunnel.addresses) {
        const auto bits = static_cast<uint8_t>(address.address.bits());
        HostRule rule;
        rule.family = address.address.family;
        rule.priority = config_.host.rule_priority - 2;
        rule.table = table_of(tunnel.name, rule.family);
        rule.from = IpPrefix{address.address, bits};
        out_.sources.push_back(rule);
      }
    }
  }

  const config::Config& config_;
  const ClaimFacts& facts_;
  Claims out_;
  std::vector<IpPrefix> kept_;
};

bool less(const IpAddress& a, const IpAddress& b) {
  return std::memcmp(a.bytes.data(), b.bytes.data(), a.bits() / 8) < 0;
}

// The last address of the prefix that begins here.
IpAddress last_of(IpAddress first, unsigned length) {
  for (unsigned bit = length; bit < first.bits(); ++bit) {
    first.bytes[bit / 8] = static_cast<uint8_t>(first.bytes[bit / 8] | 0x80u >> (bit % 8));
  }
  return first;
}

bool bit_is_set(const IpAddress& address, unsigned bit) {
  return (address.bytes[bit / 8] & 0x80u >> (bit % 8)) != 0;
}

// The next address; false beyond the last one there is.
bool step(IpAddress& address) {
  for (unsigned i = address.bits() / 8; i-- > 0;) {
    if (++address.bytes[i] != 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool may_leave_to_host(const Match& match) {
  const bool named = std::ranges::any_of(match.oif.values, names_host);
  return match.oif.values.empty() || named != match.oif.negated;
}

std::vector<IpPrefix> prefixes_of(const AddressRange& range) {
  std::vector<IpPrefix> out;
  IpAddress at = range.first;
  while (!less(range.last, at)) {
    unsigned length = at.bits();
    while (length > 0 && !bit_is_set(at, length - 1) &&
           !less(range.last, last_of(at, length - 1))) {
      --length;
    }
    out.push_back({at, static_cast<uint8_t>(length)});
    at = last_of(at, length);
    if (!step(at)) {
      break;
    }
  }
  return out;
}

Claims claims_of(const config::Config& config, const ClaimFacts& facts) {
  return Claiming(config, facts).claims();
}

}  // namespace sallyport
