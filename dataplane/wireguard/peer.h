// A peer: everything Sallyport knows of one public key on one tunnel.
//
// Three owners, three groups of fields:
//   workers      read keypairs (RCU) and endpoint (seqlock), add to their own counter line, leave
//                timer stamps
//   handshaker   handshake, cookies, timers' deadlines; control takes the handshaker's mutex to
//                touch these
//   control      makes and removes peers; a removed one is freed after a grace period
// An idle peer costs about 2 KiB plus 64 bytes a worker (bench/peers measures it).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "dataplane/base/record_queue.h"
#include "dataplane/base/seqlock.h"
#include "dataplane/net/address.h"
#include "dataplane/wireguard/cookie.h"
#include "dataplane/wireguard/handshake.h"
#include "dataplane/wireguard/keypair.h"
#include "dataplane/wireguard/path_mtu.h"
#include "dataplane/wireguard/timers.h"

namespace sallyport::wireguard {

// One worker's share of a peer's counters: that worker adds, anyone reads.
struct alignas(64) PeerCounters {
  std::atomic<uint64_t> rx_bytes{0};
  std::atomic<uint64_t> tx_bytes{0};
  std::atomic<uint64_t> rx_packets{0};
  std::atomic<uint64_t> tx_packets{0};
};

struct PeerTotals {
  uint64_t rx_bytes = 0, tx_bytes = 0, rx_packets = 0, tx_packets = 0;
};

// What a worker may ask of the handshaker for a peer. Whoever raises the first bit also rings the
// bell.
enum PeerRequest : uint32_t {
  kWantHandshake = 1,  // there is data and no usable key, or the key grows old
  kConfirmed = 2,  // the first data packet under a next keypair arrived: the handshake is complete
};

inline constexpr size_t kDropReasonsMax = 64;  // path/drop.h asserts that its enum fits

struct Peer {
  Peer(const PublicKey& key, uint32_t peer_slot, unsigned worker_count, uint16_t tunnel_number = 0);

  const PublicKey public_key;
  const uint32_t slot;    // the handle that allowed-IPs tables hold
  const uint16_t tunnel;  // the number of the tunnel it belongs to
  // The name by which policy knows it (path/peer_tags.h); 0: none.
  std::atomic<uint32_t> tag{0};

  // Workers.
  Keypairs keypairs;
  Seqlocked<Endpoint> endpoint;
  PathMtu path_mtu;
  Timers timers;
  std::atomic<uint32_t> requests{0};  // PeerRequest bits; the handshaker takes them all at once
  RecordQueue staged;                 // packets that wait for a session
  const unsigned workers;
  std::unique_ptr<PeerCounters[]> counters;  // one a worker, and one for the handshaker
  std::atomic<uint32_t> drops[kDropReasonsMax]{};

  // Handshaker.
  Handshake handshake;
  CookieJar cookies;
  Time last_initiation_sent = kNever;
  std::atomic<uint64_t> handshakes_completed{0};
  uint32_t endpoint_failures = 0;  // retries unanswered: after a few, our source is forgotten
  uint32_t handshake_index = 0;    // the receiver index of the handshake in progress, if it has one
  bool has_handshake_index = false;
  bool active = false;  // on the handshaker's list

  PeerTotals totals() const;
};

}  // namespace sallyport::wireguard
