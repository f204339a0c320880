#include "dataplane/net/address.h"

#include <gtest/gtest.h>
#include <net/if.h>

namespace sallyport {
namespace {

struct Text {
  const char* text;
  const char* canonical;  // null: refused
};

TEST(Address, ParsesAndPrints) {
  const Text table[] = {
      {"0.0.0.0", "0.0.0.0"},
      {"192.0.2.255", "192.0.2.255"},
      {"::", "::"},
      {"2001:DB8:0:0::1", "2001:db8::1"},
      {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
      {"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
      {"", nullptr},
      {" 1.2.3.4", nullptr},
      {"1.2.3.4 ", nullptr},
      {"1.2.3", nullptr},
      {"1.2.3.256", nullptr},
      {"1.2.3.4.5", nullptr},
      {"0x1.2.3.4", nullptr},
      {"2001:db8:::1", nullptr},
      {"12345::", nullptr},
      {"1::2::3", nullptr},
      {"fe80::1%1", nullptr},
      {"localhost", nullptr},
      {"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2555555555555", nullptr},
  };
  for (const auto& [text, canonical] : table) {
    const auto parsed = parse_address(text);
    ASSERT_EQ(parsed.has_value(), canonical != nullptr) << text;
    if (parsed) {
      EXPECT_EQ(to_text(*parsed), canonical);
      EXPECT_EQ(parse_address(to_text(*parsed)), *parsed);
    } else {
      EXPECT_NE(parsed.error().text.find(text), std::string::npos);
    }
  }
  EXPECT_FALSE(parse_address(std::string_view("1.2.3.4\0", 8)));
}

TEST(Address, AV4AddressLeavesTheRestZero) {
  const uint8_t bytes[] = {192, 0, 2, 1};
  const auto address = IpAddress::v4(bytes);
  EXPECT_EQ(address.family, Family::v4);
  EXPECT_EQ(address.bits(), 32u);
  EXPECT_EQ(address, *parse_address("192.0.2.1"));
  for (size_t i = 4; i < 16; ++i) {
    EXPECT_EQ(address.bytes[i], 0);
  }
}

TEST(Address, TheFamiliesAreNeverEqual) {
  EXPECT_NE(*parse_address("0.0.0.0"), *parse_address("::"));
  EXPECT_FALSE(IpAddress{}.is_set());
  EXPECT_TRUE(parse_address("0.0.0.0")->is_set());
  EXPECT_EQ(to_text(IpAddress{}), "(none)");
}

TEST(Prefix, ParsesClearsHostBitsAndPrints) {
  const Text table[] = {
      {"10.1.2.3/8", "10.0.0.0/8"},
      {"10.255.255.255/9", "10.128.0.0/9"},
      {"10.1.2.3/31", "10.1.2.2/31"},
      {"10.1.2.3", "10.1.2.3/32"},
      {"10.1.2.3/0", "0.0.0.0/0"},
      {"::/0", "::/0"},
      {"2001:db8:ffff::1/33", "2001:db8:8000::/33"},
      {"2001:db8::1", "2001:db8::1/128"},
      {"2001:db8::3/127", "2001:db8::2/127"},
      {"10.0.0.0/33", nullptr},
      {"::/129", nullptr},
      {"10.0.0.0/", nullptr},
      {"10.0.0.0/-1", nullptr},
      {"10.0.0.0/+8", nullptr},
      {"10.0.0.0/ 8", nullptr},
      {"10.0.0.0/8 ", nullptr},
      {"10.0.0.0/8/8", nullptr},
      {"10.0.0.0/255.0.0.0", nullptr},
      {"10.0.0.0/99999999999999", nullptr},
      {"/8", nullptr},
      {"", nullptr},
  };
  for (const auto& [text, canonical] : table) {
    const auto parsed = parse_prefix(text);
    ASSERT_EQ(parsed.has_value(), canonical != nullptr) << text;
    if (parsed) {
      EXPECT_EQ(to_text(*parsed), canonical);
      EXPECT_EQ(parse_prefix(to_text(*parsed)), *parsed);
    }
  }
}

TEST(Endpoint, ParsesAndPrints) {
  const Text table[] = {
      {"192.0.2.1:51820", "192.0.2.1:51820"},
      {"192.0.2.1:0", "192.0.2.1:0"},
      {"[2001:db8::1]:65535", "[2001:db8::1]:65535"},
      {"[::]:1", "[::]:1"},
      {"[fe80::1%3]:51820", "[fe80::1%3]:51820"},
      {"[fe80::1%4294967295]:1", "[fe80::1%4294967295]:1"},
      {"192.0.2.1", nullptr},
      {"192.0.2.1:", nullptr},
      {"192.0.2.1:65536", nullptr},
      {"192.0.2.1:-1", nullptr},
      {"192.0.2.1:http", nullptr},
      {"[192.0.2.1]:80", nullptr},
      {"2001:db8::1:51820", nullptr},
      {"[2001:db8::1]", nullptr},
      {"[2001:db8::1:80", nullptr},
      {"[]:80", nullptr},
      {"[fe80::1%]:80", nullptr},
      {"[fe80::1%nosuchinterface0]:80", nullptr},
      {"host.example:51820", nullptr},
      {":51820", nullptr},
      {"", nullptr},
      {"[", nullptr},
      {"]:", nullptr},
      {"[]:", nullptr},
  };
  for (const auto& [text, canonical] : table) {
    const auto parsed = parse_endpoint(text);
    ASSERT_EQ(parsed.has_value(), canonical != nullptr) << text;
    if (parsed) {
      EXPECT_EQ(to_text(*parsed), canonical);
      EXPECT_EQ(parse_endpoint(to_text(*parsed)), *parsed);
    }
  }
  EXPECT_EQ(to_text(Endpoint{}), "(none)");
}

TEST(Endpoint, AScopeMayBeAnInterfaceName) {
  const unsigned loopback = if_nametoindex("lo");
  ASSERT_NE(loopback, 0u);
  const auto parsed = parse_endpoint("[fe80::1%lo]:80");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->scope, loopback);
}

TEST(Endpoint, SockaddrIsTheKernelsLayout) {
  sockaddr_storage storage;
  const Endpoint v4 = *parse_endpoint("192.0.2.1:51820");
  ASSERT_EQ(to_sockaddr(v4, storage), sizeof(sockaddr_in));
  const auto& in = reinterpret_cast<const sockaddr_in&>(storage);
  EXPECT_EQ(in.sin_family, AF_INET);
  EXPECT_EQ(ntohs(in.sin_port), 51820);
  EXPECT_EQ(ntohl(in.sin_addr.s_addr), 0xc0000201u);

  const Endpoint v6 = *parse_endpoint("[fe80::1%7]:53");
  ASSERT_EQ(to_sockaddr(v6, storage), sizeof(sockaddr_in6));
  const auto& in6 = reinterpret_cast<const sockaddr_in6&>(storage);
  EXPECT_EQ(in6.sin6_family, AF_INET6);
  EXPECT_EQ(ntohs(in6.sin6_port), 53);
  EXPECT_EQ(in6.sin6_scope_id, 7u);
  EXPECT_EQ(in6.sin6_addr.s6_addr[0], 0xfe);

  EXPECT_EQ(to_sockaddr(Endpoint{}, storage), 0u);
}

TEST(Endpoint, SockaddrRoundTripKeepsTheLocalSide) {
  for (const char* text : {"192.0.2.1:51820", "[2001:db8::1]:1", "[fe80::1%7]:65535"}) {
    const Endpoint endpoint = *parse_endpoint(text);
    sockaddr_storage storage;
    to_sockaddr(endpoint, storage);
    Endpoint back;
    back.local = *parse_address("198.51.100.1");
    back.interface = 5;
    from_sockaddr(storage, back);
    EXPECT_TRUE(back.same_remote(endpoint)) << text;
    EXPECT_EQ(to_text(back.local), "198.51.100.1");
    EXPECT_EQ(back.interface, 5u);
  }
  Endpoint other = *parse_endpoint("[fe80::1%7]:65535");
  sockaddr_storage unknown{};
  unknown.ss_family = AF_UNIX;
  from_sockaddr(unknown, other);
  EXPECT_FALSE(other.is_set());
}

TEST(Endpoint, SameRemoteLooksAtNothingElse) {
  const Endpoint endpoint = *parse_endpoint("[fe80::1%7]:1");
  Endpoint other = endpoint;
  other.local = *parse_address("::1");
  other.interface = 9;
  EXPECT_TRUE(endpoint.same_remote(other));
  EXPECT_FALSE(endpoint == other);
  other.port = 2;
  EXPECT_FALSE(endpoint.same_remote(other));
  other = endpoint;
  other.scope = 8;
  EXPECT_FALSE(endpoint.same_remote(other));
}

}  // namespace
}  // namespace sallyport
