#include "dataplane/table/rule_rows.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace sallyport::rules {

RowMaker::RowMaker(uint32_t alternatives)
    : alternatives_(alternatives),
      lines_per_row_(Row(alternatives).words().size() / kLineWords),
      known_(64, Hash{this}, Equal{this}) {}

size_t RowMaker::Hash::operator()(RowRef ref) const {
  uint64_t hash = 0;
  for (size_t line = ref; line < ref + maker->lines_per_row_; ++line) {
    for (const uint64_t word : maker->lines_[line].words) {
      hash = std::rotl((hash ^ word) * 0x9e3779b97f4a7c15, 29);
    }
  }
  return hash;
}

bool RowMaker::Equal::operator()(RowRef a, RowRef b) const {
  const auto* lines = maker->lines_.data();
  return std::memcmp(lines + a, lines + b, maker->lines_per_row_ * sizeof(Line)) == 0;
}

RowRef RowMaker::keep(const Row& row) {
  if ((lines_.size() + lines_per_row_) * sizeof(Line) > kRowBytesMax) {
    is_full_ = true;
    return 0;
  }
  const auto ref = static_cast<RowRef>(lines_.size());
  lines_.resize(ref + lines_per_row_);
  uint64_t summary = 0;
  for (size_t line = 0; line < lines_per_row_; ++line) {
    const auto words = row.words().subspan(line * kLineWords, kLineWords);
    std::copy(words.begin(), words.end(), lines_[ref + line].words);
    const bool any =
        std::any_of(words.begin(), words.end(), [](uint64_t word) { return word != 0; });
    summary |= uint64_t{any} << line;
  }
  lines_[ref].words[0] = summary;
  const auto [place, is_new] = known_.insert(ref);
  if (!is_new) {
    lines_.resize(ref);
  }
  return *place;
}

std::vector<Line> RowMaker::take() {
  known_.clear();
  lines_.shrink_to_fit();
  return std::move(lines_);
}

}  // namespace sallyport::rules
