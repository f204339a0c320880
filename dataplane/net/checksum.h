// The internet checksum (RFC 1071), in parts: sums add up, and folding comes last.
//
// A sum is kept as 64 bits in native byte order: ones' complement addition does not care, as long as all parts agree
// and each part but the last is of even length. About 10 bytes a cycle on data in cache.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/net/address.h"

namespace sallyport {

uint64_t checksum_add(uint64_t sum, const uint8_t* bytes, size_t length);

// 16 bits in native order: store it with memcpy, or through checksum_store.
uint16_t checksum_fold(uint64_t sum);

// The pseudo-header's part (RFC 9293 3.1, RFC 8200 8.1). `ip` is the IP header, `length` that of the L4 header and payload.
uint64_t checksum_pseudo(const uint8_t* ip, Family family, uint8_t protocol, uint32_t length);

// Writes the complement of the folded sum into a checksum field; a UDP sum of zero is sent as 0xffff (RFC 768).
void checksum_store(uint8_t* field, uint64_t sum, bool udp = false);

// Recomputes an IPv4 header's checksum over `header_bytes`.
void checksum_ipv4(uint8_t* ip, size_t header_bytes);

// Changes one 16-bit word that a checksum covers (RFC 1624): all three are wire bytes, `word` at an even offset.
void checksum_replace16(uint8_t* field, uint8_t* word, uint16_t value_network_order);

// What `length` bytes that become others do to a sum that covers them; changes add up. The length is even, and so is the
// offset of the bytes in what is summed.
uint64_t checksum_change(uint64_t change, const uint8_t* was, const uint8_t* becomes,
                         size_t length);

// Applies a change to a checksum field (RFC 1624): no change, no store. `udp`: 0 is written as 0xffff.
void checksum_apply(uint8_t* field, uint64_t change, bool udp = false);

// The same for a field that holds the pseudo-header's sum only, not complemented (Offload::needs_checksum).
void checksum_apply_partial(uint8_t* field, uint64_t change);

}  // namespace sallyport
