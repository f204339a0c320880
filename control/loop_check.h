// LoopCheck: can a sealed packet come back into the tunnel that sealed it?
//
//     wg0 seals -> 192.0.2.2:51820 -> the host routes it into wg0 (capture) -> rule 100: to wg0/site-b -> wg0 seals ...
//
// Every datagram of the file's tunnels is followed: to a peer's endpoint, with its tunnel's mark and port; into the tunnel that
// the host routes it into, if any; through the rules there (control/policy_outcomes.h); and, where these lead to a peer, on
// as that peer's datagram. What comes back to a tunnel that it has been sealed by makes the configuration an error, which
// spells out the way hop by hop. An endpoint within a captured set is no loop where the datagrams carry host.from_mark, as
// they do by default.
//
// What a tunnel sends `via` another does not meet the host: it is a packet in that tunnel, as `iif = "host:TUNNEL"` would bring
// one, and its rules and allowed-ips decide. Where these take it to no peer of that tunnel, nothing can leave, and that is an error
// too.
//
// The host's part, as control/host_routes.h sets it up: by destination, what does not carry host.from_mark and whose longest
// captured prefix is no hole; with host.to_mark, what carries that and likewise. Without host.manage, nothing. The host's own
// addresses (loopback, the tunnels') stay within it. A datagram that is bound to an interface, by `underlay` or the %scope of
// a link-local endpoint, goes there whatever routes say: into a tunnel where that is one of ours.
//
// Assumes: any source address, any port where listen_port is 0, and of a group any member that can be alive.
// Cannot: know where an endpoint that is a name leads, which is what loop_of() is for, or where a peer roams to; see routes of
// the host that are more specific than a captured 0.0.0.0/0 or ::/0 and take precedence there, or what the host does with
// packets that it is handed (exit = "host"), or programs that forward datagrams.
// Costs: nothing but a look at each tunnel when all carry the from-mark; else see policy_outcomes.h, within kLoopEffortMax steps
// (about a second). A configuration that takes more is refused with just that.
// Thread rules: pure functions.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "control/config.h"
#include "control/limits.h"
#include "control/policy_outcomes.h"

namespace sallyport {

// The addresses that a name of an endpoint is known to have.
using NameAddresses = std::function<std::vector<IpAddress>(const std::string& host)>;

// An error for every loop, at the peer whose datagrams come back. `config` has been checked (config::check).
void check_loops(const config::Config& config, const SetEntries& entries,
                 std::vector<config::Problem>& errors, uint64_t effort = kLoopEffortMax);

// The same question about one datagram: of this tunnel, to this address and port, such as a name turned out to have. The loop
// in words, or nothing. `known` (may be empty) tells of other names that it may meet.
std::optional<std::string> loop_of(const config::Config& config, const SetEntries& entries,
                                   const std::string& tunnel, const IpAddress& address,
                                   uint16_t port, const NameAddresses& known = {});

}  // namespace sallyport
