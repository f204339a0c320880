#include "control/loop_check.h"

#include <algorithm>
#include <map>
#include <utility>

#include "control/build.h"
#include "control/config_section.h"
#include "control/config_text.h"
#include "control/config_words.h"

namespace sallyport {
namespace {

constexpr size_t kNone = SIZE_MAX;

// One datagram that may be sent, and what becomes of it, once that has been asked.
struct Datagram {
  size_t tunnel = 0;
  size_t peer = kNone;  // kNone: asked about by its address alone
  IpAddress to;
  uint16_t port = 0;
  std::string scope;

  bool followed = false;
  size_t into = kNone;  // the tunnel that it goes through, or that the host sends it into
  bool via = false;     // the former: the host does not see it
  std::string by;       // "capture 192.0.2.0/24"
  std::vector<PeerOutcome> outcomes;
  bool told = false;  // in a loop that has been reported

  // Of the search.
  size_t round = 0;  // that came by last
  size_t before = kNone, outcome = 0;
};

std::string mark_text(uint32_t mark) {
  return mark == 0 ? "no mark" : "mark " + config::hex_text(mark);
}

std::string place_text(const IpAddress& address, uint16_t port) {
  Endpoint endpoint;
  endpoint.remote = address;
  endpoint.port = port;
  return to_text(endpoint);
}

bool is_loopback(const IpAddress& address) {
  static const IpAddress v6 = *parse_address("::1");
  return address == v6 || (address.family == Family::v4 && address.bytes[0] == 127);
}

bool is_link_local(const IpAddress& address) {
  return address.family == Family::v6 && address.bytes[0] == 0xfe &&
         (address.bytes[1] & 0xc0) == 0x80;
}

// All datagrams of a configuration, and one more to ask about.
class Search {
 public:
  Search(const config::Config& config, const SetEntries& entries, const NameAddresses& known,
         std::optional<Datagram> asked, uint64_t effort)
      : config_(config),
        effort_(effort),
        datagrams_(list(config, known, std::move(asked))),
        destinations_(config, entries, effort_, addresses_of(datagrams_)),
        policy_(config, entries, destinations_, effort_) {
    for (size_t i = 0; i < datagrams_.size(); ++i) {
      by_peer_[{datagrams_[i].tunnel, datagrams_[i].peer}].push_back(i);
    }
    for (const config::Tunnel& tunnel : config.tunnels) {
      for (const IpPrefix& address : tunnel.addresses) {
        own_.push_back(address.address);
      }
    }
  }

  void check_all(std::vector<config::Problem>& errors);
  void check_reach(std::vector<config::Problem>& errors);
  std::optional<std::string> loop_from(size_t start);
  size_t last() const { return datagrams_.size() - 1; }

 private:
  static std::vector<Datagram> list(const config::Config& config, const NameAddresses& known,
                                    std::optional<Datagram> asked);
  static std::vector<IpAddress> addresses_of(const std::vector<Datagram>& datagrams);
  void follow(Datagram& datagram);
  void ask_host(Datagram& datagram);
  void ask_captures(Datagram& datagram);
  std::string words(size_t last, size_t outcome);
  std::string hop_text(const Datagram& datagram, bool first) const;
  std::string way_text(const Datagram& datagram) const;
  std::string advice(const Datagram& datagram) const;
  std::string peer_text(size_t tunnel, size_t peer) const {
    const config::Tunnel& of = config_.tunnels[tunnel];
    return of.name + "/" + of.peers[peer].name;
  }

  const config::Config& config_;
  Effort effort_;
  std::vector<Datagram> datagrams_;
  Destinations destinations_;
  PolicyOutcomes policy_;
  std::map<std::pair<size_t, size_t>, std::vector<size_t>> by_peer_;
  std::vector<IpAddress> own_;
  size_t rounds_ = 0;
};

std::vector<Datagram> Search::list(const config::Config& config, const NameAddresses& known,
                                   std::optional<Datagram> asked) {
  std::vector<Datagram> out;
  for (size_t tunnel = 0; tunnel < config.tunnels.size(); ++tunnel) {
    const std::vector<config::Peer>& peers = config.tunnels[tunnel].peers;
    for (size_t peer = 0; peer < peers.size(); ++peer) {
      const std::optional<config::EndpointText>& endpoint = peers[peer].endpoint;
      if (!endpoint) {
        continue;
      }
      Datagram datagram;
      datagram.tunnel = tunnel;
      datagram.peer = peer;
      datagram.port = endpoint->port;
      const size_t percent = endpoint->numeric ? endpoint->host.find('%') : std::string::npos;
      if (percent != std::string::npos) {
        datagram.scope = endpoint->host.substr(percent + 1);
      }
      std::vector<IpAddress> addresses;
      if (!endpoint->numeric) {
        addresses = known ? known(endpoint->host) : addresses;
      } else if (const auto address = parse_address(endpoint->host.substr(0, percent))) {
        addresses.push_back(*address);
      }
      for (const IpAddress& address : addresses) {
        datagram.to = address;
        out.push_back(datagram);
      }
    }
  }
  if (asked) {
    out.push_back(*asked);
  }
  return out;
}

std::vector<IpAddress> Search::addresses_of(const std::vector<Datagram>& datagrams) {
  std::vector<IpAddress> out;
  for (const Datagram& datagram : datagrams) {
    out.push_back(datagram.to);
  }
  return out;
}

// -- What the host does with a datagram

void Search::ask_host(Datagram& datagram) {
  const config::Tunnel& tunnel = config_.tunnels[datagram.tunnel];
  if (!tunnel.via.empty()) {
    const auto below = std::ranges::find(config_.tunnels, tunnel.via, &config::Tunnel::name);
    datagram.into = static_cast<size_t>(below - config_.tunnels.begin());
    datagram.via = true;
    return;
  }
  const bool scoped = !datagram.scope.empty() && is_link_local(datagram.to);
  const std::string& device = tunnel.underlay.empty() && scoped ? datagram.scope : tunnel.underlay;
  if (!device.empty()) {
    const auto ours = std::ranges::find(config_.tunnels, device, &config::Tunnel::name);
    if (ours != config_.tunnels.end()) {
      datagram.into = static_cast<size_t>(ours - config_.tunnels.begin());
      datagram.by = tunnel.underlay.empty() ? "the endpoint's scope" : "underlay of " + tunnel.name;
    }
    return;
  }
  const uint32_t mark = outer_mark(config_, tunnel);
  const config::Host& host = config_.host;
  const bool selected = host.to_mark ? mark == *host.to_mark : mark != host.from_mark;
  if (host.manage && selected && !is_loopback(datagram.to) &&
      std::ranges::find(own_, datagram.to) == own_.end()) {
    ask_captures(datagram);
  }
}

// The longest prefix of all captures decides; a hole before a prefix of its length, the tunnels in the file's order.
void Search::ask_captures(Datagram& datagram) {
  int longest = -1;
  const auto consider = [&](size_t tunnel, int length, bool hole, const std::string& from) {
    if (length > longest || (length == longest && hole)) {
      longest = length;
      datagram.into = hole ? kNone : tunnel;
      const auto prefix = parse_prefix(to_text(datagram.to) + "/" + std::to_string(length));
      datagram.by = "capture " + (prefix ? to_text(*prefix) : "") + from;
    }
  };
  const auto consider_all = [&](size_t tunnel, const std::vector<IpPrefix>& prefixes, bool hole) {
    effort_.spend(prefixes.size());
    for (const IpPrefix& prefix : prefixes) {
      const Ranges::Range range = range_of(prefix);
      const WideNumber number = wide(datagram.to);
      if (prefix.address.family == datagram.to.family && range.first <= number &&
          number <= range.last) {
        consider(tunnel, prefix.length, hole, "");
      }
    }
  };
  for (size_t i = 0; i < config_.tunnels.size(); ++i) {
    const config::Capture& capture = config_.tunnels[i].capture;
    consider_all(i, capture.prefixes, false);
    if (capture.allowed_ips) {
      const Destinations::AllowedIp& allowed = destinations_.owners(i, datagram.to);
      if (allowed.length >= 0) {
        consider(i, allowed.length, false, " of the allowed-ips");
      }
    }
    for (const std::string& set : capture.sets) {
      const Destinations::Longest match = destinations_.in_set(set, datagram.to);
      if (match.length >= 0) {
        consider(i, match.length, match.hole, " of @" + set);
      }
    }
  }
  for (size_t i = 0; i < config_.tunnels.size(); ++i) {
    if (config_.tunnels[i].capture.any()) {
      consider_all(i, config_.tunnels[i].capture.holes, true);
    }
  }
}

void Search::follow(Datagram& datagram) {
  if (datagram.followed) {
    return;
  }
  datagram.followed = true;
  ask_host(datagram);
  if (datagram.into != kNone) {
    datagram.outcomes = policy_.of(
        {datagram.into, datagram.to, datagram.port, config_.tunnels[datagram.tunnel].listen_port});
  }
}

// -- The search

// Breadth first: the loop that is told is a shortest one.
std::optional<std::string> Search::loop_from(size_t start) {
  ++rounds_;
  datagrams_[start].round = rounds_;
  datagrams_[start].before = kNone;
  std::vector<size_t> queue = {start};
  for (size_t next = 0; next < queue.size() && effort_.spend(1); ++next) {
    Datagram& here = datagrams_[queue[next]];
    follow(here);
    for (size_t i = 0; i < here.outcomes.size(); ++i) {
      const PeerOutcome& outcome = here.outcomes[i];
      if (outcome.tunnel == datagrams_[start].tunnel) {
        return words(queue[next], i);
      }
      for (const size_t further : by_peer_[{outcome.tunnel, outcome.peer}]) {
        Datagram& there = datagrams_[further];
        if (there.round != rounds_) {
          there.round = rounds_;
          there.before = queue[next];
          there.outcome = i;
          queue.push_back(further);
        }
      }
    }
  }
  return effort_.spent()
             ? std::optional<std::string>(
                   "the rules tell too many packets apart to prove that what the tunnel seals does "
                   "not come back to it; leave out fwmark, so that its datagrams carry "
                   "host.from_mark and are not captured at all")
             : std::nullopt;
}

// What a tunnel sends through another must be able to reach a peer there.
void Search::check_reach(std::vector<config::Problem>& errors) {
  for (Datagram& datagram : datagrams_) {
    const config::Tunnel& tunnel = config_.tunnels[datagram.tunnel];
    if (tunnel.via.empty() || effort_.spent()) {
      continue;
    }
    follow(datagram);
    if (!effort_.spent() && std::ranges::find(datagram.outcomes, datagram.into,
                                              &PeerOutcome::tunnel) == datagram.outcomes.end()) {
      config::add_problem(
          errors,
          {tunnel.peers[datagram.peer].where, config::dotted("tunnel", tunnel.name) + ".via",
           "nothing that " + tunnel.name + " sends to " + tunnel.peers[datagram.peer].name +
               " at " + place_text(datagram.to, datagram.port) + " can leave by " + tunnel.via +
               ": neither a rule nor the allowed-ips there take it to one of its peers"});
    }
  }
}

void Search::check_all(std::vector<config::Problem>& errors) {
  check_reach(errors);
  for (size_t i = 0; i < datagrams_.size(); ++i) {
    const Datagram& datagram = datagrams_[i];
    if (datagram.told) {
      continue;
    }
    if (auto loop = loop_from(i)) {
      const config::Tunnel& tunnel = config_.tunnels[datagram.tunnel];
      config::add_problem(errors, {tunnel.peers[datagram.peer].where,
                                   config::dotted("tunnel", tunnel.name), std::move(*loop)});
      if (effort_.spent()) {
        return;
      }
    }
  }
}

// -- Words

std::string Search::way_text(const Datagram& datagram) const {
  const std::string& into = config_.tunnels[datagram.into].name;
  return datagram.via ? "that is a packet in " + into + " (via)"
                      : "the host routes that into " + into + " (" + datagram.by + ")";
}

std::string Search::hop_text(const Datagram& datagram, bool first) const {
  const config::Tunnel& tunnel = config_.tunnels[datagram.tunnel];
  const std::string to = place_text(datagram.to, datagram.port) +
                         (datagram.via ? "" : " (" + mark_text(outer_mark(config_, tunnel)) + ")");
  if (!first) {
    return tunnel.name + " seals that again and sends it to " + to;
  }
  return datagram.peer == kNone
             ? tunnel.name + " sends to " + to
             : tunnel.name + " sends to " + tunnel.peers[datagram.peer].name + " at " + to;
}

std::string Search::words(size_t last, size_t outcome) {
  std::vector<std::pair<size_t, size_t>> hops = {{last, outcome}};
  while (datagrams_[hops.back().first].before != kNone) {
    const Datagram& datagram = datagrams_[hops.back().first];
    hops.emplace_back(datagram.before, datagram.outcome);
  }
  std::ranges::reverse(hops);
  std::string text = "a loop: ";
  for (size_t i = 0; i < hops.size(); ++i) {
    Datagram& datagram = datagrams_[hops[i].first];
    datagram.told = true;
    const PeerOutcome& to = datagram.outcomes[hops[i].second];
    text += hop_text(datagram, i == 0) + "; " + way_text(datagram) + "; " + to.why +
            ": it goes to " + peer_text(to.tunnel, to.peer) + "; ";
  }
  const Datagram& start = datagrams_[hops.front().first];
  return text + config_.tunnels[start.tunnel].name + " seals again what it has sealed. " +
         advice(start);
}

// The first hop can always be broken, since that tunnel is the one that must not see it again.
std::string Search::advice(const Datagram& start) const {
  const config::Tunnel& tunnel = config_.tunnels[start.tunnel];
  const config::Host& host = config_.host;
  const std::string exclude = "exclude the endpoint: tunnel." + config_.tunnels[start.into].name +
                              ".capture = [..., \"!" + to_text(start.to) + "\"]";
  if (start.via) {
    return "Let a rule take what iif = \"host:" + tunnel.via + "\" brings to " + to_text(start.to) +
           " to a peer of " + tunnel.via + ", before those that take it elsewhere";
  }
  if (!tunnel.underlay.empty()) {
    return "Name an underlay that is no tunnel on its own way, or leave it out";
  }
  if (!start.scope.empty() && is_link_local(start.to)) {
    return "Give the endpoint the scope of another interface";
  }
  if (host.to_mark) {
    return "Give the tunnel another fwmark than host.to_mark (" + config::hex_text(*host.to_mark) +
           "), or " + exclude;
  }
  return "Leave out fwmark, so that its datagrams carry host.from_mark (" +
         config::hex_text(host.from_mark) + "), or " + exclude;
}

}  // namespace

void check_loops(const config::Config& config, const SetEntries& entries,
                 std::vector<config::Problem>& errors, uint64_t effort) {
  Search(config, entries, {}, std::nullopt, effort).check_all(errors);
}

std::optional<std::string> loop_of(const config::Config& config, const SetEntries& entries,
                                   const std::string& tunnel, const IpAddress& address,
                                   uint16_t port, const NameAddresses& known) {
  const auto found = std::ranges::find(config.tunnels, tunnel, &config::Tunnel::name);
  if (found == config.tunnels.end()) {
    return std::nullopt;
  }
  Datagram asked;
  asked.tunnel = static_cast<size_t>(found - config.tunnels.begin());
  asked.to = address;
  asked.port = port;
  Search search(config, entries, known, asked, kLoopEffortMax);
  return search.loop_from(search.last());
}

}  // namespace sallyport
