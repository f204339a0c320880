// Runs that were rewritten, and then cut for a peer or handed to the host: what comes out is what would have been cut from a
// run made with the new addresses and ports.
#include <gtest/gtest.h>

#include "dataplane/net/parse.h"
#include "dataplane/net/rewrite.h"
#include "dataplane/path/join.h"
#include "dataplane/path/segment.h"
#include "tests/dataplane/net/packets.h"

namespace sallyport::test {
namespace {

Packet random_flow(std::mt19937& random) {
  Packet words;
  words.family = random() % 2 == 0 ? Family::v4 : Family::v6;
  words.protocol = random() % 2 == 0 ? kProtocolTcp : kProtocolUdp;
  words.id = static_cast<uint16_t>(random());
  words.sequence = static_cast<uint32_t>(random());
  words.tcp_options = Bytes(4 * (random() % 4), 1);
  words.payload = random_bytes(random, 3000 + random() % 3000);
  return words;
}

Packet renamed(std::mt19937& random, Packet words) {
  words.source = static_cast<uint8_t>(random());
  words.destination = static_cast<uint8_t>(random());
  words.source_port = static_cast<uint16_t>(random());
  words.destination_port = static_cast<uint16_t>(random());
  return words;
}

// As its own packet has them.
Rewritten rewrite_to(sallyport::Run& run, const Packet& words) {
  const Bytes packet = build(words);
  const size_t source = words.family == Family::v4 ? 12 : 8;
  const size_t address = words.family == Family::v4 ? 4 : 16;
  return rewrite(run, {packet.data() + source, packet.data() + source + address, words.source_port,
                       words.destination_port});
}

std::vector<Bytes> cut(const Burst& burst, const sallyport::Run& run) {
  std::vector<Bytes> packets;
  SegmentWalk walk(burst, run);
  while (walk.next()) {
    Bytes packet(walk.head_bytes());
    walk.write_head(packet.data());
    packet.insert(packet.end(), walk.payload(), walk.payload() + walk.payload_bytes());
    packets.push_back(std::move(packet));
  }
  return packets;
}

// The head as the host gets it with the whole run: everything right but the L4 sum, which is the pseudo-header's.
void expect_unfinished(const sallyport::Run& run, const Packet& words) {
  Bytes expected = build(words);
  const uint32_t pseudo = pseudo_sum(expected, words.family, words.protocol, words.ip_bytes());
  put16(expected, words.checksum_at(), naive_sum(nullptr, 0, pseudo));
  expected.resize(words.header_bytes());
  EXPECT_EQ(Bytes(run.head, run.head + run.head_bytes), expected);
}

TEST(RewrittenRuns, SuperPackets) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  static Burst burst;
  for (int round = 0; round < 500; ++round) {
    burst.clear();
    const Packet words = random_flow(random);
    Bytes packet = build(words);
    const uint32_t pseudo = pseudo_sum(packet, words.family, words.protocol, words.ip_bytes());
    put16(packet, words.checksum_at(), naive_sum(nullptr, 0, pseudo));
    const auto gso_size = static_cast<uint16_t>(500 + random() % 1000);
    sallyport::Run& run = burst.add();
    run.head = packet.data();
    run.head_bytes = static_cast<uint32_t>(packet.size());
    ASSERT_TRUE(parse(run));
    run.head_bytes = run.bytes = static_cast<uint32_t>(words.header_bytes());
    burst.add_piece(run, packet.data() + words.header_bytes(),
                    static_cast<uint32_t>(words.payload.size()));
    run.offload.gso = gso_of(words);
    run.offload.gso_size = gso_size;
    run.offload.needs_checksum = true;
    run.offload.checksum_start = run.l4_offset;
    run.offload.checksum_offset = static_cast<uint16_t>(words.checksum_at() - words.ip_bytes());
    const Packet to = renamed(random, words);
    ASSERT_EQ(rewrite_to(run, to), Rewritten::done);
    expect_unfinished(run, to);
    ASSERT_EQ(cut(burst, run), naive_segments(to, gso_size));
  }
}

TEST(RewrittenRuns, Joined) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  static Burst burst;
  for (int round = 0; round < 500; ++round) {
    burst.clear();
    const Packet words = random_flow(random);
    const size_t segment = 500 + random() % 1000;
    std::vector<Bytes> packets = naive_segments(words, segment);
    Joiner joiner(burst, true, true, true);
    for (Bytes& packet : packets) {
      sallyport::Run run;
      run.head = packet.data();
      run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
      ASSERT_TRUE(parse(run));
      joiner.add(run);
    }
    joiner.finish();
    ASSERT_EQ(burst.count, 1u);
    const Packet to = renamed(random, words);
    ASSERT_EQ(rewrite_to(burst.runs[0], to), Rewritten::done);
    expect_unfinished(burst.runs[0], to);
    std::vector<Bytes> expected = naive_segments(to, segment);
    ASSERT_EQ(cut(burst, burst.runs[0]), expected);
  }
}

// One packet, whose checksum the host left to us.
TEST(RewrittenRuns, Unfinished) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 500; ++round) {
    const Packet words = random_flow(random);
    Bytes packet = build(words);
    const uint32_t pseudo = pseudo_sum(packet, words.family, words.protocol, words.ip_bytes());
    put16(packet, words.checksum_at(), naive_sum(nullptr, 0, pseudo));
    sallyport::Run run;
    run.head = packet.data();
    run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
    ASSERT_TRUE(parse(run));
    run.offload.needs_checksum = true;
    run.offload.checksum_start = run.l4_offset;
    run.offload.checksum_offset = static_cast<uint16_t>(words.checksum_at() - words.ip_bytes());
    const Packet to = renamed(random, words);
    ASSERT_EQ(rewrite_to(run, to), Rewritten::done);
    complete_checksum(run);
    ASSERT_EQ(packet, build(to));
  }
}

}  // namespace
}  // namespace sallyport::test
