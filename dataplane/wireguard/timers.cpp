#include "dataplane/wireguard/timers.h"

#include <algorithm>

namespace sallyport::wireguard {
namespace {

constexpr Time kUnset = 0;
constexpr Time kFar = INT64_MAX;

// The persistent keepalive may come this much early: for that, busy workers share a line in peace.
constexpr Time kTraversalGrain = 50 * kMillisecond;

void stamp_if_unset(std::atomic<Time>& stamp, Time now) {
  if (stamp.load(std::memory_order_relaxed) == kUnset) {
    stamp.store(now, std::memory_order_relaxed);
  }
}

void clear_up_to(std::atomic<Time>& stamp, Time now) {
  const Time since = stamp.load(std::memory_order_relaxed);
  if (since != kUnset && since <= now) {
    stamp.store(kUnset, std::memory_order_relaxed);
  }
}

// Clears a stamp that is `age` old; a stamp that a worker renewed meanwhile stays.
bool take_if_due(std::atomic<Time>& stamp, Time now, Time age) {
  Time since = stamp.load(std::memory_order_relaxed);
  return since != kUnset && now >= since + age &&
         stamp.compare_exchange_strong(since, kUnset, std::memory_order_relaxed);
}

Time deadline(const std::atomic<Time>& stamp, Time age) {
  const Time since = stamp.load(std::memory_order_relaxed);
  return since == kUnset ? kFar : since + age;
}

bool due(Time at, Time now) {
  return at != kUnset && now >= at;
}

}  // namespace

void Timers::data_sent(Time now) {
  stamp_if_unset(unanswered_since_, now);
}

void Timers::data_received(Time now) {
  stamp_if_unset(keepalive_owed_since_, now);
}

void Timers::any_authenticated_packet_sent(Time now) {
  clear_up_to(keepalive_owed_since_, now);
  traversed(now);
}

void Timers::any_authenticated_packet_received(Time now) {
  clear_up_to(unanswered_since_, now);
  traversed(now);
}

void Timers::traversed(Time now) {
  if (persistent_.load(std::memory_order_relaxed) == 0) {
    return;
  }
  const Time last = last_traversal_.load(std::memory_order_relaxed);
  if (now - last >= kTraversalGrain) {
    last_traversal_.store(now, std::memory_order_relaxed);
  }
}

bool Timers::claim_last_minute() {
  return !last_minute_claimed_.load(std::memory_order_relaxed) &&
         !last_minute_claimed_.exchange(true, std::memory_order_relaxed);
}

void Timers::handshake_initiated(Time now, Time jitter) {
  jitter_ = jitter;
  retransmit_at_ = now + kRekeyTimeout + jitter;
}

void Timers::handshake_complete(WallTime wall) {
  retransmit_at_ = kUnset;
  retries_ = 0;
  last_minute_claimed_.store(false, std::memory_order_relaxed);
  last_handshake_.store(wall, std::memory_order_relaxed);
}

void Timers::session_derived(Time now) {
  zero_keys_at_ = now + 3 * kRejectAfterTime;
}

void Timers::handshake_wanted_anew() {
  retries_ = 0;
}

void Timers::set_persistent_keepalive(Time now, uint16_t seconds) {
  if (seconds != 0 && persistent_at() == kFar) {
    const Time due_now = now - seconds * kSecond;
    last_traversal_.store(due_now == kUnset ? due_now - 1 : due_now, std::memory_order_relaxed);
  }
  persistent_.store(seconds, std::memory_order_relaxed);
}

void Timers::stop() {
  unanswered_since_.store(kUnset, std::memory_order_relaxed);
  keepalive_owed_since_.store(kUnset, std::memory_order_relaxed);
  last_traversal_.store(kUnset, std::memory_order_relaxed);
  last_minute_claimed_.store(false, std::memory_order_relaxed);
  retransmit_at_ = kUnset;
  zero_keys_at_ = kUnset;
  retries_ = 0;
}

TimerActions Timers::tick(Time now) {
  TimerActions actions;
  if (take_if_due(unanswered_since_, now, kKeepaliveTimeout + kRekeyTimeout + jitter_)) {
    retries_ = 0;  // new data is a new reason to try
    actions.initiate = !handshake_in_progress();
  }
  if (due(retransmit_at_, now)) {
    if (retries_ + 1 < kHandshakeAttemptsMax) {
      ++retries_;
      retransmit_at_ = now + kRekeyTimeout + jitter_;
      actions.initiate = true;
    } else {
      retries_ = 0;
      retransmit_at_ = kUnset;
      keepalive_owed_since_.store(kUnset, std::memory_order_relaxed);
      if (zero_keys_at_ == kUnset) {
        zero_keys_at_ = now + 3 * kRejectAfterTime;
      }
      actions.give_up = true;
    }
  }
  actions.keepalive = take_if_due(keepalive_owed_since_, now, kKeepaliveTimeout);
  if (now >= persistent_at()) {
    last_traversal_.store(now, std::memory_order_relaxed);
    actions.keepalive = true;
  }
  if (due(zero_keys_at_, now)) {
    zero_keys_at_ = kUnset;
    actions.zero_keys = true;
  }
  return actions;
}

Time Timers::new_handshake_at() const {
  return deadline(unanswered_since_, kKeepaliveTimeout + kRekeyTimeout + jitter_);
}

Time Timers::keepalive_at() const {
  return deadline(keepalive_owed_since_, kKeepaliveTimeout);
}

Time Timers::persistent_at() const {
  const Time interval = persistent_.load(std::memory_order_relaxed) * kSecond;
  const Time last = last_traversal_.load(std::memory_order_relaxed);
  if (interval == 0 || last == kUnset) {
    return kFar;
  }
  return last + interval;
}

Time Timers::next_deadline() const {
  const Time retransmit = retransmit_at_ == kUnset ? kFar : retransmit_at_;
  const Time zero_keys = zero_keys_at_ == kUnset ? kFar : zero_keys_at_;
  return std::min({retransmit, zero_keys, new_handshake_at(), keepalive_at(), persistent_at()});
}

bool Timers::idle() const {
  return next_deadline() == kFar;
}

}  // namespace sallyport::wireguard
