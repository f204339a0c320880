#include "dataplane/wireguard/message.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <numeric>
#include <vector>

namespace sallyport::wireguard {
namespace {

// Byte n of the wire is n, so a field that reads n begins at offset n.
template <class Message>
Message counting_bytes() {
  uint8_t bytes[sizeof(Message)];
  std::iota(bytes, bytes + sizeof(bytes), uint8_t{0});
  Message message;
  std::memcpy(static_cast<void*>(&message), bytes, sizeof(message));
  return message;
}

TEST(Message, InitiationFieldsLieWhereTheWhitepaperPutsThem) {
  const auto message = counting_bytes<MessageInitiation>();
  EXPECT_EQ(message.type, 0x03020100u);
  EXPECT_EQ(message.sender, 0x07060504u);
  EXPECT_EQ(message.ephemeral[0], 8);
  EXPECT_EQ(message.encrypted_static[0], 40);
  EXPECT_EQ(message.encrypted_timestamp[0], 88);
  EXPECT_EQ(message.macs.mac1[0], 116);
  EXPECT_EQ(message.macs.mac2[0], 132);
  EXPECT_EQ(message.macs.mac2[15], 147);
}

TEST(Message, ResponseFieldsLieWhereTheWhitepaperPutsThem) {
  const auto message = counting_bytes<MessageResponse>();
  EXPECT_EQ(message.sender, 0x07060504u);
  EXPECT_EQ(message.receiver, 0x0b0a0908u);
  EXPECT_EQ(message.ephemeral[0], 12);
  EXPECT_EQ(message.encrypted_nothing[0], 44);
  EXPECT_EQ(message.macs.mac1[0], 60);
  EXPECT_EQ(message.macs.mac2[0], 76);
  EXPECT_EQ(message.macs.mac2[15], 91);
}

TEST(Message, CookieReplyFieldsLieWhereTheWhitepaperPutsThem) {
  const auto message = counting_bytes<MessageCookieReply>();
  EXPECT_EQ(message.receiver, 0x07060504u);
  EXPECT_EQ(message.nonce[0], 8);
  EXPECT_EQ(message.encrypted_cookie[0], 32);
  EXPECT_EQ(message.encrypted_cookie[31], 63);
}

TEST(Message, DataFieldsLieWhereTheWhitepaperPutsThem) {
  const auto message = counting_bytes<MessageData>();
  EXPECT_EQ(message.receiver, 0x07060504u);
  EXPECT_EQ(message.counter, 0x0f0e0d0c0b0a0908ull);
}

MessageKind classify_type(uint32_t type, size_t length) {
  std::vector<uint8_t> bytes(length);
  const le32 word(type);
  if (length >= sizeof(word)) {
    std::memcpy(bytes.data(), &word, sizeof(word));
  }
  return classify(bytes.data(), length);
}

TEST(Message, ClassifyWantsTheExactLengthOfAHandshakeMessage) {
  const struct {
    uint32_t type;
    size_t length;
    MessageKind kind;
  } handshake[] = {{1, 148, MessageKind::initiation},
                   {2, 92, MessageKind::response},
                   {3, 64, MessageKind::cookie_reply}};
  for (const auto& [type, exact, kind] : handshake) {
    for (size_t length = 0; length < 300; ++length) {
      EXPECT_EQ(classify_type(type, length), length == exact ? kind : MessageKind::invalid)
          << type << " of " << length;
    }
  }
}

TEST(Message, ClassifyTakesDataFromTheKeepaliveUp) {
  for (size_t length = 0; length < 300; ++length) {
    EXPECT_EQ(classify_type(4, length), length >= 32 ? MessageKind::data : MessageKind::invalid);
  }
  EXPECT_EQ(classify_type(4, 65'535), MessageKind::data);
}

TEST(Message, ClassifyKnowsNoOtherTypeAndNoReservedBits) {
  const uint32_t types[] = {0, 5, 6, 255, 0x101, 0x10001, 0x1000001, 0xffffff01, 0x04000000};
  for (const uint32_t type : types) {
    for (const size_t length : {16, 32, 64, 92, 148, 1500}) {
      EXPECT_EQ(classify_type(type, length), MessageKind::invalid) << std::hex << type;
    }
  }
}

TEST(Message, ClassifyReadsNothingOfShortBytes) {
  EXPECT_EQ(classify(nullptr, 0), MessageKind::invalid);
  const uint8_t one = 4;
  EXPECT_EQ(classify(&one, 1), MessageKind::invalid);
}

}  // namespace
}  // namespace sallyport::wireguard
