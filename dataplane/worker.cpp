#include "dataplane/worker.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "dataplane/base/rcu.h"
#include "dataplane/path/egress.h"
#include "dataplane/path/ingress.h"
#include "dataplane/path/open.h"
#include "dataplane/path/seal.h"

namespace sallyport {
namespace {

constexpr unsigned kMessagesPerStep = 256;

void watch(int epoll, int fd, Worker::Source source) {
  if (fd < 0) {
    return;
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u32 = source;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0 && errno != EEXIST) {
    std::perror("sallyport: epoll_ctl");
    std::abort();
  }
}

void watch(int epoll, const Port* port, Worker::Source source) {
  if (port != nullptr) {
    const Port::Descriptors descriptors = port->descriptors();
    watch(epoll, descriptors.fd[0], source);
    watch(epoll, descriptors.fd[1], source);
  }
}

}  // namespace

Worker::Worker(unsigned number, Tunnel& tunnel, BufferPool& pool,
               const std::atomic<const Snapshot*>& snapshot, Time (*clock)())
    : context_(std::make_unique<Context>(number, tunnel, pool)),
      snapshot_(snapshot),
      clock_(clock) {}

Worker::~Worker() {
  stop();
  Message message;
  while (mailbox_.take(message)) {
    if (message.buffer != nullptr) {
      context_->buffers.give(message.buffer);
    }
  }
}

void Worker::connect(std::vector<Mailbox*> workers, Mailbox& handshaker,
                     std::atomic<bool>& requests_overflowed, int gone_fd) {
  context_->workers = std::move(workers);
  context_->handshaker = &handshaker;
  context_->requests_overflowed = &requests_overflowed;
  gone_fd_ = gone_fd;
}

bool Worker::step(uint32_t sources) {
  const Snapshot& snapshot = *snapshot_.load(std::memory_order_acquire);
  context_->snapshot = &snapshot;
  context_->plain = snapshot.plain.empty() ? nullptr : snapshot.plain[context_->worker];
  context_->outer = snapshot.outer.empty() ? nullptr : snapshot.outer[context_->worker];
  context_->now = clock_();
  if (snapshot.epoch != epoch_) {
    adopt(snapshot);
  }
  bool worked = false;
  if ((sources & kMailbox) != 0) {
    worked |= work_mailbox();
  }
  if ((sources & kOuter) != 0) {
    worked |= work_outer();
  }
  if ((sources & kPlain) != 0) {
    worked |= work_plain();
  }
  return worked;
}

void Worker::release(std::span<const RxFrame> frames) {
  for (const RxFrame& frame : frames) {
    context_->buffers.give(frame.buffer);
  }
}

// Outer frames, to the end of the line. A train may be longer than a burst, so there may be several.
void Worker::work_frames(std::span<const RxFrame> frames) {
  OuterCursor cursor;
  bool more = true;
  while (more) {
    more = ingress_outer(*context_, frames, cursor);
    open(*context_);
    advance(*context_);
    context_->end_burst();
  }
}

bool Worker::work_outer() {
  if (context_->outer == nullptr) {
    return false;
  }
  const size_t count = context_->outer->rx(frames_, context_->buffers);
  if (count == 0) {
    return false;
  }
  const std::span<const RxFrame> frames(frames_, count);
  work_frames(frames);
  release(frames);
  return true;
}

bool Worker::work_plain() {
  Port* plain = context_->plain;
  if (plain == nullptr) {
    return false;
  }
  const size_t count = plain->rx(std::span(frames_, kPlainFrames), context_->buffers);
  if (count == 0) {
    if (!plain_gone_ && plain->gone()) {
      plain_gone_ = true;
      if (epoll_ >= 0) {  // what is gone stays readable for ever
        epoll_ctl(epoll_, EPOLL_CTL_DEL, plain->descriptors().fd[0], nullptr);
      }
      const uint64_t one = 1;
      [[maybe_unused]] const ssize_t written = write(gone_fd_, &one, sizeof(one));
    }
    return false;
  }
  const std::span<const RxFrame> frames(frames_, count);
  ingress_plain(*context_, frames);
  if (context_->snapshot->up) {
    advance(*context_);
  } else {
    context_->discard(DropReason::tunnel_down, nullptr,
                      static_cast<uint32_t>(context_->burst.count));
  }
  context_->end_burst();
  release(frames);
  return true;
}

bool Worker::work_mailbox() {
  Message message;
  unsigned taken = 0;
  while (taken < kMessagesPerStep && mailbox_.take(message)) {
    ++taken;
    if (message.kind == Message::Kind::datagrams) {
      const RxFrame frame = *boxed_frame(message.buffer);
      work_frames(std::span(&frame, 1));
      context_->buffers.give(message.buffer);
      continue;
    }
    wireguard::Peer* peer = context_->tunnel.peers.get(message.peer);
    if (peer == nullptr) {
      continue;
    }
    bool more = true;
    while (more) {
      more = unstage(*context_, *peer);
      if (context_->burst.count == 0 && message.kind == Message::Kind::keepalive) {
        add_keepalive(*context_, *peer);
      }
      message.kind = Message::Kind::flush_staged;  // one keepalive at most
      advance(*context_);
      context_->end_burst();
    }
  }
  return taken > 0;
}

// A new snapshot may name other ports: poll those. Closing a descriptor took the old ones out.
void Worker::adopt(const Snapshot& snapshot) {
  epoch_ = snapshot.epoch;
  plain_gone_ = false;
  if (epoll_ < 0) {
    return;  // stepped, not threaded
  }
  watch(epoll_, context_->plain, kPlain);
  watch(epoll_, context_->outer, kOuter);
}

// Sleeps until something is ready, and says what.
uint32_t Worker::wait() {
  mailbox_.going_to_sleep();
  const bool pending = !mailbox_.empty() || stopping_.load(std::memory_order_acquire) ||
                       snapshot_.load(std::memory_order_acquire)->epoch != epoch_;
  rcu_offline();
  epoll_event events[8];
  const int count = epoll_wait(epoll_, events, 8, pending ? 0 : -1);
  rcu_online();
  mailbox_.awake();
  uint32_t ready = 0;
  for (int i = 0; i < count; ++i) {
    ready |= events[i].data.u32;
  }
  if ((ready & kMailbox) != 0) {
    mailbox_.quiet();
  }
  sallyport::count(wakeups_, 1);
  return mailbox_.empty() ? ready : ready | kMailbox;
}

void Worker::run() {
  crypto::aead_thread_init();
  rcu_join();
  while (!stopping_.load(std::memory_order_acquire)) {
    const uint32_t ready = wait();
    if (step(ready)) {
      busy_.store(busy_.load(std::memory_order_relaxed) + clock_() - context_->now,
                  std::memory_order_relaxed);
    }
  }
  rcu_leave();
}

void Worker::start() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) {
    std::perror("sallyport: epoll_create1");
    std::abort();
  }
  watch(epoll_, mailbox_.bell(), kMailbox);
  epoch_ = 0;
  stopping_.store(false, std::memory_order_release);
  thread_ = std::thread([this] { run(); });
}

void Worker::stop() {
  if (!thread_.joinable()) {
    return;
  }
  stopping_.store(true, std::memory_order_release);
  mailbox_.ring();
  thread_.join();
  close(epoll_);
  epoll_ = -1;
}

}  // namespace sallyport
