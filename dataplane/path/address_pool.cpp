#include "dataplane/path/address_pool.h"

#include <cstring>

namespace sallyport {
namespace {

uint64_t low_word(const IpAddress& address) {
  uint64_t value = 0;
  const size_t bytes = address.bits() / 8;
  for (size_t i = bytes < 8 ? 0 : bytes - 8; i < bytes; ++i) {
    value = value << 8 | address.bytes[i];
  }
  return value;
}

// Of a range that is longer, the first 2^64 - 1.
uint64_t size_of(const AddressRange& range) {
  if (range.first.family == Family::v6 &&
      std::memcmp(range.first.bytes.data(), range.last.bytes.data(), 8) != 0) {
    return UINT64_MAX;
  }
  const uint64_t beyond = low_word(range.last) - low_word(range.first);
  return beyond == UINT64_MAX ? beyond : beyond + 1;
}

IpAddress plus(IpAddress address, uint64_t number) {
  unsigned carry = 0;
  for (size_t i = address.bits() / 8; i-- > 0; number >>= 8) {
    const unsigned sum = address.bytes[i] + static_cast<unsigned>(number & 0xff) + carry;
    address.bytes[i] = static_cast<uint8_t>(sum);
    carry = sum >> 8;
  }
  return address;
}

}  // namespace

IpAddress pick(const std::vector<AddressRange>& pool, uint64_t number) {
  uint64_t total = 0;
  for (const AddressRange& range : pool) {
    const uint64_t size = size_of(range);
    total = total > UINT64_MAX - size ? UINT64_MAX : total + size;
  }
  number %= total;
  for (const AddressRange& range : pool) {
    const uint64_t size = size_of(range);
    if (number < size) {
      return plus(range.first, number);
    }
    number -= size;
  }
  return pool.back().last;
}

}  // namespace sallyport
