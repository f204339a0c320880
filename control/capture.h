// Capture: which destinations the host is to route into which tunnel, from a configuration and its sets.
//
// A prefix captured twice is the first tunnel's of the file; where a hole and a prefix are the same, the hole counts, but within
// one set the last of them, as everywhere.
// Holes are `throw` routes: the host goes on with its next rule.
//
// Endpoints that are to be routed around (control/reverse_path.h) are holes, too.
//
// Thread rules: pure.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "control/config.h"
#include "control/host_routes.h"

namespace sallyport {

// The content of a set, list file and inline ones together; of two equal prefixes the last counts.
using SetEntries = std::function<const std::vector<config::Set::Entry>&(const std::string& set)>;

// `links`: the ifindex of each tunnel.
std::vector<HostRoute> captured_routes(const config::Config& config, const SetEntries& entries,
                                       const std::map<std::string, uint32_t>& links,
                                       const std::vector<IpAddress>& around = {});

}  // namespace sallyport
