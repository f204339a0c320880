// FlowShares: who may have how many flows when they become scarce, and whose go first.
//
// An owner is a number the caller gives (a peer, the host); a source is an address of an owner, or its /64 of IPv6, where an
// address costs nothing. Nobody is limited while the table has room. Above fifteen sixteenths it is under pressure: an owner's fair share
// is then capacity / (owners with flows + 1), so that there is always one share for the next to come; one with more than that
// gets a new flow only in the place of its own oldest flow without a reply, and within it, a source with more than one and
// a half times the owner's flows / sources gets none. In a table that is full, an owner within its share takes the place of the oldest
// flow without a reply of the owner that has most beyond its own. A flow that had a reply never gives way.
//
// So one owner alone may hold fifteen sixteenths, and the rest is for others. All of it is counters and a list an owner of its
// flows without reply, oldest first, linked through their records: every question is O(1), but the search for who has
// most, which is a guess kept at each insert and else looks at kLooks owners.
//
// Approximations: an owner's sources are counted in hashed buckets of its own, 16 or more (64 for 1,024 owners of a million flows). Two in
// one bucket, for B buckets a chance of 1 / B each, are taken for one source and may be refused early, where a whole bucket
// is over its share. Owners beyond the number the table was made for share accounts, modulo. "Most beyond" may be a
// second-most. Counts race by as many as there are workers.
#pragma once

#include <atomic>
#include <cstdint>

#include "dataplane/base/mapped_array.h"
#include "dataplane/base/spin_lock.h"
#include "dataplane/table/flow_record.h"

namespace sallyport::flow {

class Shares {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  enum class Admission : uint8_t {
    granted,
    in_place_of_own,    // granted, once the owner's oldest() is removed
    in_place_of_other,  // granted, once the oldest() of most_beyond() is removed
    source_over_share,
  };

  Shares(size_t capacity, unsigned owners, const MappedArray<Line>& lines);

  // Whether enter() and what follows from it would be for nothing: asked first, so that who is refused all the time only reads
  // what others use. `is_short`: an owner gets no new flow in the place of its own just now.
  bool is_refused(uint16_t owner, bool is_short) const;
  // Counts one more flow, whatever the answer; leave() takes it back. `source` is a hash of owner and source.
  Admission enter(uint16_t owner, uint64_t source);
  void leave(uint16_t owner, uint64_t source);

  // An owner with more than its share and flows without reply; kNone if there seems to be none.
  uint32_t most_beyond();
  uint32_t oldest(uint32_t owner);  // flow without reply; kNone if there is none

  size_t size() const { return flows_.load(std::memory_order_relaxed); }
  uint32_t flows_of(uint16_t owner) const {
    return account(owner).flows.load(std::memory_order_relaxed);
  }

  // An owner's list, under its lock.
  SpinLock& lock_of(uint16_t owner) const { return account(owner).lock; }
  void link(uint16_t owner, uint32_t flow);
  void unlink(uint16_t owner, uint32_t flow);

  size_t bytes() const { return accounts_.bytes() + sources_.bytes(); }

 private:
  static constexpr unsigned kLooks = 64;

  struct alignas(64) Account {
    SpinLock lock;
    std::atomic<uint32_t> flows;
    std::atomic<uint32_t> sources;     // buckets it has flows in
    std::atomic<uint32_t> unanswered;  // changed under the lock, as are both ends of the list:
    uint32_t oldest, newest;           // flow + 1; 0 is none
  };
  struct Neighbours {
    uint32_t older = 0, newer = 0;  // flow + 1
  };

  Account& account(uint32_t owner) const { return accounts_[owner % accounts_.size()]; }
  std::atomic<uint32_t>& bucket(uint32_t owner, uint64_t source) const {
    return sources_[owner % accounts_.size() * buckets_ + source % buckets_];
  }
  uint32_t fair_share() const;
  void set_pressure(bool is_under);
  bool is_beyond(const Account& account) const;
  Neighbours neighbours(uint32_t flow) const;
  void set_neighbours(uint32_t flow, Neighbours neighbours);

  const size_t capacity_;
  const size_t pressure_;
  const size_t buckets_;  // an owner
  const MappedArray<Line>& lines_;
  MappedArray<Account> accounts_;
  MappedArray<std::atomic<uint32_t>> sources_;
  alignas(64) std::atomic<size_t> flows_ = 0;     // changes all the time; the others do not
  alignas(64) std::atomic<uint32_t> active_ = 0;  // owners with flows
  std::atomic<bool> under_pressure_ = false;
  std::atomic<uint32_t> owners_end_ = 0;
  std::atomic<uint32_t> largest_ = 0;  // the guess
  std::atomic<uint32_t> cursor_ = 0;
};

}  // namespace sallyport::flow
