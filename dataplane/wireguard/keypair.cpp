#include "dataplane/wireguard/keypair.h"

namespace sallyport::wireguard {
namespace {

Keypair* marked_dead(Keypair* keypair) {
  if (keypair != nullptr) {
    keypair->dead.store(true, std::memory_order_relaxed);
  }
  return keypair;
}

}  // namespace

Displaced Keypairs::install(Keypair* fresh) {
  const std::lock_guard lock(mutex_);
  Displaced displaced;
  Keypair* const unconfirmed = next_.load(std::memory_order_relaxed);
  Keypair* const in_use = current_.load(std::memory_order_relaxed);
  displaced.add(marked_dead(previous_.load(std::memory_order_relaxed)));
  if (!fresh->is_initiator) {
    // The session before last goes: the caller is taking part in a new one, and holds at most two.
    previous_.store(nullptr, std::memory_order_release);
    displaced.add(marked_dead(unconfirmed));
    next_.store(fresh, std::memory_order_release);
    return displaced;
  }
  // A session that we answered and the other end has not used yet is younger than the one in use:
  // the other end may already send with it, so it is the one worth keeping to open with.
  if (unconfirmed != nullptr) {
    displaced.add(marked_dead(in_use));
    previous_.store(unconfirmed, std::memory_order_release);
    next_.store(nullptr, std::memory_order_release);
  } else {
    previous_.store(in_use, std::memory_order_release);
  }
  current_.store(fresh, std::memory_order_release);
  return displaced;
}

bool Keypairs::confirm(Keypair* used, Displaced& displaced) {
  if (next_.load(std::memory_order_acquire) != used || used == nullptr) {
    return false;  // nearly every packet: one load
  }
  const std::lock_guard lock(mutex_);
  if (next_.load(std::memory_order_relaxed) != used) {
    return false;  // another change came first
  }
  displaced.add(marked_dead(previous_.load(std::memory_order_relaxed)));
  previous_.store(current_.load(std::memory_order_relaxed), std::memory_order_release);
  current_.store(used, std::memory_order_release);
  next_.store(nullptr, std::memory_order_release);
  return true;
}

Displaced Keypairs::clear() {
  const std::lock_guard lock(mutex_);
  Displaced displaced;
  for (auto* slot : {&previous_, &current_, &next_}) {
    displaced.add(marked_dead(slot->exchange(nullptr, std::memory_order_acq_rel)));
  }
  return displaced;
}

}  // namespace sallyport::wireguard
