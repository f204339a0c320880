// ConfigToml: what the two halves of the TOML reader say to each other.
//
// config_toml.cpp reads [host], [tunnel.*] and [set.*]; config_toml_rules.cpp reads [exit.*], [table.*] and [[rule]]. Both fill
// a Config and report what stands wrongly; what a name refers to is config_check.cpp's matter.
// Thread rules: pure functions.
#pragma once

#include "control/config_section.h"

namespace sallyport::config {

void read_exit(Section& section, std::string_view name, Config& config);
void read_table(Section& section, std::string_view name, Config& config);
void read_rule(Section& section, Config& config);

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
