#include "control/uapi.h"

#include <charconv>

#include "control/limits.h"
#include "crypto/secret.h"

namespace sallyport {
namespace {

std::string quoted(std::string_view text) {
  constexpr size_t kShown = 60;  // enough to recognise, and never a whole line of somebody's file
  return "'" + std::string(text.substr(0, kShown)) + (text.size() > kShown ? "...'" : "'");
}

std::unexpected<Error> bad_value(std::string_view key, std::string_view value,
                                 std::string_view wanted) {
  return fail(std::string(key) + "=" + quoted(value) + ": " + std::string(wanted));
}

// Never shows the value: it may be most of a secret.
std::unexpected<Error> bad_key(std::string_view key) {
  return fail(std::string(key) + ": a key is 64 hexadecimal digits");
}

int hex_digit(char digit) {
  if (digit >= '0' && digit <= '9') {
    return digit - '0';
  }
  if (digit >= 'a' && digit <= 'f') {
    return digit - 'a' + 10;
  }
  if (digit >= 'A' && digit <= 'F') {
    return digit - 'A' + 10;
  }
  return -1;
}

bool parse_key(std::string_view text, KeyBytes& key) {
  if (text.size() != 2 * key.size()) {
    return false;
  }
  for (size_t i = 0; i < key.size(); ++i) {
    const int high = hex_digit(text[2 * i]);
    const int low = hex_digit(text[2 * i + 1]);
    if (high < 0 || low < 0) {
      return false;
    }
    key[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

// All of the text as a decimal number: no sign, no blanks.
template <class Word>
bool parse_number(std::string_view text, Word& value) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  return !text.empty() && error == std::errc{} && stopped == end;
}

template <class Word>
Result<void> take_number(std::string_view key, std::string_view text, std::optional<Word>& out,
                         std::string_view wanted) {
  Word value = 0;
  if (!parse_number(text, value)) {
    return bad_value(key, text, wanted);
  }
  out = value;
  return {};
}

Result<void> take_key(std::string_view key, std::string_view text, std::optional<KeyBytes>& out) {
  KeyBytes bytes{};
  if (!parse_key(text, bytes)) {
    return bad_key(key);
  }
  out = bytes;
  crypto::secure_zero(bytes.data(), bytes.size());
  return {};
}

Result<void> take_true(std::string_view key, std::string_view text, bool& out) {
  if (text != "true") {
    return bad_value(key, text, "can only be true");
  }
  out = true;
  return {};
}

}  // namespace

// -- Reading

void SetParser::line(std::string_view text) {
  if (error_) {
    return;
  }
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    error_ = Error{quoted(text) + " is not of the form key=value", EPROTO};
    return;
  }
  const std::string_view key = text.substr(0, equals);
  const std::string_view value = text.substr(equals + 1);
  Result<void> read;
  if (key == "public_key") {
    read = begin_peer(value);
  } else if (request_.change.peers.empty()) {
    read = device_line(key, value);
  } else {
    read = peer_line(key, value);
  }
  if (!read) {
    error_ = std::move(read.error());
  }
}

Result<SetRequest> SetParser::finish() {
  SetRequest request = std::move(request_);
  std::optional<Error> error = std::move(error_);
  *this = SetParser();
  if (error) {
    wipe(request);
    return std::unexpected(std::move(*error));
  }
  return request;
}

Result<void> SetParser::begin_peer(std::string_view value) {
  if (request_.change.peers.size() >= kUapiPeerLinesMax) {
    return fail("more than " + std::to_string(kUapiPeerLinesMax) + " peers in one request", E2BIG);
  }
  PeerChange change;
  if (!parse_key(value, change.public_key)) {
    return bad_key("public_key");
  }
  request_.change.peers.push_back(std::move(change));
  return {};
}

Result<void> SetParser::device_line(std::string_view key, std::string_view value) {
  if (key == "private_key") {
    return take_key(key, value, request_.change.private_key);
  }
  if (key == "listen_port") {
    return take_number(key, value, request_.listen_port, "a port is 0 to 65535");
  }
  if (key == "fwmark") {
    return take_number(key, value, request_.change.fwmark, "a mark is 0 to 4294967295");
  }
  if (key == "replace_peers") {
    return take_true(key, value, request_.change.replace_peers);
  }
  return fail("unknown device key " + quoted(key));
}

Result<void> SetParser::peer_line(std::string_view key, std::string_view value) {
  if (key == "allowed_ip") {
    return allowed_ip_line(value);
  }
  if (key == "endpoint") {
    auto endpoint = parse_endpoint(value);
    if (!endpoint) {
      return std::unexpected(std::move(endpoint.error()));
    }
    peer().endpoint = *endpoint;
    return {};
  }
  if (key == "preshared_key") {
    return take_key(key, value, peer().preshared_key);
  }
  if (key == "persistent_keepalive_interval") {
    return take_number(key, value, peer().persistent_keepalive,
                       "an interval is 0 to 65535 seconds");
  }
  if (key == "replace_allowed_ips") {
    peer().allowed_ips.clear();
    return take_true(key, value, peer().replace_allowed_ips);
  }
  if (key == "remove") {
    return take_true(key, value, peer().remove);
  }
  if (key == "update_only") {
    return take_true(key, value, peer().update_only);
  }
  if (key == "protocol_version") {
    return value == "1" ? Result<void>{} : bad_value(key, value, "only version 1 is known");
  }
  return fail("unknown peer key " + quoted(key));
}

Result<void> SetParser::allowed_ip_line(std::string_view value) {
  if (++allowed_ips_ > kUapiAllowedIpLinesMax) {
    return fail(
        "more than " + std::to_string(kUapiAllowedIpLinesMax) + " allowed IPs in one request",
        E2BIG);
  }
  const bool remove = value.starts_with('-');
  auto prefix = parse_prefix(value.substr(remove ? 1 : 0));
  if (!prefix) {
    return std::unexpected(std::move(prefix.error()));
  }
  peer().allowed_ips.push_back({*prefix, remove});
  return {};
}

Result<SetRequest> parse_set(std::string_view lines) {
  SetParser parser;
  while (!lines.empty() && lines.front() != '\n') {
    const size_t end = lines.find('\n');
    parser.line(lines.substr(0, end));
    lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
  }
  return parser.finish();
}

// -- Writing

namespace {

bool is_zero(const KeyBytes& key) {
  return crypto::equal_constant_time(key.data(), KeyBytes{}.data(), key.size());
}

// Appends to a text that was reserved whole: growing would leave copies of keys behind.
void put(std::string& out, std::string_view key, std::string_view value) {
  out.append(key).append(1, '=').append(value).append(1, '\n');
}

void put(std::string& out, std::string_view key, uint64_t value) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  put(out, key, std::string_view(digits, static_cast<size_t>(end - digits)));
}

void put_key(std::string& out, std::string_view key, const KeyBytes& value) {
  std::string text = hex_of(value);
  put(out, key, text);
  wipe(text);
}

void put_peer(std::string& out, const PeerState& peer) {
  put_key(out, "public_key", peer.public_key);
  put_key(out, "preshared_key", peer.preshared_key);
  put(out, "protocol_version", 1);
  if (peer.endpoint.is_set()) {
    put(out, "endpoint", to_text(peer.endpoint));
  }
  const uint64_t handshake =
      peer.last_handshake > 0 ? static_cast<uint64_t>(peer.last_handshake) : 0;
  put(out, "last_handshake_time_sec", handshake / kSecond);
  put(out, "last_handshake_time_nsec", handshake % kSecond);
  put(out, "tx_bytes", peer.tx_bytes);
  put(out, "rx_bytes", peer.rx_bytes);
  put(out, "persistent_keepalive_interval", peer.persistent_keepalive);
  for (const IpPrefix& prefix : peer.allowed_ips) {
    put(out, "allowed_ip", to_text(prefix));
  }
}

size_t bytes_at_most(const TunnelState& state) {
  constexpr size_t kDevice = 256, kPeer = 640, kAllowedIp = 64;
  size_t bytes = kDevice;
  for (const PeerState& peer : state.peers) {
    bytes += kPeer + kAllowedIp * peer.allowed_ips.size();
  }
  return bytes;
}

}  // namespace

std::string format_get(const TunnelState& state, uint16_t listen_port) {
  std::string out;
  out.reserve(bytes_at_most(state));
  if (!is_zero(state.private_key)) {
    put_key(out, "private_key", state.private_key);
  }
  if (listen_port != 0) {
    put(out, "listen_port", listen_port);
  }
  if (state.fwmark != 0) {
    put(out, "fwmark", state.fwmark);
  }
  for (const PeerState& peer : state.peers) {
    put_peer(out, peer);
  }
  return out.append(format_get_errno(0));
}

std::string format_set_errno(int error_number) {
  return "errno=" + std::to_string(error_number == 0 ? 0 : -error_number) + "\n\n";
}

std::string format_get_errno(int error_number) {
  return "errno=" + std::to_string(error_number) + "\n\n";
}

std::string hex_of(const KeyBytes& key) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * key.size());
  for (const uint8_t byte : key) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string base64_of(const KeyBytes& key) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve(44);
  for (size_t i = 0; i < key.size(); i += 3) {
    const uint32_t second = i + 1 < key.size() ? key[i + 1] : 0;
    const uint32_t third = i + 2 < key.size() ? key[i + 2] : 0;
    const uint32_t bits = uint32_t{key[i]} << 16 | second << 8 | third;
    text += kDigits[bits >> 18];
    text += kDigits[bits >> 12 & 63];
    text += kDigits[bits >> 6 & 63];
    text += kDigits[bits & 63];
  }
  text.back() = '=';  // 32 bytes leave two in the last group
  return text;
}

// -- Forgetting

void wipe(std::string& text) {
  crypto::secure_zero(text.data(), text.size());
  text.clear();
}

void wipe(SetRequest& request) {
  if (request.change.private_key) {
    crypto::secure_zero(request.change.private_key->data(), sizeof(KeyBytes));
  }
  for (PeerChange& peer : request.change.peers) {
    if (peer.preshared_key) {
      crypto::secure_zero(peer.preshared_key->data(), sizeof(KeyBytes));
    }
  }
}

void wipe(TunnelState& state) {
  crypto::secure_zero(state.private_key.data(), state.private_key.size());
  for (PeerState& peer : state.peers) {
    crypto::secure_zero(peer.preshared_key.data(), peer.preshared_key.size());
  }
}

}  // namespace sallyport
