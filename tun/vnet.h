// The virtio-net header, 10 bytes before each packet of a TUN opened with IFF_VNET_HDR: how the
// kernel says that a packet is a super-packet still to be cut, or that its checksum is still to be
// finished, and how we say the same.
//
// Pure functions over bytes; no descriptor, no allocation, any thread. read_vnet() trusts nothing:
// what it lets through can be segmented and checksummed without looking at the header again. What
// it cannot do is vouch for the packet itself: that is parse's work.
// Source: Virtual I/O Device (VIRTIO) 1.2, section 5.1.6, and Linux' linux/virtio_net.h; words are
// in the host's order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/net/frame.h"

namespace sallyport {

struct VnetHeader {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t header_bytes;
  uint16_t gso_size;
  uint16_t checksum_start;
  uint16_t checksum_offset;
};
static_assert(sizeof(VnetHeader) == 10);

inline constexpr size_t kVnetHeaderBytes = sizeof(VnetHeader);
inline constexpr size_t kIpPacketMax = 65'535;

// What the header says of `packet`, in our words; false when it contradicts the packet or itself,
// and then the packet must be dropped. A super-packet that turns out to hold a single segment comes
// back as an ordinary packet.
bool read_vnet(const VnetHeader& header, std::span<const uint8_t> packet, Offload& out);

// The header that goes before a packet with this offload.
VnetHeader write_vnet(const Offload& offload);

// Finishes the L4 checksum in the packet that the slices make up, for a device that takes no
// header. Returns false when the field is not inside one of them.
bool complete_checksum(std::span<const Slice> slices, const Offload& offload);

}  // namespace sallyport
