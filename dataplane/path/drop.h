// DropReason: every packet that Sallyport throws away does so under one of these names.
//
// One enum for all stages, counted per worker and, where the peer is known, per peer; `sallyport status` prints the
// names as they stand in kDropNames. A stage that discards calls drop(); there is no other way out of the line.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "dataplane/wireguard/peer.h"

namespace sallyport {

enum class DropReason : uint8_t {
  none,
  // outer side, before the cipher
  outer_malformed,          // no WireGuard message: type, reserved bytes or length
  unknown_index,            // a data message for a receiver index we do not hold
  expired_key,              // its keypair is past REJECT_AFTER_TIME or replaced
  mailbox_full,             // it belongs to another worker, whose mailbox has no room
  handshake_in_data_queue,  // a handshake message on a worker's socket while the handshaker's ring is full
  // handshake
  bad_mac1,                 // not made for our public key
  under_load_no_cookie,     // answered with a cookie instead
  under_load_rate_limited,  // its source has had its share
  initiation_undecryptable,
  initiation_unknown_peer,
  initiation_replayed,  // timestamp not newer than the last
  initiation_too_soon,  // more than 50 a second from one peer
  response_unexpected,  // nothing of ours is being answered
  response_invalid,
  cookie_reply_invalid,
  handshake_no_private_key,
  handshake_peer_unusable,  // a low-order public key
  // after the cipher
  bad_tag,             // forged, damaged, or sealed with another key
  replayed_counter,    // outside the window, or seen before
  inner_malformed,     // no IP packet inside, or longer than what was sealed
  source_not_allowed,  // the inner source is not among the peer's allowed-IPs
  ecn_invalid,         // CE outside, not ECN-capable inside (RFC 6040)
  // plain side
  plain_malformed,    // the host handed over something that is no IP packet
  no_peer,            // no allowed-IPs entry covers the destination
  no_endpoint,        // the peer was never heard of and none is configured
  peer_unusable,      // a low-order public key: never sent to
  staged_overflow,    // waiting for a handshake, pushed out by newer packets
  handshake_gave_up,  // waited 90 s for a handshake that did not come
  counter_exhausted,  // 2^64 - 2^13 packets under one key
  too_big_for_train,  // larger than any datagram
  nested_too_deep,    // a tunnel through a tunnel through ... beyond what there is room for
  too_big,            // does not fit the tunnel or the peer's path, and may not be cut
  routing_loop,       // the datagram that carries a session, routed back into it
  // policy
  policy_drop,     // a rule or an exit says so
  policy_reject,   // the same, and the sender was told
  exit_down,       // every member of the group of exits is down
  exit_gone,       // the exit's peer or tunnel is not there
  exit_is_origin,  // to the host by the port that the host sent it in by
  lan_denied,      // a private destination, and the exit's peer is not to see those
  ttl_exceeded,    // between two peers we are a router: TTL or hop limit used up
  // flows
  flow_invalid,      // translated, but no packet that its flow could have
  flow_table_full,   // no room for another flow
  flow_share,        // its peer, or its source, has its share of the flows
  flow_clash,        // its flow cannot be told from another
  reverse_path,      // what would be sent to its source would not go where it came from
  fragment_early,    // its first fragment, which has the ports, has not come
  fragment_refused,  // overlaps another, or cannot be what it says
  filter_drop,       // a filter says so
  filter_reject,     // the same, and the sender was told
  nat_no_address,    // to be translated, and the way out has no address of this family
  nat_no_port,       // every port towards that destination is taken
  unsolicited,       // an answer to one of our translated sources, to no flow that we know of
  nat_unable,        // a packet that cannot be translated: source-routed, or cut short
  // both ends
  pool_dry,           // no packet buffer left
  tunnel_down,        // the interface is down, or has no sockets
  outer_send_failed,  // the kernel refused the datagram
  plain_send_failed,  // the TUN refused the packet
  peer_removed,
  count_,
};

inline constexpr size_t kDropReasons = static_cast<size_t>(DropReason::count_);
static_assert(kDropReasons <= wireguard::kDropReasonsMax);

std::string_view drop_name(DropReason reason);

// One thread's counts: that thread adds, anyone reads.
class DropCounts {
 public:
  void add(DropReason reason, uint64_t packets = 1) {
    auto& count = counts_[static_cast<size_t>(reason)];
    count.store(count.load(std::memory_order_relaxed) + packets, std::memory_order_relaxed);
  }
  uint64_t get(DropReason reason) const {
    return counts_[static_cast<size_t>(reason)].load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<uint64_t>, kDropReasons> counts_{};
};

// The way out of the line: counts against the thread and, where known, against the peer.
inline void drop(DropCounts& counts, DropReason reason, wireguard::Peer* peer = nullptr,
                 uint32_t packets = 1) {
  counts.add(reason, packets);
  if (peer != nullptr) {
    peer->drops[static_cast<size_t>(reason)].fetch_add(packets, std::memory_order_relaxed);
  }
}

}  // namespace sallyport
