// Addresses: an IP address, an IP prefix and a UDP endpoint, as plain values of fixed size.
//
// Words that every room above shares. They hold network-order bytes, as they stand in a packet; a
// v4 address uses the first four of sixteen and leaves the rest zero, so that equality is one
// memcmp. Text comes from and goes to inet_pton's notation. Cold code formats; nothing here
// allocates except to_text.
#pragma once

#include <netinet/in.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "dataplane/base/result.h"

namespace sallyport {

enum class Family : uint8_t { none = 0, v4 = 4, v6 = 6 };

struct IpAddress {
  std::array<uint8_t, 16> bytes{};
  Family family = Family::none;

  static IpAddress v4(const void* network_order);
  static IpAddress v6(const void* network_order);

  bool is_set() const { return family != Family::none; }
  unsigned bits() const { return family == Family::v4 ? 32 : 128; }
  bool operator==(const IpAddress&) const = default;
};

struct IpPrefix {
  IpAddress address;  // bits beyond length are zero
  uint8_t length = 0;

  bool operator==(const IpPrefix&) const = default;
  // `bytes` in network order, as many as the family has.
  bool contains(Family family, const uint8_t* bytes) const;
  bool contains(const IpAddress& other) const { return contains(other.family, other.bytes.data()); }
};

// The prefix of this length that the address lies in.
IpPrefix prefix_of(const IpAddress& address, unsigned length);

// Where an outer datagram goes or came from, and by which of our addresses: `local` and `interface`
// are what IP_PKTINFO said of the last authenticated packet, and are used as the source of replies
// while they work.
struct Endpoint {
  IpAddress remote;
  IpAddress local;
  uint16_t port = 0;       // host order
  uint32_t scope = 0;      // v6 link-local scope, else 0
  uint32_t interface = 0;  // ifindex the packet arrived on, 0 unknown

  bool is_set() const { return remote.is_set(); }
  bool same_remote(const Endpoint& other) const {
    return remote == other.remote && port == other.port && scope == other.scope;
  }
  bool operator==(const Endpoint&) const = default;
};

Result<IpAddress> parse_address(std::string_view text);

// "10.0.0.0/8", "::/0"; a bare address is /32 or /128. Bits beyond the length are cleared.
Result<IpPrefix> parse_prefix(std::string_view text);

// "192.0.2.1:51820", "[2001:db8::1]:51820", "[fe80::1%3]:51820". Numbers only, no names of hosts; a
// scope may be an interface's name, because that is what getnameinfo prints.
Result<Endpoint> parse_endpoint(std::string_view text);

std::string to_text(const IpAddress& address);
std::string to_text(const IpPrefix& prefix);
std::string to_text(const Endpoint& endpoint);  // the remote part

// Fills a sockaddr for sendmsg and returns its length; the reverse for recvmsg.
socklen_t to_sockaddr(const Endpoint& endpoint, sockaddr_storage& out);
void from_sockaddr(const sockaddr_storage& in, Endpoint& out);

}  // namespace sallyport
