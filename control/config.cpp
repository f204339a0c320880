#include "control/config.h"

#include <algorithm>
#include <cstdlib>

#include "control/config_section.h"
#include "control/config_text.h"
#include "control/config_wg_quick.h"
#include "control/interface_name.h"
#include "control/limits.h"
#include "control/load_progress.h"
#include "control/uapi.h"

namespace sallyport::config {

// -- Messages

std::string to_text(const Where& where) {
  if (where.line == 0) {
    return where.file;
  }
  return (where.file.empty() ? "line " : where.file + ":") + std::to_string(where.line);
}

std::string to_text(const Problem& problem) {
  std::string text = to_text(problem.where);
  text += text.empty() ? "" : ": ";
  return text + problem.key + (problem.key.empty() ? "" : ": ") + problem.text;
}

std::vector<std::string> to_texts(const std::vector<Problem>& problems) {
  std::vector<std::string> texts;
  for (const Problem& problem : problems) {
    texts.push_back(to_text(problem));
  }
  return texts;
}

namespace {

// Insertions, deletions, changes and swaps of neighbours that make one word of the other; more than `max` is `max` + 1.
size_t distance(std::string_view left, std::string_view right, size_t max) {
  if (std::max(left.size(), right.size()) - std::min(left.size(), right.size()) > max) {
    return max + 1;
  }
  std::vector<size_t> before(right.size() + 1), above(right.size() + 1), row(right.size() + 1);
  for (size_t j = 0; j <= right.size(); ++j) {
    above[j] = j;
  }
  for (size_t i = 1; i <= left.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= right.size(); ++j) {
      const bool same = left[i - 1] == right[j - 1];
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return std::min(above[right.size()], max + 1);
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string_view>& known) {
  if (word.empty() || word.size() > kConfigNameMax) {
    return {};
  }
  // A third of the word may be wrong, and at least one letter; of a word of one letter, its case.
  const size_t max = word.size() == 1 ? 0 : std::clamp<size_t>(word.size() / 3, 1, 3);
  const std::string plain = lowered(word);
  std::string_view best;
  size_t best_distance = max + 1;
  for (const std::string_view candidate : known) {
    const size_t found =
        candidate.size() > kConfigNameMax ? max + 1 : distance(plain, lowered(candidate), max);
    if (found < best_distance) {
      best = candidate;
      best_distance = found;
    }
  }
  return std::string(best);
}

std::string beside(std::string_view file, std::string_view path) {
  const size_t slash = file.rfind('/');
  if (path.starts_with('/') || slash == std::string_view::npos) {
    return std::string(path);
  }
  return std::string(file.substr(0, slash + 1)).append(path);
}

// -- Keys

namespace {

Result<std::string> credential_path(const std::string& name) {
  const char* directory = std::getenv("CREDENTIALS_DIRECTORY");
  if (directory == nullptr || *directory == '\0') {
    return fail(
        "no CREDENTIALS_DIRECTORY in the environment: credentials come from systemd, by "
        "LoadCredential=" +
        name + ":PATH in the unit");
  }
  if (name.empty() || name.find('/') != std::string::npos || name == "." || name == "..") {
    return fail(quoted(name) + " is no credential's name");
  }
  return std::string(directory) + "/" + name;
}

Result<KeyBytes> load_key_file(const std::string& path) {
  constexpr size_t kKeyFileBytesMax = 4096;
  auto text = read_whole(path, kKeyFileBytesMax);
  if (!text) {
    return std::unexpected(std::move(text.error()));
  }
  auto key = parse_key_text(trimmed(*text));
  wipe(*text);
  if (!key) {
    return fail(path + ": " + key.error().text);
  }
  return key;
}

}  // namespace

Result<KeyBytes> load_key(const KeySource& source) {
  const auto placed = [&](const Error& error) {
    const std::string place = to_text(source.where);
    return fail((place.empty() ? "" : place + ": ") + error.text, error.code);
  };
  Result<KeyBytes> key = KeyBytes{};
  switch (source.kind) {
    case KeySource::Kind::none:
      return key;
    case KeySource::Kind::inline_text:
      key = parse_key_text(source.text);
      break;
    case KeySource::Kind::file:
      key = load_key_file(beside(source.where.file, source.text));
      break;
    case KeySource::Kind::credential: {
      const auto path = credential_path(source.text);
      key = path ? load_key_file(*path) : std::unexpected(path.error());
      break;
    }
  }
  if (!key) {
    return placed(key.error());
  }
  return key;
}

// -- Files

ReadResult read_text(std::string_view text, const std::string& file) {
  constexpr std::string_view kWgQuick = ".conf";
  if (!file.ends_with(kWgQuick)) {
    return read_toml(text, file);
  }
  const std::string_view name = std::string_view(file).substr(file.rfind('/') + 1);
  return read_wg_quick(text, file, std::string(name.substr(0, name.size() - kWgQuick.size())));
}

ReadResult read_file(const std::string& path) {
  unsigned mode = 0;
  auto text = read_whole(path, kConfigBytesMax, &mode);
  if (!text) {
    ReadResult result;
    result.config.file = path;
    result.errors.push_back({{path, 0}, "", text.error().text});
    return result;
  }
  ReadResult result = read_text(*text, path);
  wipe(*text);
  Report report{path, result.errors, result.warnings};
  for (const Tunnel& tunnel : result.config.tunnels) {
    if (warn_of_mode(mode, tunnel, report)) {
      break;
    }
  }
  return result;
}

std::vector<Set::Entry> read_set_list(const std::string& path, std::vector<Problem>& errors,
                                      LoadProgress* progress) {
  std::vector<Set::Entry> entries;
  const auto text = read_whole(path, kSetListBytesMax, nullptr, progress);
  if (!text) {
    errors.push_back({{path, 0}, "", text.error().text});
    return entries;
  }
  constexpr ptrdiff_t kReservedMax = 1'000'000;  // a file of blank lines asks for nothing
  constexpr unsigned kLinesAStep = 4096;
  entries.reserve(static_cast<size_t>(std::min(std::ranges::count(*text, '\n') + 1, kReservedMax)));
  size_t bad = 0;
  unsigned line = 0;
  for (size_t begin = 0; begin < text->size();) {
    const size_t end = std::min(text->find('\n', begin), text->size());
    std::string_view words = std::string_view(*text).substr(begin, end - begin);
    begin = end + 1;
    if (++line % kLinesAStep == 0 && progress != nullptr &&
        !progress->step(LoadProgress::Phase::reading, begin, text->size())) {
      return entries;
    }
    words = trimmed(words.substr(0, words.find('#')));
    if (words.empty()) {
      continue;
    }
    const bool hole = words.starts_with('!');
    const auto prefix = parse_prefix(trimmed(words.substr(hole)));
    if (prefix) {
      entries.push_back({*prefix, hole});
    } else if (++bad <= kSetListErrorsMax) {
      errors.push_back({{path, line}, "", prefix.error().text});
    }
  }
  if (bad > kSetListErrorsMax) {
    errors.push_back(
        {{path, 0},
         "",
         "and " + std::to_string(bad - kSetListErrorsMax) + " more lines that are no prefix"});
  }
  return entries;
}

}  // namespace sallyport::config
