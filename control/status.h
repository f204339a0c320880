// What `sallyport status` says of one tunnel: as JSON, made in the daemon, and as text, made from it.
//
// The JSON is the interface (docs/uapi.md lists its members): counters are totals since start, drops are
// named as in dataplane/path/drop.h and only those that happened are there. No private or preshared key
// is in it. The text is for eyes and may change. Pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "control/link_watch.h"
#include "dataplane/engine.h"

namespace sallyport {

using Json = nlohmann::ordered_json;  // members stay in the order of importance

struct StatusFacts {
  std::string interface;
  LinkState link;
  uint16_t listen_port = 0;
  int64_t now = 0;  // Unix time, seconds
};

Json status_json(const StatusFacts& facts, const TunnelState& tunnel, const EngineStatus& engine);

// Losses by name, of an array by DropReason; only those that happened.
template <class Counts>
Json drops_json(const Counts& counts) {
  Json drops = Json::object();
  for (size_t i = 1; i < counts.size(); ++i) {
    if (counts[i] != 0) {
      drops[std::string(drop_name(static_cast<DropReason>(i)))] = counts[i];
    }
  }
  return drops;
}

// `earlier` is a report taken a moment before, for the load of just now.
std::string status_text(const Json& report, const Json& earlier);

// Words for eyes: "1.2 MiB", "5 min".
std::string amount(uint64_t bytes);
std::string span_of_time(int64_t seconds);

}  // namespace sallyport
