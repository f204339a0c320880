#include "dataplane/wireguard/peer.h"

namespace sallyport::wireguard {

Peer::Peer(const PublicKey& key, uint32_t peer_slot, unsigned worker_count, uint16_t tunnel_number)
    : public_key(key),
      slot(peer_slot),
      tunnel(tunnel_number),
      workers(worker_count),
      counters(std::make_unique<PeerCounters[]>(worker_count + 1)) {
  cookies.set_remote(key);
}

PeerTotals Peer::totals() const {
  PeerTotals sum;
  for (unsigned i = 0; i <= workers; ++i) {
    const PeerCounters& share = counters[i];
    sum.rx_bytes += share.rx_bytes.load(std::memory_order_relaxed);
    sum.tx_bytes += share.tx_bytes.load(std::memory_order_relaxed);
    sum.rx_packets += share.rx_packets.load(std::memory_order_relaxed);
    sum.tx_packets += share.tx_packets.load(std::memory_order_relaxed);
  }
  return sum;
}

}  // namespace sallyport::wireguard
