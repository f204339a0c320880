// The conditions of rules, NAT and filters: names that refer to nothing, and what no packet can meet.
#include <algorithm>

#include "control/config_known.h"
#include "control/config_text.h"

namespace sallyport::config {
namespace {

constexpr uint8_t kTcp = 6, kUdp = 17, kSctp = 132, kDccp = 33, kUdpLite = 136;
constexpr size_t kStates = 4;

bool has_ports(uint8_t protocol) {
  return protocol == kTcp || protocol == kUdp || protocol == kSctp || protocol == kDccp ||
         protocol == kUdpLite;
}

// Which families a condition can be true for: of literal prefixes alone. 1 is IPv4, 2 is IPv6.
unsigned families_of(const Addresses& addresses) {
  unsigned families = 0;
  for (const IpPrefix& prefix : addresses.prefixes) {
    families |= prefix.address.family == Family::v4 ? 1u : 2u;
  }
  return addresses.negated || !addresses.sets.empty() || families == 0 ? 3 : families;
}

unsigned family_bits(Family family) {
  return family == Family::none ? 3 : family == Family::v4 ? 1 : 2;
}

void check_names(const Match& match, const Where& where, const std::string& key, Known& known) {
  for (const std::string& set : match.from.sets) {
    known.set(where, key + ".from", set);
  }
  for (const std::string& set : match.to.sets) {
    known.set(where, key + ".to", set);
  }
  for (const std::string& name : match.iif.values) {
    known.interface(where, key + ".iif", "input interface", name);
  }
  for (const std::string& name : match.oif.values) {
    known.interface(where, key + ".oif", "output interface", name);
  }
  for (const std::string& name : match.exit.values) {
    if (name == "drop") {
      known.error(where, key + ".exit", "what takes 'drop' is gone before it comes here");
    } else {
      known.exit(where, key + ".exit", name);
    }
  }
  for (const std::string& name : match.peer.values) {
    known.peer(where, key + ".peer", name);
  }
}

// What no packet can meet, as far as that shows in one of them.
void check_can_match(const Match& match, const Where& where, const std::string& key, Known& known) {
  const unsigned family = family_bits(match.family);
  if ((family & families_of(match.from)) == 0 || (family & families_of(match.to)) == 0) {
    known.error(where, key + ".family", "matches nothing: its prefixes are of the other family");
  } else if (families_of(match) == 0) {
    known.error(where, key + ".to", "matches nothing: from and to are of different families");
  }
  const bool asks_ports = !match.sport.ranges.empty() || !match.dport.ranges.empty();
  if (asks_ports && !match.protocols.empty() && !match.protocols_negated &&
      std::ranges::none_of(match.protocols, has_ports)) {
    known.error(where, key + (match.dport.ranges.empty() ? ".sport" : ".dport"),
                "matches nothing: the protocols of ipproto have no ports");
  }
  std::vector<FlowState> states = match.states;
  std::ranges::sort(states);
  const auto again = std::ranges::unique(states);
  states.erase(again.begin(), again.end());
  if (match.states_negated && states.size() == kStates) {
    known.error(where, key + ".state", "matches nothing: a packet is in one of the four states");
  }
}

}  // namespace

unsigned families_of(const Match& match) {
  return family_bits(match.family) & families_of(match.from) & families_of(match.to);
}

void check_match(const Match& match, const Where& where, const std::string& key, Known& known) {
  check_names(match, where, key, known);
  check_can_match(match, where, key, known);
}

bool asks_for_ports(const Match& match) {
  return !match.sport.ranges.empty() || !match.dport.ranges.empty() ||
         (!match.protocols.empty() && !match.protocols_negated &&
          std::ranges::all_of(match.protocols, has_ports));
}

}  // namespace sallyport::config
