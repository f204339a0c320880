#include "control/config_text.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "control/limits.h"
#include "control/load_progress.h"
#include "control/uapi.h"
#include "crypto/secret.h"
#include "dataplane/base/descriptor.h"

namespace sallyport::config {
namespace {

constexpr size_t kKeyTextSize = 44;  // base64 of 32 bytes, with its '='

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool is_word(char c) {
  return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z') || c == '-' || c == '_';
}

}  // namespace

// -- Words

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) {
    text.remove_prefix(1);
  }
  while (!text.empty() && is_blank(text.back())) {
    text.remove_suffix(1);
  }
  return text;
}

std::string lowered(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), lower);
  return out;
}

bool equal_ignoring_case(std::string_view left, std::string_view right) {
  return std::ranges::equal(left, right, {}, lower, lower);
}

std::string quoted(std::string_view text) {
  constexpr size_t kShown = 80;
  std::string shown(text.substr(0, kShown));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') {
      c = '?';
    }
  }
  return "'" + shown + (text.size() > kShown ? "...'" : "'");
}

std::string dotted(std::string_view parent, std::string_view key) {
  std::string out(parent);
  if (!out.empty()) {
    out += '.';
  }
  if (!key.empty() && std::ranges::all_of(key, is_word)) {
    return out.append(key);
  }
  out += '"';
  for (const char c : key) {
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return out + '"';
}

std::string indexed(std::string_view parent, size_t index) {
  return std::string(parent) + "[" + std::to_string(index + 1) + "]";
}

std::string not_known(std::string_view what, std::string_view word,
                      const std::vector<std::string_view>& known) {
  std::string text = "there is no " + std::string(what) + " " + quoted(word);
  if (const std::string near = nearest(word, known); !near.empty()) {
    return text + ": did you mean '" + near + "'?";
  }
  if (known.empty()) {
    return text + ", nor any other";
  }
  constexpr size_t kListed = 24;
  text += "; there are: ";
  for (size_t i = 0; i < std::min(known.size(), kListed); ++i) {
    text.append(i == 0 ? "" : ", ").append(known[i].substr(0, kConfigNameMax));
  }
  return text + (known.size() > kListed ? ", ..." : "");
}

std::string name_problem(std::string_view name) {
  if (name.empty() || name.size() > kConfigNameMax) {
    return "a name has 1 to " + std::to_string(kConfigNameMax) + " characters";
  }
  const bool printable = std::ranges::none_of(
      name, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; });
  if (!printable || name.front() == '!' || name.front() == '@' || is_blank(name.front()) ||
      is_blank(name.back())) {
    return quoted(name) +
           " is no name: it begins with neither '!' nor '@', has no blank at its "
           "ends and no control character";
  }
  return {};
}

// -- Numbers

std::optional<uint64_t> parse_number(std::string_view text, uint64_t max) {
  const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
  if (hexadecimal) {
    text.remove_prefix(2);
  }
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value, hexadecimal ? 16 : 10);
  if (text.empty() || error != std::errc{} || stopped != end || value > max) {
    return std::nullopt;
  }
  return value;
}

Result<std::pair<uint16_t, uint16_t>> parse_port_range(std::string_view text) {
  const size_t dash = text.find('-');
  const auto first = parse_number(trimmed(text.substr(0, dash)), UINT16_MAX);
  const auto last = dash == std::string_view::npos
                        ? first
                        : parse_number(trimmed(text.substr(dash + 1)), UINT16_MAX);
  if (!first || !last) {
    return fail(quoted(text) + " is no port: 0 to 65535, or a range such as \"1000-2000\"");
  }
  if (*first > *last) {
    return fail(quoted(text) + " is a range whose first port is larger than its last");
  }
  return std::pair(static_cast<uint16_t>(*first), static_cast<uint16_t>(*last));
}

Result<uint8_t> parse_protocol(std::string_view text) {
  static constexpr std::pair<std::string_view, uint8_t> kNames[] = {
      {"tcp", 6},    {"udp", 17}, {"icmp", 1}, {"icmpv6", 58}, {"ipv6-icmp", 58},
      {"sctp", 132}, {"gre", 47}, {"esp", 50}, {"ah", 51}};
  for (const auto& [name, number] : kNames) {
    if (equal_ignoring_case(text, name)) {
      return number;
    }
  }
  if (const auto number = parse_number(text, UINT8_MAX)) {
    return static_cast<uint8_t>(*number);
  }
  return fail(
      quoted(text) +
      " is no protocol: tcp, udp, icmp, icmpv6, sctp, gre, esp, ah, or a number of 0 to 255");
}

Result<uint64_t> parse_duration_ms(std::string_view text) {
  static constexpr std::pair<std::string_view, uint64_t> kUnits[] = {
      {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}};
  constexpr uint64_t kMax = UINT32_MAX;  // of any unit: no product overflows
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view unit = trimmed(text.substr(digits));
  const auto count = parse_number(text.substr(0, digits), kMax);
  for (const auto& [name, factor] : kUnits) {
    if (count && unit == name) {
      return *count * factor;
    }
  }
  return fail(quoted(text) +
              " is no duration: a number of seconds, or \"500ms\", \"2s\", \"5m\", "
              "\"1h\"");
}

Result<Masked> parse_masked(std::string_view text, uint32_t max, uint32_t default_mask) {
  const size_t slash = text.find('/');
  const auto value = parse_number(text.substr(0, slash), max);
  const auto mask =
      slash == std::string_view::npos ? default_mask : parse_number(text.substr(slash + 1), max);
  if (!value || !mask) {
    return fail(quoted(text) + " is not VALUE or VALUE/MASK, each 0 to " + std::to_string(max) +
                " or in hexadecimal with 0x");
  }
  if (*mask == 0) {
    return fail(quoted(text) + ": a mask of 0 looks at nothing; leave it out");
  }
  if ((*value & ~*mask) != 0) {
    return fail(quoted(text) + ": the value has bits outside its mask" +
                (slash == std::string_view::npos
                     ? " (without one, it is " + std::to_string(default_mask) + ")"
                     : ""));
  }
  return Masked{static_cast<uint32_t>(*value), static_cast<uint32_t>(*mask), false};
}

// -- Keys

namespace {

// All ones when first <= c <= last, else zero; no branch.
unsigned within(unsigned c, char first, char last) {
  const unsigned below = (c - static_cast<unsigned char>(first)) >> 31;
  const unsigned above = (static_cast<unsigned char>(last) - c) >> 31;
  return (below | above) - 1u;
}

// The six bits that a character stands for; sets `bad` when it stands for none.
unsigned sextet(char character, unsigned& bad) {
  const unsigned c = static_cast<unsigned char>(character);
  const unsigned upper = within(c, 'A', 'Z');
  const unsigned small = within(c, 'a', 'z');
  const unsigned digit = within(c, '0', '9');
  const unsigned plus = within(c, '+', '+');
  const unsigned slash = within(c, '/', '/');
  bad |= ~(upper | small | digit | plus | slash);
  return (upper & (c - 'A')) | (small & (c - 'a' + 26)) | (digit & (c - '0' + 52)) | (plus & 62u) |
         (slash & 63u);
}

std::string key_length_problem(std::string_view text) {
  std::string problem =
      "a key is 44 characters of base64, the last a '=', as `wg genkey` and "
      "`wg pubkey` print it; this has " +
      std::to_string(text.size());
  const bool hexadecimal = text.size() == 64 && text.find_first_not_of("0123456789abcdefABCDEF") ==
                                                    std::string_view::npos;
  return problem + (hexadecimal ? " and is hexadecimal, the UAPI's form" : "");
}

std::string foreign_character_problem(std::string_view text) {
  const size_t at =
      text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
  return "its character " + std::to_string(std::min(at, text.size()) + 1) +
         " is not of base64; was the key copied whole?";
}

}  // namespace

Result<KeyBytes> parse_key_text(std::string_view text) {
  if (text.size() != kKeyTextSize) {
    return fail(key_length_problem(text));
  }
  if (text.back() != '=') {
    return fail("a key's last character is '='; was the key copied whole?");
  }
  KeyBytes key{};
  unsigned bad = 0, bits = 0, kept = 0;
  size_t out = 0;
  for (const char c : text.substr(0, kKeyTextSize - 1)) {
    bits = bits << 6 | sextet(c, bad);
    kept += 6;
    if (kept >= 8) {
      kept -= 8;
      key[out++] = static_cast<uint8_t>(bits >> kept);
      bits &= (1u << kept) - 1;
    }
  }
  if (bad != 0 || bits != 0) {
    crypto::secure_zero(key.data(), key.size());
    return fail(bad != 0 ? foreign_character_problem(text.substr(0, kKeyTextSize - 1))
                         : "its last letter stands for more than 32 bytes: some character of the "
                           "key was changed");
  }
  return key;
}

// -- Addresses

Result<IpPrefix> parse_interface_address(std::string_view text) {
  const auto prefix = parse_prefix(text);
  if (!prefix) {
    return std::unexpected(prefix.error());
  }
  return IpPrefix{*parse_address(text.substr(0, text.find('/'))), prefix->length};
}

namespace {

// The last address of a prefix.
IpAddress last_of(const IpPrefix& prefix) {
  IpAddress last = prefix.address;
  for (unsigned bit = prefix.length; bit < last.bits(); ++bit) {
    last.bytes[bit / 8] |= static_cast<uint8_t>(0x80u >> bit % 8);
  }
  return last;
}

// What no host has: the unspecified address, and those of groups.
bool is_nobodys(const IpAddress& address) {
  const bool group =
      address.family == Family::v4 ? (address.bytes[0] & 0xf0) >= 0xe0 : address.bytes[0] == 0xff;
  return group || address.bytes == IpAddress{}.bytes;
}

}  // namespace

Result<AddressRange> parse_address_range(std::string_view text) {
  const size_t dash = text.find('-');
  AddressRange range;
  if (dash == std::string_view::npos) {
    const auto prefix = parse_prefix(text);
    if (!prefix) {
      return std::unexpected(prefix.error());
    }
    range = {prefix->address, last_of(*prefix)};
  } else {
    const auto first = parse_address(trimmed(text.substr(0, dash)));
    const auto last = parse_address(trimmed(text.substr(dash + 1)));
    if (!first || !last) {
      return std::unexpected((first ? last : first).error());
    }
    range = {*first, *last};
  }
  if (range.first.family != range.last.family) {
    return fail(quoted(text) + " is a range from one family into the other");
  }
  if (range.last.bytes < range.first.bytes) {
    return fail(quoted(text) + " is a range whose first address is larger than its last");
  }
  if (is_nobodys(range.first) || is_nobodys(range.last)) {
    return fail(quoted(text) + " has addresses that no host can have");
  }
  return range;
}

namespace {

std::string host_name_problem(std::string_view host) {
  constexpr size_t kNameMax = 253, kLabelMax = 63;
  if (host.ends_with('.')) {
    host.remove_suffix(1);
  }
  if (host.empty() || host.size() > kNameMax) {
    return "a host's name has 1 to 253 characters";
  }
  for (size_t begin = 0; begin <= host.size();) {
    const size_t end = std::min(host.find('.', begin), host.size());
    if (end == begin || end - begin > kLabelMax) {
      return "between the dots of a host's name stand 1 to 63 characters";
    }
    begin = end + 1;
  }
  if (!std::ranges::all_of(host, [](char c) { return is_word(c) || c == '.'; })) {
    return "a host's name is made of letters, digits, '-' and '.'";
  }
  const std::string_view last = host.substr(host.rfind('.') + 1);
  if (std::ranges::all_of(last, is_digit)) {
    return "this is neither an IPv4 address nor a host's name";
  }
  return {};
}

}  // namespace

Result<EndpointText> parse_endpoint_text(std::string_view text) {
  const auto bad = [text](std::string_view what) {
    return fail(quoted(text) + ": " + std::string(what));
  };
  constexpr std::string_view kForm =
      "an endpoint is vpn.example.net:51820, 192.0.2.1:51820 or [2001:db8::1]:51820";
  const bool bracketed = text.starts_with('[');
  const size_t colon = bracketed ? text.find("]:") : text.rfind(':');
  if (colon == std::string_view::npos) {
    return bad(bracketed ? std::string(kForm) : "the port is missing: " + std::string(kForm));
  }
  EndpointText endpoint;
  endpoint.host = bracketed ? text.substr(1, colon - 1) : text.substr(0, colon);
  const auto port = parse_number(text.substr(colon + (bracketed ? 2 : 1)), UINT16_MAX);
  if (!port || *port == 0) {
    return bad("the port is a number of 1 to 65535");
  }
  endpoint.port = static_cast<uint16_t>(*port);
  const size_t percent = bracketed ? endpoint.host.find('%') : std::string::npos;
  const auto address = parse_address(std::string_view(endpoint.host).substr(0, percent));
  if (address) {
    endpoint.numeric = true;
    if ((address->family == Family::v6) != bracketed) {
      return bad("an IPv6 address stands in brackets before its port, IPv4 does not");
    }
    if (percent != std::string::npos && percent + 1 == endpoint.host.size()) {
      return bad("behind '%' stands an interface's name or number");
    }
    return endpoint;
  }
  if (bracketed) {
    return bad("in brackets stands an IPv6 address");
  }
  if (endpoint.host.find(':') != std::string::npos) {
    return bad("an IPv6 address stands in brackets before its port: [2001:db8::1]:51820");
  }
  if (const std::string problem = host_name_problem(endpoint.host); !problem.empty()) {
    return bad(problem);
  }
  return endpoint;
}

// -- Files

namespace {

// Until there is something to read, or nobody writes any more. False: given up meanwhile.
bool wait_for_bytes(int fd, const LoadProgress* progress) {
  constexpr int kLookEvery = 100;  // ms
  pollfd one{fd, POLLIN, 0};
  for (;;) {
    if (progress != nullptr && progress->cancelled()) {
      return false;
    }
    if (const int got = poll(&one, 1, kLookEvery); got > 0 || (got < 0 && errno != EINTR)) {
      return true;  // an error shows when it is read
    }
  }
}

}  // namespace

Result<std::string> read_whole(const std::string& path, size_t bytes_max, unsigned* mode,
                               const LoadProgress* progress) {
  if (path.find('\0') != std::string::npos) {
    return fail(quoted(path) + " is no path");
  }
  const Descriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status = {};
  if (fd.get() < 0 || fstat(fd.get(), &status) != 0) {
    return fail_errno("cannot read " + path);
  }
  if (!S_ISREG(status.st_mode) && !S_ISFIFO(status.st_mode)) {
    return fail("cannot read " + path + ": it is no file");
  }
  if (mode != nullptr) {
    *mode = S_ISREG(status.st_mode) ? status.st_mode & 07777u : 0;
  }
  // Reserved whole: growing would leave copies of keys behind.
  std::string text;
  text.reserve(std::min(static_cast<size_t>(status.st_size), bytes_max) + 1);
  std::array<char, 64 * 1024> block;
  ssize_t got = -1;
  int error = ECANCELED;
  while (wait_for_bytes(fd.get(), progress)) {
    got = read(fd.get(), block.data(), block.size());
    error = errno;
    if (got < 0 && (error == EAGAIN || error == EINTR)) {
      continue;
    }
    if (got <= 0 || text.size() > bytes_max) {
      break;
    }
    text.append(block.data(), static_cast<size_t>(got));
    got = -1;
    error = ECANCELED;
  }
  crypto::secure_zero(block.data(), block.size());
  if (got < 0 || text.size() > bytes_max) {
    wipe(text);
    return got < 0 ? fail_errno("cannot read " + path, error)
                   : fail("cannot read " + path + ": it is larger than " +
                          std::to_string(bytes_max) + " bytes");
  }
  return text;
}

}  // namespace sallyport::config
