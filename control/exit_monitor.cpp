#include "control/exit_monitor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace sallyport {
namespace {

bool same_probe(const std::optional<config::Probe>& a, const std::optional<config::Probe>& b) {
  if (a.has_value() != b.has_value()) {
    return false;
  }
  return !a.has_value() || (a->target == b->target && a->interval_ms == b->interval_ms &&
                            a->timeout_ms == b->timeout_ms && a->up == b->up && a->down == b->down);
}

bool can_be_watched(const config::Exit& exit) {
  return exit.kind == config::Exit::Kind::peer || exit.kind == config::Exit::Kind::tunnel;
}

bool is_member(const config::Config& config, const std::string& name) {
  for (const config::Exit& exit : config.exits) {
    for (const config::Exit::Member& member : exit.members) {
      if (member.exit == name) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace

ExitMonitor::ExitMonitor(boost::asio::io_context& context, Engine& engine)
    : timer_(context), engine_(engine) {}

void ExitMonitor::follow(const config::Config& config, const Policy* policy,
                         const PolicyNames& names, const std::vector<uint32_t>& probed) {
  std::map<std::string, Watched> before = std::exchange(watched_, {});
  policy_ = policy;
  timer_.cancel();
  if (policy == nullptr) {
    return;
  }
  const Time now = now_boottime();
  for (uint32_t i = 0; i < config.exits.size(); ++i) {
    const config::Exit& exit = config.exits[i];
    if (!can_be_watched(exit) || !(exit.probe.has_value() || is_member(config, exit.name))) {
      continue;
    }
    Watched fresh{ExitHealth(exit.probe.value_or(config::Probe{}), now), exit, i, {}, {}};
    const auto known = before.find(exit.name);
    if (known != before.end() && known->second.exit.kind == exit.kind &&
        known->second.exit.tunnel == exit.tunnel && known->second.exit.peer == exit.peer &&
        same_probe(known->second.exit.probe, exit.probe)) {
      fresh.health = known->second.health;
      fresh.handshake = known->second.handshake;
      fresh.sequence = known->second.sequence;
      fresh.told = known->second.told;
    }
    for (const auto& [tag, peer] : names.peers) {
      if (peer.tunnel == exit.tunnel &&
          (exit.kind == config::Exit::Kind::tunnel || peer.name == exit.peer)) {
        fresh.tags.push_back(tag);
      }
    }
    const auto probe = std::find(probed.begin(), probed.end(), i);
    if (probe != probed.end()) {
      fresh.probe = static_cast<uint32_t>(probe - probed.begin());
    }
    watched_.emplace(exit.name, std::move(fresh));
  }
  tick();
}

std::optional<ExitMonitor::State> ExitMonitor::state(const std::string& exit) const {
  const auto found = watched_.find(exit);
  if (found == watched_.end()) {
    return std::nullopt;
  }
  const ExitHealth& health = found->second.health;
  return State{health.alive(), health.why(now_boottime()), health.round_trip(), health.loss(),
               health.probes_decided()};
}

void ExitMonitor::arm(Time delay) {
  timer_.expires_after(std::chrono::nanoseconds(delay));
  timer_.async_wait([this](boost::system::error_code error) {
    if (!error) {
      tick();
    }
  });
}

uint64_t ExitMonitor::packets_of(uint32_t exit) const {
  uint64_t sum = 0;
  for (const auto& row : policy_->exit_counters) {
    sum += row[exit].packets.load(std::memory_order_relaxed);
  }
  return sum;
}

void ExitMonitor::probe(Watched& watched, Time now) {
  if (!watched.probe.has_value()) {
    for (const uint32_t tag : watched.tags) {
      engine_.want_session(tag);
    }
    watched.health.probe_sent(watched.sequence, now);
    return;
  }
  const Policy::Probed& probed = policy_->probes[*watched.probe];
  uint8_t packet[kProbeBytesMax];
  const size_t length = build_probe(probed.probe, ++watched.sequence, packet);
  if (length > 0) {
    engine_.send_packet(probed.tag, {packet, length});
  }
  watched.health.probe_sent(watched.sequence, now);  // one that could not be sent is lost, too
}

void ExitMonitor::look(Watched& watched, Time now) {
  WallTime handshake = 0;
  for (const uint32_t tag : watched.tags) {
    if (const auto brief = engine_.brief(tag); brief.has_value()) {
      handshake = std::max(handshake, brief->last_handshake);
    }
  }
  if (handshake != watched.handshake) {
    watched.handshake = handshake;
    watched.health.handshake(
        handshake == 0 ? kNever : now - std::max<Time>(0, now_wall() - handshake), now);
  }
  if (watched.probe.has_value()) {
    const uint64_t answer = policy_->probes[*watched.probe].answer.load(std::memory_order_acquire);
    if (answer != watched.answer) {
      watched.answer = answer;
      constexpr uint64_t kMicroseconds = (uint64_t{1} << 48) - 1;
      const Time at = static_cast<Time>(answer & kMicroseconds) * kMicrosecond;
      watched.health.probe_answered(static_cast<uint16_t>(answer >> 48), std::min(at, now));
    }
  }
  if (const uint64_t packets = packets_of(watched.number); packets != watched.packets) {
    watched.packets = packets;
    watched.health.wanted(now);
  }
  watched.health.tick(now);
  if (const auto due = watched.health.next_probe(); due.has_value() && *due <= now) {
    probe(watched, now);
  }
}

bool ExitMonitor::any_alive(uint32_t group, unsigned depth) const {
  const Exit& exit = policy_->exits[group];
  if (exit.kind != ExitKind::group) {
    return policy_->alive[group].load(std::memory_order_relaxed);
  }
  return depth < kGroupDepthMax &&
         std::any_of(exit.members.begin(), exit.members.end(),
                     [&](const ExitMember& member) { return any_alive(member.exit, depth + 1); });
}

void ExitMonitor::publish() {
  for (auto& [name, watched] : watched_) {
    policy_->alive[watched.number].store(watched.health.alive(), std::memory_order_relaxed);
    if (watched.told != watched.health.state()) {
      watched.told = watched.health.state();
      spdlog::info("exit {} is {}: {}", name, watched.health.alive() ? "up" : "down",
                   watched.health.why(now_boottime()));
    }
  }
  for (uint32_t i = 0; i < policy_->exits.size(); ++i) {
    if (policy_->exits[i].kind == ExitKind::group) {
      policy_->alive[i].store(any_alive(i, 0), std::memory_order_relaxed);
    }
  }
}

void ExitMonitor::tick() {
  if (watched_.empty()) {
    return;
  }
  const Time now = now_boottime();
  Time due = now + kSecond;
  for (auto& [name, watched] : watched_) {
    look(watched, now);
    for (const std::optional<Time> next :
         {watched.health.next_probe(), watched.health.next_tick()}) {
      due = std::min(due, next.value_or(due));
    }
    if (watched.probe.has_value()) {
      due = std::min(due, now + 100 * kMillisecond);  // an answer is only seen by looking
    }
  }
  publish();
  arm(std::max(due - now, 10 * kMillisecond));
}

}  // namespace sallyport
