#include "control/host_nat.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "control/build.h"
#include "control/host_link.h"
#include "control/host_route_query.h"

namespace sallyport {
namespace {

// Reserved, and for documentation (RFC 1112, RFC 3849): only a default route leads there.
IpAddress far_away(Family family) {
  IpAddress address;
  address.family = family;
  if (family == Family::v4) {
    address.bytes = {240, 0, 0, 1};
  } else {
    address.bytes = {0x20, 0x01, 0x0d, 0xb8, 0xff, 0xff};
    address.bytes[15] = 1;
  }
  return address;
}

std::pair<uint16_t, uint16_t> ephemeral_ports() {
  std::pair<uint16_t, uint16_t> range = ClaimFacts{}.ephemeral;
  uint32_t first = 0, last = 0;
  if (std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> first >> last && first > 0 &&
      first <= last && last <= 65535) {
    range = {static_cast<uint16_t>(first), static_cast<uint16_t>(last)};
  }
  return range;
}

bool forwards_v6() {
  int value = 0;
  std::ifstream("/proc/sys/net/ipv6/conf/all/forwarding") >> value;
  return value != 0;
}

HostClaims::Options options_of(const config::Host& host) {
  return {host.table + 1, host.route_protocol, host.rule_priority - 2};
}

}  // namespace

HostNat::~HostNat() {
  if (claims_ != nullptr) {
    if (auto removed = claims_->remove_all(); !removed) {
      spdlog::error("{}", removed.error().text);
    }
  }
}

ClaimFacts HostNat::facts_for(const config::Config& config, const Tunnels& tunnels) {
  ClaimFacts facts;
  facts.links = tunnels.links;
  facts.listen_ports = tunnels.listen_ports;
  facts.ephemeral = ephemeral_ports();
  ways_out_.clear();
  auto query = HostRouteQuery::open();
  for (const Family family : {Family::v4, Family::v6}) {
    const auto path = query ? query->query(far_away(family), config.host.from_mark)
                            : Result<HostPath>(std::unexpected(query.error()));
    if (path && !path->local && std::ranges::none_of(tunnels.links, [&](const auto& link) {
          return link.second == path->link;
        })) {
      (family == Family::v4 ? facts.host_v4 : facts.host_v6) = path->source;
      ways_out_[family] = path->link;
    }
  }
  return facts;
}

// Flows that went out by an address that is gone get no answers any more, and would go on with it.
void HostNat::say_host_addresses(const ClaimFacts& facts) {
  if (facts.host_v4 == host_v4_ && facts.host_v6 == host_v6_) {
    return;
  }
  engine_.set_host_addresses(facts.host_v4, facts.host_v6);
  for (const auto& [before, now] :
       {std::pair(host_v4_, facts.host_v4), std::pair(host_v6_, facts.host_v6)}) {
    if (before.is_set() && before != now) {
      const size_t forgotten = engine_.forget_flows_to(before);
      spdlog::info("the host sends from {} now, not from {}: {} flows are forgotten",
                   now.is_set() ? to_text(now) : "nowhere", to_text(before), forgotten);
    }
  }
  host_v4_ = facts.host_v4;
  host_v6_ = facts.host_v6;
}

Result<void> HostNat::allow_forwarding(const config::Config& config, const Claims& claims) {
  const auto allow = [&](uint32_t link, bool own_sources) -> Result<void> {
    auto host_link = HostLink::open(link, config.host.route_protocol);
    if (!host_link) {
      return std::unexpected(std::move(host_link.error()));
    }
    return host_link->allow_forwarding(own_sources);
  };
  bool v6 = false;
  for (const Claims::Table& table : claims.tables) {
    v6 = v6 || table.family == Family::v6;
    if (auto allowed = allow(table.link, true); !allowed) {
      return allowed;
    }
  }
  if (const auto way = ways_out_.find(Family::v4); way != ways_out_.end()) {
    if (auto allowed = allow(way->second, false); !allowed) {
      return allowed;
    }
  }
  if (v6 && host_v6_.is_set() && !forwards_v6()) {
    spdlog::warn(
        "the host does not forward IPv6, and so none of it gets from a tunnel to the outside: "
        "sysctl -w net.ipv6.conf.all.forwarding=1");
  }
  return {};
}

Result<void> HostNat::apply(const config::Config& config, const Tunnels& tunnels) {
  if (!config.host.manage) {
    claims_.reset();
    tap_.reset();
    return {};
  }
  const ClaimFacts facts = facts_for(config, tunnels);
  const Claims claims = claims_of(config, facts);
  const HostClaims::Options options = options_of(config.host);
  if (claims_ != nullptr && options != options_) {
    if (auto removed = claims_->remove_all(); !removed) {
      return removed;
    }
    claims_.reset();
  }
  if (claims_ == nullptr) {
    auto opened = HostClaims::open(options);
    if (!opened) {
      return std::unexpected(std::move(opened.error()));
    }
    claims_ = std::move(*opened);
    options_ = options;
  }
  if (auto applied = claims_->apply(claims); !applied) {
    return applied;
  }
  say_host_addresses(facts);
  if (claims.first.empty()) {
    tap_.reset();
    return {};
  }
  if (auto allowed = allow_forwarding(config, claims); !allowed) {
    return allowed;
  }
  const TunnelNumber first = tunnels.numbers.at(config.tunnels.front().name);
  if (tap_ == nullptr || tap_->tunnel() != first) {
    auto opened = IcmpTap::open(context_, engine_, first);
    if (!opened) {
      return std::unexpected(std::move(opened.error()));
    }
    tap_ = std::move(*opened);
  }
  return {};
}

void HostNat::look_after(const config::Config& config, const Tunnels& tunnels) {
  if (!keeps_flows(config) || !config.host.manage) {
    return;
  }
  const ClaimFacts facts = facts_for(config, tunnels);
  if (auto applied = claims_->apply(claims_of(config, facts)); !applied) {
    spdlog::error("{}", applied.error().text);
    return;
  }
  say_host_addresses(facts);
}

}  // namespace sallyport
