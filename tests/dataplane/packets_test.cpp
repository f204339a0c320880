// What becomes of packets on their way through two engines: ECN, padding, super-packets, ICMP,
// counts.
#include <tuple>

#include "tests/dataplane/pair.h"

namespace sallyport::test {
namespace {

using wireguard::kDataOverhead;
using wireguard::MessageKind;

class Packets : public Pair {
 protected:
  // Everything that reached B's host, as one byte string of payloads behind `header_bytes`.
  static Bytes payloads(const std::vector<Bytes>& packets, size_t header_bytes) {
    Bytes all;
    for (const Bytes& packet : packets) {
      all.insert(all.end(), packet.begin() + static_cast<ptrdiff_t>(header_bytes), packet.end());
    }
    return all;
  }

  // A super-packet as a TUN hands it over: one header, and a checksum of the pseudo-header only.
  static MemoryPort::Frame super(Bytes packet, Gso gso, uint16_t segment) {
    const bool v6 = packet[0] >> 4 == 6;
    const uint16_t start = v6 ? 40 : 20;
    MemoryPort::Frame frame;
    frame.offload.gso = gso;
    frame.offload.gso_size = segment;
    frame.offload.needs_checksum = true;
    frame.offload.checksum_start = start;
    frame.offload.checksum_offset = gso == Gso::udp ? 6 : 16;
    frame.offload.header_bytes = static_cast<uint16_t>(start + (gso == Gso::udp ? 8 : 20));
    at<be16>(packet, start + frame.offload.checksum_offset) = pseudo_sum(packet);
    frame.bytes = std::move(packet);
    return frame;
  }
};

// -- ECN, RFC 6040.

TEST_F(Packets, TheOuterHeaderCarriesTheEcnFieldAndNotTheDscp) {
  meet();
  for (const bool v6 : {false, true}) {
    for (uint8_t ecn = 0; ecn < 4; ++ecn) {
      Flow flow = v6 ? forth6() : forth();
      flow.tos = static_cast<uint8_t>(0xb8 | ecn);
      a_->plain().inject(udp(flow, text("x")));
      network_.settle();
      EXPECT_EQ(network_.wire().back().tos, ecn);
    }
  }
}

TEST_F(Packets, TheInnerEcnFieldBecomesWhatRfc6040Says) {
  // By inner, by outer; -1 is a drop.
  constexpr int kBecomes[4][4] = {{0, 0, 0, -1}, {1, 1, 1, 3}, {2, 1, 2, 3}, {3, 3, 3, 3}};
  meet();
  for (const bool v6 : {false, true}) {
    for (uint8_t inner = 0; inner < 4; ++inner) {
      for (uint8_t outer = 0; outer < 4; ++outer) {
        SCOPED_TRACE(testing::Message()
                     << (v6 ? "v6" : "v4") << " inner " << int{inner} << " outer " << int{outer});
        network_.set_filter([outer](Datagram& datagram) {
          datagram.tos = outer;
          return true;
        });
        Flow flow = v6 ? forth6() : forth();
        flow.tos = static_cast<uint8_t>(0x48 | inner);
        const uint64_t dropped = b_->drops(DropReason::ecn_invalid);
        a_->plain().inject(udp(flow, text("payload")));
        network_.settle();
        const std::vector<Bytes> got = b_->host_packets();
        const int expected = kBecomes[inner][outer];
        ASSERT_EQ(got.size(), expected < 0 ? 0u : 1u);
        EXPECT_EQ(b_->drops(DropReason::ecn_invalid) - dropped, expected < 0 ? 1u : 0u);
        if (expected >= 0) {
          flow.tos = static_cast<uint8_t>(0x48 | expected);
          EXPECT_EQ(got[0], udp(flow, text("payload")));
        }
      }
    }
  }
}

TEST_F(Packets, HandshakesAndKeepalivesAreMarkedAsTheKernelMarksThem) {
  send_a("x");
  network_.settle();
  EXPECT_EQ(network_.wire()[0].tos, 0x88);
  EXPECT_EQ(network_.wire()[1].tos, 0x88);
  network_.advance(11 * kSecond);
  EXPECT_EQ(network_.wire().back().bytes.size(), kDataOverhead);
  EXPECT_EQ(network_.wire().back().tos, 0);
}

// -- Padding.

TEST_F(Packets, WhatIsSealedIsPaddedTo16AndNeverBeyondTheMtu) {
  meet();
  for (const size_t size : {28u, 29u, 31u, 32u, 33u, 48u, 500u, 1'407u, 1'408u, 1'409u, 1'416u,
                            1'417u, 1'419u, 1'420u}) {
    network_.wire().clear();
    a_->plain().inject(udp(forth(), pattern(size - 28)));
    network_.settle();
    ASSERT_EQ(network_.wire().size(), 1u);
    const size_t expected = std::min<size_t>((size + 15) / 16 * 16, 1'420);
    EXPECT_EQ(network_.wire()[0].bytes.size(), expected + kDataOverhead) << size;
    EXPECT_EQ(b_->host_packets(), std::vector<Bytes>{udp(forth(), pattern(size - 28))}) << size;
  }
}

TEST_F(Packets, ANewMtuBoundsThePaddingFromTheNextPacketOn) {
  meet();
  a_->engine().set_mtu(1'001);
  a_->plain().inject(udp(forth(), pattern(1'001 - 28)));
  a_->plain().inject(udp(forth(), pattern(990 - 28)));
  network_.settle();
  ASSERT_EQ(network_.wire().size(), 2u);
  EXPECT_EQ(network_.wire()[0].bytes.size(), 1'001 + kDataOverhead);
  EXPECT_EQ(network_.wire()[1].bytes.size(), 992 + kDataOverhead);
}

TEST_F(Packets, TheLargestPacketTravels) {
  meet();
  a_->engine().set_mtu(65'535);
  const Bytes large = udp(forth(), pattern(60'000));
  a_->plain().inject(large);
  network_.settle();
  EXPECT_EQ(b_->host_packets(), std::vector<Bytes>{large});
}

// -- Super-packets. A hands over one of several segments; B's host must see what the flow was.

using SuperCase =
    std::tuple<Gso, size_t, bool>;  // kind, payload bytes, does B's port take them joined?

class SuperPackets : public Packets, public testing::WithParamInterface<SuperCase> {
 protected:
  void begin_default() override {
    NodeOptions b;
    if (std::get<2>(GetParam())) {
      b.takes = {Gso::tcp4, Gso::tcp6, Gso::udp};
    }
    begin({}, b);
  }
  static constexpr uint16_t kSegment = 1'000;
};

TEST_P(SuperPackets, ArriveWhole) {
  const auto [gso, size, joins] = GetParam();
  const bool v6 = gso == Gso::tcp6;
  const bool is_udp = gso == Gso::udp;
  const Flow flow = v6 ? forth6() : forth();
  const Bytes payload = pattern(size);
  const size_t header = (v6 ? 40u : 20u) + (is_udp ? 8u : 20u);
  meet();
  a_->plain().inject(super(is_udp ? udp(flow, payload) : tcp(flow, payload), gso, kSegment));
  network_.settle();

  const size_t segments = (size + kSegment - 1) / kSegment;
  EXPECT_EQ(data_messages(*a_), segments);
  const std::vector<MemoryPort::Frame> frames = b_->host_frames();
  if (!joins) {
    ASSERT_EQ(frames.size(), segments);
    for (size_t i = 0; i < segments; ++i) {
      Flow expected = flow;
      expected.sequence += static_cast<uint32_t>(i) * kSegment;
      expected.id = static_cast<uint16_t>(flow.id + i);
      const auto first = payload.begin() + static_cast<ptrdiff_t>(i) * kSegment;
      const auto last = i + 1 == segments ? payload.end() : first + kSegment;
      const Bytes part(first, last);
      EXPECT_EQ(frames[i].bytes, is_udp ? udp(expected, part) : tcp(expected, part)) << i;
      EXPECT_TRUE(checksums_right(frames[i].bytes));
    }
    return;
  }
  std::vector<Bytes> packets;
  for (const MemoryPort::Frame& frame : frames) {
    packets.push_back(frame.bytes);
  }
  EXPECT_EQ(payloads(packets, header), payload);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].offload.gso, segments > 1 ? gso : Gso::none);
  if (segments > 1) {
    EXPECT_EQ(frames[0].offload.gso_size, kSegment);
    EXPECT_TRUE(frames[0].offload.needs_checksum);
    const uint16_t start = frames[0].offload.checksum_start;
    EXPECT_EQ(at<be16>(frames[0].bytes, start + frames[0].offload.checksum_offset),
              pseudo_sum(frames[0].bytes));
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, SuperPackets,
                         testing::Combine(testing::Values(Gso::tcp4, Gso::tcp6, Gso::udp),
                                          testing::Values(999u, 1'000u, 1'001u, 3'500u, 64'000u),
                                          testing::Bool()));

TEST_F(Packets, FinAndPushStandOnTheLastSegmentAndCwrOnTheFirst) {
  meet();
  Flow flow = forth();
  flow.flags = kTcpAck | kTcpFin | kTcpPsh | kTcpCwr;
  a_->plain().inject(super(tcp(flow, pattern(2'500)), Gso::tcp4, 1'000));
  network_.settle();
  const std::vector<Bytes> got = b_->host_packets();
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[0][33], kTcpAck | kTcpCwr);
  EXPECT_EQ(got[1][33], kTcpAck);
  EXPECT_EQ(got[2][33], kTcpAck | kTcpFin | kTcpPsh);
}

TEST_F(Packets, ASuperPacketWaitsForTheHandshakeToo) {
  const Bytes payload = pattern(20'000);
  a_->plain().inject(super(tcp(forth(), payload), Gso::tcp4, 1'300));
  network_.settle();
  const std::vector<Bytes> got = b_->host_packets();
  EXPECT_EQ(got.size(), 16u);
  EXPECT_EQ(payloads(got, 40), payload);
}

TEST_F(Packets, APartialChecksumIsCompleted) {
  meet();
  const Bytes whole = udp(forth(), text("left to the hardware"));
  MemoryPort::Frame frame = super(whole, Gso::udp, 0);
  frame.offload.gso = Gso::none;
  a_->plain().inject(frame);
  network_.settle();
  EXPECT_EQ(b_->host_packets(), std::vector<Bytes>{whole});
}

TEST_F(Packets, TwoFlowsInOneBurstKeepApart) {
  begin({}, {.takes = {Gso::tcp4, Gso::tcp6, Gso::udp}});
  meet();
  Flow one = forth(), two = forth();
  two.source_port = 3333;
  for (uint32_t i = 0; i < 10; ++i) {
    for (Flow* flow : {&one, &two}) {
      a_->plain().inject(tcp(*flow, pattern(100)));
      flow->sequence += 100;
      ++flow->id;
    }
  }
  network_.settle();
  const std::vector<MemoryPort::Frame> frames = b_->host_frames();
  ASSERT_EQ(frames.size(), 2u);
  for (const MemoryPort::Frame& frame : frames) {
    EXPECT_EQ(frame.bytes.size(), 1'040u);
    EXPECT_EQ(frame.offload.gso_size, 100u);
  }
  EXPECT_NE(at<be16>(frames[0].bytes, 20), at<be16>(frames[1].bytes, 20));
}

TEST_F(Packets, NonsenseFromTheHostIsDropped) {
  meet();
  a_->plain().inject(Bytes{0x45, 0, 0});
  a_->plain().inject(Bytes(100, 0));
  MemoryPort::Frame wrong = super(tcp(forth(), pattern(3'000)), Gso::tcp6, 1'000);  // it is v4
  a_->plain().inject(wrong);
  wrong.offload.gso = Gso::tcp4;
  wrong.offload.gso_size = 0;
  a_->plain().inject(wrong);
  network_.settle();
  EXPECT_EQ(a_->drops(DropReason::plain_malformed), 4u);
  EXPECT_TRUE(network_.wire().empty());
}

// -- ICMP to the host.

TEST_F(Packets, NoPeerIsToldByIcmp) {
  const Bytes lost = udp({.destination = "10.7.7.7"}, text("who?"));
  a_->plain().inject(lost);
  a_->settle();
  std::vector<Bytes> got = a_->host_packets();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(checksums_right(got[0]));
  EXPECT_EQ(got[0][9], kProtocolIcmp);
  EXPECT_EQ(got[0][20], 3);  // unreachable
  EXPECT_EQ(got[0][21], 1);  // the host
  EXPECT_EQ(Bytes(got[0].begin() + 12, got[0].begin() + 16), (Bytes{10, 7, 7, 7}));
  EXPECT_EQ(Bytes(got[0].begin() + 16, got[0].begin() + 20), (Bytes{10, 0, 0, 1}));
  EXPECT_EQ(Bytes(got[0].begin() + 28, got[0].end()), lost);

  const Bytes lost6 = udp({.source = "fd00::1", .destination = "fd77::7"}, text("who?"));
  a_->plain().inject(lost6);
  a_->settle();
  got = a_->host_packets();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(checksums_right(got[0]));
  EXPECT_EQ(got[0][6], kProtocolIcmpv6);
  EXPECT_EQ(got[0][40], 1);  // unreachable
  EXPECT_EQ(got[0][41], 3);  // the address
  EXPECT_EQ(Bytes(got[0].begin() + 48, got[0].end()), lost6);
  EXPECT_EQ(a_->drops(DropReason::no_peer), 2u);
}

TEST_F(Packets, NoEndpointIsToldByIcmp) {
  PeerChange peer;
  peer.public_key = public_key_of(filled_key(0x44));
  peer.allowed_ips = {{*parse_prefix("10.4.0.0/16"), false}, {*parse_prefix("fd44::/16"), false}};
  a_->apply(peer);
  a_->plain().inject(udp({.destination = "10.4.1.1"}, text("where?")));
  a_->plain().inject(udp({.source = "fd00::1", .destination = "fd44::1"}, text("where?")));
  a_->settle();
  const std::vector<Bytes> got = a_->host_packets();
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0][20], 3);
  EXPECT_EQ(got[1][40], 1);
  EXPECT_EQ(a_->drops(DropReason::no_endpoint), 2u);
}

TEST_F(Packets, NoIcmpAboutIcmpErrorsMulticastOrFragments) {
  Bytes fragment = udp({.destination = "10.7.7.7"}, pattern(64));
  at<Ipv4Header>(fragment, 0).fragment = 8;
  const std::vector<Bytes> quiet = {
      icmp({.destination = "10.7.7.7"}, 3, 1, pattern(28)),
      icmp({.source = "fd00::1", .destination = "fd77::7"}, 1, 3, pattern(48)),
      udp({.destination = "224.0.0.251"}, text("mdns")),
      udp({.destination = "255.255.255.255"}, text("dhcp")),
      udp({.source = "fd00::1", .destination = "ff02::fb"}, text("mdns")),
      udp({.source = "0.0.0.0", .destination = "10.7.7.7"}, text("?")),
      udp({.source = "::", .destination = "fd77::7"}, text("?")),
      fragment,
  };
  for (const Bytes& packet : quiet) {
    a_->plain().inject(packet);
    a_->settle();
    EXPECT_TRUE(a_->host_packets().empty());
  }
  EXPECT_EQ(a_->drops(DropReason::no_peer), quiet.size());
  a_->plain().inject(icmp({.destination = "10.7.7.7"}, 8, 0, text("ping")));  // an echo is no error
  a_->settle();
  EXPECT_EQ(a_->host_packets().size(), 1u);
}

TEST_F(Packets, IcmpToTheHostIsRationed) {
  for (int i = 0; i < 500; ++i) {
    a_->plain().inject(udp({.destination = "10.7.7.7"}, text("who?")));
  }
  a_->settle();
  EXPECT_EQ(a_->host_packets().size(), 50u);
  EXPECT_EQ(a_->drops(DropReason::no_peer), 500u);
}

// -- Counts.

TEST_F(Packets, CountsAreOfWholeMessagesAsWgShowsThem) {
  send_a("hello");  // 33 bytes, sealed 48 + 32
  network_.settle();
  send_b("hi");
  network_.settle();
  const size_t up = sizeof(wireguard::MessageInitiation) + 80;
  const size_t down = sizeof(wireguard::MessageResponse) + 64;
  EXPECT_EQ(a_->peer().tx_bytes, up);
  EXPECT_EQ(a_->peer().rx_bytes, down);
  EXPECT_EQ(b_->peer().rx_bytes, up);
  EXPECT_EQ(b_->peer().tx_bytes, down);
  EXPECT_EQ(a_->peer().tx_packets, 1u);
  EXPECT_EQ(a_->peer().rx_packets, 1u);
  const EngineStatus status = a_->engine().status();
  EXPECT_EQ(status.handshakes_initiated, 1u);
  EXPECT_EQ(status.sessions_derived, 1u);
  EXPECT_EQ(b_->engine().status().handshakes_answered, 1u);
  EXPECT_EQ(status.workers[0].tx_packets, 1u);
  EXPECT_EQ(status.workers[0].rx_packets, 1u);
}

TEST_F(Packets, APacketRefusedByAPortIsCounted) {
  meet();
  a_->outer().fail_next(1, ENETUNREACH);
  send_a("no network");
  network_.settle();
  EXPECT_EQ(a_->drops(DropReason::outer_send_failed), 1u);
  b_->plain().fail_next(1, EIO);
  send_a("no host");
  network_.settle();
  EXPECT_EQ(b_->drops(DropReason::plain_send_failed), 1u);
  send_a("well again");
  network_.settle();
  EXPECT_EQ(b_->host_packets().size(), 1u);
}

TEST_F(Packets, ASourceAddressThatFailsIsForgotten) {
  meet();
  Endpoint with_source = b_->address();
  with_source.local = *parse_address("192.0.2.1");
  with_source.interface = 7;
  PeerChange change = as_peer(*b_, {});
  change.endpoint = with_source;
  a_->apply(change);
  send_a("from there");
  network_.settle();
  EXPECT_EQ(network_.wire().back().to.local, with_source.local);
  a_->outer().refuse_sources(true);
  send_a("from anywhere");
  network_.settle();
  EXPECT_FALSE(a_->peer().endpoint.local.is_set());
  EXPECT_TRUE(a_->peer().endpoint.same_remote(b_->address()));
  EXPECT_EQ(b_->host_packets().size(), 2u);
}

}  // namespace
}  // namespace sallyport::test
