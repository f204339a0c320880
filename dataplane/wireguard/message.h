// The four messages on the wire (whitepaper section 5.4), and the whole of their grammar: a length
// check per type.
//
// Everything is little-endian and unaligned. classify() is called on bytes from anyone; after it
// has named a kind, the struct of that kind may be laid over the bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/base/endian.h"

namespace sallyport::wireguard {

inline constexpr size_t kTagBytes = 16;
inline constexpr size_t kKeyBytes = 32;

enum class MessageKind : uint8_t {
  invalid = 0,
  initiation = 1,
  response = 2,
  cookie_reply = 3,
  data = 4
};

struct MessageMacs {
  uint8_t mac1[16];
  uint8_t mac2[16];
};

struct MessageInitiation {
  le32 type;  // 1; the upper 24 bits are reserved and zero
  le32 sender;
  uint8_t ephemeral[kKeyBytes];
  uint8_t encrypted_static[kKeyBytes + kTagBytes];
  uint8_t encrypted_timestamp[12 + kTagBytes];
  MessageMacs macs;
};
static_assert(sizeof(MessageInitiation) == 148);

struct MessageResponse {
  le32 type;  // 2
  le32 sender;
  le32 receiver;
  uint8_t ephemeral[kKeyBytes];
  uint8_t encrypted_nothing[kTagBytes];
  MessageMacs macs;
};
static_assert(sizeof(MessageResponse) == 92);

struct MessageCookieReply {
  le32 type;  // 3
  le32 receiver;
  uint8_t nonce[24];
  uint8_t encrypted_cookie[16 + kTagBytes];
};
static_assert(sizeof(MessageCookieReply) == 64);

struct MessageData {
  le32 type;  // 4
  le32 receiver;
  le64 counter;
  // the sealed packet follows: ciphertext and tag
};
static_assert(sizeof(MessageData) == 16);

inline constexpr size_t kDataOverhead = sizeof(MessageData) + kTagBytes;

// What these bytes may be taken for. `data` needs at least header and tag; the others their exact
// size.
inline MessageKind classify(const uint8_t* bytes, size_t length) {
  if (length < sizeof(MessageData)) {
    return MessageKind::invalid;
  }
  const uint32_t type = load<le32>(bytes);
  switch (type) {
    case 1:
      return length == sizeof(MessageInitiation) ? MessageKind::initiation : MessageKind::invalid;
    case 2:
      return length == sizeof(MessageResponse) ? MessageKind::response : MessageKind::invalid;
    case 3:
      return length == sizeof(MessageCookieReply) ? MessageKind::cookie_reply
                                                  : MessageKind::invalid;
    case 4:
      return length >= kDataOverhead ? MessageKind::data : MessageKind::invalid;
    default:
      return MessageKind::invalid;
  }
}

}  // namespace sallyport::wireguard
