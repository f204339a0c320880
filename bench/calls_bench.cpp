// What the kernel's ways of moving packets cost: one system call a packet, recvmmsg and sendmmsg, and io_uring in the ways
// that could serve us (docs/decisions/0009-io-uring.md says what came of it).
//
//   TUN     read and write, one by one; io_uring, all in one call; io_uring multishot reads into provided buffers
//   UDP in  recvmmsg; io_uring recvmsg, all in one call; io_uring multishot receive into provided buffers
//   UDP out sendmmsg; io_uring sendmsg, all in one call; io_uring zero-copy sends
//
// A real TUN device, and two sockets on a loopback of a network namespace of its own: needs root. A batch is put in place
// untimed, then moved; ways take turns in a round, medians decide. Memory is touched as a data plane would, a buffer a packet.
//
//   calls_bench
#include <arpa/inet.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/report.h"
#include "dataplane/base/clock.h"
#include "tun/uring.h"

namespace sallyport::bench {
namespace {

constexpr int kRounds = 200;
constexpr size_t kBatchMax = 32;
constexpr size_t kSlot = 68 * 1024;
constexpr int kGroup = 1;  // of provided buffers

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

int check(int outcome, const char* what) {
  if (outcome < 0) {
    die(what);
  }
  return outcome;
}

double now_ns() {
  return static_cast<double>(read_clock(CLOCK_MONOTONIC));
}

// A buffer a packet.
class Slots {
 public:
  Slots() : bytes_(kBatchMax * kSlot) {}
  uint8_t* operator[](size_t i) { return bytes_.data() + i * kSlot; }

 private:
  std::vector<uint8_t> bytes_;
};

// One way to move a batch; ns a packet, a round each.
struct Way {
  std::string name;
  std::function<void(size_t batch)> move;  // aborts when it moved anything else than the batch
  std::vector<double> ns{};
};

void race(const std::string& title, size_t batch, std::vector<Way>& ways,
          const std::function<void(size_t)>& prepare, Report& report) {
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < ways.size(); ++i) {
      Way& way = ways[(i + static_cast<size_t>(round)) % ways.size()];
      prepare(batch);
      const double begin = now_ns();
      way.move(batch);
      way.ns.push_back((now_ns() - begin) / static_cast<double>(batch));
    }
  }
  std::printf("%-34s", (title + ", " + std::to_string(batch) + " at once").c_str());
  for (Way& way : ways) {
    const double figure = median(way.ns);
    std::printf("  %s %.0f", way.name.c_str(), figure);
    report.figure(title + ", " + std::to_string(batch) + " at once: " + way.name, figure, "ns");
    way.ns.clear();
  }
  std::printf("  ns a packet\n");
  std::fflush(stdout);
}

void expect(size_t moved, size_t batch, const char* what) {
  if (moved != batch) {
    std::fprintf(stderr, "calls_bench: %s moved %zu of %zu\n", what, moved, batch);
    std::exit(1);
  }
}

// ---- io_uring as none of ours: multishot, provided buffers, zero copy

class BareRing {
 public:
  BareRing() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    if (const int outcome = io_uring_queue_init_params(256, &ring_, &params); outcome != 0) {
      errno = -outcome;
      die("io_uring");
    }
  }
  ~BareRing() { io_uring_queue_exit(&ring_); }
  io_uring* get() { return &ring_; }
  io_uring_sqe* next() { return io_uring_get_sqe(&ring_); }

  void provide(Slots& slots) {
    for (size_t i = 0; i < kBatchMax; ++i) {
      give(slots, static_cast<int>(i));
    }
    io_uring_submit(&ring_);
    drain(kBatchMax);
  }
  // Goes to the kernel with the next submit; its answer is skipped where it went well (IOSQE_CQE_SKIP_SUCCESS).
  void give(Slots& slots, int number, bool quietly = false) {
    io_uring_sqe* entry = next();
    io_uring_prep_provide_buffers(entry, slots[static_cast<size_t>(number)], kSlot, 1, kGroup,
                                  number);
    entry->flags |= quietly ? unsigned{IOSQE_CQE_SKIP_SUCCESS} : 0u;
  }
  void drain(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      io_uring_cqe* answer = nullptr;
      io_uring_wait_cqe(&ring_, &answer);
      io_uring_cqe_seen(&ring_, answer);
    }
  }
  // Takes answers until `batch` have a result above 0 and hands their buffers back; arms again by `arm` when the shot ends.
  template <class Arm>
  size_t take(Slots& slots, size_t batch, Arm arm) {
    size_t moved = 0;
    while (moved < batch) {
      io_uring_submit_and_wait(&ring_, 1);
      io_uring_cqe* answer = nullptr;
      while (moved < batch && io_uring_peek_cqe(&ring_, &answer) == 0) {
        if (answer->res > 0) {
          ++moved;
          give(slots, static_cast<int>(answer->flags >> IORING_CQE_BUFFER_SHIFT), true);
        }
        const bool is_over = (answer->flags & IORING_CQE_F_MORE) == 0;
        io_uring_cqe_seen(&ring_, answer);
        if (is_over) {
          arm();
        }
      }
    }
    return moved;
  }

 private:
  io_uring ring_{};
};

// ---- TUN

int open_tun() {
  const int fd = check(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "/dev/net/tun");
  ifreq request{};
  std::strcpy(request.ifr_name, "bench0");
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  check(ioctl(fd, TUNSETIFF, &request), "TUNSETIFF");
  return fd;
}

int run_ip(const char* words) {
  return std::system((std::string("ip ") + words).c_str());
}

sockaddr_in to_address(const char* text, uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  inet_pton(AF_INET, text, &out.sin_addr);
  return out;
}

void bench_tun(Report& report) {
  const int fd = open_tun();
  // Nothing of the kernel's own comes by a device without IPv6.
  const int quiet = open("/proc/sys/net/ipv6/conf/bench0/disable_ipv6", O_WRONLY | O_CLOEXEC);
  if (quiet >= 0) {
    check(static_cast<int>(write(quiet, "1", 1)), "disable_ipv6");
    close(quiet);
  }
  if (run_ip("address add 10.7.0.1/24 dev bench0") != 0 || run_ip("link set bench0 up") != 0) {
    die("ip");
  }
  const int sender = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  const sockaddr_in to = to_address("10.7.0.2", 9000);
  Slots slots, provided;
  std::vector<uint8_t> payload(1372);
  const auto read_rest = [&] {
    size_t count = 0;
    while (read(fd, slots[0], kSlot) > 0) {
      ++count;
    }
    return count;
  };
  const auto send_packets = [&](size_t batch) {
    for (size_t i = 0; i < batch; ++i) {
      check(static_cast<int>(sendto(sender, payload.data(), payload.size(), 0,
                                    reinterpret_cast<const sockaddr*>(&to), sizeof(to))),
            "sendto");
    }
  };
  const auto fill = [&](size_t batch) {
    read_rest();
    send_packets(batch);
  };
  auto ring = Uring::open(fd);
  if (!ring) {
    std::fprintf(stderr, "calls_bench: %s\n", ring.error().text.c_str());
    std::exit(1);
  }
  const auto run_ring = [&](size_t batch, const char* what) {
    size_t moved = 0;
    for (const int outcome : (*ring)->run()) {
      moved += outcome > 0 ? 1 : 0;
    }
    expect(moved, batch, what);
  };
  std::vector<Way> reads = {
      {"one by one",
       [&](size_t batch) {
         size_t moved = 0;
         while (read(fd, slots[moved % kBatchMax], kSlot) > 0) {
           ++moved;
         }
         expect(moved, batch, "read");
       }},
      {"io_uring",
       [&](size_t batch) {
         for (size_t i = 0; i < std::min(batch + 1, kBatchMax); ++i) {
           (*ring)->read(slots[i], kSlot);
         }
         run_ring(batch, "io_uring read");
       }},
  };
  // Packets the host throws away as soon as it looks at them: their addresses are its own, the wrong way round.
  const auto keep = [&](size_t batch) {
    fill(batch);
    for (size_t i = 0; i < batch; ++i) {
      check(static_cast<int>(read(fd, slots[i], kSlot)), "read");
    }
  };
  const size_t bytes = payload.size() + 28;
  std::vector<Way> writes = {
      {"one by one",
       [&](size_t batch) {
         for (size_t i = 0; i < batch; ++i) {
           check(static_cast<int>(write(fd, slots[i], bytes)), "write");
         }
       }},
      {"io_uring",
       [&](size_t batch) {
         iovec parts[kBatchMax];
         for (size_t i = 0; i < batch; ++i) {
           parts[i] = {slots[i], bytes};
           (*ring)->write(&parts[i], 1);
         }
         run_ring(batch, "io_uring write");
       }},
  };
  for (const size_t batch : {size_t{1}, size_t{4}, kBatchMax}) {
    race("TUN read, 1400 B", batch, reads, fill, report);
    race("TUN write, 1400 B", batch, writes, keep, report);
  }
  // Armed all the time, a multishot read would take what the others are to read: it runs apart. On a TUN device nothing is
  // read ahead of the wait, so that the whole cost is in it.
  BareRing bare;
  bare.provide(provided);
  const auto arm = [&] {
    io_uring_sqe* entry = bare.next();
    io_uring_prep_rw(IORING_OP_READ, entry, fd, nullptr, 0, 0);
    entry->opcode = 49;  // IORING_OP_READ_MULTISHOT, Linux 6.7
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = kGroup;
  };
  read_rest();
  arm();
  io_uring_submit(bare.get());
  std::vector<Way> shots = {{"io_uring multishot", [&](size_t batch) {
                               expect(bare.take(provided, batch, arm), batch, "multishot read");
                             }}};
  for (const size_t batch : {size_t{1}, size_t{4}, kBatchMax / 2}) {
    race("TUN read, 1400 B", batch, shots, send_packets, report);
  }
  close(sender);
  close(fd);
}

// ---- UDP

struct Socket {
  int fd;
  Socket(bool receives, uint16_t port)
      : fd(check(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), "socket")) {
    const int bytes = 16 << 20;
    setsockopt(fd, SOL_SOCKET, receives ? SO_RCVBUFFORCE : SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    if (receives) {
      const int one = 1;
      setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one));
      const sockaddr_in here = to_address("127.0.0.1", port);
      check(bind(fd, reinterpret_cast<const sockaddr*>(&here), sizeof(here)), "bind");
    }
  }
  ~Socket() { close(fd); }
};

// Messages of `bytes`, in trains of 1,452 where that is more than one.
struct Messages {
  Messages(Slots& slots, size_t bytes, uint16_t port) : to(to_address("127.0.0.1", port)) {
    for (size_t i = 0; i < kBatchMax; ++i) {
      parts[i] = {slots[i], bytes};
      msghdr& message = messages[i].msg_hdr;
      message = {};
      message.msg_name = &to;
      message.msg_namelen = sizeof(to);
      message.msg_iov = &parts[i];
      message.msg_iovlen = 1;
      if (bytes > 1452) {
        message.msg_control = controls[i];
        message.msg_controllen = CMSG_SPACE(sizeof(uint16_t));
        auto* header = reinterpret_cast<cmsghdr*>(controls[i]);
        header->cmsg_level = IPPROTO_UDP;
        header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
        const uint16_t stride = 1452;
        std::memcpy(CMSG_DATA(header), &stride, sizeof(stride));
      }
    }
  }
  sockaddr_in to;
  iovec parts[kBatchMax];
  mmsghdr messages[kBatchMax];
  alignas(cmsghdr) uint8_t controls[kBatchMax][64];
};

// A port of its own: a ring that ends lets go of its socket some time after.
void bench_udp(size_t bytes, uint16_t port, const char* name, Report& report) {
  Socket in(true, port), out(false, port);
  Slots from, into, provided;
  Messages sends(from, bytes, port);
  iovec parts[kBatchMax];
  sockaddr_in names[kBatchMax];
  mmsghdr receives[kBatchMax];
  alignas(cmsghdr) uint8_t controls[kBatchMax][64];
  const auto reset = [&](size_t i) {
    parts[i] = {into[i], kSlot};
    receives[i] = {};
    receives[i].msg_hdr = {&names[i],   sizeof(names[i]),    &parts[i], 1,
                           controls[i], sizeof(controls[i]), 0};
  };
  const auto empty = [&] {
    while (recv(in.fd, into[0], kSlot, MSG_DONTWAIT) > 0) {
    }
  };
  const auto fill = [&](size_t batch) {
    empty();
    expect(static_cast<size_t>(check(
               sendmmsg(out.fd, sends.messages, static_cast<unsigned>(batch), 0), "sendmmsg")),
           batch, "sendmmsg");
  };
  BareRing ring;
  const auto answers = [&](size_t batch, const char* what) {
    io_uring_submit_and_wait(ring.get(), static_cast<unsigned>(batch));
    size_t moved = 0;
    for (size_t i = 0; i < batch; ++i) {
      io_uring_cqe* answer = nullptr;
      io_uring_wait_cqe(ring.get(), &answer);
      moved += answer->res > 0 ? 1 : 0;
      io_uring_cqe_seen(ring.get(), answer);
    }
    expect(moved, batch, what);
  };
  std::vector<Way> gets = {
      {"recvmmsg",
       [&](size_t batch) {
         for (size_t i = 0; i < batch; ++i) {
           reset(i);
         }
         expect(static_cast<size_t>(
                    recvmmsg(in.fd, receives, static_cast<unsigned>(batch), MSG_DONTWAIT, nullptr)),
                batch, "recvmmsg");
       }},
      {"io_uring",
       [&](size_t batch) {
         for (size_t i = 0; i < batch; ++i) {
           reset(i);
           io_uring_prep_recvmsg(ring.next(), in.fd, &receives[i].msg_hdr, MSG_DONTWAIT);
         }
         answers(batch, "io_uring recvmsg");
       }},
  };
  std::vector<Way> puts = {
      {"sendmmsg",
       [&](size_t batch) {
         expect(
             static_cast<size_t>(sendmmsg(out.fd, sends.messages, static_cast<unsigned>(batch), 0)),
             batch, "sendmmsg");
       }},
      {"io_uring",
       [&](size_t batch) {
         for (size_t i = 0; i < batch; ++i) {
           io_uring_prep_sendmsg(ring.next(), out.fd, &sends.messages[i].msg_hdr, MSG_DONTWAIT);
         }
         answers(batch, "io_uring sendmsg");
       }},
      {"io_uring zero-copy",
       [&](size_t batch) {
         for (size_t i = 0; i < batch; ++i) {
           io_uring_prep_sendmsg_zc(ring.next(), out.fd, &sends.messages[i].msg_hdr, MSG_DONTWAIT);
         }
         io_uring_submit_and_wait(ring.get(), static_cast<unsigned>(batch));
         size_t moved = 0, pending = batch;  // each answers, and once more when its bytes are free
         while (pending > 0) {
           io_uring_cqe* answer = nullptr;
           io_uring_wait_cqe(ring.get(), &answer);
           if ((answer->flags & IORING_CQE_F_NOTIF) != 0) {
             --pending;
           } else {
             moved += answer->res > 0 ? 1 : 0;
             pending -= (answer->flags & IORING_CQE_F_MORE) == 0 ? 1 : 0;
             empty();  // the far end holds the bytes until it has read them
           }
           io_uring_cqe_seen(ring.get(), answer);
         }
         expect(moved, batch, "zero-copy");
       }},
  };
  const auto nothing = [&](size_t) { empty(); };
  for (const size_t batch : {size_t{1}, size_t{4}, size_t{16}}) {
    race(std::string("UDP in, ") + name, batch, gets, fill, report);
    race(std::string("UDP out, ") + name, batch, puts, nothing, report);
  }
  BareRing shots;
  shots.provide(provided);
  msghdr shape{};
  shape.msg_namelen = sizeof(sockaddr_in);
  shape.msg_controllen = 64;
  const auto arm = [&] {
    io_uring_sqe* entry = shots.next();
    io_uring_prep_recvmsg_multishot(entry, in.fd, &shape, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = kGroup;
  };
  empty();
  arm();
  io_uring_submit(shots.get());
  std::vector<Way> shot = {{"io_uring multishot", [&](size_t batch) {
                              expect(shots.take(provided, batch, arm), batch, "multishot receive");
                            }}};
  const auto send_only = [&](size_t batch) {
    expect(static_cast<size_t>(sendmmsg(out.fd, sends.messages, static_cast<unsigned>(batch), 0)),
           batch, "sendmmsg");
  };
  for (const size_t batch : {size_t{1}, size_t{4}, size_t{16}}) {
    race(std::string("UDP in, ") + name, batch, shot, send_only, report);
  }
}

int run() {
  if (unshare(CLONE_NEWNET) != 0 || run_ip("link set lo up") != 0) {
    std::fprintf(stderr, "calls_bench needs root: it makes a network namespace and a TUN device\n");
    return 1;
  }
  Report report;
  bench_tun(report);
  bench_udp(1452, 9001, "1452 B", report);
  bench_udp(44 * 1452, 9002, "64 KiB trains", report);
  return report.finish();
}

}  // namespace
}  // namespace sallyport::bench

int main() {
  return sallyport::bench::run();
}
