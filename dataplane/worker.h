// Worker: one thread's share of the data plane, run to completion.
//
// step() takes one burst from each source (mailbox, outer port, plain port), carries each to its end, and returns. The
// thread around it waits in epoll, offline for RCU, and steps only the sources that are ready: a lone packet costs one
// wait, one receive and one send. There is no timer and no batching delay; a worker that has much to do takes large bursts
// by itself, since what arrives while it works is the next burst.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "dataplane/path/context.h"
#include "dataplane/port.h"

namespace sallyport {

class Worker {
 public:
  static constexpr size_t kOuterFrames = 64;
  static constexpr size_t kPlainFrames = 32;

  Worker(unsigned number, BufferPool& pool, const std::atomic<const Snapshot*>& snapshot,
         Time (*clock)());
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Wires it to the others; before the first step.
  void connect(std::vector<Mailbox*> workers, int gone_fd, Assist* assist = nullptr);

  // One burst from each source. True if there was anything. The calling thread is an RCU reader and online.
  bool step();

  void start();
  void stop();  // joins

  Mailbox& mailbox() { return mailbox_; }
  const PathCounters& counters() const { return context_->counters; }
  uint64_t wakeups() const { return wakeups_.load(std::memory_order_relaxed); }
  Time busy() const { return busy_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kEventsMax = 64;
  static constexpr int kWatchTurns = 2000;  // some 50 us, for the next burst of one who was helped

  void run();
  void begin();
  void adopt();
  void make_layers(const Snapshot& snapshot);
  void watch(int fd, uint32_t source);
  void watch(const Port* port, uint32_t source);
  size_t wait(bool watching);
  void watch_for_others();
  bool work(size_t events);
  bool work_mailbox();
  void work_peer(const Message& message);
  void work_packet(const Message& message);
  bool work_outer();
  bool work_plain();
  void work_from_host(std::span<const RxFrame> frames);
  void release(std::span<const RxFrame> frames);

  static constexpr size_t kChainMax = 16;  // control allows fewer

  std::unique_ptr<Context> context_;
  std::vector<std::unique_ptr<Context>> layers_;  // behind it, by Context::deeper
  const std::atomic<const Snapshot*>& snapshot_;
  Time (*clock_)();
  Mailbox mailbox_;
  uint64_t epoch_ = 0;  // of the snapshot whose ports are polled
  int epoll_ = -1;
  int gone_fd_ = -1;
  std::vector<bool> plain_gone_;  // by tunnel
  uint32_t ready_[kEventsMax];    // sources that have something, from wait()
  std::atomic<uint64_t> wakeups_{0};
  std::atomic<Time> busy_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
  RxFrame frames_[kOuterFrames];
};

}  // namespace sallyport
