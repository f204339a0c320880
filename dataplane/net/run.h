// Run: packets that are treated as one. A Burst is an array of them, and the only unit the stages know.
//
// A run is one packet, or the segments of one flow: a TCP super-packet from the host's kernel, or datagrams of a train
// joined after they were opened. It is classified once, by its first packet. Its bytes lie where they came in:
//
//     one packet       head [IP | L4 | payload]                                 head_bytes = all of it, no pieces
//     super-packet     head [IP | L4] piece [payload, cut every gso_size]       one piece, `segments` of them in it
//     joined           head [IP | L4] piece [..gso_size..] -> piece [..] -> ..  one piece a segment
//
// Each segment's own headers follow from `head` (seal writes them; the kernel does when a joined run goes into a TUN).
// Nothing here owns memory: buffers live as long as the burst.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/net/address.h"
#include "dataplane/net/frame.h"

namespace sallyport::wireguard {
struct Peer;
}

namespace sallyport {

inline constexpr uint32_t kNoPiece = UINT32_MAX;
inline constexpr uint32_t kNoExit = UINT32_MAX;
inline constexpr uint16_t kPortItCameBy = UINT16_MAX;

// Where a packet stands in its flow, in conntrack's words: the first ones of it (new), seen in both directions, an ICMP error
// about one, or none of these.
enum class FlowState : uint8_t { none, fresh, established, related, invalid };

struct Piece {
  uint8_t* data;
  uint32_t length;
  uint32_t next;  // index in Burst::pieces, kNoPiece at the end
};

struct Run {
  uint8_t* head = nullptr;
  uint32_t head_bytes = 0;
  uint32_t bytes = 0;  // head and payload
  uint32_t segments = 1;
  uint32_t first_piece = kNoPiece;
  uint32_t last_piece = kNoPiece;
  Offload offload;

  // From parse.
  Family family = Family::none;
  uint8_t protocol = 0;   // of the last header parsed; 0 for a fragment beyond the first
  uint8_t tos = 0;        // DSCP and ECN
  bool fragment = false;  // a part of a packet, the first or a later one: net/fragment.h says more
  uint16_t l4_offset = 0;

  wireguard::Peer* from = nullptr;  // from open: the peer it came from; null: the host

  // From track.
  uint32_t flow = UINT32_MAX;  // FlowRef's word; UINT32_MAX: none, or not yet
  FlowState flow_state = FlowState::none;
  bool is_reply = false;        // goes back where its flow came from
  bool decided = false;         // by what its flow remembers of the rules
  bool translated = false;      // its addresses are those it leaves with
  uint16_t tuple = UINT16_MAX;  // Context::tuples: as it came in
  uint16_t dnat_rule = UINT16_MAX;
  uint16_t prefix_rule =
      UINT16_MAX;  // nptv6, of what one insider sends another by its outer address
  bool is_hairpin =
      false;  // its destination was the outer end of another's mapping, by the dnat_rule

  // From policy.
  uint32_t exit = kNoExit;     // kNoExit: as WireGuard alone would have it
  uint32_t rule = UINT32_MAX;  // that decided
  uint32_t mark = 0;

  // From route.
  wireguard::Peer* to = nullptr;  // the peer it goes to; null: the host
  uint16_t port = kPortItCameBy;  // to the host: the tunnel whose plain port it leaves by
  wireguard::Peer* sealed_for =
      nullptr;             // it carries sealed datagrams of a tunnel within, for this peer of it
  bool discarded = false;  // counted already; later stages pass over it

  uint8_t trace = 0;  // Context::traces[trace - 1] follows it; 0: none does

  const uint8_t* source() const { return head + (family == Family::v4 ? 12 : 8); }
  const uint8_t* destination() const { return head + (family == Family::v4 ? 16 : 24); }
};

struct Burst {
  static constexpr size_t kRunsMax = 256;
  static constexpr size_t kPiecesMax = 512;

  Run runs[kRunsMax];
  Piece pieces[kPiecesMax];
  size_t count = 0;
  uint32_t piece_count = 0;

  void clear() {
    count = 0;
    piece_count = 0;
  }
  bool full() const { return count == kRunsMax || piece_count == kPiecesMax; }

  Run& add() {
    runs[count] = Run{};
    return runs[count++];
  }
  // Appends payload to a run.
  void add_piece(Run& run, uint8_t* data, uint32_t length) {
    pieces[piece_count] = {data, length, kNoPiece};
    if (run.last_piece == kNoPiece) {
      run.first_piece = piece_count;
    } else {
      pieces[run.last_piece].next = piece_count;
    }
    run.last_piece = piece_count++;
    run.bytes += length;
  }
};

}  // namespace sallyport
