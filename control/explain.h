// Explain: a trace in words: which rule of which line matched, by which entry of which set, what the table said, which exit
// was taken and why, where the packet went.
//
// The numbers come from the stages themselves (path/trace.h); here they only get their names back. So what `explain` and
// `trace` say is what the data plane did.
//
// Thread rules: pure functions.
#pragma once

#include <string>
#include <vector>

#include "control/build.h"
#include "control/packet_query.h"
#include "control/status.h"
#include "dataplane/engine.h"

namespace sallyport {

// What a trace is about, from the packet's first bytes.
struct PacketFacts {
  IpAddress source, destination;
  std::string text;  // "tcp 10.0.0.5:40000 -> 198.51.100.7:443"
};
PacketFacts packet_facts(const uint8_t* packet, uint32_t bytes);

// A packet as the query describes it: headers, and as many zeros as its size asks for. Both addresses must be given.
std::vector<uint8_t> make_packet(const PacketQuery& query);

// The steps, each {"stage", "text"} and, where it stands in a file, {"file", "line"}.
Json steps_json(const Trace& trace, const PolicyNames& names, const PacketFacts& packet);

// What became of it in the end: the last step's sentence.
std::string verdict_text(const Trace& trace, const PolicyNames& names);

Json step_json(const std::string& stage, const std::string& text, const config::Where& where = {});

}  // namespace sallyport
