// MappingTable: which outer end an inner one has, whomever it talks to (RFC 4787, REQ-1: endpoint-independent mapping).
//
// An inner end is an address, a port (or ICMP id), a protocol and the zone it sends from; an outer one an address, a port and a
// protocol. While any flow holds it, a mapping stays, and within this table no two inner ends have one outer end. One inner end may have
// several outer addresses, by several ways out, and has one port of each.
//
// A flow holds one share of its mapping: join() or claim() takes it, and whoever removes the flow leaves().
//
// One owner (a number the caller gives: a peer, the host) can be kept from having them all. Owners beyond the number the table was
// made for share accounts, modulo.
//
// Bounds: as many mappings as it was made for, 67 bytes each, reserved at once, taken as they are used.
// Cannot: know of translations that are none of its own; FlowTable keeps their tuples apart.
// Threads: any, at once. A lock for all of it, held for some lookups; only flows of such rules come here, when they begin and end.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "dataplane/base/mapped_array.h"
#include "dataplane/base/spin_lock.h"
#include "dataplane/table/flow_hash.h"
#include "dataplane/table/flow_index.h"
#include "dataplane/table/flow_tuple.h"

namespace sallyport {

// An inner end and the address it has outside.
struct MappedEnd {
  FlowTuple key;  // source: the inner end; destination: the outer address; no destination port

  // Of a flow's original tuple, and of the packet that leaves.
  static MappedEnd make(const FlowTuple& original, const uint8_t* outer_address);
};

class MappingTable {
 public:
  MappingTable(size_t mappings, unsigned owners);

  enum class Claimed : uint8_t {
    done,    // the port is this inner end's now
    joined,  // it has another one: that is the port to use
    taken,   // the port is another inner end's
    full,
    over_share,  // its owner has as many as it may
  };
  struct Claim {
    Claimed result;
    be16 port{0};
  };
  // What is kept with a mapping: by which rule it was made, towards which peer (0: the host), and whose it is.
  struct Origin {
    uint16_t rule = 0;
    uint16_t owner = 0;
    uint32_t towards = 0;
  };
  struct Inner {
    uint8_t address[16];
    be16 port{0};
    Origin origin;
  };

  // The port that this end has already; the caller holds one share more.
  std::optional<be16> join(const MappedEnd& end);
  // The caller holds a share after `done` and `joined`. An owner with `most` mappings gets no further one.
  Claim claim(const MappedEnd& end, be16 outer_port, const Origin& origin, size_t most);
  void leave(const MappedEnd& end);  // one share less

  // Who has this outer end, of that protocol and family.
  std::optional<Inner> find_outer(const FlowTuple& packet) const;  // by its destination

  size_t size() const { return size_.load(std::memory_order_relaxed); }
  size_t memory_bytes() const;  // reserved

 private:
  struct Entry {
    FlowTuple end;
    be16 port{0};
    Origin origin;
    uint32_t shares;
    uint32_t next_free;  // number + 1
  };

  uint32_t& owned_by(const Origin& origin) const { return owned_[origin.owner % owned_.size()]; }
  static FlowTuple outer_of(const FlowTuple& end, be16 port);
  uint32_t find_inner(const FlowTuple& end, uint64_t hash) const;
  uint32_t find_outer(const FlowTuple& outer, uint64_t hash) const;

  const FlowHash hash_;
  const uint32_t capacity_;
  MappedArray<Entry> entries_;
  FlowIndex inner_, outer_;
  MappedArray<uint32_t> owned_;  // mappings, by owner
  mutable SpinLock lock_;
  uint32_t free_ = 0;   // number + 1
  uint32_t fresh_ = 0;  // numbers from here on were never used
  std::atomic<size_t> size_{0};
};

}  // namespace sallyport
