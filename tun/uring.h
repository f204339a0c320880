// Uring: reads and writes of one thread on a descriptor, many in one system call (io_uring).
//
// A system call costs 0.1 to 1 us before it does anything (the more, the more a machine defends or emulates), and a TUN
// device takes and gives one packet a call. Here calls are queued, and run() hands all of them to the kernel at once. They are
// done in their order, before it returns: nothing is ever in flight, so buffers and the descriptor are the caller's again, and
// the wait for input stays where it is for every port, in epoll.
//
// Costs 10 KiB a ring; 0.1 us for a call, and one system call for all of them.
// What would have to wait answers EAGAIN, as a non-blocking call does.
// Threads: one at a time; may be made by another.
// Source: io_uring_enter(2), liburing.
#pragma once

#include <liburing.h>
#include <sys/uio.h>

#include <memory>
#include <span>

#include "dataplane/base/result.h"

namespace sallyport {

class Uring {
 public:
  static constexpr size_t kCallsMax = 32;

  // Fails where the kernel, or a seccomp filter around us, has no io_uring.
  static Result<std::unique_ptr<Uring>> open(int fd);
  ~Uring();
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  // At most kCallsMax between two runs; what they point to is to last until run().
  void read(void* to, size_t bytes);
  void write(const iovec* parts, size_t count);
  size_t queued() const { return queued_; }

  // Does what is queued. The outcome of each call, in their order: bytes, or -errno. Empty: the kernel took not all of them,
  // and this ring is good for nothing more.
  std::span<const int> run();

 private:
  Uring() = default;

  io_uring ring_{};
  int fd_ = -1;  // -1: there is no ring yet
  size_t queued_ = 0;
  int outcomes_[kCallsMax];
};

}  // namespace sallyport
