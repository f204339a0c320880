// What a port hands over and takes back: frames.
//
// On the plain side a frame is one IP packet, or one super-packet that the kernel left for us to cut (`offload`). On the
// outer side it is one UDP datagram, or a train of datagrams of one sender, back to back, each `segment_bytes` long but
// the last, which may be shorter. The unit is a run, never a packet: see docs/packet.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/base/pool.h"
#include "dataplane/net/address.h"

namespace sallyport {

// What one TxFrame may be made of, so that every port can send it with one system call.
inline constexpr size_t kTrainSegmentsMax = 64;  // UDP_MAX_SEGMENTS of the oldest kernel we serve
inline constexpr size_t kTrainBytesMax =
    65'000;  // a UDP payload fits 65,507 bytes on v4, a little less with v6 options
inline constexpr size_t kFrameSlicesMax =
    1'000;  // UIO_MAXIOV is 1,024, and a port may add parts of its own

struct Slice {
  uint8_t* data;
  uint32_t length;
};

enum class Gso : uint8_t { none, tcp4, tcp6, udp };  // udp: USO, either family

// A plain frame's virtio-net header, in our words. Offsets count from the IP header.
struct Offload {
  Gso gso = Gso::none;
  bool needs_checksum = false;  // the L4 checksum field holds the pseudo-header's sum only
  bool checksum_valid =
      false;              // known good: need not be verified again (VIRTIO_NET_HDR_F_DATA_VALID)
  uint16_t gso_size = 0;  // payload bytes of each segment
  uint16_t header_bytes = 0;     // IP and L4 headers, tx only: what stands before the payload
  uint16_t checksum_start = 0;   // offset of the L4 header
  uint16_t checksum_offset = 0;  // of the checksum field within it
};

struct RxFrame {
  Buffer* buffer = nullptr;  // owned by whoever holds the frame
  uint8_t* data = nullptr;   // in the buffer, with Buffer::kHeadroom before it
  uint32_t length = 0;
  uint32_t segment_bytes = 0;  // outer: stride of a train; equals length for a single datagram
  Offload offload;             // plain
  Endpoint from;               // outer
  uint8_t tos = 0;             // outer: DSCP and ECN it arrived with
};

struct TxFrame {
  std::span<const Slice> slices;  // gathered in order
  uint32_t length = 0;            // sum of the slices
  uint32_t segment_bytes = 0;     // outer: stride of a train
  Offload offload;                // plain
  const Endpoint* to = nullptr;   // outer
  uint8_t tos = 0;                // outer

  // What became of it, set by tx().
  int error = 0;  // 0 sent, else an errno: the whole frame is lost
  uint32_t path_mtu =
      0;  // outer, with EMSGSIZE: what the way there carries, headers included; 0: not known
  bool source_refused = false;  // outer: sent, but only without `to->local`: forget that address
};

}  // namespace sallyport
