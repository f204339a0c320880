// A session's keys, and the three of them that a peer may hold at once: previous, current, next
// (whitepaper section 6.1; rotation as in the kernel module).
//
// Thread rules. Any worker reads a slot with an acquire load and may use the keypair until its next
// quiescent state (dataplane/base/rcu.h). Slots change under the peer's own mutex, twice a session.
// The receive half belongs to the worker that the low byte of local_index names: only it touches
// `replay`. Sending is open to all: a burst of n takes its n counters with one fetch_add.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "crypto/aead.h"
#include "dataplane/base/clock.h"
#include "dataplane/wireguard/limits.h"
#include "dataplane/wireguard/replay.h"

namespace sallyport::wireguard {

struct Peer;

struct Keypair {
  crypto::AeadKey sending;
  crypto::AeadKey receiving;
  Peer* peer = nullptr;
  Time birth = 0;
  uint32_t local_index = 0;   // ours: names this keypair in what we receive
  uint32_t remote_index = 0;  // theirs: goes into what we send
  bool is_initiator = false;

  alignas(64) std::atomic<uint64_t> sending_counter{0};
  std::atomic<bool> dead{false};  // expired or replaced: neither seals nor opens any more

  alignas(64) ReplayWindow replay;  // owner worker only

  bool expired(Time now) const { return now - birth >= kRejectAfterTime; }
  bool usable(Time now) const { return !dead.load(std::memory_order_relaxed) && !expired(now); }
};

// What a change of slots put out of use; the caller takes its indices out of the index table and
// retires it (RCU).
struct Displaced {
  Keypair* keypairs[3] = {};
  unsigned count = 0;

  void add(Keypair* keypair) {
    if (keypair != nullptr) {
      keypairs[count++] = keypair;
    }
  }
};

class Keypairs {
 public:
  Keypair* current() const { return current_.load(std::memory_order_acquire); }
  Keypair* previous() const { return previous_.load(std::memory_order_acquire); }
  Keypair* next() const { return next_.load(std::memory_order_acquire); }

  // A freshly derived session. As initiator it becomes current at once; as responder it waits in
  // next until the initiator's first data packet confirms it.
  Displaced install(Keypair* fresh);

  // A data packet was authenticated with this keypair. True if it was next: it is current now, and
  // what is staged may go.
  bool confirm(Keypair* used, Displaced& displaced);

  // Forgets all three (zeroing, removal, new private key). They are marked dead before they are
  // returned.
  Displaced clear();

 private:
  std::mutex mutex_;  // writers only
  std::atomic<Keypair*> previous_{nullptr};
  std::atomic<Keypair*> current_{nullptr};
  std::atomic<Keypair*> next_{nullptr};
};

}  // namespace sallyport::wireguard
