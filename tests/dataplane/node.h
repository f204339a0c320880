// A node: one engine with memory ports, its keys and its place in the network, stepped by hand. It
// begins with one tunnel; a test may add more, each with a key, a place and ports of its own.
//
// One thread. The node's clock is current while its engine is stepped or changed, so each node may
// have its own idea of the time.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/engine.h"
#include "tests/dataplane/fake_clock.h"
#include "tests/dataplane/packets.h"
#include "tun/memory_port.h"

namespace sallyport::test {

struct NodeOptions {
  unsigned workers = 1;
  size_t buffers_per_worker = 192;
  size_t staging_blocks = 4096;
  std::vector<Gso> takes{};  // of the plain ports
  uint32_t mtu = 1420;
};

inline KeyBytes filled_key(uint8_t byte) {
  KeyBytes key;
  key.fill(byte);
  return key;
}

inline wireguard::PublicKey public_key_of(const KeyBytes& private_key) {
  wireguard::Identity identity;
  identity.set_private_key(private_key.data());
  return identity.public_key;
}

class Node {
 public:
  Node(const KeyBytes& private_key, const Endpoint& address, const NodeOptions& options)
      : private_key_(private_key), address_(address), options_(options) {
    start();
  }

  // A fresh engine with the same key, and nothing else of the old one. That one lies still until
  // the node goes: to free it means waiting for a grace period.
  void start() {
    enter();
    former_.push_back(std::move(engine_));
    EngineOptions options;
    options.workers = options_.workers;
    options.buffers_per_worker = options_.buffers_per_worker;
    options.staging_blocks = options_.staging_blocks;
    options.clock = FakeClock::now;
    options.wall_clock = FakeClock::wall;
    options.cost_clock = FakeClock::cost;
    engine_ = std::make_unique<Engine>(options);
    connect_plain();
    connect_outer();
    engine_->set_mtu(options_.mtu);
    TunnelChange change;
    change.private_key = private_key_;
    apply(change);
    engine_->set_up(true);
  }

  // A tunnel beside the first.
  struct Added {
    TunnelNumber number;
    KeyBytes private_key;
    Endpoint address;
    std::vector<MemoryPort*> plain, outer;
  };
  TunnelNumber add_tunnel(const KeyBytes& private_key, const Endpoint& address) {
    const TunnelNumber number = engine().add_tunnel();
    Added& tunnel = added_.emplace_back(Added{number, private_key, address, {}, {}});
    engine_->set_plain_ports(make_ports(options_.workers, "plain", tunnel.plain), number);
    engine_->set_outer_ports(make_ports(options_.workers + 1, "outer", tunnel.outer), number);
    engine_->set_mtu(options_.mtu, number);
    TunnelChange change;
    change.private_key = private_key;
    apply(change, number);
    engine_->set_up(true, number);
    return number;
  }
  void remove_tunnel(TunnelNumber number) {
    std::erase_if(added_, [&](const Added& tunnel) { return tunnel.number == number; });
    engine().remove_tunnel(number);
  }
  // From now on it goes through that one, by this port.
  void nest(TunnelNumber number, TunnelNumber via, uint16_t port) {
    engine().set_via(via, port, number);
    for (Added& tunnel : added_) {
      if (tunnel.number == number) {
        tunnel.outer.clear();
      }
    }
  }
  const std::vector<Added>& added() const { return added_; }
  MemoryPort& plain_of(TunnelNumber number, unsigned worker = 0) {
    for (const Added& tunnel : added_) {
      if (tunnel.number == number) {
        return *tunnel.plain[worker];
      }
    }
    return *plain_[worker];
  }

  Engine& engine() {
    enter();
    return *engine_;
  }
  const Endpoint& address() const { return address_; }
  void move_to(const Endpoint& address) { address_ = address; }
  wireguard::PublicKey public_key() const { return public_key_of(private_key_); }
  unsigned workers() const { return options_.workers; }
  NodeClock& clock() { return clock_; }

  void apply(const TunnelChange& change, TunnelNumber number = 0) {
    const Result<void> result = engine().apply(change, number);
    ASSERT_TRUE(result.has_value()) << result.error().text;
  }
  void apply(const PeerChange& peer, TunnelNumber number = 0) {
    TunnelChange change;
    change.peers.push_back(peer);
    apply(change, number);
  }

  // Ports as control would open them.
  void connect_plain() { engine().set_plain_ports(make_ports(options_.workers, "plain", plain_)); }
  void connect_outer() {
    engine().set_outer_ports(make_ports(options_.workers + 1, "outer", outer_));
  }
  MemoryPort& plain(unsigned worker = 0) { return *plain_[worker]; }
  MemoryPort& outer(unsigned worker = 0) { return *outer_[worker]; }
  MemoryPort& handshake_port() { return *outer_.back(); }
  const std::vector<MemoryPort*>& plain_ports() const { return plain_; }
  const std::vector<MemoryPort*>& outer_ports() const { return outer_; }

  // One round of everybody. True if anybody had anything to do.
  bool step() {
    enter();
    bool worked = false;
    for (unsigned i = 0; i < options_.workers; ++i) {
      worked |= engine_->step_worker(i);
    }
    for (const Added& tunnel : added_) {
      worked |= engine_->step_handshaker(tunnel.number);
    }
    return engine_->step_handshaker() || worked;
  }
  void settle() {
    for (int rounds = 0; step(); ++rounds) {
      ASSERT_LT(rounds, 100'000) << "the engine never comes to rest";
    }
  }
  Time sleep() {
    Time least = engine().handshaker_sleep();
    for (const Added& tunnel : added_) {
      least = std::min(least, engine_->handshaker_sleep(tunnel.number));
    }
    return least;
  }

  // What the host has got from this node's tunnel, since last asked.
  std::vector<MemoryPort::Frame> host_frames() {
    std::vector<MemoryPort::Frame> all;
    for (MemoryPort* port : plain_) {
      for (MemoryPort::Frame& frame : port->sent()) {
        all.push_back(std::move(frame));
      }
    }
    return all;
  }
  std::vector<Bytes> host_packets() {
    std::vector<Bytes> packets;
    for (MemoryPort::Frame& frame : host_frames()) {
      packets.push_back(std::move(frame.bytes));
    }
    return packets;
  }

  uint64_t drops(DropReason reason) {
    const EngineStatus status = engine().status();
    uint64_t sum = status.handshaker.drops[static_cast<size_t>(reason)];
    for (const Added& tunnel : added_) {
      sum += engine_->status(tunnel.number).handshaker.drops[static_cast<size_t>(reason)];
    }
    for (const WorkerStatus& worker : status.workers) {
      sum += worker.drops[static_cast<size_t>(reason)];
    }
    return sum;
  }
  PeerState peer(size_t index = 0) {
    TunnelState state = engine().describe();
    return index < state.peers.size() ? state.peers[index] : PeerState{};
  }

  void enter() { FakeClock::current = &clock_; }

 private:
  std::vector<std::unique_ptr<Port>> make_ports(unsigned count, const char* name,
                                                std::vector<MemoryPort*>& list) {
    list.clear();
    std::vector<std::unique_ptr<Port>> ports;
    for (unsigned i = 0; i < count; ++i) {
      auto port = std::make_unique<MemoryPort>(name);
      for (const Gso kind : options_.takes) {
        port->set_takes(kind, true);
      }
      list.push_back(port.get());
      ports.push_back(std::move(port));
    }
    return ports;
  }

  KeyBytes private_key_;
  Endpoint address_;
  NodeOptions options_;
  NodeClock clock_;
  std::vector<MemoryPort*> plain_, outer_;
  std::vector<Added> added_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::unique_ptr<Engine>> former_;
};

// `node` as a peer of somebody else's.
inline PeerChange as_peer(const Node& node, const std::vector<std::string>& allowed,
                          bool with_endpoint = true) {
  PeerChange peer;
  peer.public_key = node.public_key();
  if (with_endpoint) {
    peer.endpoint = node.address();
  }
  for (const std::string& prefix : allowed) {
    peer.allowed_ips.push_back({*parse_prefix(prefix), false});
  }
  return peer;
}

}  // namespace sallyport::test
