// A pair: two engines, A and B, and an eavesdropper who holds the network between them.
//
// Nothing moves by itself. settle() lets everything happen that needs no time; advance() lets time
// pass, stopping wherever an engine's timers want it. The eavesdropper sees every datagram, and may
// drop, change, hold or invent one.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/base/rcu.h"
#include "dataplane/wireguard/message.h"
#include "tests/dataplane/node.h"

namespace sallyport::test {

struct Datagram {
  Bytes bytes;
  Endpoint from;
  Endpoint to;
  uint8_t tos = 0;
  Time when = 0;

  wireguard::MessageKind kind() const { return wireguard::classify(bytes.data(), bytes.size()); }
  bool is_data() const { return kind() == wireguard::MessageKind::data; }
  uint32_t receiver() const { return load<le32>(bytes.data() + 4); }  // of a data message
  uint64_t counter() const { return load<le64>(bytes.data() + 8); }
};

class Network {
 public:
  // What the eavesdropper does with a datagram: true lets it pass, with the changes made to it.
  using Filter = std::function<bool(Datagram&)>;

  void add(Node& node) { nodes_.push_back(&node); }
  void set_filter(Filter filter) { filter_ = std::move(filter); }
  void pass_all() { filter_ = nullptr; }

  std::vector<Datagram>& wire() { return wire_; }  // all that was sent, passed or not
  size_t count(wireguard::MessageKind kind, const Node& from) const {
    return static_cast<size_t>(std::count_if(wire_.begin(), wire_.end(), [&](const Datagram& one) {
      return one.kind() == kind && one.from.same_remote(from.address());
    }));
  }

  // Takes what the nodes sent, lets the eavesdropper at it, and puts the rest before whom it is
  // for.
  bool deliver() {
    std::vector<Datagram> moving;
    for (Node* node : nodes_) {
      collect(node->outer_ports(), node->address(), moving);
      for (const Node::Added& tunnel : node->added()) {
        collect(tunnel.outer, tunnel.address, moving);
      }
    }
    for (Datagram& datagram : moving) {
      wire_.push_back(datagram);
      if (!filter_ || filter_(datagram)) {
        inject(datagram);
      }
    }
    return !moving.empty();
  }

  // As the kernel's steering would: handshakes to their socket, data to the worker that the index
  // names.
  void inject(const Datagram& datagram) {
    for (Node* node : nodes_) {
      if (node->address().same_remote(datagram.to)) {
        inject(datagram, node->outer_ports());
      }
      for (const Node::Added& tunnel : node->added()) {
        if (tunnel.address.same_remote(datagram.to)) {
          inject(datagram, tunnel.outer);
        }
      }
    }
  }

  void settle() {
    bool moving = true;
    for (int rounds = 0; moving; ++rounds) {
      ASSERT_LT(rounds, 10'000) << "the network never comes to rest";
      moving = false;
      for (Node* node : nodes_) {
        moving |= node->step();
      }
      moving |= deliver();
    }
  }

  void advance(Time by) {
    const Time end = FakeClock::base.load() + by;
    settle();
    while (FakeClock::base.load() < end) {
      Time step = end - FakeClock::base.load();
      for (Node* node : nodes_) {
        step = std::min(step, std::max(node->sleep(), kMillisecond));
      }
      FakeClock::advance(step);
      settle();
    }
  }

 private:
  static void collect(const std::vector<MemoryPort*>& ports, const Endpoint& from,
                      std::vector<Datagram>& moving) {
    for (MemoryPort* port : ports) {
      for (const MemoryPort::Frame& frame : port->sent()) {
        for (Bytes& bytes : frame.segments()) {
          moving.push_back(
              {std::move(bytes), from, frame.endpoint, frame.tos, FakeClock::base.load()});
        }
      }
    }
  }
  static void inject(const Datagram& datagram, const std::vector<MemoryPort*>& outer) {
    const size_t workers = outer.size() - 1;
    MemoryPort& port =
        datagram.is_data() ? *outer[(datagram.receiver() & 0xff) % workers] : *outer.back();
    port.inject(datagram.bytes, datagram.from, datagram.tos);
  }

  std::vector<Node*> nodes_;
  std::vector<Datagram> wire_;
  Filter filter_;
};

class Pair : public testing::Test {
 protected:
  Pair() = default;

  // Each knows the other, its address and its part of 10.0.0.0/24 and fd00::/64.
  void begin(const NodeOptions& a = {}, const NodeOptions& b = {}) {
    FakeClock::reset();
    SeededSodium::seed(42);
    network_ = Network();
    a_ = std::make_unique<Node>(filled_key(0x11), *parse_endpoint("192.0.2.1:1000"), a);
    b_ = std::make_unique<Node>(filled_key(0x22), *parse_endpoint("192.0.2.2:2000"), b);
    network_.add(*a_);
    network_.add(*b_);
    a_->apply(as_peer(*b_, {"10.0.0.2/32", "fd00::2/128"}));
    b_->apply(as_peer(*a_, {"10.0.0.1/32", "fd00::1/128"}));
  }
  void SetUp() override { begin_default(); }
  virtual void begin_default() { begin(); }
  void TearDown() override {
    a_.reset();
    b_.reset();
    FakeClock::current = nullptr;
  }

  static Flow forth() { return {}; }
  static Flow back() { return {.source = "10.0.0.2", .destination = "10.0.0.1"}; }
  static Flow forth6() { return {.source = "fd00::1", .destination = "fd00::2"}; }
  static Flow back6() { return {.source = "fd00::2", .destination = "fd00::1"}; }

  void send_a(std::string_view message) { a_->plain().inject(udp(forth(), text(message))); }
  void send_b(std::string_view message) { b_->plain().inject(udp(back(), text(message))); }

  // The texts that reached a host, in order.
  static std::vector<std::string> texts(Node& node) {
    std::vector<std::string> out;
    for (const Bytes& packet : node.host_packets()) {
      const Bytes payload = udp_payload(packet);
      out.emplace_back(payload.begin(), payload.end());
    }
    return out;
  }

  // One session, made by A, confirmed and used both ways.
  void meet() {
    send_a("hello");
    network_.settle();
    send_b("hello yourself");
    network_.settle();
    ASSERT_EQ(texts(*b_), std::vector<std::string>{"hello"});
    ASSERT_EQ(texts(*a_), std::vector<std::string>{"hello yourself"});
    network_.wire().clear();
  }

  size_t sent(wireguard::MessageKind kind, const Node& from) const {
    return network_.count(kind, from);
  }
  size_t initiations(const Node& from) const {
    return sent(wireguard::MessageKind::initiation, from);
  }
  size_t data_messages(const Node& from) const { return sent(wireguard::MessageKind::data, from); }

  Network network_;
  std::unique_ptr<Node> a_, b_;
};

}  // namespace sallyport::test
