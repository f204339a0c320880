// Every bound of the control room, on one page.
#pragma once

#include <chrono>
#include <cstddef>

#include "dataplane/wireguard/limits.h"

namespace sallyport {

// -- A set request. 512 MiB holds kPeersMax peers of wg(8)'s usual 300 bytes and leaves room.
inline constexpr size_t kUapiLineBytesMax = 4096;
inline constexpr size_t kUapiRequestBytesMax = size_t{512} << 20;
inline constexpr size_t kUapiPeerLinesMax = 2 * wireguard::kPeersMax;  // remove all, add all
inline constexpr size_t kUapiAllowedIpLinesMax = size_t{1} << 23;

// -- The socket's clients. wg(8) comes, asks and goes; who stays holds a place until others want it.
inline constexpr size_t kUapiConnectionsMax = 64;
inline constexpr size_t kUapiReadBytes = 64 * 1024;
inline constexpr std::chrono::seconds kUapiUnreadAnswerMax{
    30};  // an answer nobody reads is given up

inline constexpr std::chrono::milliseconds kUapiTakeoverWait{2000};  // for a daemon that is ending

// -- `sallyport status` as a client.
inline constexpr std::chrono::seconds kStatusAnswerWait{5};
inline constexpr std::chrono::milliseconds kStatusLoadSample{200};

// -- The program.
inline constexpr size_t kInterfaceNameMax = 15;  // IFNAMSIZ - 1

}  // namespace sallyport
