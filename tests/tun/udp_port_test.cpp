#include "tun/udp_port.h"

#include "tests/tun/network.h"

namespace sallyport::test {
namespace {

using Ports = std::vector<std::unique_ptr<Port>>;

constexpr const char* kLoopbacks[] = {"127.0.0.1", "::1"};

// A group with one worker. Its handshake port is where ordinary bytes arrive: they are no data
// messages.
struct Side {
  Ports ports;
  uint16_t port = 0;

  explicit Side(const UdpGroupOptions& options = {}) {
    auto group = UdpGroup::open(options);
    EXPECT_TRUE(group) << group.error().text;
    port = group->port();
    ports = group->take_ports();
  }
  UdpPort& first() { return static_cast<UdpPort&>(*ports.front()); }
  Port& inbox() { return *ports.back(); }
  Endpoint at(const char* address) const {
    Endpoint out;
    out.remote = *parse_address(address);
    out.port = port;
    return out;
  }
};

void send_frames(Port& port, std::span<TxFrame> frames) {
  port.tx(frames);
  for (const TxFrame& frame : frames) {
    EXPECT_EQ(frame.error, 0) << std::strerror(frame.error);
  }
}

TEST(UdpPort, ATrainArrivesAsATrain) {
  SALLYPORT_IN_NAMESPACE([] {
    for (const char* address : kLoopbacks) {
      SCOPED_TRACE(address);
      Side a, b;
      Outgoing out(pattern(10 * 1000 + 500), 7);
      out.to = b.at(address);
      TxFrame frame = out.frame(1000);
      send_frames(a.first(), {&frame, 1});
      Receiver receiver;
      const auto frames = receiver.wait_for(b.inbox(), 1);
      ASSERT_EQ(frames.size(), 1u);
      EXPECT_EQ(bytes_of(frames[0]), out.bytes);
      EXPECT_EQ(frames[0].segment_bytes, 1000u);
      EXPECT_EQ(frames[0].from.port, a.port);
      EXPECT_EQ(frames[0].from.remote, *parse_address(address));
      EXPECT_EQ(frames[0].from.interface, if_nametoindex("lo"));
      EXPECT_FALSE(frames[0].from.scope);
    }
  });
}

TEST(UdpPort, TheLargestTrainAndTheLargestDatagram) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a, b;
    for (const char* address : kLoopbacks) {
      SCOPED_TRACE(address);
      constexpr uint32_t kSegment = kTrainBytesMax / kTrainSegmentsMax;
      Outgoing train(pattern(kSegment * kTrainSegmentsMax), kFrameSlicesMax);
      Outgoing datagram(pattern(65'507));
      train.to = datagram.to = b.at(address);
      TxFrame frames[] = {train.frame(kSegment), datagram.frame(65'507)};
      send_frames(a.first(), frames);
      Receiver receiver;
      const auto got = receiver.wait_for(b.inbox(), 2);
      ASSERT_EQ(got.size(), 2u);
      EXPECT_EQ(bytes_of(got[0]), train.bytes);
      EXPECT_EQ(bytes_of(got[1]), datagram.bytes);
      EXPECT_EQ(got[1].segment_bytes, got[1].length);
    }
  });
}

TEST(UdpPort, ManyFramesOfBothFamiliesInOneBurst) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a, b;
    constexpr size_t kCount = 200;
    std::vector<std::unique_ptr<Outgoing>> out;
    std::vector<TxFrame> frames;
    for (size_t i = 0; i < kCount; ++i) {
      out.push_back(
          std::make_unique<Outgoing>(pattern(100 + i, static_cast<unsigned>(i)), 1 + i % 5));
      out.back()->to = b.at(kLoopbacks[i / 3 % 2]);
      frames.push_back(out.back()->frame());
    }
    send_frames(a.first(), frames);
    Receiver receiver;
    const auto got = receiver.wait_for(b.inbox(), kCount);
    ASSERT_EQ(got.size(), kCount);
    for (const Family family : {Family::v4, Family::v6}) {
      size_t at = 0;
      for (const RxFrame& frame : got) {
        if (frame.from.remote.family == family) {
          while (out[at]->to.remote.family != family) {
            ++at;
          }
          EXPECT_EQ(bytes_of(frame), out[at++]->bytes) << "order within a family";
        }
      }
    }
  });
}

TEST(UdpPort, NeitherFamilyStarvesTheOther) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a, b;
    Outgoing out[2] = {Outgoing(pattern(40)), Outgoing(pattern(50))};
    size_t got[2] = {};
    Receiver receiver;
    for (int busy = 0; busy < 2; ++busy) {
      out[0].to = b.at(kLoopbacks[0]);
      out[1].to = b.at(kLoopbacks[1]);
      TxFrame quiet = out[busy ^ 1].frame();
      send_frames(a.first(), {&quiet, 1});
      const size_t before = got[busy ^ 1];
      for (int round = 0; round < 40; ++round) {
        TxFrame frames[4] = {out[busy].frame(), out[busy].frame(), out[busy].frame(),
                             out[busy].frame()};
        send_frames(a.first(), frames);
        for (const RxFrame& frame :
             receiver.poll_once(b.inbox(), 4)) {  // never drains the busy one
          ++got[frame.length == 50];
        }
        receiver.clear();
      }
      EXPECT_EQ(got[busy ^ 1], before + 1) << "busy: " << kLoopbacks[busy];
      while (!receiver.poll_once(b.inbox()).empty()) {
        receiver.clear();
      }
    }
  });
}

TEST(UdpPort, RepliesComeFromTheAddressThatWasAsked) {
  SALLYPORT_IN_NAMESPACE([] {
    add_address6("lo", "2001:db8::5", 128);
    for (const char* address : {"127.0.0.5", "2001:db8::5"}) {
      SCOPED_TRACE(address);
      Side a, b;
      Outgoing request(pattern(50));
      request.to = b.at(address);
      TxFrame frame = request.frame();
      send_frames(a.first(), {&frame, 1});
      Receiver receiver;
      auto got = receiver.wait_for(b.inbox(), 1);
      ASSERT_EQ(got.size(), 1u);
      EXPECT_EQ(got[0].from.local, *parse_address(address));
      Outgoing reply(pattern(60), 2);
      reply.to = got[0].from;
      TxFrame back = reply.frame();
      send_frames(b.first(), {&back, 1});
      EXPECT_FALSE(back.source_refused);
      got = receiver.wait_for(a.inbox(), 1);
      ASSERT_EQ(got.size(), 1u);
      EXPECT_EQ(got[0].from.remote, *parse_address(address));
    }
  });
}

TEST(UdpPort, ASourceThatIsNotOursIsGivenUp) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a, b;
    for (const bool v6 : {false, true}) {
      SCOPED_TRACE(v6);
      Outgoing single(pattern(50)), train(pattern(2500), 3);
      single.to = train.to = b.at(kLoopbacks[v6]);
      single.to.local = train.to.local = *parse_address(v6 ? "2001:db8::99" : "192.0.2.99");
      TxFrame frames[] = {single.frame(), train.frame(1000)};
      send_frames(a.first(), frames);
      EXPECT_TRUE(frames[0].source_refused);
      EXPECT_TRUE(frames[1].source_refused);
      Receiver receiver;
      const auto got = receiver.wait_for(b.inbox(), 2);
      ASSERT_EQ(got.size(), 2u);
      EXPECT_EQ(bytes_of(got[0]), single.bytes);
      EXPECT_EQ(bytes_of(got[1]), train.bytes);
      EXPECT_EQ(got[1].segment_bytes, 1000u) << "the route takes trains; only the source was wrong";
    }
  });
}

TEST(UdpPort, TosArrives) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a, b;
    for (const char* address : kLoopbacks) {
      for (const uint8_t tos :
           {uint8_t{0}, uint8_t{0x88}, uint8_t{0x03}, uint8_t{0xff}, uint8_t{1}}) {
        Outgoing out(pattern(2000));
        out.to = b.at(address);
        TxFrame frame = out.frame(1000);
        frame.tos = tos;
        send_frames(a.first(), {&frame, 1});
        Receiver receiver;
        const auto got = receiver.wait_for(b.inbox(), 1);
        ASSERT_EQ(got.size(), 1u);
        EXPECT_EQ(got[0].tos, tos) << address;
      }
    }
  });
}

TEST(UdpPort, SegmentsLargerThanTheRouteGoOneByOne) {
  SALLYPORT_IN_NAMESPACE([] {
    set_interface_mtu("lo", 1280);
    Side a, b;
    for (const char* address : kLoopbacks) {
      SCOPED_TRACE(address);
      for (int round = 0; round < 2; ++round) {  // the second one is split before it is tried
        Outgoing train(pattern(3 * 1400 + 77), 5), small(pattern(30));
        train.to = small.to = b.at(address);
        TxFrame frames[] = {small.frame(), train.frame(1400), small.frame()};
        send_frames(a.first(), frames);
        Receiver receiver;
        const auto got = receiver.wait_for(b.inbox(), 6);
        ASSERT_EQ(got.size(), 6u);
        std::vector<uint8_t> joined;
        for (size_t i = 1; i < 5; ++i) {
          EXPECT_EQ(got[i].length, i < 4 ? 1400u : 77u);
          EXPECT_EQ(got[i].segment_bytes, got[i].length);
          joined.insert(joined.end(), got[i].data, got[i].data + got[i].length);
        }
        EXPECT_EQ(joined, train.bytes);
        EXPECT_EQ(got[5].length, 30u);
      }
    }
    std::string reason;
    for (const PortStatus::Offload& offload : a.first().status().offloads) {
      if (offload.name == "udp_segment") {
        EXPECT_TRUE(offload.on);
        reason = offload.reason;
      }
    }
    EXPECT_NE(reason.find(", 2 times"), std::string::npos) << reason << ": once a route";
  });
}

TEST(UdpPort, ABadSourceAndARouteWithoutTrainsAtOnce) {
  SALLYPORT_IN_NAMESPACE([] {
    set_interface_mtu("lo", 1280);
    Side a, b;
    Outgoing train(pattern(2 * 1400));
    train.to = b.at("127.0.0.1");
    train.to.local = *parse_address("192.0.2.99");
    TxFrame frame = train.frame(1400);
    send_frames(a.first(), {&frame, 1});
    EXPECT_TRUE(frame.source_refused);
    Receiver receiver;
    EXPECT_EQ(receiver.wait_for(b.inbox(), 2).size(), 2u);
  });
}

TEST(UdpPort, ARefusedRouteIsTriedAgainLater) {
  RefusedRoutes routes;
  const IpAddress one = *parse_address("192.0.2.1");
  const IpAddress two = *parse_address("192.0.2.2");
  EXPECT_TRUE(routes.empty());
  EXPECT_FALSE(routes.contains(one, 0));
  routes.insert(one, 5 * kSecond);
  EXPECT_FALSE(routes.empty());
  EXPECT_TRUE(routes.contains(one, 6 * kSecond));
  EXPECT_FALSE(routes.contains(two, 6 * kSecond));
  EXPECT_TRUE(routes.contains(one, 5 * kSecond + RefusedRoutes::kAge - 1));
  EXPECT_FALSE(routes.contains(one, 5 * kSecond + RefusedRoutes::kAge));
}

TEST(UdpPort, AFrameThatCannotGoHarmsNoOther) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a, b;
    Outgoing lost(pattern(10)), fine(pattern(20)), huge(pattern(66'000));
    lost.to = *parse_endpoint("198.51.100.1:5");  // no route in here
    fine.to = huge.to = b.at("127.0.0.1");
    TxFrame frames[] = {fine.frame(), lost.frame(), fine.frame(), huge.frame(), fine.frame()};
    a.first().tx(frames);
    EXPECT_EQ(frames[0].error, 0);
    EXPECT_EQ(frames[1].error, ENETUNREACH);
    EXPECT_EQ(frames[2].error, 0);
    EXPECT_EQ(frames[3].error, EMSGSIZE);
    EXPECT_EQ(frames[4].error, 0);
    Receiver receiver;
    EXPECT_EQ(receiver.wait_for(b.inbox(), 3).size(), 3u);
  });
}

TEST(UdpPort, EmptyDatagramsAreCountedAndGone) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a, b;
    Outgoing nothing({}), something(pattern(5));
    nothing.to = something.to = b.at("127.0.0.1");
    TxFrame frames[] = {nothing.frame(), something.frame()};
    send_frames(a.first(), frames);
    Receiver receiver;
    uint64_t discarded = 0;
    size_t got = 0;
    for (auto& port : b.ports) {
      got += receiver.poll_once(*port).size();
      discarded += port->status().discarded;
    }
    EXPECT_EQ(got, 1u);
    EXPECT_EQ(discarded, 1u);
  });
}

TEST(UdpPort, APortInUseIsNoticed) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a;
    auto again = UdpGroup::open({.port = a.port});
    ASSERT_FALSE(again) << "our own sockets share the port, with us only";
    EXPECT_EQ(again.error().code, EADDRINUSE);
    EXPECT_NE(again.error().text.find(std::to_string(a.port)), std::string::npos);
    const uint16_t port = a.port;
    a.ports.clear();
    EXPECT_TRUE(UdpGroup::open({.port = port})) << "free again once it is closed";

    // Somebody who shares, in the other family only.
    auto other = UdpSocket::open(Family::v6);
    ASSERT_TRUE(other);
    ASSERT_TRUE((*other)->share_port());
    auto taken = (*other)->bind(0);
    ASSERT_TRUE(taken);
    again = UdpGroup::open({.port = *taken});
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, EADDRINUSE);
    EXPECT_TRUE(UdpGroup::open({.port = *taken, .v6 = false}));
  });
}

TEST(UdpPort, AFreePortIsTheSameInBothFamilies) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a({.workers = 3});
    ASSERT_NE(a.port, 0);
    ASSERT_EQ(a.ports.size(), 4u);
    for (const auto& port : a.ports) {
      for (const int fd : port->descriptors().fd) {
        sockaddr_storage name{};
        socklen_t length = sizeof(name);
        ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length), 0);
        Endpoint bound;
        from_sockaddr(name, bound);
        EXPECT_EQ(bound.port, a.port);
      }
    }
  });
}

TEST(UdpPort, WithoutAFamily) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a({.v6 = false}), b;
    EXPECT_EQ(a.first().descriptors().fd[1], -1);
    Outgoing out(pattern(5)), fine(pattern(6));
    out.to = b.at("::1");
    fine.to = b.at("127.0.0.1");
    TxFrame frames[] = {out.frame(), fine.frame()};
    a.first().tx(frames);
    EXPECT_EQ(frames[0].error, EAFNOSUPPORT);
    EXPECT_EQ(frames[1].error, 0);
    bool told = false;
    for (const PortStatus::Offload& offload : a.first().status().offloads) {
      told = told || (offload.name == "ipv6" && !offload.on && !offload.reason.empty());
    }
    EXPECT_TRUE(told);
  });
}

TEST(UdpPort, TheMarkIsSetAndChanged) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a({.fwmark = 0xca6c});
    const auto mark_of = [](int fd) {
      uint32_t mark = 0;
      socklen_t length = sizeof(mark);
      EXPECT_EQ(getsockopt(fd, SOL_SOCKET, SO_MARK, &mark, &length), 0);
      return mark;
    };
    EXPECT_EQ(mark_of(a.first().descriptors().fd[0]), 0xca6cu);
    EXPECT_EQ(mark_of(a.inbox().descriptors().fd[1]), 0xca6cu);
    ASSERT_TRUE(a.first().set_fwmark(5));
    EXPECT_EQ(mark_of(a.first().descriptors().fd[0]), 5u);
    EXPECT_EQ(mark_of(a.first().descriptors().fd[1]), 5u);
    ASSERT_TRUE(a.first().set_fwmark(0));
    EXPECT_EQ(mark_of(a.first().descriptors().fd[0]), 0u);
  });
}

TEST(UdpPort, AMarkNeedsAPrivilege) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a;
    ASSERT_TRUE(give_up_root());
    const auto refused = a.first().set_fwmark(7);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EPERM);
    EXPECT_NE(refused.error().text.find("CAP_NET_ADMIN"), std::string::npos);
    EXPECT_FALSE(UdpGroup::open({.fwmark = 7}));
    EXPECT_TRUE(UdpGroup::open({})) << "without a mark nobody needs to be root";
  });
}

TEST(UdpPort, ADryCacheLosesNothing) {
  SALLYPORT_IN_NAMESPACE([] {
    Side a, b;
    Outgoing out(pattern(5));
    out.to = b.at("127.0.0.1");
    TxFrame frame = out.frame();
    send_frames(a.first(), {&frame, 1});
    BufferPool pool(1);
    BufferCache dry(pool);
    dry.take();
    std::vector<RxFrame> none(4);
    EXPECT_EQ(b.inbox().rx(none, dry), 0u);
    Receiver receiver;
    EXPECT_EQ(receiver.wait_for(b.inbox(), 1).size(), 1u);
  });
}

}  // namespace
}  // namespace sallyport::test
