#include "dataplane/net/rewrite.h"

#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "dataplane/net/l4.h"

namespace sallyport {
namespace {

using Identity = L4Layout::Identity;
using Check = L4Layout::Check;

// Polynomials over GF(2) modulo that of CRC-32C, bit 31 standing for x^0.
constexpr uint32_t kOne = 0x80000000, kXToThe8 = 0x00800000, kCrc32c = 0x82f63b78;

uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (; a != 0; a <<= 1) {
    product ^= (a & kOne) != 0 ? b : 0;
    b = (b >> 1) ^ ((b & 1) != 0 ? kCrc32c : 0);
  }
  return product;
}

// What a difference in the first four of `length` bytes does to their CRC: the CRC of that difference and zeros behind it.
uint32_t crc_change(uint32_t difference, uint32_t length) {
  for (uint32_t power = kXToThe8; length != 0; length >>= 1) {
    if ((length & 1) != 0) {
      difference = multiply(difference, power);
    }
    power = multiply(power, power);
  }
  return difference;
}

// RFC 791 3.1: loose and strict source route; the pointer is beyond the option when all are visited.
bool is_source_routed_v4(const Run& run) {
  for (uint32_t at = sizeof(Ipv4Header); at + 3 <= run.l4_offset;) {
    const uint8_t kind = run.head[at];
    if (kind == 0) {
      return false;
    }
    const uint8_t length = run.head[at + 1];
    if ((kind == 131 || kind == 137) && run.head[at + 2] <= length) {
      return true;
    }
    if (kind != 1 && length < 2) {
      return false;
    }
    at += kind == 1 ? 1u : length;
  }
  return false;
}

bool is_source_routed_v6(const Run& run) {
  uint8_t next = reinterpret_cast<const Ipv6Header*>(run.head)->next_header;
  for (uint32_t at = sizeof(Ipv6Header); at + 8 <= run.l4_offset;) {
    const uint8_t* extension = run.head + at;
    if (next == kRouting && extension[3] != 0) {
      return true;
    }
    at += next == kFragment ? 8u : (extension[1] + 1u) * 8u;
    next = extension[0];
  }
  return false;
}

bool is_source_routed(const Run& run) {
  return run.family == Family::v4 ? run.l4_offset > sizeof(Ipv4Header) && is_source_routed_v4(run)
                                  : run.l4_offset > sizeof(Ipv6Header) && is_source_routed_v6(run);
}

// The bytes of an L4 packet, as its IP header has them; 0 for a fragment. Not what there is: a quoted one is cut short.
uint32_t l4_bytes(const Run& run) {
  if (run.fragment) {
    return 0;
  }
  const uint32_t length =
      run.family == Family::v4
          ? uint32_t{load<be16>(run.head + offsetof(Ipv4Header, total_length))}
          : uint32_t{load<be16>(run.head + offsetof(Ipv6Header, payload_length))} +
                uint32_t{sizeof(Ipv6Header)};
  return length > run.l4_offset ? length - run.l4_offset : 0;
}

// The L4 header of a run, as far as it is there.
struct L4 {
  uint8_t* at;
  uint32_t available;
  L4Layout layout;

  explicit L4(const Run& run)
      : at(run.head + run.l4_offset),
        available(run.head_bytes > run.l4_offset ? run.head_bytes - run.l4_offset : 0),
        // Protocol 0 in IPv4 is nobody's; here it says that there is no header.
        layout(l4_layout(run.family, run.protocol, at, available)) {}

  uint32_t identity_offset() const {
    return layout.identity == Identity::id ? L4Layout::kIcmpId : 0;
  }
  uint32_t identity_bytes() const {
    return layout.identity == Identity::none ? 0 : layout.identity == Identity::id ? 2 : 4;
  }
  bool has_identity() const {
    return identity_bytes() > 0 && identity_offset() + identity_bytes() <= available;
  }
};

uint64_t replace_address(uint8_t* at, const uint8_t* address, size_t length, uint64_t change) {
  if (address != nullptr) {
    change = checksum_change(change, at, address, length);
    std::memcpy(at, address, length);
  }
  return change;
}

bool is_unfinished(const Run& run, const L4Layout& layout) {
  return run.offload.needs_checksum && run.offload.checksum_start == run.l4_offset &&
         run.offload.checksum_offset == layout.check_offset;
}

// `addresses` and `ports` have changed the sum by that much.
void mend_internet(const Run& run, const L4& l4, uint64_t addresses, uint64_t ports) {
  uint8_t* field = l4.at + l4.layout.check_offset;
  if (!l4.layout.covers_addresses) {
    addresses = 0;
  }
  if (is_unfinished(run, l4.layout)) {
    checksum_apply_partial(field, addresses);  // who finishes it will sum up the ports
  } else if (!l4.layout.zero_is_none || field[0] != 0 || field[1] != 0) {
    checksum_apply(field, addresses + ports, l4.layout.zero_is_none);
  }
}

Rewritten rewrite_head(Run& run, const Ends& to, bool quoted) {
  const L4 l4(run);
  if (!quoted && l4.available < l4.layout.header_bytes) {
    return Rewritten::too_short;
  }
  if (!quoted && is_source_routed(run)) {
    return Rewritten::source_routed;
  }
  uint8_t identity[4];
  std::memcpy(identity, &to.source_port, 2);
  std::memcpy(identity + 2, &to.destination_port, 2);
  const uint32_t identity_bytes = l4.has_identity() ? l4.identity_bytes() : 0;
  uint8_t* at = l4.at + l4.identity_offset();
  const bool renamed = identity_bytes > 0 && std::memcmp(at, identity, identity_bytes) != 0;
  const bool crc = renamed && l4.layout.check == Check::crc32c;
  const uint32_t crc_bytes = crc ? l4_bytes(run) : 0;
  if (crc && crc_bytes == 0 && !quoted) {
    return Rewritten::sctp_fragmented;
  }
  // Beyond this point it will be done.

  const bool v4 = run.family == Family::v4;
  const size_t address_bytes = v4 ? 4 : 16;
  uint8_t* source = run.head + (v4 ? offsetof(Ipv4Header, source) : offsetof(Ipv6Header, source));
  uint64_t addresses = replace_address(source, to.source, address_bytes, 0);
  addresses = replace_address(source + address_bytes, to.destination, address_bytes, addresses);
  if (v4) {
    checksum_apply(run.head + offsetof(Ipv4Header, checksum), addresses);
  }
  uint64_t ports = 0;
  uint32_t difference = 0;
  if (renamed) {
    ports = checksum_change(0, at, identity, identity_bytes);
    difference = crc ? load<le32>(at) ^ load<le32>(identity) : 0;
    std::memcpy(at, identity, identity_bytes);
  }
  const uint32_t check_bytes = l4.layout.check == Check::crc32c ? 4 : 2;
  if (l4.layout.check == Check::none || l4.layout.check_offset + check_bytes > l4.available) {
    return Rewritten::done;
  }
  if (l4.layout.check == Check::internet) {
    mend_internet(run, l4, addresses, ports);
  } else if (crc_bytes > 0) {
    uint8_t* field = l4.at + l4.layout.check_offset;
    const le32 value = load<le32>(field) ^ crc_change(difference, crc_bytes);
    std::memcpy(field, &value, sizeof(value));
  }
  return Rewritten::done;
}

}  // namespace

Ends ends_of(const Run& run) {
  Ends ends{run.source(), run.destination()};
  const L4 l4(run);
  if (l4.has_identity()) {
    const uint8_t* at = l4.at + l4.identity_offset();
    ends.source_port = load<be16>(at);
    ends.destination_port = load<be16>(l4.identity_bytes() == 4 ? at + 2 : at);
  }
  return ends;
}

Rewritten rewrite(Run& run, const Ends& to) {
  return rewrite_head(run, to, false);
}

Rewritten rewrite_quoted_head(Run& quoted, const Ends& to) {
  return rewrite_head(quoted, to, true);
}

}  // namespace sallyport
