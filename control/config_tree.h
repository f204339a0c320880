// ConfigTree: a TOML file as plain values, each with its line, in the file's order.
//
// The one place that knows toml++ (its header is slow to compile) and the only one where a file's syntax is judged. What
// stands above reads Nodes: config_section.h.
//
// Costs: about 120 bytes a value, and as much again in toml++ while it parses. Cannot: go on behind a syntax error; the
// first is the only one told.
// Thread rules: values.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "control/config.h"

namespace sallyport::config {

struct Node {
  enum class Kind : uint8_t { string, integer, real, boolean, array, table, other };
  Kind kind = Kind::table;
  bool boolean = false;
  unsigned line = 0;
  std::string key;   // its own, where it stands in a table
  std::string text;  // of a string
  int64_t integer = 0;
  double real = 0;
  std::vector<Node> children;  // of an array or a table

  const Node* find(std::string_view name) const;
};

std::expected<Node, Problem> parse_tree(std::string_view text, const std::string& file);

// "a string", "a table", ...
std::string_view kind_name(Node::Kind kind);

// The line of the thing that a dotted key names, or of the last part of it that is there; 0 when none is.
unsigned line_of(const Node& root, std::string_view dotted_key);

// Zeroes the text of every private_key and preshared_key.
void wipe_keys(Node& root);

}  // namespace sallyport::config
