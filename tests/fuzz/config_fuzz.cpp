// Bytes as a configuration: the first says of which kind, the rest is the file. Whatever they are, the reader answers with a
// Config or with errors that have a text and a line that is there; a file without errors passes check() again; and a list's
// prefixes are as many as its good lines.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include "control/config.h"
#include "control/limits.h"

namespace {

using namespace sallyport;
using namespace sallyport::config;

void require(bool truth) {
  if (!truth) {
    std::abort();
  }
}

void judge(const std::vector<Problem>& problems, std::string_view text, const std::string& file) {
  const auto lines = static_cast<unsigned>(std::ranges::count(text, '\n')) + 1;
  for (const Problem& problem : problems) {
    require(!problem.text.empty() && to_text(problem).size() < 65536);
    require(problem.where.file != file || problem.where.line <= lines);
  }
}

void judge(const ReadResult& result, std::string_view text) {
  judge(result.errors, text, result.config.file);
  judge(result.warnings, text, result.config.file);
  if (result.ok()) {
    std::vector<Problem> again;
    check(result.config, again);
    require(again.empty());
  }
}

void read_as_list(std::string_view text) {
  const int fd = memfd_create("list", 0);
  require(fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  std::vector<Problem> errors;
  const auto entries = read_set_list(path, errors);
  judge(errors, text, path);
  require(errors.size() <= kSetListErrorsMax + 1);
  require(entries.size() <= static_cast<size_t>(std::ranges::count(text, '\n')) + 1);
  close(fd);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'w':
      judge(read_wg_quick(text, "wg0.conf", "wg0"), text);
      break;
    case 's':
      read_as_list(text);
      break;
    default:
      judge(read_toml(text, "x.toml"), text);
  }
  return 0;
}
