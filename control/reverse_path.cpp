#include "control/reverse_path.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace sallyport {
namespace {

int value_of(const std::filesystem::path& file) {
  int value = 0;
  std::ifstream(file) >> value;
  return value;
}

}  // namespace

// ip-sysctl: the larger of `all` and the interface's counts, for both words.
bool is_reverse_path_strict(const std::string& directory) {
  const std::filesystem::path root(directory);
  const int all_filter = value_of(root / "all/rp_filter");
  const int all_mark = value_of(root / "all/src_valid_mark");
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(root, failed)) {
    const std::string name = entry.path().filename();
    if (name == "all" || name == "default" || name == "lo") {
      continue;
    }
    const int filter = std::max(all_filter, value_of(entry.path() / "rp_filter"));
    const int mark = std::max(all_mark, value_of(entry.path() / "src_valid_mark"));
    if (filter == 1 && mark == 0) {
      return true;
    }
  }
  return false;
}

}  // namespace sallyport
