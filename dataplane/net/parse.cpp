#include "dataplane/net/parse.h"

#include <algorithm>
#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"

namespace sallyport {
namespace {

constexpr unsigned kExtensionsMax = 8;  // a chain longer than this is nobody's honest packet

bool parse_v4(Run& run) {
  const auto* ip = reinterpret_cast<const Ipv4Header*>(run.head);
  run.family = Family::v4;
  run.tos = ip->tos;
  run.l4_offset = static_cast<uint16_t>(ip->header_bytes());
  run.protocol = (ip->fragment & kIpv4FragmentOffset) == 0 ? ip->protocol : 0;
  run.fragment = (ip->fragment & (kIpv4MoreFragments | kIpv4FragmentOffset)) != 0;
  return true;
}

bool parse_v6(Run& run, uint32_t length) {
  const auto* ip = reinterpret_cast<const Ipv6Header*>(run.head);
  run.family = Family::v6;
  run.tos = ip->traffic_class();
  uint8_t next = ip->next_header;
  uint32_t offset = sizeof(Ipv6Header);
  run.fragment = false;
  for (unsigned i = 0; i < kExtensionsMax; ++i) {
    if (next != kHopByHop && next != kRouting && next != kFragment && next != kDestinationOptions) {
      run.protocol = next;
      run.l4_offset = static_cast<uint16_t>(offset);
      return true;
    }
    if (offset + 8 > length) {
      return false;
    }
    const uint8_t* extension = run.head + offset;
    if (next == kFragment) {
      const uint16_t word = load<be16>(extension + 2);
      // One that says "all of it" (RFC 6946) makes no fragment.
      run.fragment |= (word & (kIpv6FragmentOffset | kIpv6MoreFragments)) != 0;
      if ((word & kIpv6FragmentOffset) != 0) {
        run.protocol = 0;  // no L4 header in here
        run.l4_offset = static_cast<uint16_t>(offset + 8);
        return true;
      }
    }
    offset += next == kFragment ? 8u : (extension[1] + 1u) * 8u;
    next = extension[0];
    if (offset > length) {
      return false;
    }
  }
  return false;
}

}  // namespace

uint32_t ip_length(const uint8_t* packet, uint32_t available) {
  if (available < sizeof(Ipv4Header)) {
    return 0;
  }
  uint32_t length = 0;
  if (packet[0] >> 4 == 4) {
    const auto* ip = reinterpret_cast<const Ipv4Header*>(packet);
    length = ip->total_length;
    if (ip->header_bytes() < sizeof(Ipv4Header) || length < ip->header_bytes()) {
      return 0;
    }
  } else if (packet[0] >> 4 == 6 && available >= sizeof(Ipv6Header)) {
    length = uint32_t{reinterpret_cast<const Ipv6Header*>(packet)->payload_length} +
             static_cast<uint32_t>(sizeof(Ipv6Header));
  }
  return length <= available ? length : 0;
}

bool parse(Run& run) {
  const uint32_t length = ip_length(run.head, run.head_bytes);
  if (length == 0 || length > UINT16_MAX) {
    return false;
  }
  return run.head[0] >> 4 == 4 ? parse_v4(run) : parse_v6(run, length);
}

bool parse_quoted(Run& run) {
  const uint32_t length = run.head_bytes;
  if (length < sizeof(Ipv4Header) || length > UINT16_MAX) {
    return false;
  }
  if (run.head[0] >> 4 == 4) {
    const auto* ip = reinterpret_cast<const Ipv4Header*>(run.head);
    const uint32_t header = ip->header_bytes();
    return header >= sizeof(Ipv4Header) && header <= length && ip->total_length >= header &&
           parse_v4(run);
  }
  return run.head[0] >> 4 == 6 && length >= sizeof(Ipv6Header) && parse_v6(run, length);
}

bool may_answer(const Run& run) {
  const auto all_zero = [](const uint8_t* bytes, size_t length) {
    return std::all_of(bytes, bytes + length, [](uint8_t byte) { return byte == 0; });
  };
  if (run.family == Family::v4) {
    return run.destination()[0] < 224 && !all_zero(run.destination(), 4) && run.source()[0] < 224 &&
           !all_zero(run.source(), 4) && run.source()[0] != 127;
  }
  return run.destination()[0] != 0xff && !all_zero(run.destination(), 16) &&
         run.source()[0] != 0xff && !all_zero(run.source(), 16);
}

bool ecn_decapsulate(Run& run, uint8_t outer_tos) {
  constexpr uint8_t kEct1 = 1, kCe = 3;
  const uint8_t outer = outer_tos & 3, inner = run.tos & 3;
  if (inner == 0) {
    return outer != kCe;
  }
  if (inner == kCe || (outer != kCe && outer != kEct1) || outer == inner) {
    return true;
  }
  run.tos = static_cast<uint8_t>((run.tos & ~3) | outer);
  if (run.family == Family::v4) {
    uint8_t word[2] = {run.head[0], run.tos};
    uint16_t value;
    std::memcpy(&value, word, 2);
    checksum_replace16(run.head + offsetof(Ipv4Header, checksum), run.head, value);
  } else {
    run.head[1] = static_cast<uint8_t>((run.head[1] & 0xcf) | (outer << 4));
  }
  return true;
}

}  // namespace sallyport
