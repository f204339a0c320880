// ConfigWords: parts of a Config as one line of `ip rule`'s and `ip route`'s words.
//
// What `show rules`, `explain` and `diff` print, so that a thing is called the same wherever it is met:
//
//     from 10.0.0.0/8,@lan iif wg0 ipproto udp dport 53,5353 fwmark 0x1/0xff set_mark 0x10/0xf0 lookup main
//     ipproto tcp dport 80 iif host dnat 10.0.18.2 port 8080
//     198.51.100.0/24 exit frankfurt
//     weighted frankfurt 3, paris 1; closed when down; sticky 300s
//
// Every condition that a rule has is there, in ip-rule(8)'s order; '!' stands before each member of a list that is
// negated. Lists longer than kWordsListMax are cut and counted. No secrets: keys are described by KeySource's kind alone.
// Thread rules: pure functions.
#pragma once

#include <string>

#include "control/config.h"

namespace sallyport::config {

inline constexpr size_t kWordsListMax = 8;

// "from all" when it asks nothing.
std::string match_text(const Match& match, size_t list_max = kWordsListMax);
std::string rule_match_text(const Rule& rule);
std::string rule_action_text(const Rule& rule);  // "set_mark 0x1 exit b"
std::string rule_text(const Rule& rule);         // both

// "snat 192.0.2.1-192.0.2.9 ports 1024-65535"
std::string nat_action_text(const Nat& nat, size_t list_max = kWordsListMax);
std::string nat_text(const Nat& nat);  // with what it matches
std::string filter_action_text(const Filter& filter);
std::string filter_text(const Filter& filter);
std::string state_text(FlowState state);  // nft's: "new", "established"
std::string reverse_path_text(Flows::ReversePath how);
std::string mss_text(const Tunnel& tunnel);  // "clamp", "off", "1360"
std::string address_range_text(const AddressRange& range);

std::string route_to_text(const Route& route);  // "198.51.100.0/24", "@lan", "default"
std::string route_text(const Route& route);     // with its exit

std::string exit_text(const Exit& exit);
std::string probe_text(const Probe& probe);  // "ping 9.9.9.9 every 1s (timeout 1s, up 2, down 3)"

std::string endpoint_text(const EndpointText& endpoint);
std::string lan_text(const Peer& peer);

// "default" for 0.0.0.0/0 and ::/0 together, else a list.
std::string prefixes_text(const std::vector<IpPrefix>& prefixes);

std::string hex_text(uint32_t value);
std::string duration_text(uint64_t milliseconds);  // "1500ms", "2s", "5m"

}  // namespace sallyport::config
