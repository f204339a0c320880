#include "dataplane/net/nptv6.h"

#include <gtest/gtest.h>

#include "tests/dataplane/net/shapes.h"

namespace sallyport::test {
namespace {

Nptv6 map_of(const char* inside, const char* outside) {
  return Nptv6::make(*parse_prefix(inside), *parse_prefix(outside)).value();
}

TEST(Nptv6, OfTheRfcAndOthers) {
  const struct {
    const char *inside, *outside, *address, *translated;
  } cases[] = {
      // RFC 6296 3.6.
      {"fd01:203:405::/48", "2001:db8:1::/48", "fd01:203:405:1::1234", "2001:db8:1:d550::1234"},
      // Shorter than /48: what is between is kept.
      {"fd01::/16", "2001::/16", "fd01:203:405:1::1234", "2001:203:405:dd01::1234"},
      // Longer: the first word of the interface identifier that is not all ones.
      {"fd00:0:0:1::/64", "2001:db8:0:2::/64", "fd00:0:0:1:1::5", "2001:db8:0:2:cf47::5"},
      {"fd00:0:0:1::/64", "2001:db8:0:2::/64", "fd00:0:0:1:ffff:1:0:5",
       "2001:db8:0:2:ffff:cf47:0:5"},
      // One's complement's other zero is not sent.
      {"fd00::/48", "fd01::/48", "fd00:0:0:0::9", "fd01:0:0:fffe::9"},
      {"fd00::/48", "fd01::/48", "fd00:0:0:1::9", "fd01:0:0:0::9"},
  };
  for (const auto& each : cases) {
    const Nptv6 map = map_of(each.inside, each.outside);
    IpAddress address = *parse_address(each.address);
    EXPECT_TRUE(map.is_inside(address.bytes.data()));
    EXPECT_FALSE(map.is_outside(address.bytes.data()));
    ASSERT_TRUE(map.to_outside(address.bytes.data()));
    EXPECT_EQ(to_text(address), to_text(*parse_address(each.translated)));
    EXPECT_TRUE(map.is_outside(address.bytes.data()));
    ASSERT_TRUE(map.to_inside(address.bytes.data()));
    EXPECT_EQ(to_text(address), to_text(*parse_address(each.address)));
  }
}

TEST(Nptv6, WhatCannotBeTranslatedStaysAsItIs) {
  const struct {
    const char *inside, *outside, *address;
  } cases[] = {
      {"fd00::/48", "2001:db8::/48", "fd00:0:0:ffff::1"},
      {"fd00::/56", "2001:db8::/56", "fd00:0:0:1:ffff:ffff:ffff:ffff"},
  };
  for (const auto& each : cases) {
    IpAddress address = *parse_address(each.address);
    EXPECT_FALSE(map_of(each.inside, each.outside).to_outside(address.bytes.data()));
    EXPECT_EQ(address, *parse_address(each.address));
  }
}

TEST(Nptv6, OnlyPrefixesOfIpv6UpTo64) {
  const IpPrefix good = *parse_prefix("fd00::/64");
  EXPECT_TRUE(Nptv6::make(good, good).has_value());
  EXPECT_FALSE(Nptv6::make(good, *parse_prefix("fd00::/65")).has_value());
  EXPECT_FALSE(Nptv6::make(*parse_prefix("10.0.0.0/8"), good).has_value());
  EXPECT_FALSE(Nptv6::make(good, IpPrefix{}).has_value());
}

TEST(Nptv6, ThereAndBackAndNoChecksumChanges) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 5000; ++round) {
    const auto prefix = [&] {
      const Bytes bytes = random_bytes(random, 16);
      IpAddress address = IpAddress::v6(bytes.data());
      if (random() % 4 == 0) {
        address = *parse_address("ffff:ffff:ffff:ffff::");
      }
      return *parse_prefix(to_text(address) + "/" + std::to_string(random() % 65));
    };
    const IpPrefix inside = prefix(), outside = prefix();
    const Nptv6 map = Nptv6::make(inside, outside).value();
    Shape shape;
    do {
      shape = random_shape(random);
    } while (shape.v4());
    const unsigned length = std::max(inside.length, outside.length);
    for (unsigned bit = 0; bit < length; ++bit) {
      const auto mask = static_cast<uint8_t>(0x80 >> bit % 8);
      uint8_t& byte = shape.ip[8 + bit / 8];
      byte = static_cast<uint8_t>((byte & ~mask) | (inside.address.bytes[bit / 8] & mask));
    }
    if (random() % 4 == 0) {
      put16(shape.ip, 8 + (length <= 48 ? 6 : 8), random() % 2 == 0 ? 0 : 0xffff);
    }
    shape.finish();
    Bytes packet = shape.bytes();
    ASSERT_TRUE(map.is_inside(packet.data() + 8));
    const Bytes before = packet;
    if (!map.to_outside(packet.data() + 8)) {
      ASSERT_EQ(packet, before);
      continue;
    }
    ASSERT_TRUE(map.is_outside(packet.data() + 8));
    Shape expected = shape;
    std::copy(packet.begin() + 8, packet.begin() + 24, expected.ip.begin() + 8);
    expected.finish();
    ASSERT_EQ(packet, expected.bytes()) << "the L4 checksum is right as it was";
    ASSERT_TRUE(map.to_inside(packet.data() + 8));
    ASSERT_EQ(packet, before);
  }
}

}  // namespace
}  // namespace sallyport::test
