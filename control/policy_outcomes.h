// PolicyOutcomes: every peer that the rules may send a datagram to of which only a part is known.
//
// A tunnel's outer datagram that the host routes into a tunnel is known by its destination, its port and UDP; which source
// address the host gives it, which port the kernel chose where the file says any, and its tos (a handshake's, or the ECN bits
// of what is in it) are not. So the rules are walked with all of these at once: each rule splits what is still possible into
// what it matches and what it does not, and both go on (control/ranges.h). Conditions that agree or exclude each other are
// thereby taken as they are: what no single packet can meet is no outcome. Groups: every member that can be its turn, and
// what is done when all are down, where they can be; an exit that nobody watches is never down (control/exit_monitor.h).
//
// This is a second reading of dataplane/path/policy.cpp, resolve.cpp and route.cpp, for control's thread and without packets;
// tests/control/loop_check_test.cpp holds it against those.
// Costs: a pass over the entries of a set or a tunnel's allowed-IPs the first time one is asked, for all destinations at once;
// a walk is linear in the rules, times the ranges of sources that `from` conditions tell apart. Bounded by an Effort.
// Cannot: see a later fragment, which has no ports.
// Thread rules: control's thread. The configuration and the entries outlive it, unchanged.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "control/capture.h"
#include "control/config.h"
#include "control/ranges.h"

namespace sallyport {

// What a proof may cost before it is given up: ranges, entries and rules looked at.
class Effort {
 public:
  explicit Effort(uint64_t steps) : left_(steps) {}
  bool spend(uint64_t steps) {
    left_ -= steps < left_ ? steps : left_;
    return left_ > 0;
  }
  bool spent() const { return left_ == 0; }

 private:
  uint64_t left_;
};

// What sets and allowed-IPs say of addresses that are known beforehand.
class Destinations {
 public:
  Destinations(const config::Config& config, const SetEntries& entries, Effort& effort,
               std::vector<IpAddress> addresses);

  struct Longest {
    int length = -1;  // -1: no entry covers the address
    bool hole = false;
    bool member() const { return length >= 0 && !hole; }
  };
  Longest in_set(const std::string& set, const IpAddress& address);
  // The longest allowed-IP of the tunnel that covers the address, and the peers that hold it: what was added first decides
  // which of several gets a packet that no rule decides about, and reloads change that.
  struct AllowedIp {
    int length = -1;
    std::vector<size_t> peers;
  };
  const AllowedIp& owners(size_t tunnel, const IpAddress& address);

 private:
  size_t place(const IpAddress& address) const;
  template <class Fn>
  void for_each_in(const IpPrefix& prefix, Fn&& fn);

  const config::Config& config_;
  const SetEntries& entries_;
  Effort& effort_;
  std::vector<IpAddress> addresses_;  // sorted
  std::map<std::string, std::vector<Longest>> sets_;
  std::map<size_t, std::vector<AllowedIp>> owners_;
};

// A packet that the host sends into a tunnel.
struct PartlyKnown {
  size_t tunnel = 0;  // that it comes into
  IpAddress destination;
  uint16_t destination_port = 0;
  uint16_t source_port = 0;  // 0: any
};

struct PeerOutcome {
  size_t tunnel = 0, peer = 0;
  std::string why;  // "rule 100 (x.toml:12: from all exit b)"
};

class PolicyOutcomes {
 public:
  PolicyOutcomes(const config::Config& config, const SetEntries& entries,
                 Destinations& destinations, Effort& effort);

  // Each peer once. Incomplete when the effort is spent.
  std::vector<PeerOutcome> of(const PartlyKnown& packet);

 private:
  // Packets that differ in what is not known: any source of these, with any port of these and any tos of these.
  struct Box {
    Ranges sources, ports;
    uint8_t tos = 0;  // a bit each of kOuterTos
  };
  using Boxes = std::vector<Box>;
  struct Walk;

  bool is_always_alive(const std::string& exit, unsigned depth);
  const Ranges& members(const std::string& set, Family family);
  const Ranges& sources_of(size_t rule, Family family);
  bool may_match(const config::Match& match, const PartlyKnown& packet, uint32_t mark);
  bool holds(const config::Addresses& to, const IpAddress& address);
  void split(size_t rule, Family family, const Boxes& boxes, Boxes& matched, Boxes& rest);
  void act(Walk& walk, size_t rule, uint32_t mark, Boxes matched);
  std::optional<std::string> ask_table(const config::Rule& rule, const IpAddress& destination);
  void take_exit(Walk& walk, const std::string& name, const std::string& why, unsigned depth);
  void take_group(Walk& walk, const config::Exit& group, const std::string& why, unsigned depth);
  void take_owners(Walk& walk, size_t tunnel, const std::string& why);

  const config::Config& config_;
  const SetEntries& entries_;
  Destinations& destinations_;
  Effort& effort_;
  std::vector<const config::Rule*> rules_;  // in priority order
  std::unordered_map<std::string, size_t> exits_, tunnels_, tables_;
  std::map<std::pair<std::string, Family>, Ranges> members_;
  std::map<std::pair<size_t, Family>, Ranges> sources_;
  std::map<std::pair<size_t, unsigned>, bool> always_alive_;  // groups, at a depth
};

}  // namespace sallyport
