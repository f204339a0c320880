// TunnelControl over an engine with memory ports inside and real UDP sockets outside: what a set commits,
// what it leaves alone when it fails, and when sockets are open.
#include "control/tunnel.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tun/memory_port.h"

namespace sallyport {
namespace {

constexpr LinkState kUp{true, 1420};
constexpr LinkState kDown{false, 1420};

const std::string kKeyA(64, 'a');
const std::string kKeyB(64, 'b');

std::vector<std::unique_ptr<Port>> memory_ports(unsigned count) {
  std::vector<std::unique_ptr<Port>> ports;
  for (unsigned i = 0; i < count; ++i) {
    ports.push_back(std::make_unique<MemoryPort>());
  }
  return ports;
}

EngineOptions options() {
  EngineOptions small;
  small.workers = 2;
  small.buffers_per_worker = 8;
  small.staging_blocks = 64;
  return small;
}

// A socket of somebody else's, on a port of the kernel's choice.
class Squatter {
 public:
  Squatter() : fd_(socket(AF_INET, SOCK_DGRAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    socklen_t length = sizeof(address);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
  }
  ~Squatter() { close(fd_); }
  Squatter(const Squatter&) = delete;
  Squatter& operator=(const Squatter&) = delete;
  uint16_t port() const { return port_; }

 private:
  int fd_;
  uint16_t port_ = 0;
};

class TunnelControlTest : public testing::Test {
 protected:
  Result<void> set(const std::string& lines) {
    const auto request = parse_set(lines);
    EXPECT_TRUE(request) << request.error().text;
    return tunnel_.set(*request);
  }
  bool says(const std::string& line) const {
    return ("\n" + tunnel_.get()).find("\n" + line + "\n") != std::string::npos;
  }
  void up() {
    const auto went = tunnel_.link_changed(kUp);
    ASSERT_TRUE(went) << went.error().text;
  }

  Engine engine_{options()};
  TunnelControl tunnel_{"wgtest", engine_, 0, memory_ports(2)};
};

TEST_F(TunnelControlTest, ListensWhileTheLinkIsUp) {
  EXPECT_FALSE(tunnel_.listening());
  EXPECT_TRUE(engine_.outer_ports().empty());
  up();
  EXPECT_TRUE(tunnel_.listening());
  EXPECT_EQ(engine_.outer_ports().size(), 3u);  // two workers and the handshaker
  EXPECT_NE(tunnel_.listen_port(), 0);
  EXPECT_TRUE(says("listen_port=" + std::to_string(tunnel_.listen_port())));
  ASSERT_TRUE(tunnel_.link_changed(kDown));
  EXPECT_FALSE(tunnel_.listening());
  EXPECT_TRUE(engine_.outer_ports().empty());
}

TEST_F(TunnelControlTest, ARandomPortStaysOverDownAndUp) {
  up();
  const uint16_t port = tunnel_.listen_port();
  ASSERT_TRUE(tunnel_.link_changed(kDown));
  up();
  EXPECT_EQ(tunnel_.listen_port(), port);
}

TEST_F(TunnelControlTest, AskingForAnyPortAgainKeepsTheOneThereIs) {
  up();
  const uint16_t port = tunnel_.listen_port();
  const Port* socket = engine_.outer_ports().front().get();
  ASSERT_TRUE(set("listen_port=0\n"));
  EXPECT_EQ(tunnel_.listen_port(), port);
  EXPECT_EQ(engine_.outer_ports().front().get(), socket);
}

TEST_F(TunnelControlTest, TheSamePortAgainKeepsTheSockets) {
  up();
  const Port* socket = engine_.outer_ports().front().get();
  ASSERT_TRUE(set("listen_port=" + std::to_string(tunnel_.listen_port()) + "\n"));
  ASSERT_TRUE(set("listen_port=" + std::to_string(tunnel_.listen_port()) + "\n"));
  EXPECT_EQ(engine_.outer_ports().front().get(), socket);
}

TEST_F(TunnelControlTest, AnotherPortIsTakenLive) {
  up();
  const uint16_t before = tunnel_.listen_port();
  uint16_t wanted = 0;
  {
    const Squatter free;
    wanted = free.port();
  }
  ASSERT_TRUE(set("listen_port=" + std::to_string(wanted) + "\n"));
  EXPECT_EQ(tunnel_.listen_port(), wanted);
  EXPECT_NE(before, wanted);
  EXPECT_TRUE(tunnel_.listening());
}

TEST_F(TunnelControlTest, APortInUseChangesNothingAtAll) {
  up();
  const Squatter squatter;
  const uint16_t before = tunnel_.listen_port();
  const Port* socket = engine_.outer_ports().front().get();
  const auto done =
      set("private_key=" + kKeyA + "\nlisten_port=" + std::to_string(squatter.port()) +
          "\nfwmark=7\npublic_key=" + kKeyB + "\n");
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, EADDRINUSE);
  EXPECT_EQ(tunnel_.listen_port(), before);
  EXPECT_EQ(engine_.outer_ports().front().get(), socket);
  EXPECT_EQ(tunnel_.get(), "listen_port=" + std::to_string(before) + "\nerrno=0\n\n");
}

TEST_F(TunnelControlTest, APortInUseWhenTheLinkGoesUpLeavesTheTunnelDown) {
  uint16_t wanted = 0;
  {
    const Squatter squatter;
    wanted = squatter.port();
    ASSERT_TRUE(set("listen_port=" + std::to_string(wanted) + "\n"));
    const auto went = tunnel_.link_changed(kUp);
    ASSERT_FALSE(went);
    EXPECT_EQ(went.error().code, EADDRINUSE);
    EXPECT_FALSE(tunnel_.listening());
    ASSERT_TRUE(tunnel_.link_changed(kDown));
  }
  up();  // the port is free now
  EXPECT_EQ(tunnel_.listen_port(), wanted);
}

TEST_F(TunnelControlTest, CarriesOutASetAndShowsIt) {
  ASSERT_TRUE(set("private_key=" + kKeyA + "\nlisten_port=4711\npublic_key=" + kKeyB +
                  "\nendpoint=192.0.2.1:7\nallowed_ip=10.0.0.0/8\n"));
  EXPECT_TRUE(says("listen_port=4711"));
  EXPECT_TRUE(says("public_key=" + kKeyB));
  EXPECT_TRUE(says("endpoint=192.0.2.1:7"));
  EXPECT_TRUE(says("allowed_ip=10.0.0.0/8"));
  ASSERT_TRUE(set("public_key=" + kKeyB + "\nallowed_ip=-10.0.0.0/8\n"));
  EXPECT_FALSE(says("allowed_ip=10.0.0.0/8"));
  ASSERT_TRUE(set("public_key=" + kKeyB + "\nremove=true\n"));
  EXPECT_FALSE(says("public_key=" + kKeyB));
}

TEST_F(TunnelControlTest, MarksSocketsInUseAndThoseToCome) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "a mark needs CAP_NET_ADMIN";
  }
  const auto marks = [this] {
    std::vector<int> found;
    for (const auto& port : engine_.outer_ports()) {
      for (const int fd : port->descriptors().fd) {
        int mark = -1;
        socklen_t length = sizeof(mark);
        if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_MARK, &mark, &length) == 0) {
          found.push_back(mark);
        }
      }
    }
    return found;
  };
  up();
  ASSERT_TRUE(set("fwmark=51820\n"));
  EXPECT_TRUE(says("fwmark=51820"));
  ASSERT_FALSE(marks().empty());
  for (const int mark : marks()) {
    EXPECT_EQ(mark, 51820);
  }
  ASSERT_TRUE(tunnel_.link_changed(kDown));
  up();
  ASSERT_FALSE(marks().empty());
  for (const int mark : marks()) {
    EXPECT_EQ(mark, 51820);
  }
  ASSERT_TRUE(set("fwmark=0\n"));
  EXPECT_FALSE(says("fwmark=51820"));
  for (const int mark : marks()) {
    EXPECT_EQ(mark, 0);
  }
}

TEST_F(TunnelControlTest, StatusIsOneLineOfJsonAndAnErrno) {
  up();
  ASSERT_TRUE(
      set("private_key=" + kKeyA + "\npublic_key=" + kKeyB + "\npreshared_key=" + kKeyB + "\n"));
  const std::string answer = tunnel_.status();
  constexpr std::string_view kEnd = "\nerrno=0\n\n";
  ASSERT_TRUE(answer.ends_with(kEnd));
  EXPECT_EQ(answer.find('\n'), answer.size() - kEnd.size());
  EXPECT_NE(answer.find("\"interface\":\"wgtest\""), std::string::npos);
  EXPECT_EQ(answer.find("aaaaaaaa"), std::string::npos) << "a private key in a status report";
}

}  // namespace
}  // namespace sallyport
