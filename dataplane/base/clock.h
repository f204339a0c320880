// Time as the data plane knows it.
//
// Time is nanoseconds since an arbitrary start, from CLOCK_BOOTTIME: keys age while a machine
// sleeps, and the wall clock's jumps do not matter. Protocol code takes it as an argument and never
// reads a clock; a worker reads it once a burst. WallTime exists for one thing only: the TAI64N
// timestamp of an initiation.
#pragma once

#include <cstdint>
#include <ctime>

namespace sallyport {

using Time = int64_t;      // ns since boot
using WallTime = int64_t;  // ns since the Unix epoch

inline constexpr Time kMicrosecond = 1'000;
inline constexpr Time kMillisecond = 1'000'000;
inline constexpr Time kSecond = 1'000'000'000;
inline constexpr Time kNever = INT64_MIN;  // "has not happened": older than every real moment

inline int64_t read_clock(clockid_t id) {
  timespec now;
  clock_gettime(id, &now);
  return int64_t{now.tv_sec} * kSecond + now.tv_nsec;
}

inline Time now_boottime() {
  return read_clock(CLOCK_BOOTTIME);
}

inline WallTime now_wall() {
  return read_clock(CLOCK_REALTIME);
}

}  // namespace sallyport
