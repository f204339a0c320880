// Known: the names that a configuration has, and complaints about others.
//
// What the parts of check() share: config_check.cpp goes through what is declared and through the rules, config_check_match.cpp
// through the conditions of rules, NAT and filters, config_check_flows.cpp through the latter two, config_nesting.cpp through
// the tunnels within tunnels.
// Thread rules: values, and a configuration and a list of problems that outlive them.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "control/config.h"

namespace sallyport::config {

// The names of one kind of thing, as they stand in the file.
class NameList {
 public:
  template <class Things>
  explicit NameList(const Things& things) {
    for (const auto& thing : things) {
      add(thing.name);
    }
  }
  void add(std::string_view name) {
    list_.push_back(name);
    known_.insert(name);
  }
  bool has(std::string_view name) const { return known_.contains(name); }
  const std::vector<std::string_view>& list() const { return list_; }

 private:
  std::vector<std::string_view> list_;
  std::unordered_set<std::string_view> known_;
};

class Known {
 public:
  Known(const Config& config, std::vector<Problem>& errors);

  void error(const Where& where, std::string key, std::string text);

  // Each complains when there is no such thing.
  void set(const Where& where, const std::string& key, std::string_view name);
  void exit(const Where& where, const std::string& key, std::string_view name);
  void tunnel(const Where& where, const std::string& key, std::string_view name);
  void peer(const Where& where, const std::string& key, std::string_view name);
  // A tunnel, "host" or "host:TUNNEL"; `what` is said of others.
  void interface(const Where& where, const std::string& key, const char* what,
                 std::string_view name);

  const NameList& tunnels() const { return tunnels_; }
  const NameList& sets() const { return sets_; }
  const NameList& tables() const { return tables_; }

 private:
  const Config& config_;
  std::vector<Problem>& errors_;
  NameList tunnels_, sets_, exits_, tables_;
};

// "tunnel.wg0.peer[2]": a peer's number is counted among those of its file.
std::string peer_key(const Tunnel& tunnel, const Peer& peer);

// Names in conditions that refer to nothing, and conditions that nothing meets, as far as that shows in one of them.
void check_match(const Match& match, const Where& where, const std::string& key, Known& known);

// Bits: 1 for IPv4, 2 for IPv6, as far as `family` and literal prefixes tell.
unsigned families_of(const Match& match);

// Whatever matches has ports.
bool asks_for_ports(const Match& match);

void check_nats(const Config& config, Known& known);
void check_filters(const Config& config, Known& known);
// The host's tables and priorities that NAT needs beside those that are named.
void check_room_for_claims(const Config& config, Known& known);
void check_nesting(const Config& config, Known& known);

}  // namespace sallyport::config
