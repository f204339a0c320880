// nat: makes a flow of the first run of one, with other addresses where a rule says so.
//
// NAT rules are asked once a flow, in the order of the file, and the first that matches counts. Twice: before the rules of policy
// for where it is really going (dnat, none), with the packet as it came; and behind route, when it is known how it leaves,
// for what it is to look like there (masquerade, snat, none), with the packet as dnat left it. Everything after the first
// run follows from the two tuples of the flow (path/track.h). What nptv6 matches is left to path/prefixes.h.
//
// A source keeps its port where it is free towards that destination, and UDP its parity; else one is chosen (port_blocks.h). Two
// flows never share a tuple: exhaustion is a drop with a name. One inner address always gets the same one of a pool
// (RFC 4787, REQ-2), unless the rule is not `paired`: then flows are spread, and go on to the next address where the ports of one
// are taken.
//
// What is masqueraded towards the host gets the address that the host itself sends from (Snapshot::host_v4, host_v6), with ports
// of a range of its own: control has the host bring what comes back for them (control/host_claims.h).
//
// A rule that is endpoint_independent gives one inner end one outer end, whomever it talks to (table/mapping_table.h), and what other
// insiders send to that outer end comes back to it (hairpinning), from their own outer end. Insiders are those whom the rule matches,
// other than what it leaves by: the peer that the mapping's first flow went to, and all of the rule's oif. Who else sends there is
// nobody's reply, and gets nowhere (address and port dependent filtering). One peer, or the host, gets fifteen sixteenths of such a
// rule's ports at most.
//
// Cannot: change ports of SCTP in fragments; keep
// rules without endpoint_independent, which find the ports of mappings taken, from having had a port before a mapping came to it.
// Thread rules: on the thread of the context, an RCU reader.
// Sources: RFC 4787, 5382, 5508; nft(8) for the words.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "dataplane/net/nptv6.h"
#include "dataplane/net/rewrite.h"
#include "dataplane/path/address_pool.h"
#include "dataplane/path/context.h"
#include "dataplane/path/way_out.h"
#include "dataplane/table/port_blocks.h"
#include "dataplane/table/rule_table.h"

namespace sallyport {

struct Policy;

inline constexpr unsigned kFlowOwners = 1024;  // a peer's share of the flows goes by its tag

enum class NatKind : uint8_t { none, masquerade, snat, dnat, nptv6 };

struct NatRule {
  NatKind kind = NatKind::none;
  WayOutCondition way_out;
  std::vector<AddressRange> pool;          // snat, dnat
  uint32_t ports = 0;                      // masquerade, snat: number in Nat::ports
  uint32_t host_ports = 0;                 // the same, of what is handed to the host
  uint16_t port_first = 0, port_last = 0;  // dnat; 0: the port stays
  uint16_t dport_first = 0;                // dnat to several ports: which one is port_first
  bool endpoint_independent = false;  // masquerade, snat: one outer port, whomever one talks to
  bool paired = true;                 // snat: all flows of a source have one address
  std::optional<Nptv6> prefixes;      // nptv6
};

struct Nat {
  std::unique_ptr<RuleTable> table;  // null: no rules
  std::vector<NatRule> rules;
  std::vector<std::vector<std::unique_ptr<PortBlocks>>> ports;  // by worker, then by range
  // Sources that leave to the host: the host's own (masquerade), and those of pools. What the host sends us for them is an
  // answer, or nothing.
  bool as_host = false;
  std::vector<AddressRange> as_others;
  std::vector<uint32_t> prefix_rules;  // those of nptv6: Policy::finish() finds them
};

// The same for all flows of this source: what it talks to sees one address (RFC 4787, REQ-2).
inline uint64_t number_of_source(const FlowTuple& original) {
  return mix64(mix64(original.word(0) + 0x9e3779b97f4a7c15) ^ original.word(8));
}
inline bool has_ports(const FlowTuple& tuple) {
  return tuple.source_port != 0 || tuple.destination_port != 0;
}
inline void tell_nat(Context& context, const Run& run, uint32_t rule, bool before,
                     const IpAddress& address, uint16_t port) {
  if (Trace* trace = context.trace_of(run); trace != nullptr) {
    trace->add_nat(rule, before, address, port);
  }
}

// Is the destination one of our translated sources? Then nobody else is behind it.
bool is_translated_source(const Context& context, const Nat& nat, const Run& run);
// The rule for the source of what leaves so; kNoRule: none.
uint32_t find_source_rule(const Nat& nat, const RuleKey& key, uint32_t mark, const WayOut& way);

// Behind route: flows are made, and what is not translated yet is.
void nat(Context& context);

}  // namespace sallyport
