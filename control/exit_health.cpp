#include "control/exit_health.h"

#include <algorithm>
#include <bit>
#include <cstdio>

#include "dataplane/wireguard/limits.h"

namespace sallyport {
namespace {

using wireguard::kRejectAfterTime;
using wireguard::kRekeyTimeout;

// Three initiations and their answers.
constexpr Time kHandshakePatience = 3 * kRekeyTimeout;

static_assert(kExitProbesKept == 32, "lost_bits_ has one bit for each");

Time from_ms(uint32_t ms) {
  return Time{ms} * kMillisecond;
}

std::string seconds(Time span) {
  char text[32];
  const double value = static_cast<double>(std::max<Time>(span, 0)) / static_cast<double>(kSecond);
  std::snprintf(text, sizeof(text), value < 9.95 ? "%.1f s" : "%.0f s", value);
  return text;
}

std::string count(unsigned number, const char* noun) {
  return std::to_string(number) + " " + noun + (number == 1 ? "" : "s");
}

}  // namespace

ExitHealth::ExitHealth(const config::Probe& probe, Time now) : probe_(probe), since_(now) {
  probe_.up = std::max(probe_.up, 1u);
  probe_.down = std::max(probe_.down, 1u);
  probe_.interval_ms = std::max(probe_.interval_ms, 1u);
  probe_.timeout_ms = std::max(probe_.timeout_ms, 1u);
}

bool ExitHealth::flip(State to, Time now) {
  const bool was_alive = alive();
  if (state_ != to) {
    state_ = to;
    since_ = now;
  }
  return alive() != was_alive;
}

// --- By handshake --------------------------------------------------------------------------------

bool ExitHealth::handshake(Time last, Time now) {
  if (last == kNever || last <= last_handshake_) {
    return false;
  }
  last_handshake_ = last;
  wanted_since_ = kNever;
  // One that had run out before anybody told us of it proves nothing.
  const bool fresh = now - last <= kRejectAfterTime;
  return !by_probes() && fresh && flip(State::up, now);
}

bool ExitHealth::wanted(Time now) {
  if (last_handshake_ != kNever && now - last_handshake_ <= kRejectAfterTime) {
    return false;  // the session still carries it
  }
  if (wanted_since_ == kNever) {
    wanted_since_ = now;
  }
  return tick(now);
}

std::optional<Time> ExitHealth::session_deadline() const {
  if (by_probes() || state_ == State::down || wanted_since_ == kNever) {
    return std::nullopt;
  }
  return wanted_since_ + kHandshakePatience;
}

// --- By probes -----------------------------------------------------------------------------------

bool ExitHealth::probe_sent(uint16_t sequence, Time now) {
  const bool was_alive = alive();
  expire(now);
  last_probe_ = now;
  if (by_probes()) {
    if (outstanding_count_ == outstanding_.size()) {
      const Time sent = outstanding_[0].sent;
      forget_outstanding(0);
      failed(sent, now);
    }
    outstanding_[outstanding_count_++] = {sequence, now};
  }
  return alive() != was_alive;
}

bool ExitHealth::probe_answered(uint16_t sequence, Time now) {
  const bool was_alive = alive();
  expire(now);
  for (unsigned i = 0; i < outstanding_count_; ++i) {
    if (outstanding_[i].sequence == sequence) {
      const Time sample = now - outstanding_[i].sent;
      forget_outstanding(i);
      round_trip_ = round_trip_ == kNever ? sample : round_trip_ + (sample - round_trip_) / 8;
      succeeded(now);
      break;
    }
  }
  return alive() != was_alive;
}

bool ExitHealth::tick(Time now) {
  const bool was_alive = alive();
  expire(now);
  const auto deadline = session_deadline();
  if (deadline && now >= *deadline) {
    flip(State::down, now);
  }
  return alive() != was_alive;
}

void ExitHealth::expire(Time now) {
  while (outstanding_count_ > 0 && now - outstanding_[0].sent >= from_ms(probe_.timeout_ms)) {
    const Time sent = outstanding_[0].sent;
    forget_outstanding(0);
    failed(sent, now);
  }
}

void ExitHealth::forget_outstanding(unsigned index) {
  std::copy(outstanding_.begin() + index + 1, outstanding_.begin() + outstanding_count_,
            outstanding_.begin() + index);
  --outstanding_count_;
}

void ExitHealth::remember(bool answered) {
  lost_bits_ = lost_bits_ << 1 | (answered ? 0 : 1);
  decided_ = std::min(decided_ + 1, kExitProbesKept);
}

void ExitHealth::succeeded(Time now) {
  remember(true);
  last_answer_ = now;
  failures_ = 0;
  ++successes_;
  if (successes_ >= (state_ == State::unknown ? 1 : probe_.up)) {
    flip(State::up, now);
  }
}

void ExitHealth::failed(Time sent, Time now) {
  remember(false);
  if (failures_ == 0) {
    first_loss_ = sent;
  }
  successes_ = 0;
  ++failures_;
  if (failures_ >= probe_.down) {
    flip(State::down, now);
  }
}

// --- What it says --------------------------------------------------------------------------------

std::optional<Time> ExitHealth::next_probe() const {
  if (!by_probes() && alive()) {
    return std::nullopt;
  }
  if (last_probe_ == kNever) {
    return since_;
  }
  // A handshake that is being tried retries by itself, so asking more often changes nothing.
  const Time interval = from_ms(probe_.interval_ms);
  return last_probe_ + (by_probes() ? interval : std::max(interval, kRekeyTimeout));
}

std::optional<Time> ExitHealth::next_tick() const {
  if (outstanding_count_ > 0) {
    return outstanding_[0].sent + from_ms(probe_.timeout_ms);
  }
  return session_deadline();
}

std::optional<Time> ExitHealth::round_trip() const {
  return round_trip_ == kNever ? std::nullopt : std::optional(round_trip_);
}

double ExitHealth::loss() const {
  return decided_ == 0 ? 0 : static_cast<double>(std::popcount(lost_bits_)) / decided_;
}

std::string ExitHealth::why(Time now) const {
  return by_probes() ? why_probes(now) : why_handshake(now);
}

std::string ExitHealth::why_probes(Time now) const {
  const std::string target = to_text(*probe_.target);
  if (failures_ > 0) {
    const std::string lost = count(failures_, "probe") + " to " + target + " unanswered since " +
                             seconds(now - first_loss_);
    return state_ == State::down ? lost
                                 : lost + ", " + std::to_string(probe_.down) + " take it out";
  }
  if (successes_ == 0) {
    return "no probe to " + target + " decided yet";
  }
  if (state_ == State::down) {
    return count(successes_, "probe") + " to " + target + " answered in a row, " +
           std::to_string(probe_.up) + " bring it back";
  }
  char text[64];
  std::snprintf(text, sizeof(text), "RTT %.1f ms, loss %.0f %%",
                static_cast<double>(round_trip_) / static_cast<double>(kMillisecond), loss() * 100);
  return "probe to " + target + " answered " + seconds(now - last_answer_) + " ago, " + text;
}

std::string ExitHealth::why_handshake(Time now) const {
  if (last_handshake_ == kNever) {
    return wanted_since_ == kNever ? "no handshake yet"
                                   : "no handshake yet, tried for " + seconds(now - wanted_since_);
  }
  const std::string last = "handshake " + seconds(now - last_handshake_) + " ago";
  if (wanted_since_ != kNever) {
    return last + ", a new one tried for " + seconds(now - wanted_since_);
  }
  return now - last_handshake_ > kRejectAfterTime && alive() ? last + ", nothing sent since" : last;
}

}  // namespace sallyport
