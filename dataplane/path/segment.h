// segment: walks the packets of a run, and writes the headers each one has of its own.
//
// What the kernel's GSO does (tcp_gso_segment, udp_gso_segment), for runs: length, IPv4 id and checksum; TCP sequence,
// flags and checksum; UDP length and checksum. The payload is read once, for the checksum.
#pragma once

#include "dataplane/net/run.h"

namespace sallyport {

class SegmentWalk {
 public:
  SegmentWalk(const Burst& burst, const Run& run);

  // Steps to the next segment; false after the last.
  bool next();

  uint8_t* payload() const { return payload_; }
  uint32_t payload_bytes() const { return payload_bytes_; }
  uint32_t head_bytes() const { return run_.head_bytes; }

  // Writes this segment's headers to `out`: head_bytes() bytes, checksums complete.
  void write_head(uint8_t* out) const;

 private:
  const Burst& burst_;
  const Run& run_;
  uint32_t piece_;                // index of the piece the next segment begins in
  uint32_t offset_ = 0;           // within that piece
  uint32_t number_ = UINT32_MAX;  // of the current segment
  uint8_t* payload_ = nullptr;
  uint32_t payload_bytes_ = 0;
};

// Completes the L4 checksum of a single packet that the host left to us.
void complete_checksum(Run& run);

}  // namespace sallyport
