#include "dataplane/wireguard/cookie.h"

#include <cstring>

#include "crypto/blake2s.h"
#include "crypto/x25519.h"
#include "crypto/xaead.h"
#include "dataplane/wireguard/noise.h"

namespace sallyport::wireguard {
namespace {

constexpr size_t kMacBytes = 16;

bool expired(Time birth, Time now, Time age_max) {
  return birth == kNever || now - birth >= age_max;
}

// The macs close a message: mac1 covers everything before itself, mac2 also mac1.
size_t mac1_offset(size_t length) {
  return length - sizeof(MessageMacs);
}

size_t mac2_offset(size_t length) {
  return length - kMacBytes;
}

void mac(uint8_t out[kMacBytes], crypto::Bytes key, const uint8_t* message, size_t length) {
  crypto::blake2s_mac({out, kMacBytes}, key, {crypto::Bytes(message, length)});
}

}  // namespace

void CookieChecker::set_public_key(const PublicKey& ours) {
  label_key(mac1_key_, kLabelMac1, ours);
  label_key(cookie_key_.data(), kLabelCookie, ours);
}

bool CookieChecker::check_mac1(const uint8_t* message, size_t length) const {
  if (length < sizeof(MessageMacs)) {
    return false;
  }
  uint8_t expected[kMacBytes];
  mac(expected, mac1_key_, message, mac1_offset(length));
  return crypto::equal_constant_time(expected, message + mac1_offset(length), kMacBytes);
}

bool CookieChecker::check_mac2(Time now, const uint8_t* message, size_t length,
                               const Endpoint& from) {
  if (length < sizeof(MessageMacs)) {
    return false;
  }
  uint8_t cookie[kMacBytes];
  make_cookie(now, from, cookie);
  uint8_t expected[kMacBytes];
  mac(expected, cookie, message, mac2_offset(length));
  return crypto::equal_constant_time(expected, message + mac2_offset(length), kMacBytes);
}

void CookieChecker::create_reply(Time now, const uint8_t* message, size_t length, uint32_t receiver,
                                 const Endpoint& from, MessageCookieReply& out) {
  out.type = static_cast<uint32_t>(MessageKind::cookie_reply);
  out.receiver = receiver;
  crypto::random_bytes(out.nonce);
  uint8_t cookie[kMacBytes];
  make_cookie(now, from, cookie);
  crypto::xaead_seal(out.encrypted_cookie, cookie,
                     crypto::Bytes(message + mac1_offset(length), kMacBytes), cookie_key_,
                     out.nonce);
}

// A cookie binds address and port of whoever asks to a secret of ours that lives two minutes.
void CookieChecker::make_cookie(Time now, const Endpoint& from, uint8_t out[kMacBytes]) {
  if (expired(secret_birth_, now, kCookieSecretMaxAge)) {
    crypto::random_bytes(secret_);
    secret_birth_ = now;
  }
  const be16 port(from.port);
  crypto::blake2s_mac({out, kMacBytes}, secret_,
                      {crypto::Bytes(from.remote.bytes.data(), from.remote.bits() / 8),
                       crypto::Bytes(reinterpret_cast<const uint8_t*>(&port), sizeof(port))});
}

void CookieJar::set_remote(const PublicKey& theirs) {
  label_key(mac1_key_, kLabelMac1, theirs);
  label_key(cookie_key_.data(), kLabelCookie, theirs);
  sent_mac1_ = false;
  cookie_.clear();
  cookie_birth_ = kNever;
}

void CookieJar::add_macs(Time now, uint8_t* message, size_t length) {
  mac(message + mac1_offset(length), mac1_key_, message, mac1_offset(length));
  std::memcpy(last_mac1_, message + mac1_offset(length), kMacBytes);
  sent_mac1_ = true;
  if (expired(cookie_birth_, now, kCookieSecretMaxAge - kCookieLatency)) {
    std::memset(message + mac2_offset(length), 0, kMacBytes);
  } else {
    mac(message + mac2_offset(length), cookie_, message, mac2_offset(length));
  }
}

bool CookieJar::consume_reply(Time now, const MessageCookieReply& in) {
  if (!sent_mac1_) {
    return false;
  }
  crypto::Secret<kMacBytes> cookie;
  if (!crypto::xaead_open(cookie, in.encrypted_cookie, last_mac1_, cookie_key_, in.nonce)) {
    return false;
  }
  cookie_ = std::move(cookie);
  cookie_birth_ = now;
  sent_mac1_ = false;  // one reply for one message
  return true;
}

}  // namespace sallyport::wireguard
