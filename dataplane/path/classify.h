// classify: what rules, exits and filters look at of a run, taken from its headers once.
#pragma once

#include "dataplane/net/headers.h"
#include "dataplane/path/context.h"
#include "dataplane/table/rule_table.h"

namespace sallyport {

// The number by which rules know where a packet came in: a tunnel (from one of its peers), or its plain port (from the host).
constexpr uint32_t iif_number(TunnelNumber tunnel, bool from_host) {
  return tunnel * 2u + (from_host ? 1 : 0);
}

// Ports are there for TCP, UDP, UDP-Lite, DCCP and SCTP, but not in a later fragment.
RuleKey classify(const Context& context, const Run& run);

// All flags of its segments, as far as its header is there; 0 for what is not TCP.
uint8_t tcp_flags(const Run& run);

inline bool is_icmp(uint8_t protocol) {
  return protocol == kProtocolIcmp || protocol == kProtocolIcmpv6;
}

// Keys that no rule can tell apart.
bool same_key(const RuleKey& a, const RuleKey& b);

// The same for every packet of a flow in one direction; mixed well enough for shares and tables.
uint64_t flow_hash(const RuleKey& key);

// Another hash from a hash: a permutation of 64 bits, each of which depends on all.
uint64_t mix64(uint64_t value);

}  // namespace sallyport
