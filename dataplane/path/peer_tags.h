// PeerTags: names for peers that outlive the peers.
//
// A policy speaks of peers ("from site-b", "exit by nyc") for as long as it is in force. The peers themselves come and go
// meanwhile: `wg set ... remove`, a key put back, a slot given to somebody else. So policy holds a tag, a number for "the
// peer of this public key on that tunnel", and a packet finds the peer behind it, or nobody.
//
// Costs: one load to find a peer; 8 bytes a tag. Cannot: give a tag back, but with its whole tunnel; a tag is never
// reused, so an old policy's never means somebody else. At most kTagsMax in an engine's life.
// Threads: get() from any RCU reader, the peer is valid until its quiescent state; all else is control's.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "dataplane/path/snapshot.h"
#include "dataplane/wireguard/peer.h"

namespace sallyport {

class PeerTags {
 public:
  static constexpr uint32_t kTagsMax = 1u << 20;
  static constexpr uint32_t kNone = 0;

  PeerTags() = default;
  ~PeerTags();
  PeerTags(const PeerTags&) = delete;
  PeerTags& operator=(const PeerTags&) = delete;

  wireguard::Peer* get(uint32_t tag) const {
    const Chunk* chunk = chunks_[tag / kChunk].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr : chunk->peers[tag % kChunk].load(std::memory_order_acquire);
  }

  // The tag of this name, a new one if need be; nothing when there are no more.
  std::optional<uint32_t> claim(TunnelNumber tunnel, const wireguard::PublicKey& key);
  // What is behind the tag, if this name has one. Sets the peer's own word, too.
  void bind(wireguard::Peer& peer);
  void unbind(wireguard::Peer& peer);  // before it is retired
  void forget(TunnelNumber tunnel);    // its names mean nothing any more

 private:
  static constexpr size_t kChunk = 1024;
  struct Chunk {
    std::atomic<wireguard::Peer*> peers[kChunk]{};
  };
  void set(uint32_t tag, wireguard::Peer* peer);

  std::atomic<Chunk*> chunks_[kTagsMax / kChunk]{};
  std::map<std::pair<TunnelNumber, wireguard::PublicKey>, uint32_t> names_;
  uint32_t next_ = 1;
};

}  // namespace sallyport
