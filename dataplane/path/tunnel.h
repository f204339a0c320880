// Tunnel: the run-time state of one WireGuard interface that the path reads, and control and handshaker write.
//
// Owned by the engine for as long as it lives. Readers (workers) take no lock: allowed-IPs are tries that change one
// atomic step at a time, peers stand in slots, receiver indices in a hash table; what goes is freed after a grace period.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "dataplane/base/record_queue.h"
#include "dataplane/net/run.h"
#include "dataplane/table/index_table.h"
#include "dataplane/table/lpm.h"
#include "dataplane/wireguard/peer.h"

namespace sallyport {

// Peers by slot number, the handle that allowed-IPs tables hold. Chunks appear as slots are first used and never move.
class PeerSlots {
 public:
  PeerSlots() = default;
  ~PeerSlots();
  PeerSlots(const PeerSlots&) = delete;
  PeerSlots& operator=(const PeerSlots&) = delete;

  wireguard::Peer* get(uint32_t slot) const {
    const Chunk* chunk = chunks_[slot / kChunk].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr : chunk->peers[slot % kChunk].load(std::memory_order_acquire);
  }
  void set(uint32_t slot, wireguard::Peer* peer);  // one writer

  // A free slot number; nothing when all kPeersMax are taken. A slot goes back only after a grace period: a worker that
  // looked it up before must not find another peer in it.
  std::optional<uint32_t> claim();
  void release(uint32_t slot);  // any thread

 private:
  static constexpr size_t kChunk = 1024;
  struct Chunk {
    std::atomic<wireguard::Peer*> peers[kChunk]{};
  };
  std::atomic<Chunk*> chunks_[wireguard::kPeersMax / kChunk]{};
  std::mutex mutex_;  // of the two below
  std::vector<uint32_t> free_;
  uint32_t untouched_ = 0;  // slots from here on were never used
};

// What a receiver index leads to: a session, or a peer whose handshake we began.
class IndexEntry {
 public:
  explicit IndexEntry(uintptr_t value) : value_(value) {}
  explicit IndexEntry(wireguard::Keypair* keypair) : value_(reinterpret_cast<uintptr_t>(keypair)) {}
  explicit IndexEntry(wireguard::Peer* peer) : value_(reinterpret_cast<uintptr_t>(peer) | 1) {}

  uintptr_t value() const { return value_; }
  wireguard::Keypair* keypair() const {
    return (value_ & 1) != 0 ? nullptr : reinterpret_cast<wireguard::Keypair*>(value_);
  }
  wireguard::Peer* peer() const {
    return (value_ & 1) == 0 ? nullptr : reinterpret_cast<wireguard::Peer*>(value_ & ~uintptr_t{1});
  }

 private:
  uintptr_t value_;
};

struct Tunnel {
  explicit Tunnel(size_t staging_blocks) : staging(staging_blocks) {}

  PeerSlots peers;
  IndexTable indices;
  Lpm4 allowed_v4;
  Lpm6 allowed_v6;
  RecordPool staging;

  // The peer whose allowed-IPs cover this address (network order), or nullptr.
  wireguard::Peer* owner_of(Family family, const uint8_t* address) const {
    const LpmValue slot = family == Family::v4 ? allowed_v4.lookup(Lpm4::from_bytes(address))
                                               : allowed_v6.lookup(Lpm6::from_bytes(address));
    return slot == kLpmMiss ? nullptr : peers.get(slot);
  }

  // Takes displaced keypairs out of the index table and frees them after a grace period. Any thread.
  void retire(const wireguard::Displaced& displaced);
};

}  // namespace sallyport
