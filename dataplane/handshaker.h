// Handshaker: the thread that does everything slow and rare for one tunnel: handshakes, cookies, timers.
//
// Data never waits for X25519: handshake messages arrive on a socket of their own, what workers find is posted here, and
// a worker that needs a session raises a request bit on the peer. All handshake state of all peers belongs to this
// thread; control takes its mutex to add, change or remove peers. There is no tick: it sleeps until the earliest timer.
//
// Under load means that handshakes cost more than a quarter of one core over the last moments (measured, not counted):
// then an initiation is answered only with proof of address (mac2) and within its source's share (whitepaper section 5.3).
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "dataplane/path/context.h"
#include "dataplane/port.h"
#include "dataplane/wireguard/cookie.h"
#include "dataplane/wireguard/handshake.h"
#include "dataplane/wireguard/ratelimiter.h"

namespace sallyport {

// How much time handshakes take of late: a bucket that fills with their cost and leaks at a quarter of real time.
class HandshakeLoad {
 public:
  void spent(Time now, Time cost);
  bool under_load(Time now) const { return now < until_; }

 private:
  static constexpr Time kDepth = 100 * kMillisecond;
  static constexpr Time kHold = kSecond;  // and for a second after, as the kernel module does

  Time level_ = 0;
  Time last_ = 0;
  Time until_ = kNever;
};

struct PublicKeyHash {
  size_t operator()(const wireguard::PublicKey& key) const;  // keyed: a peer list is remote input
  static const std::array<uint8_t, 16> secret;
};

class Handshaker {
 public:
  static constexpr size_t kFrames = 64;

  struct Clocks {
    Time (*now)();
    WallTime (*wall)();
    Time (*cost)();
  };

  Handshaker(Tunnel& tunnel, BufferPool& pool, const std::atomic<const Snapshot*>& snapshot,
             Clocks clocks);
  ~Handshaker();
  Handshaker(const Handshaker&) = delete;
  Handshaker& operator=(const Handshaker&) = delete;

  void connect(std::vector<Mailbox*> workers);

  // One round. True if there was anything to do. The calling thread is an RCU reader and online.
  bool step();
  // From now until step() has something to do by itself; INT64_MAX for never.
  Time sleep_time() const;

  void start();
  void stop();  // joins

  Mailbox& mailbox() { return mailbox_; }
  std::atomic<bool>& requests_overflowed() { return requests_overflowed_; }
  const PathCounters& counters() const { return context_->counters; }

  // -- For control, which holds the mutex while it uses what follows.
  std::mutex& mutex() const { return mutex_; }
  const wireguard::Identity& identity() const { return identity_; }
  void set_private_key(const std::array<uint8_t, 32>& key);
  wireguard::Peer* find(const wireguard::PublicKey& key) const;
  void add(wireguard::Peer& peer);     // it stands in its slot already
  void remove(wireguard::Peer& peer);  // forgets its sessions and frees it after a grace period
  void set_persistent_keepalive(wireguard::Peer& peer, uint16_t seconds);
  void link_changed(bool up);  // down: sessions are forgotten; up: persistent keepalives begin
  void wake() { mailbox_.ring(); }

  struct Counts {
    std::atomic<uint64_t> initiated{0}, answered{0}, derived{0}, cookies{0}, wakeups{0};
    std::atomic<Time> busy{0};
    std::atomic<bool> under_load{false};
  };
  const Counts& counts() const { return counts_; }

 private:
  void run();
  bool work_port();
  bool work_mailbox();
  bool work_timers();
  void take_requests(wireguard::Peer& peer);
  void tick(wireguard::Peer& peer);
  void activate(wireguard::Peer& peer);
  void refresh();

  void receive(const RxFrame& frame);
  void receive_message(const RxFrame& frame, uint8_t* bytes, uint32_t length);
  bool admitted(const RxFrame& frame, const uint8_t* bytes, uint32_t length, uint32_t sender);
  void receive_initiation(const RxFrame& frame, uint8_t* bytes);
  void receive_response(const RxFrame& frame, uint8_t* bytes);
  void receive_cookie_reply(const uint8_t* bytes);
  void authenticated(wireguard::Peer& peer, const RxFrame& frame, uint32_t length);

  void initiate(wireguard::Peer& peer);
  void respond(wireguard::Peer& peer);
  wireguard::Keypair* begin_session(wireguard::Peer& peer);
  void send(wireguard::Peer& peer, uint8_t* message, uint32_t length);
  void send_to(const Endpoint& to, uint8_t* message, uint32_t length, wireguard::Peer* peer);
  void forget(wireguard::Peer& peer);
  void release_index(wireguard::Peer& peer);
  uint32_t claim_index(IndexEntry entry);
  void tell_worker(Message::Kind kind, const wireguard::Peer& peer);

  std::unique_ptr<Context> context_;
  Tunnel& tunnel_;
  const std::atomic<const Snapshot*>& snapshot_;
  Clocks clocks_;
  Mailbox mailbox_;
  std::vector<Mailbox*> workers_;
  std::atomic<bool> requests_overflowed_{false};
  Port* port_ = nullptr;  // of the snapshot in use

  mutable std::mutex mutex_;
  wireguard::Identity identity_;
  wireguard::CookieChecker checker_;
  wireguard::RateLimiter limiter_;
  HandshakeLoad load_;
  std::unordered_map<wireguard::PublicKey, wireguard::Peer*, PublicKeyHash> peers_;
  std::vector<std::pair<unsigned, Message>> undelivered_;  // for a worker whose mailbox was full
  std::vector<wireguard::Peer*> active_;                   // those with a timer that may become due
  Time next_timer_ = INT64_MAX;
  unsigned next_owner_ = 0;  // round robin over workers, for new sessions
  Counts counts_;
  RxFrame frames_[kFrames];

  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace sallyport
