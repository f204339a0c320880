// Check: `sallyport check FILE`: is this a configuration, and if not, what is wrong with it.
//
// Every error of the file at once, each "file:line: key: text" on stderr, warnings too; then one line that sums up. List files are
// read as well, and keys are looked for, since a reload would stumble over them. Nothing of the host is asked or changed.
#pragma once

#include <string>
#include <vector>

#include "control/config.h"
#include "control/policy_assets.h"

namespace sallyport {

// What a checked configuration refers to, and what it would do: list files, keys (build.h says which), loops. The sets that
// were read for it are built, and not in force.
PolicyAssets::Prepared check_beyond(const config::Config& config, bool with_credentials,
                                    std::vector<config::Problem>& problems);

// Returns the program's exit status: 0 when the file can be used.
int run_check(const std::string& path);

// "wglan.toml: ok: 2 tunnels, 3 peers, 1 set, 2 exits, 1 table, 4 rules"
std::string check_summary(const config::Config& config);

}  // namespace sallyport
