#include "dataplane/net/parse.h"

#include <gtest/gtest.h>

#include "dataplane/net/checksum.h"
#include "tests/dataplane/net/packets.h"

namespace sallyport::test {
namespace {

// On the heap in exactly its size, so that a sanitizer sees one byte too many.
struct Parsed {
  explicit Parsed(const Bytes& bytes) : exact(std::make_unique<uint8_t[]>(bytes.size())) {
    std::copy(bytes.begin(), bytes.end(), exact.get());
    run.head = exact.get();
    run.head_bytes = run.bytes = static_cast<uint32_t>(bytes.size());
    length = ip_length(run.head, run.head_bytes);
    ok = parse(run);
  }
  std::unique_ptr<uint8_t[]> exact;
  Run run;
  uint32_t length = 0;
  bool ok = false;
};

Bytes v4(size_t payload = 0) {
  Packet words;
  words.payload = Bytes(payload);
  return build(words);
}

Bytes v6(size_t payload = 0) {
  Packet words;
  words.family = Family::v6;
  words.payload = Bytes(payload);
  return build(words);
}

Bytes with(Bytes packet, size_t at, uint8_t value) {
  packet[at] = value;
  return packet;
}

Bytes resized(Bytes packet, size_t size) {
  packet.resize(size);
  return packet;
}

// A v6 packet: a chain of extension headers, then bytes.
struct Extension {
  uint8_t kind;
  Bytes bytes;  // a multiple of 8; next header and length are filled in, but for a fragment's
};

Bytes chain(const std::vector<Extension>& extensions, uint8_t last, size_t rest) {
  Bytes packet(40);
  packet[0] = 0x60;
  packet[8] = packet[24] = 0xfd;
  packet[6] = extensions.empty() ? last : extensions[0].kind;
  for (size_t i = 0; i < extensions.size(); ++i) {
    Bytes bytes = extensions[i].bytes;
    bytes[0] = i + 1 < extensions.size() ? extensions[i + 1].kind : last;
    if (extensions[i].kind != 44) {
      bytes[1] = static_cast<uint8_t>(bytes.size() / 8 - 1);
    }
    packet.insert(packet.end(), bytes.begin(), bytes.end());
  }
  packet.resize(packet.size() + rest);
  put16(packet, 4, static_cast<uint32_t>(packet.size() - 40));
  return packet;
}

TEST(IpLength, Tables) {
  const struct {
    const char* name;
    Bytes packet;
    uint32_t length;
  } cases[] = {
      {"nothing", {}, 0},
      {"one byte of v4", {0x45}, 0},
      {"19 bytes", resized(v4(), 19), 0},
      {"a bare v4 header", with(resized(v4(), 20), 3, 20), 20},
      {"v4", v4(100), 140},
      {"v4 and link padding", resized(v4(), 60), 40},
      {"v4 that claims one byte more", with(v4(), 3, 41), 0},
      {"v4 that claims everything", with(with(v4(), 2, 0xff), 3, 0xff), 0},
      {"v4 shorter than its header", with(v4(), 3, 19), 0},
      {"v4 of length zero", with(v4(), 3, 0), 0},
      {"v4 with a header of 16 bytes", with(v4(), 0, 0x44), 0},
      {"v4 with a header of 0 bytes", with(v4(), 0, 0x40), 0},
      {"v4 with options it has no room for", with(v4(), 0, 0x4f), 0},
      {"version 0", with(v4(), 0, 0x05), 0},
      {"version 5", with(v4(), 0, 0x55), 0},
      {"version 15", with(v4(), 0, 0xf5), 0},
      {"39 bytes of v6", resized(v6(), 39), 0},
      {"a bare v6 header", chain({}, 59, 0), 40},
      {"v6", v6(100), 160},
      {"v6 and link padding", resized(v6(), 80), 60},
      {"v6 that claims one byte more", with(v6(), 5, 21), 0},
      {"v6 that claims everything", with(with(v6(), 4, 0xff), 5, 0xff), 0},
  };
  for (const auto& each : cases) {
    EXPECT_EQ(Parsed(each.packet).length, each.length) << each.name;
    EXPECT_EQ(Parsed(each.packet).ok, each.length > 0) << each.name;
  }
}

TEST(IpLength, TheLargestOfEach) {
  Bytes packet(70'000);
  packet[0] = 0x45;
  packet[2] = packet[3] = 0xff;
  EXPECT_EQ(ip_length(packet.data(), 65'535), 65'535u);
  EXPECT_EQ(ip_length(packet.data(), 65'534), 0u);
  packet[0] = 0x60;
  packet[4] = packet[5] = 0xff;
  EXPECT_EQ(ip_length(packet.data(), 65'575), 65'575u);
  EXPECT_EQ(ip_length(packet.data(), 65'574), 0u);
}

TEST(Parse, Ipv4) {
  Packet words;
  words.tos = 0xb9;
  words.protocol = kProtocolUdp;
  Parsed plain(build(words));
  ASSERT_TRUE(plain.ok);
  EXPECT_EQ(plain.run.family, Family::v4);
  EXPECT_EQ(plain.run.protocol, kProtocolUdp);
  EXPECT_EQ(plain.run.tos, 0xb9);
  EXPECT_EQ(plain.run.l4_offset, 20);
  EXPECT_EQ(plain.run.source()[3], 1);
  EXPECT_EQ(plain.run.destination()[3], 2);
  words.ip_options = Bytes(40, 1);
  EXPECT_EQ(Parsed(build(words)).run.l4_offset, 60);
}

TEST(Parse, Ipv4Fragments) {
  Packet words;
  words.fragment = kIpv4MoreFragments;
  EXPECT_EQ(Parsed(build(words)).run.protocol, kProtocolTcp) << "the first has the L4 header";
  words.fragment = kIpv4MoreFragments | 1;
  EXPECT_EQ(Parsed(build(words)).run.protocol, 0);
  words.fragment = kIpv4FragmentOffset;
  EXPECT_EQ(Parsed(build(words)).run.protocol, 0);
}

TEST(Parse, Ipv6) {
  Packet words;
  words.family = Family::v6;
  words.tos = 0xb9;
  words.flow_label = 0xfffff;
  Parsed plain(build(words));
  ASSERT_TRUE(plain.ok);
  EXPECT_EQ(plain.run.family, Family::v6);
  EXPECT_EQ(plain.run.protocol, kProtocolTcp);
  EXPECT_EQ(plain.run.tos, 0xb9);
  EXPECT_EQ(plain.run.l4_offset, 40);
  EXPECT_EQ(plain.run.source()[15], 1);
  EXPECT_EQ(plain.run.destination()[15], 2);
}

TEST(Parse, Ipv6ExtensionChains) {
  const Extension hop{0, Bytes(8)}, routing{43, Bytes(24)}, options{60, Bytes(16)};
  const Extension first_fragment{44, {0, 0, 0, 1, 0, 0, 0, 9}};
  const Extension later_fragment{44, {0, 0, 0, 8, 0, 0, 0, 9}};
  const Extension far_fragment{44, {0, 0, 0xff, 0xf8, 0, 0, 0, 9}};
  const struct {
    const char* name;
    std::vector<Extension> extensions;
    uint8_t last;
    int protocol;  // -1: malformed
    uint16_t l4_offset;
  } cases[] = {
      {"one", {hop}, 6, 6, 48},
      {"three", {hop, routing, options}, 17, 17, 88},
      {"options before and after routing", {options, routing, options}, 6, 6, 96},
      {"first fragment", {first_fragment}, 6, 6, 48},
      {"first fragment behind others", {hop, first_fragment, options}, 6, 6, 72},
      {"later fragment", {later_fragment}, 6, 0, 48},
      {"last fragment", {hop, far_fragment}, 6, 0, 56},
      {"nothing follows", {hop}, 59, 59, 48},
      {"ESP is no extension to us", {hop}, 50, 50, 48},
      {"seven", std::vector<Extension>(7, hop), 6, 6, 96},
      {"eight", std::vector<Extension>(8, hop), 6, -1, 0},
      {"a hundred", std::vector<Extension>(100, hop), 6, -1, 0},
  };
  for (const auto& each : cases) {
    const Parsed parsed(chain(each.extensions, each.last, 20));
    ASSERT_EQ(parsed.ok, each.protocol >= 0) << each.name;
    if (parsed.ok) {
      EXPECT_EQ(parsed.run.protocol, each.protocol) << each.name;
      EXPECT_EQ(parsed.run.l4_offset, each.l4_offset) << each.name;
    }
  }
}

TEST(Parse, Ipv6ExtensionsBeyondTheEnd) {
  EXPECT_FALSE(Parsed(chain({}, 0, 0)).ok) << "hop-by-hop, and nothing there";
  EXPECT_FALSE(Parsed(chain({}, 44, 7)).ok) << "half a fragment header";
  EXPECT_FALSE(Parsed(with(chain({{60, Bytes(8)}}, 6, 20), 41, 255)).ok) << "2 KiB of options";
  EXPECT_FALSE(Parsed(with(chain({{60, Bytes(8)}}, 6, 7), 41, 1)).ok) << "one byte missing";
  EXPECT_TRUE(Parsed(with(chain({{60, Bytes(8)}}, 6, 8), 41, 1)).ok) << "options to the end";
}

// What lies behind the IP packet is not the packet's: a chain must not go on there.
TEST(Parse, Ipv6ExtensionsInLinkPadding) {
  Bytes packet = chain({}, 60, 0);
  const Bytes options = {6, 0, 0, 0, 0, 0, 0, 0};
  packet.insert(packet.end(), options.begin(), options.end());
  packet.resize(packet.size() + 20);
  const Parsed parsed(packet);
  EXPECT_EQ(parsed.length, 40u);
  EXPECT_FALSE(parsed.ok);
}

// Whatever the bytes, no read beyond them, and what parse promises holds.
TEST(Parse, RandomBytes) {
  constexpr unsigned kSeed = 4;
  std::mt19937 random(kSeed);
  size_t accepted = 0;
  for (int i = 0; i < 50'000; ++i) {
    Bytes packet = random_bytes(random, random() % 120);
    if (packet.size() >= 8 && i % 8 != 0) {  // else nearly all stop at the first check
      const bool is_v4 = random() % 2 == 0;
      packet[0] = static_cast<uint8_t>(is_v4 ? 0x40 | (4 + random() % 12) : 0x60);
      put16(packet, is_v4 ? 2 : 4, static_cast<uint32_t>(random() % (packet.size() + 10)));
      constexpr uint8_t kNext[] = {0, 43, 44, 60, 6, 17};
      if (!is_v4) {
        packet[6] = kNext[random() % 6];
        for (size_t at = 40; at + 8 <= packet.size(); at += 8) {
          packet[at] = kNext[random() % 6];
          packet[at + 1] = static_cast<uint8_t>(random() % 3);
        }
      }
    }
    const Parsed parsed(packet);
    if (!parsed.ok) {
      continue;
    }
    ++accepted;
    ASSERT_GE(parsed.length, 20u) << "seed " << kSeed << " round " << i;
    ASSERT_LE(parsed.length, packet.size()) << "seed " << kSeed << " round " << i;
    ASSERT_LE(parsed.run.l4_offset, parsed.length) << "seed " << kSeed << " round " << i;
    ASSERT_GE(parsed.run.l4_offset, parsed.run.family == Family::v4 ? 20 : 40);
  }
  EXPECT_GT(accepted, 1000u);
}

// RFC 6040, figure 4. Rows: inner; columns: outer; ECT(1) is 1, ECT(0) is 2.
TEST(Ecn, DecapsulationTable) {
  constexpr int kDrop = -1;
  constexpr int kTable[4][4] = {
      // outer: Not-ECT, ECT(1), ECT(0), CE
      {0, 0, 0, kDrop},  // inner Not-ECT
      {1, 1, 1, 3},      // inner ECT(1)
      {2, 1, 2, 3},      // inner ECT(0)
      {3, 3, 3, 3},      // inner CE
  };
  for (const Family family : {Family::v4, Family::v6}) {
    for (int inner = 0; inner < 4; ++inner) {
      for (int outer = 0; outer < 4; ++outer) {
        for (const int dscp : {0x00, 0xb8, 0xfc}) {
          Packet words;
          words.family = family;
          words.flow_label = 0xabcde;
          words.tos = static_cast<uint8_t>(dscp | inner);
          Parsed parsed(build(words));
          const bool kept = ecn_decapsulate(parsed.run, static_cast<uint8_t>(0x48 | outer));
          const int expected = kTable[inner][outer];
          ASSERT_EQ(kept, expected != kDrop) << inner << " in " << outer;
          words.tos = static_cast<uint8_t>(dscp | (expected == kDrop ? inner : expected));
          EXPECT_EQ(parsed.run.tos, words.tos);
          const Bytes after(parsed.exact.get(), parsed.exact.get() + parsed.run.head_bytes);
          EXPECT_EQ(after, build(words)) << inner << " in " << outer;
        }
      }
    }
  }
}

TEST(Ecn, EncapsulationCopiesEcnAndHidesDscp) {
  for (int tos = 0; tos < 256; ++tos) {
    EXPECT_EQ(ecn_encapsulate(static_cast<uint8_t>(tos)), tos & 3);
  }
}

}  // namespace
}  // namespace sallyport::test
