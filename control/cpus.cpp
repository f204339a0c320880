#include "control/cpus.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <thread>

#include "dataplane/wireguard/limits.h"

namespace sallyport {
namespace {

namespace fs = std::filesystem;

std::optional<int64_t> parse_number(std::string_view text) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  return error == std::errc{} && stopped == end ? std::optional(value) : std::nullopt;
}

std::optional<int64_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  std::string word;
  return file >> word ? parse_number(word) : std::nullopt;
}

std::optional<unsigned> whole_cpus(std::optional<int64_t> quota, std::optional<int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) {
    return std::nullopt;
  }
  const int64_t cpus = *quota / *period + (*quota % *period != 0 ? 1 : 0);
  return static_cast<unsigned>(std::clamp<int64_t>(cpus, 1, 1 << 20));
}

std::optional<unsigned> quota_v2(const fs::path& folder) {
  std::ifstream file(folder / "cpu.max");
  std::string quota, period;
  if (!(file >> quota >> period)) {
    return std::nullopt;
  }
  return whole_cpus(parse_number(quota), parse_number(period));  // "max" is no number: no quota
}

std::optional<unsigned> quota_v1(const fs::path& folder) {
  return whole_cpus(read_number(folder / "cpu.cfs_quota_us"),
                    read_number(folder / "cpu.cfs_period_us"));
}

std::optional<unsigned> least(std::optional<unsigned> left, std::optional<unsigned> right) {
  return !left ? right : !right ? left : std::min(*left, *right);
}

// The least quota from our cgroup up to the root of the hierarchy.
template <class Quota>
std::optional<unsigned> least_upwards(const fs::path& mount, const fs::path& cgroup, Quota quota) {
  std::optional<unsigned> found = quota(mount);
  fs::path folder = mount;
  for (const fs::path& name : cgroup.relative_path()) {
    if (name == "..") {  // outside what our cgroup namespace shows
      break;
    }
    folder /= name;
    found = least(found, quota(folder));
  }
  return found;
}

// Whether a comma-separated list of v1 controllers holds the one that has the quota.
bool names_cpu(std::string_view controllers) {
  while (!controllers.empty()) {
    const size_t comma = controllers.find(',');
    if (controllers.substr(0, comma) == "cpu") {
      return true;
    }
    controllers.remove_prefix(comma == std::string_view::npos ? controllers.size() : comma + 1);
  }
  return false;
}

}  // namespace

std::optional<unsigned> cgroup_cpus(const fs::path& root) {
  std::ifstream file(root / "proc/self/cgroup");
  std::optional<unsigned> found;
  for (std::string line; std::getline(file, line);) {  // "hierarchy:controllers:/path"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path cgroup = line.substr(second + 1);
    if (controllers.empty()) {
      found = least(found, least_upwards(root / "sys/fs/cgroup", cgroup, quota_v2));
    } else if (names_cpu(controllers)) {
      found = least(found, least_upwards(root / "sys/fs/cgroup/cpu", cgroup, quota_v1));
    }
  }
  return found;
}

Result<unsigned> count_workers(const char* wg_threads, unsigned affinity,
                               std::optional<unsigned> quota_cpus) {
  if (wg_threads != nullptr && *wg_threads != '\0') {
    const auto threads = parse_number(wg_threads);
    if (!threads || *threads < 1 || *threads > wireguard::kWorkersMax) {
      return fail("WG_THREADS=" + std::string(wg_threads) + ": set it to a number from 1 to " +
                  std::to_string(wireguard::kWorkersMax) + ", or not at all");
    }
    return static_cast<unsigned>(*threads);
  }
  return std::clamp(std::min(affinity, quota_cpus.value_or(affinity)), 1u, wireguard::kWorkersMax);
}

unsigned affinity_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    return static_cast<unsigned>(CPU_COUNT(&set));
  }
  return std::max(1u, std::thread::hardware_concurrency());  // more CPUs than a cpu_set_t holds
}

}  // namespace sallyport
