#include "dataplane/engine.h"

#include <sys/eventfd.h>
#include <unistd.h>
#include <algorithm>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "dataplane/base/rcu.h"
#include "dataplane/engine_tunnel.h"
#include "dataplane/net/parse.h"
#include "dataplane/path/egress.h"
#include "dataplane/path/ingress.h"
#include "dataplane/path/track.h"
#include "dataplane/via_port.h"
#include "dataplane/worker.h"

namespace sallyport {
namespace {

constexpr unsigned kAssistWorkers = 3;  // with fewer, who helps takes the core from who is helped

std::vector<Port*> pointers(const EngineTunnel::Ports& ports, size_t count) {
  std::vector<Port*> out;
  for (size_t i = 0; i < count; ++i) {
    out.push_back(ports[i].get());
  }
  return out;
}

}  // namespace

struct Engine::Inside {
  explicit Inside(const EngineOptions& engine_options);
  ~Inside();

  // Copies the snapshot, lets `change` edit the copy, publishes it, and wakes everybody.
  template <class Change>
  void publish(Change change);
  // The same for one tunnel's part.
  template <class Change>
  void publish_view(TunnelNumber number, Change change) {
    publish([&](Snapshot& fresh) { change(fresh.tunnels[number]); });
  }

  bool post_packet(Worker& worker, Message message, std::span<const uint8_t> packet);

  // Never moved: status() and describe() look into it from other threads while control adds tunnels.
  static constexpr size_t kTunnelsMax = kPortItCameBy;

  TunnelNumber add_tunnel();
  EngineTunnel& tunnel(TunnelNumber number) { return *tunnels[number]; }

  EngineOptions options;
  Time started;
  BufferPool pool;
  PeerTags tags;
  std::atomic<const Snapshot*> snapshot;
  std::vector<std::unique_ptr<EngineTunnel>> tunnels;  // by number; null where it is free
  std::vector<Mailbox*> mailboxes;                     // the workers'
  std::unique_ptr<Assist> assist;                      // null: each for itself
  std::vector<std::unique_ptr<Worker>> workers;
  BufferCache control_buffers;  // for packets that control sends
  bool threads = false;
  int gone_fd;
};

// Each worker, the handshakers together, and whatever control sends.
Engine::Inside::Inside(const EngineOptions& engine_options)
    : options(engine_options),
      started(options.clock()),
      pool(options.buffers_per_worker * (options.workers + 1)),
      snapshot(new Snapshot),
      control_buffers(pool),
      gone_fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  tunnels.reserve(kTunnelsMax);
  for (unsigned i = 0; i < options.workers; ++i) {
    workers.push_back(std::make_unique<Worker>(i, pool, snapshot, options.clock));
    mailboxes.push_back(&workers.back()->mailbox());
  }
  using Assistance = EngineOptions::Assistance;
  if (options.assistance == Assistance::always ||
      (options.assistance == Assistance::automatic && options.workers >= kAssistWorkers)) {
    assist = std::make_unique<Assist>(mailboxes);
  }
  for (auto& worker : workers) {
    worker->connect(mailboxes, gone_fd, assist.get());
  }
  for (unsigned i = 0; i < options.tunnels; ++i) {
    add_tunnel();
  }
}

Engine::Inside::~Inside() {
  for (auto& worker : workers) {
    worker->stop();
  }
  for (auto& each : tunnels) {
    if (each != nullptr) {
      each->handshaker().stop();
      each->replace_plain({});
      each->replace_outer({});
    }
  }
  rcu_barrier_all();
  const Snapshot* last = snapshot.load(std::memory_order_relaxed);
  delete last->policy;
  delete last->tap;
  delete last;
  workers.clear();  // their caches and mailboxes give buffers back
  tunnels.clear();
  rcu_barrier_all();
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
  for (auto& each : tunnels) {
    if (each != nullptr) {
      each->handshaker().wake();
    }
  }
}

TunnelNumber Engine::Inside::add_tunnel() {
  size_t number = 0;
  while (number < tunnels.size() && tunnels[number] != nullptr) {
    ++number;
  }
  if (number == tunnels.size()) {
    if (number == kTunnelsMax) {
      std::fputs("sallyport: more tunnels than an engine has numbers for\n", stderr);
      std::abort();
    }
    tunnels.emplace_back();
  }
  tunnels[number] = std::make_unique<EngineTunnel>(static_cast<TunnelNumber>(number), options, pool,
                                                   snapshot, tags);
  Handshaker& handshaker = tunnels[number]->handshaker();
  handshaker.connect(mailboxes);
  publish([&](Snapshot& fresh) {
    fresh.tunnels.resize(tunnels.size());
    fresh.tunnels[number] = TunnelView{};
    fresh.tunnels[number].tunnel = &tunnels[number]->tunnel();
  });
  if (threads) {
    handshaker.start();
  }
  return static_cast<TunnelNumber>(number);
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

TunnelNumber Engine::add_tunnel() {
  return inside_->add_tunnel();
}

void Engine::remove_tunnel(TunnelNumber number) {
  EngineTunnel& tunnel = inside_->tunnel(number);
  tunnel.handshaker().stop();
  tunnel.remove_all_peers();  // no policy leads to one any more
  inside_->publish_view(number, [](TunnelView& view) { view = TunnelView{}; });
  inside_->tags.forget(number);
  tunnel.replace_plain({});
  tunnel.replace_outer({});
  rcu_barrier_all();  // no worker looks at it any more, and its peers are freed
  inside_->tunnels[number].reset();
}

void Engine::set_plain_ports(std::vector<std::unique_ptr<Port>> ports, TunnelNumber number) {
  inside_->publish_view(number,
                        [&](TunnelView& view) { view.plain = pointers(ports, ports.size()); });
  inside_->tunnel(number).replace_plain(std::move(ports));
}

void Engine::set_outer_ports(std::vector<std::unique_ptr<Port>> ports, TunnelNumber number) {
  inside_->publish_view(number, [&](TunnelView& view) {
    view.via = kNoTunnel;
    view.handshake = ports.empty() ? nullptr : ports.back().get();
    view.outer = pointers(ports, ports.empty() ? 0 : ports.size() - 1);
  });
  inside_->tunnel(number).replace_outer(std::move(ports));
}

void Engine::set_via(TunnelNumber via, uint16_t listen_port, TunnelNumber number) {
  EngineTunnel::Ports ports;
  if (via != kNoTunnel) {
    ports.push_back(
        std::make_unique<ViaPort>(number, inside_->snapshot, inside_->pool,
                                  inside_->workers[number % inside_->workers.size()]->mailbox()));
  }
  inside_->publish([&](Snapshot& fresh) {
    TunnelView& view = fresh.tunnels[number];
    view.via = via;
    view.listen_port = listen_port;
    view.outer.clear();
    view.handshake = ports.empty() ? nullptr : ports.back().get();
    fresh.nested = std::ranges::any_of(
        fresh.tunnels, [](const TunnelView& each) { return each.via != kNoTunnel; });
  });
  inside_->tunnel(number).replace_outer(std::move(ports));
}

const std::vector<std::unique_ptr<Port>>& Engine::outer_ports(TunnelNumber number) const {
  return inside_->tunnel(number).outer_ports();
}

void Engine::set_mtu(uint32_t mtu, TunnelNumber number) {
  inside_->publish_view(number, [mtu](TunnelView& view) { view.mtu = mtu; });
}

void Engine::set_addresses(const IpAddress& v4, const IpAddress& v6, TunnelNumber number) {
  inside_->publish_view(number, [&](TunnelView& view) {
    view.address_v4 = v4;
    view.address_v6 = v6;
  });
}

void Engine::set_mss(MssMode mode, uint32_t bytes, TunnelNumber number) {
  inside_->publish_view(number, [&](TunnelView& view) {
    view.mss = mode;
    view.mss_bytes = bytes;
  });
}

void Engine::set_host_addresses(const IpAddress& v4, const IpAddress& v6) {
  inside_->publish([&](Snapshot& snapshot) {
    snapshot.host_v4 = v4;
    snapshot.host_v6 = v6;
  });
}

void Engine::renew_decisions() {
  inside_->publish([](Snapshot&) {});
}

size_t Engine::forget_flows_to(const IpAddress& address) {
  const Policy* policy = this->policy();  // replaced by this thread only
  if (policy == nullptr || policy->flows == nullptr) {
    return 0;
  }
  return step_as_reader([&] {
    size_t forgotten = 0;
    policy->flows->for_each([&](const FlowInfo& info) {
      const FlowTuple& reply = info.tuples[static_cast<size_t>(FlowDirection::reply)];
      if (reply.family() == address.family &&
          std::memcmp(reply.destination, address.bytes.data(), sizeof(reply.destination)) == 0) {
        forgotten += policy->flows->remove(info.flow) ? 1 : 0;
      }
    });
    return forgotten;
  });
}

void Engine::set_up(bool up, TunnelNumber number) {
  if (inside_->snapshot.load(std::memory_order_relaxed)->tunnels[number].up == up) {
    return;
  }
  inside_->publish_view(number, [up](TunnelView& view) { view.up = up; });
  Handshaker& handshaker = inside_->tunnel(number).handshaker();
  const std::lock_guard lock(handshaker.mutex());
  handshaker.link_changed(up);
  handshaker.wake();
}

Result<void> Engine::apply(const TunnelChange& change, TunnelNumber number) {
  return inside_->tunnel(number).apply(change);
}

TunnelState Engine::describe(TunnelNumber number) const {
  return inside_->tunnel(number).describe();
}

namespace {

WorkerStatus status_of(const PathCounters& counters, uint64_t wakeups, Time busy) {
  WorkerStatus status;
  status.rx_packets = counters.rx_packets.load(std::memory_order_relaxed);
  status.tx_packets = counters.tx_packets.load(std::memory_order_relaxed);
  status.rx_runs = counters.rx_runs.load(std::memory_order_relaxed);
  status.tx_runs = counters.tx_runs.load(std::memory_order_relaxed);
  status.handed_over = counters.handed_over.load(std::memory_order_relaxed);
  status.assisted = counters.assisted.load(std::memory_order_relaxed);
  status.wakeups = wakeups;
  status.busy = busy;
  for (size_t i = 0; i < kDropReasons; ++i) {
    status.drops[i] = counters.drops.get(static_cast<DropReason>(i));
  }
  return status;
}

}  // namespace

EngineStatus Engine::status(TunnelNumber number) const {
  EngineStatus status;
  for (const auto& worker : inside_->workers) {
    status.workers.push_back(status_of(worker->counters(), worker->wakeups(), worker->busy()));
  }
  EngineTunnel& tunnel = inside_->tunnel(number);
  const Handshaker& handshaker = tunnel.handshaker();
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
  status.staging_blocks_free = tunnel.tunnel().staging.free_blocks();
  status.indices = tunnel.tunnel().indices.size();
  const std::lock_guard lock(handshaker.mutex());
  for (const auto& port : tunnel.plain_ports()) {
    status.plain_ports.push_back(port->status());
  }
  for (const auto& port : tunnel.outer_ports()) {
    status.outer_ports.push_back(port->status());
  }
  status.uptime = inside_->options.clock() - inside_->started;
  return status;
}

// -- Policy

const PeerTags& Engine::tags() const {
  return inside_->tags;
}

Result<uint32_t> Engine::tag(const wireguard::PublicKey& key, TunnelNumber number) {
  const std::optional<uint32_t> tag = inside_->tags.claim(number, key);
  if (!tag.has_value()) {
    return fail("more than " + std::to_string(PeerTags::kTagsMax) +
                    " peers have been named by policies of this process: restart it",
                E2BIG);
  }
  inside_->tunnel(number).bind_tag(key);
  return *tag;
}

void Engine::set_policy(std::unique_ptr<Policy> policy) {
  auto* old = const_cast<Policy*>(this->policy());
  inside_->publish([fresh = policy.release()](Snapshot& snapshot) {
    if (fresh != nullptr) {
      fresh->epoch = snapshot.epoch;
    }
    snapshot.policy = fresh;
  });
  if (old != nullptr) {
    rcu_delete(old);
  }
}

size_t Engine::sweep_flows(size_t budget) {
  FlowTable* flows = policy() == nullptr ? nullptr : policy()->flows;
  return flows == nullptr
             ? 0
             : step_as_reader([&] { return flows->expire(inside_->options.clock(), budget); });
}

const Policy* Engine::policy() const {
  return inside_->snapshot.load(std::memory_order_relaxed)->policy;
}

void Engine::set_tap(std::unique_ptr<Tap> tap) {
  Tap* old = this->tap();
  inside_->publish([fresh = tap.release()](Snapshot& snapshot) { snapshot.tap = fresh; });
  if (old != nullptr) {
    rcu_delete(old);
  }
}

Tap* Engine::tap() const {
  return inside_->snapshot.load(std::memory_order_relaxed)->tap;
}

namespace {

PeerBrief brief_of(const wireguard::Peer& peer, Time now) {
  const wireguard::Keypair* keypair = peer.keypairs.current();
  return {peer.tunnel, peer.public_key, peer.endpoint.load(), peer.timers.last_handshake(),
          keypair != nullptr && keypair->usable(now)};
}

}  // namespace

std::optional<PeerBrief> Engine::brief(uint32_t tag) const {
  return step_as_reader([&]() -> std::optional<PeerBrief> {
    const wireguard::Peer* peer = inside_->tags.get(tag);
    if (peer == nullptr) {
      return std::nullopt;
    }
    return brief_of(*peer, inside_->options.clock());
  });
}

void Engine::want_session(uint32_t tag) {
  step_as_reader([&] {
    wireguard::Peer* peer = inside_->tags.get(tag);
    if (peer == nullptr) {
      return false;
    }
    Tunnel& tunnel = inside_->tunnel(peer->tunnel).tunnel();
    peer->requests.fetch_or(wireguard::kWantHandshake, std::memory_order_acq_rel);
    if (!tunnel.handshaker->post({Message::Kind::request, peer->tunnel, peer->slot, nullptr})) {
      tunnel.requests_overflowed->store(true, std::memory_order_release);
    }
    return true;
  });
}

// Posts a copy of a packet to a worker, boxed.
bool Engine::Inside::post_packet(Worker& worker, Message message, std::span<const uint8_t> packet) {
  Buffer* buffer = packet.size() > Buffer::kDataBytes ? nullptr : control_buffers.take();
  if (buffer == nullptr) {
    return false;
  }
  std::memcpy(buffer->data(), packet.data(), packet.size());
  auto* frame = new (boxed_frame(buffer)) RxFrame;
  frame->data = buffer->data();
  frame->length = frame->segment_bytes = static_cast<uint32_t>(packet.size());
  message.buffer = buffer;
  if (!worker.mailbox().post(message)) {
    control_buffers.give(buffer);
    return false;
  }
  return true;
}

bool Engine::inject(TunnelNumber tunnel, std::span<const uint8_t> packet) {
  return step_as_reader([&] {
    Worker& worker = *inside_->workers[tunnel % inside_->workers.size()];
    return inside_->post_packet(worker, {Message::Kind::from_host, tunnel, 0, nullptr}, packet);
  });
}

bool Engine::knows_flow_of(std::span<const uint8_t> packet) const {
  std::vector<uint8_t> copy(packet.begin(), packet.end());
  return step_as_reader([&] {
    const Policy* policy = inside_->snapshot.load(std::memory_order_acquire)->policy;
    Run run{};
    run.head = copy.data();
    run.head_bytes = run.bytes = static_cast<uint32_t>(copy.size());
    return policy != nullptr && policy->flows != nullptr && parse(run) && is_of_flow(*policy, run);
  });
}

bool Engine::send_packet(uint32_t tag, std::span<const uint8_t> packet) {
  return step_as_reader([&] {
    const wireguard::Peer* peer = inside_->tags.get(tag);
    return peer != nullptr &&
           inside_->post_packet(*inside_->workers[peer->slot % inside_->workers.size()],
                                {Message::Kind::packet, peer->tunnel, peer->slot, nullptr}, packet);
  });
}

Result<Explanation> Engine::explain(const PacketToExplain& query) const {
  std::vector<uint8_t> packet = query.packet;  // a stage may count its TTL down
  return step_as_reader([&]() -> Result<Explanation> {
    const auto context = std::make_unique<Context>(inside_->options.workers, inside_->pool);
    context->dry = true;
    context->snapshot = inside_->snapshot.load(std::memory_order_acquire);
    context->now = inside_->options.clock();
    if (!context->enter(query.tunnel)) {
      return fail("there is no such tunnel", ENODEV);
    }
    Run& run = context->burst.add();
    run.head = packet.data();
    run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
    if (!parse(run)) {
      return fail("this is no IP packet", EINVAL);
    }
    run.head_bytes = run.bytes = ip_length(run.head, run.head_bytes);
    context->traces[0].count = 0;
    run.trace = 1;
    if (query.from_tag.has_value()) {
      run.from = inside_->tags.get(*query.from_tag);
      if (run.from == nullptr) {
        return fail("the peer it is said to come from is not there now", ENOENT);
      }
      if (run.from->tunnel != query.tunnel) {
        return fail("the peer it is said to come from is on another tunnel", EINVAL);
      }
      if (!context->tunnel->allows(*run.from, run.family, run.source())) {
        context->discard(run, DropReason::source_not_allowed);
      }
    } else if (!context->here().up) {
      context->discard(run, DropReason::tunnel_down);  // as the worker does
    }
    decide(*context);
    Explanation out;
    out.trace = context->traces[0];
    out.discarded = run.discarded;
    out.to_peer = run.to != nullptr && !run.discarded;
    if (out.to_peer) {
      out.peer = brief_of(*run.to, context->now);
    }
    out.port = run.port == kPortItCameBy ? query.tunnel : run.port;
    out.mtu = context->snapshot->tunnels[out.to_peer ? out.peer.tunnel : out.port].mtu;
    return out;
  });
}

void Engine::run_threads() {
  inside_->threads = true;
  for (auto& worker : inside_->workers) {
    worker->start();
  }
  for (auto& tunnel : inside_->tunnels) {
    if (tunnel != nullptr) {
      tunnel->handshaker().start();
    }
  }
}

void Engine::stop_threads() {
  inside_->threads = false;
  for (auto& worker : inside_->workers) {
    worker->stop();
  }
  for (auto& tunnel : inside_->tunnels) {
    if (tunnel != nullptr) {
      tunnel->handshaker().stop();
    }
  }
}

int Engine::gone_fd() const {
  return inside_->gone_fd;
}

bool Engine::step_worker(unsigned worker) {
  return step_as_reader([&] { return inside_->workers[worker]->step(); });
}

bool Engine::step_handshaker(TunnelNumber number) {
  return step_as_reader([&] { return inside_->tunnel(number).handshaker().step(); });
}

Time Engine::handshaker_sleep(TunnelNumber number) const {
  return inside_->tunnel(number).handshaker().sleep_time();
}

}  // namespace sallyport
