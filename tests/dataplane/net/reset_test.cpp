#include "dataplane/net/reset.h"

#include <gtest/gtest.h>

#include "dataplane/net/parse.h"
#include "tests/dataplane/net/packets.h"

namespace sallyport::test {
namespace {

Bytes answer(Bytes packet, size_t room = kResetBytesMax, uint32_t bytes = 0) {
  Run run;
  run.head = packet.data();
  run.head_bytes = run.bytes = static_cast<uint32_t>(packet.size());
  EXPECT_TRUE(parse(run));
  if (bytes != 0) {
    run.bytes = bytes;
  }
  Bytes out(room, 0xee);
  out.resize(tcp_reset(run, out));
  return out;
}

Packet segment(Family family, uint8_t flags, size_t payload = 0) {
  Packet words;
  words.family = family;
  words.flags = flags;
  words.sequence = 0xfffffff0;
  words.acknowledgement = 777;
  words.payload = Bytes(payload, 0x55);
  return words;
}

struct Fields {
  uint32_t sequence, acknowledgement, flags;
};

// After checking what every reset has.
Fields fields_of(const Bytes& sent, const Packet& asked) {
  const size_t ip = asked.family == Family::v4 ? 20 : 40;
  if (sent.size() != ip + 20) {
    ADD_FAILURE() << sent.size() << " bytes";
    return {};
  }
  if (asked.family == Family::v4) {
    EXPECT_EQ(sent[0], 0x45);
    EXPECT_EQ(get16(sent, 2), 40u);
    EXPECT_EQ(sent[9], kProtocolTcp);
    EXPECT_EQ(naive_sum(sent.data(), 20), 0xffff);
    EXPECT_EQ(sent[15], asked.destination);
    EXPECT_EQ(sent[19], asked.source);
  } else {
    EXPECT_EQ(sent[0] >> 4, 6);
    EXPECT_EQ(get16(sent, 4), 20u);
    EXPECT_EQ(sent[6], kProtocolTcp);
    EXPECT_EQ(sent[23], asked.destination);
    EXPECT_EQ(sent[39], asked.source);
  }
  EXPECT_EQ(get16(sent, ip), asked.destination_port);
  EXPECT_EQ(get16(sent, ip + 2), asked.source_port);
  EXPECT_EQ(sent[ip + 12], 5 << 4);
  EXPECT_TRUE(l4_checksum_right(sent, asked.family, kProtocolTcp, ip));
  const auto word = [&](size_t at) { return get16(sent, at) << 16 | get16(sent, at + 2); };
  return {word(ip + 4), word(ip + 8), sent[ip + 13]};
}

// RFC 9293 3.10.7.1: with an ACK, the reset stands where the sender expects the next byte from us.
TEST(TcpReset, AnswersAnAckFromItsNumber) {
  for (const Family family : {Family::v4, Family::v6}) {
    const Packet asked = segment(family, kTcpAck | kTcpPsh, 50);
    const Fields reset = fields_of(answer(build(asked)), asked);
    EXPECT_EQ(reset.flags, kTcpRst);
    EXPECT_EQ(reset.sequence, 777u);
    EXPECT_EQ(reset.acknowledgement, 0u);
  }
}

// Without one, it acknowledges all that the segment takes up, SYN and FIN a number each.
TEST(TcpReset, AcknowledgesWhatHasNoAck) {
  const struct {
    uint8_t flags;
    size_t payload;
    uint32_t length;
  } cases[] = {
      {kTcpSyn, 0, 1}, {kTcpFin, 10, 11}, {kTcpSyn | kTcpFin, 5, 7}, {0, 0, 0}, {0, 99, 99}};
  for (const Family family : {Family::v4, Family::v6}) {
    for (const auto& each : cases) {
      Packet asked = segment(family, each.flags, each.payload);
      asked.tcp_options = Bytes(12, 1);
      const Fields reset = fields_of(answer(build(asked)), asked);
      EXPECT_EQ(reset.flags, kTcpRst | kTcpAck);
      EXPECT_EQ(reset.sequence, 0u);
      EXPECT_EQ(reset.acknowledgement, asked.sequence + each.length) << "modulo 2^32";
    }
  }
}

TEST(TcpReset, AcknowledgesAWholeSuperPacket) {
  const Packet asked = segment(Family::v4, kTcpFin);
  const Fields reset = fields_of(answer(build(asked), kResetBytesMax, 40 + 50'000), asked);
  EXPECT_EQ(reset.acknowledgement, asked.sequence + 50'001);
}

TEST(TcpReset, IsNotAnsweredWithAnother) {
  EXPECT_TRUE(answer(build(segment(Family::v4, kTcpRst))).empty());
  EXPECT_TRUE(answer(build(segment(Family::v6, kTcpRst | kTcpAck))).empty());
}

TEST(TcpReset, NeedsAWholeTcpHeader) {
  Packet words;
  words.protocol = kProtocolUdp;
  EXPECT_TRUE(answer(build(words)).empty());
  Bytes cut = build(segment(Family::v4, kTcpSyn));
  cut.resize(39);
  put16(cut, 2, 39);
  EXPECT_TRUE(answer(cut).empty());
  Bytes lies = build(segment(Family::v4, kTcpSyn));
  lies[32] = 4 << 4;  // a header shorter than any
  EXPECT_TRUE(answer(lies).empty());
  lies[32] = 6 << 4;  // longer than the packet
  EXPECT_TRUE(answer(lies).empty());
  Packet fragment = segment(Family::v4, kTcpSyn);
  fragment.fragment = 1;
  EXPECT_TRUE(answer(build(fragment)).empty());
}

TEST(TcpReset, NotToOrFromWhatIsNoSingleHost) {
  Bytes packet = build(segment(Family::v4, kTcpSyn));
  packet[16] = 224;
  EXPECT_TRUE(answer(packet).empty());
  packet = build(segment(Family::v4, kTcpSyn));
  packet[12] = 127;
  EXPECT_TRUE(answer(packet).empty());
  packet = build(segment(Family::v6, kTcpSyn));
  packet[24] = 0xff;
  EXPECT_TRUE(answer(packet).empty());
}

TEST(TcpReset, NotWithoutRoom) {
  const Bytes v4 = build(segment(Family::v4, kTcpSyn)), v6 = build(segment(Family::v6, kTcpSyn));
  EXPECT_EQ(answer(v4, 40).size(), 40u);
  EXPECT_EQ(answer(v4, 39).size(), 0u);
  EXPECT_EQ(answer(v6, 60).size(), 60u);
  EXPECT_EQ(answer(v6, 59).size(), 0u);
}

}  // namespace
}  // namespace sallyport::test
