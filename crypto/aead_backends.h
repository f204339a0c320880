// The implementations behind crypto/aead.h, one line each: the only place besides
// crypto/CMakeLists.txt that knows them. Which of them a build has is decided in CMake; which of
// them a CPU can run, in crypto/aead.cpp.
#pragma once

#include <span>

#include "crypto/aead.h"

namespace sallyport::crypto {

void sodium_seal_many(std::span<SealItem> items);
void sodium_open_many(std::span<OpenItem> items);

#ifdef SALLYPORT_HAVE_IPSECMB
bool ipsecmb_available();
void ipsecmb_thread_init();
void ipsecmb_seal_many(std::span<SealItem> items);
void ipsecmb_open_many(std::span<OpenItem> items);
#endif

// The multi-buffer ones, by way of crypto/aead_groups.cpp. `lanes`: every packet goes through the
// lanes, whatever it costs.
#ifdef SALLYPORT_HAVE_MULTIBUFFER
void avx512_seal_many(std::span<SealItem> items);
void avx512_open_many(std::span<OpenItem> items);
void avx512_seal_lanes(std::span<SealItem> items);
void avx512_open_lanes(std::span<OpenItem> items);
void avx2_seal_many(std::span<SealItem> items);
void avx2_open_many(std::span<OpenItem> items);
void avx2_seal_lanes(std::span<SealItem> items);
void avx2_open_lanes(std::span<OpenItem> items);
#endif

// The fastest implementation for a packet that comes alone: ipsec-mb where it is usable, else
// libsodium.
const AeadImplementation& aead_one_by_one();

}  // namespace sallyport::crypto
