#include "crypto/blake2s.h"

#include <gtest/gtest.h>

#include "tests/crypto/hex.h"

namespace sallyport::crypto {
namespace {

std::string hash_hex(HashPieces pieces) {
  uint8_t hash[kHashSize];
  blake2s(hash, pieces);
  return to_hex(hash);
}

std::string mac_hex(size_t size, Bytes key, HashPieces pieces) {
  std::vector<uint8_t> mac(size);
  blake2s_mac(mac, key, pieces);
  return to_hex(mac);
}

std::string hmac_hex(Bytes key, HashPieces pieces) {
  uint8_t mac[kHashSize];
  hmac_blake2s(mac, key, pieces);
  return to_hex(mac);
}

// RFC 7693, appendix B.
TEST(Blake2s, HashesAbc) {
  EXPECT_EQ(hash_hex({bytes_of("abc")}),
            "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
}

TEST(Blake2s, PiecesAreConcatenated) {
  const std::vector<uint8_t> text = counting_bytes(200);
  const std::string whole = hash_hex({text});
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    const Bytes bytes(text);
    EXPECT_EQ(hash_hex({bytes.first(cut), Bytes(), bytes.subspan(cut)}), whole) << cut;
  }
}

// The two constants every Noise_IKpsk2 handshake of WireGuard starts from.
TEST(Blake2s, HashesWireGuardsConstruction) {
  const std::string chaining_key = hash_hex({bytes_of("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")});
  EXPECT_EQ(chaining_key, "60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36");
  EXPECT_EQ(hash_hex({from_hex(chaining_key), bytes_of("WireGuard v1 zx2c4 Jason@zx2c4.com")}),
            "2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3");
}

// The first keyed vector of the reference implementation's list.
TEST(Blake2s, MacOf32Bytes) {
  EXPECT_EQ(mac_hex(32, counting_bytes(32), {}),
            "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49");
}

// Checked with CPython's hashlib. A shorter mac is not a prefix of the longer one.
TEST(Blake2s, MacOf16Bytes) {
  EXPECT_EQ(mac_hex(16, counting_bytes(32), {bytes_of("the"), bytes_of(" quick")}),
            "ac93e579730a88a85b8890f9312b7fe8");
}

// Checked with CPython's hmac.
TEST(Blake2s, Hmac) {
  EXPECT_EQ(hmac_hex(bytes_of("key material of more than nothing"), {bytes_of("message")}),
            "9a83cb45d3c48d77ebfd26193e5ca3488c0757c10a1af25be639af29cf5e3bc7");
}

TEST(Blake2s, HmacHashesKeysLongerThanABlock) {
  EXPECT_EQ(hmac_hex(counting_bytes(100), {bytes_of("mess"), bytes_of("age")}),
            "0d91cbef198cf7e3847de5efd2c35fa5e8b8f90b5d751a12f7c76154a6d0b56f");
}

}  // namespace
}  // namespace sallyport::crypto
