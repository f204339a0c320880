#include "dataplane/path/segment.h"

#include <algorithm>
#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"

namespace sallyport {

SegmentWalk::SegmentWalk(const Burst& burst, const Run& run)
    : burst_(burst), run_(run), piece_(run.first_piece) {}

bool SegmentWalk::next() {
  if (piece_ == kNoPiece) {
    return false;
  }
  const Piece& piece = burst_.pieces[piece_];
  payload_ = piece.data + offset_;
  payload_bytes_ = std::min<uint32_t>(run_.offload.gso_size, piece.length - offset_);
  offset_ += payload_bytes_;
  if (offset_ == piece.length) {
    piece_ = piece.next;
    offset_ = 0;
  }
  ++number_;
  return true;
}

void SegmentWalk::write_head(uint8_t* out) const {
  std::memcpy(out, run_.head, run_.head_bytes);
  const uint32_t packet_bytes = run_.head_bytes + payload_bytes_;
  if (run_.family == Family::v4) {
    auto* ip = reinterpret_cast<Ipv4Header*>(out);
    ip->total_length = static_cast<uint16_t>(packet_bytes);
    ip->id = static_cast<uint16_t>(ip->id + number_);
    checksum_ipv4(out, ip->header_bytes());
  } else {
    reinterpret_cast<Ipv6Header*>(out)->payload_length =
        static_cast<uint16_t>(packet_bytes - sizeof(Ipv6Header));
  }
  uint8_t* l4 = out + run_.l4_offset;
  const bool udp = run_.offload.gso == Gso::udp;
  uint8_t* checksum = nullptr;
  if (udp) {
    auto* header = reinterpret_cast<UdpHeader*>(l4);
    header->length = static_cast<uint16_t>(packet_bytes - run_.l4_offset);
    checksum = l4 + offsetof(UdpHeader, checksum);
  } else {
    auto* header = reinterpret_cast<TcpHeader*>(l4);
    header->sequence = header->sequence + number_ * run_.offload.gso_size;
    if (number_ > 0) {
      header->flags &= static_cast<uint8_t>(~kTcpCwr);
    }
    if (piece_ != kNoPiece) {
      header->flags &= static_cast<uint8_t>(~(kTcpFin | kTcpPsh));
    }
    checksum = l4 + offsetof(TcpHeader, checksum);
  }
  std::memset(checksum, 0, 2);
  if (run_.sealed_for != nullptr && run_.family == Family::v4) {
    return;  // it is authenticated, and RFC 768 lets the sum be left out
  }
  uint64_t sum = checksum_pseudo(out, run_.family, run_.protocol, packet_bytes - run_.l4_offset);
  sum = checksum_add(sum, l4, run_.head_bytes - run_.l4_offset);
  checksum_store(checksum, checksum_add(sum, payload_, payload_bytes_), udp);
}

void complete_checksum(Run& run) {
  const uint32_t start = run.offload.checksum_start;
  const uint32_t field = start + run.offload.checksum_offset;
  if (field + 2 > run.head_bytes) {
    return;  // the port checks this; a packet cut short by its IP length keeps what it has
  }
  checksum_store(run.head + field, checksum_add(0, run.head + start, run.head_bytes - start),
                 run.protocol == kProtocolUdp);
  run.offload.needs_checksum = false;
}

}  // namespace sallyport
