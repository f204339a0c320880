#include "dataplane/base/endian.h"

#include <gtest/gtest.h>

#include <array>

namespace sallyport {
namespace {

template <class Wire>
auto bytes_of(const Wire& wire) {
  std::array<uint8_t, sizeof(Wire)> bytes;
  std::memcpy(bytes.data(), &wire, sizeof(Wire));
  return bytes;
}

TEST(Endian, BigEndianWordsHaveTheirHighByteFirst) {
  EXPECT_EQ(bytes_of(be16(0x0102)), (std::array<uint8_t, 2>{1, 2}));
  EXPECT_EQ(bytes_of(be32(0x01020304)), (std::array<uint8_t, 4>{1, 2, 3, 4}));
  EXPECT_EQ(bytes_of(be64(0x0102030405060708)), (std::array<uint8_t, 8>{1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST(Endian, LittleEndianWordsHaveTheirLowByteFirst) {
  EXPECT_EQ(bytes_of(le16(0x0102)), (std::array<uint8_t, 2>{2, 1}));
  EXPECT_EQ(bytes_of(le32(0x01020304)), (std::array<uint8_t, 4>{4, 3, 2, 1}));
  EXPECT_EQ(bytes_of(le64(0x0102030405060708)), (std::array<uint8_t, 8>{8, 7, 6, 5, 4, 3, 2, 1}));
}

TEST(Endian, AWordReadsBackWhatWasAssigned) {
  be32 word;
  word = 0xdeadbeefu;
  EXPECT_EQ(word, 0xdeadbeefu);
  word = word + 1;
  EXPECT_EQ(word, 0xdeadbef0u);
}

TEST(Endian, LoadTakesAnyAddress) {
  const uint8_t bytes[] = {0xff, 1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(load<be32>(bytes + 1), 0x01020304u);
  EXPECT_EQ(load<le64>(bytes + 1), 0x0807060504030201u);
}

TEST(Endian, AStructOfWireWordsHasNoPadding) {
  struct Mixed {
    be16 a;
    le32 b;
    be64 c;
    uint8_t d;
  };
  EXPECT_EQ(sizeof(Mixed), 15u);
}

}  // namespace
}  // namespace sallyport
