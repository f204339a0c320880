// What passes between the scheduler of the multi-buffer AEAD (crypto/aead_groups.cpp, plain C++)
// and its kernels (crypto/aead_avx512.cpp, crypto/aead_avx2.cpp, compiled for their CPU): up to
// `lanes` packets, one a lane.
//
// Plain data and raw pointers on purpose: an inline function of a library header, emitted by a file
// that is compiled with AVX-512, could be the copy the linker keeps for everybody. Kernels
// therefore include next to nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sallyport::crypto {

inline constexpr size_t kMostLanes = 16;

// One packet: head | body | zeroes up to len, to target, and the tag behind it.
struct LanePacket {
  const uint8_t* key;  // 32 bytes
  uint64_t counter;
  const uint8_t* head;
  const uint8_t* body;
  uint8_t* target;
  uint32_t head_len;
  uint32_t body_len;
  uint32_t len;  // without the tag
  bool ok;       // open: the tag was right
};

// Where a kernel keeps keys and what follows from them, so that the scheduler can wipe it once a
// burst.
struct LaneScratch {
  alignas(64) uint8_t bytes[6144];
  size_t used = 0;  // of bytes, so far in this burst
};

struct LaneKernel {
  size_t lanes;
  // packets are sorted, longest first; count is 1 to lanes.
  void (*seal)(LanePacket* packets, size_t count, LaneScratch& scratch);
  // Writes plaintext whatever the tag is: where ok is false the caller wipes the target.
  void (*open)(LanePacket* packets, size_t count, LaneScratch& scratch);
};

#ifdef SALLYPORT_HAVE_MULTIBUFFER
extern const LaneKernel kAvx512Kernel;
extern const LaneKernel kAvx2Kernel;
#endif

}  // namespace sallyport::crypto
