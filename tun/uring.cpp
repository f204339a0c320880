#include "tun/uring.h"

#include <cerrno>

namespace sallyport {
namespace {

constexpr int kSubmitTries = 1000;

// A call that fails must not keep those after it from being done: before Linux 5.18 run() comes back for them.
int init(io_uring& ring) {
  io_uring_params params{};
  params.flags = IORING_SETUP_SUBMIT_ALL;
  const int outcome = io_uring_queue_init_params(Uring::kCallsMax, &ring, &params);
  return outcome == -EINVAL ? io_uring_queue_init(Uring::kCallsMax, &ring, 0) : outcome;
}

}  // namespace

Result<std::unique_ptr<Uring>> Uring::open(int fd) {
  std::unique_ptr<Uring> made(new Uring);
  if (const int outcome = init(made->ring_); outcome != 0) {
    return fail_errno("cannot make an io_uring", -outcome);
  }
  made->fd_ = fd;
  io_uring_probe* probe = io_uring_get_probe_ring(&made->ring_);
  const bool is_new_enough = probe != nullptr && io_uring_opcode_supported(probe, IORING_OP_READ) &&
                             io_uring_opcode_supported(probe, IORING_OP_WRITEV);
  io_uring_free_probe(probe);
  if (!is_new_enough) {
    return fail("this kernel's io_uring has no read (needs Linux 5.6)", ENOSYS);
  }
  // What would wait is to fail: O_NONBLOCK alone lets the kernel wait for us. A read of no bytes takes nothing from a TUN.
  made->read(made.get(), 0);
  const std::span<const int> tried = made->run();
  if (tried.empty() || tried[0] == -EOPNOTSUPP || tried[0] == -EINVAL) {
    return fail("this kernel's io_uring cannot read the descriptor without waiting", EOPNOTSUPP);
  }
  return made;
}

Uring::~Uring() {
  if (fd_ >= 0) {
    io_uring_queue_exit(&ring_);
  }
}

void Uring::read(void* to, size_t bytes) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);  // there is one: run() leaves none behind
  io_uring_prep_read(entry, fd_, to, static_cast<unsigned>(bytes), 0);
  entry->rw_flags = RWF_NOWAIT;
  entry->user_data = queued_++;
}

void Uring::write(const iovec* parts, size_t count) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  io_uring_prep_writev(entry, fd_, parts, static_cast<unsigned>(count), 0);
  entry->rw_flags = RWF_NOWAIT;
  entry->user_data = queued_++;
}

std::span<const int> Uring::run() {
  size_t submitted = 0;
  for (int tries = 0; submitted < queued_; ++tries) {
    const int taken = io_uring_submit_and_wait(&ring_, static_cast<unsigned>(queued_ - submitted));
    submitted += taken > 0 ? static_cast<size_t>(taken) : 0;
    const bool may_pass = taken >= 0 || taken == -EINTR || taken == -EAGAIN || taken == -EBUSY;
    if (!may_pass || tries == kSubmitTries) {
      queued_ = 0;
      return {};
    }
  }
  size_t done = 0;
  while (done < queued_) {
    io_uring_cqe* answer = nullptr;
    if (io_uring_wait_cqe(&ring_, &answer) != 0) {
      continue;  // EINTR
    }
    outcomes_[answer->user_data] = answer->res;
    io_uring_cqe_seen(&ring_, answer);
    ++done;
  }
  queued_ = 0;
  return {outcomes_, done};
}

}  // namespace sallyport
