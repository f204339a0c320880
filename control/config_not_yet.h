// ConfigNotYet: what a configuration may say and the data path does not do yet.
//
// Every key of docs/config.md is read and checked. What nothing acts upon is then refused here, so that a configuration in force
// has no part that is silently without effect. One flag for each; it is turned on with the code that does it.
// Thread rules: pure functions.
#pragma once

#include <vector>

#include "control/config.h"

namespace sallyport::config {

struct Done {
  bool nat = true;
  bool nptv6 = true;
  bool endpoint_independent = true;
  bool unpaired = true;  // paired = false
  bool filter = true;
  bool flows = true;     // [flows]
  bool via = true;       // of a tunnel
  bool path_mtu = true;  // of a tunnel or a peer
  bool mss = true;       // clamping, and the key
};
inline constexpr Done kDone;

// An error for each thing that is not done.
void not_yet(const Config& config, std::vector<Problem>& problems, const Done& done = kDone);

}  // namespace sallyport::config
