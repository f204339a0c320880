#include "control/config_known.h"

#include <algorithm>

#include "control/config_section.h"
#include "control/config_text.h"

namespace sallyport::config {

Known::Known(const Config& config, std::vector<Problem>& errors)
    : config_(config),
      errors_(errors),
      tunnels_(config.tunnels),
      sets_(config.sets),
      exits_(config.exits),
      tables_(config.tables) {
  for (const std::string_view name : {"host", "drop"}) {
    exits_.add(name);
  }
}

void Known::error(const Where& where, std::string key, std::string text) {
  add_problem(errors_, {where, std::move(key), std::move(text)});
}

void Known::set(const Where& where, const std::string& key, std::string_view name) {
  if (!sets_.has(name)) {
    error(where, key, not_known("set", name, sets_.list()));
  }
}

void Known::exit(const Where& where, const std::string& key, std::string_view name) {
  if (!exits_.has(name)) {
    error(where, key, not_known("exit", name, exits_.list()));
  }
}

void Known::tunnel(const Where& where, const std::string& key, std::string_view name) {
  if (!tunnels_.has(name)) {
    error(where, key, not_known("tunnel", name, tunnels_.list()));
  }
}

void Known::interface(const Where& where, const std::string& key, const char* what,
                      std::string_view name) {
  constexpr std::string_view kHost = "host", kHostOf = "host:";
  const bool of_host = name.starts_with(kHostOf);
  const std::string_view tunnel = name.substr(of_host ? kHostOf.size() : 0);
  if (name == kHost || tunnels_.has(tunnel)) {
    return;
  }
  auto known = tunnels_.list();
  if (!of_host) {
    known.push_back(kHost);
  }
  error(where, key, not_known(what, tunnel, known));
}

void Known::peer(const Where& where, const std::string& key, std::string_view name) {
  const auto places = find_peers(config_, name);
  if (places.size() == 1) {
    return;
  }
  if (!places.empty()) {
    const auto full = [&](const PeerPlace& place) {
      const Tunnel& tunnel = config_.tunnels[place.tunnel];
      return quoted(tunnel.name + "/" + tunnel.peers[place.peer].name);
    };
    error(where, key,
          quoted(name) + " is more than one peer: " + full(places.front()) + ", " +
              full(places.back()) + (places.size() > 2 ? ", ..." : "") + "; name its tunnel too");
    return;
  }
  std::vector<std::string> full;
  for (const Tunnel& tunnel : config_.tunnels) {
    for (const Peer& peer : tunnel.peers) {
      full.push_back(tunnel.name + "/" + peer.name);
    }
  }
  const std::vector<std::string_view> known(full.begin(), full.end());
  // A slip may be in either form.
  std::vector<std::string_view> either = known;
  for (const Tunnel& tunnel : config_.tunnels) {
    for (const Peer& peer : tunnel.peers) {
      either.push_back(peer.name);
    }
  }
  const std::string near = nearest(name, either);
  error(where, key,
        near.empty() ? not_known("peer", name, known)
                     : "there is no peer " + quoted(name) + ": did you mean '" + near + "'?");
}

std::string peer_key(const Tunnel& tunnel, const Peer& peer) {
  const auto before = std::ranges::count_if(tunnel.peers, [&](const Peer& other) {
    return other.where.file == peer.where.file && other.where.line < peer.where.line;
  });
  return indexed(dotted("tunnel", tunnel.name) + ".peer", static_cast<size_t>(before));
}

}  // namespace sallyport::config
