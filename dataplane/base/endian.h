// Wire integers: unaligned, byte order in the type, so that a struct over packet bytes is a plain
// struct and no ntohs is ever forgotten. A be16 reads as a uint16_t and is assigned from one;
// sizeof and alignof are those of bytes.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace sallyport {

template <class Word, std::endian order>
class WireInt {
 public:
  WireInt() = default;
  WireInt(Word value) { *this = value; }

  operator Word() const {
    Word value;
    std::memcpy(&value, bytes_, sizeof(Word));
    return to_order(value);
  }

  WireInt& operator=(Word value) {
    value = to_order(value);
    std::memcpy(bytes_, &value, sizeof(Word));
    return *this;
  }

 private:
  static constexpr Word to_order(Word value) {
    if constexpr (order == std::endian::native) {
      return value;
    } else if constexpr (sizeof(Word) == 2) {
      return __builtin_bswap16(value);
    } else if constexpr (sizeof(Word) == 4) {
      return __builtin_bswap32(value);
    } else {
      return __builtin_bswap64(value);
    }
  }

  uint8_t bytes_[sizeof(Word)];
};

using be16 = WireInt<uint16_t, std::endian::big>;
using be32 = WireInt<uint32_t, std::endian::big>;
using be64 = WireInt<uint64_t, std::endian::big>;
using le16 = WireInt<uint16_t, std::endian::little>;
using le32 = WireInt<uint32_t, std::endian::little>;
using le64 = WireInt<uint64_t, std::endian::little>;

static_assert(sizeof(be64) == 8 && alignof(be64) == 1);

template <class Word>
Word load(const uint8_t* bytes) {
  Word word;
  static_assert(alignof(Word) == 1);
  std::memcpy(&word, bytes, sizeof(Word));
  return word;
}

}  // namespace sallyport
