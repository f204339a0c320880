// The outputs were computed from the whitepaper's definition with CPython's hmac and hashlib.
#include "crypto/kdf.h"

#include <gtest/gtest.h>

#include "tests/crypto/hex.h"

namespace sallyport::crypto {
namespace {

constexpr char kFirst[] = "a653a4d63010bf32c4c750ca1f7d14d90f381e1255aad7b5f0424dee252f3bb1";
constexpr char kSecond[] = "6a7d2fcc2dbe0987d003fb1e494ffc9927651d072b2c00f20f84225745421041";
constexpr char kThird[] = "bda9f91e1cfc39b3a2f47df25b86d0b2c2f70dd5c1ca9ad02484708cd8c1494e";

TEST(Kdf, OneTwoAndThreeOutputsShareTheirBeginning) {
  const std::vector<uint8_t> key = counting_bytes(32);
  const std::vector<uint8_t> input = bytes_of("input of some length");
  Key first, second, third;
  kdf1(key, input, first);
  EXPECT_EQ(to_hex(first), kFirst);
  kdf2(key, input, first, second);
  EXPECT_EQ(to_hex(first), kFirst);
  EXPECT_EQ(to_hex(second), kSecond);
  kdf3(key, input, first, second, third);
  EXPECT_EQ(to_hex(first), kFirst);
  EXPECT_EQ(to_hex(second), kSecond);
  EXPECT_EQ(to_hex(third), kThird);
}

TEST(Kdf, EmptyInput) {
  Key first;
  kdf1(counting_bytes(32), {}, first);
  EXPECT_EQ(to_hex(first), "7a38c34bf2b8738d7374ca77c44ecb309a11d2b2528304fa86052c365e722624");
}

// Noise replaces its chaining key by an output of it: C = KDF1(C, input).
TEST(Kdf, AnOutputMayReplaceTheKey) {
  Key chaining(std::span<const uint8_t, 32>(counting_bytes(32)));
  Key second, third;
  kdf3(chaining, bytes_of("input of some length"), chaining, second, third);
  EXPECT_EQ(to_hex(chaining), kFirst);
  EXPECT_EQ(to_hex(second), kSecond);
  EXPECT_EQ(to_hex(third), kThird);
}

TEST(Kdf, AnOutputMayReplaceTheInput) {
  Key input(std::span<const uint8_t, 32>(counting_bytes(32, 7)));
  const Key key(std::span<const uint8_t, 32>(counting_bytes(32)));
  Key expected_first, expected_second, first;
  kdf2(key, input, expected_first, expected_second);
  kdf2(key, input, first, input);
  EXPECT_TRUE(equal_constant_time(first, expected_first));
  EXPECT_TRUE(equal_constant_time(input, expected_second));
}

}  // namespace
}  // namespace sallyport::crypto
