// AffinityTable: which member of an exit group a flow uses, remembered, so that a flow stays where it is while that works.
//
// A fixed array of 64-bit words, eight ways a set, one word a flow: a tag of its hash, the member, and when it was last
// seen, in seconds. Readers and writers are all workers; each touches a word with one relaxed load or store, so two that meet may
// lose one entry, never mix two. What falls out is chosen anew: a flow that was quiet longest gives way.
//
// Costs: one cache line a lookup; 8 bytes a flow, all of it taken at start; a flow that was remembered this very second costs no
// store. Assumes: hashes whose bits are all alike good. Cannot: tell two flows with equal 64-bit hashes apart (their tags agree
// once in 2^34 pairs that share a set); hold more than it was made for; count more than 48 days of quiet (2^22 seconds): a flow
// that comes back after just about that long may find its member again.
// Threads: find and remember from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

namespace sallyport {

class AffinityTable {
 public:
  static constexpr uint32_t kMembersMax = 255;  // numbered 0 to 254

  explicit AffinityTable(size_t flows);  // rounded up to a power of two, eight at least

  // The member this flow used, when it was seen less than `idle_max` seconds ago.
  std::optional<uint8_t> find(uint64_t flow_hash, uint32_t now_seconds, uint32_t idle_max) const;
  void remember(uint64_t flow_hash, uint8_t member, uint32_t now_seconds);

  size_t memory_bytes() const;

 private:
  static constexpr size_t kWays = 8;  // one cache line
  struct alignas(64) Set {
    std::atomic<uint64_t> words[kWays]{};
  };
  Set& set_of(uint64_t flow_hash) const { return sets_[flow_hash & mask_]; }

  std::unique_ptr<Set[]> sets_;
  size_t mask_;
};

}  // namespace sallyport
