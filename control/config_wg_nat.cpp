#include "control/config_wg_nat.h"

#include <algorithm>
#include <vector>

#include "control/config_text.h"

namespace sallyport::config {
namespace {

using Words = std::vector<std::string>;

// Blanks separate, quotes keep together and are taken off.
Words words_of(std::string_view command) {
  Words words;
  bool within = false;
  char quote = 0;
  for (const char c : command) {
    if (quote == 0 && (c == ' ' || c == '\t')) {
      within = false;
      continue;
    }
    if (!within) {
      words.emplace_back();
      within = true;
    }
    if (quote != 0 ? c == quote : c == '"' || c == '\'') {
      quote = quote != 0 ? '\0' : c;
    } else {
      words.back() += c;
    }
  }
  return words;
}

std::string in_quotes(const std::string& text) {
  return '"' + text + '"';
}

// iptables' "80", "80:90" and "22,80:90" as a value here.
std::string ports_value(std::string text, bool negated) {
  std::ranges::replace(text, ':', '-');
  std::vector<std::string> members;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string member = text.substr(begin, end - begin);
    const bool number = !negated && parse_number(member, UINT16_MAX).has_value();
    members.push_back(number ? member : in_quotes((negated ? "!" : "") + member));
    begin = end + 1;
  }
  std::string value;
  for (const std::string& member : members) {
    value += (value.empty() ? "" : ", ") + member;
  }
  return members.size() == 1 ? value : "[" + value + "]";
}

// One command, read from left to right. `good` turns false at the first word that is not understood.
class Command {
 public:
  Command(std::string_view command, std::string_view tunnel)
      : words_(words_of(command)), tunnel_(tunnel) {}

  std::optional<std::string> as_nat() {
    if (!read_program()) {
      return std::nullopt;
    }
    while (good_ && at_ < words_.size()) {
      option();
    }
    if (!good_ || !table_nat_ || !appends_ || action_.empty()) {
      return std::nullopt;
    }
    std::string text = "[[nat]]";
    if (!has_address_) {
      text += std::string(" family = \"") + (v6_ ? "ipv6" : "ipv4") + '"';
    }
    return text + keys_ + " " + action_;
  }

 private:
  bool read_program() {
    if (at_ < words_.size() && words_[at_] == "sudo") {
      ++at_;
    }
    const std::string program = next();
    const std::string name = program.substr(program.rfind('/') + 1);
    v6_ = name.starts_with("ip6tables");
    return v6_ || name.starts_with("iptables");
  }

  std::string next() {
    good_ = good_ && at_ < words_.size();
    return good_ ? words_[at_++] : std::string();
  }
  bool is(const std::string& word, std::initializer_list<std::string_view> names) const {
    return std::ranges::find(names, std::string_view(word)) != names.end();
  }
  void key(const char* name, const std::string& value) {
    keys_ += std::string(" ") + name + " = " + value;
  }
  void only_if(bool condition) { good_ = good_ && condition; }

  void option() {
    bool negated = false;
    std::string word = next();
    if (word == "!") {
      negated = true;
      word = next();
    }
    const std::string no = negated ? "!" : "";
    if (is(word, {"-s", "--source", "--src", "-d", "--destination", "--dst"})) {
      const bool source = is(word, {"-s", "--source", "--src"});
      const std::string address = next();
      only_if(parse_prefix(address).has_value());
      has_address_ |= !negated;
      key(source ? "from" : "to", in_quotes(no + address));
    } else if (is(word, {"-i", "--in-interface"})) {
      key("iif", in_quotes(no + interface(next())));
    } else if (is(word, {"-o", "--out-interface"})) {
      key("oif", in_quotes(no + interface(next())));
    } else if (is(word, {"-p", "--protocol"})) {
      const std::string protocol = next();
      only_if(parse_protocol(protocol).has_value());
      key("ipproto", in_quotes(no + protocol));
    } else if (is(word, {"--dport", "--destination-port", "--dports", "--sport", "--source-port",
                         "--sports"})) {
      key(word[2] == 'd' ? "dport" : "sport", ports_value(next(), negated));
    } else {
      only_if(!negated);
      plain_option(word);
    }
  }

  void plain_option(const std::string& word) {
    if (is(word, {"-t", "--table"})) {
      table_nat_ = next() == "nat";
    } else if (is(word, {"-A", "--append", "-I", "--insert"})) {
      appends_ = true;
      only_if(is(next(), {"PREROUTING", "POSTROUTING"}));
      if (at_ < words_.size() && parse_number(words_[at_], UINT32_MAX)) {
        ++at_;
      }
    } else if (is(word, {"-m", "--match"})) {
      only_if(is(next(), {"tcp", "udp", "multiport", "comment"}));
    } else if (word == "--comment") {
      next();
    } else if (is(word, {"-j", "--jump"})) {
      target(next());
    } else {
      only_if(is(word, {"-w", "--wait"}));
    }
  }

  // The tunnel's own by its name or wg-quick's word for it; any other is the host's.
  std::string interface(const std::string& name) const {
    return name == "%i" || name == tunnel_ ? std::string(tunnel_) : "host";
  }

  void target(const std::string& name) {
    if (name == "MASQUERADE") {
      action_ = "masquerade = true";
    } else if (name == "ACCEPT" || name == "RETURN") {
      action_ = "none = true";
    } else if (name == "SNAT") {
      only_if(next() == "--to-source");
      source(next());
    } else {
      only_if(name == "DNAT" && next() == "--to-destination");
      destination(next());
    }
    if (name == "MASQUERADE" && at_ < words_.size() && words_[at_] == "--to-ports") {
      ++at_;
      action_ += " ports = " + in_quotes(next());
    }
  }

  // "192.0.2.1", "192.0.2.1-192.0.2.9", each with ":1024-2000" behind it for IPv4.
  void source(const std::string& text) {
    const size_t colon = v6_ ? std::string::npos : text.rfind(':');
    const std::string address = text.substr(0, colon);
    only_if(parse_address_range(address).has_value());
    has_address_ = true;
    action_ = "snat = " + in_quotes(address);
    if (colon != std::string::npos) {
      only_if(parse_port_range(text.substr(colon + 1)).has_value());
      action_ += " ports = " + in_quotes(text.substr(colon + 1));
    }
  }

  void destination(const std::string& text) {
    const size_t bracket = text.rfind(']');
    const size_t colon = v6_ && bracket == std::string::npos
                             ? std::string::npos
                             : text.find(':', bracket == std::string::npos ? 0 : bracket);
    std::string address = text.substr(0, colon);
    if (address.starts_with('[') && address.ends_with(']')) {
      address = address.substr(1, address.size() - 2);
    }
    only_if(parse_address_range(address).has_value());
    has_address_ = true;
    action_ = "dnat = " + in_quotes(address);
    if (colon != std::string::npos) {
      const std::string ports = text.substr(colon + 1);
      only_if(parse_port_range(ports).has_value());
      action_ += " port = " + ports_value(ports, false);
    }
  }

  Words words_;
  std::string_view tunnel_;
  size_t at_ = 0;
  bool good_ = true, v6_ = false, table_nat_ = false, appends_ = false;
  bool has_address_ = false;  // which says the family
  std::string keys_, action_;
};

}  // namespace

std::optional<std::string> nat_replacement(std::string_view command, std::string_view tunnel) {
  return Command(command, tunnel).as_nat();
}

std::optional<std::string> mss_replacement(std::string_view command, std::string_view tunnel) {
  const Words words = words_of(command);
  const auto option = std::ranges::find(words, "--set-mss");
  if (option == words.end() || option + 1 == words.end() ||
      !parse_number(*(option + 1), UINT16_MAX)) {
    return std::nullopt;
  }
  return "[" + dotted("tunnel", tunnel) + "] mss = " + *(option + 1);
}

}  // namespace sallyport::config
