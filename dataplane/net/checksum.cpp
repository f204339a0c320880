#include "dataplane/net/checksum.h"

#include <cstring>

#include "dataplane/net/headers.h"

namespace sallyport {
namespace {

uint16_t load16(const uint8_t* bytes) {
  uint16_t word;
  std::memcpy(&word, bytes, 2);
  return word;
}

uint64_t add_block(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, 8);
  return (word & 0xffffffff) + (word >> 32);
}

}  // namespace

uint64_t checksum_add(uint64_t sum, const uint8_t* bytes, size_t length) {
  uint64_t a = 0, b = 0, c = 0, d = 0;  // four chains: the sum is bound by latency, not by adders
  for (; length >= 32; bytes += 32, length -= 32) {
    a += add_block(bytes);
    b += add_block(bytes + 8);
    c += add_block(bytes + 16);
    d += add_block(bytes + 24);
  }
  for (; length >= 8; bytes += 8, length -= 8) {
    a += add_block(bytes);
  }
  for (; length >= 2; bytes += 2, length -= 2) {
    b += load16(bytes);
  }
  if (length == 1) {
    const uint8_t last[2] = {*bytes, 0};
    c += load16(last);
  }
  // None can overflow: a packet holds fewer than 2^14 words of 32 bits, and sums of packets are folded in between.
  return sum + a + b + c + d;
}

uint16_t checksum_fold(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

uint64_t checksum_pseudo(const uint8_t* ip, Family family, uint8_t protocol, uint32_t length) {
  const struct {
    be32 length;
    be32 protocol;
  } rest = {length, protocol};
  const uint64_t sum = checksum_add(0, reinterpret_cast<const uint8_t*>(&rest), sizeof(rest));
  return family == Family::v4 ? checksum_add(sum, ip + offsetof(Ipv4Header, source), 8)
                              : checksum_add(sum, ip + offsetof(Ipv6Header, source), 32);
}

void checksum_store(uint8_t* field, uint64_t sum, bool udp) {
  auto value = static_cast<uint16_t>(~checksum_fold(sum));
  if (udp && value == 0) {
    value = 0xffff;
  }
  std::memcpy(field, &value, 2);
}

void checksum_ipv4(uint8_t* ip, size_t header_bytes) {
  uint8_t* field = ip + offsetof(Ipv4Header, checksum);
  std::memset(field, 0, 2);
  checksum_store(field, checksum_add(0, ip, header_bytes));
}

void checksum_replace16(uint8_t* field, uint8_t* word, uint16_t value_network_order) {
  const uint64_t sum = uint64_t{static_cast<uint16_t>(~load16(field))} +
                       static_cast<uint16_t>(~load16(word)) + value_network_order;
  std::memcpy(word, &value_network_order, 2);
  const auto updated = static_cast<uint16_t>(~checksum_fold(sum));
  std::memcpy(field, &updated, 2);
}

uint64_t checksum_change(uint64_t change, const uint8_t* was, const uint8_t* becomes,
                         size_t length) {
  if (std::memcmp(was, becomes, length) == 0) {
    return change;
  }
  return change + static_cast<uint16_t>(~checksum_fold(checksum_add(0, was, length))) +
         checksum_fold(checksum_add(0, becomes, length));
}

void checksum_apply(uint8_t* field, uint64_t change, bool udp) {
  if (change != 0) {
    checksum_store(field, change + static_cast<uint16_t>(~load16(field)), udp);
  }
}

void checksum_apply_partial(uint8_t* field, uint64_t change) {
  if (change != 0) {
    const uint16_t sum = checksum_fold(change + load16(field));
    std::memcpy(field, &sum, 2);
  }
}

}  // namespace sallyport
