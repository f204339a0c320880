// FragmentTable: which ports a packet in fragments has, said by its first fragment and asked by the later ones: virtual
// reassembly (RFC 6146 3.4 calls for it; RFC 8200 4.5, RFC 5722, RFC 1858 say what must not pass).
//
// Keeps no payload, only which bytes have come. Fragments that overlap, in whatever order, end their packet: what still comes
// of it is refused until it is forgotten. A fragment that says nothing new is refused alone. A later fragment that comes
// before the first is refused as `early`: it is not held, the sender's retransmission has to bring it again; so a flood of
// later fragments takes no room here. A packet is forgotten 30 s (IPv4) or 60 s (IPv6) after its first fragment, or when
// newer ones need its place: complete ones go first, then the oldest of eight.
//
// Costs: 116 bytes a packet, all of them taken at start; a lock and eight comparisons a fragment. The locks are plain mutexes, one
// of sixteen: fragments are rare, and two workers seldom have the same.
// Assumes: fragments that read_fragment() finds no fault with; seconds of one monotonic clock.
// Cannot: tell a packet that never became complete from the next with the same id: that one is refused as an overlap, unless
// its first fragment is as long and has the same ports.
// Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "dataplane/base/endian.h"
#include "dataplane/net/address.h"
#include "dataplane/net/fragment.h"

namespace sallyport {

// Fragments with equal keys are of one packet.
struct FragmentKey {
  IpAddress source, destination;
  uint32_t id = 0;
  uint32_t zone = 0;     // keeps apart what passes twice under one id
  uint8_t protocol = 0;  // as Fragment has it

  bool operator==(const FragmentKey&) const = default;
};

FragmentKey fragment_key(const Run& run, const Fragment& fragment, uint32_t zone);

struct FragmentPorts {
  be16 source{0};
  be16 destination{0};
};

enum class FragmentState : uint8_t {
  first,      // remembered, with its ports
  known,      // the ports are those of its first fragment
  early,      // its first fragment has not come
  duplicate,  // these bytes have come already
  overlap,    // some of these bytes have come already, or it is of a packet of which that was true
  impossible,  // beyond the end that the last fragment gave, or another end; from then on as after an overlap
  scattered,  // of a packet with more holes than we keep count of
};

class FragmentTable {
 public:
  static constexpr uint32_t kSecondsV4 = 30, kSecondsV6 = 60;
  static constexpr size_t kRangesMax = 6;  // stretches of bytes that have come, of one packet

  // `packets` at once, rounded up; `seed` is a secret that keeps strangers from choosing who shares a set.
  FragmentTable(size_t packets, uint64_t seed);

  // Tells of a fragment. `ports` goes in with a first fragment, and comes out with a later one that is known.
  FragmentState add(const FragmentKey& key, const Fragment& fragment, FragmentPorts& ports,
                    uint32_t now_seconds);

  size_t memory_bytes() const;

 private:
  static constexpr size_t kWays = 8;
  static constexpr size_t kLocks = 16;

  struct Range {
    uint32_t begin, end;
  };
  struct Entry {
    FragmentKey key;
    FragmentPorts ports;
    uint32_t born = 0;
    uint32_t first_bytes = 0;  // that the first fragment had
    uint32_t total = 0;        // bytes in all, 0: not known
    uint8_t ranges = 0;        // 0: nothing is remembered here
    bool refused = false;
    Range come[kRangesMax]{};  // ascending, none touching the next

    bool is_complete() const;
    bool is_old(uint32_t now) const;
    FragmentState extend(const Fragment& fragment);
    FragmentState take(uint32_t begin, uint32_t end);
  };
  struct alignas(64) Lock {
    std::mutex mutex;
  };

  uint64_t hash(const FragmentKey& key) const;
  static FragmentState begin(Entry* set, Entry* entry, const FragmentKey& key,
                             const Fragment& fragment, FragmentPorts ports, uint32_t now);

  uint64_t seed_;
  size_t mask_;  // sets - 1
  std::unique_ptr<Entry[]> entries_;
  std::unique_ptr<Lock[]> locks_;
};

}  // namespace sallyport
