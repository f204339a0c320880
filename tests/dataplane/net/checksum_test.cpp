#include "dataplane/net/checksum.h"

#include <gtest/gtest.h>

#include "tests/dataplane/net/packets.h"

namespace sallyport::test {
namespace {

constexpr unsigned kSeed = 20;

uint16_t folded(uint64_t sum) {
  return __builtin_bswap16(checksum_fold(sum));  // the tests' words are in network order
}

TEST(Checksum, TheExampleOfRfc1071) {
  const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(folded(checksum_add(0, bytes, sizeof(bytes))), 0xddf2);
}

TEST(Checksum, AgreesWithTheNaiveSumAtEveryLengthAndOffset) {
  std::mt19937 random(kSeed);
  SCOPED_TRACE(kSeed);
  const Bytes bytes = random_bytes(random, 2200);
  for (size_t length = 0; length <= 2100; length += 1 + (length > 200 ? random() % 7 : 0)) {
    const size_t offset = random() % 64;
    ASSERT_EQ(folded(checksum_add(0, bytes.data() + offset, length)),
              naive_sum(bytes.data() + offset, length))
        << length << " bytes at " << offset;
  }
}

TEST(Checksum, DoesNotReadBeyondItsBytes) {
  std::mt19937 random(kSeed);
  for (size_t length = 0; length < 100; ++length) {
    auto exact = std::make_unique<uint8_t[]>(length);  // a sanitizer watches the end
    std::generate_n(exact.get(), length, [&] { return static_cast<uint8_t>(random()); });
    ASSERT_EQ(folded(checksum_add(0, exact.get(), length)), naive_sum(exact.get(), length));
  }
}

TEST(Checksum, AllOnesOfThe64KibDoNotOverflow) {
  const Bytes ones(65'535, 0xff);
  EXPECT_EQ(folded(checksum_add(0, ones.data(), ones.size())), naive_sum(ones.data(), ones.size()));
  uint64_t sum = 0;
  for (int i = 0; i < 100; ++i) {
    sum = checksum_add(sum, ones.data(), 65'534);
  }
  EXPECT_EQ(checksum_fold(sum), 0xffff);
}

TEST(Checksum, EvenPartsAddUp) {
  std::mt19937 random(kSeed);
  const Bytes bytes = random_bytes(random, 1501);
  for (int i = 0; i < 200; ++i) {
    const size_t cut = random() % 750 * 2;
    const uint64_t first = checksum_add(0, bytes.data(), cut);
    ASSERT_EQ(folded(checksum_add(first, bytes.data() + cut, bytes.size() - cut)),
              naive_sum(bytes.data(), bytes.size()));
  }
}

TEST(Checksum, FoldsAnySum) {
  EXPECT_EQ(checksum_fold(0), 0);
  EXPECT_EQ(checksum_fold(0xffff), 0xffff);
  EXPECT_EQ(checksum_fold(0x10000), 1);
  EXPECT_EQ(checksum_fold(0x1fffe), 0xffff);
  EXPECT_EQ(checksum_fold(UINT64_MAX), 0xffff);
  std::mt19937_64 random(kSeed);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t sum = random();
    ASSERT_EQ(checksum_fold(sum) % 0xffff, sum % 0xffff) << sum;
  }
}

TEST(Checksum, PseudoHeaders) {
  std::mt19937 random(kSeed);
  for (int i = 0; i < 200; ++i) {
    Packet words;
    words.family = i % 2 == 0 ? Family::v4 : Family::v6;
    words.protocol = i % 4 < 2 ? kProtocolTcp : kProtocolUdp;
    words.payload = random_bytes(random, random() % 3000);
    Bytes packet = build(words);
    const size_t l4 = words.ip_bytes();
    const auto length = static_cast<uint32_t>(packet.size() - l4);
    const uint64_t sum = checksum_pseudo(packet.data(), words.family, words.protocol, length);
    EXPECT_EQ(checksum_fold(checksum_add(sum, packet.data() + l4, length)), 0xffff);
    Bytes again = packet;
    put16(again, words.checksum_at(), 0);
    checksum_store(again.data() + words.checksum_at(), checksum_add(sum, again.data() + l4, length),
                   words.protocol == kProtocolUdp);
    EXPECT_EQ(again, packet);
  }
}

TEST(Checksum, AUdpSumOfZeroIsSentAsAllOnes) {
  uint8_t field[2];
  checksum_store(field, 0xffff, true);
  EXPECT_EQ(field[0] << 8 | field[1], 0xffff);
  checksum_store(field, 0xffff, false);
  EXPECT_EQ(field[0] << 8 | field[1], 0);
  checksum_store(field, 0x1234, true);
  uint16_t value;
  std::memcpy(&value, field, 2);
  EXPECT_EQ(value, static_cast<uint16_t>(~0x1234));
}

TEST(Checksum, Ipv4WithAndWithoutOptions) {
  for (const size_t options : {0, 4, 40}) {
    Packet words;
    words.ip_options = Bytes(options, 1);
    const Bytes packet = build(words);
    Bytes again = packet;
    put16(again, 10, 0xbeef);
    checksum_ipv4(again.data(), words.ip_bytes());
    EXPECT_EQ(again, packet);
  }
}

// RFC 1624: whatever word changes, the field is what computing it anew would give.
TEST(Checksum, ReplacingAWordIsComputingAnew) {
  std::mt19937 random(kSeed);
  for (int i = 0; i < 20'000; ++i) {
    Packet words;
    words.id = static_cast<uint16_t>(random());
    words.tos = static_cast<uint8_t>(random());
    words.ttl = static_cast<uint8_t>(random());
    Bytes packet = build(words);
    const size_t at = std::array<size_t, 4>{0, 2, 4, 8}[random() % 4];
    const uint16_t value =
        i % 5 == 0 ? (random() % 2 == 0 ? 0 : 0xffff) : static_cast<uint16_t>(random());
    Bytes expected = packet;
    put16(expected, at, value);
    put16(expected, 10, 0);
    put16(expected, 10, ~naive_sum(expected.data(), 20) & 0xffff);
    checksum_replace16(packet.data() + 10, packet.data() + at, __builtin_bswap16(value));
    ASSERT_EQ(packet, expected) << "word at " << at << " becomes " << value;
  }
}

}  // namespace
}  // namespace sallyport::test
