// PrefixSet: a named set of prefixes, v4 and v6, from one to a million, with holes.
//
// What a rule's `from` or `to` may name. An entry is a prefix that is in, or a `!prefix` that is out; the longest entry
// that covers an address decides, so a hole may hold islands. Two tries (lpm.h) whose value says which it is and how
// long the entry was, so that `explain` can name it.
//
// A set is replaced whole: the new content is built aside on any thread and published by one pointer store, so a reader
// sees the old set or the new one, never a mixture; the old one goes after a grace period.
//
// Costs: two or three cache misses a lookup in a large set, 15 to 35 bytes a prefix (lpm.h has the figures). Building takes
// some 0.2 us a prefix, and while it lasts up to 50 bytes a prefix more.
// Cannot: be changed in part. Its owner keeps the source (a list file, a config) and builds anew.
// Assumes: lengths no longer than the family's (32, 128); a longer one aborts, whoever reads a list has checked it.
// Threads: contains(), match(), size() and memory_bytes() from any RCU reader (base/rcu.h), wait-free, and from the thread that
// replaces; replace() from one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "dataplane/table/lpm.h"

namespace sallyport {

// One entry of a set, in network byte order; a v4 address uses the first four bytes. Bits beyond the length are ignored.
struct SetEntry {
  uint8_t address[16]{};
  uint8_t length = 0;
  bool v4 = true;
  bool hole = false;
};

struct SetMatch {
  bool member = false;   // the answer
  bool covered = false;  // an entry covers the address (a hole, when not a member)
  uint8_t length = 0;    // of that entry
};

class PrefixSet {
 public:
  // The content of a set: built aside, then published. Immutable.
  class Content {
   public:
    // Entries in any order (sorted ones are faster); of two equal prefixes the last counts. Null if `progress` cancelled
    // (lpm.h); it is told entries done and in all.
    static std::unique_ptr<Content> build(std::span<const SetEntry> entries,
                                          Lpm4::Progress progress = nullptr,
                                          void* context = nullptr);
    SetMatch match_v4(const uint8_t* address) const;
    SetMatch match_v6(const uint8_t* address) const;
    size_t size() const;  // distinct prefixes, holes included
    size_t memory_bytes() const;

   private:
    std::unique_ptr<Lpm4> v4_;  // null: no entry of this family
    std::unique_ptr<Lpm6> v6_;
  };

  PrefixSet();   // empty
  ~PrefixSet();  // after a grace period since a reader could last reach the set
  PrefixSet(const PrefixSet&) = delete;
  PrefixSet& operator=(const PrefixSet&) = delete;

  void replace(std::unique_ptr<Content> content);  // not null

  SetMatch match(bool v4, const uint8_t* address) const {
    const Content* content = content_.load(std::memory_order_acquire);
    return v4 ? content->match_v4(address) : content->match_v6(address);
  }
  bool contains(bool v4, const uint8_t* address) const { return match(v4, address).member; }
  size_t size() const;
  size_t memory_bytes() const;

 private:
  std::atomic<const Content*> content_;  // never null
};

}  // namespace sallyport
