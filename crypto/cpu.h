// What this CPU and kernel can run, as far as crypto/ has code for it. All false on anything but
// x86-64.
#pragma once

namespace sallyport::crypto {

struct CpuFeatures {
  bool avx2;
  bool avx512;       // F, BW, DQ and VL, with the kernel saving the registers
  bool avx512_ifma;  // 52-bit multiply-add, for Poly1305
};

const CpuFeatures& cpu_features();

}  // namespace sallyport::crypto
