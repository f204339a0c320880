// From an exit to the member of a group whose turn it is.
#include "dataplane/base/clock.h"
#include "dataplane/path/classify.h"
#include "dataplane/path/policy.h"

namespace sallyport {
namespace {

bool is_alive(const Policy& policy, uint32_t exit) {
  return policy.alive[exit].load(std::memory_order_relaxed);
}

struct Choice {
  uint32_t place;
  MemberWhy why;
};

// Whose share this hash falls into, among all or among those that are alive.
template <class Counts>
std::optional<uint32_t> share_of(const Exit& group, uint64_t hash, Counts counts) {
  uint64_t total = 0;
  for (const ExitMember& member : group.members) {
    total += counts(member) ? member.weight : 0;
  }
  uint64_t left = total == 0 ? 0 : hash % total;
  for (uint32_t place = 0; place < group.members.size(); ++place) {
    const uint64_t weight = counts(group.members[place]) ? group.members[place].weight : 0;
    if (left < weight) {
      return place;
    }
    left -= weight;
  }
  return std::
      nullopt;  // none counts; or one died between the two looks, and the next packet finds another
}

// By weight; the flow's hash decides, so all packets of a flow agree. First among all members, and among the living only
// where that one is down: so those that die or come back move no flow between the others.
std::optional<Choice> by_weight(const Policy& policy, const Exit& group, uint64_t hash) {
  std::optional<uint32_t> place = share_of(group, hash, [](const ExitMember&) { return true; });
  if (place.has_value() && !is_alive(policy, group.members[*place].exit)) {
    place = share_of(group, mix64(hash),
                     [&](const ExitMember& member) { return is_alive(policy, member.exit); });
  }
  return place.has_value() ? std::optional(Choice{*place, MemberWhy::weight}) : std::nullopt;
}

std::optional<Choice> first_alive(const Policy& policy, const Exit& group) {
  for (uint32_t place = 0; place < group.members.size(); ++place) {
    if (is_alive(policy, group.members[place].exit)) {
      return Choice{place, MemberWhy::first_alive};
    }
  }
  return std::nullopt;
}

// A flow stays where it was while that works; else it is told where to go, and that is remembered.
std::optional<Choice> choose(Context& context, const Policy& policy, const Exit& group,
                             uint64_t hash) {
  const auto seconds = static_cast<uint32_t>(context.now / kSecond);
  const bool sticky = group.sticky_seconds > 0 && group.affinity != nullptr &&
                      group.members.size() <= AffinityTable::kMembersMax;
  std::optional<Choice> choice;
  if (sticky) {
    const auto place = group.affinity->find(hash, seconds, group.sticky_seconds);
    if (place.has_value() && *place < group.members.size() &&
        is_alive(policy, group.members[*place].exit)) {
      choice = Choice{*place, MemberWhy::kept};
    }
  }
  if (!choice.has_value()) {
    choice = group.mode == GroupMode::weighted ? by_weight(policy, group, hash)
                                               : first_alive(policy, group);
  }
  if (sticky && choice.has_value() && !context.dry) {
    group.affinity->remember(hash, static_cast<uint8_t>(choice->place), seconds);
  }
  return choice;
}

}  // namespace

uint32_t resolve(Context& context, const Policy& policy, uint32_t exit, const RuleKey& key,
                 Trace* trace) {
  using What = TraceStep::What;
  uint64_t hash = 0;
  if (trace != nullptr) {
    trace->add(What::exit, exit);
  }
  for (unsigned depth = 0; depth <= kGroupDepthMax; ++depth) {
    const Exit& at = policy.exits[exit];
    if (at.kind != ExitKind::group) {
      return exit;
    }
    // Mixed anew for a group in a group, whose shares would be those of the outer one otherwise.
    hash = depth == 0 ? flow_hash(key) : mix64(hash + 1);
    const std::optional<Choice> choice = choose(context, policy, at, hash);
    if (choice.has_value()) {
      exit = at.members[choice->place].exit;
      if (trace != nullptr) {
        trace->add(What::member, exit, static_cast<uint32_t>(choice->why), choice->place);
      }
      continue;
    }
    if (trace != nullptr) {
      trace->add(What::all_down, exit, at.when_down);
    }
    if (at.when_down == kNoExit) {
      return kNoExit;
    }
    exit = at.when_down;
  }
  return kNoExit;  // the configuration's check allows no deeper nesting
}

}  // namespace sallyport
