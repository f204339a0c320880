// How many workers to run: as many as there are CPUs for us, which is often fewer than the machine has.
//
// The least of: CPUs in our affinity mask, and what the cgroup's CPU quota amounts to, rounded up (v2's
// cpu.max or v1's cfs_quota_us / cfs_period_us, on our cgroup and every one above it). More workers than
// that would be stopped by the kernel in the middle of bursts. WG_THREADS overrides, 1 to kWorkersMax.
// Read once at start: later changes of the quota are not noticed. Where a file cannot be read there is no
// quota. Pure over a file root, so that tests bring their own /proc and /sys.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "dataplane/base/result.h"

namespace sallyport {

// CPUs worth of quota, rounded up; nothing when there is no quota. `root` stands for "/".
std::optional<unsigned> cgroup_cpus(const std::filesystem::path& root = "/");

// WG_THREADS' text (null: not set) against what affinity and quota leave.
Result<unsigned> count_workers(const char* wg_threads, unsigned affinity_cpus,
                               std::optional<unsigned> quota_cpus);

unsigned affinity_cpus();

}  // namespace sallyport
