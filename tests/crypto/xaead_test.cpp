#include "crypto/xaead.h"

#include <gtest/gtest.h>

#include "tests/crypto/hex.h"

namespace sallyport::crypto {
namespace {

// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
const std::vector<uint8_t> kPlain = bytes_of(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    "sunscreen would be it.");
const std::vector<uint8_t> kAd = from_hex("50515253c0c1c2c3c4c5c6c7");
constexpr char kSealed[] =
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e"
    "39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3"
    "fff921f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49";

Key draft_key() {
  return Key(std::span<const uint8_t, 32>(counting_bytes(32, 0x80)));
}

std::vector<uint8_t> draft_nonce() {
  return counting_bytes(24, 0x40);
}

std::span<const uint8_t, 24> nonce_span(const std::vector<uint8_t>& nonce) {
  return std::span<const uint8_t, 24>(nonce);
}

TEST(XAead, SealsAndOpensTheDraftsVector) {
  const std::vector<uint8_t> nonce = draft_nonce();
  std::vector<uint8_t> sealed(kPlain.size() + 16);
  xaead_seal(sealed, kPlain, kAd, draft_key(), nonce_span(nonce));
  EXPECT_EQ(to_hex(sealed), kSealed);

  std::vector<uint8_t> plain(kPlain.size());
  EXPECT_TRUE(xaead_open(plain, sealed, kAd, draft_key(), nonce_span(nonce)));
  EXPECT_EQ(plain, kPlain);
}

TEST(XAead, EveryDamagedByteIsNoticed) {
  const std::vector<uint8_t> nonce = draft_nonce();
  std::vector<uint8_t> sealed = from_hex(kSealed);
  for (uint8_t& byte : sealed) {
    byte ^= 4;
    std::vector<uint8_t> plain(kPlain.size(), 0xaa);
    EXPECT_FALSE(xaead_open(plain, sealed, kAd, draft_key(), nonce_span(nonce)));
    EXPECT_EQ(plain, std::vector<uint8_t>(kPlain.size()));
    byte ^= 4;
  }
}

TEST(XAead, OtherAdditionalDataOrSizesAreRefused) {
  const std::vector<uint8_t> nonce = draft_nonce();
  const std::vector<uint8_t> sealed = from_hex(kSealed);
  std::vector<uint8_t> plain(kPlain.size());
  EXPECT_FALSE(xaead_open(plain, sealed, {}, draft_key(), nonce_span(nonce)));
  EXPECT_FALSE(xaead_open(plain, Bytes(sealed).first(15), kAd, draft_key(), nonce_span(nonce)));
  plain.pop_back();
  EXPECT_FALSE(xaead_open(plain, sealed, kAd, draft_key(), nonce_span(nonce)));
}

}  // namespace
}  // namespace sallyport::crypto
