#include "control/config_tree.h"

#include <algorithm>
#include <optional>

#include "control/config_text.h"
#include "control/limits.h"
#include "control/uapi.h"
#include "crypto/secret.h"

#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

namespace sallyport::config {
namespace {

bool is_secret(std::string_view key) {
  return key == "private_key" || key == "preshared_key";
}

unsigned begin_line(const toml::source_region& source) {
  return source.begin.line;
}

// What toml++ 3.3 does not take well is refused before it sees it: letters beyond ASCII outside of strings and comments (its
// test for blanks is undefined for them, and within strings of several lines), and keys of so many parts that the tree
// they make is deeper than a stack. Up to the first error in the text, strings and comments begin and end here as there.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
    at_ = text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  }

  // Empty when there is nothing to refuse; otherwise line() is where.
  std::string_view refused() {
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '"' || c == '\'') {
        if (text_.substr(at_, 3) == std::string(3, c)) {
          return "this is a string of several lines, which no key takes";
        }
        if (at_ > 0 && kBeforeStrings.find(text_[at_ - 1]) == std::string_view::npos) {
          return "a quote stands within a word";  // toml++ would read on, and not as a string
        }
        skip_string(c);
      } else if (c == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size()) - 1;
      } else if (static_cast<unsigned char>(c) >= 0x80) {
        return "a character beyond ASCII stands outside of a string; keys that have one are "
               "written in quotes";
      } else if (c == '.' && ++dots_ > kConfigKeyDotsMax) {
        return "a key with too many dots";
      } else if (kEndsOfKeys.find(c) != std::string_view::npos) {
        dots_ = 0;
        line_ += c == '\n';
      }
    }
    return {};
  }

  unsigned line() const { return line_; }

 private:
  static constexpr std::string_view kEndsOfKeys = "\n,=[]{}";
  static constexpr std::string_view kBeforeStrings =
      "\n\t ,=[{.\xbf";  // the last ends a byte order mark

  // From the opening quote to the closing one, or to the last character before the end of the line.
  void skip_string(char quote) {
    while (at_ + 1 < text_.size() && text_[at_ + 1] != '\n') {
      ++at_;
      if (text_[at_] == quote) {
        return;
      }
      if (quote == '"' && text_[at_] == '\\' && at_ + 1 < text_.size() && text_[at_ + 1] != '\n') {
        ++at_;
      }
    }
  }

  std::string_view text_;
  size_t at_ = 0, dots_ = 0;
  unsigned line_ = 1;
};

// toml++'s tree into ours; strings are moved, so that no second copy of a key stays behind.
class Converter {
 public:
  std::optional<Problem> failed;

  explicit Converter(const std::string& file) : file_(file) {}

  Node convert(toml::node& from, size_t depth) {
    Node to;
    to.line = begin_line(from.source());
    if (depth > kConfigDepthMax) {
      failed = failed
                   ? failed
                   : Problem{{file_, to.line}, "", "tables and lists are nested too deeply here"};
      return to;
    }
    if (auto* table = from.as_table()) {
      take_table(*table, to, depth);
    } else if (auto* array = from.as_array()) {
      to.kind = Node::Kind::array;
      to.children.reserve(array->size());
      for (toml::node& item : *array) {
        to.children.push_back(convert(item, depth + 1));
      }
    } else {
      take_value(from, to);
    }
    return to;
  }

 private:
  void take_table(toml::table& from, Node& to, size_t depth) {
    to.kind = Node::Kind::table;
    std::vector<std::pair<toml::source_position, Node>> entries;
    for (auto&& [key, value] : from) {
      Node entry = convert(value, depth + 1);
      entry.key = key.str();
      const toml::source_position place =
          key.source().begin.line != 0 ? key.source().begin : value.source().begin;
      entry.line = place.line;
      entries.emplace_back(place, std::move(entry));
    }
    std::ranges::sort(entries, {}, [](const auto& entry) {
      return std::pair(entry.first.line, entry.first.column);
    });
    for (auto& [place, entry] : entries) {
      to.children.push_back(std::move(entry));
    }
  }

  static void take_value(toml::node& from, Node& to) {
    if (auto* text = from.as_string()) {
      to.kind = Node::Kind::string;
      to.text = std::move(text->get());
    } else if (const auto* integer = from.as_integer()) {
      to.kind = Node::Kind::integer;
      to.integer = integer->get();
    } else if (const auto* real = from.as_floating_point()) {
      to.kind = Node::Kind::real;
      to.real = real->get();
    } else if (const auto* boolean = from.as_boolean()) {
      to.kind = Node::Kind::boolean;
      to.boolean = boolean->get();
    } else {
      to.kind = Node::Kind::other;
    }
  }

  const std::string& file_;
};

}  // namespace

std::expected<Node, Problem> parse_tree(std::string_view text, const std::string& file) {
  Scanner scanner(text);
  if (const std::string_view refused = scanner.refused(); !refused.empty()) {
    return std::unexpected(Problem{{file, scanner.line()}, "", std::string(refused)});
  }
  toml::parse_result parsed = toml::parse(text, std::string_view(file));
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return std::unexpected(Problem{{file, begin_line(error.source())},
                                   "",
                                   "this is not TOML: " + std::string(error.description())});
  }
  Converter converter(file);
  Node root = converter.convert(parsed.table(), 0);
  if (converter.failed) {
    wipe_keys(root);
    return std::unexpected(std::move(*converter.failed));
  }
  return root;
}

const Node* Node::find(std::string_view name) const {
  const auto found = std::ranges::find(children, name, &Node::key);
  return kind != Kind::table || found == children.end() ? nullptr : &*found;
}

std::string_view kind_name(Node::Kind kind) {
  switch (kind) {
    case Node::Kind::string:
      return "a string";
    case Node::Kind::integer:
      return "an integer";
    case Node::Kind::real:
      return "a number with a fraction";
    case Node::Kind::boolean:
      return "true or false";
    case Node::Kind::array:
      return "a list";
    case Node::Kind::table:
      return "a table";
    case Node::Kind::other:
      break;
  }
  return "a date or time";
}

namespace {

// Takes the first part off a dotted key: a name, quoted or bare, or "[3]" (then `index` is 3).
std::string take_part(std::string_view& key, size_t& index) {
  std::string part;
  index = 0;
  if (key.starts_with('[')) {
    const size_t end = std::min(key.find(']'), key.size() - 1);
    index = static_cast<size_t>(parse_number(key.substr(1, end - 1), UINT32_MAX).value_or(0));
    key.remove_prefix(end + 1);
  } else if (key.starts_with('"')) {
    size_t at = 1;
    for (; at < key.size() && key[at] != '"'; ++at) {
      at += key[at] == '\\' && at + 1 < key.size();
      part += key[at];
    }
    key.remove_prefix(std::min(at + 1, key.size()));
  } else {
    const size_t end = std::min(key.find_first_of(".["), key.size());
    part = key.substr(0, end);
    key.remove_prefix(end);
  }
  key.remove_prefix(key.starts_with('.'));
  return part;
}

}  // namespace

unsigned line_of(const Node& root, std::string_view dotted_key) {
  const Node* at = &root;
  unsigned line = 0;
  while (!dotted_key.empty()) {
    size_t index = 0;
    const std::string part = take_part(dotted_key, index);
    if (index != 0) {
      at = at->kind == Node::Kind::array && index <= at->children.size() ? &at->children[index - 1]
                                                                         : nullptr;
    } else {
      at = at->find(part);
    }
    if (at == nullptr) {
      break;
    }
    line = at->line != 0 ? at->line : line;
  }
  return line;
}

void wipe_keys(Node& root) {
  if (root.kind == Node::Kind::string && is_secret(root.key)) {
    wipe(root.text);
  }
  for (Node& child : root.children) {
    wipe_keys(child);
  }
}

}  // namespace sallyport::config
