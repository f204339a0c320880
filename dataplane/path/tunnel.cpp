#include "dataplane/path/tunnel.h"

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

void Tunnel::retire(const wireguard::Displaced& displaced) {
  for (unsigned i = 0; i < displaced.count; ++i) {
    indices.remove(displaced.keypairs[i]->local_index);
    rcu_delete(displaced.keypairs[i]);
  }
}

}  // namespace sallyport
