#include "dataplane/net/fragment.h"

#include <gtest/gtest.h>

#include "tests/dataplane/net/shapes.h"

namespace sallyport::test {
namespace {

std::vector<Bytes> cut(Bytes packet, uint32_t mtu) {
  const sallyport::Run run = run_of(packet);
  FragmentWalk walk(run, mtu);
  std::vector<Bytes> fragments;
  while (walk.next()) {
    Bytes head(walk.head_bytes());
    walk.write_head(head.data());
    head.insert(head.end(), walk.payload(), walk.payload() + walk.payload_bytes());
    fragments.push_back(std::move(head));
  }
  return fragments;
}

// RFC 791's algorithm, as plainly as it goes: all payload at its place, and the first fragment's header.
Bytes reassemble(const std::vector<Bytes>& fragments) {
  const size_t base = (get16(fragments.front(), 6) & 0x1fff) * 8;
  const size_t header = (fragments.front()[0] & 15u) * 4;
  Bytes packet(fragments.front().begin(),
               fragments.front().begin() + static_cast<ptrdiff_t>(header));
  for (const Bytes& fragment : fragments) {
    const size_t own = (fragment[0] & 15u) * 4;
    const size_t at = (get16(fragment, 6) & 0x1fff) * 8 - base;
    EXPECT_EQ(packet.size(), header + at) << "one behind the other";
    packet.insert(packet.end(), fragment.begin() + static_cast<ptrdiff_t>(own), fragment.end());
  }
  put16(packet, 2, static_cast<uint32_t>(packet.size()));
  put16(packet, 6,
        (get16(fragments.front(), 6) & ~0x2000u) | (get16(fragments.back(), 6) & 0x2000));
  fix_ip_checksum(packet);
  return packet;
}

TEST(FragmentWalk, TogetherTheyAreThePacket) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    Packet words;
    words.protocol = kProtocolUdp;
    words.id = static_cast<uint16_t>(random());
    words.payload = random_bytes(random, random() % 4000);
    words.ip_options = Bytes(4 * (random() % 11), 1);
    const uint32_t base = random() % 3 == 0 ? static_cast<uint32_t>(random() % 7000) : 0;
    const bool more = random() % 3 == 0;
    words.fragment = static_cast<uint16_t>(base | (more ? kIpv4MoreFragments : 0));
    if (more) {
      words.payload.resize(words.payload.size() / 8 * 8);
    }
    const Bytes packet = build(words);
    const auto mtu = static_cast<uint32_t>(68 + random() % 1500);
    const std::vector<Bytes> fragments = cut(packet, mtu);
    ASSERT_FALSE(fragments.empty());
    ASSERT_LE(fragments.size(), FragmentWalk::kFragmentsMax);
    for (size_t i = 0; i < fragments.size(); ++i) {
      const Bytes& each = fragments[i];
      const bool last = i + 1 == fragments.size();
      const size_t header = (each[0] & 15u) * 4;
      ASSERT_LE(each.size(), mtu);
      ASSERT_EQ(get16(each, 2), each.size());
      ASSERT_EQ(get16(each, 4), words.id);
      ASSERT_EQ((get16(each, 6) & 0x2000) != 0, !last || more);
      ASSERT_TRUE(last || (each.size() - header) % 8 == 0);
      ASSERT_GT(each.size() + 8 + (last ? mtu : 0), mtu) << "no smaller than need be";
      ASSERT_EQ(naive_sum(each.data(), header), 0xffff);
    }
    ASSERT_EQ(reassemble(fragments), packet);
  }
}

TEST(FragmentWalk, WhatFitsStaysWhole) {
  Packet words;
  words.protocol = kProtocolUdp;
  words.fragment = 0;
  words.payload = Bytes(100, 1);
  const Bytes packet = build(words);
  EXPECT_EQ(cut(packet, 128), std::vector<Bytes>{packet});
  EXPECT_EQ(cut(packet, 127).size(), 2u);
}

TEST(FragmentWalk, WhatMustNotBeCut) {
  Packet words;
  words.protocol = kProtocolUdp;
  words.payload = Bytes(2000, 1);
  EXPECT_TRUE(cut(build(words), 576).empty()) << "don't fragment";
  words.fragment = 0;
  EXPECT_TRUE(cut(build(words), 67).empty());
  EXPECT_FALSE(cut(build(words), 68).empty());
  words.fragment = 8000;
  EXPECT_TRUE(cut(build(words), 576).empty()) << "beyond 65,535 bytes";
  words.fragment = 0;
  words.family = Family::v6;
  EXPECT_TRUE(cut(build(words), 576).empty());
}

// RFC 791 3.1: an option's top bit says that every fragment has it.
TEST(FragmentWalk, OptionsAreCopiedWhereTheySaySo) {
  const struct {
    const char* name;
    Bytes options, later;
  } cases[] = {
      {"router alert", {148, 4, 0, 0}, {148, 4, 0, 0}},
      {"record route", {7, 7, 4, 0, 0, 0, 0, 0}, {}},
      {"both, and padding", {7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0}, {148, 4, 0, 0}},
      {"an odd length", {130, 3, 9, 0}, {130, 3, 9, 0}},
      {"a length of nothing", {148, 0, 148, 4}, {}},
      {"a length beyond the header", {148, 9, 0, 0}, {}},
  };
  for (const auto& each : cases) {
    Packet words;
    words.protocol = kProtocolUdp;
    words.fragment = 0;
    words.payload = Bytes(1000, 1);
    words.ip_options = each.options;
    const std::vector<Bytes> fragments = cut(build(words), 576);
    ASSERT_EQ(fragments.size(), 2u);
    EXPECT_EQ(Bytes(fragments[0].begin() + 20,
                    fragments[0].begin() + 20 + static_cast<ptrdiff_t>(each.options.size())),
              each.options)
        << each.name;
    ASSERT_EQ((fragments[1][0] & 15u) * 4, 20 + each.later.size()) << each.name;
    EXPECT_TRUE(std::equal(each.later.begin(), each.later.end(), fragments[1].begin() + 20));
  }
}

TEST(ReadFragment, FactsOfEitherFamily) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    const Shape shape = random_shape(random);
    SCOPED_TRACE(shape.says());
    Bytes packet = shape.bytes();
    const sallyport::Run run = run_of(packet);
    ASSERT_EQ(run.fragment, shape.fragmented);
    if (!shape.fragmented || shape.l4.empty()) {
      continue;
    }
    Fragment fragment;
    ASSERT_EQ(read_fragment(run, fragment), FragmentFault::none);
    const size_t header = shape.ip.size() - 8;  // v6: the last before the L4 header
    EXPECT_EQ(fragment.is_first(), !shape.later);
    EXPECT_EQ(fragment.offset, shape.later ? shape.rest.size() : 0);
    EXPECT_EQ(fragment.bytes, shape.l4.size());
    EXPECT_EQ(fragment.more, !shape.later);
    EXPECT_EQ(fragment.id, shape.v4()
                               ? get16(packet, 4)
                               : get16(packet, header + 4) << 16 | get16(packet, header + 6));
    EXPECT_EQ(fragment.protocol, shape.v4() ? shape.protocol : 0);
  }
}

TEST(ReadFragment, Faults) {
  const struct {
    const char* name;
    uint8_t protocol;
    uint16_t word;
    size_t bytes;
    FragmentFault fault;
  } cases[] = {
      {"a first", 17, 0x2000, 16, FragmentFault::none},
      {"a last", 17, 2, 5, FragmentFault::none},
      {"nothing in it", 17, 2, 0, FragmentFault::empty},
      {"the middle of a group of eight", 17, 0x2002, 12, FragmentFault::misaligned},
      {"65,535 bytes", 17, 0x1fff - 2, 3, FragmentFault::none},
      {"65,536 bytes", 17, 0x1fff - 2, 4, FragmentFault::too_long},
      {"half a TCP header", 6, 0x2000, 16, FragmentFault::tiny},
      {"a whole one", 6, 0x2000, 24, FragmentFault::none},
      {"the other half", 6, 1, 16, FragmentFault::tiny},
      {"eight bytes in, of UDP", 17, 1, 16, FragmentFault::none},
      {"half an SCTP header", 132, 0x2000, 8, FragmentFault::tiny},
      {"what we know nothing of", 254, 0x2000, 8, FragmentFault::none},
  };
  for (const auto& each : cases) {
    for (const Family family : {Family::v4, Family::v6}) {
      const bool v4 = family == Family::v4;
      Packet words;
      words.family = family;
      words.protocol = 254;
      words.payload = Bytes(each.bytes);
      words.fragment = each.word;
      if (!v4) {
        Bytes header(8);
        header[0] = each.protocol;
        put16(header, 2, uint32_t{each.word} << 3 | each.word >> 13);
        words.payload.insert(words.payload.begin(), header.begin(), header.end());
      }
      Bytes packet = build(words);
      packet[v4 ? 9 : 6] = v4 ? each.protocol : 44;
      Fragment fragment;
      FragmentFault fault = each.fault;
      if (!v4 && each.protocol == 6 && !((each.word & 0x1fff) == 0)) {
        fault = FragmentFault::none;  // an IPv6 later fragment does not say what it is of
      }
      if (!v4 && each.word == 0x1fff - 2) {  // whose header counts not
        fault = FragmentFault::none;
      }
      const sallyport::Run run = run_of(packet);
      ASSERT_TRUE(run.fragment);
      EXPECT_EQ(read_fragment(run, fragment), fault) << each.name << (v4 ? ", v4" : ", v6");
    }
  }
}

// RFC 6946: a fragment header that says "all of it".
TEST(ReadFragment, AnAtomicFragmentIsNone) {
  Packet words;
  words.family = Family::v6;
  words.protocol = 44;
  words.payload = Bytes(30);
  words.payload[0] = 17;
  Bytes packet = build(words);
  const sallyport::Run run = run_of(packet);
  EXPECT_FALSE(run.fragment);
  EXPECT_EQ(run.protocol, 17);
}

}  // namespace
}  // namespace sallyport::test
