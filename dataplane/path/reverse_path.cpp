#include "dataplane/path/reverse_path.h"

#include <algorithm>

#include "dataplane/path/classify.h"
#include "dataplane/path/policy.h"
#include "dataplane/path/route.h"

namespace sallyport {
namespace {

using wireguard::Peer;

enum class Way : uint8_t { none, another, same };

// Where an answer to this run would go.
class WayBack {
 public:
  WayBack(Context& context, const Policy& policy, const Run& run)
      : context_(context), policy_(policy), run_(run) {}

  Way find() const {
    const RuleKey key = key_of_answer();
    const PolicyAnswer answer = ask_policy(context_, policy_, key);
    switch (answer.kind) {
      case RuleAction::Kind::none:
        return run_.to == nullptr ? by_allowed_ips(port_of_answer()) : Way::another;
      case RuleAction::Kind::exit:
        return by_exit(answer.exit, 0);
      default:
        return Way::none;
    }
  }

 private:
  // The tunnel whose plain port it leaves by to the host, and an answer comes in by.
  TunnelNumber port_of_answer() const {
    return run_.port == kPortItCameBy ? context_.number : run_.port;
  }

  RuleKey key_of_answer() const {
    RuleKey key = classify(context_, run_);
    std::swap(key.source, key.destination);
    std::swap(key.source_port, key.destination_port);
    key.iif = way_out_of(context_, run_).oif;
    key.peer = run_.to == nullptr ? PeerTags::kNone : run_.to->tag.load(std::memory_order_relaxed);
    return key;
  }

  Way to_peer(const Peer* peer) const {
    return peer == nullptr ? Way::none : peer == run_.from ? Way::same : Way::another;
  }

  Way by_allowed_ips(TunnelNumber number) const {
    const Tunnel* tunnel = number < context_.snapshot->tunnels.size()
                               ? context_.snapshot->tunnels[number].tunnel
                               : nullptr;
    return tunnel == nullptr ? Way::none : to_peer(tunnel->owner_of(run_.family, run_.source()));
  }

  Way to_host(TunnelNumber port) const {
    return run_.to == nullptr && port == port_of_answer() ? Way::none : Way::another;
  }

  Way by_exit(uint32_t number, unsigned depth) const {
    const Exit& exit = policy_.exits[number];
    switch (exit.kind) {
      case ExitKind::peer:
        return lan_allows(exit, run_.family, run_.source()) ? to_peer(policy_.tags.get(exit.tag))
                                                            : Way::none;
      case ExitKind::tunnel:
        return by_allowed_ips(exit.tunnel);
      case ExitKind::host:
        return to_host(run_.to == nullptr ? port_of_answer() : context_.number);
      case ExitKind::port:
        return to_host(exit.tunnel);
      case ExitKind::drop:
      case ExitKind::unreachable:
        return Way::none;
      case ExitKind::group:
        break;
    }
    Way best = Way::none;
    for (const ExitMember& member : exit.members) {
      best = depth > kGroupDepthMax ? best : std::max(best, by_exit(member.exit, depth + 1));
    }
    return exit.when_down == kNoExit || depth > kGroupDepthMax
               ? best
               : std::max(best, by_exit(exit.when_down, depth + 1));
  }

  Context& context_;
  const Policy& policy_;
  const Run& run_;
};

}  // namespace

void check_reverse_path(Context& context) {
  const Policy* policy = context.snapshot->policy;
  if (policy == nullptr || policy->flows == nullptr || policy->reverse_path == ReversePath::off) {
    return;
  }
  const Way least = policy->reverse_path == ReversePath::strict ? Way::same : Way::another;
  const size_t arrived = context.burst.count;
  for (size_t i = 0; i < arrived; ++i) {
    Run& run = context.burst.runs[i];
    if (run.discarded || run.from == nullptr || run.flow != FlowRef::kNone ||
        run.flow_state != FlowState::fresh) {
      continue;
    }
    const bool passes = WayBack(context, *policy, run).find() >= least;
    if (Trace* trace = context.trace_of(run); trace != nullptr) {
      trace->add(TraceStep::What::reverse_path, 0, passes ? 1 : 0,
                 static_cast<uint32_t>(policy->reverse_path));
    }
    if (!passes) {
      context.discard(run, DropReason::reverse_path);
    }
  }
}

}  // namespace sallyport
