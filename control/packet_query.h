// PacketQuery: the packet that `sallyport explain` asks about, and the filter of `sallyport trace`.
//
// The client writes it as JSON into its request, the daemon reads it from there, both by this one file, so that a wrong
// word is refused with the same sentence on either side. What is not given is left open: explain fills in what a packet needs,
// trace lets everything through.
//
// Thread rules: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "control/status.h"
#include "dataplane/base/result.h"
#include "dataplane/net/address.h"

namespace sallyport {

struct PacketQuery {
  std::optional<IpPrefix> from, to;  // explain: whole addresses; trace: any prefix
  std::optional<uint8_t> protocol;
  std::optional<uint16_t> source_port, destination_port;
  std::string iif;   // "host", or a tunnel's name; empty: open
  std::string peer;  // "TUNNEL/PEER" or "PEER"
  std::optional<uint32_t> mark;
  std::optional<uint8_t> tos;
  std::optional<uint16_t> size;  // bytes of the inner packet; explain only
  bool drops = false;            // trace: only packets that are discarded
};

// As a person writes it on the command line; an empty text leaves a part open.
struct PacketQueryWords {
  std::string from, to, protocol, source_port, destination_port, iif, peer, mark, tos, size;
  bool drops = false;
};

Result<PacketQuery> read_query(const PacketQueryWords& words);

// For explain: both addresses are given, whole, and of one family; ports only with a protocol that has them.
Result<void> check_whole(const PacketQuery& query);

// Members: from to protocol sport dport iif peer mark tos size drops; those left open are absent.
void write_query(const PacketQuery& query, Json& request);
Result<PacketQuery> read_query(const Json& request);

// "tcp", "udp", "icmp", "icmpv6", or the number.
std::string protocol_name(uint8_t protocol);
Result<uint8_t> protocol_number(const std::string& text);

}  // namespace sallyport
