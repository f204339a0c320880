#include "dataplane/engine_tunnel.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>
#include <utility>

#include "dataplane/base/rcu.h"

namespace sallyport {

using wireguard::Peer;

namespace {

void retire_ports(EngineTunnel::Ports& ports) {
  for (auto& port : ports) {
    rcu_delete(port.release());
  }
  ports.clear();
}

}  // namespace

EngineTunnel::EngineTunnel(TunnelNumber number, const EngineOptions& options, BufferPool& pool,
                           const std::atomic<const Snapshot*>& snapshot, PeerTags& tags)
    : workers_(options.workers),
      tags_(tags),
      tunnel_(options.staging_blocks, number),
      handshaker_(tunnel_, pool, snapshot,
                  {options.clock, options.wall_clock, options.cost_clock}) {
  tunnel_.handshaker = &handshaker_.mailbox();
  tunnel_.requests_overflowed = &handshaker_.requests_overflowed();
}

void EngineTunnel::replace_plain(Ports ports) {
  const std::lock_guard lock(handshaker_.mutex());
  retire_ports(plain_ports_);
  plain_ports_ = std::move(ports);
}

void EngineTunnel::replace_outer(Ports ports) {
  const std::lock_guard lock(handshaker_.mutex());
  retire_ports(outer_ports_);
  outer_ports_ = std::move(ports);
}

// -- Allowed-IPs. Each change is one store for a reader.

std::optional<LpmValue> EngineTunnel::value_of(const IpPrefix& prefix) const {
  const uint8_t* bytes = prefix.address.bytes.data();
  return prefix.address.family == Family::v4
             ? tunnel_.allowed_v4.find(Lpm4::from_bytes(bytes), prefix.length)
             : tunnel_.allowed_v6.find(Lpm6::from_bytes(bytes), prefix.length);
}

void EngineTunnel::store(const IpPrefix& prefix, LpmValue value) {
  const uint8_t* bytes = prefix.address.bytes.data();
  if (prefix.address.family == Family::v4) {
    value == kLpmMiss ? tunnel_.allowed_v4.remove(Lpm4::from_bytes(bytes), prefix.length)
                      : tunnel_.allowed_v4.insert(Lpm4::from_bytes(bytes), prefix.length, value);
  } else {
    value == kLpmMiss ? tunnel_.allowed_v6.remove(Lpm6::from_bytes(bytes), prefix.length)
                      : tunnel_.allowed_v6.insert(Lpm6::from_bytes(bytes), prefix.length, value);
  }
}

SharedOwners::List EngineTunnel::owners_of(LpmValue value) const {
  return SharedOwners::is_shared(value) ? tunnel_.shared.get(value) : SharedOwners::List{value};
}

// The prefix is these peers' from now on, whoever had it before.
void EngineTunnel::store_owners(const IpPrefix& prefix, SharedOwners::List owners) {
  const std::optional<LpmValue> before = value_of(prefix);
  if (owners.empty()) {
    store(prefix, kLpmMiss);
  } else if (owners.size() == 1) {
    store(prefix, owners.front());
  } else {
    std::optional<LpmValue> value = tunnel_.shared.add(owners);
    if (!value.has_value()) {
      // check() keeps half of the numbers free, but those of lists just replaced come back after a grace period.
      rcu_barrier_all();
      value = tunnel_.shared.add(std::move(owners));
    }
    store(prefix, *value);
  }
  if (before.has_value() && SharedOwners::is_shared(*before)) {
    tunnel_.shared.remove(*before);
  }
}

void EngineTunnel::allow(PeerRecord& record, const IpPrefix& prefix, bool shared) {
  const uint32_t slot = record.peer->slot;
  SharedOwners::List owners;
  if (const std::optional<LpmValue> value = value_of(prefix); value.has_value()) {
    owners = owners_of(*value);
    if (std::find(owners.begin(), owners.end(), slot) != owners.end() &&
        (shared || owners.size() == 1)) {
      return;
    }
  }
  if (!shared) {
    for (const uint32_t owner : owners) {
      by_slot_[owner]->allowed_ips.erase(prefix);
    }
    owners.clear();
  }
  owners.push_back(slot);
  record.allowed_ips.insert(prefix);
  store_owners(prefix, std::move(owners));
}

// Takes the prefix from the peer in the table, and only there.
void EngineTunnel::give_up(PeerRecord& record, const IpPrefix& prefix) {
  SharedOwners::List owners = owners_of(*value_of(prefix));
  std::erase(owners, record.peer->slot);
  store_owners(prefix, std::move(owners));
}

void EngineTunnel::disallow(PeerRecord& record, const IpPrefix& prefix) {
  if (record.allowed_ips.erase(prefix) > 0) {
    give_up(record, prefix);
  }
}

// -- Peers

EngineTunnel::PeerRecord* EngineTunnel::add_peer(const wireguard::PublicKey& key) {
  std::optional<uint32_t> slot = tunnel_.peers.claim();
  if (!slot.has_value()) {
    // Slots of peers just removed come back after a grace period.
    rcu_barrier_all();
    slot = tunnel_.peers.claim();
  }
  auto* peer = new Peer(key, *slot, workers_, tunnel_.number);
  records_.push_back({peer, {}});
  by_key_.emplace(key, std::prev(records_.end()));
  if (by_slot_.size() <= *slot) {
    by_slot_.resize(*slot + 1);
  }
  by_slot_[*slot] = &records_.back();
  handshaker_.add(*peer);
  tunnel_.peers.set(*slot, peer);
  tags_.bind(*peer);
  return &records_.back();
}

void EngineTunnel::remove_peer(const wireguard::PublicKey& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) {
    return;
  }
  const auto record = found->second;
  for (const IpPrefix& prefix : record->allowed_ips) {
    give_up(*record, prefix);
  }
  by_slot_[record->peer->slot] = nullptr;
  by_key_.erase(found);
  tags_.unbind(*record->peer);
  handshaker_.remove(*record->peer);
  records_.erase(record);
}

void EngineTunnel::remove_all_peers() {
  const std::lock_guard lock(handshaker_.mutex());
  while (!records_.empty()) {
    remove_peer(wireguard::PublicKey(records_.back().peer->public_key));
  }
}

void EngineTunnel::bind_tag(const wireguard::PublicKey& key) {
  const std::lock_guard lock(handshaker_.mutex());
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    tags_.bind(*found->second->peer);
  }
}

// -- A change, whole.

Result<void> EngineTunnel::check(const TunnelChange& change) const {
  std::unordered_set<wireguard::PublicKey, PublicKeyHash> fresh;
  std::set<IpPrefix, PrefixOrder> shared;  // that are not so already
  for (const PeerChange& peer : change.peers) {
    if (!peer.remove && !peer.update_only &&
        (change.replace_peers || !by_key_.contains(peer.public_key))) {
      fresh.insert(peer.public_key);
    }
    for (const AllowedIpChange& allowed : peer.allowed_ips) {
      if (!allowed.shared || allowed.remove) {
        continue;
      }
      const std::optional<LpmValue> value = value_of(allowed.prefix);
      if (change.replace_peers || !value.has_value() || !SharedOwners::is_shared(*value)) {
        shared.insert(allowed.prefix);
      }
    }
  }
  if (fresh.size() + (change.replace_peers ? 0 : by_key_.size()) > wireguard::kPeersMax) {
    return fail("more than " + std::to_string(wireguard::kPeersMax) + " peers on one tunnel",
                E2BIG);
  }
  const size_t shared_before = change.replace_peers ? 0 : tunnel_.shared.size();
  if (shared_before + shared.size() >
      SharedOwners::kListsMax / 2) {  // a change needs the old lists and the new ones
    return fail("more than " + std::to_string(SharedOwners::kListsMax / 2) +
                    " prefixes that several peers of one tunnel may hold",
                E2BIG);
  }
  return {};
}

void EngineTunnel::change_peer(const PeerChange& change) {
  const wireguard::Identity& identity = handshaker_.identity();
  if (identity.has_key && change.public_key == identity.public_key) {
    return;
  }
  if (change.remove) {
    remove_peer(change.public_key);
    return;
  }
  const auto found = by_key_.find(change.public_key);
  if (found == by_key_.end() && change.update_only) {
    return;
  }
  PeerRecord& record = found == by_key_.end() ? *add_peer(change.public_key) : *found->second;
  Peer& peer = *record.peer;
  if (change.preshared_key.has_value()) {
    peer.handshake.set_preshared_key(change.preshared_key->data());
  }
  if (change.endpoint.has_value()) {
    peer.endpoint.store(*change.endpoint);
  }
  if (change.path_mtu.has_value()) {
    peer.path_mtu.set_configured(*change.path_mtu);
  }
  // What stays is never gone in between: new ones first, then those that were not named again.
  std::set<IpPrefix, PrefixOrder> not_named;
  if (change.replace_allowed_ips) {
    not_named = record.allowed_ips;
  }
  for (const AllowedIpChange& allowed : change.allowed_ips) {
    if (allowed.remove) {
      disallow(record, allowed.prefix);
    } else {
      allow(record, allowed.prefix, allowed.shared);
      not_named.erase(allowed.prefix);
    }
  }
  for (const IpPrefix& prefix : not_named) {
    disallow(record, prefix);
  }
  if (change.persistent_keepalive.has_value()) {
    handshaker_.set_persistent_keepalive(peer, *change.persistent_keepalive);
  }
}

void EngineTunnel::change(const TunnelChange& change) {
  if (change.private_key.has_value() &&
      !crypto::equal_constant_time(private_key_.data(), change.private_key->data(),
                                   private_key_.size())) {
    private_key_.assign(*change.private_key);
    handshaker_.set_private_key(*change.private_key);
    if (handshaker_.identity().has_key) {
      remove_peer(handshaker_.identity().public_key);
    }
  }
  fwmark_ = change.fwmark.value_or(fwmark_);
  if (change.replace_peers) {
    while (!records_.empty()) {
      remove_peer(wireguard::PublicKey(records_.back().peer->public_key));
    }
  }
  for (const PeerChange& peer : change.peers) {
    change_peer(peer);
  }
}

Result<void> EngineTunnel::apply(const TunnelChange& tunnel_change) {
  {
    const std::lock_guard lock(handshaker_.mutex());
    if (auto checked = check(tunnel_change); !checked) {
      return checked;
    }
    change(tunnel_change);
  }
  handshaker_.wake();
  return {};
}

TunnelState EngineTunnel::describe() const {
  const std::lock_guard lock(handshaker_.mutex());
  TunnelState state;
  const wireguard::Identity& identity = handshaker_.identity();
  if (identity.has_key) {
    std::memcpy(state.private_key.data(), identity.private_key.data(), state.private_key.size());
    state.public_key = identity.public_key;
  }
  state.fwmark = fwmark_;
  state.peers.reserve(records_.size());
  for (const PeerRecord& record : records_) {
    const Peer& peer = *record.peer;
    PeerState& out = state.peers.emplace_back();
    out.public_key = peer.public_key;
    std::memcpy(out.preshared_key.data(), peer.handshake.preshared_key().data(),
                out.preshared_key.size());
    out.endpoint = peer.endpoint.load();
    out.allowed_ips.assign(record.allowed_ips.begin(), record.allowed_ips.end());
    out.persistent_keepalive = peer.timers.persistent_keepalive();
    out.last_handshake = peer.timers.last_handshake();
    const wireguard::PeerTotals totals = peer.totals();
    out.rx_bytes = totals.rx_bytes;
    out.tx_bytes = totals.tx_bytes;
    out.rx_packets = totals.rx_packets;
    out.tx_packets = totals.tx_packets;
    out.handshakes = peer.handshakes_completed.load(std::memory_order_relaxed);
    for (size_t i = 0; i < kDropReasons; ++i) {
      out.drops[i] = peer.drops[i].load(std::memory_order_relaxed);
    }
  }
  return state;
}

}  // namespace sallyport
