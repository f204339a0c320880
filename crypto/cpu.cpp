#include "crypto/cpu.h"

namespace sallyport::crypto {

namespace {

CpuFeatures read_features() {
#ifdef __x86_64__
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return {__builtin_cpu_supports("avx2") != 0, avx512,
          avx512 && __builtin_cpu_supports("avx512ifma")};
#else
  return {};
#endif
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = read_features();
  return features;
}

}  // namespace sallyport::crypto
