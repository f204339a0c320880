// The six timers of a peer, as events, stamps and one question.
//
//   retransmit        an initiation unanswered for REKEY_TIMEOUT + jitter is sent again, for 90 s
//   send_keepalive    data came in and nothing went out for KEEPALIVE_TIMEOUT: send an empty packet
//   new_handshake     data went out and nothing came back for KEEPALIVE_TIMEOUT + REKEY_TIMEOUT +
//                     jitter: initiate
//   zero_keys         no new session for 3 x REJECT_AFTER_TIME: forget everything secret
//   persistent        nothing went either way for the configured interval: send an empty packet
//   last_minute       data came in on a key about to expire, and we are its initiator: initiate,
//                     once a session
//
// Nothing is scheduled. Workers only leave stamps (relaxed atomics, written when they change); the
// handshaker asks tick(now) what is due and next_deadline() how long it may sleep. A stamp left
// after a tick can only become due kKeepaliveTimeout later, so sleeping min(next_deadline,
// kKeepaliveTimeout) misses nothing, and an idle peer costs no wake-up. Source: whitepaper sections
// 6.2 to 6.5; the event names are the kernel module's.
//
// Every action re-arms or disarms what fired, so a caller who cannot act on it (no endpoint, no
// key) is not asked again at once. Stamps of several threads may come in any order and be a little
// older than what is there: an event clears only stamps that are not younger than itself. `now` is
// positive.
//
// One keepalive answers all data received before it. The kernel's second one, for data that came
// while the first was owed, is not sent: the sender's clock of 15 s starts with the first packet
// that nothing has answered.
#pragma once

#include <atomic>
#include <cstdint>

#include "dataplane/base/clock.h"
#include "dataplane/wireguard/limits.h"

namespace sallyport::wireguard {

struct TimerActions {
  bool initiate = false;   // begin or retry a handshake
  bool keepalive = false;  // send an empty data packet
  bool zero_keys = false;  // forget keypairs and handshake
  bool give_up = false;    // 90 s unanswered: drop what is staged, stop until there is data again
};

class Timers {
 public:
  // -- Events of the data path: any worker, no order assumed between threads.
  void data_sent(Time now);
  void data_received(Time now);
  void any_authenticated_packet_sent(Time now);
  void any_authenticated_packet_received(Time now);

  // Data came in on a key of our own making that ends before a passive handshake would renew it.
  // True for the first caller since the last handshake: initiate. Any worker.
  bool claim_last_minute();

  // -- Events of the handshake: handshaker thread only.
  void handshake_initiated(Time now, Time jitter);  // jitter in [0, kRekeyTimeoutJitterMax]
  void handshake_complete(WallTime wall);
  void session_derived(Time now);
  void handshake_wanted_anew();  // new data after give_up, or a person asked: count from zero

  // 0 is off; turned on, the first is due at once.
  void set_persistent_keepalive(Time now, uint16_t seconds);

  // The peer goes, or the interface is down. Keeps the interval above; set it again to go on.
  void stop();

  // -- The question: handshaker thread only.
  TimerActions tick(Time now);
  Time next_deadline() const;  // INT64_MAX when nothing can become due without a new event
  bool idle() const;  // nothing pending: the handshaker may drop the peer from its active list

  WallTime last_handshake() const { return last_handshake_.load(std::memory_order_relaxed); }
  uint16_t persistent_keepalive() const { return persistent_.load(std::memory_order_relaxed); }
  bool handshake_in_progress() const { return retransmit_at_ != 0; }

 private:
  void traversed(Time now);
  Time new_handshake_at() const;
  Time keepalive_at() const;
  Time persistent_at() const;

  // Stamps, 0 when unset. A worker stores only when the value changes what tick() would see.
  std::atomic<Time> unanswered_since_{0};  // first data sent since anything authenticated arrived
  std::atomic<Time> keepalive_owed_since_{0};  // first data received since anything was sent
  std::atomic<Time> last_traversal_{0};        // any authenticated packet, where persistent is on
  std::atomic<bool> last_minute_claimed_{false};
  std::atomic<WallTime> last_handshake_{0};
  std::atomic<uint16_t> persistent_{0};

  // Handshaker's own.
  Time retransmit_at_ = 0;
  Time zero_keys_at_ = 0;
  Time jitter_ = 0;
  unsigned retries_ = 0;
};

}  // namespace sallyport::wireguard
