#include "dataplane/path/join.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "dataplane/path/segment.h"
#include "tests/dataplane/path/runs.h"

namespace sallyport::test {
namespace {

// Peers are only compared here, never looked into.
wireguard::Peer* peer(uintptr_t number) {
  return reinterpret_cast<wireguard::Peer*>(number * 64);
}

struct Joining {
  explicit Joining(bool tcp4 = true, bool tcp6 = true, bool udp = true)
      : burst(std::make_unique<Burst>()), joiner(*burst, tcp4, tcp6, udp) {}

  void add(const Bytes& packet, uintptr_t from = 1) {
    joiner.add(memory.packet(packet, peer(from)));
  }

  // The segments of each run, after finish().
  std::vector<uint32_t> runs() {
    joiner.finish();
    std::vector<uint32_t> counts;
    for (size_t i = 0; i < burst->count; ++i) {
      counts.push_back(burst->runs[i].segments);
    }
    return counts;
  }

  // The packets that a run stands for.
  std::vector<Bytes> cut(const Run& run) const {
    if (run.segments == 1) {
      return {Bytes(run.head, run.head + run.head_bytes)};
    }
    std::vector<Bytes> out;
    SegmentWalk walk(*burst, run);
    while (walk.next()) {
      Bytes segment(walk.head_bytes());
      walk.write_head(segment.data());
      segment.insert(segment.end(), walk.payload(), walk.payload() + walk.payload_bytes());
      out.push_back(std::move(segment));
    }
    return out;
  }

  Memory memory;
  std::unique_ptr<Burst> burst;
  Joiner joiner;
};

// A stream of packets of one flow; each continues where the last ended.
struct Stream {
  Packet words;

  Bytes next(size_t payload) {
    words.payload = Bytes(payload, static_cast<uint8_t>(words.sequence));
    const Bytes packet = build(words);
    words.sequence += static_cast<uint32_t>(payload);
    ++words.id;
    return packet;
  }
};

Stream stream(Family family, uint8_t protocol, uint16_t port = 1000) {
  Stream out;
  out.words.family = family;
  out.words.protocol = protocol;
  out.words.source_port = port;
  return out;
}

struct Kind {
  Family family;
  uint8_t protocol;
};
constexpr Kind kKinds[] = {{Family::v4, kProtocolTcp},
                           {Family::v6, kProtocolTcp},
                           {Family::v4, kProtocolUdp},
                           {Family::v6, kProtocolUdp}};

TEST(Join, PayloadSizesDecide) {
  const struct {
    std::vector<size_t> payloads;
    std::vector<uint32_t> runs;
  } cases[] = {
      {{100}, {1}},
      {{100, 100}, {2}},
      {{100, 100, 100}, {3}},
      {{100, 100, 50}, {3}},    // a short one is the last
      {{100, 50, 50}, {2, 1}},  // and nothing comes behind it
      {{100, 50, 100, 100}, {2, 2}},
      {{50, 100, 100}, {1, 2}},    // a longer one begins anew
      {{100, 0, 100}, {1, 1, 1}},  // an empty one stays alone and ends what was open
      {{1, 1, 1, 1}, {4}},
      {{1400, 1400, 1}, {3}},
  };
  for (const Kind& kind : kKinds) {
    for (const auto& each : cases) {
      Joining joining;
      Stream flow = stream(kind.family, kind.protocol);
      for (const size_t payload : each.payloads) {
        joining.add(flow.next(payload));
      }
      EXPECT_EQ(joining.runs(), each.runs)
          << "v" << static_cast<int>(kind.family) << " protocol " << int{kind.protocol};
    }
  }
}

TEST(Join, OnlyWhatThePortTakes) {
  for (int taken = 0; taken < 8; ++taken) {
    Joining joining((taken & 1) != 0, (taken & 2) != 0, (taken & 4) != 0);
    std::vector<uint32_t> expected;
    for (const Kind& kind : kKinds) {
      Stream flow = stream(kind.family, kind.protocol);
      joining.add(flow.next(10));
      joining.add(flow.next(10));
      const int bit = kind.protocol == kProtocolUdp ? 4 : kind.family == Family::v4 ? 1 : 2;
      if ((taken & bit) != 0) {
        expected.push_back(2);
      } else {
        expected.insert(expected.end(), {1, 1});
      }
    }
    EXPECT_EQ(joining.runs(), expected) << taken;
  }
}

TEST(Join, AHeaderThatChangesBeginsANewRun) {
  const struct {
    const char* name;
    void (*change)(Packet& words);
    bool v6, tcp, udp;  // where it matters, beside v4
  } cases[] = {
      {"source address", [](Packet& p) { p.source = 9; }, true, true, true},
      {"destination address", [](Packet& p) { p.destination = 9; }, true, true, true},
      {"source port", [](Packet& p) { p.source_port = 9; }, true, true, true},
      {"destination port", [](Packet& p) { p.destination_port = 9; }, true, true, true},
      {"tos", [](Packet& p) { p.tos = 0xb8; }, true, true, true},
      {"ECN", [](Packet& p) { p.tos = 3; }, true, true, true},
      {"TTL", [](Packet& p) { p.ttl = 9; }, true, true, true},
      {"flow label",
       [](Packet& p) {
         p.flow_label = p.family == Family::v6 ? 9 : 0;
         p.ttl = 9;
       },
       true, true, true},
      {"DF",
       [](Packet& p) {
         p.fragment = 0;
         p.ttl = p.family == Family::v6 ? 9 : p.ttl;
       },
       true, true, true},
      {"sequence", [](Packet& p) { ++p.sequence; }, true, true, false},
      {"sequence back", [](Packet& p) { p.sequence -= 100; }, true, true, false},
      {"acknowledgement", [](Packet& p) { ++p.acknowledgement; }, true, true, false},
      {"window", [](Packet& p) { ++p.window; }, true, true, false},
      {"FIN", [](Packet& p) { p.flags |= kTcpFin; }, true, true, false},
      {"SYN", [](Packet& p) { p.flags |= 0x02; }, true, true, false},
      {"RST", [](Packet& p) { p.flags |= 0x04; }, true, true, false},
      {"URG", [](Packet& p) { p.flags |= 0x20; }, true, true, false},
      {"ECE", [](Packet& p) { p.flags |= 0x40; }, true, true, false},
      {"CWR", [](Packet& p) { p.flags |= kTcpCwr; }, true, true, false},
      {"no ACK", [](Packet& p) { p.flags = 0; }, true, true, false},
      {"option bytes", [](Packet& p) { p.tcp_options.back() ^= 1; }, true, true, false},
      {"option length", [](Packet& p) { p.tcp_options.resize(8); }, true, true, false},
      {"no UDP checksum", [](Packet& p) { p.udp_checksum = false; }, true, false, true},
  };
  for (const Kind& kind : kKinds) {
    for (const auto& each : cases) {
      if (kind.protocol == kProtocolTcp ? !each.tcp : !each.udp) {
        continue;
      }
      Joining joining;
      Stream flow = stream(kind.family, kind.protocol);
      flow.words.tcp_options = {1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8};
      joining.add(flow.next(100));
      joining.add(flow.next(100));
      each.change(flow.words);
      joining.add(flow.next(100));
      EXPECT_EQ(joining.runs(), (std::vector<uint32_t>{2, 1}))
          << each.name << " v" << static_cast<int>(kind.family) << " protocol "
          << int{kind.protocol};
    }
  }
}

TEST(Join, PushEndsARun) {
  Joining joining;
  Stream flow = stream(Family::v4, kProtocolTcp);
  joining.add(flow.next(100));
  flow.words.flags |= kTcpPsh;
  joining.add(flow.next(100));
  joining.add(flow.next(100));
  joining.add(flow.next(100));
  EXPECT_EQ(joining.runs(), (std::vector<uint32_t>{2, 1, 1}));
  const auto packets = joining.cut(joining.burst->runs[0]);
  EXPECT_EQ(packets[0][33], kTcpAck);
  EXPECT_EQ(packets[1][33], kTcpAck | kTcpPsh);
}

TEST(Join, Ipv4IdsMustFollowUnlessFragmentsAreForbidden) {
  for (const bool forbidden : {true, false}) {
    Joining joining;
    Stream flow = stream(Family::v4, kProtocolTcp);
    flow.words.fragment = forbidden ? kIpv4DontFragment : 0;
    flow.words.id = 0xffff;
    joining.add(flow.next(100));
    joining.add(flow.next(100));
    flow.words.id = 77;
    joining.add(flow.next(100));
    EXPECT_EQ(joining.runs(), forbidden ? std::vector<uint32_t>{3} : std::vector<uint32_t>({2, 1}));
  }
}

TEST(Join, OptionsOrExtensionsOfIpStayAlone) {
  Joining joining;
  Stream flow = stream(Family::v4, kProtocolTcp);
  joining.add(flow.next(100));
  flow.words.ip_options = {1, 1, 1, 1};
  joining.add(flow.next(100));
  flow.words.ip_options = {};
  joining.add(flow.next(100));
  EXPECT_EQ(joining.runs(), (std::vector<uint32_t>{1, 1, 1})) << "nothing overtakes it either";
}

TEST(Join, FragmentsStayAlone) {
  Joining joining;
  Stream flow = stream(Family::v4, kProtocolUdp);
  for (const uint16_t fragment : std::vector<uint16_t>{0, 0x2000, 0x2010, 0x0020, 0}) {
    flow.words.fragment = fragment;
    joining.add(flow.next(96));
  }
  EXPECT_EQ(joining.runs(), (std::vector<uint32_t>{1, 1, 1, 1, 1}));
}

TEST(Join, AWrongChecksumIsNeverVouchedFor) {
  for (const Kind& kind : kKinds) {
    for (const size_t bad : {0, 1, 2}) {
      for (const bool in_ip : {false, true}) {
        if (in_ip && kind.family == Family::v6) {
          continue;
        }
        Joining joining;
        Stream flow = stream(kind.family, kind.protocol);
        std::vector<Bytes> packets;
        for (size_t i = 0; i < 3; ++i) {
          packets.push_back(flow.next(100));
          if (i == bad) {
            packets.back()[in_ip ? 10 : packets.back().size() - 1] ^= 0x40;
          }
          joining.add(packets.back());
        }
        const std::vector<uint32_t> expected = bad == 0   ? std::vector<uint32_t>{1, 2}
                                               : bad == 1 ? std::vector<uint32_t>{1, 1, 1}
                                                          : std::vector<uint32_t>{2, 1};
        EXPECT_EQ(joining.runs(), expected) << bad;
        const sallyport::Run& alone = joining.burst->runs[bad == 2 ? 1 : bad];
        EXPECT_FALSE(alone.offload.checksum_valid);
        EXPECT_EQ(joining.cut(alone)[0], packets[bad]);
      }
    }
  }
}

// -- Headers that lie. Each packet is in an allocation of its size, so that a sanitizer sees a read
// too far.

TEST(Join, LengthsThatLie) {
  const struct {
    uint8_t protocol;
    size_t at;
    Bytes values;
  } cases[] = {
      {kProtocolTcp, 32, {0x00, 0x40, 0xf0}},      // header too small; longer than the packet
      {kProtocolUdp, 25, {0, 7, 8, 37, 39, 255}},  // 38 is the truth
  };
  for (const auto& each : cases) {
    for (const uint8_t value : each.values) {
      Joining joining;
      Stream flow = stream(Family::v4, each.protocol);
      joining.add(flow.next(30));
      Bytes packet = flow.next(30);
      packet[each.at] = value;
      fix_l4_checksum(packet, flow.words);
      joining.add(packet);
      joining.add(flow.next(30));
      EXPECT_EQ(joining.runs(), (std::vector<uint32_t>{1, 1, 1})) << int{value};
    }
  }
}

TEST(Join, PacketsTooShortForTheirL4Header) {
  for (size_t size = 20; size < 44; ++size) {
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      Joining joining;
      Stream flow = stream(Family::v4, protocol);
      joining.add(flow.next(30));
      Bytes packet = flow.next(30);
      packet.resize(size);
      put16(packet, 2, static_cast<uint32_t>(size));
      fix_ip_checksum(packet);
      joining.add(packet);
      EXPECT_EQ(joining.runs(), (std::vector<uint32_t>{1, 1}));
    }
  }
}

TEST(Join, ARunStaysBelow64KiB) {
  Joining joining;
  Stream flow = stream(Family::v4, kProtocolTcp);
  for (int i = 0; i < 50; ++i) {
    joining.add(flow.next(1400));
  }
  EXPECT_EQ(joining.runs(), (std::vector<uint32_t>{46, 4}));
  EXPECT_LE(joining.burst->runs[0].bytes, 65'535u);
  const sallyport::Run& run = joining.burst->runs[0];
  EXPECT_EQ(uint32_t{reinterpret_cast<const Ipv4Header*>(run.head)->total_length}, run.bytes);
  Joining largest;
  flow.words.sequence = 0;
  largest.add(flow.next(32'747));
  largest.add(flow.next(32'748));
  flow.words.sequence = 0;
  largest.add(flow.next(32'748));
  largest.add(flow.next(32'747));
  EXPECT_EQ(largest.runs(), (std::vector<uint32_t>{1, 1, 2})) << "the last is 65,535 long";
}

TEST(Join, ABurstOfOneFlow) {
  Joining joining;
  Stream flow = stream(Family::v6, kProtocolUdp);
  for (size_t i = 0; i < Burst::kRunsMax; ++i) {
    joining.add(flow.next(16));
  }
  EXPECT_EQ(joining.runs(), (std::vector<uint32_t>{256}));
}

TEST(Join, FlowsInTurn) {
  Joining joining;
  std::vector<Stream> flows;
  for (uint16_t port = 0; port < 8; ++port) {
    flows.push_back(stream(Family::v4, kProtocolTcp, port));
  }
  for (int round = 0; round < 4; ++round) {
    for (Stream& flow : flows) {
      joining.add(flow.next(100));
    }
  }
  EXPECT_EQ(joining.runs(), std::vector<uint32_t>(8, 4));
}

TEST(Join, PeersAreKeptApart) {
  Joining joining;
  Stream flow = stream(Family::v4, kProtocolTcp);
  joining.add(flow.next(100), 1);
  joining.add(flow.next(100), 2);
  EXPECT_EQ(joining.runs(), (std::vector<uint32_t>{1, 1}));
}

TEST(Join, TheOffloadOfARunIsWhatAKernelExpects) {
  for (const Kind& kind : kKinds) {
    Joining joining;
    Stream flow = stream(kind.family, kind.protocol);
    joining.add(flow.next(700));
    joining.add(flow.next(300));
    ASSERT_EQ(joining.runs(), std::vector<uint32_t>{2});
    const sallyport::Run& run = joining.burst->runs[0];
    const Offload& offload = run.offload;
    EXPECT_EQ(offload.gso, gso_of(flow.words));
    EXPECT_EQ(offload.gso_size, 700);
    EXPECT_EQ(offload.header_bytes, flow.words.header_bytes());
    EXPECT_TRUE(offload.needs_checksum);
    EXPECT_EQ(offload.checksum_start, flow.words.ip_bytes());
    EXPECT_EQ(offload.checksum_offset, flow.words.checksum_at() - flow.words.ip_bytes());
    // The head is that of one large packet, its L4 checksum the pseudo-header's sum.
    Bytes whole(run.head, run.head + run.head_bytes);
    for (uint32_t i = run.first_piece; i != kNoPiece; i = joining.burst->pieces[i].next) {
      const Piece& piece = joining.burst->pieces[i];
      whole.insert(whole.end(), piece.data, piece.data + piece.length);
    }
    ASSERT_EQ(whole.size(), run.bytes);
    EXPECT_EQ(get16(whole, flow.words.checksum_at()) % 0xffff,
              pseudo_sum(whole, kind.family, kind.protocol, flow.words.ip_bytes()) % 0xffff);
    Packet large = stream(kind.family, kind.protocol).words;
    large.payload = Bytes(whole.end() - 1000, whole.end());
    fix_l4_checksum(whole, large);
    EXPECT_EQ(whole, build(large));
  }
}

// -- Whatever comes: cut again, the runs are the packets that went in, flow by flow in order.

std::string flow_of(const Bytes& packet) {
  const bool v4 = packet[0] >> 4 == 4;
  const size_t l4 = v4 ? (packet[0] & 15u) * 4 : 40;
  std::string key(packet.begin() + (v4 ? 12 : 8), packet.begin() + (v4 ? 20 : 40));
  key += static_cast<char>(packet[v4 ? 9 : 6]);
  if (packet.size() >= l4 + 4) {
    key.append(packet.begin() + static_cast<ptrdiff_t>(l4),
               packet.begin() + static_cast<ptrdiff_t>(l4 + 4));
  }
  return key;
}

// IPv4 ids of unfragmentable packets mean nothing (RFC 6864) and may change.
Bytes without_id(Bytes packet) {
  if (packet[0] >> 4 == 4 && (packet[6] & 0x40) != 0) {
    put16(packet, 4, 0);
    fix_ip_checksum(packet);
  }
  return packet;
}

Bytes random_packet(std::mt19937& random, std::vector<Stream>& flows) {
  Stream& flow = flows[random() % flows.size()];
  Packet& words = flow.words;
  const uint32_t dice = static_cast<uint32_t>(random() % 200);
  words.flags = dice < 5 ? static_cast<uint8_t>(random()) : dice < 15 ? kTcpAck | kTcpPsh : kTcpAck;
  if (dice == 20) {
    words.sequence += 50;
  } else if (dice == 21) {
    words.ttl = static_cast<uint8_t>(60 + random() % 4);
  } else if (dice == 22) {
    words.id = static_cast<uint16_t>(random());
  } else if (dice == 23) {
    words.tos = static_cast<uint8_t>(random() % 4);
  } else if (dice == 24) {
    words.fragment = random() % 2 == 0 ? 0 : kIpv4DontFragment;
  }
  words.udp_checksum = dice != 25;
  const bool wrong_ip = dice == 26 && words.family == Family::v4;
  const size_t full = words.family == Family::v4 ? 200 : 333;
  Bytes packet = flow.next(dice < 40 ? random() % 300 : full);
  if (wrong_ip) {
    packet[10] ^= 1;
  } else if (dice == 27 && packet.size() > 60) {
    packet.back() ^= 1;
  }
  return packet;
}

TEST(Join, CuttingIsTheInverse) {
  uint64_t joined = 0, alone = 0;
  for (unsigned seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    std::vector<Stream> flows;
    for (unsigned i = 0; i <= seed % 12; ++i) {
      const Kind& kind = kKinds[random() % 4];
      flows.push_back(stream(kind.family, kind.protocol, static_cast<uint16_t>(i)));
      flows.back().words.tcp_options = Bytes(random() % 3 * 4, 1);
    }
    Joining joining;
    std::map<std::string, std::vector<Bytes>> went_in, came_out;
    const size_t packets_in = 1 + random() % Burst::kRunsMax;
    for (size_t i = 0; i < packets_in; ++i) {
      const Bytes packet = random_packet(random, flows);
      joining.add(packet);
      went_in[flow_of(packet)].push_back(without_id(packet));
    }
    joining.runs();
    for (size_t i = 0; i < joining.burst->count; ++i) {
      const sallyport::Run& run = joining.burst->runs[i];
      (run.segments > 1 ? joined : alone) += run.segments;
      const std::vector<Bytes> packets = joining.cut(run);
      ASSERT_EQ(packets.size(), run.segments);
      for (const Bytes& packet : packets) {
        came_out[flow_of(packet)].push_back(without_id(packet));
      }
    }
    ASSERT_EQ(came_out, went_in);
  }
  EXPECT_GT(joined, 10'000u) << "the test joins something";
  EXPECT_GT(alone, 1'000u);
}

}  // namespace
}  // namespace sallyport::test
