#include "dataplane/engine.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <set>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "dataplane/base/rcu.h"
#include "dataplane/handshaker.h"
#include "dataplane/path/snapshot.h"
#include "dataplane/path/tunnel.h"
#include "dataplane/worker.h"

namespace sallyport {
namespace {

using wireguard::Peer;

struct PrefixOrder {
  bool operator()(const IpPrefix& a, const IpPrefix& b) const {
    return std::tie(a.address.family, a.address.bytes, a.length) <
           std::tie(b.address.family, b.address.bytes, b.length);
  }
};

// What control remembers of a peer beside what the data plane needs.
struct PeerRecord {
  Peer* peer;
  std::set<IpPrefix, PrefixOrder> allowed_ips;
};

// The thread that steps an engine by hand is a reader too, for as long as it lives.
struct StepMembership {
  StepMembership() {
    rcu_join();
    rcu_offline();
  }
  ~StepMembership() { rcu_leave(); }
};

thread_local StepMembership step_membership;  // made by the thread's first step

template <class Step>
bool step_as_reader(Step step) {
  [[maybe_unused]] StepMembership& membership = step_membership;
  rcu_online();
  const bool worked = step();
  rcu_offline();
  return worked;
}

void retire_ports(std::vector<std::unique_ptr<Port>>& ports) {
  for (auto& port : ports) {
    rcu_delete(port.release());
  }
  ports.clear();
}

}  // namespace

struct Engine::Inside {
  explicit Inside(const EngineOptions& engine_options);
  ~Inside();

  // Copies the snapshot, lets `change` edit the copy, publishes it, and wakes everybody.
  template <class Change>
  void publish(Change change);

  bool too_many(const TunnelChange& change) const;
  void apply(const TunnelChange& change);
  void apply_peer(const PeerChange& change);
  PeerRecord* add_peer(const wireguard::PublicKey& key);
  void remove_peer(const wireguard::PublicKey& key);
  void allow(PeerRecord& record, const IpPrefix& prefix);
  void disallow(PeerRecord& record, const IpPrefix& prefix);
  void erase_prefix(const IpPrefix& prefix);

  EngineOptions options;
  Time started;
  BufferPool pool;
  Tunnel tunnel;
  std::atomic<const Snapshot*> snapshot;
  std::vector<std::unique_ptr<Port>> plain_ports, outer_ports;
  Handshaker handshaker;
  std::vector<std::unique_ptr<Worker>> workers;
  int gone_fd;

  // Under the handshaker's mutex.
  std::list<PeerRecord> records;  // in the order they were added
  std::unordered_map<wireguard::PublicKey, std::list<PeerRecord>::iterator, PublicKeyHash> by_key;
  std::vector<PeerRecord*> by_slot;
  crypto::Key private_key;  // as it was given, to tell a change from a repetition
  uint32_t fwmark = 0;
};

Engine::Inside::Inside(const EngineOptions& engine_options)
    : options(engine_options),
      started(options.clock()),
      pool(options.buffers_per_worker * (options.workers + 1)),
      tunnel(options.staging_blocks),
      snapshot(new Snapshot{
          .epoch = 1, .mtu = 1420, .up = false, .plain = {}, .outer = {}, .handshake = nullptr}),
      handshaker(tunnel, pool, snapshot, {options.clock, options.wall_clock, options.cost_clock}),
      gone_fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  std::vector<Mailbox*> mailboxes;
  for (unsigned i = 0; i < options.workers; ++i) {
    workers.push_back(std::make_unique<Worker>(i, tunnel, pool, snapshot, options.clock));
    mailboxes.push_back(&workers.back()->mailbox());
  }
  for (auto& worker : workers) {
    worker->connect(mailboxes, handshaker.mailbox(), handshaker.requests_overflowed(), gone_fd);
  }
  handshaker.connect(mailboxes);
}

Engine::Inside::~Inside() {
  for (auto& worker : workers) {
    worker->stop();
  }
  handshaker.stop();
  retire_ports(plain_ports);
  retire_ports(outer_ports);
  rcu_barrier_all();
  delete snapshot.load(std::memory_order_relaxed);
  close(gone_fd);
}

template <class Change>
void Engine::Inside::publish(Change change) {
  const Snapshot* old = snapshot.load(std::memory_order_relaxed);
  auto* fresh = new Snapshot(*old);
  ++fresh->epoch;
  change(*fresh);
  snapshot.store(fresh, std::memory_order_release);
  rcu_retire(const_cast<Snapshot*>(old), [](void* raw) { delete static_cast<Snapshot*>(raw); });
  for (auto& worker : workers) {
    worker->mailbox().ring();
  }
  handshaker.wake();
}

// -- Applying a change. All under the handshaker's mutex.

bool Engine::Inside::too_many(const TunnelChange& change) const {
  std::unordered_set<wireguard::PublicKey, PublicKeyHash> fresh;
  for (const PeerChange& peer : change.peers) {
    if (!peer.remove && !peer.update_only &&
        (change.replace_peers || !by_key.contains(peer.public_key))) {
      fresh.insert(peer.public_key);
    }
  }
  return fresh.size() + (change.replace_peers ? 0 : by_key.size()) > wireguard::kPeersMax;
}

void Engine::Inside::erase_prefix(const IpPrefix& prefix) {
  const uint8_t* bytes = prefix.address.bytes.data();
  if (prefix.address.family == Family::v4) {
    tunnel.allowed_v4.remove(Lpm4::from_bytes(bytes), prefix.length);
  } else {
    tunnel.allowed_v6.remove(Lpm6::from_bytes(bytes), prefix.length);
  }
}

// Moves the prefix from whoever has it: one step for a reader, who sees the old owner or the new one.
void Engine::Inside::allow(PeerRecord& record, const IpPrefix& prefix) {
  const uint8_t* bytes = prefix.address.bytes.data();
  const bool v4 = prefix.address.family == Family::v4;
  const std::optional<LpmValue> owner =
      v4 ? tunnel.allowed_v4.find(Lpm4::from_bytes(bytes), prefix.length)
         : tunnel.allowed_v6.find(Lpm6::from_bytes(bytes), prefix.length);
  if (owner.has_value()) {
    by_slot[*owner]->allowed_ips.erase(prefix);
  }
  record.allowed_ips.insert(prefix);
  if (v4) {
    tunnel.allowed_v4.insert(Lpm4::from_bytes(bytes), prefix.length, record.peer->slot);
  } else {
    tunnel.allowed_v6.insert(Lpm6::from_bytes(bytes), prefix.length, record.peer->slot);
  }
}

void Engine::Inside::disallow(PeerRecord& record, const IpPrefix& prefix) {
  if (record.allowed_ips.erase(prefix) > 0) {
    erase_prefix(prefix);
  }
}

PeerRecord* Engine::Inside::add_peer(const wireguard::PublicKey& key) {
  std::optional<uint32_t> slot = tunnel.peers.claim();
  if (!slot.has_value()) {
    // Slots of peers just removed come back after a grace period.
    rcu_barrier_all();
    slot = tunnel.peers.claim();
  }
  auto* peer = new Peer(key, *slot, options.workers);
  records.push_back({peer, {}});
  by_key.emplace(key, std::prev(records.end()));
  if (by_slot.size() <= *slot) {
    by_slot.resize(*slot + 1);
  }
  by_slot[*slot] = &records.back();
  handshaker.add(*peer);
  tunnel.peers.set(*slot, peer);
  return &records.back();
}

void Engine::Inside::remove_peer(const wireguard::PublicKey& key) {
  const auto found = by_key.find(key);
  if (found == by_key.end()) {
    return;
  }
  const auto record = found->second;
  for (const IpPrefix& prefix : record->allowed_ips) {
    erase_prefix(prefix);
  }
  by_slot[record->peer->slot] = nullptr;
  by_key.erase(found);
  handshaker.remove(*record->peer);
  records.erase(record);
}

void Engine::Inside::apply_peer(const PeerChange& change) {
  const wireguard::Identity& identity = handshaker.identity();
  if (identity.has_key && change.public_key == identity.public_key) {
    return;
  }
  if (change.remove) {
    remove_peer(change.public_key);
    return;
  }
  const auto found = by_key.find(change.public_key);
  if (found == by_key.end() && change.update_only) {
    return;
  }
  PeerRecord& record = found == by_key.end() ? *add_peer(change.public_key) : *found->second;
  Peer& peer = *record.peer;
  if (change.preshared_key.has_value()) {
    peer.handshake.set_preshared_key(change.preshared_key->data());
  }
  if (change.endpoint.has_value()) {
    peer.endpoint.store(*change.endpoint);
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
      allow(record, allowed.prefix);
      not_named.erase(allowed.prefix);
    }
  }
  for (const IpPrefix& prefix : not_named) {
    disallow(record, prefix);
  }
  if (change.persistent_keepalive.has_value()) {
    handshaker.set_persistent_keepalive(peer, *change.persistent_keepalive);
  }
}

void Engine::Inside::apply(const TunnelChange& change) {
  if (change.private_key.has_value() &&
      !crypto::equal_constant_time(private_key.data(), change.private_key->data(),
                                   private_key.size())) {
    private_key.assign(*change.private_key);
    handshaker.set_private_key(*change.private_key);
    if (handshaker.identity().has_key) {
      remove_peer(handshaker.identity().public_key);
    }
  }
  fwmark = change.fwmark.value_or(fwmark);
  if (change.replace_peers) {
    while (!records.empty()) {
      remove_peer(wireguard::PublicKey(records.back().peer->public_key));
    }
  }
  for (const PeerChange& peer : change.peers) {
    apply_peer(peer);
  }
}

// -- The face.

Engine::Engine(const EngineOptions& options) : inside_(std::make_unique<Inside>(options)) {}

Engine::~Engine() {
  inside_.reset();
  rcu_barrier_all();  // keypairs and peers are gone when this returns
}

unsigned Engine::workers() const {
  return inside_->options.workers;
}

void Engine::set_plain_ports(std::vector<std::unique_ptr<Port>> ports) {
  inside_->publish([&](Snapshot& snapshot) {
    snapshot.plain.clear();
    for (const auto& port : ports) {
      snapshot.plain.push_back(port.get());
    }
  });
  const std::lock_guard lock(inside_->handshaker.mutex());
  retire_ports(inside_->plain_ports);
  inside_->plain_ports = std::move(ports);
}

void Engine::set_outer_ports(std::vector<std::unique_ptr<Port>> ports) {
  inside_->publish([&](Snapshot& snapshot) {
    snapshot.outer.clear();
    snapshot.handshake = ports.empty() ? nullptr : ports.back().get();
    for (size_t i = 0; i + 1 < ports.size(); ++i) {
      snapshot.outer.push_back(ports[i].get());
    }
  });
  const std::lock_guard lock(inside_->handshaker.mutex());
  retire_ports(inside_->outer_ports);
  inside_->outer_ports = std::move(ports);
}

const std::vector<std::unique_ptr<Port>>& Engine::outer_ports() const {
  return inside_->outer_ports;
}

void Engine::set_mtu(uint32_t mtu) {
  inside_->publish([mtu](Snapshot& snapshot) { snapshot.mtu = mtu; });
}

void Engine::set_up(bool up) {
  if (inside_->snapshot.load(std::memory_order_relaxed)->up == up) {
    return;
  }
  inside_->publish([up](Snapshot& snapshot) { snapshot.up = up; });
  const std::lock_guard lock(inside_->handshaker.mutex());
  inside_->handshaker.link_changed(up);
  inside_->handshaker.wake();
}

Result<void> Engine::apply(const TunnelChange& change) {
  {
    const std::lock_guard lock(inside_->handshaker.mutex());
    if (inside_->too_many(change)) {
      return fail("more than " + std::to_string(wireguard::kPeersMax) + " peers on one tunnel",
                  E2BIG);
    }
    inside_->apply(change);
  }
  inside_->handshaker.wake();
  return {};
}

TunnelState Engine::describe() const {
  const std::lock_guard lock(inside_->handshaker.mutex());
  TunnelState state;
  const wireguard::Identity& identity = inside_->handshaker.identity();
  if (identity.has_key) {
    std::memcpy(state.private_key.data(), identity.private_key.data(), state.private_key.size());
    state.public_key = identity.public_key;
  }
  state.fwmark = inside_->fwmark;
  state.peers.reserve(inside_->records.size());
  for (const PeerRecord& record : inside_->records) {
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

namespace {

WorkerStatus status_of(const PathCounters& counters, uint64_t wakeups, Time busy) {
  WorkerStatus status;
  status.rx_packets = counters.rx_packets.load(std::memory_order_relaxed);
  status.tx_packets = counters.tx_packets.load(std::memory_order_relaxed);
  status.rx_runs = counters.rx_runs.load(std::memory_order_relaxed);
  status.tx_runs = counters.tx_runs.load(std::memory_order_relaxed);
  status.handed_over = counters.handed_over.load(std::memory_order_relaxed);
  status.wakeups = wakeups;
  status.busy = busy;
  for (size_t i = 0; i < kDropReasons; ++i) {
    status.drops[i] = counters.drops.get(static_cast<DropReason>(i));
  }
  return status;
}

}  // namespace

EngineStatus Engine::status() const {
  EngineStatus status;
  for (const auto& worker : inside_->workers) {
    status.workers.push_back(status_of(worker->counters(), worker->wakeups(), worker->busy()));
  }
  const Handshaker& handshaker = inside_->handshaker;
  const Handshaker::Counts& counts = handshaker.counts();
  status.handshaker = status_of(handshaker.counters(), counts.wakeups, counts.busy);
  status.handshakes_initiated = counts.initiated;
  status.handshakes_answered = counts.answered;
  status.sessions_derived = counts.derived;
  status.cookies_sent = counts.cookies;
  status.under_load = counts.under_load;
  status.aead = crypto::aead_name();
  status.buffers = inside_->pool.capacity();
  status.buffer_bytes_reserved = inside_->pool.reserved_bytes();
  status.staging_blocks_free = inside_->tunnel.staging.free_blocks();
  status.indices = inside_->tunnel.indices.size();
  const std::lock_guard lock(handshaker.mutex());
  for (const auto& port : inside_->plain_ports) {
    status.plain_ports.push_back(port->status());
  }
  for (const auto& port : inside_->outer_ports) {
    status.outer_ports.push_back(port->status());
  }
  status.uptime = inside_->options.clock() - inside_->started;
  return status;
}

void Engine::run_threads() {
  for (auto& worker : inside_->workers) {
    worker->start();
  }
  inside_->handshaker.start();
}

void Engine::stop_threads() {
  for (auto& worker : inside_->workers) {
    worker->stop();
  }
  inside_->handshaker.stop();
}

int Engine::gone_fd() const {
  return inside_->gone_fd;
}

bool Engine::step_worker(unsigned worker) {
  return step_as_reader([&] { return inside_->workers[worker]->step(); });
}

bool Engine::step_handshaker() {
  return step_as_reader([&] { return inside_->handshaker.step(); });
}

Time Engine::handshaker_sleep() const {
  return inside_->handshaker.sleep_time();
}

}  // namespace sallyport
