#include "dataplane/path/tap.h"

#include <algorithm>
#include <cstring>

#include "dataplane/path/classify.h"

namespace sallyport {
namespace {

void begin(Context& context, Run& run, size_t number) {
  Context::Followed& followed = context.followed[number];
  followed.head_bytes = std::min<uint32_t>(run.head_bytes, sizeof(followed.head));
  std::memcpy(followed.head, run.head, followed.head_bytes);
  followed.run = &run;
  context.traces[number].count = 0;
  run.trace = static_cast<uint8_t>(number + 1);
}

}  // namespace

std::optional<TracedPacket> Tap::take() {
  const std::lock_guard lock(mutex_);
  if (queue_.empty()) {
    return std::nullopt;
  }
  const TracedPacket packet = queue_.front();
  queue_.pop_front();
  return packet;
}

void Tap::put(const TracedPacket& packet) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || queue_.size() == kQueueMax) {
    miss();
    return;
  }
  queue_.push_back(packet);
}

bool Tap::matches(const Context& context, const Run& run) const {
  const RuleKey key = classify(context, run);
  const auto differs = [](const auto& asked, auto value) {
    return asked.has_value() && *asked != value;
  };
  if (differs(filter_.protocol, key.protocol) || differs(filter_.iif, key.iif) ||
      differs(filter_.peer, key.peer)) {
    return false;
  }
  if ((filter_.sport.has_value() || filter_.dport.has_value()) && !key.has_ports) {
    return false;
  }
  if (differs(filter_.sport, key.source_port) || differs(filter_.dport, key.destination_port)) {
    return false;
  }
  return (!filter_.from.has_value() || filter_.from->contains(run.family, run.source())) &&
         (!filter_.to.has_value() || filter_.to->contains(run.family, run.destination()));
}

void pick(Context& context) {
  context.followed_count = 0;
  Tap* tap = context.snapshot->tap;
  if (tap == nullptr) {
    return;
  }
  for (size_t i = 0; i < context.burst.count; ++i) {
    Run& run = context.burst.runs[i];
    if (run.to != nullptr || run.discarded || !tap->matches(context, run)) {
      continue;
    }
    if (context.followed_count == Context::kTracesMax) {
      tap->miss();
      continue;
    }
    begin(context, run, context.followed_count++);
  }
}

void deliver(Context& context) {
  Tap* tap = context.snapshot->tap;
  for (size_t i = 0; tap != nullptr && i < context.followed_count; ++i) {
    const Context::Followed& followed = context.followed[i];
    const Run& run = *followed.run;
    if (run.trace == 0 || (tap->drops_only() && !run.discarded)) {
      continue;
    }
    TracedPacket packet;
    packet.trace = context.traces[i];
    std::memcpy(packet.head, followed.head, followed.head_bytes);
    packet.head_bytes = followed.head_bytes;
    packet.bytes = run.bytes;
    packet.segments = run.segments;
    packet.tunnel = context.number;
    packet.from_host = run.from == nullptr;
    packet.from_tag = run.from == nullptr ? 0 : run.from->tag.load(std::memory_order_relaxed);
    packet.discarded = run.discarded;
    packet.time = context.now;
    tap->put(packet);
  }
}

}  // namespace sallyport
