#include "control/show_text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

namespace sallyport {
namespace {

// -- Words

std::string clean(std::string text) {
  for (char& c : text) {
    c = static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return text;
}

const Json& member(const Json& object, const char* name) {
  static const Json kNothing;
  if (!object.is_object()) {
    return kNothing;
  }
  const auto found = object.find(name);
  return found == object.end() ? kNothing : *found;
}

std::string word_of(const Json& value) {
  if (value.is_null()) {
    return {};
  }
  if (value.is_string()) {
    return clean(value.get<std::string>());
  }
  if (value.is_boolean()) {
    return value.get<bool>() ? "yes" : "no";
  }
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string word(const Json& object, const char* name) {
  return word_of(member(object, name));
}

std::string bytes(const Json& object, const char* name) {
  const Json& value = member(object, name);
  return value.is_number() ? amount(value.get<uint64_t>()) : word_of(value);
}

// "wglan.toml:12"
std::string place(const Json& object) {
  const std::string file = word(object, "file"), line = word(object, "line");
  return file.empty() || line.empty() || line == "0" ? file : file + ":" + line;
}

std::string with(const std::string& text, const char* suffix) {
  return text.empty() ? text : text + suffix;
}

std::string amid(const char* before, const std::string& text, const char* after) {
  return text.empty() ? text : before + text + after;
}

// -- Columns

class Columns {
 public:
  using Row = std::vector<std::string>;

  // A heading that begins with '>' is of a column that is right-aligned: numbers.
  explicit Columns(Row headings) {
    for (std::string& heading : headings) {
      right_.push_back(heading.starts_with('>'));
      heading.erase(0, right_.back() ? 1 : 0);
    }
    rows_.push_back(std::move(headings));
  }

  void row(Row row) { rows_.push_back(std::move(row)); }

  // Columns in which nothing stands are left out.
  std::string text() const {
    std::vector<size_t> widths(right_.size());
    std::vector<bool> used(right_.size());
    for (const Row& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) {
        widths[i] = std::max(widths[i], length(row[i]));
        used[i] = used[i] || (&row != &rows_.front() && !row[i].empty());
      }
    }
    std::string text;
    for (const Row& row : rows_) {
      text += line(row, widths, used);
    }
    return text;
  }

 private:
  // In characters: names may be UTF-8.
  static size_t length(const std::string& text) {
    return static_cast<size_t>(std::ranges::count_if(
        text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
  }

  std::string line(const Row& row, const std::vector<size_t>& widths,
                   const std::vector<bool>& used) const {
    std::string text;
    for (size_t i = 0; i < row.size(); ++i) {
      if (!used[i]) {
        continue;
      }
      const std::string padding(widths[i] - length(row[i]), ' ');
      text += (text.empty() ? "" : "  ") + (right_[i] ? padding + row[i] : row[i] + padding);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  }

  std::vector<Row> rows_;
  std::vector<bool> right_;
};

// -- show

std::string rules_text(const Json& rules) {
  Columns columns({">priority", "name", "match", "action", ">packets", ">bytes", "where"});
  for (const Json& rule : rules) {
    columns.row({with(word(rule, "priority"), ":"), word(rule, "name"), word(rule, "text"),
                 word(rule, "action"), word(rule, "packets"), bytes(rule, "bytes"), place(rule)});
  }
  return columns.text();
}

std::string sets_text(const Json& sets) {
  Columns columns(
      {"set", ">prefixes", ">holes", ">memory", "loaded", "source", "loading", "error"});
  for (const Json& set : sets) {
    columns.row({word(set, "name"), word(set, "prefixes"), word(set, "holes"),
                 bytes(set, "memory_bytes"), word(set, "loaded_at"), word(set, "source"),
                 word(set, "loading"), word(set, "error")});
  }
  return columns.text();
}

std::string tables_text(const Json& tables) {
  std::string text;
  for (const Json& table : tables) {
    Columns columns({"  to", "exit", "where"});
    for (const Json& route : member(table, "routes")) {
      columns.row({"  " + word(route, "to"), word(route, "exit"), place(route)});
    }
    text += (text.empty() ? "" : "\n") + ("table " + word(table, "name")) + "\n" +
            (member(table, "routes").empty() ? "  no routes\n" : columns.text());
  }
  return text;
}

std::string state(const Json& exit) {
  const Json& alive = member(exit, "alive");
  const std::string why = word(exit, "why");
  if (!alive.is_boolean()) {
    return why;
  }
  return (alive.get<bool>() ? "alive" : "down") + amid(": ", why, "");
}

std::string exits_text(const Json& exits) {
  Columns columns({"exit", "kind", "state", ">rtt", ">loss", ">packets", ">bytes"});
  for (const Json& exit : exits) {
    const Json& loss = member(exit, "loss");
    columns.row(
        {word(exit, "name"), word(exit, "kind"), state(exit), with(word(exit, "rtt_ms"), " ms"),
         loss.is_number() ? std::to_string(std::lround(100 * loss.get<double>())) + " %" : "",
         word(exit, "packets"), bytes(exit, "bytes")});
    for (const Json& one : member(exit, "members")) {
      columns.row({"  " + word(one, "exit"), amid("weight ", word(one, "weight"), ""), state(one),
                   "", "", "", ""});
    }
  }
  return columns.text();
}

std::string handshake(const Json& peer) {
  const Json& age = member(peer, "last_handshake_age_s");
  return age.is_number() ? span_of_time(static_cast<int64_t>(age.get<double>())) + " ago" : "never";
}

std::string peers_text(const Json& peers) {
  Columns columns({"peer", "endpoint", "handshake", ">received", ">sent", "public key"});
  for (const Json& peer : peers) {
    columns.row({word(peer, "tunnel") + "/" + word(peer, "name"), word(peer, "endpoint"),
                 handshake(peer), bytes(peer, "rx_bytes"), bytes(peer, "tx_bytes"),
                 word(peer, "public_key")});
  }
  return columns.text();
}

std::string tunnels_text(const Json& tunnels) {
  Columns columns(
      {"tunnel", "state", ">mtu", ">port", "fwmark", ">peers", ">received", ">sent", "public key"});
  for (const Json& tunnel : tunnels) {
    const Json& up = member(tunnel, "up");
    columns.row({word(tunnel, "name"), up.is_boolean() ? (up.get<bool>() ? "up" : "down") : "",
                 word(tunnel, "mtu"), word(tunnel, "listen_port"), word(tunnel, "fwmark"),
                 word(tunnel, "peers"), bytes(tunnel, "rx_bytes"), bytes(tunnel, "tx_bytes"),
                 word(tunnel, "public_key")});
  }
  return columns.text();
}

std::string drops_text(const Json& drops) {
  Columns columns({"reason", ">packets", "tunnel", "peer", "rule"});
  for (const Json& drop : drops) {
    columns.row({word(drop, "reason"), word(drop, "packets"), word(drop, "tunnel"),
                 word(drop, "peer"), word(drop, "rule")});
  }
  return columns.text();
}

// "10.0.0.5:40000 > 198.51.100.7:443", or "10.0.0.5 > 198.51.100.7 id 7".
std::string ends_text(const Json& direction) {
  const auto end = [&](const char* address, const char* port) {
    const std::string text = word(direction, address), number = word(direction, port);
    return number.empty() ? text : (text.contains(':') ? "[" + text + "]" : text) + ":" + number;
  };
  return end("from", "sport") + " > " + end("to", "dport") +
         amid(" id ", word(direction, "id"), "");
}

std::string nat_text(const Json& flow) {
  std::string text;
  for (const char* kind : {"dnat", "snat"}) {
    const Json& rule = member(flow, kind);
    const std::string name = word(rule, "name"), number = word(rule, "number");
    if (!number.empty()) {
      text += (text.empty() ? "" : ", ") + (kind + (" " + (name.empty() ? number : name)));
    }
  }
  return text;
}

// Two lines a flow: as its first packet came in, and as answers come in.
std::string flows_text(const Json& result) {
  Columns columns(
      {"protocol", "state", "flow", "from", "exit", "nat", ">packets", ">bytes", ">idle", ">left"});
  const auto numbers = [](const Json& direction) {
    return std::array{word(direction, "packets"), bytes(direction, "bytes"),
                      with(word(direction, "idle_s"), " s")};
  };
  for (const Json& flow : member(result, "flows")) {
    const Json& original = member(flow, "original");
    const Json& reply = member(flow, "reply");
    const std::string peer = word(flow, "peer");
    const auto first = numbers(original), second = numbers(reply);
    columns.row({word(flow, "protocol"), word(flow, "state"), ends_text(original),
                 peer.empty() ? "host, by " + word(flow, "tunnel") : peer, word(flow, "exit"),
                 nat_text(flow), first[0], first[1], first[2], with(word(flow, "left_s"), " s")});
    columns.row({"", "", "  " + ends_text(reply), "", "", "", second[0], second[1], second[2], ""});
  }
  const std::string more = word(result, "more");
  const std::string total = word(result, "total");
  if (member(result, "flows").empty()) {
    return total.empty() || total == "0" ? "No flows.\n" : "None of " + total + " flows.\n";
  }
  return columns.text() + (more.empty() || more == "0" ? "" : "and " + more + " more\n");
}

std::string overview_text(const Json& overview) {
  std::string text;
  for (const auto& [name, value] : overview.items()) {
    std::string label = name;
    std::ranges::replace(label, '_', ' ');
    text += clean(label) + ": " + word_of(value) + "\n";
  }
  return text;
}

struct Kind {
  std::string_view what;
  std::string (*text)(const Json&);
  const char* nothing;  // when there is none
};
constexpr Kind kKinds[] = {
    {"rules", rules_text, "No rules: WireGuard's allowed IPs decide alone."},
    {"sets", sets_text, "No sets."},
    {"tables", tables_text, "No tables."},
    {"exits", exits_text, "No exits."},
    {"peers", peers_text, "No peers."},
    {"tunnels", tunnels_text, "No tunnels."},
    {"drops", drops_text, "Nothing was dropped."},
};

// -- explain

std::string steps_text(const Json& steps, const std::string& indent) {
  size_t width = 0;
  for (const Json& step : steps) {
    width = std::max(width, word(step, "stage").size());
  }
  std::string text;
  for (const Json& step : steps) {
    std::string stage = word(step, "stage");
    stage.resize(width, ' ');
    text += indent + stage + "  " + word(step, "text") + amid(" (", place(step), ")") + "\n";
  }
  return text;
}

// {"from":"a","to":"b"} as "from a, to b".
std::string members_text(const Json& object) {
  if (!object.is_object()) {
    return word_of(object);
  }
  std::string text;
  for (const auto& [name, value] : object.items()) {
    text += (text.empty() ? "" : ", ") + clean(name) + " " + word_of(value);
  }
  return text;
}

}  // namespace

std::string show_text(std::string_view what, const Json& result) {
  if (what == "status" && result.is_object()) {
    return overview_text(result);
  }
  if (what == "flows" && result.is_object()) {
    return flows_text(result);
  }
  for (const Kind& kind : kKinds) {
    if (kind.what == what && result.is_array()) {
      return result.empty() ? std::string(kind.nothing) + "\n" : kind.text(result);
    }
  }
  return result.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string explain_text(const Json& explanation) {
  std::string text = amid("", word(explanation, "packet"), "\n");
  text += steps_text(member(explanation, "steps"), "  ");
  text += amid("  outer: ", members_text(member(explanation, "outer")), "\n");
  return text + amid("verdict: ", word(explanation, "verdict"), "\n");
}

std::string trace_text(const Json& event) {
  const std::string verdict = word(event, "verdict");
  return word(event, "packet") + amid(": ", verdict, "") + "\n" +
         steps_text(member(event, "steps"), "    ");
}

}  // namespace sallyport
