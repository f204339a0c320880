// ConfigToml: what the parts of the TOML reader say to each other.
//
// config_toml.cpp reads [host], [tunnel.*] and [set.*]; config_toml_rules.cpp reads [exit.*], [table.*] and [[rule]];
// config_toml_flows.cpp reads [[nat]], [[filter]] and [flows]; config_toml_match.cpp reads the conditions that some of these
// have in common. All fill a Config and report what stands wrongly; what a name refers to is config_check.cpp's matter.
// Thread rules: pure functions.
#pragma once

#include "control/config_section.h"

namespace sallyport::config {

void read_exit(Section& section, std::string_view name, Config& config);
void read_table(Section& section, std::string_view name, Config& config);
void read_rule(Section& section, Config& config);
void read_nat(Section& section, Config& config);
void read_filter(Section& section, Config& config);
void read_flows(Section& section, Flows& flows);

// Whose conditions: NAT and filters know more than rules do, since they are asked later.
enum class MatchOf { rule, nat, filter };
void read_match(Section& section, MatchOf of, Match& match);
void read_name(Section& section, std::string& out);

// "[!]VALUE[/MASK]"
void read_masked(Section& section, std::string_view key, uint32_t max, uint32_t mask,
                 std::optional<Masked>& out);

// A number of seconds, with or without a fraction, or a text; both bounds are in milliseconds.
bool read_duration_ms(Section& section, std::string_view key, uint64_t min, uint64_t max,
                      uint64_t& out);

// A prefix with or without '!', or "@set" likewise: where it goes is the caller's.
struct Member {
  std::string_view text;  // without '!' and '@'
  bool negated = false;
  bool set = false;
};
Member member_of(std::string_view text);

// Appends the prefix; an empty text, or what is wrong.
std::string append_prefix(std::string_view text, std::vector<IpPrefix>& to);

}  // namespace sallyport::config
