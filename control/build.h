// Build: from a checked configuration to what the engine takes: a TunnelChange a tunnel, and one Policy.
//
// The last of the three steps of control/config.h. Everything a policy refers to by number gets its number here, and
// PolicyNames keeps what the numbers stand for, so that show, explain and trace can speak the file's language.
//
// Thread rules: control's thread. Nothing is in force until the caller hands the results to the engine.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/config.h"
#include "control/policy_assets.h"
#include "dataplane/engine.h"

namespace sallyport {

// Which tunnel of the engine bears which name.
using TunnelNumbers = std::map<std::string, TunnelNumber>;

// What the numbers of a Policy stand for.
struct PolicyNames {
  std::vector<config::Rule> rules;  // by number: in priority order
  std::vector<config::Nat> nats;    // by number: in the file's order
  std::vector<config::Filter> filters;
  std::vector<std::string> sets, tables, exits;
  struct Route {
    std::string to, exit;
    config::Where where;
  };
  std::vector<std::vector<Route>> routes;  // by table, then by the number that a trace gives
  struct Peer {
    std::string tunnel, name;
  };
  std::map<uint32_t, Peer> peers;  // by tag
  std::map<TunnelNumber, std::string> tunnels;

  std::string peer(uint32_t tag) const;  // "wglan/site-b", or "peer of tag 7"
  std::string tunnel(TunnelNumber number) const;
};

struct BuiltPolicy {
  std::unique_ptr<Policy> policy;
  PolicyNames names;
  // Exits that are watched: probes[i] of the policy belongs to exit probed[i].
  std::vector<uint32_t> probed;
};

// Whether the path needs a policy at all: without rules, nat, filters and [flows] each tunnel is WireGuard alone.
bool has_policy(const config::Config& config);
// Whether it remembers flows: only what asks for it pays for it.
bool keeps_flows(const config::Config& config);

// The source ports of what is masqueraded towards the host, where the rule names none: no ephemeral ports of the host's, as
// Linux has them (net.ipv4.ip_local_port_range is 32768 to 60999).
inline constexpr config::PortRange kHostPorts{61000, 65534};
// And towards a peer, or of snat.
inline constexpr config::PortRange kNatPorts{1024, 65535};
// The kernel's rules know no range that ends with 65535: nothing that comes back for it could be brought to us.
inline constexpr uint16_t kClaimedPortMax = 65534;

// The sets, affinities and flows that it points at come from `assets`. Fails when the rules exceed what a RuleTable holds, or tags run out.
Result<BuiltPolicy> build_policy(const config::Config& config, const TunnelNumbers& tunnels,
                                 Engine& engine, PolicyAssets& assets);

// Everything of one tunnel, replacing what there is. `addresses` answers an endpoint that is a name, where it is known yet.
using KnownAddresses = std::function<std::vector<IpAddress>(const std::string& host)>;
Result<TunnelChange> build_tunnel(const config::Config& config, const config::Tunnel& tunnel,
                                  const KnownAddresses& known);

// The mark of a tunnel's outer datagrams.
uint32_t outer_mark(const config::Config& config, const config::Tunnel& tunnel);

// What is wrong with the secrets that a configuration refers to. A credential is there only for the service that it is
// meant for: whoever is not that one leaves it out.
void check_keys(const config::Config& config, bool with_credentials,
                std::vector<config::Problem>& errors);

}  // namespace sallyport
