#include "dataplane/path/segment.h"

#include <gtest/gtest.h>

#include "dataplane/net/checksum.h"
#include "tests/dataplane/path/runs.h"

namespace sallyport::test {
namespace {

// A run as ingress leaves a super-packet: headers, and a payload that is one piece or comes in
// pieces of gso_size.
struct Super {
  Super(const Packet& words, uint16_t gso_size, bool in_pieces)
      : burst(std::make_unique<Burst>()), run(&burst->add()) {
    Bytes whole = build(words);
    put16(whole, words.checksum_at(), 0xbeef);  // what stands there must not matter
    const size_t header = words.header_bytes();
    run->head = memory.keep(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(header)));
    run->head_bytes = static_cast<uint32_t>(header);
    run->bytes = run->head_bytes;
    run->family = words.family;
    run->protocol = words.protocol;
    run->l4_offset = static_cast<uint16_t>(words.ip_bytes());
    run->offload.gso = gso_of(words);
    run->offload.gso_size = gso_size;
    const size_t step = in_pieces ? gso_size : words.payload.size();
    for (size_t at = 0; at < words.payload.size(); at += step) {
      const size_t end = std::min(at + step, words.payload.size());
      uint8_t* piece = memory.keep(Bytes(words.payload.begin() + static_cast<ptrdiff_t>(at),
                                         words.payload.begin() + static_cast<ptrdiff_t>(end)));
      burst->add_piece(*run, piece, static_cast<uint32_t>(end - at));
    }
    run->segments = static_cast<uint32_t>((words.payload.size() + gso_size - 1) / gso_size);
  }

  std::vector<Bytes> walk() {
    std::vector<Bytes> out;
    SegmentWalk walk(*burst, *run);
    while (walk.next()) {
      auto head = std::make_unique<uint8_t[]>(walk.head_bytes());
      walk.write_head(head.get());
      Bytes segment(head.get(), head.get() + walk.head_bytes());
      segment.insert(segment.end(), walk.payload(), walk.payload() + walk.payload_bytes());
      out.push_back(std::move(segment));
    }
    EXPECT_FALSE(walk.next()) << "stays at its end";
    return out;
  }

  Memory memory;
  std::unique_ptr<Burst> burst;
  Run* run;
};

void expect_naive(const Packet& words, uint16_t gso_size) {
  const std::vector<Bytes> expected = naive_segments(words, gso_size);
  for (const bool in_pieces : {false, true}) {
    if (in_pieces && expected.size() > Burst::kPiecesMax) {
      continue;
    }
    Super super(words, gso_size, in_pieces);
    ASSERT_EQ(super.run->segments, expected.size());
    ASSERT_EQ(super.walk(), expected) << (in_pieces ? "pieces" : "one piece");
  }
}

Packet words_of(Family family, uint8_t protocol, size_t payload) {
  std::mt19937 random(static_cast<unsigned>(payload));
  Packet words;
  words.family = family;
  words.protocol = protocol;
  words.payload = random_bytes(random, payload);
  return words;
}

TEST(Segment, EveryKindAsTheKernelCutsIt) {
  for (const Family family : {Family::v4, Family::v6}) {
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      for (const size_t payload : {1, 999, 1000, 1001, 2000, 2001, 9999, 65'000}) {
        expect_naive(words_of(family, protocol, payload), 1000);
      }
    }
  }
}

TEST(Segment, OddSizesAndSingleBytes) {
  for (const uint16_t gso_size : std::vector<uint16_t>{1, 2, 3, 7, 535, 1447}) {
    expect_naive(words_of(Family::v4, kProtocolTcp, 1500), gso_size);
    expect_naive(words_of(Family::v6, kProtocolUdp, 1500), gso_size);
  }
}

TEST(Segment, OptionsAreRepeated) {
  Packet words = words_of(Family::v4, kProtocolTcp, 3000);
  words.tcp_options = {1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8};
  expect_naive(words, 1448);
  words.ip_options = {1, 1, 1, 0};
  expect_naive(words, 1448);
  words.tcp_options = Bytes(40, 1);
  words.ip_options = Bytes(40, 1);
  expect_naive(words, 100);
}

TEST(Segment, FinAndPushOnTheLastCwrOnTheFirst) {
  Packet words = words_of(Family::v4, kProtocolTcp, 3500);
  words.flags = kTcpAck | kTcpFin | kTcpPsh | kTcpCwr | 0x40 /* ECE */;
  const auto flags = [&](size_t payload) {
    words.payload.resize(payload);
    Bytes seen;
    for (const Bytes& segment : Super(words, 1000, false).walk()) {
      seen.push_back(segment[33]);
    }
    return seen;
  };
  EXPECT_EQ(flags(3500), (Bytes{0xd0, 0x50, 0x50, 0x59}));
  EXPECT_EQ(flags(2000), (Bytes{0xd0, 0x59}));
  EXPECT_EQ(flags(1000), (Bytes{0xd9}));
  expect_naive(words, 1000);
}

TEST(Segment, NumbersWrapAround) {
  Packet words = words_of(Family::v4, kProtocolTcp, 5000);
  words.id = 0xfffe;
  words.sequence = 0xffffff00;
  expect_naive(words, 1000);
}

TEST(Segment, AUdpChecksumIsNeverZero) {
  // One of 65,536 payload words makes the sum zero: find it, and see 0xffff.
  Packet words = words_of(Family::v4, kProtocolUdp, 4);
  unsigned all_ones = 0;
  for (uint32_t value = 0; value < 0x10000; ++value) {
    words.payload = {static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value), 1, 2};
    const Bytes segment = Super(words, 4, false).walk()[0];
    ASSERT_NE(get16(segment, 26), 0u);
    all_ones += get16(segment, 26) == 0xffff ? 1 : 0;
  }
  EXPECT_GE(all_ones, 1u);
}

TEST(Segment, RandomSuperPackets) {
  constexpr unsigned kSeed = 31;
  SCOPED_TRACE(kSeed);
  std::mt19937 random(kSeed);
  for (int i = 0; i < 1500; ++i) {
    Packet words = words_of(random() % 2 == 0 ? Family::v4 : Family::v6,
                            random() % 2 == 0 ? kProtocolTcp : kProtocolUdp, 1 + random() % 6000);
    words.tos = static_cast<uint8_t>(random());
    words.id = static_cast<uint16_t>(random());
    words.sequence = static_cast<uint32_t>(random());
    words.flags = static_cast<uint8_t>(random());
    words.tcp_options = random_bytes(random, random() % 11 * 4);
    words.ip_options =
        words.family == Family::v4 ? random_bytes(random, random() % 3 * 4) : Bytes();
    expect_naive(words, static_cast<uint16_t>(1 + random() % 2000));
  }
}

// -- The checksum of a single packet that the host left open.

struct OpenChecksum {
  explicit OpenChecksum(const Packet& words) : expected(build(words)) {
    Bytes open = expected;
    const uint64_t pseudo = checksum_pseudo(open.data(), words.family, words.protocol,
                                            static_cast<uint32_t>(open.size() - words.ip_bytes()));
    const uint16_t partial = checksum_fold(pseudo);
    std::memcpy(open.data() + words.checksum_at(), &partial, 2);
    run = memory.packet(open);
    run.offload.needs_checksum = true;
    run.offload.checksum_start = static_cast<uint16_t>(words.ip_bytes());
    run.offload.checksum_offset = static_cast<uint16_t>(words.checksum_at() - words.ip_bytes());
  }
  Bytes bytes() const { return {run.head, run.head + run.head_bytes}; }

  Bytes expected;
  Memory memory;
  Run run;
};

TEST(CompleteChecksum, EveryKindAndLength) {
  for (const Family family : {Family::v4, Family::v6}) {
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      for (const size_t payload : {0, 1, 2, 77, 1400, 9000}) {
        OpenChecksum open(words_of(family, protocol, payload));
        complete_checksum(open.run);
        EXPECT_EQ(open.bytes(), open.expected);
        EXPECT_FALSE(open.run.offload.needs_checksum);
      }
    }
  }
}

TEST(CompleteChecksum, AFieldOutsideOfThePacketIsLeftAlone) {
  for (const uint16_t start : std::vector<uint16_t>{20, 39, 40, 65'535}) {
    OpenChecksum open(words_of(Family::v4, kProtocolTcp, 0));
    const Bytes before = open.bytes();
    open.run.offload.checksum_start = start;
    open.run.offload.checksum_offset = start == 20 ? 19 : 16;
    complete_checksum(open.run);
    EXPECT_EQ(open.bytes(), before) << start;
  }
}

}  // namespace
}  // namespace sallyport::test
