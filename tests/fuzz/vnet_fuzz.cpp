// The virtio header and the packet behind it, both hostile: whatever read_vnet() lets through must
// be safe to cut and to checksum by the header's numbers alone, and must survive being written and
// read again.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tun/vnet.h"

using namespace sallyport;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  VnetHeader header;
  if (size < sizeof(header)) {
    return 0;
  }
  std::memcpy(&header, data, sizeof(header));
  std::vector<uint8_t> packet(data + sizeof(header), data + size);
  Offload offload;
  if (!read_vnet(header, packet, offload)) {
    return 0;
  }
  if (offload.needs_checksum) {
    const Slice whole{packet.data(), static_cast<uint32_t>(packet.size())};
    if (!complete_checksum({&whole, 1}, offload)) {
      std::abort();  // a checksum field outside the packet got through
    }
  }
  if (offload.gso != Gso::none) {
    const size_t l4 = offload.checksum_start;
    const size_t headers = l4 + (offload.gso == Gso::udp ? 8 : (packet[l4 + 12] >> 4) * 4u);
    if (offload.gso_size == 0 || headers > packet.size() ||
        packet.size() - headers <= offload.gso_size || !offload.needs_checksum) {
      std::abort();  // not a super-packet that can be cut
    }
  }
  Offload again;
  const VnetHeader written = write_vnet(offload);
  if (!read_vnet(written, {data + sizeof(header), packet.size()}, again) ||
      again.gso != offload.gso || again.gso_size != offload.gso_size ||
      again.needs_checksum != offload.needs_checksum ||
      again.checksum_start != offload.checksum_start) {
    std::abort();
  }
  return 0;
}
