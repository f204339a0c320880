#include "dataplane/net/address.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <charconv>
#include <optional>

namespace sallyport {
namespace {

// All of `text` as a decimal number up to `max`; no sign, no blanks.
std::optional<uint32_t> parse_number(std::string_view text, uint32_t max) {
  uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stopped != end || text.empty() || value > max) {
    return std::nullopt;
  }
  return value;
}

std::string quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

void clear_host_bits(IpPrefix& prefix) {
  for (unsigned bit = prefix.length; bit < prefix.address.bits(); ++bit) {
    prefix.address.bytes[bit / 8] &= static_cast<uint8_t>(~(0x80u >> (bit % 8)));
  }
}

// A scope is an interface number, or a name as getnameinfo prints it.
std::optional<uint32_t> parse_scope(std::string_view text) {
  if (const auto number = parse_number(text, UINT32_MAX)) {
    return number;
  }
  const uint32_t index = if_nametoindex(std::string(text).c_str());
  return index == 0 ? std::nullopt : std::optional(index);
}

}  // namespace

IpAddress IpAddress::v4(const void* network_order) {
  IpAddress address;
  std::memcpy(address.bytes.data(), network_order, 4);
  address.family = Family::v4;
  return address;
}

IpAddress IpAddress::v6(const void* network_order) {
  IpAddress address;
  std::memcpy(address.bytes.data(), network_order, 16);
  address.family = Family::v6;
  return address;
}

bool IpPrefix::contains(Family family, const uint8_t* bytes) const {
  if (address.family != family) {
    return false;
  }
  const size_t whole = length / 8;
  const unsigned rest = length % 8;
  return std::memcmp(address.bytes.data(), bytes, whole) == 0 &&
         (rest == 0 || ((address.bytes[whole] ^ bytes[whole]) >> (8 - rest)) == 0);
}

IpPrefix prefix_of(const IpAddress& address, unsigned length) {
  IpPrefix prefix{address, static_cast<uint8_t>(length)};
  clear_host_bits(prefix);
  return prefix;
}

Result<IpAddress> parse_address(std::string_view text) {
  char copy[INET6_ADDRSTRLEN];
  if (text.size() < sizeof(copy) && text.find('\0') == std::string_view::npos) {
    copy[text.copy(copy, text.size())] = '\0';
    uint8_t bytes[16];
    if (inet_pton(AF_INET, copy, bytes) == 1) {
      return IpAddress::v4(bytes);
    }
    if (inet_pton(AF_INET6, copy, bytes) == 1) {
      return IpAddress::v6(bytes);
    }
  }
  return fail(quoted(text) + " is not an IPv4 or IPv6 address");
}

Result<IpPrefix> parse_prefix(std::string_view text) {
  const size_t slash = text.find('/');
  const auto address = parse_address(text.substr(0, slash));
  if (!address) {
    return std::unexpected(address.error());
  }
  IpPrefix prefix{*address, static_cast<uint8_t>(address->bits())};
  if (slash != std::string_view::npos) {
    const auto length = parse_number(text.substr(slash + 1), address->bits());
    if (!length) {
      return fail(quoted(text) + " needs a prefix length of 0 to " +
                  std::to_string(address->bits()));
    }
    prefix.length = static_cast<uint8_t>(*length);
  }
  clear_host_bits(prefix);
  return prefix;
}

Result<Endpoint> parse_endpoint(std::string_view text) {
  const bool bracketed = text.starts_with('[');
  const size_t colon = bracketed ? text.find("]:") : text.rfind(':');
  if (colon == std::string_view::npos) {
    return fail(quoted(text) + " is not an endpoint: write 192.0.2.1:51820 or [2001:db8::1]:51820");
  }
  std::string_view host = bracketed ? text.substr(1, colon - 1) : text.substr(0, colon);
  Endpoint endpoint;
  const size_t percent = bracketed ? host.find('%') : std::string_view::npos;
  if (percent != std::string_view::npos) {
    const auto scope = parse_scope(host.substr(percent + 1));
    if (!scope) {
      return fail(quoted(text) + " names no interface behind its '%'");
    }
    endpoint.scope = *scope;
    host = host.substr(0, percent);
  }
  const auto address = parse_address(host);
  if (!address) {
    return std::unexpected(address.error());
  }
  if ((address->family == Family::v6) != bracketed) {
    return fail(quoted(text) +
                ": an IPv6 address stands in brackets before its port, IPv4 does not");
  }
  const auto port = parse_number(text.substr(colon + (bracketed ? 2 : 1)), UINT16_MAX);
  if (!port) {
    return fail(quoted(text) + " needs a port of 0 to 65535");
  }
  endpoint.remote = *address;
  endpoint.port = static_cast<uint16_t>(*port);
  return endpoint;
}

std::string to_text(const IpAddress& address) {
  char text[INET6_ADDRSTRLEN];
  switch (address.family) {
    case Family::v4:
      return inet_ntop(AF_INET, address.bytes.data(), text, sizeof(text));
    case Family::v6:
      return inet_ntop(AF_INET6, address.bytes.data(), text, sizeof(text));
    case Family::none:
      break;
  }
  return "(none)";
}

std::string to_text(const IpPrefix& prefix) {
  return to_text(prefix.address) + "/" + std::to_string(prefix.length);
}

std::string to_text(const Endpoint& endpoint) {
  if (!endpoint.is_set()) {
    return "(none)";
  }
  const std::string port = ":" + std::to_string(endpoint.port);
  if (endpoint.remote.family == Family::v4) {
    return to_text(endpoint.remote) + port;
  }
  const std::string scope = endpoint.scope == 0 ? "" : "%" + std::to_string(endpoint.scope);
  return "[" + to_text(endpoint.remote) + scope + "]" + port;
}

socklen_t to_sockaddr(const Endpoint& endpoint, sockaddr_storage& out) {
  out = {};
  if (endpoint.remote.family == Family::v4) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(out);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(endpoint.port);
    std::memcpy(&v4.sin_addr, endpoint.remote.bytes.data(), 4);
    return sizeof(v4);
  }
  if (endpoint.remote.family == Family::v6) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(endpoint.port);
    v6.sin6_scope_id = endpoint.scope;
    std::memcpy(&v6.sin6_addr, endpoint.remote.bytes.data(), 16);
    return sizeof(v6);
  }
  return 0;
}

void from_sockaddr(const sockaddr_storage& in, Endpoint& out) {
  out.remote = {};
  out.port = 0;
  out.scope = 0;
  if (in.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(in);
    out.remote = IpAddress::v4(&v4.sin_addr);
    out.port = ntohs(v4.sin_port);
  } else if (in.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(in);
    out.remote = IpAddress::v6(&v6.sin6_addr);
    out.port = ntohs(v6.sin6_port);
    out.scope = v6.sin6_scope_id;
  }
}

}  // namespace sallyport
