#include "dataplane/net/rewrite.h"

#include <gtest/gtest.h>

#include "tests/dataplane/net/shapes.h"

namespace sallyport::test {
namespace {

// New ends, and the same packet had it been made with them.
struct Renamed {
  Bytes source, destination;
  Ends ends;
  Shape expected;
};

Renamed rename(std::mt19937& random, const Shape& shape) {
  Renamed to;
  to.source = random_bytes(random, shape.address_bytes());
  to.destination = random_bytes(random, shape.address_bytes());
  to.expected = shape;
  const auto at = to.expected.ip.begin() + static_cast<ptrdiff_t>(shape.source_at());
  if (random() % 3 != 0) {
    to.ends.source = to.source.data();
    std::copy(to.source.begin(), to.source.end(), at);
  }
  if (random() % 3 != 0) {
    to.ends.destination = to.destination.data();
    std::copy(to.destination.begin(), to.destination.end(),
              at + static_cast<ptrdiff_t>(shape.address_bytes()));
  }
  const uint32_t ports[] = {0, 0xffff, static_cast<uint32_t>(random() & 0xffff)};
  to.ends.source_port = static_cast<uint16_t>(ports[random() % 3]);
  to.ends.destination_port = static_cast<uint16_t>(ports[random() % 3]);
  if (!shape.later && shape.has_ports()) {
    put16(to.expected.l4, 0, to.ends.source_port);
    put16(to.expected.l4, 2, to.ends.destination_port);
  } else if (!shape.later && shape.has_id()) {
    put16(to.expected.l4, 4, to.ends.source_port);
  }
  to.expected.finish();
  return to;
}

TEST(Rewrite, EveryShapeIsAsIfMadeWithTheNewEnds) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 3000; ++round) {
    const Shape shape = random_shape(random);
    SCOPED_TRACE(shape.says());
    const Bytes before = shape.bytes();
    Bytes packet = before;
    sallyport::Run run = run_of(packet, shape);
    ASSERT_EQ(run.fragment, shape.fragmented);
    ASSERT_EQ(run.protocol, shape.later ? 0 : shape.protocol);
    ASSERT_EQ(run.l4_offset, shape.ip.size());
    const Ends as_it_is = ends_of(run);
    const Renamed to = rename(random, shape);
    const bool refused = shape.protocol == kProtocolSctp && shape.fragmented && !shape.later &&
                         to.expected.l4 != shape.l4;
    const Rewritten done = rewrite(run, to.ends);
    if (refused) {
      ASSERT_EQ(done, Rewritten::sctp_fragmented);
      ASSERT_EQ(packet, before);
      continue;
    }
    ASSERT_EQ(done, Rewritten::done);
    ASSERT_EQ(packet, to.expected.bytes());

    // And back.
    Ends back;
    back.source = before.data() + shape.source_at();
    back.destination = back.source + shape.address_bytes();
    back.source_port = as_it_is.source_port;
    back.destination_port = as_it_is.destination_port;
    ASSERT_EQ(rewrite(run, back), Rewritten::done);
    ASSERT_EQ(packet, before);
  }
}

TEST(Rewrite, EndsAreReadAsTheyStand) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 500; ++round) {
    const Shape shape = random_shape(random);
    SCOPED_TRACE(shape.says());
    Bytes packet = shape.bytes();
    const Ends ends = ends_of(run_of(packet, shape));
    EXPECT_EQ(ends.source, packet.data() + shape.source_at());
    EXPECT_EQ(ends.destination, ends.source + shape.address_bytes());
    uint32_t source = 0, destination = 0;
    if (!shape.later && shape.has_ports()) {
      source = get16(shape.l4, 0);
      destination = get16(shape.l4, 2);
    } else if (!shape.later && shape.has_id()) {
      source = destination = get16(shape.l4, 4);
    }
    EXPECT_EQ(ends.source_port, source);
    EXPECT_EQ(ends.destination_port, destination);
  }
}

TEST(Rewrite, DamageStaysWhatItWas) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 1000; ++round) {
    Shape shape = random_shape(random);
    if (shape.fragmented || shape.unfinished || shape.l4.size() < 61) {
      continue;
    }
    SCOPED_TRACE(shape.says());
    Bytes packet = shape.bytes();
    sallyport::Run run = run_of(packet, shape);
    const Renamed to = rename(random, shape);
    packet.back() ^= 0x10;
    ASSERT_EQ(rewrite(run, to.ends), Rewritten::done);
    packet.back() ^= 0x10;
    ASSERT_EQ(packet, to.expected.bytes());
  }
}

// RFC 768: no checksum is none afterwards; a sum of zero is written as 0xffff.
TEST(Rewrite, UdpChecksumsOfZero) {
  for (const Family family : {Family::v4, Family::v6}) {
    Packet words;
    words.family = family;
    words.protocol = kProtocolUdp;
    words.payload = {1, 2};
    const size_t field = words.checksum_at();
    unsigned all_ones = 0;
    for (uint32_t port = 0; port <= 0xffff; ++port) {
      Bytes packet = build(words);
      sallyport::Run run = run_of(packet);
      Ends to = ends_of(run);
      to.source_port = static_cast<uint16_t>(port);
      ASSERT_EQ(rewrite(run, to), Rewritten::done);
      ASSERT_NE(get16(packet, field), 0u);
      all_ones += get16(packet, field) == 0xffff ? 1 : 0;
      ASSERT_TRUE(l4_checksum_right(packet, family, kProtocolUdp, words.ip_bytes()));
    }
    EXPECT_GE(all_ones, 1u) << "one port at least makes the sum zero";
  }
}

TEST(Rewrite, ShortL4HeadersAreRefusedUntouched) {
  for (const int protocol : {6, 17, 33, 132, 136, 1}) {
    const size_t whole = protocol == 6 ? 20 : protocol == 33 || protocol == 132 ? 12 : 8;
    for (size_t l4 = 0; l4 <= whole; ++l4) {
      Packet words;
      words.protocol = 254;
      words.payload = Bytes(l4, 8);
      Bytes packet = build(words);
      packet[9] = static_cast<uint8_t>(protocol);
      fix_ip_checksum(packet);
      const Bytes before = packet;
      sallyport::Run run = run_of(packet);
      const uint8_t other[4] = {192, 0, 2, 1};
      Ends to;
      to.source = other;
      EXPECT_EQ(rewrite(run, to), l4 < whole ? Rewritten::too_short : Rewritten::done);
      EXPECT_EQ(packet == before, l4 < whole) << protocol << " " << l4;
    }
  }
}

TEST(Rewrite, SourceRoutesAreRefusedWhileTheyLead) {
  const struct {
    const char* name;
    Bytes options;
    bool refused;
  } cases[] = {
      {"strict, first hop ahead", {137, 7, 4, 1, 2, 3, 4, 0}, true},
      {"loose, behind others", {1, 1, 1, 131, 7, 4, 1, 2, 3, 4, 0, 0}, true},
      {"loose, all visited", {131, 7, 8, 1, 2, 3, 4, 0}, false},
      {"record route", {7, 7, 4, 1, 2, 3, 4, 0}, false},
      {"behind the end", {0, 131, 7, 4, 1, 2, 3, 4}, false},
      {"behind a length of nothing", {148, 0, 131, 7, 4, 1, 2, 3}, false},
  };
  const uint8_t other[16] = {192, 0, 2, 1};
  Ends to;
  to.source = other;
  for (const auto& each : cases) {
    Packet words;
    words.ip_options = each.options;
    Bytes packet = build(words);
    sallyport::Run run = run_of(packet);
    EXPECT_EQ(rewrite(run, to) == Rewritten::source_routed, each.refused) << each.name;
  }
  for (const uint8_t left : {uint8_t{0}, uint8_t{1}}) {
    Packet words;
    words.family = Family::v6;
    words.protocol = 43;
    words.payload = {59, 0, 0, left, 0, 0, 0, 0};
    Bytes packet = build(words);
    sallyport::Run run = run_of(packet);
    EXPECT_EQ(rewrite(run, to), left == 0 ? Rewritten::done : Rewritten::source_routed);
  }
}

// A tunnel's own UDP header over a packet whose checksum the host has left to us.
TEST(Rewrite, AnInnerPacketsUnfinishedChecksumIsNotOurs) {
  Packet words;
  words.protocol = kProtocolUdp;
  words.payload = Bytes(60, 3);
  Bytes packet = build(words);
  sallyport::Run run = run_of(packet);
  run.offload.needs_checksum = true;
  run.offload.checksum_start = 56;
  run.offload.checksum_offset = 6;
  const uint8_t other[4] = {192, 0, 2, 1};
  Ends to = ends_of(run);
  to.source = other;
  to.source_port = 9;
  ASSERT_EQ(rewrite(run, to), Rewritten::done);
  EXPECT_TRUE(l4_checksum_right(packet, Family::v4, kProtocolUdp, 20));
}

TEST(Rewrite, NothingBreaksIt) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 4000; ++round) {
    Bytes packet = random_shape(random).bytes();
    packet.resize(random() % (packet.size() + 1));
    for (size_t changes = random() % 6; changes > 0 && !packet.empty(); --changes) {
      packet[random() % std::min<size_t>(packet.size(), 90)] = static_cast<uint8_t>(random());
    }
    packet.shrink_to_fit();
    sallyport::Run run;
    run.head = packet.data();
    run.head_bytes = ip_length(packet.data(), static_cast<uint32_t>(packet.size()));
    run.bytes = run.head_bytes;
    if (run.head_bytes == 0 || !parse(run)) {
      continue;
    }
    const Bytes before = packet;
    const Bytes addresses = random_bytes(random, 32);
    const Ends was = ends_of(run);
    Ends to{addresses.data(), addresses.data() + 16, static_cast<uint16_t>(random()),
            static_cast<uint16_t>(random())};
    const Rewritten done = rewrite(run, to);
    if (done != Rewritten::done) {
      ASSERT_EQ(packet, before);
      continue;
    }
    const size_t source = run.family == Family::v4 ? 12 : 8;
    Ends back{before.data() + source, before.data() + source + (run.family == Family::v4 ? 4 : 16),
              was.source_port, was.destination_port};
    ASSERT_EQ(rewrite(run, back), Rewritten::done);
  }
}

}  // namespace
}  // namespace sallyport::test
