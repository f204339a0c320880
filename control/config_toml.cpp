#include "control/config_toml.h"

#include <algorithm>
#include <map>

#include "control/config_wg_quick.h"
#include "control/interface_name.h"
#include "control/limits.h"
#include "control/uapi.h"
#include "crypto/secret.h"

namespace sallyport::config {
namespace {

// An IPv4 host must take 576 bytes; what is beyond 65455 leaves no room for WireGuard's own headers.
constexpr uint32_t kMtuMin = 576, kMtuMax = 65455;
// Below, an IPv4 tunnel's own MTU would be too small; above there is no IP packet.
constexpr uint32_t kPathMtuMin = 636, kPathMtuMax = 65535;
// What every TCP must take of IPv4 (RFC 9293); what leaves room for the headers of the smallest packet.
constexpr uint32_t kMssMin = 536, kMssMax = kMtuMax - 40;
// 32766 and 32767 are the kernel's rules for main and default; 0 is its rule for local.
constexpr uint32_t kRulePriorityMax = 32765;
// 0 to 4 are the kernel's own: unspec, redirect, kernel, boot, static.
constexpr uint32_t kRouteProtocolMin = 5;

std::string take_mark(std::string_view text, uint32_t& out) {
  const auto mark = parse_number(text, UINT32_MAX);
  if (!mark || *mark == 0) {
    return quoted(text) + " is no mark: 1 to 4294967295, or in hexadecimal with 0x";
  }
  out = static_cast<uint32_t>(*mark);
  return {};
}

// -- [host]

void read_host(Section& section, Host& host) {
  host.where = section.where();
  section.number("table", 1, UINT32_MAX, host.table);
  if (host.table >= 253 && host.table <= 255) {
    section.error("table", std::to_string(host.table) +
                               " is a table of the host's own (253 default, 254 main, 255 local)");
  }
  const auto from = [&](std::string_view text, unsigned) {
    return take_mark(text, host.from_mark);
  };
  section.one_text("from_mark", from, true);
  const auto to = [&](std::string_view text, unsigned) {
    return take_mark(text, host.to_mark.emplace());
  };
  section.one_text("to_mark", to, true);
  if (host.to_mark == host.from_mark) {
    section.error("to_mark", "is from_mark too: what WireGuard sends would be routed back into it");
  }
  section.number("rule_priority", 1, kRulePriorityMax, host.rule_priority);
  section.number("route_protocol", kRouteProtocolMin, UINT8_MAX, host.route_protocol);
  section.boolean("manage", host.manage);
  section.finish();
}

// -- [tunnel.NAME] and its peers

void check_key_source(Section& section, const std::string& from, const KeySource& source) {
  if (source.text.empty()) {
    section.error(from, "is empty");
  } else if (source.kind == KeySource::Kind::inline_text) {
    auto bytes = parse_key_text(source.text);
    if (!bytes) {
      section.error(from, bytes.error().text);
      return;
    }
    crypto::secure_zero(bytes->data(), bytes->size());
  } else if (source.kind == KeySource::Kind::credential &&
             source.text.find('/') != std::string::npos) {
    section.error(from, "a credential's name has no '/'");
  }
}

// KEY, KEY_file and KEY_credential: at most one of them. One that is wrong is there all the same: it is not missing.
void read_key_source(Section& section, const std::string& key, KeySource& out) {
  using Kind = KeySource::Kind;
  const std::pair<std::string, Kind> sources[] = {{key, Kind::inline_text},
                                                  {key + "_file", Kind::file},
                                                  {key + "_credential", Kind::credential}};
  bool found = false;
  for (const auto& [from, kind] : sources) {
    KeySource source{kind, {}, {section.where().file, section.line_of(from)}};
    const bool good = section.text(from, source.text);
    if (!section.has(from)) {
      continue;
    }
    if (found) {
      section.error(from, "a key comes from one place: " + sources[0].first + ", " +
                              sources[1].first + " or " + sources[2].first);
    } else if (good) {
      check_key_source(section, from, source);
    }
    wipe(out.text);
    out = std::move(source);
    found = true;
  }
}

std::string take_keepalive(std::string_view text, uint16_t& out) {
  const auto seconds = parse_number(text, UINT16_MAX);
  if (text != "off" && (!seconds || *seconds == 0)) {
    return quoted(text) + " is no interval: 1 to 65535 seconds, or \"off\"";
  }
  out = static_cast<uint16_t>(seconds.value_or(0));
  return {};
}

std::string take_lan(std::string_view text, Peer& peer) {
  constexpr std::string_view kOnly = "only:";
  peer.lan_set.clear();
  if (text == "allow") {
    peer.lan = Peer::Lan::allow;
  } else if (text == "deny") {
    peer.lan = Peer::Lan::deny;
  } else if (text.starts_with(kOnly) && text.size() > kOnly.size()) {
    peer.lan = Peer::Lan::only;
    peer.lan_set = text.substr(kOnly.size());
    if (peer.lan_set.starts_with('@')) {
      peer.lan_set.erase(0, 1);
    }
  } else {
    return quoted(text) + " is not \"allow\", \"deny\" or \"only:SET\"";
  }
  return {};
}

// "measured", the default, or bytes.
std::string take_path_mtu(std::string_view text, uint32_t& out) {
  const auto bytes = parse_number(text, kPathMtuMax);
  if (text != "measured" && (!bytes || *bytes < kPathMtuMin)) {
    return quoted(text) + " is no path MTU: " + std::to_string(kPathMtuMin) + " to " +
           std::to_string(kPathMtuMax) + " bytes, or \"measured\"";
  }
  out = static_cast<uint32_t>(bytes.value_or(0));
  return {};
}

std::string take_mss(std::string_view text, Tunnel& tunnel) {
  const auto bytes = parse_number(text, kMssMax);
  if (text == "clamp" || text == "off") {
    tunnel.mss = text == "off" ? Tunnel::Mss::off : Tunnel::Mss::clamp;
  } else if (bytes && *bytes >= kMssMin) {
    tunnel.mss = Tunnel::Mss::fixed;
    tunnel.mss_bytes = static_cast<uint32_t>(*bytes);
  } else {
    return quoted(text) + " is not \"clamp\", \"off\" or " + std::to_string(kMssMin) + " to " +
           std::to_string(kMssMax) + " bytes";
  }
  return {};
}

// What a peer table says besides its public key, over what `peer` has (a peer of a conf file, or a new one).
void read_peer(Section& section, Peer& peer) {
  if (section.text("name", peer.name)) {
    if (std::string problem = name_problem(peer.name); !problem.empty()) {
      section.error("name", std::move(problem));
    }
  }
  read_key_source(section, "preshared_key", peer.preshared_key);
  section.one_text("endpoint", [&](std::string_view text, unsigned) {
    auto endpoint = parse_endpoint_text(text);
    if (!endpoint) {
      return endpoint.error().text;
    }
    peer.endpoint = std::move(*endpoint);
    return std::string();
  });
  if (section.has("allowed_ips")) {
    peer.allowed_ips.clear();
  }
  section.texts("allowed_ips", [&](std::string_view text, unsigned) {
    return append_prefix(text, peer.allowed_ips);
  });
  const auto keepalive = [&](std::string_view text, unsigned) {
    return take_keepalive(text, peer.persistent_keepalive);
  };
  section.one_text("persistent_keepalive", keepalive, true);
  const auto path_mtu = [&](std::string_view text, unsigned) {
    return take_path_mtu(text, peer.path_mtu);
  };
  section.one_text("path_mtu", path_mtu, true);
  section.one_text("lan", [&](std::string_view text, unsigned) { return take_lan(text, peer); });
  section.finish();
}

// A peer of the conf file with the same key is added to; any other is new.
void read_peer_of(const Node& node, const std::string& path, Tunnel& tunnel, size_t from_conf,
                  Report& report) {
  Section section(node, path, "peer key", report);
  std::string text;
  KeyBytes key{};
  bool known = false;
  if (section.text("public_key", text)) {
    const auto bytes = parse_key_text(text);
    if (bytes) {
      key = *bytes;
      known = true;
    } else {
      section.error("public_key", bytes.error().text);
    }
  } else if (!section.has("public_key") && section.is_table()) {
    section.error("public_key", "is missing: a peer is known by its public key");
  }
  const auto end = tunnel.peers.begin() + static_cast<ptrdiff_t>(from_conf);
  const auto same = std::find_if(tunnel.peers.begin(), end,
                                 [&](const Peer& peer) { return known && peer.public_key == key; });
  if (same != end) {
    same->where = section.where();
    read_peer(section, *same);
    return;
  }
  Peer peer;
  peer.public_key = key;
  peer.where = section.where();
  read_peer(section, peer);
  if (peer.name.empty() && known) {
    peer.name = short_key(key);
  }
  tunnel.peers.push_back(std::move(peer));
}

void read_conf(Section& section, Tunnel& tunnel) {
  std::string path;
  if (!section.text("conf", path)) {
    return;
  }
  const std::string file = beside(section.where().file, path);
  unsigned mode = 0;
  auto text = read_whole(file, kConfigBytesMax, &mode);
  if (!text) {
    section.error("conf", text.error().text);
    return;
  }
  Report report{file, section.report().errors, section.report().warnings};
  read_wg_quick_tunnel(*text, report, tunnel);
  warn_of_mode(mode, tunnel, report);
  wipe(*text);
}

std::string take_capture(std::string_view text, Capture& capture, bool& off) {
  if (text == "off" || text == "allowed_ips") {
    off |= text == "off";
    capture.allowed_ips |= text == "allowed_ips";
    return {};
  }
  const Member member = member_of(text);
  if (!member.set) {
    std::string problem =
        append_prefix(member.text, member.negated ? capture.holes : capture.prefixes);
    return problem.empty() ? problem
                           : problem +
                                 "; besides prefixes and \"!prefix\", capture takes \"@set\", "
                                 "\"allowed_ips\" and \"off\"";
  }
  if (member.negated) {
    return quoted(text) + ": holes are prefixes; a set has its own";
  }
  capture.sets.emplace_back(member.text);
  return {};
}

void read_capture(Section& section, Capture& out) {
  Capture capture;
  bool off = false;
  const bool good = section.texts(
      "capture", [&](std::string_view text, unsigned) { return take_capture(text, capture, off); });
  if (!section.has("capture")) {
    return;
  }
  if (good && off && (capture.any() || !capture.holes.empty())) {
    section.error("capture", "\"off\" stands alone");
  } else if (good && !capture.any() && !capture.holes.empty()) {
    section.error("capture", "has holes only: nothing is captured that they could be made in");
  }
  out = std::move(capture);
}

std::string take_resolver(std::string_view text, std::vector<std::string>& to) {
  if (!parse_address(text) && !parse_endpoint(text)) {
    return quoted(text) +
           " is no resolver: 192.0.2.53, 2001:db8::53, 192.0.2.53:5353 or "
           "[2001:db8::53]:5353";
  }
  to.emplace_back(text);
  return {};
}

void read_tunnel_keys(Section& section, Tunnel& tunnel) {
  read_conf(section, tunnel);
  read_key_source(section, "private_key", tunnel.private_key);
  section.number("listen_port", 0, UINT16_MAX, tunnel.listen_port);
  const auto mark = [&](std::string_view text, unsigned) {
    return text == "off" || text == "0" ? (tunnel.fwmark = 0, std::string())
                                        : take_mark(text, tunnel.fwmark.emplace());
  };
  section.one_text("fwmark", mark, true);
  if (section.has("address")) {
    tunnel.addresses.clear();
  }
  section.texts("address", [&](std::string_view text, unsigned) {
    const auto address = parse_interface_address(text);
    if (!address) {
      return address.error().text;
    }
    tunnel.addresses.push_back(*address);
    return std::string();
  });
  section.number("mtu", kMtuMin, kMtuMax, tunnel.mtu);
  read_capture(section, tunnel.capture);
  if (section.text("underlay", tunnel.underlay)) {
    if (std::string problem = interface_name_problem(tunnel.underlay); !problem.empty()) {
      section.error("underlay", std::move(problem));
    }
  }
  if (section.text("via", tunnel.via) && tunnel.via.empty()) {
    section.error("via", "is empty: the name of a tunnel, or leave it out");
  }
  const auto path_mtu = [&](std::string_view text, unsigned) {
    return take_path_mtu(text, tunnel.path_mtu);
  };
  section.one_text("path_mtu", path_mtu, true);
  const auto mss = [&](std::string_view text, unsigned) { return take_mss(text, tunnel); };
  section.one_text("mss", mss, true);
  section.texts("resolver", [&](std::string_view text, unsigned) {
    return take_resolver(text, tunnel.resolvers);
  });
}

void read_tunnel(Section& section, std::string_view name, Config& config) {
  Tunnel& tunnel = config.tunnels.emplace_back();
  tunnel.name = name;
  tunnel.where = section.where();
  read_tunnel_keys(section, tunnel);
  const size_t from_conf = tunnel.peers.size();
  if (const Node* peers = section.take("peer")) {
    for_each_table(*peers, section.path("peer"), section.report(),
                   [&](const Node& node, const std::string& path) {
                     read_peer_of(node, path, tunnel, from_conf, section.report());
                   });
  }
  section.finish();
}

// -- [set.NAME]

void read_set(Section& section, std::string_view name, Config& config) {
  Set& set = config.sets.emplace_back();
  set.name = name;
  set.where = section.where();
  section.texts("prefixes", [&](std::string_view text, unsigned) {
    const Member member = member_of(text);
    if (member.set) {
      return quoted(text) + ": a set does not contain sets; name both where they are used";
    }
    const auto prefix = parse_prefix(member.text);
    if (!prefix) {
      return prefix.error().text;
    }
    set.entries.push_back({*prefix, member.negated});
    return std::string();
  });
  if (section.text("file", set.file) && set.file.empty()) {
    section.error("file", "is empty");
  }
  if (section.boolean("watch", set.watch) && set.watch && !section.has("file")) {
    section.error("watch", "there is no file to watch");
  }
  section.finish();
}

// -- The file

// The tables under [exit.*] and the like.
template <class Read>
void for_each_named(Section& top, std::string_view kind, std::string_view what, const Read& read) {
  const Node* group = top.take(kind);
  if (group == nullptr) {
    return;
  }
  if (group->kind != Node::Kind::table) {
    top.report().wrong_kind(*group, std::string(kind),
                            "a table for each name, [" + std::string(kind) + ".NAME],");
    return;
  }
  for (const Node& node : group->children) {
    const std::string path = dotted(kind, node.key);
    Section section(node, path, what, top.report());
    read(section, node.key);
  }
}

void read_top(const Node& root, Config& config, Report& report) {
  Section top(root, "", "section", report);
  if (const Node* host = top.take("host")) {
    Section section(*host, "host", "host key", report);
    read_host(section, config.host);
  }
  for_each_named(top, "tunnel", "tunnel key", [&](Section& section, std::string_view name) {
    read_tunnel(section, name, config);
  });
  for_each_named(top, "set", "set key",
                 [&](Section& section, std::string_view name) { read_set(section, name, config); });
  for_each_named(top, "exit", "exit key", [&](Section& section, std::string_view name) {
    read_exit(section, name, config);
  });
  for_each_named(top, "table", "table key", [&](Section& section, std::string_view name) {
    read_table(section, name, config);
  });
  if (const Node* rules = top.take("rule")) {
    for_each_table(*rules, "rule", report, [&](const Node& node, const std::string& path) {
      Section section(node, path, "rule key", report);
      read_rule(section, config);
    });
  }
  if (const Node* nats = top.take("nat")) {
    for_each_table(*nats, "nat", report, [&](const Node& node, const std::string& path) {
      Section section(node, path, "NAT key", report);
      read_nat(section, config);
    });
  }
  if (const Node* filters = top.take("filter")) {
    for_each_table(*filters, "filter", report, [&](const Node& node, const std::string& path) {
      Section section(node, path, "filter key", report);
      read_filter(section, config);
    });
  }
  if (const Node* flows = top.take("flows")) {
    Section section(*flows, "flows", "flows key", report);
    read_flows(section, config.flows);
  }
  top.finish();
}

// "PEER" becomes what it means where that is clear; where it is not, check() has reported it.
void name_peers_in_full(Config& config) {
  const auto full = [&](const PeerPlace& place) {
    const Tunnel& tunnel = config.tunnels[place.tunnel];
    return tunnel.name + "/" + tunnel.peers[place.peer].name;
  };
  const auto name_all = [&](auto& things) {
    for (auto& thing : things) {
      for (std::string& name : thing.match.peer.values) {
        if (const auto places = find_peers(config, name); places.size() == 1) {
          name = full(places[0]);
        }
      }
    }
  };
  name_all(config.rules);
  name_all(config.nats);
  name_all(config.filters);
  for (Exit& exit : config.exits) {
    if (exit.kind != Exit::Kind::peer || !exit.tunnel.empty()) {
      continue;
    }
    if (const auto places = find_peers(config, exit.peer); places.size() == 1) {
      const Tunnel& tunnel = config.tunnels[places[0].tunnel];
      exit.tunnel = tunnel.name;
      exit.peer = tunnel.peers[places[0].peer].name;
    }
  }
}

// "tunnel.wg0" holds "tunnel.wg0.peer[1]" and itself.
bool holds(std::string_view outer, std::string_view inner) {
  if (outer.empty() || !inner.starts_with(outer)) {
    return false;
  }
  inner.remove_prefix(outer.size());
  return inner.empty() || inner.front() == '.' || inner.front() == '[';
}

// Something about that key was said already, or about a key within or around it: what check() adds would follow from that.
bool said_already(const std::vector<Problem>& said, const Problem& problem) {
  return std::ranges::any_of(said, [&](const Problem& other) {
    return holds(problem.key, other.key) || holds(other.key, problem.key);
  });
}

// This file's errors by line, then those of files it names; what stands on one line stays as it was found.
void put_in_order(std::vector<Problem>& problems, const std::string& file) {
  std::multimap<std::pair<bool, unsigned>, Problem> ordered;
  for (Problem& problem : problems) {
    const std::pair place(problem.where.file != file, problem.where.line);
    ordered.emplace(place, std::move(problem));
  }
  problems.clear();
  for (auto& [place, problem] : ordered) {
    problems.push_back(std::move(problem));
  }
}

}  // namespace

Member member_of(std::string_view text) {
  Member member;
  member.negated = text.starts_with('!');
  text.remove_prefix(member.negated);
  member.set = text.starts_with('@');
  text.remove_prefix(member.set);
  member.text = text;
  return member;
}

std::string append_prefix(std::string_view text, std::vector<IpPrefix>& to) {
  auto prefix = parse_prefix(text);
  if (!prefix) {
    return std::move(prefix.error().text);
  }
  to.push_back(*prefix);
  return {};
}

ReadResult read_toml(std::string_view text, const std::string& file) {
  ReadResult result;
  result.config.file = file;
  auto root = parse_tree(text, file);
  if (!root) {
    result.errors.push_back(std::move(root.error()));
    return result;
  }
  Report report{file, result.errors, result.warnings};
  read_top(*root, result.config, report);
  std::vector<Problem> wrong;
  check(result.config, wrong);
  for (Problem& problem : wrong) {
    if (said_already(result.errors, problem)) {
      continue;
    }
    if (problem.where.file == file) {
      problem.where.line = std::max(problem.where.line, line_of(*root, problem.key));
    }
    result.errors.push_back(std::move(problem));
  }
  put_in_order(result.errors, file);
  name_peers_in_full(result.config);
  wipe_keys(*root);
  return result;
}

}  // namespace sallyport::config
