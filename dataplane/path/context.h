// Context: what a stage may touch while it works on a burst. One a thread; stages are free functions over it.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "crypto/aead.h"
#include "dataplane/base/clock.h"
#include "dataplane/base/mailbox.h"
#include "dataplane/base/pool.h"
#include "dataplane/base/token_bucket.h"
#include "dataplane/net/run.h"
#include "dataplane/path/assist.h"
#include "dataplane/path/drop.h"
#include "dataplane/path/snapshot.h"
#include "dataplane/path/trace.h"
#include "dataplane/path/tunnel.h"
#include "dataplane/table/flow_table.h"

namespace sallyport {

// One thread's counts: that thread adds, anyone reads.
struct PathCounters {
  std::atomic<uint64_t> rx_packets{0}, tx_packets{0};  // opened, sealed
  std::atomic<uint64_t> rx_runs{0}, tx_runs{0};
  std::atomic<uint64_t> handed_over{0};
  std::atomic<uint64_t> assisted{0};
  DropCounts drops;
};

inline void count(std::atomic<uint64_t>& counter, uint64_t n) {
  counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

// One datagram on its way through `open`.
struct SealedDatagram {
  uint8_t* data;  // MessageData header, ciphertext, tag
  uint32_t length;
  wireguard::Keypair* keypair;
  const RxFrame* frame;
};

// Datagrams of one peer, back to back in a buffer: one frame for the outer port.
struct Train {
  Buffer* buffer;  // null when it shares the buffer of the train before it
  uint8_t* data;
  uint8_t* room_end;  // of the buffer it lies in
  uint32_t length;
  uint32_t stride;
  uint32_t datagrams;
  uint32_t with_data;  // of them, those that are no keepalives
  bool closed;         // its last datagram was shorter than the stride
  uint8_t tos;
  wireguard::Peer* peer;
  Endpoint to;
};

struct Context {
  static constexpr size_t kDatagramsMax = Burst::kRunsMax;
  static constexpr size_t kSealItemsMax = 512;
  static constexpr size_t kTrainsMax = 64;
  static constexpr size_t kHeldMax = Burst::kRunsMax;

  Context(unsigned worker_number, BufferPool& pool)
      : worker(worker_number),
        own_(std::make_unique<Own>(pool)),
        buffers(own_->buffers),
        counters(own_->counters) {}
  // The layer below: of the same thread, with the same buffers and counts.
  explicit Context(Context& above)
      : worker(above.worker),
        buffers(above.buffers),
        counters(above.counters),
        workers(above.workers),
        assist(above.assist) {
    above.deeper = this;
  }

  // Who.
  struct Own {
    explicit Own(BufferPool& pool) : buffers(pool) {}
    BufferCache buffers;
    PathCounters counters;
  };
  const unsigned worker;
  std::unique_ptr<Own> own_;  // null: the layer above has them
  BufferCache& buffers;
  PathCounters& counters;
  std::vector<Mailbox*> workers;  // where datagrams of other owners go
  Assist* assist = nullptr;       // others who may help to open; null: nobody
  Context* deeper = nullptr;      // for what is within, or goes through, another tunnel

  TokenBucket icmp_budget{1000, 50};  // the kernel's icmp_msgs_per_sec and icmp_msgs_burst

  // This burst.
  Time now = 0;
  const Snapshot* snapshot = nullptr;
  TunnelNumber number =
      0;  // of the tunnel it came in by, on either side, and what is known of that one:
  Tunnel* tunnel = nullptr;
  Port* plain = nullptr;
  Burst burst;
  Buffer* held[kHeldMax];  // buffers to give back when the burst is done
  size_t held_count = 0;

  // Packets of this burst that are followed, and whether it is all a rehearsal: decided, and told in a trace, but not
  // counted, remembered, answered or sent (`explain`).
  static constexpr size_t kTracesMax = 8;
  Trace traces[kTracesMax];
  struct Followed {
    const Run* run;
    uint32_t head_bytes;
    uint8_t head[128];  // as it came in
  };
  Followed followed[kTracesMax];  // by the tap, with the traces of the same numbers
  size_t followed_count = 0;
  bool dry = false;

  // Scratch of track: what the table was asked, of which run, and what it said.
  FlowTuple tuples[Burst::kRunsMax];
  uint16_t asked[Burst::kRunsMax];
  FlowRef flows[Burst::kRunsMax];

  // Scratch of open and seal.
  SealedDatagram datagrams[kDatagramsMax];
  size_t datagram_count = 0;
  crypto::OpenItem open_items[kDatagramsMax];
  crypto::SealItem seal_items[kSealItemsMax];
  size_t seal_count = 0;
  Train trains[kTrainsMax];
  size_t train_count = 0;

  // What follows comes in by this tunnel. False: there is none of this number any more.
  bool enter(TunnelNumber tunnel_number) {
    if (tunnel_number >= snapshot->tunnels.size() ||
        snapshot->tunnels[tunnel_number].tunnel == nullptr) {
      return false;
    }
    number = tunnel_number;
    tunnel = here().tunnel;
    plain = here().plain_port(worker);
    return true;
  }
  const TunnelView& here() const { return snapshot->tunnels[number]; }
  // Of the tunnel that a peer belongs to: not gone, since a peer goes before its tunnel does.
  const TunnelView& view_of(const wireguard::Peer& peer) const {
    return snapshot->tunnels[peer.tunnel];
  }

  void discard(DropReason reason, wireguard::Peer* peer = nullptr, uint32_t packets = 1) {
    drop(counters.drops, reason, peer, packets);
  }
  Trace* trace_of(const Run& run) { return run.trace == 0 ? nullptr : &traces[run.trace - 1]; }
  // The run ends here, under this name. Counted against the peer it came from, or else the one it would have gone to.
  void discard(Run& run, DropReason reason) {
    run.discarded = true;
    if (Trace* trace = trace_of(run); trace != nullptr) {
      trace->add(TraceStep::What::drop, 0, static_cast<uint32_t>(reason));
    }
    if (!dry) {
      discard(reason, run.from != nullptr ? run.from : run.to, run.segments);
    }
  }
  // A buffer that lives as long as this burst; null when the pool is dry or the burst holds too many.
  Buffer* hold_buffer() {
    Buffer* buffer = held_count == kHeldMax ? nullptr : buffers.take();
    if (buffer != nullptr) {
      held[held_count++] = buffer;
    }
    return buffer;
  }
  void end_burst() {
    while (held_count > 0) {
      buffers.give(held[--held_count]);
    }
    burst.clear();
  }
  // Raises a PeerRequest; the handshaker is told once, however often workers ask.
  void request(wireguard::Peer& peer, uint32_t bit) {
    if (peer.requests.load(std::memory_order_relaxed) & bit) {
      return;
    }
    const Tunnel& its = *view_of(peer).tunnel;
    if (peer.requests.fetch_or(bit, std::memory_order_acq_rel) == 0 &&
        !its.handshaker->post({Message::Kind::request, peer.tunnel, peer.slot, nullptr})) {
      its.requests_overflowed->store(true, std::memory_order_release);
    }
  }
};

}  // namespace sallyport
