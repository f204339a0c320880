#include "dataplane/path/tunnel.h"

#include <algorithm>
#include <utility>

#include "dataplane/base/rcu.h"

namespace sallyport {

PeerSlots::~PeerSlots() {
  for (auto& chunk : chunks_) {
    delete chunk.load(std::memory_order_relaxed);
  }
}

void PeerSlots::set(uint32_t slot, wireguard::Peer* peer) {
  Chunk* chunk = chunks_[slot / kChunk].load(std::memory_order_relaxed);
  if (chunk == nullptr) {
    chunk = new Chunk;
    chunks_[slot / kChunk].store(chunk, std::memory_order_release);
  }
  chunk->peers[slot % kChunk].store(peer, std::memory_order_release);
}

std::optional<uint32_t> PeerSlots::claim() {
  const std::lock_guard lock(mutex_);
  if (!free_.empty()) {
    const uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  return untouched_ < wireguard::kPeersMax ? std::optional(untouched_++) : std::nullopt;
}

void PeerSlots::release(uint32_t slot) {
  const std::lock_guard lock(mutex_);
  free_.push_back(slot);
}

// -- SharedOwners

// A list that no table holds any more, until no reader can be looking at it.
struct SharedOwners::Removed {
  SharedOwners* owners;
  const List* list;
  uint32_t number;
};

SharedOwners::~SharedOwners() {
  for (auto& each : chunks_) {
    Chunk* chunk = each.load(std::memory_order_relaxed);
    if (chunk != nullptr) {
      for (auto& list : chunk->lists) {
        delete list.load(std::memory_order_relaxed);
      }
      delete chunk;
    }
  }
}

std::optional<LpmValue> SharedOwners::add(List slots) {
  uint32_t number;
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      number = free_.back();
      free_.pop_back();
    } else if (untouched_ < kListsMax) {
      number = untouched_++;
    } else {
      return std::nullopt;
    }
  }
  auto& place = chunks_[number / kChunk];
  if (place.load(std::memory_order_relaxed) == nullptr) {
    place.store(new Chunk, std::memory_order_release);
  }
  place.load(std::memory_order_relaxed)
      ->lists[number % kChunk]
      .store(new List(std::move(slots)), std::memory_order_release);
  ++size_;
  return number | kMark;
}

void SharedOwners::remove(LpmValue value) {
  const uint32_t number = value & ~kMark;
  auto& place = chunks_[number / kChunk].load(std::memory_order_relaxed)->lists[number % kChunk];
  --size_;
  auto* removed = new Removed{this, place.load(std::memory_order_relaxed), number};
  rcu_retire(removed, [](void* raw) {
    auto* gone = static_cast<Removed*>(raw);
    Chunk* chunk = gone->owners->chunks_[gone->number / kChunk].load(std::memory_order_relaxed);
    chunk->lists[gone->number % kChunk].store(nullptr, std::memory_order_relaxed);
    delete gone->list;
    const std::lock_guard lock(gone->owners->mutex_);
    gone->owners->free_.push_back(gone->number);
    delete gone;
  });
}

// -- Tunnel

bool Tunnel::is_among(const wireguard::Peer& peer, const SharedOwners::List& slots) const {
  // By slot and by pointer: a slot may have been given to another peer while this one leaves.
  return peers.get(peer.slot) == &peer &&
         std::find(slots.begin(), slots.end(), peer.slot) != slots.end();
}

void Tunnel::retire(const wireguard::Displaced& displaced) {
  for (unsigned i = 0; i < displaced.count; ++i) {
    indices.remove(displaced.keypairs[i]->local_index);
    rcu_delete(displaced.keypairs[i]);
  }
}

}  // namespace sallyport
