#include "dataplane/net/icmp.h"

#include <gtest/gtest.h>

#include "dataplane/net/parse.h"
#include "tests/dataplane/net/packets.h"

namespace sallyport::test {
namespace {

Bytes answer(Bytes packet, size_t room = kIcmpErrorBytesMax,
             IcmpError error = IcmpError::unreachable) {
  Run run;
  run.head = packet.data();
  run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
  EXPECT_TRUE(parse(run));
  Bytes out(room, 0xee);
  out.resize(icmp_error(error, run, out));
  return out;
}

Packet udp(Family family, size_t payload) {
  Packet words;
  words.family = family;
  words.protocol = kProtocolUdp;
  words.payload = Bytes(payload, 0x77);
  return words;
}

TEST(IcmpUnreachable, Ipv4) {
  for (const size_t payload : {0, 1, 100, 519, 520, 521, 1400}) {
    const Bytes about = build(udp(Family::v4, payload));
    const Bytes sent = answer(about);
    const size_t quote = std::min<size_t>(about.size(), 548);
    ASSERT_EQ(sent.size(), 28 + quote);
    EXPECT_LE(sent.size(), 576u) << "RFC 1812 4.3.2.3";
    EXPECT_EQ(sent[0], 0x45);
    EXPECT_EQ(sent[1], 0xc0);
    EXPECT_EQ(get16(sent, 2), sent.size());
    EXPECT_EQ(sent[9], kProtocolIcmp);
    EXPECT_EQ(naive_sum(sent.data(), 20), 0xffff);
    EXPECT_EQ(sent[15], 2) << "from the address that was not reached";
    EXPECT_EQ(sent[19], 1);
    EXPECT_EQ(sent[20], 3);
    EXPECT_EQ(sent[21], 1);
    EXPECT_EQ(naive_sum(sent.data() + 20, sent.size() - 20), 0xffff);
    EXPECT_EQ(get16(sent, 24) + get16(sent, 26), 0u) << "unused";
    EXPECT_TRUE(std::equal(sent.begin() + 28, sent.end(), about.begin()));
  }
}

TEST(IcmpUnreachable, Ipv6) {
  for (const size_t payload : {0, 1, 100, 1183, 1184, 1185, 9000}) {
    const Bytes about = build(udp(Family::v6, payload));
    const Bytes sent = answer(about);
    const size_t quote = std::min<size_t>(about.size(), 1232);
    ASSERT_EQ(sent.size(), 48 + quote);
    EXPECT_LE(sent.size(), 1280u) << "RFC 4443 2.4 (c)";
    EXPECT_EQ(sent[0] >> 4, 6);
    EXPECT_EQ(get16(sent, 4), sent.size() - 40);
    EXPECT_EQ(sent[6], kProtocolIcmpv6);
    EXPECT_EQ(sent[23], 2) << "from the address that was not reached";
    EXPECT_EQ(sent[39], 1);
    EXPECT_EQ(sent[40], 1);
    EXPECT_EQ(sent[41], 3);
    EXPECT_TRUE(l4_checksum_right(sent, Family::v6, kProtocolIcmpv6, 40));
    EXPECT_TRUE(std::equal(sent.begin() + 48, sent.end(), about.begin()));
  }
}

TEST(IcmpUnreachable, NotWithoutRoom) {
  const Bytes about = build(udp(Family::v4, 100));
  EXPECT_EQ(answer(about, 28 + about.size()).size(), 28 + about.size());
  EXPECT_EQ(answer(about, 27 + about.size()).size(), 0u);
}

Bytes icmp(Family family, uint8_t type) {
  Packet words;
  words.family = family;
  words.protocol = family == Family::v4 ? kProtocolIcmp : kProtocolIcmpv6;
  words.payload = {type, 0, 0, 0, 0, 0, 0, 0};
  return build(words);
}

TEST(IcmpUnreachable, NeverAboutAnIcmpError) {
  for (int type = 0; type < 256; ++type) {
    const bool v4_error = type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
    EXPECT_EQ(answer(icmp(Family::v4, static_cast<uint8_t>(type))).empty(), v4_error) << type;
    const bool v6_error = type < 128 || type == 137;  // a redirect, RFC 4443 2.4 (e.2)
    EXPECT_EQ(answer(icmp(Family::v6, static_cast<uint8_t>(type))).empty(), v6_error) << type;
  }
}

TEST(IcmpUnreachable, NeverAboutAnIcmpMessageWithoutAType) {
  Packet words;
  words.protocol = kProtocolIcmp;
  EXPECT_TRUE(answer(build(words)).empty());
  words.family = Family::v6;
  words.protocol = kProtocolIcmpv6;
  EXPECT_TRUE(answer(build(words)).empty());
}

TEST(IcmpUnreachable, NeverAboutALaterFragment) {
  Packet words = udp(Family::v4, 100);
  words.fragment = kIpv4MoreFragments;
  EXPECT_FALSE(answer(build(words)).empty());
  words.fragment = kIpv4MoreFragments | 1;
  EXPECT_TRUE(answer(build(words)).empty());
}

TEST(IcmpUnreachable, NeverAboutOrToAnAddressOfNoSingleHost) {
  const struct {
    const char* name;
    Family family;
    size_t at;
    Bytes address;
    bool silent;
  } cases[] = {
      {"a host", Family::v4, 16, {192, 0, 2, 1}, false},
      {"to multicast", Family::v4, 16, {224, 0, 0, 1}, true},
      {"to the end of multicast", Family::v4, 16, {239, 255, 255, 255}, true},
      {"to class E", Family::v4, 16, {240, 0, 0, 1}, true},
      {"to broadcast", Family::v4, 16, {255, 255, 255, 255}, true},
      {"to nobody", Family::v4, 16, {0, 0, 0, 0}, true},
      {"from nobody", Family::v4, 12, {0, 0, 0, 0}, true},
      {"from loopback", Family::v4, 12, {127, 0, 0, 1}, true},
      {"from multicast", Family::v4, 12, {224, 0, 0, 1}, true},
      {"from broadcast", Family::v4, 12, {255, 255, 255, 255}, true},
      {"a v6 host", Family::v6, 24, {0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, false},
      {"to v6 multicast",
       Family::v6,
       24,
       {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
       true},
      {"to nobody, v6", Family::v6, 24, Bytes(16), true},
      {"from v6 multicast",
       Family::v6,
       8,
       {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
       true},
      {"from nobody, v6", Family::v6, 8, Bytes(16), true},
  };
  for (const auto& each : cases) {
    Bytes packet = build(udp(each.family, 10));
    std::copy(each.address.begin(), each.address.end(),
              packet.begin() + static_cast<ptrdiff_t>(each.at));
    EXPECT_EQ(answer(packet).empty(), each.silent) << each.name;
  }
}

// RFC 1191 4, RFC 4443 3.2.
TEST(IcmpError, TooBigTellsTheMtu) {
  for (const Family family : {Family::v4, Family::v6}) {
    const size_t ip = family == Family::v4 ? 20 : 40;
    for (const uint32_t mtu : {68u, 1280u, 1420u, 65'535u}) {
      Bytes about = build(udp(family, 1400));
      sallyport::Run run;
      run.head = about.data();
      run.head_bytes = run.bytes = static_cast<uint32_t>(about.size());
      ASSERT_TRUE(parse(run));
      Bytes sent(kIcmpErrorBytesMax);
      sent.resize(icmp_error(IcmpError::too_big, run, sent, mtu));
      ASSERT_GT(sent.size(), ip + 8);
      EXPECT_EQ(get16(sent, ip + 4), 0u);
      EXPECT_EQ(get16(sent, ip + 6), mtu);
      EXPECT_EQ(family == Family::v4 ? naive_sum(sent.data() + ip, sent.size() - ip) == 0xffff
                                     : l4_checksum_right(sent, family, kProtocolIcmpv6, ip),
                true);
    }
  }
}

// RFC 792, RFC 1812 5.2.7.1 and 4.3.3.1; RFC 4443 3.1 and 3.3.
TEST(IcmpError, KindsHaveTheirTypeAndCode) {
  const struct {
    IcmpError error;
    uint8_t v4_type, v4_code, v6_type, v6_code;
  } cases[] = {
      {IcmpError::unreachable, 3, 1, 1, 3},      {IcmpError::prohibited, 3, 13, 1, 1},
      {IcmpError::time_exceeded, 11, 0, 3, 0},   {IcmpError::too_big, 3, 4, 2, 0},
      {IcmpError::port_unreachable, 3, 3, 1, 4},
  };
  for (const auto& each : cases) {
    for (const Family family : {Family::v4, Family::v6}) {
      const bool v4 = family == Family::v4;
      const size_t ip = v4 ? 20 : 40;
      const Bytes about = build(udp(family, 100));
      const Bytes sent = answer(about, kIcmpErrorBytesMax, each.error);
      ASSERT_EQ(sent.size(), ip + 8 + about.size());
      EXPECT_EQ(sent[ip], v4 ? each.v4_type : each.v6_type);
      EXPECT_EQ(sent[ip + 1], v4 ? each.v4_code : each.v6_code);
      EXPECT_TRUE(std::equal(about.begin(), about.end(), sent.begin() + static_cast<int>(ip) + 8));
      if (v4) {
        EXPECT_EQ(naive_sum(sent.data() + ip, sent.size() - ip), 0xffff);
      } else {
        EXPECT_TRUE(l4_checksum_right(sent, family, kProtocolIcmpv6, ip));
      }
      EXPECT_TRUE(answer(sent, kIcmpErrorBytesMax, each.error).empty()) << "none about an error";
    }
  }
}

}  // namespace
}  // namespace sallyport::test
