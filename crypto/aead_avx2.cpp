// The multi-buffer AEAD on AVX2: 8 packets at once. Compiled with those instructions; only called
// where the CPU has them (crypto/aead.cpp).
#include "crypto/aead_multi.h"
#include "crypto/vec256.h"

namespace sallyport::crypto {

const LaneKernel kAvx2Kernel = {Vec256::kLanes, seal_lanes<Vec256>, open_lanes<Vec256>};

}  // namespace sallyport::crypto
