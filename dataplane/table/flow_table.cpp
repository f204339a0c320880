#include "dataplane/table/flow_table.h"

#include <algorithm>
#include <mutex>

#include "dataplane/net/headers.h"

namespace sallyport {
namespace {

using flow::kCounting;
using flow::kMapped;
using flow::kSettled;
using flow::Line;
using flow::Shared;
using flow::Shares;
using flow::State;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr uint8_t kTcpTracked = kTcpSyn | kTcpFin | kTcpRst | kTcpAck;
constexpr uint64_t kStreamPackets = 3;  // each way
constexpr unsigned kEvictionTries = 4;

// A look is due at a time in units of four seconds, modulo 2^16 of them (three days): far enough, since none is set
// more than a day ahead. A sweep that has not come for an hour may have missed the half of that in which a time is past.
constexpr uint32_t kLookUnit = 4;
constexpr uint32_t kLookAhead = 86400;
constexpr uint32_t kSweepGap = 3600;

uint32_t to_seconds(Time now) {
  return static_cast<uint32_t>(now / kSecond);
}

uint16_t to_look(uint32_t seconds) {
  const auto look = static_cast<uint16_t>((seconds + kLookUnit - 1) / kLookUnit);
  return look != 0 ? look : 1;
}

bool is_due(uint16_t look, uint32_t now) {
  return static_cast<int16_t>(static_cast<uint16_t>(now / kLookUnit) - look) >= 0;
}

uint16_t rule_of(const uint8_t (&rules)[3], bool second) {
  return second ? static_cast<uint16_t>(rules[1] >> 4 | rules[2] << 4)
                : static_cast<uint16_t>(rules[0] | (rules[1] & 15) << 8);
}

}  // namespace

FlowTable::FlowTable(const Config& config)
    : capacity_(std::clamp<size_t>(config.capacity, 1, kCapacityMax)),
      pick_up_(config.pick_up),
      timeouts_(config.timeouts),
      lines_(2 * FlowPool::records_for(capacity_)),
      shared_(FlowPool::records_for(capacity_)),
      looks_(FlowPool::records_for(capacity_)),
      index_(2 * capacity_, static_cast<uint32_t>(lines_.size())),
      pool_(capacity_),
      shares_(capacity_, config.owners, lines_),
      mappings_(capacity_, config.owners) {}

size_t FlowTable::memory_bytes() const {
  return sizeof(*this) + lines_.bytes() + shared_.bytes() + looks_.bytes() + index_.bytes() +
         shares_.bytes();
}

// ---- finding

FlowRef FlowTable::find_hashed(uint64_t hash, const FlowTuple& tuple) const {
  return {index_.find(hash, [&](uint32_t word) { return is(word, tuple); })};
}

FlowRef FlowTable::find(const FlowTuple& tuple) const {
  return find_hashed(hash(tuple), tuple);
}

void FlowTable::find_many(const FlowTuple* tuples, FlowRef* refs, size_t n) const {
  uint64_t hashes[kChunk];
  for (size_t done = 0; done < n;) {
    const size_t count = std::min(n - done, kChunk);
    for (size_t i = 0; i < count; ++i) {
      hashes[i] = hash(tuples[done + i]);
      index_.prefetch(hashes[i]);
    }
    for (size_t i = 0; i < count; ++i) {
      const uint32_t word = index_.guess(hashes[i]);
      refs[done + i] = {word};
      if (word != FlowRef::kNone) {
        __builtin_prefetch(&lines_[word], 1);
        __builtin_prefetch(&shared_[word / 2]);
      }
    }
    for (size_t i = 0; i < count; ++i) {
      refs[done + i] = find_hashed(hashes[i], tuples[done + i]);
    }
    done += count;
  }
}

// ---- insert and remove

bool FlowTable::evict_oldest(uint32_t owner) {
  for (unsigned i = 0; i < kEvictionTries; ++i) {
    const uint32_t victim = shares_.oldest(owner);
    if (victim == Shares::kNone) {
      return false;
    }
    if (remove(victim, Victim::unreplied)) {
      return true;
    }
  }
  return false;
}

FlowInsert FlowTable::make_room(Shares::Admission admission, uint16_t owner) {
  switch (admission) {
    case Shares::Admission::granted:
      return FlowInsert::done;
    case Shares::Admission::in_place_of_own:
      // A grace period must be over before the place is free, and those that are short on places are others.
      return !pool_.is_short() && evict_oldest(owner) ? FlowInsert::done
                                                      : FlowInsert::owner_over_share;
    case Shares::Admission::in_place_of_other: {
      const uint32_t other = shares_.most_beyond();
      return other != Shares::kNone && evict_oldest(other) ? FlowInsert::done : FlowInsert::full;
    }
    case Shares::Admission::source_over_share:
      return FlowInsert::source_over_share;
  }
  return FlowInsert::full;
}

Inserted FlowTable::insert(const NewFlow& fresh, Time time) {
  const uint32_t now = to_seconds(time);
  State first{State::kAlive};
  if (fresh.original.protocol == kProtocolTcp) {
    const auto track = tcp_start(fresh.tcp_flags, pick_up_);
    if (!track.has_value()) {
      return {FlowInsert::invalid, {}};
    }
    first = first.with(*track);
  }
  if (shares_.is_refused(fresh.owner, pool_.is_short())) {
    return {FlowInsert::owner_over_share, {}};
  }
  // Most that are taken are found so before anything is counted or anybody gives way; publish() asks again.
  if (find(fresh.original)) {
    return {FlowInsert::original_taken, {}};
  }
  if (fresh.reply == fresh.original || find(fresh.reply)) {
    return {FlowInsert::reply_taken, {}};
  }
  const uint64_t source = hash_.of_source(fresh.owner, fresh.original);
  FlowInsert result = make_room(shares_.enter(fresh.owner, source), fresh.owner);
  const uint32_t flow = result == FlowInsert::done ? pool_.take() : FlowPool::kNone;
  if (flow != FlowPool::kNone) {
    result = publish(flow, fresh, first, now);
    if (result == FlowInsert::done) {
      return {result, {2 * flow}};
    }
  } else if (result == FlowInsert::done) {
    result = FlowInsert::full;
  }
  shares_.leave(fresh.owner, source);
  return {result, {}};
}

void FlowTable::write(uint32_t flow, const NewFlow& fresh, uint32_t now) {
  for (unsigned i = 0; i < 2; ++i) {
    Line& line = lines_[2 * size_t{flow} + i];
    line.verdict.store(0, kRelaxed);
    line.bytes.store(0, kRelaxed);
    line.packets_low.store(0, kRelaxed);
    line.packets_high.store(0, kRelaxed);
    line.last_seen.store(now, kRelaxed);
    line.notes.store(i == 0 && fresh.is_mapped ? kMapped : 0, kRelaxed);
    line.tuple = i == 0 ? fresh.original : fresh.reply;
  }
  Shared& shared = shared_[flow];
  shared.peer_tag = fresh.peer_tag;
  shared.mark.store(fresh.mark, kRelaxed);
  shared.tunnel = fresh.tunnel;
  shared.owner = fresh.owner;
  shared.nat_rules[0] = static_cast<uint8_t>(fresh.snat_rule);
  shared.nat_rules[1] = static_cast<uint8_t>((fresh.snat_rule >> 8 & 15) | fresh.dnat_rule << 4);
  shared.nat_rules[2] = static_cast<uint8_t>(fresh.dnat_rule >> 4);
}

// Both tuples become findable, or neither. The flow is whole before that, and nobody can remove it before the locks are gone.
FlowInsert FlowTable::publish(uint32_t flow, const NewFlow& fresh, State first, uint32_t now) {
  write(flow, fresh, now);
  const uint64_t original = hash(fresh.original);
  const uint64_t reply = hash(fresh.reply);
  FlowInsert result = FlowInsert::done;
  {
    const FlowIndex::Locked locked(index_, original, reply);
    if (find_hashed(original, fresh.original)) {
      result = FlowInsert::original_taken;
    } else if (find_hashed(reply, fresh.reply)) {
      result = FlowInsert::reply_taken;
    } else {
      look_again(flow, now + timeout_of(fresh.original.protocol, first));
      begin(flow, first);
      if (index_.insert(original, 2 * flow)) {
        if (index_.insert(reply, 2 * flow + 1)) {
          return FlowInsert::done;
        }
        index_.remove(original, 2 * flow);
      }
      end(flow, Victim::any);
      result = FlowInsert::full;
    }
  }
  if (result == FlowInsert::full) {
    pool_.retire(flow);  // somebody may have seen it
  } else {
    pool_.give(flow);
  }
  return result;
}

void FlowTable::begin(uint32_t flow, State first) {
  const uint16_t owner = shared_[flow].owner;
  const std::lock_guard lock(shares_.lock_of(owner));
  shares_.link(owner, flow);
  shared_[flow].state.store(first.byte, std::memory_order_release);
}

bool FlowTable::end(uint32_t flow, Victim victim) {
  const uint16_t owner = shared_[flow].owner;
  const std::lock_guard lock(shares_.lock_of(owner));
  const State last = state(flow);
  if (!last.is_alive() || (victim == Victim::unreplied && last.is_replied())) {
    return false;
  }
  if (!last.is_replied()) {
    shares_.unlink(owner, flow);
  }
  shared_[flow].state.store(0, std::memory_order_release);
  return true;
}

bool FlowTable::remove(uint32_t flow, Victim victim) {
  if (!state(flow).is_alive()) {
    return false;
  }
  const Line* const lines = &lines_[2 * size_t{flow}];
  const uint64_t original = hash(lines[0].tuple);
  const uint64_t reply = hash(lines[1].tuple);
  {
    const FlowIndex::Locked locked(index_, original, reply);
    if (!end(flow, victim)) {
      return false;
    }
    index_.remove(original, 2 * flow);
    index_.remove(reply, 2 * flow + 1);
  }
  const uint16_t owner = shared_[flow].owner;
  shares_.leave(owner, hash_.of_source(owner, lines[0].tuple));
  if ((lines[0].notes.load(kRelaxed) & kMapped) != 0) {
    mappings_.leave(MappedEnd::make(lines[0].tuple, lines[1].tuple.destination));
  }
  pool_.retire(flow);
  return true;
}

// ---- packets of a flow

void FlowTable::count(Line& line, const FlowPackets& seen, uint32_t now) {
  line.bytes.store(line.bytes.load(kRelaxed) + seen.bytes, kRelaxed);
  const uint32_t before = line.packets_low.load(kRelaxed);
  const uint32_t after = before + seen.packets;
  if (after < before) {
    line.packets_high.store(static_cast<uint8_t>(line.packets_high.load(kRelaxed) + 1), kRelaxed);
  }
  line.packets_low.store(after, kRelaxed);
  line.last_seen.store(now, kRelaxed);
}

FlowSeen FlowTable::note(FlowRef ref, const FlowPackets& seen, Time time) {
  const uint32_t now = to_seconds(time);
  Line& line = lines_[ref.word];
  const bool is_tcp = line.tuple.protocol == kProtocolTcp;
  const bool is_plain = !is_tcp || (seen.tcp_flags & kTcpTracked) == kTcpAck;
  if ((line.notes.load(kRelaxed) & kSettled) != 0 && is_plain) {
    count(line, seen, now);
    return FlowSeen::established;
  }
  if (is_tcp && !track(ref, seen.tcp_flags, now)) {
    return FlowSeen::invalid;
  }
  const uint32_t flow = ref.flow();
  const bool is_reply = ref.direction() == FlowDirection::reply;
  // Refused is not replied: such a flow may give way to others.
  const bool is_refused = is_tcp && (seen.tcp_flags & kTcpRst) != 0;
  if (is_reply && !is_refused && (line.notes.load(std::memory_order_acquire) & kCounting) == 0) {
    first_reply(flow, now);
  }
  if (!is_reply || (line.notes.load(std::memory_order_acquire) & kCounting) != 0) {
    count(line, seen, now);
  } else {
    line.last_seen.store(now, kRelaxed);
  }
  const State current = state(flow);
  if (line.tuple.protocol == kProtocolUdp && current.is_alive() && current.is_replied() &&
      current.track().state != TcpState::established &&
      counters(2 * flow).packets >= kStreamPackets &&
      counters(2 * flow + 1).packets >= kStreamPackets) {
    change(flow, current, current.with({TcpState::established, 0}), now);
  }
  return is_reply || current.is_replied() ? FlowSeen::established : FlowSeen::fresh;
}

// TCP only. False: invalid.
bool FlowTable::track(FlowRef ref, uint8_t tcp_flags, uint32_t now) {
  const uint32_t flow = ref.flow();
  for (;;) {
    const State before = state(flow);
    const auto next = tcp_step(before.track(), ref.direction(), tcp_flags);
    if (!next.has_value()) {
      return false;
    }
    if (!before.is_alive() || *next == before.track() ||
        change(flow, before, before.with(*next), now)) {
      return true;
    }
  }
}

// To a state that follows from `from`; false if it is another by now.
bool FlowTable::change(uint32_t flow, State from, State to, uint32_t now) {
  if (!shared_[flow].state.compare_exchange_strong(from.byte, to.byte)) {
    return false;
  }
  look_again(flow, now + timeout_of(lines_[2 * size_t{flow}].tuple.protocol, to));
  settle(flow);
  return true;
}

void FlowTable::first_reply(uint32_t flow, uint32_t now) {
  Shared& shared = shared_[flow];
  Line& line = lines_[2 * size_t{flow} + 1];
  {
    const std::lock_guard lock(shares_.lock_of(shared.owner));
    State before = state(flow);
    if (!before.is_alive() || before.is_replied()) {
      return;
    }
    shares_.unlink(shared.owner, flow);
    line.bytes.store(0, kRelaxed);
    line.notes.fetch_or(kCounting, std::memory_order_release);
    shared.state.fetch_or(State::kReplied);
  }
  look_again(flow, now + timeout_of(line.tuple.protocol, state(flow)));
  settle(flow);
}

bool FlowTable::is_settled(uint32_t flow, State state) const {
  if (!state.is_alive() || !state.is_replied()) {
    return false;
  }
  const uint8_t protocol = lines_[2 * size_t{flow}].tuple.protocol;
  return (protocol != kProtocolTcp && protocol != kProtocolUdp) ||
         state.track().state == TcpState::established;
}

// Both lines say what the state says. Two workers may be at it: the last one to finish has seen the last state.
void FlowTable::settle(uint32_t flow) {
  for (;;) {
    const uint8_t before = shared_[flow].state.load();
    for (unsigned i = 0; i < 2; ++i) {
      auto& notes = lines_[2 * size_t{flow} + i].notes;
      if (is_settled(flow, {before})) {
        notes.fetch_or(kSettled);
      } else {
        notes.fetch_and(static_cast<uint8_t>(~kSettled));
      }
    }
    if (shared_[flow].state.load() == before) {
      return;
    }
  }
}

FlowVerdict FlowTable::verdict(FlowRef ref) const {
  const uint64_t word = lines_[ref.word].verdict.load(kRelaxed);
  return {static_cast<uint32_t>(word >> 32), static_cast<uint32_t>(word >> 14 & 0x3ffff) - 1,
          static_cast<uint32_t>(word & 0x3fff) - 1};
}

void FlowTable::set_verdict(FlowRef ref, const FlowVerdict& verdict) {
  lines_[ref.word].verdict.store(
      uint64_t{verdict.epoch} << 32 | uint64_t{verdict.exit + 1} << 14 | (verdict.rule + 1),
      kRelaxed);
}

uint32_t FlowTable::mark(uint32_t flow) const {
  return shared_[flow].mark.load(kRelaxed);
}

void FlowTable::set_mark(uint32_t flow, uint32_t mark) {
  shared_[flow].mark.store(mark, kRelaxed);
}

bool FlowTable::is_translated(uint32_t flow) const {
  const auto& rules = shared_[flow].nat_rules;
  return (rules[0] & rules[1] & rules[2]) != 0xff;
}

FlowCounters FlowTable::counters(uint32_t word) const {
  const Line& line = lines_[word];
  FlowCounters counters;
  for (uint8_t high = line.packets_high.load(kRelaxed);;) {
    counters.packets = uint64_t{high} << 32 | line.packets_low.load(std::memory_order_acquire);
    const uint8_t again = line.packets_high.load(kRelaxed);
    if (again == high) {
      break;
    }
    high = again;
  }
  const bool counts =
      word % 2 == 0 || (line.notes.load(std::memory_order_acquire) & kCounting) != 0;
  counters.bytes = counts ? line.bytes.load(kRelaxed) : 0;
  counters.last_seen = line.last_seen.load(kRelaxed);
  return counters;
}

FlowInfo FlowTable::info(uint32_t flow) const {
  const Shared& shared = shared_[flow];
  const State its = state(flow);
  FlowInfo info;
  info.flow = flow;
  for (uint32_t i = 0; i < 2; ++i) {
    info.tuples[i] = lines_[2 * size_t{flow} + i].tuple;
    info.counters[i] = counters(2 * flow + i);
  }
  const uint8_t protocol = info.tuples[0].protocol;
  info.tcp = protocol == kProtocolTcp ? its.track().state : TcpState::none;
  info.is_replied = its.is_replied();
  info.is_stream = protocol == kProtocolUdp && its.track().state == TcpState::established;
  info.timeout = timeout_of(protocol, its);
  info.owner = shared.owner;
  info.tunnel = shared.tunnel;
  info.peer_tag = shared.peer_tag;
  info.mark = shared.mark.load(kRelaxed);
  info.snat_rule = rule_of(shared.nat_rules, false);
  info.dnat_rule = rule_of(shared.nat_rules, true);
  info.verdict = verdict({2 * flow});
  return info;
}

// ---- expiry

uint32_t FlowTable::timeout_of(uint8_t protocol, State state) const {
  const FlowTimeouts& all = timeouts_;
  if (protocol == kProtocolTcp) {
    const uint32_t by_state[kTcpStates] = {
        all.tcp_close,       all.tcp_syn_sent, all.tcp_syn_sent,   all.tcp_syn_recv,
        all.tcp_established, all.tcp_fin_wait, all.tcp_close_wait, all.tcp_last_ack,
        all.tcp_time_wait,   all.tcp_close,    all.tcp_reset};
    const uint32_t timeout = by_state[static_cast<unsigned>(state.track().state)];
    return state.is_replied() ? timeout : std::min(timeout, all.tcp_unreplied);
  }
  if (protocol == kProtocolUdp) {
    return !state.is_replied()                            ? all.udp_unreplied
           : state.track().state == TcpState::established ? all.udp_stream
                                                          : all.udp_replied;
  }
  return protocol == kProtocolIcmp || protocol == kProtocolIcmpv6 ? all.icmp : all.other;
}

void FlowTable::look_again(uint32_t flow, uint32_t when) {
  looks_[flow].store(to_look(when + 1), kRelaxed);
}

// Of a flow whose look is due; one that is not over gets its next.
bool FlowTable::is_over(uint32_t flow, uint32_t now) {
  uint16_t look = looks_[flow].load(kRelaxed);
  const State its = state(flow);
  if (!its.is_alive()) {
    return false;
  }
  const Line* const lines = &lines_[2 * size_t{flow}];
  const uint64_t last =
      std::max(lines[0].last_seen.load(kRelaxed), lines[1].last_seen.load(kRelaxed));
  const uint64_t end = last + timeout_of(lines[0].tuple.protocol, its);
  if (now > end) {
    return true;
  }
  // Not if a change of state has set another meanwhile.
  const auto next = static_cast<uint32_t>(std::min(end + 1, uint64_t{now} + kLookAhead));
  looks_[flow].compare_exchange_strong(look, to_look(next), kRelaxed);
  return false;
}

size_t FlowTable::expire(Time time, size_t budget) {
  const uint32_t now = to_seconds(time);
  const uint32_t end = pool_.end();
  if (end == 0) {
    return 0;
  }
  if (now > swept_at_.load(kRelaxed) + kSweepGap) {
    look_at_all_.store(end, kRelaxed);
  }
  swept_at_.store(now, kRelaxed);
  const auto count = static_cast<uint32_t>(std::min<size_t>(budget, end));
  const uint32_t all = look_at_all_.load(kRelaxed);
  look_at_all_.store(all - std::min(all, count), kRelaxed);
  uint32_t flow = sweep_.fetch_add(count, kRelaxed) % end;
  size_t removed = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint16_t look = looks_[flow].load(kRelaxed);
    if (look != 0 && (i < all || is_due(look, now)) && is_over(flow, now)) {
      removed += remove(flow, Victim::any) ? 1 : 0;
    }
    flow = flow + 1 == end ? 0 : flow + 1;
  }
  return removed;
}

}  // namespace sallyport
