// PathMtu: what the way to a peer carries of one outer datagram, headers included: as configured, and as the network has said since.
//
// What the network says only lowers it, never below kPathMtuMin, and counts for kPathMtuLifetime: then a larger packet tries
// again whether the way has changed (RFC 1191 6.3). Whom to believe is for the caller: the kernel has checked that an ICMP error is about
// a datagram of ours.
//
// Thread rules: set_configured is control's; learn and get are for any thread, and two that learn at once leave either's word.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "dataplane/base/clock.h"
#include "dataplane/wireguard/limits.h"

namespace sallyport::wireguard {

class PathMtu {
 public:
  // 0: not known.
  void set_configured(uint32_t bytes) { configured_.store(bytes, std::memory_order_relaxed); }

  void learn(uint32_t bytes, Time now) {
    const uint32_t known = get(now);
    const uint32_t bounded = std::max(bytes, kPathMtuMin);
    if (known != 0 && bounded >= known) {
      return;
    }
    until_.store(now + kPathMtuLifetime, std::memory_order_relaxed);
    learned_.store(bounded, std::memory_order_relaxed);
  }

  // 0: not known.
  uint32_t get(Time now) const {
    const uint32_t configured = configured_.load(std::memory_order_relaxed);
    const uint32_t learned = learned_.load(std::memory_order_relaxed);
    if (learned == 0 || now >= until_.load(std::memory_order_relaxed)) {
      return configured;
    }
    return configured == 0 ? learned : std::min(configured, learned);
  }

 private:
  std::atomic<uint32_t> configured_{0}, learned_{0};
  std::atomic<Time> until_{0};
};

}  // namespace sallyport::wireguard
