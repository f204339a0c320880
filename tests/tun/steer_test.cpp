#include "tun/steer.h"

#include "tests/tun/network.h"
#include "tun/udp_port.h"

namespace sallyport::test {
namespace {

// Sends one datagram from a socket of its own to the group and says which port got it; -1 none.
int owner_of(std::vector<std::unique_ptr<Port>>& ports, const Endpoint& to,
             const std::vector<uint8_t>& datagram) {
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr(to, name);
  const File sender(socket(name.ss_family, SOCK_DGRAM, 0));
  EXPECT_EQ(sendto(sender, datagram.data(), datagram.size(), 0, reinterpret_cast<sockaddr*>(&name),
                   length),
            static_cast<ssize_t>(datagram.size()));
  Receiver receiver;
  int owner = -1;
  for (size_t i = 0; i < ports.size(); ++i) {
    for (const RxFrame& frame : receiver.poll_once(*ports[i])) {
      EXPECT_EQ(bytes_of(frame), datagram);
      EXPECT_EQ(owner, -1) << "one datagram, two owners";
      owner = static_cast<int>(i);
    }
  }
  return owner;
}

void steers(const char* address, unsigned workers) {
  auto group = UdpGroup::open({.workers = workers});
  ASSERT_TRUE(group) << group.error().text;
  auto ports = group->take_ports();
  ASSERT_EQ(ports.size(), workers + 1);
  Endpoint to;
  to.remote = *parse_address(address);
  to.port = group->port();
  for (const unsigned index : {0u, 1u, 2u, 3u, 4u, 7u, 100u, 254u, 255u}) {
    std::vector<uint8_t> data(32, 0xee);
    data[0] = 4;
    data[4] = static_cast<uint8_t>(index);
    EXPECT_EQ(owner_of(ports, to, data), static_cast<int>(index % workers)) << "index " << index;
  }
  for (const unsigned type : {0u, 1u, 2u, 3u, 5u, 255u}) {
    std::vector<uint8_t> other(148, 0);
    other[0] = static_cast<uint8_t>(type);
    EXPECT_EQ(owner_of(ports, to, other), static_cast<int>(workers)) << "type " << type;
  }
  EXPECT_EQ(owner_of(ports, to, {4, 0, 0}), 0) << "too short to have an index";
}

TEST(Steer, DataGoesToItsWorkerTheRestToHandshakes) {
  SALLYPORT_IN_NAMESPACE([] {
    for (const unsigned workers : {1u, 2u, 3u, 4u, 16u}) {
      SCOPED_TRACE(workers);
      steers("127.0.0.1", workers);
      steers("::1", workers);
    }
  });
}

TEST(Steer, ASocketThatSharesNothingCannotBeSteered) {
  const File alone(socket(AF_INET, SOCK_DGRAM, 0));
  EXPECT_FALSE(attach_steering(alone, 1));
}

}  // namespace
}  // namespace sallyport::test
