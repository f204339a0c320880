// The conditions that rules, NAT and filters share.
#include "control/config_toml.h"

namespace sallyport::config {
namespace {

// DSCP: the two bits below are ECN's, which routers on the way change.
constexpr uint32_t kTosMask = 0xfc;

// Of a list, all or none are negated.
class Negation {
 public:
  // Takes the '!' off; false when this one differs from those before it.
  bool take(std::string_view& text) {
    const bool negated = text.starts_with('!');
    text.remove_prefix(negated);
    const bool fits = !known_ || *known_ == negated;
    known_ = negated;
    return fits;
  }
  bool negated() const { return known_.value_or(false); }

 private:
  std::optional<bool> known_;
};

constexpr std::string_view kMixed =
    "in one list either all begin with '!' or none: \"any of these\", or \"none of these\"";

// `take` gets each text without its '!'.
template <class Take>
bool read_negatable(Section& section, std::string_view key, bool numbers, const Take& take) {
  Negation negation;
  section.texts(
      key,
      [&](std::string_view text, unsigned) {
        return negation.take(text) ? take(text) : std::string(kMixed);
      },
      numbers);
  return negation.negated();
}

void read_addresses(Section& section, std::string_view key, Addresses& out) {
  out.negated = read_negatable(section, key, false, [&](std::string_view text) {
    if (text.starts_with('@')) {
      out.sets.emplace_back(text.substr(1));
      return std::string();
    }
    if (text == "all" || text == "any" || text == "default") {
      return quoted(text) + ": leave the key out, and the rule does not ask";
    }
    return append_prefix(text, out.prefixes);
  });
}

void read_names(Section& section, std::string_view key, Names& out) {
  out.negated = read_negatable(section, key, false, [&](std::string_view text) {
    out.values.emplace_back(text);
    return std::string(text.empty() ? "is empty" : "");
  });
}

void read_ports(Section& section, std::string_view key, Ports& out) {
  out.negated = read_negatable(section, key, true, [&](std::string_view text) {
    const auto range = parse_port_range(text);
    if (!range) {
      return range.error().text;
    }
    out.ranges.push_back(*range);
    return std::string();
  });
}

std::string take_family(std::string_view text, Family& out) {
  if (text == "ipv4" || text == "4") {
    out = Family::v4;
  } else if (text == "ipv6" || text == "6") {
    out = Family::v6;
  } else {
    return quoted(text) + " is not \"ipv4\" or \"ipv6\"; without the key a rule is for both";
  }
  return {};
}

std::string take_state(std::string_view text, std::vector<FlowState>& out) {
  static constexpr std::pair<std::string_view, FlowState> kStates[] = {
      {"new", FlowState::fresh},
      {"established", FlowState::established},
      {"related", FlowState::related},
      {"invalid", FlowState::invalid}};
  std::vector<std::string_view> known;
  for (const auto& [name, state] : kStates) {
    if (text == name) {
      out.push_back(state);
      return {};
    }
    known.push_back(name);
  }
  return not_known("state", text, known);
}

}  // namespace

void read_masked(Section& section, std::string_view key, uint32_t max, uint32_t mask,
                 std::optional<Masked>& out) {
  section.one_text(
      key,
      [&](std::string_view text, unsigned) {
        const bool negated = text.starts_with('!');
        const auto masked = parse_masked(text.substr(negated), max, mask);
        if (!masked) {
          return masked.error().text;
        }
        out = *masked;
        out->negated = negated;
        return std::string();
      },
      true);
}

void read_name(Section& section, std::string& out) {
  if (section.text("name", out)) {
    if (std::string problem = name_problem(out); !problem.empty()) {
      section.error("name", std::move(problem));
    }
  }
}

void read_match(Section& section, MatchOf of, Match& match) {
  section.one_text(
      "family", [&](std::string_view text, unsigned) { return take_family(text, match.family); },
      true);
  read_addresses(section, "from", match.from);
  read_addresses(section, "to", match.to);
  read_names(section, "iif", match.iif);
  if (of != MatchOf::rule) {
    read_names(section, "oif", match.oif);
    read_names(section, "exit", match.exit);
  }
  read_names(section, "peer", match.peer);
  match.protocols_negated = read_negatable(section, "ipproto", true, [&](std::string_view text) {
    const auto protocol = parse_protocol(text);
    if (!protocol) {
      return protocol.error().text;
    }
    match.protocols.push_back(*protocol);
    return std::string();
  });
  read_ports(section, "sport", match.sport);
  read_ports(section, "dport", match.dport);
  read_masked(section, "fwmark", UINT32_MAX, UINT32_MAX, match.fwmark);
  read_masked(section, "tos", UINT8_MAX, kTosMask, match.tos);
  if (of == MatchOf::filter) {
    match.states_negated = read_negatable(section, "state", false, [&](std::string_view text) {
      return take_state(text, match.states);
    });
  }
}

}  // namespace sallyport::config
