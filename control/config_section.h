// ConfigSection: reads the keys of one TOML table, and knows which were never asked for.
//
// Who reads a table asks for each key it understands, in the order the documentation has them; finish() then names every key
// left over, with the nearest of those asked for. So the list of known keys is the code that reads them and cannot differ.
// Wrong types and values are reported where they stand and leave the output as it was.
//
// Costs: a walk over the table's keys for each question; tables are short. Cannot: be asked for a key twice.
// Thread rules: values, and references that the reader outlives.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "control/config_text.h"
#include "control/config_tree.h"

namespace sallyport::config {

// Bounded: behind kConfigProblemsMax nothing is kept.
void add_problem(std::vector<Problem>& to, Problem problem);

// Where problems of one file go.
struct Report {
  std::string file;
  std::vector<Problem>& errors;
  std::vector<Problem>& warnings;

  void error(unsigned line, std::string key, std::string text);
  void warning(unsigned line, std::string key, std::string text);
  void wrong_kind(const Node& node, std::string key, std::string_view wanted);
};

// The tables of an array of tables, each with its path.
template <class Use>
void for_each_table(const Node& array, const std::string& path, Report& report, const Use& use) {
  if (array.kind != Node::Kind::array) {
    report.wrong_kind(array, path, "a list of tables, [[" + path + "]],");
    return;
  }
  for (size_t i = 0; i < array.children.size(); ++i) {
    use(array.children[i], indexed(path, i));
  }
}

class Section {
 public:
  // `what` is said of unknown keys: "peer key". Reports when the node is no table; then nothing is found in it.
  Section(const Node& node, std::string path, std::string_view what, Report& report);

  const Node* take(std::string_view key);  // null when it is not there
  bool is_table() const;                   // false: everything is missing, and that was reported
  bool has(std::string_view key) const { return node_->find(key) != nullptr; }
  void finish();

  // Each returns true when the key is there and its value was good.
  bool text(std::string_view key, std::string& out);
  bool boolean(std::string_view key, bool& out);
  template <class Word>
  bool number(std::string_view key, uint64_t min, uint64_t max, Word& out) {
    uint64_t value = 0;
    if (!number_in(key, min, max, value)) {
      return false;
    }
    out = static_cast<Word>(value);
    return true;
  }

  // A string, or a list of strings: each goes to `use`, which returns an empty text or what is wrong with it. An integer
  // counts as its text where `numbers` says so.
  using Use = std::function<std::string(std::string_view text, unsigned line)>;
  bool texts(std::string_view key, const Use& use, bool numbers = false);

  // One string (or integer) that `use` judges.
  bool one_text(std::string_view key, const Use& use, bool numbers = false);

  void error(std::string_view key, std::string text);  // at the key's line, or the table's
  std::string path(std::string_view key) const { return dotted(path_, key); }
  const std::string& path() const { return path_; }
  Where where() const { return {report_.file, node_->line}; }
  Report& report() { return report_; }
  unsigned line_of(std::string_view key) const;

 private:
  bool number_in(std::string_view key, uint64_t min, uint64_t max, uint64_t& out);
  bool use_text(const Node& node, const std::string& path, const Use& use, bool numbers);

  const Node* node_;
  std::string path_;
  std::string_view what_;
  Report& report_;
  std::vector<std::string> known_;
};

}  // namespace sallyport::config
