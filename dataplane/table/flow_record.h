// FlowRecord: a flow in memory: a cache line for each direction, and sixteen bytes both share. The table's own; others see FlowTable.
//
// A line holds what packets of its direction look at and change. Its words are relaxed atomics; the tuple is plain, written
// before the flow can be found and not again before nobody can be reading it.
#pragma once

#include <atomic>
#include <cstdint>

#include "dataplane/table/flow_tuple.h"
#include "dataplane/table/tcp_state.h"

namespace sallyport::flow {

struct alignas(64) Line {
  std::atomic<uint64_t> verdict;
  std::atomic<uint64_t>
      bytes;  // in the reply line of a flow without a reply: its neighbours in its owner's list
  std::atomic<uint32_t> packets_low;
  std::atomic<uint32_t> last_seen;  // seconds
  std::atomic<uint8_t> packets_high;
  std::atomic<uint8_t> notes;
  FlowTuple tuple;
};
static_assert(sizeof(Line) == 64);

// Notes of a line: what spares a packet a look at the shared words.
inline constexpr uint8_t kSettled = 1;   // packets that open and close nothing change no state
inline constexpr uint8_t kCounting = 2;  // of the reply line: `bytes` counts
inline constexpr uint8_t kMapped = 4;    // of the original line: it holds a share of a mapping

struct Shared {
  uint32_t peer_tag;
  std::atomic<uint32_t> mark;
  uint16_t tunnel;
  uint16_t owner;
  std::atomic<uint8_t> state;
  uint8_t nat_rules[3];  // two of 12 bits
};
static_assert(sizeof(Shared) == 16);

// The state byte. 0: no flow.
struct State {
  static constexpr uint8_t kReplied = 0x40;
  static constexpr uint8_t kAlive = 0x80;

  uint8_t byte = 0;

  bool is_alive() const { return (byte & kAlive) != 0; }
  bool is_replied() const { return (byte & kReplied) != 0; }
  // Of TCP the state and the FINs; of UDP `established` stands for a stream.
  TcpTrack track() const {
    return {static_cast<TcpState>(byte & 0x0f), static_cast<uint8_t>(byte >> 4 & 3)};
  }
  State with(TcpTrack track) const {
    return {static_cast<uint8_t>((byte & (kAlive | kReplied)) | track.fins << 4 |
                                 static_cast<uint8_t>(track.state))};
  }
  bool operator==(const State&) const = default;
};

}  // namespace sallyport::flow
