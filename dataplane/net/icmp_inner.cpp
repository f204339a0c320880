#include "dataplane/net/icmp_inner.h"

#include <algorithm>
#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "dataplane/net/l4.h"
#include "dataplane/net/parse.h"

namespace sallyport {
namespace {

// Every sender quotes this much of an L4 header at least (RFC 792).
constexpr uint32_t kL4Quoted = 8;

bool quotes(Family family, uint8_t type) {
  return family == Family::v4 ? type == 3 || type == 4 || type == 11 || type == 12
                              : type >= 1 && type <= 4;
}

// Where RFC 4884 allows extensions behind the quoted packet, a length that is not zero says where that ends.
uint32_t quoted_bytes(Family family, const uint8_t* icmp, uint32_t available) {
  const uint8_t type = icmp[0];
  const bool v4 = family == Family::v4;
  const bool extensible = v4 ? type == 3 || type == 11 || type == 12 : type == 1 || type == 3;
  const uint32_t said = !extensible ? 0u : v4 ? icmp[5] * 4u : icmp[4] * 8u;
  return said == 0 ? available : std::min(said, available);
}

bool checksum_right(const Run& run) {
  if (run.offload.needs_checksum || run.offload.checksum_valid) {
    return true;
  }
  const uint32_t length = run.head_bytes - run.l4_offset;
  const uint64_t pseudo = run.family == Family::v4
                              ? 0  // ICMP has none
                              : checksum_pseudo(run.head, run.family, run.protocol, length);
  return checksum_fold(checksum_add(pseudo, run.head + run.l4_offset, length)) == 0xffff;
}

uint32_t length_said(const Run& packet) {
  return packet.family == Family::v4
             ? uint32_t{load<be16>(packet.head + offsetof(Ipv4Header, total_length))}
             : uint32_t{load<be16>(packet.head + offsetof(Ipv6Header, payload_length))} +
                   uint32_t{sizeof(Ipv6Header)};
}

bool is_whole_icmp(const Run& run) {
  const uint8_t icmp = run.family == Family::v4 ? kProtocolIcmp : kProtocolIcmpv6;
  return run.protocol == icmp && run.first_piece == kNoPiece &&
         run.l4_offset + sizeof(IcmpHeader) <= run.head_bytes &&
         quotes(run.family, run.head[run.l4_offset]);
}

}  // namespace

Quote find_quoted(const Run& run, Quoted& out) {
  if (!is_whole_icmp(run)) {
    return Quote::none;
  }
  if (run.fragment) {
    return Quote::fragment;
  }
  if (!checksum_right(run)) {
    return Quote::damaged;
  }
  uint8_t* icmp = run.head + run.l4_offset;
  const uint32_t available = run.head_bytes - run.l4_offset - uint32_t{sizeof(IcmpHeader)};
  out = Quoted{};
  Run& packet = out.packet;
  packet.head = icmp + sizeof(IcmpHeader);
  packet.head_bytes = packet.bytes = quoted_bytes(run.family, icmp, available);
  if (!parse_quoted(packet) || packet.family != run.family) {
    return Quote::too_short;
  }
  if (packet.family == Family::v4 &&
      checksum_fold(checksum_add(
          0, packet.head, reinterpret_cast<Ipv4Header*>(packet.head)->header_bytes())) != 0xffff) {
    return Quote::damaged;
  }
  packet.head_bytes = packet.bytes = std::min(packet.head_bytes, length_said(packet));
  if (packet.protocol != 0 && packet.l4_offset + kL4Quoted > packet.head_bytes) {
    return Quote::too_short;
  }
  packet.l4_offset = static_cast<uint16_t>(std::min<uint32_t>(packet.l4_offset, packet.head_bytes));
  out.ends = ends_of(packet);
  return Quote::found;
}

void rewrite_quoted(Run& run, Quoted& quoted, const Ends& quoted_to, const Ends& outer_to) {
  // What changes of the quoted packet, its checksums among it, lies between its beginning and here.
  const uint32_t changing = std::min<uint32_t>(
      quoted.packet.head_bytes, quoted.packet.l4_offset + uint32_t{sizeof(TcpHeader)});
  const uint16_t was = checksum_fold(checksum_add(0, quoted.packet.head, changing));
  (void)rewrite_quoted_head(quoted.packet, quoted_to);
  const uint16_t becomes = checksum_fold(checksum_add(0, quoted.packet.head, changing));
  quoted.ends = ends_of(quoted.packet);

  const bool unfinished = run.offload.needs_checksum && run.offload.checksum_start == run.l4_offset;
  if (was != becomes && !unfinished) {
    checksum_apply(run.head + run.l4_offset + offsetof(IcmpHeader, checksum),
                   uint64_t{static_cast<uint16_t>(~was)} + becomes);
  }
  (void)rewrite_quoted_head(run, outer_to);  // an error has no id: its addresses change
}

}  // namespace sallyport
