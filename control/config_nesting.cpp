#include "control/config_nesting.h"

#include <algorithm>

#include "control/config_known.h"
#include "control/config_text.h"
#include "control/limits.h"

namespace sallyport::config {
namespace {

constexpr uint32_t kDefaultMtu = 1420;             // 1500 less the headers of an IPv6 datagram
constexpr uint32_t kIp4Mtu = 576, kIp6Mtu = 1280;  // the least that a link for either must carry
constexpr uint32_t kOverV4 = 60, kOverV6 = 80;

const Tunnel* find(const Config& config, const std::string& name) {
  const auto found = std::ranges::find(config.tunnels, name, &Tunnel::name);
  return found == config.tunnels.end() ? nullptr : &*found;
}

bool is_link_local(const EndpointText& endpoint) {
  return endpoint.numeric && endpoint.host.find('%') != std::string::npos;
}

// "wg2 via wg1 via wg0"
std::string chain_text(const std::vector<const Tunnel*>& chain) {
  std::string text;
  for (const Tunnel* tunnel : chain) {
    text += (text.empty() ? "" : " via ") + tunnel->name;
  }
  return text;
}

// What its datagrams may have, headers included; 0 where nothing says.
uint32_t carried(const Config& config, const Tunnel& tunnel) {
  const Tunnel* below = tunnel.via.empty() ? nullptr : find(config, tunnel.via);
  return below == nullptr ? tunnel.path_mtu : mtu_of(config, *below);
}

void check_keys_beside_via(const Tunnel& tunnel, const std::string& key, Known& known) {
  if (!tunnel.underlay.empty()) {
    known.error(tunnel.where, key + ".via",
                "underlay is an interface of the host's, and via a tunnel of ours: datagrams leave "
                "by one of them");
  }
  if (tunnel.path_mtu != 0) {
    known.error(tunnel.where, key + ".path_mtu",
                "is the MTU of tunnel " + quoted(tunnel.via) + ", which datagrams go through");
  }
  if (tunnel.fwmark.value_or(0) != 0) {
    known.error(tunnel.where, key + ".fwmark",
                "is for the host, which does not see datagrams that go through tunnel " +
                    quoted(tunnel.via));
  }
  for (const Peer& peer : tunnel.peers) {
    if (peer.endpoint && is_link_local(*peer.endpoint)) {
      known.error(
          peer.where, peer_key(tunnel, peer) + ".endpoint",
          "has the scope of an interface, and datagrams go through tunnel " + quoted(tunnel.via));
    }
  }
}

// True when the chain ends.
bool check_chain(const Config& config, const Tunnel& tunnel, const std::string& key, Known& known) {
  const auto chain = chain_of(config, tunnel);
  const std::string& last = chain.back()->via;
  if (last == tunnel.name) {
    known.error(tunnel.where, key + ".via",
                "the tunnel would be within itself: " + chain_text(chain) + " via " + tunnel.name);
    return false;
  }
  if (std::ranges::find(chain, last, &Tunnel::name) != chain.end()) {
    return false;  // told at those that it goes around
  }
  if (chain.size() > kNestingMax) {
    known.error(
        tunnel.where, key + ".via",
        chain_text(chain) + ": tunnels nest at most " + std::to_string(kNestingMax) + " deep");
    return false;
  }
  return true;
}

void check_fits(const Config& config, const Tunnel& tunnel, const std::string& key, Known& known) {
  const uint32_t room = carried(config, tunnel);
  if (room == 0) {
    return;
  }
  const uint32_t over = overhead_of(tunnel);
  const uint32_t left = room > over ? room - over : 0;
  const std::string below =
      tunnel.via.empty() ? "path_mtu is " : "tunnel " + quoted(tunnel.via) + " carries ";
  const std::string sum =
      below + std::to_string(room) + ", and " + std::to_string(over) + " of that are headers";
  if (tunnel.mtu > left) {
    known.error(
        tunnel.where, key + ".mtu",
        std::to_string(tunnel.mtu) + " does not fit: " + sum + "; at most " + std::to_string(left));
  }
  const bool v6 = std::ranges::any_of(tunnel.addresses, [](const IpPrefix& address) {
    return address.address.family == Family::v6;
  });
  if (left < (v6 ? kIp6Mtu : kIp4Mtu)) {
    known.error(tunnel.where, key + (tunnel.via.empty() ? ".path_mtu" : ".via"),
                sum + ": what is left, " + std::to_string(left) + ", is less than the " +
                    std::to_string(v6 ? kIp6Mtu : kIp4Mtu) + " that " + (v6 ? "IPv6" : "IPv4") +
                    " needs");
  }
}

void check_peers_path_mtu(const Config& config, const Tunnel& tunnel, Known& known) {
  const Tunnel* below = tunnel.via.empty() ? nullptr : find(config, tunnel.via);
  for (const Peer& peer : tunnel.peers) {
    const uint32_t room = below == nullptr ? 0 : mtu_of(config, *below);
    if (room != 0 && peer.path_mtu > room) {
      known.error(
          peer.where, peer_key(tunnel, peer) + ".path_mtu",
          "is more than tunnel " + quoted(tunnel.via) + " carries, " + std::to_string(room));
    }
  }
}

}  // namespace

uint32_t overhead_of(const Tunnel& tunnel) {
  const bool v4 = std::ranges::all_of(tunnel.peers, [](const Peer& peer) {
    return peer.endpoint && peer.endpoint->numeric &&
           peer.endpoint->host.find(':') == std::string::npos;
  });
  return v4 && !tunnel.peers.empty() ? kOverV4 : kOverV6;
}

std::vector<const Tunnel*> chain_of(const Config& config, const Tunnel& tunnel) {
  std::vector<const Tunnel*> chain = {&tunnel};
  while (!chain.back()->via.empty()) {
    const Tunnel* next = find(config, chain.back()->via);
    if (next == nullptr || std::ranges::find(chain, next) != chain.end()) {
      break;
    }
    chain.push_back(next);
  }
  return chain;
}

uint32_t mtu_of(const Config& config, const Tunnel& tunnel) {
  const auto chain = chain_of(config, tunnel);
  uint32_t mtu = 0;  // of the one below
  for (auto each = chain.rbegin(); each != chain.rend(); ++each) {
    const uint32_t room = mtu != 0 ? mtu : (*each)->path_mtu;
    const uint32_t over = overhead_of(**each);
    mtu = (*each)->mtu != 0 ? (*each)->mtu
          : room == 0       ? kDefaultMtu
          : room > over     ? room - over
                            : 1;
  }
  return mtu;
}

void check_nesting(const Config& config, Known& known) {
  for (const Tunnel& tunnel : config.tunnels) {
    const std::string key = dotted("tunnel", tunnel.name);
    if (!tunnel.via.empty()) {
      known.tunnel(tunnel.where, key + ".via", tunnel.via);
      check_keys_beside_via(tunnel, key, known);
    }
    if (check_chain(config, tunnel, key, known)) {
      check_fits(config, tunnel, key, known);
      check_peers_path_mtu(config, tunnel, known);
    }
  }
}

}  // namespace sallyport::config
