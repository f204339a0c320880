// ExitHealth: is an exit alive? Decided from probes, or from the age of its peer's handshake. Pure: time is an argument.
//
//     with a target      the first answer brings it up, `down` losses in a row take it out, `up` answers in a row bring it
//                        back. A probe is lost when it was not answered within `timeout`; an answer after that is none.
//     without one        the first handshake brings it up. It goes down when there is something to send, the session has
//                        run out (REJECT_AFTER_TIME) and three initiations' time has passed without a handshake. An
//                        exit that nobody uses stays as it was: silence is no proof.
//
// Until the first decision it is unknown, which counts as not alive. Since each flip takes `up` or `down` outcomes in a
// row, an exit cannot flap faster than the rule says.
//
// Each event returns whether alive() changed by it. The owner sends what next_probe() asks for, and calls tick() by next_tick().
// Bounds: 32 probes outstanding; when `timeout` spans more intervals, the oldest counts as lost.
// Thread rules: a value; one thread. Sources: the WireGuard whitepaper 6.1, RFC 6298 section 2 (the smoothed RTT).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "control/config.h"
#include "control/limits.h"
#include "dataplane/base/clock.h"

namespace sallyport {

class ExitHealth {
 public:
  enum class State { unknown, up, down };

  ExitHealth(const config::Probe& probe, Time now);

  // The peer's latest handshake, kNever when there was none. Cheap to repeat.
  bool handshake(Time last, Time now);
  // There was something to send through it: its counters moved, packets wait for a session, or a handshake is being tried.
  bool wanted(Time now);
  bool probe_sent(uint16_t sequence, Time now);
  bool probe_answered(uint16_t sequence, Time now);
  bool tick(Time now);

  State state() const { return state_; }
  bool alive() const { return state_ == State::up; }
  Time since() const { return since_; }  // of the last flip, or of the beginning
  std::string why(Time now) const;       // a sentence for status and explain

  // When a probe is to be sent. Without a target: when a keepalive is to be sent that makes a handshake happen; only
  // while it is not up, since then nothing else may come by to start one.
  std::optional<Time> next_probe() const;
  // When tick() has something to decide, if nothing else happens.
  std::optional<Time> next_tick() const;

  // Over the last 32 probes that were decided.
  std::optional<Time> round_trip() const;
  double loss() const;  // 0 to 1
  unsigned probes_decided() const { return decided_; }

 private:
  struct Outstanding {
    uint16_t sequence = 0;
    Time sent = 0;
  };

  bool by_probes() const { return probe_.target.has_value(); }
  void expire(Time now);
  void forget_outstanding(unsigned index);
  void succeeded(Time now);
  void failed(Time sent, Time now);
  void remember(bool answered);
  bool flip(State to, Time now);
  std::optional<Time> session_deadline() const;
  std::string why_probes(Time now) const;
  std::string why_handshake(Time now) const;

  config::Probe probe_;
  State state_ = State::unknown;
  Time since_;
  unsigned successes_ = 0, failures_ = 0;  // in a row

  std::array<Outstanding, kExitProbesKept> outstanding_{};  // oldest first
  unsigned outstanding_count_ = 0;
  Time last_probe_ = kNever;
  Time last_answer_ = kNever;
  Time first_loss_ = kNever;  // when the first probe of the present row of losses was sent
  Time round_trip_ = kNever;
  uint32_t lost_bits_ = 0;
  unsigned decided_ = 0;

  Time last_handshake_ = kNever;
  Time wanted_since_ = kNever;  // since when something waits for a new session
};

}  // namespace sallyport
