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

#include "dataplane/base/mailbox.h"
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

// Peers that hold one and the same prefix of allowed-IPs: what an allowed-IPs table holds is then no slot but, marked,
// the number of a list here. Lists are immutable; a change makes a new one. All of the list may send from the prefix; the
// first is who it is sent to where no policy says otherwise.
class SharedOwners {
 public:
  static constexpr uint32_t kMark = 1u << 31;
  static constexpr uint32_t kListsMax = 1u << 16;
  using List = std::vector<uint32_t>;  // slots

  SharedOwners() = default;
  ~SharedOwners();
  SharedOwners(const SharedOwners&) = delete;
  SharedOwners& operator=(const SharedOwners&) = delete;

  static bool is_shared(LpmValue value) { return (value & kMark) != 0; }
  const List& get(LpmValue value) const {
    const uint32_t number = value & ~kMark;
    return *chunks_[number / kChunk]
                .load(std::memory_order_acquire)
                ->lists[number % kChunk]
                .load(std::memory_order_acquire);
  }
  // A value for this list; nothing when all numbers are taken. One writer.
  std::optional<LpmValue> add(List slots);
  void remove(LpmValue value);           // after no table holds it: freed after a grace period
  size_t size() const { return size_; }  // lists that are held; the writer's

 private:
  static constexpr size_t kChunk = 256;
  struct Chunk {
    std::atomic<const List*> lists[kChunk]{};
  };
  struct Removed;

  std::atomic<Chunk*> chunks_[kListsMax / kChunk]{};
  size_t size_ = 0;
  std::mutex mutex_;  // of the two below: a number comes back on liburcu's thread
  std::vector<uint32_t> free_;
  uint32_t untouched_ = 0;
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
  explicit Tunnel(size_t staging_blocks, uint16_t tunnel_number = 0)
      : number(tunnel_number), staging(staging_blocks) {}

  const uint16_t number;
  PeerSlots peers;
  IndexTable indices;
  Lpm4 allowed_v4;
  Lpm6 allowed_v6;
  SharedOwners shared;
  RecordPool staging;
  Mailbox* handshaker = nullptr;                     // where requests and handshake messages go
  std::atomic<bool>* requests_overflowed = nullptr;  // a request found no room: look at all peers

  // The peer whose allowed-IPs cover this address (network order), or nullptr.
  wireguard::Peer* owner_of(Family family, const uint8_t* address) const {
    const LpmValue value = allowed(family, address);
    if (value == kLpmMiss) {
      return nullptr;
    }
    return peers.get(SharedOwners::is_shared(value) ? shared.get(value).front() : value);
  }
  // May this peer send from this address? The longest prefix that covers it decides, and whoever holds that one may.
  bool allows(const wireguard::Peer& peer, Family family, const uint8_t* address) const {
    const LpmValue value = allowed(family, address);
    if (value == kLpmMiss) {
      return false;
    }
    return SharedOwners::is_shared(value) ? is_among(peer, shared.get(value))
                                          : peers.get(value) == &peer;
  }

  // Takes displaced keypairs out of the index table and frees them after a grace period. Any thread.
  void retire(const wireguard::Displaced& displaced);

 private:
  LpmValue allowed(Family family, const uint8_t* address) const {
    return family == Family::v4 ? allowed_v4.lookup(Lpm4::from_bytes(address))
                                : allowed_v6.lookup(Lpm6::from_bytes(address));
  }
  bool is_among(const wireguard::Peer& peer, const SharedOwners::List& slots) const;
};

}  // namespace sallyport
