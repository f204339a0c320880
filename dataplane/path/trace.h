// Trace: what was decided about one packet, step by step, as the stages decided it.
//
// The stages that decide write steps into a trace where a packet has one: that of `explain`, a made-up packet that goes
// nowhere (Context::dry), or a live one that `trace` has picked. So what is told is what was done. Steps are numbers:
// whoever has the configuration turns them into words, files and lines (control/explain.cpp).
//
// Costs: a packet without a trace pays one test a stage. Bounded: steps beyond kStepsMax are counted, not kept.
// Thread rules: a trace belongs to the thread whose packet it follows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/net/address.h"

namespace sallyport {

struct TraceStep {
  enum class What : uint8_t {
    flow,  // number: FlowState; a: FlowDirection; b: 1 it is known, 0 it is new; c: 1 its exit is remembered
    nat,  // number: the nat rule; a: 1 asked before the rules (dnat), 0 behind; b: port, 0 none; c: 1 it has no address to give; address: unset: no translation
    way_back,      // a: tag of the peer the flow came from, 0: the host
    reverse_path,  // a: 1 passed, 0 not; b: ReversePath
    filter,        // number: the filter; a: 1 it matched, 0 none did
    rule,          // number: the rule that matched
    set_entry,  // number: the set; a: 1 the source, 0 the destination; b: length of the entry; c: 1 member, 0 hole
    mark,        // a: the mark from here on
    jump,        // number: the rule the search goes on at
    table_hit,   // number: the table; a: the route; b: prefix length
    table_miss,  // number: the table
    suppressed,  // number: the table; a: the route; b: prefix length, not longer than suppress_prefixlength
    no_rule,  // no rule decided: as WireGuard alone would have it
    exit,     // number: the exit chosen
    member,   // number: the exit a group picked; a: why (MemberWhy); b: its place in the group
    all_down,  // number: the group with no member alive; a: the exit taken instead, or kNoExit: closed
    lan_denied,   // number: the exit; the destination is private
    allowed_ips,  // number: the tunnel whose allowed-IPs were asked; a: 1 found
    peer,         // number: tunnel; a: slot; b: tag (0: none)
    host,         // number: the tunnel whose plain port it leaves by
    fit,          // number: Fitted; a: the MSS, or the packet's bytes; b: the MTU
    ttl,          // a: what is left of TTL or hop limit
    drop,         // a: DropReason
    staged,       // waits for a session
    sealed,       // a: datagrams; b: bytes on the wire
  };
  enum class Fitted : uint32_t { mss, cut, refused };
  What what;
  uint32_t number = 0;
  uint32_t a = 0, b = 0, c = 0;
  IpAddress address = {};
};

enum class MemberWhy : uint32_t {
  first_alive,  // failover: the first that is alive
  weight,       // weighted: this flow's share
  kept,         // the flow was there before, and it still works
};

struct Trace {
  static constexpr size_t kStepsMax = 64;

  TraceStep steps[kStepsMax];
  uint32_t count = 0;  // may exceed kStepsMax: those beyond were lost

  void add(TraceStep::What what, uint32_t number = 0, uint32_t a = 0, uint32_t b = 0,
           uint32_t c = 0) {
    if (count < kStepsMax) {
      steps[count] = {what, number, a, b, c, {}};
    }
    ++count;
  }
  void add_nat(uint32_t rule, bool before, const IpAddress& address, uint16_t port) {
    add(TraceStep::What::nat, rule, before ? 1 : 0, port);
    steps[(count < kStepsMax ? count : kStepsMax) - 1].address = address;
  }
};

}  // namespace sallyport
