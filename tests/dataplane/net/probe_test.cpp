// Echo requests as others would read them, and which packets count as answers.
#include "dataplane/net/probe.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <random>

#include "tests/dataplane/net/packets.h"

namespace sallyport::test {
namespace {

Probe probe_of(Family family) {
  Probe probe;
  probe.source = *parse_address(family == Family::v4 ? "10.9.0.2" : "fd00::2");
  probe.target = *parse_address(family == Family::v4 ? "192.0.2.1" : "2001:db8::1");
  probe.id = 0xbeef;
  probe.tag = 0x0123456789abcdef;
  return probe;
}

size_t ip_bytes(Family family) {
  return family == Family::v4 ? 20 : 40;
}

Bytes request(const Probe& probe, uint16_t sequence) {
  Bytes out(kProbeBytesMax, 0xee);
  out.resize(build_probe(probe, sequence, out));
  return out;
}

void fix_checksums(Bytes& packet, Family family) {
  const size_t l4 = ip_bytes(family);
  put16(packet, l4 + 2, 0);
  if (family == Family::v4) {
    fix_ip_checksum(packet);
    put16(packet, l4 + 2, ~naive_sum(packet.data() + l4, packet.size() - l4) & 0xffff);
  } else {
    put16(packet, l4 + 2,
          ~naive_sum(packet.data() + l4, packet.size() - l4,
                     pseudo_sum(packet, family, kProtocolIcmpv6, l4)) &
              0xffff);
  }
}

// What a host answers: addresses and type turned round, all else as it was.
Bytes answer_to(Bytes packet, Family family) {
  const auto addresses = packet.begin() + (family == Family::v4 ? 12 : 8);
  const auto length = family == Family::v4 ? 4 : 16;
  std::swap_ranges(addresses, addresses + length, addresses + length);
  packet[ip_bytes(family)] = family == Family::v4 ? 0 : 129;
  fix_checksums(packet, family);
  return packet;
}

class ProbeTest : public testing::TestWithParam<Family> {
 protected:
  Family family_ = GetParam();
  Probe probe_ = probe_of(family_);
  size_t l4_ = ip_bytes(family_);
};

TEST_P(ProbeTest, TheRequestByteForByte) {
  const Bytes packet = request(probe_, 0x1234);
  ASSERT_EQ(packet.size(), l4_ + 16);
  if (family_ == Family::v4) {
    EXPECT_EQ(packet[0], 0x45);
    EXPECT_EQ(get16(packet, 2), packet.size());
    EXPECT_EQ(get16(packet, 6), kIpv4DontFragment);
    EXPECT_EQ(packet[8], 64);
    EXPECT_EQ(packet[9], kProtocolIcmp);
    EXPECT_EQ(naive_sum(packet.data(), 20), 0xffff);
    EXPECT_EQ(packet[20], 8);
    EXPECT_EQ(naive_sum(packet.data() + 20, 16), 0xffff);
  } else {
    EXPECT_EQ(packet[0], 0x60);
    EXPECT_EQ(get16(packet, 4), 16u);
    EXPECT_EQ(packet[6], kProtocolIcmpv6);
    EXPECT_EQ(packet[7], 64);
    EXPECT_EQ(packet[40], 128);
    EXPECT_TRUE(l4_checksum_right(packet, family_, kProtocolIcmpv6, 40));
  }
  const size_t length = family_ == Family::v4 ? 4 : 16, at = family_ == Family::v4 ? 12 : 8;
  EXPECT_EQ(std::memcmp(packet.data() + at, probe_.source.bytes.data(), length), 0);
  EXPECT_EQ(std::memcmp(packet.data() + at + length, probe_.target.bytes.data(), length), 0);
  EXPECT_EQ(packet[l4_ + 1], 0);
  EXPECT_EQ(get16(packet, l4_ + 4), 0xbeefu);
  EXPECT_EQ(get16(packet, l4_ + 6), 0x1234u);
  EXPECT_EQ(get16(packet, l4_ + 8), 0x0123u);
  EXPECT_EQ(get16(packet, l4_ + 14), 0xcdefu);
}

TEST_P(ProbeTest, NotWithoutRoomOrAddressesOfOneFamily) {
  Bytes out(kProbeBytesMax, 0xee);
  EXPECT_EQ(build_probe(probe_, 1, std::span(out).first(l4_ + 15)), 0u);
  EXPECT_EQ(build_probe(probe_, 1, std::span(out).first(l4_ + 16)), l4_ + 16);
  Probe odd = probe_;
  odd.source = probe_of(family_ == Family::v4 ? Family::v6 : Family::v4).source;
  EXPECT_EQ(build_probe(odd, 1, out), 0u);
  EXPECT_EQ(build_probe(Probe{}, 1, out), 0u);
}

TEST_P(ProbeTest, AnswersAreRecognised) {
  for (const uint32_t sequence : {0u, 1u, 0x1234u, 0xffffu}) {
    const auto number = static_cast<uint16_t>(sequence);
    Bytes answer = answer_to(request(probe_, number), family_);
    EXPECT_EQ(read_probe_answer(probe_, answer), number);
    answer.resize(answer.size() + 12);
    EXPECT_EQ(read_probe_answer(probe_, answer), number) << "padding is ignored";
  }
}

TEST_P(ProbeTest, AnAnswerMayHaveOptions) {
  Bytes answer = answer_to(request(probe_, 5), family_);
  if (family_ == Family::v4) {
    answer.insert(answer.begin() + 20, {1, 1, 1, 0});
    answer[0] = 0x46;
    put16(answer, 2, static_cast<uint32_t>(answer.size()));
    fix_ip_checksum(answer);
  } else {
    answer.insert(answer.begin() + 40, {kProtocolIcmpv6, 0, 1, 4, 0, 0, 0, 0});
    answer[6] = 60;
    put16(answer, 4, static_cast<uint32_t>(answer.size() - 40));
  }
  EXPECT_EQ(read_probe_answer(probe_, answer), 5);
}

TEST_P(ProbeTest, WhatIsNoAnswer) {
  const size_t l4 = l4_;
  const size_t source = family_ == Family::v4 ? 15 : 23,
               destination = family_ == Family::v4 ? 19 : 39;
  const struct {
    const char* name;
    std::function<void(Bytes&)> change;  // checksums are made right afterwards
  } cases[] = {
      {"a request", [&](Bytes& bytes) { bytes[l4] = bytes[l4] == 0 ? 8 : 128; }},
      {"an error", [&](Bytes& bytes) { bytes[l4] = 3; }},
      {"a code", [&](Bytes& bytes) { bytes[l4 + 1] = 1; }},
      {"another id", [&](Bytes& bytes) { ++bytes[l4 + 5]; }},
      {"another tag", [&](Bytes& bytes) { ++bytes[l4 + 15]; }},
      {"from another", [&](Bytes& bytes) { ++bytes[source]; }},
      {"to another", [&](Bytes& bytes) { ++bytes[destination]; }},
      {"longer",
       [&](Bytes& bytes) {
         bytes.push_back(0);
         put16(bytes, l4 == 20 ? 2 : 4, static_cast<uint32_t>(bytes.size() - (l4 == 20 ? 0 : 40)));
       }},
      {"another protocol", [&](Bytes& bytes) { bytes[l4 == 20 ? 9 : 6] = kProtocolUdp; }},
  };
  for (const auto& each : cases) {
    Bytes answer = answer_to(request(probe_, 5), family_);
    each.change(answer);
    fix_checksums(answer, family_);
    EXPECT_FALSE(read_probe_answer(probe_, answer)) << each.name;
  }
  if (family_ == Family::v4) {
    for (const uint32_t fragment : {0x2000u, 0x0001u}) {
      Bytes answer = answer_to(request(probe_, 5), family_);
      put16(answer, 6, fragment);
      fix_checksums(answer, family_);
      EXPECT_FALSE(read_probe_answer(probe_, answer)) << "a fragment";
    }
  }
}

TEST_P(ProbeTest, EachBitThatIsChecked) {
  const Bytes answer = answer_to(request(probe_, 5), family_);
  for (size_t bit = 0; bit < answer.size() * 8; ++bit) {
    Bytes flipped = answer;
    flipped[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    // IPv6 has no header checksum: traffic class, flow label and hop limit may be anything.
    const bool free = family_ == Family::v6 && ((bit / 8 == 0 && bit % 8 < 4) ||
                                                (bit / 8 >= 1 && bit / 8 <= 3) || bit / 8 == 7);
    EXPECT_EQ(read_probe_answer(probe_, flipped).has_value(), free) << "bit " << bit;
  }
}

TEST_P(ProbeTest, CutShortAtEachLength) {
  const Bytes answer = answer_to(request(probe_, 5), family_);
  for (size_t length = 0; length < answer.size(); ++length) {
    // A copy of its own, so that a sanitizer sees what is read beyond.
    const Bytes cut(answer.begin(), answer.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_FALSE(read_probe_answer(probe_, cut)) << length;
  }
}

TEST_P(ProbeTest, NoiseIsNoAnswer) {
  const unsigned seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 20'000; ++i) {
    Bytes noise = random_bytes(random, random() % 80);
    if (!noise.empty()) {
      noise[0] = static_cast<uint8_t>(family_ == Family::v4 ? 0x40 | random() % 16 : 0x60);
    }
    EXPECT_FALSE(read_probe_answer(probe_, noise));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ProbeTest, testing::Values(Family::v4, Family::v6),
                         [](const auto& each) { return each.param == Family::v4 ? "v4" : "v6"; });

}  // namespace
}  // namespace sallyport::test
