// ConfigWgQuick: a wg-quick file as a Tunnel, and what to write instead of its hooks.
//
// Thread rules: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "control/config_section.h"

namespace sallyport::config {

// Fills `tunnel` (its name and place stay) and reports under report.file. Names of peers come from comments.
void read_wg_quick_tunnel(std::string_view text, Report& report, Tunnel& tunnel);

// What a PreUp or PostUp line of that tunnel is replaced by: one sentence for each command in it, never none.
std::vector<std::string> hook_replacements(std::string_view line, std::string_view tunnel);

// The first characters of a key's base64: what a peer without a name is called.
std::string short_key(const KeyBytes& key);

// Warns when everybody may read a file that holds a secret; true when it did.
bool warn_of_mode(unsigned mode, const Tunnel& tunnel, Report& report);

}  // namespace sallyport::config
