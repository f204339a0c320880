// FlowTable: every flow that passes, of both families, shared by all workers: found by the tuple of a packet of either direction.
//
// A flow has two tuples: the original one, as its first packet came in, and that of a reply, as an answer will come in, after
// translation. All tuples of all flows are different from each other at all times, whoever inserts at once: that is how NAT learns
// whether a port is in use. What packets of a direction look at and change (tuple, counters, last seen, a cached verdict)
// is one cache line of that direction; what both share (TCP state, whence it came, mark, nat rules) lies apart.
//
//     FlowRef ref = table.find(tuple);                             every packet; or find_many, for a burst
//     if (!ref) ref = table.insert({original, reply, ...}).ref;    the first one
//     FlowSeen seen = table.note(ref, {packets, bytes, flags}, now);  counts and tracks: fresh, established or invalid
//
// Threads: every call from any thread that is an RCU reader and online (dataplane/base/rcu.h); a FlowRef is good until that
// thread's next quiescent state, even if the flow is removed meanwhile: its record is used again only after a grace
// period, and until then it answers as it was. Readers take no lock and do no read-modify-write. insert and remove lock the
// segments of the index that their two tuples hash to, and the list of the flow's owner; so does the first reply of a flow, once.
//
// Endpoint-independent translations are in a table beside (mapping_table.h): a flow that is_mapped holds a share of its mapping, which
// is given back when the flow is removed, by whomever.
//
// Counters are loaded and stored, not added atomically: two workers that meet on one direction of one flow may lose what one of them
// adds, nothing else. Packets count to 2^40, bytes to 2^64, both modulo. Times are whole seconds: a flow lives for its
// timeout after its last packet, and up to a second more, and four more until a look at it is due, and until a sweep
// comes by. RFC 4787 and 5382 set the defaults.
//
// Bounds: capacity, given at construction. Memory is reserved then, at most 160 bytes a flow all included (at a million of
// them) but for mappings(), and untouched pages are not taken. Who may have how much under pressure, and who gives way: flow_shares.h. A tuple that is its own reply
// (a host's word with itself by one port) cannot be a flow.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dataplane/base/clock.h"
#include "dataplane/base/mapped_array.h"
#include "dataplane/base/rcu.h"
#include "dataplane/table/flow_hash.h"
#include "dataplane/table/flow_index.h"
#include "dataplane/table/flow_pool.h"
#include "dataplane/table/flow_record.h"
#include "dataplane/table/flow_shares.h"
#include "dataplane/table/flow_tuple.h"
#include "dataplane/table/mapping_table.h"
#include "dataplane/table/tcp_state.h"

namespace sallyport {

// Seconds since the last packet of either direction.
struct FlowTimeouts {
  // RFC 5382 REQ-5: established two hours and four minutes at least, others four minutes. `close` is over, or never began.
  uint32_t tcp_syn_sent = 240;
  uint32_t tcp_syn_recv = 240;
  uint32_t tcp_established = 7440;
  uint32_t tcp_fin_wait = 240;
  uint32_t tcp_close_wait = 240;
  uint32_t tcp_last_ack = 240;
  uint32_t tcp_time_wait = 240;
  uint32_t tcp_close = 10;
  uint32_t tcp_reset = 240;
  uint32_t tcp_unreplied =
      240;  // at most, whatever its state: one that was picked up and is not answered
  // RFC 4787 REQ-5: two minutes at least, five recommended. A stream has had three packets each way.
  uint32_t udp_unreplied = 120;
  uint32_t udp_replied = 120;
  uint32_t udp_stream = 300;
  uint32_t icmp = 60;  // RFC 5508 REQ-2
  uint32_t other = 600;

  bool operator==(const FlowTimeouts&) const = default;
};

inline constexpr uint16_t kNatRulesMax = 4095;  // numbered 0 to 4094
inline constexpr uint16_t kNoNatRule = 4095;

// A flow's number and which of its directions the tuple was.
struct FlowRef {
  static constexpr uint32_t kNone = UINT32_MAX;

  uint32_t word = kNone;  // 2 * flow + direction

  explicit operator bool() const { return word != kNone; }
  uint32_t flow() const { return word / 2; }
  FlowDirection direction() const { return static_cast<FlowDirection>(word & 1); }
  bool operator==(const FlowRef&) const = default;
};

struct NewFlow {
  FlowTuple original;
  FlowTuple reply;
  uint16_t owner = 0;     // whose share it counts against
  uint16_t tunnel = 0;    // whence it came, as is
  uint32_t peer_tag = 0;  // the peer of it; 0: the host
  uint32_t mark = 0;
  uint16_t snat_rule = kNoNatRule;
  uint16_t dnat_rule = kNoNatRule;
  uint8_t tcp_flags = 0;  // of its first packet
  bool is_mapped =
      false;  // it holds a share in mappings(), of its original source and its outer address
};

enum class FlowInsert : uint8_t {
  done,
  original_taken,
  reply_taken,
  invalid,  // its first packet opens no TCP connection
  full,
  owner_over_share,
  source_over_share,
};

struct Inserted {
  FlowInsert result;
  FlowRef ref;  // of the original direction, when done
};

struct FlowPackets {
  uint32_t packets = 1;
  uint32_t bytes = 0;
  uint8_t tcp_flags = 0;  // all that were seen, when they are several
};

enum class FlowSeen : uint8_t { fresh, established, invalid };  // fresh: no reply was seen yet

// A verdict and the snapshot it was found in: a direction's, no longer of use when the epoch is another. Exits and
// rules are numbers below these bounds.
struct FlowVerdict {
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kExitsMax = 1u << 17;
  static constexpr uint32_t kRulesMax = 1u << 13;

  uint32_t epoch = 0;  // 0: none was stored
  uint32_t exit = kNone;
  uint32_t rule = kNone;
  bool operator==(const FlowVerdict&) const = default;
};

struct FlowCounters {
  uint64_t packets = 0;
  uint64_t bytes = 0;
  uint32_t last_seen = 0;  // seconds of Time
};

// What `show flows` shows.
struct FlowInfo {
  uint32_t flow = 0;
  FlowTuple tuples[2];  // by direction
  FlowCounters counters[2];
  TcpState tcp = TcpState::none;
  bool is_replied = false;
  bool is_stream = false;  // of UDP
  uint32_t timeout = 0;    // seconds
  uint16_t owner = 0;
  uint16_t tunnel = 0;
  uint32_t peer_tag = 0;
  uint32_t mark = 0;
  uint16_t snat_rule = kNoNatRule;
  uint16_t dnat_rule = kNoNatRule;
  FlowVerdict verdict;  // of the original direction
};

class FlowTable {
 public:
  static constexpr size_t kCapacityMax = size_t{1} << 27;

  struct Config {
    size_t capacity = 0;  // 1 to kCapacityMax
    unsigned owners = 1024;
    bool pick_up = true;  // TCP connections that are under way already
    FlowTimeouts timeouts = {};

    bool operator==(const Config&) const = default;
  };

  explicit FlowTable(const Config& config);
  FlowTable(const FlowTable&) = delete;  // destroyed when no reader is left
  FlowTable& operator=(const FlowTable&) = delete;

  FlowRef find(const FlowTuple& tuple) const;
  // The same for n tuples, with their cache misses overlapped.
  void find_many(const FlowTuple* tuples, FlowRef* refs, size_t n) const;
  // A good hash of this table for other uses of a tuple.
  uint64_t hash(const FlowTuple& tuple) const { return hash_(tuple); }

  Inserted insert(const NewFlow& fresh, Time now);
  bool remove(uint32_t flow) { return remove(flow, Victim::any); }  // false: it is gone already

  // Packets of a flow are here. Invalid ones are neither counted nor keep it alive.
  FlowSeen note(FlowRef ref, const FlowPackets& seen, Time now);

  // Looks at `budget` records, going on where the last call ended, whoever called; returns how many flows were removed.
  size_t expire(Time now, size_t budget);

  const FlowTuple& tuple(FlowRef ref) const { return lines_[ref.word].tuple; }
  const FlowTuple& opposite_tuple(FlowRef ref) const { return lines_[ref.word ^ 1].tuple; }
  FlowVerdict verdict(FlowRef ref) const;
  void set_verdict(FlowRef ref, const FlowVerdict& verdict);
  uint32_t mark(uint32_t flow) const;
  void set_mark(uint32_t flow, uint32_t mark);
  uint32_t peer_tag(uint32_t flow) const { return shared_[flow].peer_tag; }
  uint16_t tunnel(uint32_t flow) const { return shared_[flow].tunnel; }
  bool is_translated(uint32_t flow) const;  // by any nat rule
  FlowInfo info(uint32_t flow) const;

  // Calls fn(const FlowInfo&) for each flow there is all the time, and perhaps for others; fn may remove it. Passes through a
  // quiescent state now and then, so the caller holds nothing that RCU protects.
  template <class Fn>
  void for_each(Fn fn) {
    for (uint32_t flow = 0; flow < pool_.end(); ++flow) {
      if (flow % kFlowsAQuiescence == kFlowsAQuiescence - 1) {
        rcu_quiescent();
      }
      if (state(flow).is_alive()) {
        fn(info(flow));
      }
    }
  }

  size_t size() const { return shares_.size(); }
  size_t flows_of(uint16_t owner) const { return shares_.flows_of(owner); }
  size_t capacity() const { return capacity_; }
  size_t memory_bytes() const;  // reserved
  const FlowTimeouts& timeouts() const { return timeouts_; }
  MappingTable& mappings() { return mappings_; }

 private:
  static constexpr uint32_t kFlowsAQuiescence = 1024;
  static constexpr size_t kChunk = 32;  // of find_many
  enum class Victim { any, unreplied };

  flow::State state(uint32_t flow) const {
    return {shared_[flow].state.load(std::memory_order_acquire)};
  }
  bool is(uint32_t word, const FlowTuple& tuple) const { return lines_[word].tuple == tuple; }
  FlowRef find_hashed(uint64_t hash, const FlowTuple& tuple) const;

  FlowInsert make_room(flow::Shares::Admission admission, uint16_t owner);
  bool evict_oldest(uint32_t owner);
  void write(uint32_t flow, const NewFlow& fresh, uint32_t now);
  FlowInsert publish(uint32_t flow, const NewFlow& fresh, flow::State first, uint32_t now);
  void begin(uint32_t flow, flow::State first);
  bool end(uint32_t flow, Victim victim);
  bool remove(uint32_t flow, Victim victim);

  bool track(FlowRef ref, uint8_t tcp_flags, uint32_t now);
  bool change(uint32_t flow, flow::State from, flow::State to, uint32_t now);
  void first_reply(uint32_t flow, uint32_t now);
  void settle(uint32_t flow);
  bool is_settled(uint32_t flow, flow::State state) const;
  static void count(flow::Line& line, const FlowPackets& seen, uint32_t now);
  FlowCounters counters(uint32_t word) const;

  uint32_t timeout_of(uint8_t protocol, flow::State state) const;
  bool is_over(uint32_t flow, uint32_t now);
  void look_again(uint32_t flow, uint32_t when);

  const size_t capacity_;
  const bool pick_up_;
  const FlowTimeouts timeouts_;
  const FlowHash hash_;
  MappedArray<flow::Line> lines_;
  MappedArray<flow::Shared> shared_;
  MappedArray<std::atomic<uint16_t>>
      looks_;  // when to look whether a flow is over; 0: never was one
  FlowIndex index_;
  FlowPool pool_;
  flow::Shares shares_;
  MappingTable mappings_;
  alignas(64) std::atomic<uint32_t> sweep_ = 0;  // next record to look at
  std::atomic<uint32_t> swept_at_ = 0;           // seconds
  std::atomic<uint32_t> look_at_all_ = 0;        // records to look at whatever looks_ says
};

}  // namespace sallyport
