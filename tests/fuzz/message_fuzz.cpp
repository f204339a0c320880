// Bytes from anyone, through everything that reads a message before its sender is known.
//
// The first byte chooses. Even: the rest is a datagram, taken as it is. Odd: a genuine initiation,
// response or cookie reply is made, the rest says which of its bytes to change, and what the protocol
// authenticates must be exactly what its reader insists on.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

#include "crypto/blake2s.h"
#include "dataplane/wireguard/cookie.h"
#include "dataplane/wireguard/handshake.h"
#include "dataplane/wireguard/message.h"

namespace {

using namespace sallyport;
using namespace sallyport::wireguard;

constexpr Time kNow = 1'000 * kSecond;
constexpr WallTime kWall = 1'700'000'000 * kSecond;

void require(bool truth) {
  if (!truth) {
    std::abort();
  }
}

Identity identity_of(uint8_t seed) {
  uint8_t bytes[kKeyBytes];
  std::memset(bytes, seed, sizeof(bytes));
  Identity identity;
  identity.set_private_key(bytes);
  return identity;
}

struct Caller {  // Alice, who has called Bob
  Caller(const Identity& ours, const Identity& theirs) {
    handshake.set_identities(ours, theirs.public_key);
    jar.set_remote(theirs.public_key);
    handshake.create_initiation(ours, kWall, 1, call);
    jar.add_macs(kNow, reinterpret_cast<uint8_t*>(&call), sizeof(call));
  }

  Handshake handshake;
  CookieJar jar;
  MessageInitiation call;
};

struct World {
  World() {
    checker.set_public_key(bob.public_key);
    from.remote = *parse_address("192.0.2.1");
    from.port = 51820;
    restart();
  }

  void restart() {
    caller.emplace(alice, bob);
    answerer.emplace();
    answerer->set_identities(bob, alice.public_key);
    answer.reset();
  }

  // Bob's answer to the caller's initiation.
  const MessageResponse& genuine_answer() {
    if (!answer) {
      OpenedInitiation opened;
      require(open_initiation(bob, caller->call, opened));
      require(accept_initiation(*answerer, opened, kNow) == InitiationVerdict::accepted);
      require(answerer->create_response(bob, 2, answer.emplace()));
    }
    return *answer;
  }

  const Identity alice = identity_of(0x11);
  const Identity bob = identity_of(0x22);
  CookieChecker checker;
  Endpoint from;
  std::optional<Caller> caller;
  std::optional<Handshake> answerer;
  std::optional<MessageResponse> answer;
};

World& world() {
  static World the_world;
  return the_world;
}

// -- Any bytes at all.

void take_datagram(World& w, const uint8_t* data, size_t size) {
  const MessageKind kind = classify(data, size);
  require(!w.checker.check_mac2(kNow, data, size, w.from));
  w.checker.check_mac1(data, size);
  if (kind == MessageKind::initiation) {
    MessageInitiation in;
    std::memcpy(&in, data, sizeof(in));
    OpenedInitiation opened;
    if (open_initiation(w.bob, in, opened)) {
      accept_initiation(*w.answerer, opened, kNow);
      w.restart();
    }
  } else if (kind == MessageKind::response) {
    MessageResponse in;
    std::memcpy(&in, data, sizeof(in));
    require(!w.caller->handshake.consume_response(w.alice, in));
    require(w.caller->handshake.state() == Handshake::State::initiation_created);
  } else if (kind == MessageKind::cookie_reply) {
    MessageCookieReply in;
    std::memcpy(&in, data, sizeof(in));
    require(!w.caller->jar.consume_reply(kNow, in));
  }
}

// -- Genuine messages, changed.

// Each three bytes: an offset and what to add there. Returns the message as changed.
template <class Message>
Message changed(const Message& message, const uint8_t* data, size_t size) {
  Message out = message;
  for (; size >= 3; data += 3, size -= 3) {
    const size_t at = (size_t{data[0]} << 8 | data[1]) % sizeof(Message);
    reinterpret_cast<uint8_t*>(&out)[at] ^= data[2];
  }
  return out;
}

template <class Message>
bool same(const Message& one, const Message& other, size_t from, size_t to) {
  return std::memcmp(reinterpret_cast<const uint8_t*>(&one) + from,
                     reinterpret_cast<const uint8_t*>(&other) + from, to - from) == 0;
}

void take_initiation(World& w, const uint8_t* data, size_t size) {
  const MessageInitiation genuine = w.caller->call;
  const MessageInitiation message = changed(genuine, data, size);
  const auto* bytes = reinterpret_cast<const uint8_t*>(&message);
  constexpr size_t kMac2 = offsetof(MessageInitiation, macs.mac2);
  require(w.checker.check_mac1(bytes, sizeof(message)) == same(genuine, message, 0, kMac2));

  // As if the macs had been made anew: past them, it is the handshake that must refuse.
  constexpr size_t kFrom = offsetof(MessageInitiation, ephemeral);
  constexpr size_t kTimestamp = offsetof(MessageInitiation, encrypted_timestamp);
  constexpr size_t kTo = offsetof(MessageInitiation, macs);
  OpenedInitiation opened;
  const bool opens = open_initiation(w.bob, message, opened);
  require(opens == same(genuine, message, kFrom, kTimestamp));
  if (opens) {
    Handshake bob;
    bob.set_identities(w.bob, w.alice.public_key);
    const auto verdict = accept_initiation(bob, opened, kNow);
    const bool intact = same(genuine, message, kTimestamp, kTo);
    require(verdict ==
            (intact ? InitiationVerdict::accepted : InitiationVerdict::bad_timestamp_seal));
    require((bob.state() == Handshake::State::initiation_consumed) == intact);
  }
}

void take_response(World& w, const uint8_t* data, size_t size) {
  const MessageResponse genuine = w.genuine_answer();
  const MessageResponse message = changed(genuine, data, size);
  constexpr size_t kFrom = offsetof(MessageResponse, receiver);
  constexpr size_t kTo = offsetof(MessageResponse, macs);
  // The top bit of an ephemeral is no part of the point, but it is part of the hash.
  const bool taken = w.caller->handshake.consume_response(w.alice, message);
  require(taken == same(genuine, message, kFrom, kTo));
  if (!taken) {
    require(w.caller->handshake.state() == Handshake::State::initiation_created);
    return;
  }
  Keypair sent, received;
  require(w.caller->handshake.derive(kNow, sent) && w.answerer->derive(kNow, received));
  require(std::memcmp(sent.sending.bytes, received.receiving.bytes, 32) == 0);
  w.restart();
}

void take_cookie_reply(World& w, const uint8_t* data, size_t size) {
  MessageInitiation call = w.caller->call;
  auto* bytes = reinterpret_cast<uint8_t*>(&call);
  MessageCookieReply genuine;
  w.checker.create_reply(kNow, bytes, sizeof(call), call.sender, w.from, genuine);
  const MessageCookieReply message = changed(genuine, data, size);
  constexpr size_t kFrom = offsetof(MessageCookieReply, nonce);
  const bool taken = w.caller->jar.consume_reply(kNow, message);
  require(taken == same(genuine, message, kFrom, sizeof(message)));
  if (taken) {
    w.caller->jar.add_macs(kNow, bytes, sizeof(call));
    require(w.checker.check_mac2(kNow, bytes, sizeof(call), w.from));
    w.restart();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  World& w = world();
  const uint8_t choice = data[0];
  // A copy of the exact size, so that a sanitizer sees the first byte read beyond it.
  const auto rest = std::make_unique<uint8_t[]>(size - 1);
  std::memcpy(rest.get(), data + 1, size - 1);
  if (choice % 2 == 0) {
    take_datagram(w, rest.get(), size - 1);
    return 0;
  }
  switch (choice / 2 % 3) {
    case 0:
      take_initiation(w, rest.get(), size - 1);
      break;
    case 1:
      take_response(w, rest.get(), size - 1);
      break;
    default:
      take_cookie_reply(w, rest.get(), size - 1);
  }
  return 0;
}
