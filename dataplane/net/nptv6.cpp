#include "dataplane/net/nptv6.h"

#include <algorithm>
#include <cstring>

#include "dataplane/net/checksum.h"

namespace sallyport {
namespace {

constexpr size_t kPrefixBytes = Nptv6::kLengthMax / 8;
constexpr uint8_t kSubnetLengthMax = 48;  // up to here a prefix leaves bits 48 to 63 to adjust

uint16_t load16(const uint8_t* bytes) {
  uint16_t word;
  std::memcpy(&word, bytes, 2);
  return word;
}

// What must be added to a sum that has `from` no longer, and `to` instead.
uint16_t make_up_for(const uint8_t* from, const uint8_t* to) {
  return checksum_fold(checksum_add(0, from, kPrefixBytes) +
                       static_cast<uint16_t>(~checksum_fold(checksum_add(0, to, kPrefixBytes))));
}

}  // namespace

std::optional<Nptv6> Nptv6::make(const IpPrefix& inside, const IpPrefix& outside) {
  if (inside.address.family != Family::v6 || outside.address.family != Family::v6 ||
      inside.length > kLengthMax || outside.length > kLengthMax) {
    return std::nullopt;
  }
  Nptv6 map;
  map.length_ = std::max(inside.length, outside.length);
  for (unsigned bit = 0; bit < map.length_; ++bit) {
    map.mask_[bit / 8] |= static_cast<uint8_t>(0x80 >> bit % 8);
  }
  std::memcpy(map.out_.prefix, outside.address.bytes.data(), kPrefixBytes);
  std::memcpy(map.in_.prefix, inside.address.bytes.data(), kPrefixBytes);
  map.out_.adjustment = make_up_for(map.in_.prefix, map.out_.prefix);
  map.in_.adjustment = make_up_for(map.out_.prefix, map.in_.prefix);
  return map;
}

bool Nptv6::has_prefix(const Way& way, const uint8_t* address) const {
  for (size_t i = 0; i < kPrefixBytes; ++i) {
    if (((address[i] ^ way.prefix[i]) & mask_[i]) != 0) {
      return false;
    }
  }
  return true;
}

bool Nptv6::is_inside(const uint8_t* address) const {
  return has_prefix(in_, address);
}

bool Nptv6::is_outside(const uint8_t* address) const {
  return has_prefix(out_, address);
}

bool Nptv6::to_outside(uint8_t* address) const {
  return translate(out_, address);
}

bool Nptv6::to_inside(uint8_t* address) const {
  return translate(in_, address);
}

bool Nptv6::translate(const Way& way, uint8_t* address) const {
  // 0xffff is another way to write zero, and would not come back as what it was.
  size_t word = length_ <= kSubnetLengthMax ? 6 : 8;
  while (word >= 8 && word < 16 && load16(address + word) == 0xffff) {
    word += 2;
  }
  if (word == 16 || load16(address + word) == 0xffff) {
    return false;
  }
  for (size_t i = 0; i < kPrefixBytes; ++i) {
    address[i] = static_cast<uint8_t>((address[i] & ~mask_[i]) | (way.prefix[i] & mask_[i]));
  }
  uint16_t adjusted = checksum_fold(uint64_t{load16(address + word)} + way.adjustment);
  if (adjusted == 0xffff) {
    adjusted = 0;
  }
  std::memcpy(address + word, &adjusted, 2);
  return true;
}

}  // namespace sallyport
