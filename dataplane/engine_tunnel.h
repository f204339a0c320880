// EngineTunnel: one tunnel inside an engine: what the path reads of it, its handshaker, its ports, and what control has to
// remember beside (peers in the order they were added, each one's prefixes).
//
// Control's half of a tunnel: it changes allowed-IPs, slots and tags in the order that docs/decisions/0002 asks for.
// Thread rules: control's thread; apply() and describe() with the handshaker's mutex held, which they take themselves.
#pragma once

#include <list>
#include <memory>
#include <set>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "dataplane/engine.h"
#include "dataplane/handshaker.h"
#include "dataplane/path/peer_tags.h"
#include "dataplane/path/tunnel.h"

namespace sallyport {

class EngineTunnel {
 public:
  EngineTunnel(TunnelNumber number, const EngineOptions& options, BufferPool& pool,
               const std::atomic<const Snapshot*>& snapshot, PeerTags& tags);

  Tunnel& tunnel() { return tunnel_; }
  Handshaker& handshaker() { return handshaker_; }
  const Handshaker& handshaker() const { return handshaker_; }

  Result<void> apply(const TunnelChange& change);
  TunnelState describe() const;
  void remove_all_peers();
  void bind_tag(
      const wireguard::PublicKey& key);  // the peer has a name now, if there is such a peer

  // The old ones are retired. Under the mutex, since status() looks at them from any thread.
  using Ports = std::vector<std::unique_ptr<Port>>;
  void replace_plain(Ports ports);
  void replace_outer(Ports ports);
  const Ports& plain_ports() const { return plain_ports_; }
  const Ports& outer_ports() const { return outer_ports_; }

 private:
  struct PrefixOrder {
    bool operator()(const IpPrefix& a, const IpPrefix& b) const {
      return std::tie(a.address.family, a.address.bytes, a.length) <
             std::tie(b.address.family, b.address.bytes, b.length);
    }
  };
  struct PeerRecord {
    wireguard::Peer* peer;
    std::set<IpPrefix, PrefixOrder> allowed_ips;
  };

  Result<void> check(const TunnelChange& change) const;
  void change(const TunnelChange& change);
  void change_peer(const PeerChange& change);
  PeerRecord* add_peer(const wireguard::PublicKey& key);
  void remove_peer(const wireguard::PublicKey& key);
  void allow(PeerRecord& record, const IpPrefix& prefix, bool shared);
  void disallow(PeerRecord& record, const IpPrefix& prefix);
  void give_up(PeerRecord& record, const IpPrefix& prefix);
  std::optional<LpmValue> value_of(const IpPrefix& prefix) const;
  void store(const IpPrefix& prefix, LpmValue value);
  void store_owners(const IpPrefix& prefix, SharedOwners::List owners);
  SharedOwners::List owners_of(LpmValue value) const;

  const unsigned workers_;
  PeerTags& tags_;
  Tunnel tunnel_;
  Handshaker handshaker_;
  Ports plain_ports_, outer_ports_;

  // Under the handshaker's mutex.
  std::list<PeerRecord> records_;  // in the order they were added
  std::unordered_map<wireguard::PublicKey, std::list<PeerRecord>::iterator, PublicKeyHash> by_key_;
  std::vector<PeerRecord*> by_slot_;
  crypto::Key private_key_;  // as it was given, to tell a change from a repetition
  uint32_t fwmark_ = 0;
};

}  // namespace sallyport
