// Tunnels within tunnels, between two real engines. Layer k has 10.0.k.1 and fd00::k:1 at A, ...2 at B, and goes through layer k - 1; layer 0 is
// the pair's own tunnel.
#include "dataplane/path/nest.h"

#include "tests/dataplane/pair.h"

namespace sallyport::test {
namespace {

using wireguard::MessageKind;
using Texts = std::vector<std::string>;

constexpr unsigned kDeepest = 8;

class Nest : public Pair {
 protected:
  void begin_default() override { begin({.mtu = 9000}, {.mtu = 9000}); }

  static std::string address(unsigned layer, unsigned end, bool v6) {
    return v6 ? "fd00::" + std::to_string(layer) + ":" + std::to_string(end)
              : "10.0." + std::to_string(layer) + "." + std::to_string(end);
  }
  static std::string prefix(unsigned layer, unsigned end, bool v6) {
    return address(layer, end, v6) + (v6 ? "/128" : "/32");
  }
  static uint16_t port(unsigned layer) { return static_cast<uint16_t>(5000 + layer); }

  // Layers 1 to `depth` at both ends, whose datagrams are of one family.
  void nest(unsigned depth, bool v6) {
    for (const auto& [node, own, far] :
         {std::tuple(a_.get(), 1u, 2u), std::tuple(b_.get(), 2u, 1u)}) {
      node->engine().set_addresses(*parse_address(address(0, own, false)),
                                   *parse_address(address(0, own, true)), 0);
      Node& other = node == a_.get() ? *b_ : *a_;
      PeerChange base = as_peer(other, {prefix(0, far, false), prefix(0, far, true)});
      node->apply(base);
    }
    for (unsigned layer = 1; layer <= depth; ++layer) {
      for (const auto& [node, own, far] :
           {std::tuple(a_.get(), 1u, 2u), std::tuple(b_.get(), 2u, 1u)}) {
        const TunnelNumber number = node->add_tunnel(
            key(layer, own), *parse_endpoint("192.0.2.99:" + std::to_string(layer)));
        ASSERT_EQ(number, layer);
        node->engine().set_addresses(*parse_address(address(layer, own, false)),
                                     *parse_address(address(layer, own, true)), number);
        node->nest(number, static_cast<TunnelNumber>(layer - 1), port(layer));
        PeerChange peer;
        peer.public_key = public_key_of(key(layer, far));
        const std::string outer = address(layer - 1, far, v6);
        peer.endpoint =
            *parse_endpoint((v6 ? "[" + outer + "]" : outer) + ":" + std::to_string(port(layer)));
        for (const bool six : {false, true}) {
          peer.allowed_ips.push_back({*parse_prefix(prefix(layer, far, six)), false});
        }
        node->apply(peer, number);
      }
    }
  }
  static KeyBytes key(unsigned layer, unsigned end) {
    return filled_key(static_cast<uint8_t>(16 * layer + end));
  }
  static Flow flow(unsigned layer, unsigned from, unsigned to, bool v6 = false) {
    return {.source = address(layer, from, v6), .destination = address(layer, to, v6)};
  }
  // The texts that the host got by this layer's port.
  static Texts texts_of(Node& node, TunnelNumber layer) {
    Texts out;
    for (MemoryPort::Frame& frame : node.plain_of(layer).sent()) {
      for (const Bytes& packet : frame.segments()) {
        const Bytes payload = udp_payload(packet);
        out.emplace_back(payload.begin(), payload.end());
      }
    }
    return out;
  }
  uint64_t all_drops(Node& node) {
    uint64_t sum = 0;
    for (size_t reason = 0; reason < kDropReasons; ++reason) {
      sum += node.drops(static_cast<DropReason>(reason));
    }
    return sum;
  }
};

TEST_F(Nest, AnyDepthBothFamiliesBothWays) {
  for (const bool v6 : {false, true}) {
    for (unsigned depth = 1; depth <= kDeepest; ++depth) {
      SCOPED_TRACE(std::to_string(depth) + (v6 ? " layers, IPv6" : " layers, IPv4"));
      begin_default();
      nest(depth, v6);
      const auto layer = static_cast<TunnelNumber>(depth);
      a_->plain_of(layer).inject(udp(flow(depth, 1, 2), text("down here")));
      network_.settle();
      EXPECT_EQ(texts_of(*b_, layer), Texts{"down here"});
      b_->plain_of(layer).inject(udp(flow(depth, 2, 1, true), text("and back")));
      network_.settle();
      EXPECT_EQ(texts_of(*a_, layer), Texts{"and back"});
      EXPECT_EQ(all_drops(*a_) + all_drops(*b_), 0u);
      for (const Datagram& datagram : network_.wire()) {
        EXPECT_TRUE(datagram.from.same_remote(a_->address()) ||
                    datagram.from.same_remote(b_->address()));
      }
      for (TunnelNumber between = 0; between < layer; ++between) {
        EXPECT_TRUE(texts_of(*a_, between).empty()) << "the host saw an inner datagram";
        EXPECT_TRUE(texts_of(*b_, between).empty());
      }
    }
  }
}

TEST_F(Nest, ALongTrainStaysInOrder) {
  nest(2, false);
  Texts expected;
  for (int i = 0; i < 300; ++i) {
    expected.push_back("number " + std::to_string(i));
    a_->plain_of(2).inject(udp(flow(2, 1, 2), text(expected.back())));
    if (i % 40 == 0) {
      network_.settle();
    }
  }
  network_.settle();
  EXPECT_EQ(texts_of(*b_, 2), expected);
  EXPECT_EQ(all_drops(*a_) + all_drops(*b_), 0u);
}

TEST_F(Nest, SessionsAreRenewed) {
  nest(2, false);
  for (int i = 0; i < 8; ++i) {
    a_->plain_of(2).inject(udp(flow(2, 1, 2), text("still")));
    network_.settle();
    EXPECT_EQ(texts_of(*b_, 2), Texts{"still"}) << i;
    network_.advance(70 * kSecond);
  }
  EXPECT_GE(a_->engine().describe(2).peers.at(0).handshakes, 3u);
}

TEST_F(Nest, AnEndThatRoamsIsFollowed) {
  nest(1, false);
  a_->plain_of(1).inject(udp(flow(1, 1, 2), text("one")));
  network_.settle();
  // A's place within layer 0 is another from now on.
  PeerChange change = as_peer(*a_, {"10.0.0.7/32"}, false);
  b_->apply(change);
  a_->engine().set_addresses(*parse_address("10.0.0.7"), IpAddress{}, 0);
  a_->plain_of(1).inject(udp(flow(1, 1, 2), text("two")));
  network_.settle();
  EXPECT_EQ(texts_of(*b_, 1), (Texts{"one", "two"}));
  EXPECT_EQ(to_text(b_->engine().describe(1).peers.at(0).endpoint.remote), "10.0.0.7");
  b_->plain_of(1).inject(udp(flow(1, 2, 1), text("three")));
  network_.settle();
  EXPECT_EQ(texts_of(*a_, 1), Texts{"three"});
}

TEST_F(Nest, WhatIsForAnotherPortIsTheHosts) {
  nest(1, false);
  Flow other = flow(0, 1, 2);
  other.destination_port = 4242;
  a_->plain().inject(udp(other, text("for the host")));
  network_.settle();
  EXPECT_EQ(texts_of(*b_, 0), Texts{"for the host"});
  Flow inner = flow(0, 1, 2);
  inner.destination_port = port(1);
  a_->plain().inject(udp(inner, text("no message of the protocol")));
  network_.settle();
  EXPECT_TRUE(texts_of(*b_, 0).empty());
  EXPECT_EQ(b_->drops(DropReason::outer_malformed), 1u);
}

TEST_F(Nest, ADatagramEndsWhereUdpSays) {
  nest(1, false);
  a_->plain_of(1).inject(udp(flow(1, 1, 2), text("first")));
  network_.settle();
  ASSERT_EQ(texts_of(*b_, 1), Texts{"first"});
  for (const unsigned said : {0u, 7u, 8u, 9u, 30u, 60'000u}) {
    Flow inner = flow(0, 1, 2);
    inner.destination_port = port(1);
    Bytes packet = udp(inner, text("some bytes of no message"));
    packet[24] = static_cast<uint8_t>(said >> 8);
    packet[25] = static_cast<uint8_t>(said);
    a_->plain().inject(packet);
    network_.settle();
    EXPECT_TRUE(texts_of(*b_, 0).empty()) << said;
  }
  EXPECT_EQ(b_->drops(DropReason::outer_malformed), 5u) << "of the one that says 8 nothing is left";
}

TEST_F(Nest, WithoutTheOuterOneThereIsNoWay) {
  nest(1, false);
  a_->engine().set_up(false, 0);
  a_->plain_of(1).inject(udp(flow(1, 1, 2), text("lost")));
  network_.settle();
  EXPECT_TRUE(network_.wire().empty());
  a_->engine().set_up(true, 0);
  network_.advance(10 * kSecond);
  EXPECT_EQ(texts_of(*b_, 1), Texts{"lost"}) << "it waited for its session";
}

TEST_F(Nest, BackToSockets) {
  nest(1, false);
  a_->engine().set_via(kNoTunnel, 0, 1);
  a_->plain_of(1).inject(udp(flow(1, 1, 2), text("nowhere")));
  network_.settle();
  EXPECT_TRUE(network_.wire().empty());
  EXPECT_TRUE(texts_of(*b_, 1).empty());
}

}  // namespace
}  // namespace sallyport::test
