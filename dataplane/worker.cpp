#include "dataplane/worker.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "dataplane/base/cpu_relax.h"
#include "dataplane/base/rcu.h"
#include "dataplane/base/thread.h"
#include "dataplane/path/egress.h"
#include "dataplane/path/ingress.h"
#include "dataplane/path/nest.h"
#include "dataplane/path/seal.h"

namespace sallyport {
namespace {

constexpr unsigned kMessagesPerStep = 256;

// Where work can come from: the mailbox, or one side of a tunnel.
enum Side : uint32_t { kMailbox, kOuter, kPlain };

constexpr uint32_t source_of(Side side, size_t tunnel = 0) {
  return static_cast<uint32_t>(tunnel << 2) | side;
}
constexpr Side side_of(uint32_t source) {
  return static_cast<Side>(source & 3);
}
constexpr TunnelNumber tunnel_of(uint32_t source) {
  return static_cast<TunnelNumber>(source >> 2);
}

}  // namespace

Worker::Worker(unsigned number, BufferPool& pool, const std::atomic<const Snapshot*>& snapshot,
               Time (*clock)())
    : context_(std::make_unique<Context>(number, pool)), snapshot_(snapshot), clock_(clock) {}

Worker::~Worker() {
  stop();
  Message message;
  while (mailbox_.take(message)) {
    if (message.buffer != nullptr) {
      context_->buffers.give(message.buffer);
    }
  }
}

void Worker::connect(std::vector<Mailbox*> workers, int gone_fd, Assist* assist) {
  context_->workers = std::move(workers);
  context_->assist = assist;
  gone_fd_ = gone_fd;
}

void Worker::begin() {
  context_->snapshot = snapshot_.load(std::memory_order_acquire);
  context_->now = clock_();
  if (context_->snapshot->epoch != epoch_) {
    adopt();
  }
}

bool Worker::step() {
  begin();
  bool worked = work_mailbox();
  for (size_t tunnel = 0; tunnel < context_->snapshot->tunnels.size(); ++tunnel) {
    if (context_->enter(static_cast<TunnelNumber>(tunnel))) {
      worked |= work_outer();
      worked |= work_plain();
    }
  }
  return worked;
}

// One burst from each source that wait() found ready. The mailbox first, whether or not its bell was heard: who posts
// to a worker that is awake does not ring.
bool Worker::work(size_t events) {
  begin();
  bool worked = work_mailbox();
  for (size_t i = 0; i < events; ++i) {
    const Side side = side_of(ready_[i]);
    if (side == kMailbox || !context_->enter(tunnel_of(ready_[i]))) {
      continue;
    }
    worked |= side == kOuter ? work_outer() : work_plain();
  }
  return worked;
}

void Worker::release(std::span<const RxFrame> frames) {
  for (const RxFrame& frame : frames) {
    context_->buffers.give(frame.buffer);
  }
}

bool Worker::work_outer() {
  Port* outer = context_->here().outer_port(context_->worker);
  if (outer == nullptr) {
    return false;
  }
  const size_t count = outer->rx(frames_, context_->buffers);
  if (count == 0) {
    return false;
  }
  const std::span<const RxFrame> frames(frames_, count);
  receive(*context_, frames);
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
    if (!plain_gone_[context_->number] && plain->gone()) {
      plain_gone_[context_->number] = true;
      if (epoll_ >= 0) {  // what is gone stays readable for ever
        epoll_ctl(epoll_, EPOLL_CTL_DEL, plain->descriptors().fd[0], nullptr);
      }
      const uint64_t one = 1;
      [[maybe_unused]] const ssize_t written = write(gone_fd_, &one, sizeof(one));
    }
    return false;
  }
  const std::span<const RxFrame> frames(frames_, count);
  work_from_host(frames);
  release(frames);
  return true;
}

void Worker::work_from_host(std::span<const RxFrame> frames) {
  ingress_plain(*context_, frames);
  if (context_->here().up) {
    advance(*context_);
  } else {
    context_->discard(DropReason::tunnel_down, nullptr,
                      static_cast<uint32_t>(context_->burst.count));
  }
  context_->end_burst();
}

bool Worker::work_mailbox() {
  Message message;
  unsigned taken = 0;
  while (taken < kMessagesPerStep && mailbox_.take(message)) {
    ++taken;
    const bool known = context_->enter(message.tunnel);
    if (message.buffer == nullptr) {
      if (known) {
        work_peer(message);
      }
      continue;
    }
    if (!known) {
      context_->discard(DropReason::tunnel_down);
    } else if (message.kind == Message::Kind::packet) {
      work_packet(message);
    } else if (message.kind == Message::Kind::from_host) {
      work_from_host(std::span(boxed_frame(message.buffer), 1));
    } else {
      const RxFrame frame = *boxed_frame(message.buffer);
      receive(*context_, std::span(&frame, 1));
    }
    context_->buffers.give(message.buffer);
  }
  return taken > 0;
}

// Sends what waits for a peer's session, or a keepalive.
void Worker::work_peer(const Message& message) {
  wireguard::Peer* peer = context_->tunnel->peers.get(message.peer);
  if (peer == nullptr) {
    return;
  }
  bool keepalive = message.kind == Message::Kind::keepalive;
  bool more = true;
  while (more) {
    more = unstage(*context_, *peer);
    if (context_->burst.count == 0 && keepalive) {
      add_keepalive(*context_, *peer);
    }
    keepalive = false;  // one at most
    advance(*context_);
    context_->end_burst();
  }
}

// A packet that control made (a probe), sealed for the peer it names.
void Worker::work_packet(const Message& message) {
  wireguard::Peer* peer = context_->tunnel->peers.get(message.peer);
  if (peer == nullptr || !context_->here().up) {
    context_->discard(DropReason::tunnel_down);
    return;
  }
  ingress_plain(*context_, std::span(boxed_frame(message.buffer), 1));
  for (size_t i = 0; i < context_->burst.count; ++i) {
    context_->burst.runs[i].to = peer;
  }
  advance(*context_);
  context_->end_burst();
}

void Worker::watch(int fd, uint32_t source) {
  if (fd < 0) {
    return;
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u32 = source;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0 && errno != EEXIST) {
    std::perror("sallyport: epoll_ctl");
    std::abort();
  }
}

void Worker::watch(const Port* port, uint32_t source) {
  if (port != nullptr) {
    const Port::Descriptors descriptors = port->descriptors();
    watch(descriptors.fd[0], source);
    watch(descriptors.fd[1], source);
  }
}

// As many contexts as a packet can be in at once: it may come out of the longest chain of tunnels, and go into it again.
void Worker::make_layers(const Snapshot& snapshot) {
  size_t longest = 0;
  for (const TunnelView& view : snapshot.tunnels) {
    size_t length = 0;
    for (TunnelNumber via = view.via; via < snapshot.tunnels.size() && length < kChainMax;
         via = snapshot.tunnels[via].via) {
      ++length;
    }
    longest = std::max(longest, length);
  }
  while (layers_.size() < 2 * longest) {
    layers_.push_back(std::make_unique<Context>(layers_.empty() ? *context_ : *layers_.back()));
  }
}

// A new snapshot may name other ports: poll those. Closing a descriptor took the old ones out.
void Worker::adopt() {
  const Snapshot& snapshot = *context_->snapshot;
  epoch_ = snapshot.epoch;
  plain_gone_.assign(snapshot.tunnels.size(), false);
  make_layers(snapshot);
  if (epoll_ < 0) {
    return;  // stepped, not threaded
  }
  for (size_t i = 0; i < snapshot.tunnels.size(); ++i) {
    watch(snapshot.tunnels[i].plain_port(context_->worker), source_of(kPlain, i));
    watch(snapshot.tunnels[i].outer_port(context_->worker), source_of(kOuter, i));
  }
}

// For a moment after it helped, a worker looks for more of that, unless there is something of its own.
void Worker::watch_for_others() {
  for (int turn = 0; turn < kWatchTurns && !context_->assist->wanted() && mailbox_.empty() &&
                     !stopping_.load(std::memory_order_relaxed);
       ++turn) {
    cpu_relax();
  }
}

// Sleeps until something is ready, and says how many of ready_ are. `watching`: somebody was just helped.
size_t Worker::wait(bool watching) {
  if (watching) {
    watch_for_others();
  }
  mailbox_.going_to_sleep();
  const bool pending = !mailbox_.empty() || stopping_.load(std::memory_order_acquire) ||
                       (context_->assist != nullptr && context_->assist->wanted()) ||
                       snapshot_.load(std::memory_order_acquire)->epoch != epoch_;
  rcu_offline();
  epoll_event events[kEventsMax];
  const int count = epoll_wait(epoll_, events, kEventsMax, pending ? 0 : -1);
  rcu_online();
  mailbox_.awake();
  for (int i = 0; i < count; ++i) {
    ready_[i] = events[i].data.u32;
    if (ready_[i] == source_of(kMailbox)) {
      mailbox_.quiet();
    }
  }
  sallyport::count(wakeups_, 1);
  return static_cast<size_t>(std::max(count, 0));
}

void Worker::run() {
  crypto::aead_thread_init();
  rcu_join();
  bool helped = false;
  while (!stopping_.load(std::memory_order_acquire)) {
    const bool worked = work(wait(helped));
    helped = context_->assist != nullptr && context_->assist->help(context_->worker);
    if (worked || helped) {
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
  watch(mailbox_.bell(), source_of(kMailbox));
  epoch_ = 0;
  stopping_.store(false, std::memory_order_release);
  thread_ = start_thread([this] { run(); });
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
