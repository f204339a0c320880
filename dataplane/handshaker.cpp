#include "dataplane/handshaker.h"

#include <poll.h>

#include <algorithm>
#include <cstring>

#include "crypto/x25519.h"
#include "dataplane/base/rcu.h"
#include "dataplane/base/thread.h"
#include "dataplane/path/ingress.h"
#include "dataplane/wireguard/message.h"

namespace sallyport {
namespace {

using wireguard::Displaced;
using wireguard::InitiationVerdict;
using wireguard::Keypair;
using wireguard::MessageCookieReply;
using wireguard::MessageInitiation;
using wireguard::MessageKind;
using wireguard::MessageResponse;
using wireguard::OpenedInitiation;
using wireguard::Peer;

constexpr uint8_t kHandshakeTos = 0x88;  // AF41, as the kernel module sends them
constexpr Time kTimerGrain = kMillisecond;
constexpr Time kTimerGrainMany =
    20 * kMillisecond;  // with many peers, one look serves several timers
constexpr size_t kManyPeers = 1000;
constexpr unsigned kMessagesPerStep = 256;

std::array<uint8_t, 16> random_secret() {
  std::array<uint8_t, 16> bytes;
  crypto::random_bytes(bytes);
  return bytes;
}

bool elapsed(Time since, Time now, Time interval) {
  return since == kNever || now - since >= interval;
}

DropReason reason_of(InitiationVerdict verdict) {
  switch (verdict) {
    case InitiationVerdict::accepted:
      return DropReason::none;
    case InitiationVerdict::bad_timestamp_seal:
      return DropReason::initiation_undecryptable;
    case InitiationVerdict::replayed_timestamp:
      return DropReason::initiation_replayed;
    case InitiationVerdict::too_soon:
      return DropReason::initiation_too_soon;
    case InitiationVerdict::cannot_talk:
      return DropReason::handshake_peer_unusable;
  }
  return DropReason::initiation_undecryptable;
}

// A removed peer, until no worker can be holding it.
struct Departed {
  Peer* peer;
  Tunnel* tunnel;
};

void free_departed(void* raw) {
  auto* departed = static_cast<Departed*>(raw);
  departed->tunnel->staging.clear(departed->peer->staged);  // a worker may have staged one more
  departed->tunnel->peers.release(departed->peer->slot);
  delete departed->peer;
  delete departed;
}

}  // namespace

void HandshakeLoad::spent(Time now, Time cost) {
  level_ = std::max<Time>(0, level_ - (now - last_) / 4);
  last_ = now;
  level_ = std::min(level_ + cost, 2 * kDepth);
  if (level_ > kDepth) {
    until_ = now + kHold;
  }
}

const std::array<uint8_t, 16> PublicKeyHash::secret = random_secret();

size_t PublicKeyHash::operator()(const wireguard::PublicKey& key) const {
  size_t value;
  crypto::blake2s_mac(std::span(reinterpret_cast<uint8_t*>(&value), sizeof(value)), secret, {key});
  return value;
}

Handshaker::Handshaker(Tunnel& tunnel, BufferPool& pool,
                       const std::atomic<const Snapshot*>& snapshot, Clocks clocks)
    : context_(std::make_unique<Context>(0, pool)),
      tunnel_(tunnel),
      snapshot_(snapshot),
      clocks_(clocks) {}

Handshaker::~Handshaker() {
  stop();
  Message message;
  while (mailbox_.take(message)) {
    if (message.buffer != nullptr) {
      context_->buffers.give(message.buffer);
    }
  }
  for (const auto& [key, peer] : peers_) {
    forget(*peer);
    free_departed(new Departed{peer, &tunnel_});
  }
}

void Handshaker::connect(std::vector<Mailbox*> workers) {
  workers_ = std::move(workers);
}

// -- The round.

bool Handshaker::step() {
  const std::lock_guard lock(mutex_);
  const Snapshot& snapshot = *snapshot_.load(std::memory_order_acquire);
  context_->snapshot = &snapshot;
  context_->now = clocks_.now();
  if (!context_->enter(tunnel_.number)) {
    return false;
  }
  port_ = context_->here().handshake;
  const Time start = clocks_.cost();
  bool worked = work_mailbox();
  worked |= work_port();
  worked |= work_timers();
  if (worked) {
    counts_.busy.store(counts_.busy.load(std::memory_order_relaxed) + clocks_.cost() - start,
                       std::memory_order_relaxed);
  }
  counts_.under_load.store(load_.under_load(context_->now), std::memory_order_relaxed);
  return worked;
}

Time Handshaker::sleep_time() const {
  const std::lock_guard lock(mutex_);
  return next_timer_ == INT64_MAX ? INT64_MAX : std::max<Time>(0, next_timer_ - clocks_.now());
}

bool Handshaker::work_port() {
  if (port_ == nullptr) {
    return false;
  }
  const size_t count = port_->rx(frames_, context_->buffers);
  for (size_t i = 0; i < count; ++i) {
    receive(frames_[i]);
    context_->buffers.give(frames_[i].buffer);
  }
  return count > 0;
}

bool Handshaker::work_mailbox() {
  Message message;
  unsigned taken = 0;
  while (taken < kMessagesPerStep && mailbox_.take(message)) {
    ++taken;
    if (message.kind == Message::Kind::datagrams) {
      receive(*boxed_frame(message.buffer));
      context_->buffers.give(message.buffer);
    } else if (Peer* peer = tunnel_.peers.get(message.peer); peer != nullptr) {
      take_requests(*peer);
    }
  }
  if (requests_overflowed_.exchange(false, std::memory_order_acquire)) {
    for (const auto& [key, peer] : peers_) {
      take_requests(*peer);
    }
  }
  return taken > 0;
}

void Handshaker::take_requests(Peer& peer) {
  const uint32_t requests = peer.requests.exchange(0, std::memory_order_acq_rel);
  if ((requests & wireguard::kConfirmed) != 0) {
    peer.timers.handshake_complete(clocks_.wall());
    peer.handshakes_completed.fetch_add(1, std::memory_order_relaxed);
    tell_worker(Message::Kind::flush_staged, peer);
  }
  if ((requests & wireguard::kWantHandshake) != 0 && !peer.timers.handshake_in_progress()) {
    peer.timers.handshake_wanted_anew();
    initiate(peer);
    // A worker that saw no session just before this one began may have staged a packet after it was flushed.
    const Keypair* current = peer.keypairs.current();
    if (current != nullptr && current->usable(context_->now) &&
        !tunnel_.staging.empty(peer.staged)) {
      tell_worker(Message::Kind::flush_staged, peer);
    }
  }
  activate(peer);
}

bool Handshaker::work_timers() {
  if (!undelivered_.empty()) {
    std::vector<std::pair<unsigned, Message>> again;
    again.swap(undelivered_);
    for (const auto& [worker, message] : again) {
      if (!workers_[worker]->post(message)) {
        undelivered_.emplace_back(worker, message);
      }
    }
  }
  if (context_->now < next_timer_) {
    return false;
  }
  next_timer_ = INT64_MAX;
  std::vector<Peer*> looked_at;
  looked_at.swap(active_);  // tick() may activate
  for (Peer* peer : looked_at) {
    peer->active = false;
  }
  for (Peer* peer : looked_at) {
    tick(*peer);
    if (!peer->timers.idle()) {
      activate(*peer);
    }
  }
  return true;
}

void Handshaker::tick(Peer& peer) {
  const wireguard::TimerActions actions = peer.timers.tick(context_->now);
  if (actions.give_up) {
    const size_t lost = tunnel_.staging.clear(peer.staged);
    context_->discard(DropReason::handshake_gave_up, &peer, static_cast<uint32_t>(lost));
  }
  if (actions.zero_keys) {
    forget(peer);
  }
  if (actions.initiate) {
    // Perhaps the address we answered from is what does not work: let the kernel choose anew.
    Endpoint endpoint = peer.endpoint.load();
    if (endpoint.local.is_set()) {
      endpoint.local = IpAddress{};
      endpoint.interface = 0;
      peer.endpoint.store(endpoint);
    }
    initiate(peer);
  }
  if (actions.keepalive && context_->here().up) {
    tell_worker(Message::Kind::keepalive, peer);
  }
}

void Handshaker::activate(Peer& peer) {
  if (!peer.active) {
    peer.active = true;
    active_.push_back(&peer);
  }
  // A worker's stamp becomes due no sooner than one keepalive timeout after it was left.
  const Time grain = active_.size() > kManyPeers ? kTimerGrainMany : kTimerGrain;
  const Time due =
      std::min(peer.timers.next_deadline(), context_->now + wireguard::kKeepaliveTimeout);
  next_timer_ = std::min(next_timer_, std::max(due, context_->now + grain));
}

// -- What arrives.

void Handshaker::receive(const RxFrame& frame) {
  if (!context_->here().up) {
    context_->discard(DropReason::tunnel_down);
    return;
  }
  const uint32_t stride = std::max<uint32_t>(frame.segment_bytes, 1);
  for (uint32_t offset = 0; offset < frame.length; offset += stride) {
    const Time start = clocks_.cost();
    receive_message(frame, frame.data + offset, std::min(stride, frame.length - offset));
    load_.spent(context_->now, clocks_.cost() - start);
  }
}

void Handshaker::receive_message(const RxFrame& frame, uint8_t* bytes, uint32_t length) {
  switch (wireguard::classify(bytes, length)) {
    case MessageKind::initiation:
      if (admitted(frame, bytes, length,
                   reinterpret_cast<const MessageInitiation*>(bytes)->sender)) {
        receive_initiation(frame, bytes);
      }
      return;
    case MessageKind::response:
      if (admitted(frame, bytes, length, reinterpret_cast<const MessageResponse*>(bytes)->sender)) {
        receive_response(frame, bytes);
      }
      return;
    case MessageKind::cookie_reply:
      receive_cookie_reply(bytes);
      return;
    case MessageKind::data: {
      const uint32_t receiver = reinterpret_cast<const wireguard::MessageData*>(bytes)->receiver;
      const auto offset = static_cast<uint32_t>(bytes - frame.data);
      if (!post_datagrams(*context_, *workers_[(receiver & 0xff) % workers_.size()], frame, offset,
                          length)) {
        context_->discard(DropReason::mailbox_full);
      }
      return;
    }
    case MessageKind::invalid:
      context_->discard(DropReason::outer_malformed);
      return;
  }
}

// mac1 always; under load mac2 and the source's share too. A cookie is the answer to a missing mac2.
bool Handshaker::admitted(const RxFrame& frame, const uint8_t* bytes, uint32_t length,
                          uint32_t sender) {
  if (!identity_.has_key) {
    context_->discard(DropReason::handshake_no_private_key);
    return false;
  }
  if (!checker_.check_mac1(bytes, length)) {
    context_->discard(DropReason::bad_mac1);
    return false;
  }
  if (!load_.under_load(context_->now)) {
    return true;
  }
  if (!checker_.check_mac2(context_->now, bytes, length, frame.from)) {
    MessageCookieReply reply;
    checker_.create_reply(context_->now, bytes, length, sender, frame.from, reply);
    send_to(frame.from, reinterpret_cast<uint8_t*>(&reply), sizeof(reply), nullptr);
    counts_.cookies.fetch_add(1, std::memory_order_relaxed);
    context_->discard(DropReason::under_load_no_cookie);
    return false;
  }
  if (!limiter_.allow(context_->now, frame.from.remote)) {
    context_->discard(DropReason::under_load_rate_limited);
    return false;
  }
  return true;
}

void Handshaker::receive_initiation(const RxFrame& frame, uint8_t* bytes) {
  OpenedInitiation opened;
  if (!wireguard::open_initiation(identity_, *reinterpret_cast<const MessageInitiation*>(bytes),
                                  opened)) {
    context_->discard(DropReason::initiation_undecryptable);
    return;
  }
  Peer* peer = find(opened.remote_static);
  if (peer == nullptr) {
    context_->discard(DropReason::initiation_unknown_peer);
    return;
  }
  const DropReason reason =
      reason_of(wireguard::accept_initiation(peer->handshake, opened, context_->now));
  if (reason != DropReason::none) {
    context_->discard(reason, peer);
    return;
  }
  // Beyond this point the peer itself is calling, now, from this address.
  authenticated(*peer, frame, sizeof(MessageInitiation));
  respond(*peer);
}

void Handshaker::receive_response(const RxFrame& frame, uint8_t* bytes) {
  const auto& response = *reinterpret_cast<const MessageResponse*>(bytes);
  Peer* peer = IndexEntry(tunnel_.indices.lookup(response.receiver)).peer();
  if (peer == nullptr) {
    context_->discard(DropReason::response_unexpected);
    return;
  }
  if (!peer->handshake.consume_response(identity_, response)) {
    context_->discard(DropReason::response_invalid, peer);
    return;
  }
  // Beyond this point both sides hold the same secrets.
  authenticated(*peer, frame, sizeof(MessageResponse));
  if (begin_session(*peer) == nullptr) {
    return;
  }
  peer->timers.session_derived(context_->now);
  peer->timers.handshake_complete(clocks_.wall());
  peer->handshakes_completed.fetch_add(1, std::memory_order_relaxed);
  activate(*peer);
  tell_worker(Message::Kind::keepalive, *peer);  // confirms the session, if nothing that waits does
}

void Handshaker::receive_cookie_reply(const uint8_t* bytes) {
  const auto& reply = *reinterpret_cast<const MessageCookieReply*>(bytes);
  const IndexEntry entry(tunnel_.indices.lookup(reply.receiver));
  Peer* peer = entry.peer();
  if (peer == nullptr && entry.keypair() != nullptr) {
    peer = entry.keypair()->peer;
  }
  if (peer == nullptr || !peer->cookies.consume_reply(context_->now, reply)) {
    context_->discard(DropReason::cookie_reply_invalid, peer);
  }
}

void Handshaker::authenticated(Peer& peer, const RxFrame& frame, uint32_t length) {
  peer.endpoint.store(frame.from);
  count(peer.counters[peer.workers].rx_bytes, length);
  peer.timers.any_authenticated_packet_received(context_->now);
}

// -- What is sent.

void Handshaker::initiate(Peer& peer) {
  if (!peer.handshake.can_talk()) {
    const size_t lost = tunnel_.staging.clear(peer.staged);
    context_->discard(
        identity_.has_key ? DropReason::peer_unusable : DropReason::handshake_no_private_key, &peer,
        static_cast<uint32_t>(lost));
    return;
  }
  if (!context_->here().up ||
      !elapsed(peer.last_initiation_sent, context_->now, wireguard::kRekeyTimeout)) {
    return;
  }
  peer.last_initiation_sent = context_->now;
  release_index(peer);
  const uint32_t index = claim_index(IndexEntry(&peer));
  peer.handshake_index = index;
  peer.has_handshake_index = true;
  MessageInitiation message;
  if (!peer.handshake.create_initiation(identity_, clocks_.wall(), index, message)) {
    release_index(peer);
    return;
  }
  peer.cookies.add_macs(context_->now, reinterpret_cast<uint8_t*>(&message), sizeof(message));
  peer.timers.any_authenticated_packet_sent(context_->now);
  send(peer, reinterpret_cast<uint8_t*>(&message), sizeof(message));
  peer.timers.handshake_initiated(context_->now,
                                  crypto::random_below(wireguard::kRekeyTimeoutJitterMax));
  counts_.initiated.fetch_add(1, std::memory_order_relaxed);
  activate(peer);
}

void Handshaker::respond(Peer& peer) {
  peer.last_initiation_sent = context_->now;
  release_index(peer);
  const uint32_t index = claim_index(IndexEntry(&peer));
  peer.handshake_index = index;
  peer.has_handshake_index = true;
  MessageResponse message;
  if (!peer.handshake.create_response(identity_, index, message)) {
    release_index(peer);
    return;
  }
  peer.cookies.add_macs(context_->now, reinterpret_cast<uint8_t*>(&message), sizeof(message));
  if (begin_session(peer) == nullptr) {
    return;
  }
  peer.timers.session_derived(context_->now);
  peer.timers.any_authenticated_packet_sent(context_->now);
  send(peer, reinterpret_cast<uint8_t*>(&message), sizeof(message));
  counts_.answered.fetch_add(1, std::memory_order_relaxed);
  activate(peer);
}

Keypair* Handshaker::begin_session(Peer& peer) {
  auto keypair = std::make_unique<Keypair>();
  if (!peer.handshake.derive(context_->now, *keypair)) {
    release_index(peer);
    return nullptr;
  }
  keypair->peer = &peer;
  Keypair* fresh = keypair.release();
  tunnel_.indices.replace(fresh->local_index, IndexEntry(fresh).value());
  peer.has_handshake_index = false;  // the index is the keypair's now
  tunnel_.retire(peer.keypairs.install(fresh));
  counts_.derived.fetch_add(1, std::memory_order_relaxed);
  return fresh;
}

void Handshaker::send(Peer& peer, uint8_t* message, uint32_t length) {
  const Endpoint to = peer.endpoint.load();
  if (!to.is_set()) {
    context_->discard(DropReason::no_endpoint, &peer);
    return;
  }
  count(peer.counters[peer.workers].tx_bytes, length);
  send_to(to, message, length, &peer);
}

void Handshaker::send_to(const Endpoint& to, uint8_t* message, uint32_t length, Peer* peer) {
  if (port_ == nullptr) {
    context_->discard(DropReason::tunnel_down, peer);
    return;
  }
  const Slice slice{message, length};
  TxFrame frame;
  frame.slices = std::span(&slice, 1);
  frame.length = frame.segment_bytes = length;
  frame.to = &to;
  frame.tos = kHandshakeTos;
  port_->tx(std::span(&frame, 1));
  if (frame.error != 0) {
    context_->discard(DropReason::outer_send_failed, peer);
  }
}

// -- Bookkeeping.

uint32_t Handshaker::claim_index(IndexEntry entry) {
  next_owner_ = (next_owner_ + 1) % static_cast<unsigned>(workers_.size());
  for (;;) {
    uint8_t random[4];
    crypto::random_bytes(random);
    const uint32_t index = (load<le32>(random) & ~uint32_t{0xff}) | next_owner_;
    if (tunnel_.indices.insert(index, entry.value())) {
      return index;
    }
  }
}

void Handshaker::release_index(Peer& peer) {
  if (peer.has_handshake_index) {
    tunnel_.indices.remove(peer.handshake_index);
    peer.has_handshake_index = false;
  }
}

void Handshaker::forget(Peer& peer) {
  release_index(peer);
  peer.handshake.clear();
  tunnel_.retire(peer.keypairs.clear());
}

void Handshaker::tell_worker(Message::Kind kind, const Peer& peer) {
  const auto worker = static_cast<unsigned>(peer.slot % workers_.size());
  const Message message{kind, tunnel_.number, peer.slot, nullptr};
  if (!workers_[worker]->post(message)) {
    undelivered_.emplace_back(worker, message);
    next_timer_ = std::min(next_timer_, context_->now + kTimerGrain);
  }
}

// -- For control, under the mutex.

void Handshaker::set_private_key(const std::array<uint8_t, 32>& key) {
  identity_.set_private_key(key.data());
  checker_.set_public_key(identity_.public_key);
  for (const auto& [public_key, peer] : peers_) {
    forget(*peer);
    peer->last_initiation_sent = kNever;
    peer->handshake.set_identities(identity_, public_key);
  }
}

Peer* Handshaker::find(const wireguard::PublicKey& key) const {
  const auto found = peers_.find(key);
  return found == peers_.end() ? nullptr : found->second;
}

void Handshaker::add(Peer& peer) {
  peers_.emplace(peer.public_key, &peer);
  peer.handshake.set_identities(identity_, peer.public_key);
}

void Handshaker::remove(Peer& peer) {
  peers_.erase(peer.public_key);
  std::erase(active_, &peer);
  tunnel_.peers.set(peer.slot, nullptr);
  forget(peer);
  const size_t lost = tunnel_.staging.clear(peer.staged);
  context_->discard(DropReason::peer_removed, nullptr, static_cast<uint32_t>(lost));
  rcu_retire(new Departed{&peer, &tunnel_}, free_departed);
}

void Handshaker::set_persistent_keepalive(Peer& peer, uint16_t seconds) {
  refresh();
  peer.timers.set_persistent_keepalive(context_->now, seconds);  // due at once where it was off
  activate(peer);
}

void Handshaker::link_changed(bool up) {
  refresh();
  for (const auto& [key, peer] : peers_) {
    if (!up) {
      peer->timers.stop();
      forget(*peer);
      peer->last_initiation_sent = kNever;
      const size_t lost = tunnel_.staging.clear(peer->staged);
      context_->discard(DropReason::tunnel_down, peer, static_cast<uint32_t>(lost));
    } else if (peer->timers.persistent_keepalive() != 0) {
      tell_worker(Message::Kind::keepalive, *peer);
      activate(*peer);
    }
  }
}

// Control works between two steps: what it does happens now, under the snapshot of now.
void Handshaker::refresh() {
  context_->now = clocks_.now();
  context_->snapshot = snapshot_.load(std::memory_order_acquire);
  context_->enter(tunnel_.number);
}

// -- The thread.

void Handshaker::run() {
  rcu_join();
  while (!stopping_.load(std::memory_order_acquire)) {
    while (step() && !stopping_.load(std::memory_order_acquire)) {
      rcu_quiescent();
    }
    mailbox_.going_to_sleep();
    pollfd polled[3] = {{mailbox_.bell(), POLLIN, 0}, {-1, POLLIN, 0}, {-1, POLLIN, 0}};
    const Snapshot& snapshot = *snapshot_.load(std::memory_order_acquire);
    const Port* port = tunnel_.number < snapshot.tunnels.size()
                           ? snapshot.tunnels[tunnel_.number].handshake
                           : nullptr;
    if (port != nullptr) {
      const Port::Descriptors descriptors = port->descriptors();
      polled[1].fd = descriptors.fd[0];
      polled[2].fd = descriptors.fd[1];
    }
    const bool pending = !mailbox_.empty() || stopping_.load(std::memory_order_acquire);
    const Time wait = sleep_time();
    rcu_offline();
    if (!pending) {
      const timespec timeout{wait / kSecond, wait % kSecond};
      ppoll(polled, 3, wait == INT64_MAX ? nullptr : &timeout, nullptr);
    }
    rcu_online();
    mailbox_.awake();
    if ((polled[0].revents & POLLIN) != 0) {
      mailbox_.quiet();
    }
    counts_.wakeups.fetch_add(1, std::memory_order_relaxed);
  }
  rcu_leave();
}

void Handshaker::start() {
  stopping_.store(false, std::memory_order_release);
  thread_ = start_thread([this] { run(); });
}

void Handshaker::stop() {
  if (!thread_.joinable()) {
    return;
  }
  stopping_.store(true, std::memory_order_release);
  mailbox_.ring();
  thread_.join();
}

}  // namespace sallyport
