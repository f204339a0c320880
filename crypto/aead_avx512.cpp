// The multi-buffer AEAD on AVX-512 with IFMA: 16 packets at once. Compiled with those instructions;
// only called where the CPU has them (crypto/aead.cpp).
#include "crypto/aead_multi.h"
#include "crypto/vec512.h"

namespace sallyport::crypto {

const LaneKernel kAvx512Kernel = {Vec512::kLanes, seal_lanes<Vec512>, open_lanes<Vec512>};

}  // namespace sallyport::crypto
