// FlowQuery: which flows `sallyport show flows` and `flush flows` are about.
//
// Words as conntrack and ip have them, in any order, each at most once; all must hold:
//
//     from PREFIX  to PREFIX  sport N[-M]  dport N[-M]     of one direction, whichever
//     ipproto P   state STATE                              a TCP state; replied, unreplied
//     peer NAME   tunnel NAME   exit NAME                  where it came from, or leaves by
//
// The client reads them to complain at once, the daemon to answer: both here. FlowFilter has names turned into the numbers of
// the configuration in force. A peer is the one that a flow came from, or that of the exit it takes; what goes by allowed-IPs alone
// has no exit, and so is not found by the peer it goes to.
//
// Thread rules: values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/build.h"
#include "control/config.h"
#include "dataplane/base/result.h"
#include "dataplane/path/policy.h"
#include "dataplane/table/flow_table.h"

namespace sallyport {

struct FlowQuery {
  std::optional<IpPrefix> from, to;
  std::optional<config::PortRange> source_ports, destination_ports;
  std::optional<uint8_t> protocol;
  std::optional<TcpState> tcp;
  std::optional<bool> replied;
  std::string peer, tunnel, exit;
};

Result<FlowQuery> read_flow_query(const std::vector<std::string>& words);

// The exit that a flow takes, as far as it was decided by this policy; kNoExit: by allowed-IPs, or not known.
uint32_t exit_of_flow(const FlowInfo& flow, const Policy& policy);

class FlowFilter {
 public:
  // Fails on a name that nothing has.
  static Result<FlowFilter> make(const FlowQuery& query, const config::Config& config,
                                 const TunnelNumbers& tunnels, const PolicyNames& names,
                                 const Policy& policy);

  bool matches(const FlowInfo& flow) const;

 private:
  explicit FlowFilter(const Policy& policy) : policy_(&policy) {}

  Result<void> take_names(const config::Config& config, const TunnelNumbers& tunnels,
                          const PolicyNames& names);
  bool is_of_direction(const FlowTuple& tuple) const;
  bool is_of_peer(const FlowInfo& flow, const Exit* exit) const;
  bool is_of_tunnel(const FlowInfo& flow, const Exit* exit) const;

  const Policy* policy_;
  const PolicyNames* names_ = nullptr;
  FlowQuery query_;
  uint32_t tag_ = PeerTags::kNone;
  TunnelNumber tunnel_ = 0;
  std::vector<uint32_t> exits_;  // the one asked for, and what a group may come to
};

}  // namespace sallyport
