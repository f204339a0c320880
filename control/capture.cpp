#include "control/capture.h"

#include <algorithm>
#include <tuple>

namespace sallyport {
namespace {

struct Captured {
  HostRoute route;
  uint32_t source;  // the list or set it stands in; those of the file's first tunnel come first
  uint32_t place;   // there
};

// Equal prefixes side by side; within one source the last of them first, since it counts.
bool before(const Captured& a, const Captured& b) {
  const auto key = [](const Captured& each) {
    return std::tuple(each.route.prefix.address.family, each.route.prefix.address.bytes,
                      each.route.prefix.length, each.source, ~each.place);
  };
  return key(a) < key(b);
}

// One route for a prefix: a hole of any source, or else the first source's.
std::vector<HostRoute> without_equals(const std::vector<Captured>& sorted) {
  std::vector<HostRoute> routes;
  for (size_t i = 0; i < sorted.size(); ++i) {
    const Captured& each = sorted[i];
    if (routes.empty() || !(routes.back().prefix == each.route.prefix)) {
      routes.push_back(each.route);
    } else if (each.source != sorted[i - 1].source && each.route.is_throw) {
      routes.back() = each.route;
    }
  }
  return routes;
}

}  // namespace

std::vector<HostRoute> captured_routes(const config::Config& config, const SetEntries& entries,
                                       const std::map<std::string, uint32_t>& links,
                                       const std::vector<IpAddress>& around) {
  std::vector<Captured> all;
  uint32_t source = 0, place = 0;
  for (const IpAddress& address : around) {
    all.push_back({{{address, static_cast<uint8_t>(address.bits())}, 0, true}, source, place++});
  }
  for (const config::Tunnel& tunnel : config.tunnels) {
    const auto link = links.find(tunnel.name);
    if (link == links.end()) {
      continue;
    }
    const auto add = [&](const IpPrefix& prefix, bool hole) {
      all.push_back({{prefix, hole ? 0 : link->second, hole}, source, place++});
    };
    const config::Capture& capture = tunnel.capture;
    ++source;
    for (const IpPrefix& prefix : capture.prefixes) {
      add(prefix, false);
    }
    ++source;
    for (const IpPrefix& prefix : capture.holes) {
      add(prefix, true);
    }
    for (const std::string& set : capture.sets) {
      ++source;
      for (const config::Set::Entry& entry : entries(set)) {
        add(entry.prefix, entry.hole);
      }
    }
    ++source;
    if (capture.allowed_ips) {
      for (const config::Peer& peer : tunnel.peers) {
        for (const IpPrefix& prefix : peer.allowed_ips) {
          add(prefix, false);
        }
      }
    }
  }
  std::sort(all.begin(), all.end(), before);
  return without_equals(all);
}

}  // namespace sallyport
