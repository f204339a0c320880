// A puppet: a peer without an engine, whose every message the test makes by hand. It can say what
// no engine would.
#pragma once

#include "crypto/aead.h"
#include "tests/dataplane/pair.h"

namespace sallyport::test {

class Puppet {
 public:
  Puppet(const KeyBytes& private_key, const wireguard::PublicKey& target,
         const Endpoint& address = *parse_endpoint("192.0.2.99:9999"))
      : address_(address) {
    identity_.set_private_key(private_key.data());
    handshake_.set_identities(identity_, target);
    cookies_.set_remote(target);
  }

  const Endpoint& address() const { return address_; }
  const wireguard::PublicKey& public_key() const { return identity_.public_key; }

  Bytes initiation() {
    wireguard::MessageInitiation message;
    EXPECT_TRUE(handshake_.create_initiation(identity_, FakeClock::wall(), ++index_, message));
    return with_macs(&message, sizeof(message));
  }
  bool consume_response(const Bytes& bytes) {
    const auto* response = reinterpret_cast<const wireguard::MessageResponse*>(bytes.data());
    if (!handshake_.consume_response(identity_, *response)) {
      return false;
    }
    keypair_ = std::make_unique<wireguard::Keypair>();
    return handshake_.derive(FakeClock::now(), *keypair_);
  }
  bool consume_cookie(const Bytes& bytes) {
    return cookies_.consume_reply(
        FakeClock::now(), *reinterpret_cast<const wireguard::MessageCookieReply*>(bytes.data()));
  }

  Bytes seal(const Bytes& plain, uint64_t counter) const {
    Bytes out(sizeof(wireguard::MessageData) + plain.size() + crypto::kTagSize);
    auto& header = at<wireguard::MessageData>(out, 0);
    header.type = 4;
    header.receiver = keypair_->remote_index;
    header.counter = counter;
    crypto::aead_seal_with_ad(std::span(out).subspan(sizeof(header)), plain, {},
                              std::span(keypair_->sending.bytes), counter);
    return out;
  }

  // The whole conversation up to a confirmed session, with the node answering to whoever listens.
  void meet(Node& node) {
    hand(node, initiation());
    node.settle();
    const std::vector<MemoryPort::Frame> answers = node.handshake_port().sent();
    ASSERT_EQ(answers.size(), 1u);
    ASSERT_TRUE(consume_response(answers[0].bytes));
    hand(node, seal({}, 0));
    node.settle();
  }
  void hand(Node& node, const Bytes& bytes, uint8_t tos = 0) const {
    const bool data =
        wireguard::classify(bytes.data(), bytes.size()) == wireguard::MessageKind::data;
    MemoryPort& port = data ? node.outer((load<le32>(bytes.data() + 4) & 0xff) % node.workers())
                            : node.handshake_port();
    port.inject(bytes, address_, tos);
  }

 private:
  Bytes with_macs(void* message, size_t size) {
    auto* bytes = static_cast<uint8_t*>(message);
    cookies_.add_macs(FakeClock::now(), bytes, size);
    return {bytes, bytes + size};
  }

  Endpoint address_;
  wireguard::Identity identity_;
  wireguard::Handshake handshake_;
  wireguard::CookieJar cookies_;
  std::unique_ptr<wireguard::Keypair> keypair_;
  uint32_t index_ = 0x1000;
};

}  // namespace sallyport::test
