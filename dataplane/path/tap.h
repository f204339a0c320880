// Tap: live packets picked by a filter, each followed through the stages, and what was decided about it handed to control.
//
// `sallyport trace` publishes one with the snapshot and takes it away again. Without a tap a burst pays one test. With one,
// each run is compared with the filter, and those picked (at most Context::kTracesMax a burst) get a Trace. At the end of the
// line a copy of trace and headers is put down for control; a worker never waits to do so: when control is looking at that
// very moment, or nobody has fetched for a while, the packet is counted as missed.
//
// Threads: pick() and deliver() by workers, take() by control.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "dataplane/path/context.h"

namespace sallyport {

// What is asked of a packet; what is not set is not asked.
struct TraceFilter {
  std::optional<IpPrefix> from, to;
  std::optional<uint8_t> protocol;
  std::optional<uint16_t> sport, dport;
  std::optional<uint32_t> iif;   // path/classify.h
  std::optional<uint32_t> peer;  // tag of the ingress peer
  bool drops_only = false;
};

struct TracedPacket {
  Trace trace;
  uint8_t head[128];    // its first bytes, as they were when it came in
  uint32_t head_bytes;  // of them
  uint32_t bytes, segments;
  TunnelNumber tunnel;  // it came in by
  bool from_host;
  uint32_t from_tag;  // 0: the host, or a peer without a tag
  bool discarded;
  Time time;
};

class Tap {
 public:
  static constexpr size_t kQueueMax = 256;

  explicit Tap(const TraceFilter& filter) : filter_(filter) {}

  std::optional<TracedPacket> take();
  uint64_t missed() const { return missed_.load(std::memory_order_relaxed); }

  bool matches(const Context& context, const Run& run) const;
  bool drops_only() const { return filter_.drops_only; }
  void put(const TracedPacket& packet);
  void miss() { missed_.fetch_add(1, std::memory_order_relaxed); }

 private:
  const TraceFilter filter_;
  std::atomic<uint64_t> missed_{0};
  std::mutex mutex_;  // workers only try it
  std::deque<TracedPacket> queue_;
};

// Before the first decision: gives a trace to each run of the burst that the snapshot's tap wants.
void pick(Context& context);
// At the end of the line: hands the traces over.
void deliver(Context& context);

}  // namespace sallyport
