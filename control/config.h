// Config: what a configuration file says, checked, with the place of each thing in it.
//
// Three steps, each in files of their own: read a file into a Config or into errors (config_toml*.cpp, config_wg_quick.cpp),
// check it as a whole (names that refer to nothing, cycles, duplicates: config_check*.cpp), build what the engine takes
// (build.h). A Config is plain values: no key file is read, no name is looked up, nothing of the host is asked. Only
// `conf = "wg0.conf"` opens another file while one is read.
//
// Errors: all of a file at once. Each names file, line and key, says what is wrong and what would be right; an unknown key
// comes with the nearest known one. A Config with errors is never built.
//
// docs/config.md describes every key; docs/policy.md what they mean. Thread rules: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/engine.h"
#include "dataplane/net/address.h"
#include "dataplane/net/run.h"
#include "dataplane/path/nat.h"

namespace sallyport {
class LoadProgress;
}

namespace sallyport::config {

// A place in a file. Lines count from 1; 0 is "the file as a whole".
struct Where {
  std::string file;
  unsigned line = 0;
};

std::string to_text(const Where& where);  // "wglan.toml:12"

struct Problem {
  Where where;
  std::string key;   // dotted, as in the file: tunnel.wg0.peer[2].endpoint; may be empty
  std::string text;  // what is wrong, and what would be right
};

std::string to_text(const Problem& problem);  // "wglan.toml:12: tunnel.wg0.mtu: ..."
std::vector<std::string> to_texts(const std::vector<Problem>& problems);

// A value and where it stands. Absent: `where.line` is 0 and `value` is the default.
template <class T>
struct Sourced {
  T value{};
  Where where;
};

// Where a key comes from: exactly one of the three.
struct KeySource {
  enum class Kind { none, inline_text, file, credential } kind = Kind::none;
  std::string
      text;  // base64, a path (relative to the file it stands in), or a systemd credential's name
  Where where;
};

// An endpoint as written: a numeric one, or a name to be resolved.
struct EndpointText {
  std::string host;  // without brackets
  uint16_t port = 0;
  bool numeric = false;  // host is an address (may have a %scope)
};

struct Peer {
  std::string
      name;  // unique in its tunnel; by default the comment line under [Peer], else the first 8 characters of the key
  KeyBytes public_key{};
  KeySource preshared_key;
  std::optional<EndpointText> endpoint;
  std::vector<IpPrefix> allowed_ips;
  uint16_t persistent_keepalive = 0;
  uint32_t path_mtu = 0;  // as the tunnel's, on the way to this peer; 0: the tunnel's
  enum class Lan { allow, deny, only } lan = Lan::allow;  // private destinations through this peer
  std::string lan_set;                                    // for `only:SET`
  Where where;
};

// What the host is to route into a tunnel (control/host_routes.h).
struct Capture {
  bool allowed_ips = false;       // those of the tunnel's peers
  std::vector<std::string> sets;  // by name
  std::vector<IpPrefix> prefixes;
  std::vector<IpPrefix> holes;  // `!prefix`
  bool any() const { return allowed_ips || !sets.empty() || !prefixes.empty(); }
};

struct Tunnel {
  std::string name;
  KeySource private_key;
  uint16_t listen_port = 0;         // 0: any
  std::optional<uint32_t> fwmark;   // of outer datagrams; by default host.from_mark
  std::vector<IpPrefix> addresses;  // host bits kept: 10.9.0.1/24
  uint32_t mtu = 0;                 // 0: derived (1420)
  Capture capture;
  std::string underlay;   // an interface that outer datagrams are bound to; empty: routing decides
  std::string via;        // the tunnel that outer datagrams go through; empty: the host's sockets
  uint32_t path_mtu = 0;  // of outer datagrams, their headers included; 0: measured
  enum class Mss { clamp, off, fixed } mss = Mss::clamp;
  uint32_t mss_bytes = 0;              // for Mss::fixed
  std::vector<std::string> resolvers;  // DNS servers for its endpoints' names; empty: the host's
  std::vector<Peer> peers;
  Where where;
};

struct Set {
  std::string name;
  struct Entry {  // no `where`: there may be a million
    IpPrefix prefix;
    bool hole = false;
  };
  std::vector<Entry> entries;  // inline ones
  std::string file;            // a list file, absolute or relative to the config; may be empty
  bool watch = false;          // reload the list when the file changes
  Where where;
};

struct Probe {
  std::optional<IpAddress> target;  // ICMP echo through the exit; absent: by handshake age alone
  uint32_t interval_ms = 1000;
  uint32_t timeout_ms = 1000;
  unsigned up = 2;    // successes in a row that bring an exit back
  unsigned down = 3;  // failures in a row that take it out
};

struct Exit {
  enum class Kind { peer, tunnel, host, port, drop, group } kind = Kind::drop;
  std::string name;
  std::string tunnel;  // peer, tunnel, port
  std::string peer;    // peer
  // group
  enum class Mode { failover, weighted } mode = Mode::failover;
  struct Member {
    std::string exit;
    uint32_t weight = 1;
  };
  std::vector<Member> members;
  enum class WhenDown { closed, unreachable, exit } when_down = WhenDown::closed;
  std::string fallback;     // for WhenDown::exit
  uint32_t sticky_s = 300;  // a flow keeps its member until it was quiet this long; 0: never
  // peer, tunnel
  std::optional<Probe> probe;
  Where where;
};

struct Route {
  std::vector<IpPrefix> prefixes;  // one or more; `default` is 0.0.0.0/0 and ::/0
  std::string set;                 // or the members of a set
  std::string exit;
  Where where;
};

struct Table {
  std::string name;
  std::vector<Route> routes;
  Where where;
};

// One condition of a rule on addresses: `from = ["10.0.0.0/8", "@lan"]`, `to = "!@lan"`.
struct Addresses {
  std::vector<IpPrefix> prefixes;
  std::vector<std::string> sets;
  bool negated = false;
  bool asks() const { return !prefixes.empty() || !sets.empty(); }
};

struct Ports {
  std::vector<std::pair<uint16_t, uint16_t>> ranges;
  bool negated = false;
};

struct Names {
  std::vector<std::string> values;
  bool negated = false;
};

struct Masked {
  uint32_t value = 0, mask = UINT32_MAX;
  bool negated = false;
};

// What a packet must be for a [[rule]], a [[nat]] or a [[filter]] to match: all of the conditions that are there.
struct Match {
  Family family = Family::none;  // none: both
  Addresses from, to;
  Names iif;   // tunnel names; "host" or "host:TUNNEL" for what the host sends in
  Names peer;  // "TUNNEL/PEER", or a peer's name where only one tunnel has it
  std::vector<uint8_t> protocols;
  bool protocols_negated = false;
  Ports sport, dport;
  std::optional<Masked> fwmark, tos;
  // Of [[nat]] and [[filter]] alone, which are asked when it is known where the packet goes.
  Names oif;   // as iif: sealed into that tunnel; handed to the host, by any port or that tunnel's
  Names exit;  // names of exits
  // Of [[filter]] alone.
  std::vector<FlowState> states;
  bool states_negated = false;
};

struct Rule {
  uint32_t priority = 0;  // `ip rule`'s: lower first; equal ones in the file's order
  std::string name;       // optional, shown by `show rules` and `explain`
  Match match;
  // What it does. A mark may come with any of the others; at least one of them all.
  std::optional<Masked> set_mark;  // only the bits of the mask are changed
  enum class Action {
    none,
    table,
    exit,
    go_to,
    drop,
    unreachable,
    prohibit,
    reset
  } action = Action::none;
  std::string table, exit;
  uint32_t target = 0;                           // of goto: a priority, larger than this rule's
  std::optional<uint8_t> suppress_prefixlength;  // with table
  Where where;
};

using PortRange = std::pair<uint16_t, uint16_t>;

// How a new flow is translated. Two searches in the file's order, each ended by the first that matches: dnat and none before
// the rules are asked for a way out, with the packet as it came; masquerade, snat, nptv6 and none behind them, with the packet
// as dnat left it. A none that asks for oif or exit is met by the second one only.
struct Nat {
  std::string name;  // optional
  Match match;
  enum class Action { none, masquerade, snat, dnat, nptv6 } action = Action::none;
  std::vector<AddressRange> pool;  // snat, dnat: all of one family
  std::optional<PortRange> ports;  // masquerade, snat: to choose the source port from
  std::optional<PortRange> port;   // dnat: one for all, or one each for those of dport
  bool endpoint_independent =
      false;  // masquerade, snat: one outer port for one inner port, whoever the far end is
  bool paired = true;        // snat: one inner address keeps one of the pool
  IpPrefix inside, outside;  // nptv6: of one length
  Where where;
};

struct Filter {
  std::string name;  // optional
  Match match;
  enum class Action { accept, drop, reject, reset } action = Action::accept;
  Where where;
};

// What is remembered of flows. The defaults are the least that the RFCs allow, or what they recommend: docs/config.md.
struct Flows {
  uint32_t max = 262'144;
  uint32_t tcp_established_s = 7440, tcp_transitory_s = 240;  // RFC 5382, REQ-5
  uint32_t udp_s = 120, udp_stream_s = 300;                   // RFC 4787, REQ-5
  uint32_t icmp_s = 60;                                       // RFC 5508, REQ-2
  uint32_t other_s = 600;
  // Loose: WireGuard's allowed-IPs bind sources to keys already, and a client whose address a port forward preserves has its
  // way back by its flow, where a route to it may lead elsewhere.
  enum class ReversePath { strict, loose, off } reverse_path = ReversePath::loose;
  bool pickup = true;            // a TCP connection that is met in its middle is a flow
  bool accept_unmatched = true;  // what no filter matches
  Where where;                   // line 0: not in the file
};

struct Host {
  uint32_t table = 180;          // routing table for what is captured
  uint32_t from_mark = 0x51820;  // of outer datagrams: not captured
  std::optional<uint32_t>
      to_mark;  // when set, the host's rule selects by this mark instead of by destination
  uint32_t rule_priority = 5180;
  uint8_t route_protocol = 180;  // the tag of routes and rules that are ours
  bool manage = true;            // false: addresses, links, routes and rules are somebody else's
  Where where;
};

struct Config {
  std::string file;
  Host host;
  std::vector<Tunnel> tunnels;
  std::vector<Set> sets;
  std::vector<Exit> exits;
  std::vector<Table> tables;
  std::vector<Rule> rules;  // as in the file; the builder sorts
  std::vector<Nat> nats;    // in the file's order, as are filters
  std::vector<Filter> filters;
  Flows flows;
};

struct ReadResult {
  Config config;
  std::vector<Problem> errors;
  std::vector<Problem>
      warnings;  // read, understood, and without effect here (DNS = of a wg-quick file)
  bool ok() const { return errors.empty(); }
};

// Reads a file by its kind: .conf is wg-quick's (the tunnel is called as the file), anything else TOML. Reads, checks, and
// returns every error there is. Errors of the file system are errors of line 0.
ReadResult read_file(const std::string& path);

// The same from memory, by the kind that `file` has.
ReadResult read_text(std::string_view text, const std::string& file);
// The same from memory; `file` is what errors call it.
ReadResult read_toml(std::string_view text, const std::string& file);
ReadResult read_wg_quick(std::string_view text, const std::string& file,
                         const std::string& tunnel_name);

// Names that refer to nothing, groups that contain themselves, names given twice, gotos backwards. Called by read_*. A line is
// that of the thing with the error (read_toml finds the key's own).
void check(const Config& config, std::vector<Problem>& errors);

// The known word nearest to `word`, when it is near enough to be a slip of the finger; empty otherwise.
std::string nearest(std::string_view word, const std::vector<std::string_view>& known);

// The peers that `text` names: "TUNNEL/PEER", or "PEER" in any tunnel. One is right; none, or several, is for an error. After
// read_* without errors, Exit::tunnel is filled in and Match::peer holds the long form.
struct PeerPlace {
  size_t tunnel = 0, peer = 0;  // indices into tunnels and its peers
};
std::vector<PeerPlace> find_peers(const Config& config, std::string_view text);

// "host" and "drop": exits that are there without being declared.
bool is_built_in_exit(std::string_view name);

// `path` as written in `file`: relative ones start where the file lies.
std::string beside(std::string_view file, std::string_view path);

// The secret itself, when the file is used: inline text, the content of a file, or $CREDENTIALS_DIRECTORY/NAME. All zero for
// KeySource::Kind::none, as the engine takes "no key".
Result<KeyBytes> load_key(const KeySource& source);

// A list file (beside(set.where.file, set.file)): one prefix or `!prefix` a line, `#` comments. Every bad line is an error; of
// a million lines at most 20 are named. Once `progress` says to give up, what comes back is of no use.
std::vector<Set::Entry> read_set_list(const std::string& path, std::vector<Problem>& errors,
                                      LoadProgress* progress = nullptr);

}  // namespace sallyport::config
