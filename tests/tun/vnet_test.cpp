#include "tun/vnet.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <random>
#include <vector>

#include "dataplane/net/checksum.h"

namespace sallyport {
namespace {

using Bytes = std::vector<uint8_t>;

// 20 bytes of IPv4, 20 of TCP, then payload.
Bytes tcp4(size_t payload) {
  Bytes packet(40 + payload, 0x5a);
  packet[0] = 0x45;
  packet[6] = packet[7] = 0;
  packet[9] = IPPROTO_TCP;
  packet[32] = 0x50;
  return packet;
}

Bytes tcp6(size_t payload) {
  Bytes packet(60 + payload, 0x5a);
  packet[0] = 0x60;
  packet[6] = IPPROTO_TCP;
  packet[52] = 0x50;
  return packet;
}

Bytes udp4(size_t payload) {
  Bytes packet = tcp4(payload);
  packet[9] = IPPROTO_UDP;
  return packet;
}

constexpr VnetHeader kTso4{1, 1, 40, 1000, 20, 16};
constexpr VnetHeader kTso6{1, 4, 60, 1000, 40, 16};
constexpr VnetHeader kUso{1, 5, 28, 1000, 20, 6};

bool sound(VnetHeader header, const Bytes& packet) {
  Offload offload;
  return read_vnet(header, packet, offload);
}

TEST(Vnet, PlainPacket) {
  Offload offload;
  ASSERT_TRUE(read_vnet({}, tcp4(100), offload));
  EXPECT_EQ(offload.gso, Gso::none);
  EXPECT_FALSE(offload.needs_checksum);
  EXPECT_FALSE(offload.checksum_valid);
  ASSERT_TRUE(read_vnet({2, 0, 0, 0, 0, 0}, tcp4(100), offload));
  EXPECT_TRUE(offload.checksum_valid);
}

TEST(Vnet, OpenChecksum) {
  Offload offload;
  ASSERT_TRUE(read_vnet({1, 0, 0, 0, 20, 16}, tcp4(100), offload));
  EXPECT_TRUE(offload.needs_checksum);
  EXPECT_EQ(offload.checksum_start, 20);
  EXPECT_EQ(offload.checksum_offset, 16);
  EXPECT_TRUE(sound({1, 0, 0, 0, 20, 16}, Bytes(38)));
  EXPECT_FALSE(sound({1, 0, 0, 0, 20, 17}, Bytes(38)));
  EXPECT_FALSE(sound({1, 0, 0, 0, 19, 6}, tcp4(100)));
  EXPECT_FALSE(sound({1, 0, 0, 0, 65535, 65535}, tcp4(100)));
}

TEST(Vnet, SuperPackets) {
  Offload offload;
  ASSERT_TRUE(read_vnet(kTso4, tcp4(3000), offload));
  EXPECT_EQ(offload.gso, Gso::tcp4);
  EXPECT_EQ(offload.gso_size, 1000);
  ASSERT_TRUE(read_vnet(kTso6, tcp6(3000), offload));
  EXPECT_EQ(offload.gso, Gso::tcp6);
  ASSERT_TRUE(read_vnet(kUso, udp4(3000), offload));
  EXPECT_EQ(offload.gso, Gso::udp);
  ASSERT_TRUE(read_vnet({1, 0x81, 40, 1000, 20, 16}, tcp4(3000), offload)) << "with CWR";
  EXPECT_EQ(offload.gso, Gso::tcp4);
}

TEST(Vnet, OneSegmentIsNoSuperPacket) {
  Offload offload;
  ASSERT_TRUE(read_vnet(kTso4, tcp4(1000), offload));
  EXPECT_EQ(offload.gso, Gso::none);
  EXPECT_TRUE(offload.needs_checksum);
  ASSERT_TRUE(read_vnet(kTso4, tcp4(1001), offload));
  EXPECT_EQ(offload.gso, Gso::tcp4);
}

TEST(Vnet, Contradictions) {
  EXPECT_FALSE(sound({}, {})) << "no packet";
  EXPECT_FALSE(sound({}, Bytes(65536))) << "larger than IP allows";
  EXPECT_FALSE(sound({4, 0, 0, 0, 0, 0}, tcp4(10))) << "unknown flag";
  EXPECT_FALSE(sound({1, 3, 28, 1000, 20, 6}, udp4(3000))) << "UFO is not asked for";
  EXPECT_FALSE(sound({1, 0x80, 0, 0, 20, 16}, tcp4(10))) << "CWR without TSO";
  EXPECT_FALSE(sound({1, 0x85, 28, 1000, 20, 6}, udp4(3000))) << "CWR with USO";
  EXPECT_FALSE(sound(kTso4, tcp6(3000))) << "the other family";
  EXPECT_FALSE(sound(kTso6, tcp4(3000))) << "the other family";
  EXPECT_FALSE(sound(kTso4, udp4(3000))) << "not TCP";
  EXPECT_FALSE(sound(kUso, tcp4(3000))) << "not UDP";
  EXPECT_FALSE(sound({0, 1, 40, 1000, 20, 16}, tcp4(3000))) << "a super-packet's checksum is open";
  EXPECT_FALSE(sound({1, 1, 40, 0, 20, 16}, tcp4(3000))) << "segments of nothing";
  EXPECT_FALSE(sound({1, 1, 40, 1000, 24, 16}, tcp4(3000))) << "TCP not where IP ends";
  EXPECT_FALSE(sound({1, 1, 40, 1000, 20, 6}, tcp4(3000))) << "not TCP's checksum";
  Bytes packet = tcp4(3000);
  packet[32] = 0x40;
  EXPECT_FALSE(sound(kTso4, packet)) << "TCP header too short";
  packet = tcp4(4);
  packet[32] = 0xf0;
  EXPECT_FALSE(sound(kTso4, packet)) << "TCP header longer than the packet";
  packet = tcp4(3000);
  packet[7] = 1;
  EXPECT_FALSE(sound(kTso4, packet)) << "a fragment";
  packet[7] = 0;
  packet[6] = 0x20;
  EXPECT_FALSE(sound(kTso4, packet)) << "a first fragment";
  packet[6] = 0x40;
  EXPECT_TRUE(sound(kTso4, packet)) << "DF is fine";
}

TEST(Vnet, WriteIsReadBack) {
  Offload offload;
  ASSERT_TRUE(read_vnet(kTso4, tcp4(3000), offload));
  offload.header_bytes = 40;
  const VnetHeader header = write_vnet(offload);
  EXPECT_EQ(std::memcmp(&header, &kTso4, sizeof(header)), 0);
  const VnetHeader plain = write_vnet({});
  EXPECT_EQ(std::memcmp(&plain, "\0\0\0\0\0\0\0\0\0\0", sizeof(plain)), 0);
}

// However the packet is sliced, the finished checksum verifies: all of L4 and the pseudo-header sum
// to zero.
TEST(Vnet, CompleteChecksumOverAnySlices) {
  std::mt19937 random(7);  // always the same
  for (int round = 0; round < 500; ++round) {
    Bytes packet = tcp4(random() % 200);
    for (size_t i = 40; i < packet.size(); ++i) {
      packet[i] = static_cast<uint8_t>(random());
    }
    const uint32_t l4 = static_cast<uint32_t>(packet.size() - 20);
    const uint64_t pseudo = checksum_pseudo(packet.data(), Family::v4, IPPROTO_TCP, l4);
    const uint16_t open = checksum_fold(pseudo);
    std::memcpy(packet.data() + 36, &open, 2);
    std::vector<Slice> slices{{packet.data(), 38}};
    for (uint32_t at = 38; at < packet.size();) {
      const uint32_t length =
          std::min(static_cast<uint32_t>(random() % 9), static_cast<uint32_t>(packet.size()) - at);
      slices.push_back({packet.data() + at, length});
      at += length;
    }
    Offload offload;
    offload.needs_checksum = true;
    offload.checksum_start = 20;
    offload.checksum_offset = 16;
    ASSERT_TRUE(complete_checksum(slices, offload));
    ASSERT_EQ(checksum_fold(checksum_add(pseudo, packet.data() + 20, l4)), 0xffff)
        << "round " << round;
  }
}

TEST(Vnet, CompleteChecksumOutsideThePacket) {
  Bytes packet = tcp4(0);
  const Slice slice{packet.data(), 36};
  Offload offload;
  offload.checksum_start = 20;
  offload.checksum_offset = 16;
  EXPECT_FALSE(complete_checksum({&slice, 1}, offload));
}

}  // namespace
}  // namespace sallyport
