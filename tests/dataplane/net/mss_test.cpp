#include "dataplane/net/mss.h"

#include <gtest/gtest.h>

#include "tests/dataplane/net/shapes.h"

namespace sallyport::test {
namespace {

constexpr size_t kBefore = kMssOptionBytes;

// A SYN in memory of its size, with room before it for an option.
struct Syn {
  Packet words;
  Bytes memory;
  sallyport::Run run;

  Syn(const Packet& packet, bool unfinished) : words(packet), memory(kBefore) {
    Bytes bytes = build(packet);
    if (unfinished) {
      put16(bytes, packet.checksum_at(),
            naive_sum(nullptr, 0, pseudo_sum(bytes, packet.family, 6, packet.ip_bytes())));
    }
    memory.insert(memory.end(), bytes.begin(), bytes.end());
    memory.shrink_to_fit();
    run.head = memory.data() + kBefore;
    run.head_bytes = run.bytes = static_cast<uint32_t>(bytes.size());
    EXPECT_TRUE(parse(run));
    run.offload.needs_checksum = unfinished;
    run.offload.checksum_start = run.l4_offset;
    run.offload.checksum_offset = 16;
  }

  // What it has become, with its checksum finished.
  Bytes bytes() const {
    Bytes packet(run.head, run.head + run.head_bytes);
    if (run.offload.needs_checksum) {
      const size_t l4 = words.ip_bytes();
      const uint16_t sum = naive_sum(packet.data() + l4, packet.size() - l4);
      put16(packet, words.checksum_at(), ~uint32_t{sum} & 0xffff);
    }
    return packet;
  }
};

Packet syn(Family family, Bytes options, uint8_t flags = kTcpSyn) {
  Packet words;
  words.family = family;
  words.flags = flags;
  words.tcp_options = std::move(options);
  return words;
}

TEST(Mss, IsClampedAndNeverRaised) {
  const struct {
    const char* name;
    Bytes options;
    size_t at;
  } places[] = {
      {"first", {2, 4, 0, 0, 1, 3, 3, 7}, 2},
      {"at an odd offset", {1, 2, 4, 0, 0, 3, 3, 7}, 3},
      {"last", {1, 3, 3, 7, 2, 4, 0, 0}, 6},
      {"last, at an odd offset", {4, 2, 1, 2, 4, 0, 0, 0}, 5},
  };
  for (const auto& place : places) {
    for (const Family family : {Family::v4, Family::v6}) {
      for (const bool unfinished : {false, true}) {
        for (const uint8_t flags : {kTcpSyn, static_cast<uint8_t>(kTcpSyn | kTcpAck)}) {
          for (const uint32_t mss : {0u, 536u, 1360u, 1380u, 1381u, 1460u, 8960u, 65'535u}) {
            Packet words = syn(family, place.options, flags);
            put16(words.tcp_options, place.at, mss);
            Syn packet(words, unfinished);
            EXPECT_EQ(mss_of(packet.run), mss) << place.name;
            const uint32_t limit = family == Family::v4 ? 1380 : 1360;
            EXPECT_EQ(clamp_mss(packet.run, 1420), mss > limit) << place.name << " " << mss;
            put16(words.tcp_options, place.at, std::min(mss, limit));
            EXPECT_EQ(packet.bytes(), build(words)) << place.name << " " << mss;
          }
        }
      }
    }
  }
}

TEST(Mss, OnlyOfASyn) {
  for (int flags = 0; flags < 256; ++flags) {
    const Packet words = syn(Family::v4, {2, 4, 0x7f, 0xff}, static_cast<uint8_t>(flags));
    Syn packet(words, false);
    EXPECT_EQ(clamp_mss(packet.run, 1420), (flags & kTcpSyn) != 0);
  }
}

// RFC 9293 3.7.1: who says nothing is sent 536 bytes, or 1220.
TEST(Mss, AMissingOneMattersOnlyBelowTheDefault) {
  for (const Family family : {Family::v4, Family::v6}) {
    const uint32_t headers = family == Family::v4 ? 40 : 60;
    const uint32_t assumed = family == Family::v4 ? 536 : 1220;
    for (const bool unfinished : {false, true}) {
      for (const size_t others : {0, 1, 9, 10}) {
        for (const uint32_t mss : {1u, 300u, assumed - 1, assumed, 1380u}) {
          Packet words = syn(family, Bytes(4 * others, 1));
          Syn packet(words, unfinished);
          EXPECT_EQ(mss_of(packet.run), std::nullopt);
          const bool inserted = mss < assumed && others < 10;
          EXPECT_EQ(clamp_mss(packet.run, mss + headers), inserted);
          if (inserted) {
            const Bytes option = {2, 4, static_cast<uint8_t>(mss >> 8), static_cast<uint8_t>(mss)};
            words.tcp_options.insert(words.tcp_options.begin(), option.begin(), option.end());
          }
          EXPECT_EQ(packet.bytes(), build(words));
          EXPECT_EQ(packet.run.bytes, packet.run.head_bytes);
          EXPECT_FALSE(clamp_mss(packet.run, mss + headers)) << "once is enough";
        }
      }
    }
    Packet data = syn(family, {});
    data.payload = {1, 2, 3};
    Syn packet(data, false);
    EXPECT_FALSE(clamp_mss(packet.run, headers + 100));
    EXPECT_EQ(packet.bytes(), build(data));
  }
}

TEST(Mss, AnMtuWithoutRoomForHeadersChangesNothing) {
  for (const uint32_t mtu : {0u, 39u, 40u}) {
    const Packet words = syn(Family::v4, {2, 4, 5, 0xb4});
    Syn packet(words, false);
    EXPECT_FALSE(clamp_mss(packet.run, mtu));
    EXPECT_EQ(packet.bytes(), build(words));
  }
}

TEST(Mss, OptionsThatLie) {
  const Bytes cases[] = {
      {0, 2, 4, 0x7f, 0xff, 0, 0, 0},     // behind the end
      {3, 0, 2, 4, 0x7f, 0xff, 0, 0},     // behind an option of no length
      {3, 1, 2, 4, 0x7f, 0xff, 0, 0},     // of a length that leaves itself out
      {3, 9, 2, 4, 0x7f, 0xff, 0, 0},     // longer than the header
      {2, 3, 0x7f, 2, 5, 0x7f, 0xff, 0},  // of other lengths
      {1, 1, 1, 1, 1, 1, 2, 4},           // cut off
  };
  for (const Bytes& options : cases) {
    const Packet words = syn(Family::v4, options);
    Syn packet(words, false);
    EXPECT_FALSE(clamp_mss(packet.run, 1420));
    EXPECT_EQ(packet.bytes(), build(words));
  }
}

TEST(Mss, EveryTruncationAndAnyMutation) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 4000; ++round) {
    const Family family = random() % 2 == 0 ? Family::v4 : Family::v6;
    Bytes packet = build(syn(family, random_bytes(random, 4 * (random() % 11))));
    const size_t ip = family == Family::v4 ? 20 : 40;
    packet.resize(ip + random() % (packet.size() - ip + 1));
    put16(packet, family == Family::v4 ? 2 : 4,
          static_cast<uint32_t>(family == Family::v4 ? packet.size() : packet.size() - 40));
    if (packet.size() > ip) {
      packet[ip + random() % (packet.size() - ip)] = static_cast<uint8_t>(random());
    }
    Bytes memory(kBefore);
    memory.insert(memory.end(), packet.begin(), packet.end());
    memory.shrink_to_fit();
    sallyport::Run run;
    run.head = memory.data() + kBefore;
    run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
    ASSERT_TRUE(parse(run));
    const bool changed = clamp_mss(run, static_cast<uint32_t>(random() % 1500));
    EXPECT_GE(run.head, memory.data());
    EXPECT_EQ(run.head + run.head_bytes, memory.data() + memory.size());
    if (!changed) {
      EXPECT_TRUE(std::equal(packet.begin(), packet.end(), memory.begin() + kBefore));
    }
  }
}

}  // namespace
}  // namespace sallyport::test
