#include "crypto/x25519.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/crypto/hex.h"

namespace sallyport::crypto {
namespace {

Key key_of(std::string_view hex) {
  return Key(std::span<const uint8_t, 32>(from_hex(hex)));
}

// RFC 7748, section 5.2.
TEST(X25519, MultipliesAsInTheRfc) {
  struct Vector {
    const char *scalar, *point, *product;
  };
  constexpr Vector kVectors[] = {
      {"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
       "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
       "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"},
      {"4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
       "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
       "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"},
  };
  for (const Vector& vector : kVectors) {
    Key product;
    EXPECT_TRUE(x25519(product, key_of(vector.scalar), key_of(vector.point)));
    EXPECT_EQ(to_hex(product), vector.product);
  }
}

TEST(X25519, IteratedAsInTheRfc) {
  Key scalar = key_of("0900000000000000000000000000000000000000000000000000000000000000");
  Key point = scalar.clone();
  for (int round = 1; round <= 1000; ++round) {
    Key product;
    ASSERT_TRUE(x25519(product, scalar, point));
    point = std::move(scalar);
    scalar = std::move(product);
    if (round == 1) {
      EXPECT_EQ(to_hex(scalar), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
    }
  }
  EXPECT_EQ(to_hex(scalar), "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
}

// RFC 7748, section 6.1.
TEST(X25519, BothSidesAgree) {
  const Key alice = key_of("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
  const Key bob = key_of("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
  uint8_t alice_public[32];
  uint8_t bob_public[32];
  x25519_base(alice_public, alice);
  x25519_base(bob_public, bob);
  EXPECT_EQ(to_hex(alice_public),
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  EXPECT_EQ(to_hex(bob_public), "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");

  Key alice_shared, bob_shared;
  EXPECT_TRUE(x25519(alice_shared, alice, bob_public));
  EXPECT_TRUE(x25519(bob_shared, bob, alice_public));
  EXPECT_EQ(to_hex(alice_shared),
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
  EXPECT_TRUE(equal_constant_time(alice_shared, bob_shared));
}

// The points whose order divides 8, with and without the bit that is ignored.
TEST(X25519, LowOrderPointsAreRefused) {
  const Key scalar = generate_private_key();
  for (const char* hex : {
           "0000000000000000000000000000000000000000000000000000000000000000",
           "0100000000000000000000000000000000000000000000000000000000000000",
           "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
           "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
           "0000000000000000000000000000000000000000000000000000000000000080",
       }) {
    Key shared = key_of("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    EXPECT_FALSE(x25519(shared, scalar, key_of(hex))) << hex;
    EXPECT_TRUE(shared.is_zero()) << hex;
  }
}

TEST(X25519, GeneratedKeysAreClampedAndDistinct) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const Key scalar = generate_private_key();
    EXPECT_EQ(scalar.data()[0] & 7, 0);
    EXPECT_EQ(scalar.data()[31] & 0xc0, 0x40);
    EXPECT_TRUE(seen.insert(to_hex(scalar)).second);
  }
}

TEST(X25519, RandomBelowStaysBelow) {
  EXPECT_EQ(random_below(1), 0u);
  std::set<uint32_t> seen;
  for (int i = 0; i < 1000; ++i) {
    const uint32_t number = random_below(5);
    EXPECT_LT(number, 5u);
    seen.insert(number);
  }
  EXPECT_EQ(seen.size(), 5u);
}

}  // namespace
}  // namespace sallyport::crypto
