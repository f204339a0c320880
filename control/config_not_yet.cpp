#include "control/config_not_yet.h"

#include "control/config_known.h"
#include "control/config_section.h"
#include "control/config_text.h"

namespace sallyport::config {

namespace {

// What of it is not done; empty: nothing.
std::string missing_of(const Nat& nat, const Done& done) {
  if (!done.nat) {
    return "nat";
  }
  if (!done.nptv6 && nat.action == Nat::Action::nptv6) {
    return "nptv6";
  }
  if (!done.endpoint_independent && nat.endpoint_independent) {
    return "endpoint_independent";
  }
  return !done.unpaired && !nat.paired ? "paired" : "";
}

}  // namespace

void not_yet(const Config& config, std::vector<Problem>& problems, const Done& done) {
  const auto refuse = [&](const Where& where, std::string key) {
    add_problem(problems, {where, std::move(key), "is not in this version: leave it out"});
  };
  for (size_t i = 0; i < config.nats.size(); ++i) {
    const std::string missing = missing_of(config.nats[i], done);
    if (!missing.empty()) {
      refuse(config.nats[i].where, indexed("nat", i) + (done.nat ? "." + missing : ""));
    }
  }
  for (size_t i = 0; !done.filter && i < config.filters.size(); ++i) {
    refuse(config.filters[i].where, indexed("filter", i));
  }
  if (!done.flows && config.flows.where.line != 0) {
    refuse(config.flows.where, "flows");
  }
  for (const Tunnel& tunnel : config.tunnels) {
    const std::string key = dotted("tunnel", tunnel.name);
    if (!done.via && !tunnel.via.empty()) {
      refuse(tunnel.where, key + ".via");
    }
    if (!done.path_mtu && tunnel.path_mtu != 0) {
      refuse(tunnel.where, key + ".path_mtu");
    }
    if (!done.mss && tunnel.mss != Tunnel::Mss::clamp) {
      refuse(tunnel.where, key + ".mss");
    }
    for (const Peer& peer : tunnel.peers) {
      if (!done.path_mtu && peer.path_mtu != 0) {
        refuse(peer.where, peer_key(tunnel, peer) + ".path_mtu");
      }
    }
  }
}

}  // namespace sallyport::config
