// ConfigDiff: what a reload would change, in words.
//
// One line each, in the order of a file: host, tunnels with their peers, sets, exits, tables, rules. Things are known by
// their names; peers by their public keys first, then by their names; rules by priority, and among equals by their order.
// What only moved in the file, or was reformatted, is no change. Secrets are never printed and never compared but by where they
// come from: "the private key changes".
//
// Cannot: see what is in list files and key files; a reload reads those again in any case.
// Costs: n log n of what is in the files. Thread rules: pure.
#pragma once

#include <string>
#include <vector>

#include "control/config.h"

namespace sallyport::config {

// Empty: nothing would change.
std::vector<std::string> diff(const Config& from, const Config& to);

}  // namespace sallyport::config
