// Each test has a TUN device in a network namespace of its own. Most stand on one trick: a packet
// that the kernel sends from 10.9.0.1 to 10.9.0.2 is given back with the two addresses exchanged,
// so the host talks to itself through the device, and every checksum stays right:
//
//      client ---> 10.9.0.2 ---> [ TUN ] ---> port.rx ---> exchange ---> port.tx ---> [ TUN ] --->
// server on 10.9.0.1
#include "tun/tun_port.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <netinet/udp.h>
#include <sys/mount.h>

#include <array>

#include "dataplane/net/checksum.h"
#include "tests/tun/network.h"
#include "tun/tun_device.h"

namespace sallyport::test {
namespace {

constexpr const char* kHost = "10.9.0.1";
constexpr const char* kOther = "10.9.0.2";

using Ports = std::vector<std::unique_ptr<Port>>;

TunDevice open_device(const std::string& name, unsigned queues,
                      TunCalls calls = TunCalls::batched) {
  auto device = TunDevice::open(name, queues, calls);
  EXPECT_TRUE(device) << device.error().text;
  set_address(name, kHost);
  return std::move(*device);
}

sockaddr_in address_of(const char* text, uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  inet_pton(AF_INET, text, &out.sin_addr);
  return out;
}

int call_with_address(int (*call)(int, const sockaddr*, socklen_t), int fd, const char* text,
                      uint16_t port) {
  const sockaddr_in address = address_of(text, port);
  return call(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

// IPv4 only: the kernel also sends router solicitations and the like.
bool is_ipv4(const RxFrame& frame) {
  return frame.length >= 20 && frame.data[0] >> 4 == 4;
}

// What a port was seen to do.
struct Seen {
  size_t frames = 0;
  size_t super_packets = 0;
  size_t open_checksums = 0;
  Gso kind = Gso::none;
};

// Gives everything waiting in the port back to the host with its addresses exchanged, in one go. In parts, as the engine
// would.
void reflect(Port& port, Receiver& receiver, Seen& seen) {
  std::vector<std::array<Slice, 3>> slices;
  std::vector<TxFrame> out;
  for (const RxFrame& frame : receiver.poll_once(port)) {
    if (!is_ipv4(frame)) {
      continue;
    }
    ++seen.frames;
    seen.open_checksums += frame.offload.needs_checksum;
    uint8_t exchanged[8];
    std::memcpy(exchanged, frame.data + 16, 4);
    std::memcpy(exchanged + 4, frame.data + 12, 4);
    std::memcpy(frame.data + 12, exchanged, 8);
    const uint32_t half = (frame.length - 20) / 2;
    slices.push_back({{{frame.data, 20},
                       {frame.data + 20, half},
                       {frame.data + 20 + half, frame.length - 20 - half}}});
    TxFrame& back = out.emplace_back();
    back.length = frame.length;
    back.offload = frame.offload;
    if (frame.offload.gso != Gso::none) {
      ++seen.super_packets;
      seen.kind = frame.offload.gso;
      const size_t l4 = frame.offload.checksum_start;
      const size_t l4_header = seen.kind == Gso::udp ? 8 : (frame.data[l4 + 12] >> 4) * 4u;
      back.offload.header_bytes = static_cast<uint16_t>(l4 + l4_header);
    }
  }
  for (size_t i = 0; i < out.size(); ++i) {
    out[i].slices = slices[i];
  }
  port.tx(out);
  for (const TxFrame& frame : out) {
    EXPECT_EQ(frame.error, 0) << std::strerror(frame.error);
  }
  receiver.clear();
}

// A TCP transfer of `total` bytes through the device, byte for byte compared.
Seen transfer(Ports& ports, size_t total) {
  const File listener(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  EXPECT_EQ(call_with_address(bind, listener, kHost, 7000), 0) << std::strerror(errno);
  EXPECT_EQ(listen(listener, 1), 0);
  const File client(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  call_with_address(connect, client, kOther, 7000);
  const std::vector<uint8_t> content = pattern(total);
  std::vector<uint8_t> arrived(total);
  size_t sent = 0, got = 0;
  int server = -1;
  Receiver receiver;
  Seen seen;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (got < total && std::chrono::steady_clock::now() < end) {
    if (server < 0) {
      server = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
    }
    const ssize_t out = send(client, content.data() + sent, total - sent, MSG_NOSIGNAL);
    sent += static_cast<size_t>(std::max<ssize_t>(out, 0));
    for (auto& port : ports) {
      reflect(*port, receiver, seen);
    }
    const ssize_t in = server < 0 ? 0 : recv(server, arrived.data() + got, total - got, 0);
    got += static_cast<size_t>(std::max<ssize_t>(in, 0));
  }
  close(server);
  EXPECT_EQ(got, total);
  EXPECT_EQ(arrived, content);
  return seen;
}

// With the calls made at once, and one by one.
class TunPortCalls : public testing::TestWithParam<TunCalls> {};

INSTANTIATE_TEST_SUITE_P(Calls, TunPortCalls, testing::Values(TunCalls::batched, TunCalls::single),
                         [](const auto& calls) {
                           return calls.param == TunCalls::batched ? "batched" : "single";
                         });

TEST_P(TunPortCalls, SuperPacketsBothWays) {
  SALLYPORT_IN_NAMESPACE([calls = GetParam()] {
    TunDevice device = open_device("tun0", 1, calls);
    Ports ports = device.take_ports();
    ASSERT_EQ(ports.size(), 1u);
    ASSERT_TRUE(ports[0]->takes(Gso::tcp4));
    const size_t total = 4 << 20;
    const Seen seen = transfer(ports, total);
    EXPECT_GT(seen.super_packets, 10u);
    EXPECT_EQ(seen.kind, Gso::tcp4);
    EXPECT_LT(seen.frames, total / 1380) << "fewer frames than segments, acknowledgements included";
    EXPECT_EQ(ports[0]->status().discarded, 0u);
  });
}

TEST_P(TunPortCalls, UdpSuperPacketsWhereTheKernelHasThem) {
  SALLYPORT_IN_NAMESPACE([calls = GetParam()] {
    TunDevice device = open_device("tun0", 1, calls);
    Ports ports = device.take_ports();
    const File server(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    ASSERT_EQ(call_with_address(bind, server, kHost, 7001), 0);
    const File client(socket(AF_INET, SOCK_DGRAM, 0));
    const int segment = 1000;
    ASSERT_EQ(setsockopt(client, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)), 0);
    ASSERT_EQ(call_with_address(connect, client, kOther, 7001), 0);
    const std::vector<uint8_t> content = pattern(5500);
    ASSERT_EQ(send(client, content.data(), content.size(), 0), 5500);
    Receiver receiver;
    Seen seen;
    reflect(*ports[0], receiver, seen);
    EXPECT_EQ(seen.super_packets, device.features().uso ? 1u : 0u);
    std::vector<uint8_t> arrived, datagram(65536);
    size_t datagrams = 0;
    for (ssize_t in; (in = recv(server, datagram.data(), datagram.size(), 0)) > 0; ++datagrams) {
      arrived.insert(arrived.end(), datagram.begin(), datagram.begin() + in);
    }
    EXPECT_EQ(datagrams, 6u);
    EXPECT_EQ(arrived, content);
  });
}

// A descriptor as an older launcher would hand it in.
int plain_descriptor(const char* name, short more = 0) {
  const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  ifreq request = request_for(name);
  request.ifr_flags = static_cast<short>(IFF_TUN | IFF_NO_PI | more);
  EXPECT_EQ(ioctl(fd, TUNSETIFF, &request), 0) << std::strerror(errno);
  return fd;
}

TEST(TunPort, ADescriptorWithoutOffloads) {
  SALLYPORT_IN_NAMESPACE([] {
    auto device = TunDevice::adopt(plain_descriptor("tun0"), 2, TunCalls::single);
    ASSERT_TRUE(device) << device.error().text;
    EXPECT_EQ(device->name(), "tun0");
    EXPECT_EQ(device->queues(), 1u);
    EXPECT_FALSE(device->features().vnet_header);
    EXPECT_EQ(device->mtu().value_or(0), TunDevice::kDefaultMtu);
    set_address("tun0", kHost);
    Ports ports = device->take_ports();
    ASSERT_EQ(ports.size(), 2u);
    EXPECT_FALSE(ports[0]->takes(Gso::tcp4));
    EXPECT_EQ(ports[1]->descriptors().fd[0], -1) << "one queue, one receiver";
    const Seen seen = transfer(ports, 1 << 18);
    EXPECT_EQ(seen.super_packets, 0u);
    EXPECT_EQ(seen.open_checksums, 0u);
    for (const PortStatus::Offload& offload : ports[0]->status().offloads) {
      EXPECT_FALSE(offload.on) << offload.name;
      EXPECT_FALSE(offload.reason.empty()) << offload.name;
    }
  });
}

TEST(TunPort, ADescriptorWithOffloadsAndQueues) {
  SALLYPORT_IN_NAMESPACE([] {
    const int fd = plain_descriptor("tun0", IFF_VNET_HDR | IFF_MULTI_QUEUE);
    int header_bytes = 12;  // as some launchers leave it
    ASSERT_EQ(ioctl(fd, TUNSETVNETHDRSZ, &header_bytes), 0);
    auto device = TunDevice::adopt(fd, 2);
    ASSERT_TRUE(device) << device.error().text;
    EXPECT_EQ(device->queues(), 2u);
    set_address("tun0", kHost);
    Ports ports = device->take_ports();
    EXPECT_GT(transfer(ports, 1 << 20).super_packets, 1u);
  });
}

// A UDP packet with its checksum left open, through either kind of device, from a port of its own
// queue and one without.
void open_checksum_is_finished(TunDevice device) {
  set_address(device.name(), kHost);
  Ports ports = device.take_ports();
  const File server(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
  ASSERT_EQ(call_with_address(bind, server, kHost, 7002), 0);
  for (auto& port : ports) {
    std::vector<uint8_t> packet = {
        0x45, 0, 0,    35, 0,    0,    0, 0,  64, IPPROTO_UDP, 0,   0,   10,  9,   0,   2,   10, 9,
        0,    1, 0x10, 0,  0x1b, 0x5a, 0, 15, 0,  0,           'p', 'a', 'c', 'k', 'e', 't', '!'};
    checksum_ipv4(packet.data(), 20);
    const uint16_t open =
        checksum_fold(checksum_pseudo(packet.data(), Family::v4, IPPROTO_UDP, 15));
    std::memcpy(packet.data() + 26, &open, 2);
    Outgoing out(packet);
    out.slices = {{out.bytes.data(), 28}, {out.bytes.data() + 28, 3}, {out.bytes.data() + 31, 4}};
    TxFrame frame = out.frame();
    frame.offload.needs_checksum = true;
    frame.offload.checksum_start = 20;
    frame.offload.checksum_offset = 6;
    port->tx({&frame, 1});
    EXPECT_EQ(frame.error, 0);
    char got[16] = {};
    EXPECT_EQ(recv(server, got, sizeof(got), 0), 7);
    EXPECT_STREQ(got, "packet!");
  }
}

TEST(TunPort, AnOpenChecksumIsFinished) {
  SALLYPORT_IN_NAMESPACE([] {
    auto plain = TunDevice::adopt(plain_descriptor("tun0"), 2);
    ASSERT_TRUE(plain);
    open_checksum_is_finished(std::move(*plain));
    auto offloaded = TunDevice::open("tun1", 2);
    ASSERT_TRUE(offloaded);
    open_checksum_is_finished(std::move(*offloaded));
  });
}

TEST_P(TunPortCalls, FlowsSpreadOverQueues) {
  SALLYPORT_IN_NAMESPACE([calls = GetParam()] {
    TunDevice device = open_device("tun0", 4, calls);
    EXPECT_EQ(device.queues(), 4u);
    Ports ports = device.take_ports();
    ASSERT_EQ(ports.size(), 4u);
    constexpr size_t kFlows = 64;
    for (size_t i = 0; i < kFlows; ++i) {
      const File client(socket(AF_INET, SOCK_DGRAM, 0));
      ASSERT_EQ(call_with_address(connect, client, kOther, static_cast<uint16_t>(8000 + i)), 0);
      ASSERT_EQ(send(client, "x", 1, 0), 1);
    }
    Receiver receiver;
    size_t total = 0, busy = 0;
    for (auto& port : ports) {
      size_t here = 0;
      for (const RxFrame& frame : receiver.poll_once(*port, 128)) {
        here += is_ipv4(frame);
      }
      total += here;
      busy += here > 0;
    }
    EXPECT_EQ(total, kFlows);
    EXPECT_GE(busy, 2u);
  });
}

TEST_P(TunPortCalls, FullFramesAndFullBurstsLoseNothing) {
  SALLYPORT_IN_NAMESPACE([calls = GetParam()] {
    TunDevice device = open_device("tun0", 1, calls);
    Ports ports = device.take_ports();
    const File client(socket(AF_INET, SOCK_DGRAM, 0));
    ASSERT_EQ(call_with_address(connect, client, kOther, 9), 0);
    for (uint8_t i = 0; i < 10; ++i) {
      ASSERT_EQ(send(client, &i, 1, 0), 1);
    }
    Receiver receiver;
    uint8_t next = 0;
    while (next < 10) {
      const auto frames = receiver.poll_once(*ports[0], 3);
      ASSERT_FALSE(frames.empty());
      ASSERT_LE(frames.size(), 3u);
      for (const RxFrame& frame : frames) {
        if (is_ipv4(frame)) {
          EXPECT_EQ(frame.data[28], next++);
          EXPECT_EQ(frame.data, frame.buffer->data());
        }
      }
    }
  });
}

TEST_P(TunPortCalls, ADeletedDeviceIsGone) {
  SALLYPORT_IN_NAMESPACE([calls = GetParam()] {
    TunDevice device = open_device("tun0", 2, calls);
    Ports ports = device.take_ports();
    Receiver receiver;
    EXPECT_FALSE(ports[0]->gone());
    delete_interface("tun0");
    EXPECT_TRUE(Receiver::wait_readable(*ports[0], 2000)) << "poll reports an error";
    EXPECT_TRUE(receiver.poll_once(*ports[0]).empty());
    EXPECT_TRUE(ports[0]->gone());
    Outgoing out(pattern(40));
    TxFrame frame = out.frame();
    ports[1]->tx({&frame, 1});
    EXPECT_EQ(frame.error, EBADFD);
    EXPECT_TRUE(ports[1]->gone());
    EXPECT_FALSE(device.mtu());
    EXPECT_EQ(device.index().error().code, ENODEV);
  });
}

TEST_P(TunPortCalls, TheDeviceGoesWithItsPorts) {
  SALLYPORT_IN_NAMESPACE([calls = GetParam()] {
    TunDevice device = open_device("tun0", 2, calls);
    Ports ports = device.take_ports();
    EXPECT_NE(if_nametoindex("tun0"), 0u);
    ports.clear();
    EXPECT_EQ(if_nametoindex("tun0"), 0u);
  });
}

TEST(TunPort, DownItTakesNothing) {
  SALLYPORT_IN_NAMESPACE([] {
    auto device = TunDevice::open("tun0", 1);
    ASSERT_TRUE(device);
    Ports ports = device->take_ports();
    EXPECT_FALSE(device->is_up().value_or(true));
    Outgoing out({0x45, 0, 0, 20, 0, 0, 0, 0, 64, 1, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1});
    TxFrame frame = out.frame();
    ports[0]->tx({&frame, 1});
    EXPECT_EQ(frame.error, EIO);
    EXPECT_FALSE(ports[0]->gone());
    set_flags("tun0", true);
    EXPECT_TRUE(device->is_up().value_or(false));
    ports[0]->tx({&frame, 1});
    EXPECT_EQ(frame.error, 0);
  });
}

TEST_P(TunPortCalls, MoreSlicesThanAFrameMayHave) {
  SALLYPORT_IN_NAMESPACE([calls = GetParam()] {
    TunDevice device = open_device("tun0", 1, calls);
    Ports ports = device.take_ports();
    Outgoing out({0x45, 0, 0, 20, 0, 0, 0, 0, 64, 1, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1});
    out.slices.resize(kFrameSlicesMax, {out.bytes.data(), 0});
    TxFrame most = out.frame();
    out.slices.push_back({out.bytes.data(), 0});
    TxFrame more = out.frame();
    most.slices = most.slices.first(kFrameSlicesMax);
    ports[0]->tx({&more, 1});
    EXPECT_EQ(more.error, EMSGSIZE);
    most.slices = std::span<const Slice>(out.slices).first(kFrameSlicesMax);
    ports[0]->tx({&most, 1});
    EXPECT_EQ(most.error, 0);
  });
}

TEST(TunDevice, MtuAndIndex) {
  SALLYPORT_IN_NAMESPACE([] {
    auto device = TunDevice::open("tun0", 1);
    ASSERT_TRUE(device);
    EXPECT_EQ(device->mtu().value_or(0), TunDevice::kDefaultMtu);
    ASSERT_TRUE(device->set_mtu(9000));
    EXPECT_EQ(device->mtu().value_or(0), 9000u);
    EXPECT_FALSE(device->set_mtu(1'000'000));
    EXPECT_EQ(device->index().value_or(0), if_nametoindex("tun0"));
    EXPECT_TRUE(device->features().multi_queue);
  });
}

TEST(TunDevice, ATakenNameIsRefused) {
  SALLYPORT_IN_NAMESPACE([] {
    auto device = TunDevice::open("tun0", 1);
    ASSERT_TRUE(device);
    for (const char* name : {"tun0", "lo"}) {
      const auto again = TunDevice::open(name, 1);
      ASSERT_FALSE(again) << name;
      EXPECT_EQ(again.error().code, EBUSY);
      EXPECT_NE(again.error().text.find(name), std::string::npos);
    }
    set_flags("tun0", true);
    EXPECT_FALSE(TunDevice::open("tun0", 1));
    EXPECT_NE(if_nametoindex("tun0"), 0u) << "and it lives on";
  });
}

TEST(TunDevice, APersistentDeviceIsUsedWhenItIsFree) {
  SALLYPORT_IN_NAMESPACE([] {
    for (const short more : {short{0}, short{IFF_MULTI_QUEUE}}) {
      SCOPED_TRACE(more);
      {
        const File maker(plain_descriptor("tun0", more));
        ASSERT_EQ(ioctl(maker, TUNSETPERSIST, 1), 0);
        set_interface_mtu("tun0", 1300);
        set_flags("tun0", true);
        EXPECT_FALSE(TunDevice::open("tun0", 1)) << "its maker is attached";
      }
      auto device = TunDevice::open("tun0", 2);
      ASSERT_TRUE(device) << device.error().text;
      EXPECT_EQ(device->mtu().value_or(0), 1300u) << "an MTU that was chosen stays";
      EXPECT_EQ(device->queues(), more == 0 ? 1u : 2u);
      EXPECT_TRUE(device->features().tso4);
      delete_interface("tun0");
    }
  });
}

TEST(TunDevice, WithoutThePrivilege) {
  SALLYPORT_IN_NAMESPACE([] {
    ASSERT_TRUE(give_up_root());
    const auto device = TunDevice::open("tun0", 1);
    ASSERT_FALSE(device);
    EXPECT_TRUE(device.error().code == EPERM || device.error().code == EACCES);
    EXPECT_NE(device.error().text.find("root"), std::string::npos) << device.error().text;
  });
}

TEST(TunDevice, WithoutTheDeviceNode) {
  SALLYPORT_IN_NAMESPACE([] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", "/dev/net", "tmpfs", 0, nullptr) != 0) {
      GTEST_SKIP() << "no mount namespace to hide /dev/net/tun in: " << std::strerror(errno);
    }
    const auto device = TunDevice::open("tun0", 1);
    ASSERT_FALSE(device);
    EXPECT_EQ(device.error().code, ENOENT);
    EXPECT_NE(device.error().text.find("modprobe tun"), std::string::npos);
  });
}

TEST(TunDevice, BadNamesAndDescriptors) {
  for (const char* name : {"", "sixteen-letters-", "a/b", "a b", "..", "wg%d"}) {
    EXPECT_FALSE(TunDevice::open(name, 1)) << name;
  }
  EXPECT_FALSE(TunDevice::adopt(-1, 1));
  EXPECT_FALSE(TunDevice::adopt(open("/dev/null", O_RDWR), 1));
  EXPECT_FALSE(TunDevice::adopt(open("/dev/net/tun", O_RDWR), 1)) << "not attached to a device";
}

TEST(TunDevice, ATapIsRefused) {
  SALLYPORT_IN_NAMESPACE([] {
    const int fd = open("/dev/net/tun", O_RDWR);
    ifreq request = request_for("tap0");
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    ASSERT_EQ(ioctl(fd, TUNSETIFF, &request), 0);
    const auto device = TunDevice::adopt(fd, 1);
    ASSERT_FALSE(device);
    EXPECT_NE(device.error().text.find("tap0"), std::string::npos);
    EXPECT_EQ(if_nametoindex("tap0"), 0u) << "the descriptor was closed";
  });
}

}  // namespace
}  // namespace sallyport::test
