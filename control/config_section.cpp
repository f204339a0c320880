#include "control/config_section.h"

#include <algorithm>
#include <array>

#include "control/limits.h"

namespace sallyport::config {
namespace {

const Node kNothing{};

// What people coming from other tools write, and what it is called here.
constexpr std::array<std::pair<std::string_view, std::string_view>, 22> kOtherWords = {{
    {"pref", "priority"},
    {"preference", "priority"},
    {"order", "priority"},
    {"proto", "ipproto"},
    {"protocol", "ipproto"},
    {"src", "from"},
    {"saddr", "from"},
    {"dst", "to"},
    {"daddr", "to"},
    {"mark", "fwmark"},
    {"iifname", "iif"},
    {"oifname", "oif"},
    {"ctstate", "state"},
    {"ct_state", "state"},
    {"redirect", "dnat"},
    {"to_source", "snat"},
    {"to_destination", "dnat"},
    {"clamp_mss", "mss"},
    {"sports", "sport"},
    {"dports", "dport"},
    {"dns", "resolver"},
    {"members", "group"},
}};

std::string_view our_word(std::string_view word, const std::vector<std::string_view>& known) {
  const auto other =
      std::ranges::find(kOtherWords, word, [](const auto& pair) { return pair.first; });
  const bool usable =
      other != kOtherWords.end() && std::ranges::find(known, other->second) != known.end();
  return usable ? other->second : std::string_view();
}

}  // namespace

void add_problem(std::vector<Problem>& to, Problem problem) {
  if (to.size() < kConfigProblemsMax) {
    to.push_back(std::move(problem));
  } else if (to.size() == kConfigProblemsMax) {
    to.push_back({{problem.where.file, 0}, "", "more problems, which are not listed"});
  }
}

void Report::error(unsigned line, std::string key, std::string text) {
  add_problem(errors, {{file, line}, std::move(key), std::move(text)});
}

void Report::warning(unsigned line, std::string key, std::string text) {
  add_problem(warnings, {{file, line}, std::move(key), std::move(text)});
}

void Report::wrong_kind(const Node& node, std::string key, std::string_view wanted) {
  error(node.line, std::move(key),
        "is " + std::string(kind_name(node.kind)) + ", where " + std::string(wanted) + " belongs");
}

Section::Section(const Node& node, std::string path, std::string_view what, Report& report)
    : node_(&node), path_(std::move(path)), what_(what), report_(report) {
  if (node.kind != Node::Kind::table) {
    report.wrong_kind(node, path_, "a table");
    node_ = &kNothing;
  }
}

bool Section::is_table() const {
  return node_ != &kNothing;
}

const Node* Section::take(std::string_view key) {
  known_.emplace_back(key);
  return node_->find(key);
}

void Section::finish() {
  const std::vector<std::string_view> known(known_.begin(), known_.end());
  for (const Node& child : node_->children) {
    if (std::ranges::find(known, child.key) != known.end()) {
      continue;
    }
    const std::string_view ours = our_word(child.key, known);
    report_.error(child.line, path(child.key),
                  ours.empty() ? not_known(what_, child.key, known)
                               : "this is called '" + std::string(ours) + "' here");
  }
}

unsigned Section::line_of(std::string_view key) const {
  const Node* node = node_->find(key);
  return node != nullptr ? node->line : node_->line;
}

void Section::error(std::string_view key, std::string text) {
  report_.error(line_of(key), path(key), std::move(text));
}

bool Section::text(std::string_view key, std::string& out) {
  const Node* node = take(key);
  if (node == nullptr) {
    return false;
  }
  if (node->kind != Node::Kind::string) {
    report_.wrong_kind(*node, path(key), "a string");
    return false;
  }
  out = node->text;
  return true;
}

bool Section::boolean(std::string_view key, bool& out) {
  const Node* node = take(key);
  if (node == nullptr) {
    return false;
  }
  if (node->kind != Node::Kind::boolean) {
    report_.wrong_kind(*node, path(key), "true or false");
    return false;
  }
  out = node->boolean;
  return true;
}

bool Section::number_in(std::string_view key, uint64_t min, uint64_t max, uint64_t& out) {
  const Node* node = take(key);
  if (node == nullptr) {
    return false;
  }
  const std::string wanted = "an integer of " + std::to_string(min) + " to " + std::to_string(max);
  if (node->kind != Node::Kind::integer) {
    report_.wrong_kind(*node, path(key), wanted);
    return false;
  }
  if (node->integer < 0 || static_cast<uint64_t>(node->integer) < min ||
      static_cast<uint64_t>(node->integer) > max) {
    error(key, std::to_string(node->integer) + " is not " + wanted);
    return false;
  }
  out = static_cast<uint64_t>(node->integer);
  return true;
}

bool Section::use_text(const Node& node, const std::string& path, const Use& use, bool numbers) {
  const bool number = numbers && node.kind == Node::Kind::integer;
  if (node.kind != Node::Kind::string && !number) {
    report_.wrong_kind(node, path, numbers ? "a string or an integer" : "a string");
    return false;
  }
  std::string problem = use(number ? std::to_string(node.integer) : node.text, node.line);
  if (!problem.empty()) {
    report_.error(node.line, path, std::move(problem));
    return false;
  }
  return true;
}

bool Section::one_text(std::string_view key, const Use& use, bool numbers) {
  const Node* node = take(key);
  return node != nullptr && use_text(*node, path(key), use, numbers);
}

bool Section::texts(std::string_view key, const Use& use, bool numbers) {
  const Node* node = take(key);
  if (node == nullptr) {
    return false;
  }
  if (node->kind != Node::Kind::array) {
    return use_text(*node, path(key), use, numbers);
  }
  if (node->children.empty()) {
    error(key, "an empty list says nothing: leave the key out");
    return false;
  }
  bool good = true;
  for (size_t i = 0; i < node->children.size(); ++i) {
    good &= use_text(node->children[i], indexed(path(key), i), use, numbers);
  }
  return good;
}

}  // namespace sallyport::config
