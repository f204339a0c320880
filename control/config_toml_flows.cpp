// [[nat]], [[filter]] and [flows].
#include <algorithm>

#include "control/config_toml.h"
#include "control/limits.h"

namespace sallyport::config {
namespace {

constexpr uint64_t kFlowTimeoutMsMin = 1000, kFlowTimeoutMsMax = uint64_t{30} * 24 * 3600 * 1000;

// -- [[nat]]

// "192.0.2.1", "192.0.2.1-192.0.2.9", "192.0.2.0/28"
std::string take_range(std::string_view text, std::vector<AddressRange>& to) {
  auto range = parse_address_range(text);
  if (!range) {
    return std::move(range.error().text);
  }
  to.push_back(*range);
  return {};
}

// As take_range, or an address with a port, which is then a `port` too.
std::string take_new_destination(std::string_view text, Nat& nat) {
  const bool with_port = text.starts_with('[') || std::ranges::count(text, ':') == 1;
  if (!with_port) {
    return take_range(text, nat.pool);
  }
  const auto endpoint = parse_endpoint_text(text);
  const auto address = endpoint && endpoint->numeric ? parse_address(endpoint->host) : fail("");
  if (!address) {
    return quoted(text) + " is no destination: 10.0.0.2, 10.0.0.2:8080, [fd00::2]:8080, " +
           "10.0.0.2-10.0.0.9 or 10.0.0.0/28";
  }
  nat.pool.push_back({*address, *address});
  nat.port = {endpoint->port, endpoint->port};
  return {};
}

std::string take_ports(std::string_view text, std::optional<PortRange>& out) {
  const auto range = parse_port_range(text);
  if (!range) {
    return range.error().text;
  }
  if (range->first == 0) {
    return quoted(text) + ": there is no port 0";
  }
  out = *range;
  return {};
}

std::string take_nptv6_prefix(std::string_view text, IpPrefix& out) {
  constexpr uint8_t kLengthMax = 64;  // RFC 6296: the checksum is evened out behind the prefix
  const auto prefix = parse_prefix(text);
  if (!prefix) {
    return prefix.error().text;
  }
  if (prefix->address.family != Family::v6 || prefix->length == 0 || prefix->length > kLengthMax) {
    return quoted(text) + " is no IPv6 prefix of 1 to 64 bits";
  }
  out = *prefix;
  return {};
}

void read_nptv6(Section& section, Nat& nat) {
  const Node* node = section.take("nptv6");
  if (node == nullptr) {
    return;
  }
  Section inner(*node, section.path("nptv6"), "nptv6 key", section.report());
  for (const auto& [key, out] : {std::pair("from", &nat.inside), std::pair("to", &nat.outside)}) {
    inner.one_text(key,
                   [&](std::string_view text, unsigned) { return take_nptv6_prefix(text, *out); });
    if (inner.is_table() && !inner.has(key)) {
      inner.error(key, "is missing: nptv6 = { from = the prefix inside, to = the one outside }");
    }
  }
  inner.finish();
  if (nat.inside.length != nat.outside.length && nat.inside.length != 0 &&
      nat.outside.length != 0) {
    section.error("nptv6",
                  "the two prefixes are of one length: each address inside has one outside");
  } else if (nat.inside == nat.outside && nat.inside.length != 0) {
    section.error("nptv6", "the two prefixes are the same: nothing would change");
  }
}

// Exactly one of the keys that say what is done.
void read_translation(Section& section, Nat& nat) {
  using Action = Nat::Action;
  constexpr std::pair<const char*, Action> kKeys[] = {{"masquerade", Action::masquerade},
                                                      {"snat", Action::snat},
                                                      {"dnat", Action::dnat},
                                                      {"nptv6", Action::nptv6},
                                                      {"none", Action::none}};
  std::string given;
  for (const auto& [key, action] : kKeys) {
    if (!section.has(key)) {
      continue;
    }
    if (!given.empty()) {
      section.error(key, "this has " + given +
                             " already; it does one of masquerade, snat, dnat, nptv6 and none");
    } else {
      nat.action = action;
    }
    given = given.empty() ? key : given;
  }
  if (given.empty() && section.is_table()) {
    section.report().error(section.where().line, section.path(),
                           "says nothing of what to do: masquerade = true, snat, dnat, nptv6 or "
                           "none = true");
  }
  for (const char* key : {"masquerade", "none"}) {
    bool yes = true;
    if (section.boolean(key, yes) && !yes) {
      section.error(key, "is true or not there");
    }
  }
  section.texts("snat",
                [&](std::string_view text, unsigned) { return take_range(text, nat.pool); });
  section.one_text(
      "dnat", [&](std::string_view text, unsigned) { return take_new_destination(text, nat); });
  read_nptv6(section, nat);
}

void read_nat_options(Section& section, Nat& nat) {
  using Action = Nat::Action;
  const bool with_port = nat.port.has_value();  // by dnat = "ADDRESS:PORT"
  section.one_text(
      "ports", [&](std::string_view text, unsigned) { return take_ports(text, nat.ports); }, true);
  section.one_text(
      "port", [&](std::string_view text, unsigned) { return take_ports(text, nat.port); }, true);
  section.boolean("endpoint_independent", nat.endpoint_independent);
  section.boolean("paired", nat.paired);
  const bool of_sources = nat.action == Action::masquerade || nat.action == Action::snat;
  for (const char* key : {"ports", "endpoint_independent"}) {
    if (section.has(key) && !of_sources) {
      section.error(key, "belongs to masquerade and snat, which choose a source port" +
                             std::string(nat.action == Action::dnat && *key == 'p' && key[4] == 's'
                                             ? "; dnat has `port`"
                                             : ""));
    }
  }
  if (section.has("paired") && nat.action != Action::snat) {
    section.error("paired", "belongs to snat, which may have several addresses to choose from");
  }
  if (section.has("port") && nat.action != Action::dnat) {
    section.error("port", "belongs to dnat, which changes the destination port" +
                              std::string(of_sources ? "; masquerade and snat have `ports`" : ""));
  } else if (section.has("port") && with_port) {
    section.error("port", "dnat has a port already");
  }
}

}  // namespace

void read_nat(Section& section, Config& config) {
  Nat& nat = config.nats.emplace_back();
  nat.where = section.where();
  read_name(section, nat.name);
  read_match(section, MatchOf::nat, nat.match);
  read_translation(section, nat);
  read_nat_options(section, nat);
  section.finish();
}

// -- [[filter]]

namespace {

std::string take_filter_action(std::string_view text, Filter::Action& out) {
  using Action = Filter::Action;
  static constexpr std::pair<std::string_view, Action> kActions[] = {{"accept", Action::accept},
                                                                     {"drop", Action::drop},
                                                                     {"reject", Action::reject},
                                                                     {"reset", Action::reset}};
  std::vector<std::string_view> known;
  for (const auto& [name, action] : kActions) {
    if (text == name) {
      out = action;
      return {};
    }
    known.push_back(name);
  }
  return not_known("action", text, known);
}

}  // namespace

void read_filter(Section& section, Config& config) {
  Filter& filter = config.filters.emplace_back();
  filter.where = section.where();
  read_name(section, filter.name);
  read_match(section, MatchOf::filter, filter.match);
  section.one_text("action", [&](std::string_view text, unsigned) {
    return take_filter_action(text, filter.action);
  });
  if (section.is_table() && !section.has("action")) {
    section.error("action", "is missing: \"accept\", \"drop\", \"reject\" or \"reset\"");
  }
  section.finish();
}

// -- [flows]

namespace {

void read_timeout(Section& section, std::string_view key, uint32_t& out) {
  uint64_t ms = 0;
  if (!read_duration_ms(section, key, kFlowTimeoutMsMin, kFlowTimeoutMsMax, ms)) {
    return;
  }
  if (ms % 1000 != 0) {
    section.error(key, "is counted in whole seconds");
  }
  out = static_cast<uint32_t>(ms / 1000);
}

std::string take_reverse_path(std::string_view text, Flows::ReversePath& out) {
  using How = Flows::ReversePath;
  if (text != "strict" && text != "loose" && text != "off") {
    return quoted(text) + " is not \"strict\", \"loose\" or \"off\"";
  }
  out = text == "strict" ? How::strict : text == "loose" ? How::loose : How::off;
  return {};
}

}  // namespace

void read_flows(Section& section, Flows& flows) {
  flows.where = section.where();
  section.number("max", kFlowsMin, kFlowsMax, flows.max);
  read_timeout(section, "tcp_established", flows.tcp_established_s);
  read_timeout(section, "tcp_transitory", flows.tcp_transitory_s);
  read_timeout(section, "udp", flows.udp_s);
  read_timeout(section, "udp_stream", flows.udp_stream_s);
  read_timeout(section, "icmp", flows.icmp_s);
  read_timeout(section, "other", flows.other_s);
  section.one_text("reverse_path", [&](std::string_view text, unsigned) {
    return take_reverse_path(text, flows.reverse_path);
  });
  section.boolean("pickup", flows.pickup);
  section.one_text("filter_default", [&](std::string_view text, unsigned) {
    flows.accept_unmatched = text == "accept";
    return text == "accept" || text == "drop" ? std::string()
                                              : quoted(text) + " is not \"accept\" or \"drop\"";
  });
  section.finish();
}

}  // namespace sallyport::config
