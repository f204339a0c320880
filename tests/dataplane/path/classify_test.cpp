#include "dataplane/path/classify.h"

#include <set>

#include "tests/dataplane/path/line.h"

namespace sallyport::test {
namespace {

class ClassifyTest : public Line {
 protected:
  RuleKey key_of(const Bytes& bytes, wireguard::Peer* from = nullptr) {
    return classify(*context, memory_.packet(bytes, from));
  }

  Memory memory_;
};

TEST_F(ClassifyTest, TakesTheFieldsOfAPacket) {
  for (const Family family : {Family::v4, Family::v6}) {
    Packet packet = words(family, kProtocolUdp);
    packet.tos = 0xb8;
    packet.source_port = 4321;
    packet.destination_port = 53;
    const RuleKey key = key_of(build(packet));
    EXPECT_EQ(key.v4, family == Family::v4);
    const size_t last = key.v4 ? 3 : 15;
    EXPECT_EQ(key.source[0], key.v4 ? 10 : 0xfd);
    EXPECT_EQ(key.source[last], packet.source);
    EXPECT_EQ(key.destination[last], packet.destination);
    EXPECT_EQ(key.protocol, kProtocolUdp);
    EXPECT_EQ(key.tos, 0xb8);
    ASSERT_TRUE(key.has_ports);
    EXPECT_EQ(key.source_port, 4321);
    EXPECT_EQ(key.destination_port, 53);
  }
}

TEST_F(ClassifyTest, KnowsWhereItCameIn) {
  begin_second();
  const uint32_t name = tag(1);
  const Bytes packet = build(words());
  EXPECT_EQ(key_of(packet).iif, iif_number(0, true));
  EXPECT_EQ(key_of(packet).peer, 0u);
  EXPECT_EQ(key_of(packet, &peer(1)).iif, iif_number(0, false));
  EXPECT_EQ(key_of(packet, &peer(1)).peer, name);
  EXPECT_EQ(key_of(packet, &peer(2)).peer, 0u) << "nobody has named it";
  context->enter(1);
  EXPECT_EQ(key_of(packet).iif, iif_number(1, true));
  EXPECT_EQ(key_of(packet, &peer(11)).iif, iif_number(1, false));
}

TEST_F(ClassifyTest, PortsAreThereForTheProtocolsThatHaveThem) {
  for (int protocol = 0; protocol < 256; ++protocol) {
    Packet packet = words(Family::v4, static_cast<uint8_t>(protocol));
    packet.protocol = static_cast<uint8_t>(protocol);
    const bool has =
        protocol == 6 || protocol == 17 || protocol == 33 || protocol == 132 || protocol == 136;
    EXPECT_EQ(key_of(build(packet)).has_ports, has) << protocol;
  }
}

TEST_F(ClassifyTest, NoPortsInALaterFragmentOrAHeaderCutShort) {
  Packet packet = words(Family::v4, kProtocolUdp);
  packet.fragment = kIpv4MoreFragments;
  EXPECT_TRUE(key_of(build(packet)).has_ports) << "the first fragment has them";
  packet.fragment = 7;
  EXPECT_FALSE(key_of(build(packet)).has_ports);
  EXPECT_EQ(key_of(build(packet)).protocol, 0);
  Packet bare = words(Family::v4, 132, 3);  // SCTP, three bytes of it
  EXPECT_FALSE(key_of(build(bare)).has_ports);
  bare.payload = {1, 2, 3, 4};
  EXPECT_TRUE(key_of(build(bare)).has_ports);
  EXPECT_EQ(key_of(build(bare)).destination_port, 0x304);
}

TEST_F(ClassifyTest, ASuperPacketIsItsFlows) {
  const Packet super = words(Family::v6, kProtocolTcp, 3000);
  const RxFrame frame = plain_frame(build(super), offload_of(super, 1000));
  ingress_plain(*context, {&frame, 1});
  const RuleKey key = classify(*context, context->burst.runs[0]);
  EXPECT_TRUE(key.has_ports);
  EXPECT_EQ(key.destination_port, super.destination_port);
  context->end_burst();
  give_back({&frame, 1});
}

TEST_F(ClassifyTest, KeysDifferInEachField) {
  const Bytes bytes = build(words(Family::v4, kProtocolUdp));
  const RuleKey key = key_of(bytes);
  EXPECT_TRUE(same_key(key, key_of(bytes))) << "other bytes of the same content";
  const auto differs = [&](auto change) {
    RuleKey other = key;
    change(other);
    return !same_key(key, other) && !same_key(other, key);
  };
  const uint8_t address[16] = {10, 0, 0, 77};
  EXPECT_TRUE(differs([](RuleKey& other) { other.v4 = false; }));
  EXPECT_TRUE(differs([&](RuleKey& other) { other.source = address; }));
  EXPECT_TRUE(differs([&](RuleKey& other) { other.destination = address; }));
  EXPECT_TRUE(differs([](RuleKey& other) { ++other.iif; }));
  EXPECT_TRUE(differs([](RuleKey& other) { ++other.peer; }));
  EXPECT_TRUE(differs([](RuleKey& other) { ++other.protocol; }));
  EXPECT_TRUE(differs([](RuleKey& other) { other.has_ports = false; }));
  EXPECT_TRUE(differs([](RuleKey& other) { ++other.source_port; }));
  EXPECT_TRUE(differs([](RuleKey& other) { ++other.destination_port; }));
  EXPECT_TRUE(differs([](RuleKey& other) { ++other.tos; }));
}

TEST_F(ClassifyTest, V6KeysDifferInTheLastByte) {
  const Bytes bytes = build(words(Family::v6, kProtocolUdp));
  const RuleKey key = key_of(bytes);
  uint8_t address[16];
  std::memcpy(address, key.destination, 16);
  RuleKey other = key;
  other.destination = address;
  EXPECT_TRUE(same_key(key, other));
  ++address[15];
  EXPECT_FALSE(same_key(key, other));
}

TEST_F(ClassifyTest, AFlowsHashIsItsOwn) {
  Packet packet = words(Family::v4, kProtocolUdp, 10);
  const uint64_t hash = flow_hash(key_of(build(packet)));
  packet.payload = Bytes(500, 3);
  packet.tos = 7;
  packet.id = 1234;
  packet.ttl = 3;
  EXPECT_EQ(flow_hash(key_of(build(packet))), hash) << "of what no flow is known by";
  std::set<uint64_t> hashes{hash};
  for (const Family family : {Family::v4, Family::v6}) {
    for (uint16_t i = 1; i <= 1000; ++i) {
      packet.family = family;
      packet.source_port = static_cast<uint16_t>(1000 + i);
      packet.destination_port = 2000;
      hashes.insert(flow_hash(key_of(build(packet))));
      packet.source_port = 1000;
      packet.destination_port = static_cast<uint16_t>(2000 + i);
      hashes.insert(flow_hash(key_of(build(packet))));
    }
  }
  EXPECT_EQ(hashes.size(), 4001u);
  size_t odd = 0, high = 0;
  for (const uint64_t each : hashes) {
    odd += each & 1;
    high += each >> 63;
  }
  EXPECT_NEAR(static_cast<double>(odd), 2000, 200);
  EXPECT_NEAR(static_cast<double>(high), 2000, 200);
}

}  // namespace
}  // namespace sallyport::test
