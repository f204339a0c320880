// ReversePath: does the host drop what comes from an endpoint that we capture?
//
// A strict reverse path filter (rp_filter = 1) asks by which way the host would answer, without the mark of our sockets (unless
// src_valid_mark is set). For an endpoint inside a captured set that is the tunnel, so the peer's own datagrams would be dropped.
// Where the filter is strict, such endpoints are routed around as a whole (control/capture.h), and no sysctl is needed.
//
// IPv6 has no such filter. Reads /proc/sys of the network namespace it runs in.
#pragma once

#include <string>

namespace sallyport {

// Some interface checks strictly, and looks at no mark.
bool is_reverse_path_strict(const std::string& directory = "/proc/sys/net/ipv4/conf");

}  // namespace sallyport
