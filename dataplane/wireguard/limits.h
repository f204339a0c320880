// Every number of the protocol, once. Whitepaper section 6.1 unless a line says otherwise.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/base/clock.h"

namespace sallyport::wireguard {

inline constexpr uint64_t kRekeyAfterMessages = uint64_t{1} << 60;
inline constexpr uint64_t kReplayWindow = 8128;  // packets; the kernel's COUNTER_WINDOW_SIZE
inline constexpr uint64_t kRejectAfterMessages = UINT64_MAX - kReplayWindow - 1;
inline constexpr Time kRekeyTimeout = 5 * kSecond;
inline constexpr Time kRekeyTimeoutJitterMax = kSecond / 3;
inline constexpr Time kRekeyAfterTime = 120 * kSecond;
inline constexpr Time kRejectAfterTime = 180 * kSecond;
inline constexpr Time kKeepaliveTimeout = 10 * kSecond;
inline constexpr Time kRekeyAttemptTime = 90 * kSecond;
inline constexpr unsigned kHandshakeAttemptsMax = kRekeyAttemptTime / kRekeyTimeout;
inline constexpr Time kCookieSecretMaxAge = 120 * kSecond;
inline constexpr Time kCookieLatency = 5 * kSecond;  // this close to its end, a cookie is not used
inline constexpr Time kInitiationsPerSecondInverse = kSecond / 50;  // of one peer

inline constexpr size_t kPaddingMultiple = 16;

// -- Path MTU of a peer: RFC 791's least, and RFC 1191 6.3's ten minutes.
inline constexpr uint32_t kPathMtuMin = 576;
inline constexpr Time kPathMtuLifetime = 600 * kSecond;
inline constexpr size_t kStagedPacketsMax = 128;       // a peer
inline constexpr size_t kStagedBytesMax = 256 * 1024;  // a peer
inline constexpr size_t kPeersMax = size_t{1} << 20;   // a tunnel

inline constexpr unsigned kWorkersMax = 64;  // the receiver index's low byte names the worker

static_assert(kRekeyAfterTime + kKeepaliveTimeout + kRekeyTimeout < kRejectAfterTime);
static_assert(kHandshakeAttemptsMax == 18);

}  // namespace sallyport::wireguard
