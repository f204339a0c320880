// ConfigDiffAbout: lines of a diff, each about one thing.
//
// What config_diff.cpp and config_diff_flows.cpp share.
// Thread rules: values.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/config.h"
#include "control/config_words.h"

namespace sallyport::config {

using Lines = std::vector<std::string>;

// Lines about one thing: "peer wglan/site-b: endpoint A -> B".
class About {
 public:
  About(Lines& lines, std::string name) : lines_(lines), name_(std::move(name)) {}

  void added(const std::string& what) { say(" added", what); }
  void removed() { lines_.push_back(name_ + " removed"); }
  void note(const std::string& what) { say("", what); }

  void text(const char* key, const std::string& from, const std::string& to) {
    if (from != to) {
      note(std::string(key) + " " + (from.empty() ? "none" : from) + " -> " +
           (to.empty() ? "none" : to));
    }
  }
  void number(const char* key, uint64_t from, uint64_t to, const char* zero = nullptr) {
    const auto word = [&](uint64_t value) {
      return value == 0 && zero != nullptr ? std::string(zero) : std::to_string(value);
    };
    text(key, word(from), word(to));
  }
  void mark(const char* key, std::optional<uint32_t> from, std::optional<uint32_t> to,
            const char* none) {
    const auto word = [&](std::optional<uint32_t> value) {
      return value ? hex_text(*value) : std::string(none);
    };
    text(key, word(from), word(to));
  }
  void secret(const char* what, const KeySource& from, const KeySource& to) {
    const bool was = from.kind != KeySource::Kind::none, is = to.kind != KeySource::Kind::none;
    if (from.kind != to.kind || from.text != to.text) {
      note(std::string("the ") + what +
           (was && is ? " changes"
            : is      ? " is added"
                      : " is removed"));
    }
  }
  // Order does not matter in these.
  template <class Value, class Text>
  void members(const char* what, const std::vector<Value>& from, const std::vector<Value>& to,
               const Text& text) {
    std::multiset<std::string> gone, come;
    for (const Value& value : from) {
      gone.insert(text(value));
    }
    for (const Value& value : to) {
      const std::string word = text(value);
      if (const auto same = gone.find(word); same != gone.end()) {
        gone.erase(same);
      } else {
        come.insert(word);
      }
    }
    listed(what, come, "added");
    listed(what, gone, "removed");
  }

 private:
  void say(const char* verb, const std::string& what) {
    lines_.push_back(name_ + verb + (what.empty() ? "" : ": ") + what);
  }
  void listed(const char* what, const std::multiset<std::string>& words, const char* verb) {
    if (words.size() > kWordsListMax) {
      note(std::to_string(words.size()) + " " + what + " " + verb);
    } else if (!words.empty()) {
      std::string line;
      for (const std::string& word : words) {
        line += (line.empty() ? "" : ", ") + word;
      }
      note(std::string(what) + " " + line + " " + verb);
    }
  }

  Lines& lines_;
  std::string name_;
};

void diff_nats(const Config& from, const Config& to, Lines& lines);
void diff_filters(const Config& from, const Config& to, Lines& lines);
void diff_flows(const Flows& from, const Flows& to, Lines& lines);

}  // namespace sallyport::config
