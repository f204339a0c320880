#include "dataplane/via_port.h"

#include <cerrno>
#include <cstring>
#include <new>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "dataplane/path/ingress.h"
#include "dataplane/path/nest.h"

namespace sallyport {

void ViaPort::tx(std::span<TxFrame> frames) {
  for (TxFrame& frame : frames) {
    frame.error = send(frame);
  }
}

int ViaPort::send(const TxFrame& frame) {
  const Snapshot& snapshot = *snapshot_.load(std::memory_order_acquire);
  const TunnelView& view = snapshot.tunnels[tunnel_];
  if (view.via >= snapshot.tunnels.size()) {
    return ENETDOWN;
  }
  const IpAddress& source = snapshot.tunnels[view.via].address(frame.to->remote.family);
  if (!source.is_set()) {
    return EADDRNOTAVAIL;
  }
  if (kOuterHeadBytesMax + frame.length > Buffer::kDataBytes) {
    return EMSGSIZE;
  }
  Buffer* buffer = buffers_.take();
  if (buffer == nullptr) {
    return ENOBUFS;
  }
  uint8_t* packet = buffer->data();
  const uint32_t head =
      write_outer_head(packet, source, view.listen_port, *frame.to, frame.tos, frame.length);
  uint32_t at = head;
  for (const Slice& slice : frame.slices) {
    std::memcpy(packet + at, slice.data, slice.length);
    at += slice.length;
  }
  const uint32_t udp_at = head - uint32_t{sizeof(UdpHeader)};
  const uint64_t sum =
      checksum_add(checksum_pseudo(packet, source.family, kProtocolUdp, at - udp_at),
                   packet + udp_at, at - udp_at);
  checksum_store(packet + udp_at + offsetof(UdpHeader, checksum), sum, true);
  auto* boxed = new (boxed_frame(buffer)) RxFrame;
  boxed->buffer = buffer;
  boxed->data = packet;
  boxed->length = boxed->segment_bytes = at;
  if (!worker_.post({Message::Kind::from_host, view.via, 0, buffer})) {
    buffers_.give(buffer);
    return EAGAIN;
  }
  return 0;
}

PortStatus ViaPort::status() const {
  PortStatus status;
  status.driver = "via";
  status.name = "tunnel";
  return status;
}

}  // namespace sallyport
