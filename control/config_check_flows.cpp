// [[nat]] and [[filter]]: what cannot be done, or would never happen.
#include <algorithm>

#include "control/build.h"
#include "control/config_known.h"
#include "control/config_text.h"
#include "control/config_words.h"
#include "control/limits.h"

namespace sallyport::config {
namespace {

const char* family_name(unsigned bits) {
  return bits == 1 ? "IPv4" : "IPv6";
}

unsigned families_of(const std::vector<AddressRange>& pool) {
  unsigned bits = 0;
  for (const AddressRange& range : pool) {
    bits |= range.first.family == Family::v4 ? 1u : 2u;
  }
  return bits;
}

unsigned families_of(const Tunnel& tunnel) {
  unsigned bits = 0;
  for (const IpPrefix& address : tunnel.addresses) {
    bits |= address.address.family == Family::v4 ? 1u : 2u;
  }
  return bits;
}

class NatChecker {
 public:
  NatChecker(const Config& config, const Nat& nat, std::string key, Known& known)
      : config_(config), nat_(nat), key_(std::move(key)), known_(known) {}

  void check() {
    check_match(nat_.match, nat_.where, key_, known_);
    switch (nat_.action) {
      case Nat::Action::none:
        break;
      case Nat::Action::masquerade:
        masquerade();
        break;
      case Nat::Action::snat:
        pool("snat");
        break;
      case Nat::Action::dnat:
        pool("dnat");
        before_the_way_out();
        port();
        break;
      case Nat::Action::nptv6:
        nptv6();
        break;
    }
  }

 private:
  void error(const char* key, std::string text) {
    known_.error(nat_.where, key_ + "." + key, std::move(text));
  }

  // The address of a tunnel that is named must be there; the host's own address is found when it is needed.
  void masquerade() {
    const unsigned asked = config::families_of(nat_.match);
    for (const Tunnel& tunnel : config_.tunnels) {
      const Names& oif = nat_.match.oif;
      if (oif.negated || std::ranges::find(oif.values, tunnel.name) == oif.values.end()) {
        continue;
      }
      const unsigned there = families_of(tunnel);
      if (asked != 0 && (there & asked) == 0) {
        error("masquerade",
              "tunnel " + quoted(tunnel.name) + " has no " +
                  (there == 0 && asked == 3 ? "" : std::string(family_name(asked)) + " ") +
                  "address that the source could become: give it one, or use snat");
      }
    }
  }

  void pool(const char* key) {
    const unsigned its = families_of(nat_.pool);
    const unsigned asked = config::families_of(nat_.match);
    if (nat_.pool.size() > kNatRangesMax) {
      error(key, "has " + std::to_string(nat_.pool.size()) + " addresses and ranges, and at most " +
                     std::to_string(kNatRangesMax) + " are possible");
    } else if (its == 3) {
      error(key, "has addresses of both families; one entry translates one, so write two");
    } else if (its != 0 && asked != 0 && (its & asked) == 0) {
      error(key, std::string("is ") + family_name(its) + ", and what matches is " +
                     family_name(asked) + ": one family does not become the other");
    }
  }

  void before_the_way_out() {
    for (const auto& [key, names] :
         {std::pair("oif", &nat_.match.oif), std::pair("exit", &nat_.match.exit)}) {
      if (!names->values.empty()) {
        error(key,
              "dnat comes before the rules, and where the packet leaves is not known yet: "
              "match iif, peer, from, to or dport");
      }
    }
  }

  void port() {
    if (!nat_.port) {
      return;
    }
    const size_t size = static_cast<size_t>(nat_.port->second) - nat_.port->first + 1;
    const Ports& dport = nat_.match.dport;
    if (!asks_for_ports(nat_.match)) {
      error("port", "what matches may have no ports: add dport, or ipproto = \"tcp\"");
    } else if (size > 1 && (dport.ranges.size() != 1 || dport.negated)) {
      error("port", "a range of ports needs one range in dport, of the same size, to map from");
    } else if (size > 1) {
      const PortRange& from = dport.ranges.front();
      const size_t from_size = static_cast<size_t>(from.second) - from.first + 1;
      if (from_size != size) {
        error("port", "has " + std::to_string(size) + " ports, and dport has " +
                          std::to_string(from_size) +
                          ": as many, which are mapped one to one, or a single one for all");
      }
    }
  }

  // Prefixes are translated both ways and without flows: what only one direction shows cannot be asked.
  void nptv6() {
    Match others = nat_.match;
    others.oif = {};
    if (match_text(others) != match_text({})) {
      known_.error(
          nat_.where, key_ + ".nptv6",
          "translates both ways by the prefixes alone, and takes no condition but oif, the "
          "outside");
    }
  }

  const Config& config_;
  const Nat& nat_;
  std::string key_;
  Known& known_;
};

template <class Things>
void bounded(const Things& things, size_t max, const std::string& key, Known& known) {
  if (things.size() > max) {
    known.error(things[max].where, key,
                "there are " + std::to_string(things.size()) + ", and at most " +
                    std::to_string(max) +
                    " are possible; addresses that share an answer are one with a set");
  }
}

}  // namespace

void check_nats(const Config& config, Known& known) {
  bounded(config.nats, kNatEntriesMax, "nat", known);
  for (size_t i = 0; i < config.nats.size(); ++i) {
    NatChecker(config, config.nats[i], indexed("nat", i), known).check();
  }
}

void check_filters(const Config& config, Known& known) {
  bounded(config.filters, kFilterEntriesMax, "filter", known);
  for (size_t i = 0; i < config.filters.size(); ++i) {
    const Filter& filter = config.filters[i];
    check_match(filter.match, filter.where, indexed("filter", i), known);
  }
}

void check_room_for_claims(const Config& config, Known& known) {
  if (!keeps_flows(config) || !config.host.manage) {
    return;
  }
  constexpr uint64_t kFirstOfHost = 253, kLastOfHost = 255;  // default, main, local
  const uint64_t first = uint64_t{config.host.table} + 1;
  const uint64_t last = uint64_t{config.host.table} + config.tunnels.size();
  if ((first <= kLastOfHost && last >= kFirstOfHost) || last > UINT32_MAX) {
    known.error(config.host.where, "host.table",
                "the tables behind it, one a tunnel, are for NAT, and " + std::to_string(first) +
                    " to " + std::to_string(last) +
                    (last > UINT32_MAX ? " are not there" : " are in part the host's own") +
                    ": choose a smaller one");
  }
  if (config.host.rule_priority < 3) {
    known.error(config.host.where, "host.rule_priority",
                "NAT needs two priorities before it, and 0 is the local table's: at least 3");
  }
}

}  // namespace sallyport::config
