#include "dataplane/path/peer_tags.h"

namespace sallyport {

PeerTags::~PeerTags() {
  for (auto& chunk : chunks_) {
    delete chunk.load(std::memory_order_relaxed);
  }
}

void PeerTags::set(uint32_t tag, wireguard::Peer* peer) {
  Chunk* chunk = chunks_[tag / kChunk].load(std::memory_order_relaxed);
  if (chunk == nullptr) {
    chunk = new Chunk;
    chunks_[tag / kChunk].store(chunk, std::memory_order_release);
  }
  chunk->peers[tag % kChunk].store(peer, std::memory_order_release);
}

std::optional<uint32_t> PeerTags::claim(TunnelNumber tunnel, const wireguard::PublicKey& key) {
  const auto found = names_.find({tunnel, key});
  if (found != names_.end()) {
    return found->second;
  }
  if (next_ == kTagsMax) {
    return std::nullopt;
  }
  names_.emplace(std::pair(tunnel, key), next_);
  return next_++;
}

void PeerTags::bind(wireguard::Peer& peer) {
  const auto found = names_.find({peer.tunnel, peer.public_key});
  if (found != names_.end()) {
    peer.tag.store(found->second, std::memory_order_relaxed);
    set(found->second, &peer);
  }
}

void PeerTags::unbind(wireguard::Peer& peer) {
  const uint32_t tag = peer.tag.load(std::memory_order_relaxed);
  if (tag != kNone) {
    set(tag, nullptr);
  }
}

void PeerTags::forget(TunnelNumber tunnel) {
  std::erase_if(names_, [tunnel](const auto& name) { return name.first.first == tunnel; });
}

}  // namespace sallyport
