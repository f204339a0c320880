// mac1, mac2 and cookie replies: proof of address under load, and silence towards those who do not
// know our public key (whitepaper sections 5.3 and 5.4.4).
//
// CookieChecker is the responder's side, one a device. CookieJar is the initiator's side, one a
// peer. Handshaker thread only.
#pragma once

#include <cstdint>

#include "crypto/secret.h"
#include "dataplane/base/clock.h"
#include "dataplane/net/address.h"
#include "dataplane/wireguard/handshake.h"
#include "dataplane/wireguard/message.h"

namespace sallyport::wireguard {

class CookieChecker {
 public:
  void set_public_key(const PublicKey& ours);

  // `message` is a whole initiation or response, its MessageMacs last.
  bool check_mac1(const uint8_t* message, size_t length) const;
  bool check_mac2(Time now, const uint8_t* message, size_t length, const Endpoint& from);

  // The answer to `message` (whose sender index is `receiver`): a cookie for `from`, sealed to the
  // message's mac1.
  void create_reply(Time now, const uint8_t* message, size_t length, uint32_t receiver,
                    const Endpoint& from, MessageCookieReply& out);

 private:
  void make_cookie(Time now, const Endpoint& from, uint8_t out[16]);

  uint8_t mac1_key_[32]{};
  crypto::Key cookie_key_;
  crypto::Secret<32> secret_;  // rotated every kCookieSecretMaxAge
  Time secret_birth_ = kNever;
};

class CookieJar {
 public:
  void set_remote(const PublicKey& theirs);

  // Writes mac1, and mac2 if a fresh cookie is held. Remembers mac1 for the reply that may come.
  void add_macs(Time now, uint8_t* message, size_t length);

  // False when nothing of ours is being answered or the seal does not open.
  bool consume_reply(Time now, const MessageCookieReply& in);

 private:
  uint8_t mac1_key_[32]{};
  crypto::Key cookie_key_;
  uint8_t last_mac1_[16]{};
  bool sent_mac1_ = false;
  crypto::Secret<16> cookie_;
  Time cookie_birth_ = kNever;
};

}  // namespace sallyport::wireguard
