// Calls made at once: on a pipe and a socket pair, and on a TUN port that is refused a ring.
#include "tun/uring.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>

#include "tests/tun/network.h"
#include "tun/tun_device.h"

namespace sallyport::test {
namespace {

// Messages stay apart on it, as packets on a TUN.
struct Pair {
  Pair() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0); }
  ~Pair() {
    close(fd[0]);
    close(fd[1]);
  }
  void say(const std::string& text) {
    EXPECT_EQ(send(fd[1], text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }
  std::string hear() {
    char text[64];
    const ssize_t got = recv(fd[1], text, sizeof(text), 0);
    return got < 0 ? "" : std::string(text, static_cast<size_t>(got));
  }
  int fd[2];
};

std::unique_ptr<Uring> open_ring(int fd) {
  auto ring = Uring::open(fd);
  if (!ring) {
    return nullptr;
  }
  return std::move(*ring);
}

TEST(Uring, ReadsInOrderAndNeverWaits) {
  Pair pair;
  const auto ring = open_ring(pair.fd[0]);
  if (ring == nullptr) {
    GTEST_SKIP() << "SKIP: no io_uring here";
  }
  pair.say("one");
  pair.say("three");
  std::array<std::array<char, 16>, 4> into{};
  for (auto& each : into) {
    ring->read(each.data(), each.size());
  }
  EXPECT_EQ(ring->queued(), 4u);
  const auto outcomes = ring->run();
  ASSERT_EQ(outcomes.size(), 4u);
  EXPECT_EQ(outcomes[0], 3);
  EXPECT_EQ(outcomes[1], 5);
  EXPECT_EQ(outcomes[2], -EAGAIN);
  EXPECT_EQ(outcomes[3], -EAGAIN);
  EXPECT_STREQ(into[0].data(), "one");
  EXPECT_STREQ(into[1].data(), "three");
  EXPECT_EQ(ring->queued(), 0u);
}

TEST(Uring, WritesInOrderOfSeveralPartsEach) {
  Pair pair;
  const auto ring = open_ring(pair.fd[0]);
  if (ring == nullptr) {
    GTEST_SKIP() << "SKIP: no io_uring here";
  }
  std::vector<std::string> words;
  std::vector<std::array<iovec, 2>> parts(Uring::kCallsMax);
  for (size_t i = 0; i < Uring::kCallsMax; ++i) {
    words.push_back(std::to_string(i));
  }
  // A socket pair holds fewer than a full batch: what finds no room says so, and the rest goes.
  for (size_t i = 0; i < Uring::kCallsMax; ++i) {
    parts[i] = {{{words[i].data(), words[i].size()}, {words[i].data(), words[i].size()}}};
    ring->write(parts[i].data(), parts[i].size());
  }
  const auto outcomes = ring->run();
  ASSERT_EQ(outcomes.size(), Uring::kCallsMax);
  size_t sent = 0;
  for (; sent < outcomes.size() && outcomes[sent] > 0; ++sent) {
    EXPECT_EQ(pair.hear(), words[sent] + words[sent]);
  }
  EXPECT_GT(sent, 3u);
  for (size_t i = sent; i < outcomes.size(); ++i) {
    EXPECT_EQ(outcomes[i], -EAGAIN);
  }
  EXPECT_EQ(pair.hear(), "");
}

TEST(Uring, ACallThatFailsKeepsNoOtherFromBeingMade) {
  Pair pair;
  const auto ring = open_ring(pair.fd[0]);
  if (ring == nullptr) {
    GTEST_SKIP() << "SKIP: no io_uring here";
  }
  std::string text = "late";
  const iovec good{text.data(), text.size()};
  const iovec bad{reinterpret_cast<void*>(8), 4};
  for (int round = 0; round < 3; ++round) {
    ring->write(&bad, 1);
    ring->write(&good, 1);
    const auto outcomes = ring->run();
    ASSERT_EQ(outcomes.size(), 2u);
    EXPECT_EQ(outcomes[0], -EFAULT);
    EXPECT_EQ(outcomes[1], 4);
    EXPECT_EQ(pair.hear(), "late");
  }
}

TEST(Uring, WithoutOneATunPortCallsOneByOneAndSaysWhy) {
  SALLYPORT_IN_NAMESPACE([] {
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    rlimit none = before;
    none.rlim_cur =
        static_cast<rlim_t>(fd) + 1;  // every lower number is taken, or is by the next line
    std::vector<int> taken;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int each; (each = dup(fd)) >= 0;) {
      taken.push_back(each);
    }
    TunPort port(fd, "tun0", {}, true, TunCalls::batched);
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (const int each : taken) {
      close(each);
    }
    const PortStatus status = port.status();
    bool found = false;
    for (const auto& offload : status.offloads) {
      if (offload.name == "io_uring") {
        found = true;
        EXPECT_FALSE(offload.on);
        EXPECT_EQ(offload.reason, "cannot make an io_uring: Too many open files");
      }
    }
    EXPECT_TRUE(found);
  });
}

}  // namespace
}  // namespace sallyport::test
