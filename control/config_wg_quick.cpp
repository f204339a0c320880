#include "control/config_wg_quick.h"

#include <algorithm>
#include <map>

#include "control/interface_name.h"
#include "control/limits.h"
#include "control/uapi.h"
#include "crypto/secret.h"

namespace sallyport::config {
namespace {

enum class Place { nowhere, interface, peer };

constexpr std::string_view kInterfaceKeys[] = {"PrivateKey", "ListenPort", "FwMark",  "Address",
                                               "MTU",        "DNS",        "Table",   "SaveConfig",
                                               "PreUp",      "PostUp",     "PreDown", "PostDown"};
constexpr std::string_view kPeerKeys[] = {"PublicKey", "PresharedKey", "Endpoint", "AllowedIPs",
                                          "PersistentKeepalive"};
// AmneziaWG's, which change what packets look like.
constexpr std::string_view kObfuscationKeys[] = {"Jc", "Jmin", "Jmax", "S1", "S2", "S3",
                                                 "S4", "H1",   "H2",   "H3", "H4", "I1",
                                                 "I2", "I3",   "I4",   "I5"};

constexpr uint32_t kMtuMin = 576, kMtuMax = 65455;  // as in TOML

// The word as it is spelled, when it is known at all.
template <class Words>
std::string_view spelled(const Words& words, std::string_view word) {
  for (const std::string_view known : words) {
    if (equal_ignoring_case(known, word)) {
      return known;
    }
  }
  return {};
}

// The name in a comment, or nothing: a comment that is a setting taken out of use is none.
std::string name_in(std::string_view comment) {
  while (comment.starts_with('#') || comment.starts_with(' ') || comment.starts_with('\t')) {
    comment.remove_prefix(1);
  }
  const size_t equals = comment.find('=');
  if (equals != std::string_view::npos) {
    const std::string key = lowered(trimmed(comment.substr(0, equals)));
    comment = key == "friendly_name" || key == "name" ? comment.substr(equals + 1) : "";
  }
  comment = trimmed(comment);
  return name_problem(comment).empty() ? std::string(comment) : std::string();
}

class Reader {
 public:
  Reader(Report& report, Tunnel& tunnel) : report_(report), tunnel_(tunnel) {}

  void line(std::string_view text) {
    ++line_;
    const size_t hash = text.find('#');
    const std::string_view comment =
        hash == std::string_view::npos ? std::string_view() : text.substr(hash);
    const std::string_view words = trimmed(text.substr(0, hash));
    if (words.empty()) {
      comment_line(comment);
      return;
    }
    if (words.starts_with('[')) {
      section(words);
    } else {
      setting(words);
    }
    comment_above_.clear();
  }

  void finish() {
    name_peers();
    if (!table_given_) {
      tunnel_.capture.allowed_ips = true;  // as wg-quick's Table = auto
    }
  }

 private:
  void error(std::string_view key, std::string text) {
    report_.error(line_, key_path(key), std::move(text));
  }
  void warning(std::string_view key, std::string text) {
    report_.warning(line_, key_path(key), std::move(text));
  }
  std::string key_path(std::string_view key) const;
  void comment_line(std::string_view comment);
  void section(std::string_view words);
  void setting(std::string_view words);
  void unknown(std::string_view key);
  void interface_setting(std::string_view key, std::string_view value);
  void peer_setting(std::string_view key, std::string_view value);
  void key_text(std::string_view key, std::string_view value, KeySource& out);
  void public_key(std::string_view value);
  void endpoint(std::string_view value);
  void table(std::string_view value);
  void save_config(std::string_view value);
  template <class Word>
  void number(std::string_view key, std::string_view value, uint64_t min, uint64_t max, Word& out);
  void address_list(std::string_view value);
  void allowed_ips(std::string_view value);
  void hook(std::string_view key, std::string_view value);
  void note_repeated(std::string_view key);
  void name_peers();
  Peer& peer() { return tunnel_.peers.back(); }

  Report& report_;
  Tunnel& tunnel_;
  unsigned line_ = 0;
  Place place_ = Place::nowhere;
  bool table_given_ = false;
  bool below_header_ = false;                  // nothing but [Peer] and comments so far
  std::string comment_above_;                  // on the line before
  std::map<std::string_view, unsigned> seen_;  // keys of this section, and their lines
};

// -- Lines

std::string Reader::key_path(std::string_view key) const {
  switch (place_) {
    case Place::interface:
      return dotted("Interface", key);
    case Place::peer:
      return dotted(indexed("Peer", tunnel_.peers.size() - 1), key);
    case Place::nowhere:
      break;
  }
  return std::string(key);
}

// A name stands right above [Peer] or right under it; under it counts more.
void Reader::comment_line(std::string_view comment) {
  const std::string name = name_in(comment);
  if (place_ == Place::peer && below_header_ && !name.empty()) {
    peer().name = name;
    below_header_ = false;
  }
  comment_above_ = name;
}

void Reader::section(std::string_view words) {
  seen_.clear();
  if (equal_ignoring_case(words, "[Interface]")) {
    place_ = Place::interface;
    if (tunnel_.where.file == report_.file && tunnel_.where.line == 0) {
      tunnel_.where.line = line_;
    }
  } else if (equal_ignoring_case(words, "[Peer]")) {
    place_ = Place::peer;
    Peer& added = tunnel_.peers.emplace_back();
    added.where = {report_.file, line_};
    added.name = comment_above_;
    below_header_ = true;
  } else {
    place_ = Place::nowhere;
    report_.error(line_, "", not_known("section", words, {"[Interface]", "[Peer]"}));
  }
}

void Reader::setting(std::string_view words) {
  below_header_ = false;
  const size_t equals = words.find('=');
  if (equals == std::string_view::npos) {
    // Not quoted: it may be a key that lost its name.
    report_.error(line_, "", "this line is neither \"Key = value\" nor a section nor a comment");
    return;
  }
  const std::string_view key = trimmed(words.substr(0, equals));
  const std::string_view value = trimmed(words.substr(equals + 1));
  if (place_ == Place::interface) {
    const std::string_view known = spelled(kInterfaceKeys, key);
    known.empty() ? unknown(key) : interface_setting(known, value);
  } else if (place_ == Place::peer) {
    const std::string_view known = spelled(kPeerKeys, key);
    known.empty() ? unknown(key) : peer_setting(known, value);
  } else {
    report_.error(line_, std::string(key), "stands in neither [Interface] nor [Peer]");
  }
}

void Reader::unknown(std::string_view key) {
  const bool peers = place_ == Place::peer;
  const std::string_view elsewhere = peers ? spelled(kInterfaceKeys, key) : spelled(kPeerKeys, key);
  if (!elsewhere.empty()) {
    error(key, peers ? "belongs under [Interface]" : "belongs under [Peer]");
  } else if (!spelled(kObfuscationKeys, key).empty()) {
    error(key, "is AmneziaWG's; Sallyport speaks plain WireGuard, which the other end must too");
  } else {
    const std::vector<std::string_view> known =
        peers ? std::vector<std::string_view>(std::begin(kPeerKeys), std::end(kPeerKeys))
              : std::vector<std::string_view>(std::begin(kInterfaceKeys), std::end(kInterfaceKeys));
    error(key, not_known(peers ? "key in [Peer]" : "key in [Interface]", key, known));
  }
}

// The last one counts, as with wg; but seldom on purpose.
void Reader::note_repeated(std::string_view key) {
  const auto [first, fresh] = seen_.emplace(key, line_);
  if (!fresh) {
    warning(key, "is given on line " + std::to_string(first->second) + " too; this one counts");
  }
}

// -- [Interface]

void Reader::interface_setting(std::string_view key, std::string_view value) {
  if (key == "Address") {
    address_list(value);
    return;
  }
  if (key == "PreUp" || key == "PostUp" || key == "PreDown" || key == "PostDown") {
    hook(key, value);
    return;
  }
  if (key == "DNS") {
    warning(key, "has no effect: the host's resolver is left to the host (resolvectl, resolvconf)");
    return;
  }
  note_repeated(key);
  if (key == "PrivateKey") {
    key_text(key, value, tunnel_.private_key);
  } else if (key == "ListenPort") {
    number(key, value, 0, UINT16_MAX, tunnel_.listen_port);
  } else if (key == "FwMark") {
    uint32_t mark = 0;
    if (!equal_ignoring_case(value, "off")) {
      number(key, value, 0, UINT32_MAX, mark);
    }
    tunnel_.fwmark = mark;
  } else if (key == "MTU") {
    number(key, value, kMtuMin, kMtuMax, tunnel_.mtu);
  } else if (key == "Table") {
    table(value);
  } else {
    save_config(value);
  }
}

template <class Word>
void Reader::number(std::string_view key, std::string_view value, uint64_t min, uint64_t max,
                    Word& out) {
  const auto number = parse_number(value, max);
  if (!number || *number < min) {
    error(key, quoted(value) + " is not a number of " + std::to_string(min) + " to " +
                   std::to_string(max));
    return;
  }
  out = static_cast<Word>(*number);
}

void Reader::key_text(std::string_view key, std::string_view value, KeySource& out) {
  wipe(out.text);
  out = KeySource{KeySource::Kind::inline_text, std::string(value), {report_.file, line_}};
  auto bytes = parse_key_text(value);
  if (!bytes) {
    error(key, bytes.error().text);
    return;
  }
  crypto::secure_zero(bytes->data(), bytes->size());
}

// Each of a list's items, trimmed.
template <class Use>
void for_each_item(std::string_view list, const Use& use) {
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    use(trimmed(list.substr(begin, end - begin)));
    begin = end + 1;
  }
}

void Reader::address_list(std::string_view value) {
  for_each_item(value, [&](std::string_view item) {
    const auto address = parse_interface_address(item);
    if (address) {
      tunnel_.addresses.push_back(*address);
    } else {
      error("Address", address.error().text);
    }
  });
}

void Reader::table(std::string_view value) {
  table_given_ = true;
  tunnel_.capture.allowed_ips = !equal_ignoring_case(value, "off");
  if (!equal_ignoring_case(value, "off") && !equal_ignoring_case(value, "auto")) {
    warning("Table",
            "has no effect: captured destinations go into the one table of Sallyport's "
            "own, host.table (180)");
  }
}

void Reader::save_config(std::string_view value) {
  if (value == "true") {
    warning("SaveConfig", "has no effect: Sallyport does not write to its configuration");
  } else if (value != "false") {
    error("SaveConfig", quoted(value) + " is not true or false");
  }
}

void Reader::hook(std::string_view key, std::string_view value) {
  for (std::string& replacement : hook_replacements(value, tunnel_.name)) {
    error(key, std::move(replacement));
  }
}

// -- [Peer]

void Reader::peer_setting(std::string_view key, std::string_view value) {
  if (key == "AllowedIPs") {
    allowed_ips(value);
    return;
  }
  note_repeated(key);
  if (key == "PublicKey") {
    public_key(value);
  } else if (key == "PresharedKey") {
    key_text(key, value, peer().preshared_key);
  } else if (key == "Endpoint") {
    endpoint(value);
  } else if (equal_ignoring_case(value, "off")) {
    peer().persistent_keepalive = 0;
  } else {
    number(key, value, 0, UINT16_MAX, peer().persistent_keepalive);
  }
}

void Reader::public_key(std::string_view value) {
  const auto bytes = parse_key_text(value);
  if (bytes) {
    peer().public_key = *bytes;
  } else {
    error("PublicKey", bytes.error().text);
  }
}

void Reader::endpoint(std::string_view value) {
  auto endpoint = parse_endpoint_text(value);
  if (endpoint) {
    peer().endpoint = std::move(*endpoint);
  } else {
    error("Endpoint", endpoint.error().text);
  }
}

void Reader::allowed_ips(std::string_view value) {
  if (value.empty()) {
    return;  // as with wg: none
  }
  for_each_item(value, [&](std::string_view item) {
    const auto prefix = parse_prefix(item);
    if (prefix) {
      peer().allowed_ips.push_back(*prefix);
    } else {
      error("AllowedIPs", prefix.error().text);
    }
  });
}

// Comments are not written to be names: of two alike, the later peer is called by its key.
void Reader::name_peers() {
  std::map<std::string_view, size_t> taken;
  for (Peer& each : tunnel_.peers) {
    if (each.name.empty() || taken.contains(each.name)) {
      each.name = each.public_key == KeyBytes{} ? "" : short_key(each.public_key);
    }
    taken.emplace(each.name, 0);
  }
}

}  // namespace

std::string short_key(const KeyBytes& key) {
  constexpr size_t kShown = 8;
  return base64_of(key).substr(0, kShown);
}

bool warn_of_mode(unsigned mode, const Tunnel& tunnel, Report& report) {
  constexpr unsigned kOthersRead = 0004;
  const auto secret = [&](const KeySource& source) {
    return source.kind == KeySource::Kind::inline_text && source.where.file == report.file;
  };
  const bool holds =
      secret(tunnel.private_key) || std::ranges::any_of(tunnel.peers, secret, &Peer::preshared_key);
  if ((mode & kOthersRead) == 0 || !holds) {
    return false;
  }
  report.warning(0, "", "holds a secret key and everybody may read it: chmod 600 it");
  return true;
}

void read_wg_quick_tunnel(std::string_view text, Report& report, Tunnel& tunnel) {
  Reader reader(report, tunnel);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    reader.line(text.substr(begin, end - begin));
    begin = end + 1;
  }
  reader.finish();
}

ReadResult read_wg_quick(std::string_view text, const std::string& file,
                         const std::string& tunnel_name) {
  ReadResult result;
  result.config.file = file;
  Tunnel& tunnel = result.config.tunnels.emplace_back();
  tunnel.name = tunnel_name;
  tunnel.where = {file, 0};
  Report report{file, result.errors, result.warnings};
  read_wg_quick_tunnel(text, report, tunnel);
  std::vector<Problem> wrong;
  check(result.config, wrong);
  for (Problem& problem : wrong) {
    // The reader's keys are the file's and check()'s are ours; the line says whether both mean one thing.
    const bool said = std::ranges::any_of(result.errors, [&](const Problem& other) {
      return problem.key.ends_with("public_key") && other.key.ends_with("PublicKey") &&
             other.where.line >= problem.where.line;
    });
    if (!said) {
      add_problem(result.errors, std::move(problem));
    }
  }
  return result;
}

}  // namespace sallyport::config
