// The engine with its threads running, while control does everything to it that control may. What
// ThreadSanitizer is for; without it these tests still show that nothing hangs, breaks or stays
// broken.
//
// A courier carries datagrams between two engines, hosts send without pause, observers ask for
// state, and the clock may run fast. Each test churns for a bounded time and ends with proof that
// packets still get through.
#include <chrono>
#include <thread>

#include "dataplane/base/rcu.h"
#include "tests/dataplane/node.h"
#include "tests/dataplane/policies.h"

namespace sallyport::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kChurn{1'000};
constexpr milliseconds kPatience{60'000};

// One engine on threads. Ports may be replaced while others use them, so whoever touches one holds
// the mutex.
class ThreadedNode {
 public:
  ThreadedNode(uint8_t seed, const std::string& place, unsigned workers)
      : key(filled_key(seed)), address(*parse_endpoint(place)), workers_(workers) {
    EngineOptions options;
    options.workers = workers;
    options.clock = FakeClock::now;
    options.wall_clock = FakeClock::wall;
    options.cost_clock = FakeClock::now;
    options.assistance = EngineOptions::Assistance::always;
    engine = std::make_unique<Engine>(options);
    replace_plain();
    replace_outer();
    TunnelChange change;
    change.private_key = key;
    EXPECT_TRUE(engine->apply(change).has_value());
    engine->set_up(true);
    engine->run_threads();
  }

  void replace_plain() { engine->set_plain_ports(replace(plain_, workers_)); }
  void replace_outer() { engine->set_outer_ports(replace(outer_, workers_ + 1)); }
  void close_outer() { engine->set_outer_ports(replace(outer_, 0)); }

  PeerChange as_peer(const std::string& prefix) const {
    PeerChange peer;
    peer.public_key = public_key_of(key);
    peer.endpoint = address;
    peer.allowed_ips = {{*parse_prefix(prefix), false}};
    return peer;
  }

  void host_sends(const Bytes& packet, unsigned worker) {
    const std::lock_guard lock(mutex_);
    if (plain_[worker % workers_]->waiting() < 64) {
      plain_[worker % workers_]->inject(packet);
    }
  }
  // Everything the host got since last asked; false among it is a damaged packet.
  std::vector<Bytes> host_receives() {
    const std::lock_guard lock(mutex_);
    std::vector<Bytes> packets;
    for (MemoryPort* port : plain_) {
      for (MemoryPort::Frame& frame : port->sent()) {
        packets.push_back(std::move(frame.bytes));
      }
    }
    return packets;
  }
  std::vector<MemoryPort::Frame> departing() {
    const std::lock_guard lock(mutex_);
    std::vector<MemoryPort::Frame> frames;
    for (MemoryPort* port : outer_) {
      for (MemoryPort::Frame& frame : port->sent()) {
        frames.push_back(std::move(frame));
      }
    }
    return frames;
  }
  void arriving(const Bytes& datagram, const Endpoint& from, unsigned port) {
    const std::lock_guard lock(mutex_);
    if (port < outer_.size() && outer_[port]->waiting() < 1'024) {
      outer_[port]->inject(datagram, from);
    }
  }
  void train_arriving(const Bytes& train, uint32_t stride, const Endpoint& from, unsigned port) {
    const std::lock_guard lock(mutex_);
    if (port < outer_.size() && outer_[port]->waiting() < 64) {
      outer_[port]->inject_train(train, stride, from);
    }
  }
  unsigned workers() const { return workers_; }

  const KeyBytes key;
  const Endpoint address;
  std::unique_ptr<Engine> engine;

 private:
  std::vector<std::unique_ptr<Port>> replace(std::vector<MemoryPort*>& list, unsigned count) {
    std::vector<std::unique_ptr<Port>> ports;
    const std::lock_guard lock(mutex_);
    list.clear();
    for (unsigned i = 0; i < count; ++i) {
      auto port = std::make_unique<MemoryPort>("threads", MemoryPort::Events::eventfd);
      list.push_back(port.get());
      ports.push_back(std::move(port));
    }
    return ports;
  }

  const unsigned workers_;
  std::mutex mutex_;
  std::vector<MemoryPort*> plain_, outer_;
};

class Threads : public testing::Test {
 protected:
  Threads() {
    FakeClock::reset();
    apply(a_, b_.as_peer("10.0.0.2/32"));
    apply(b_, a_.as_peer("10.0.0.1/32"));
    helpers_.emplace_back([this] { carry(); });
    helpers_.emplace_back([this] { talk(); });
    helpers_.emplace_back([this] { observe(); });
  }
  ~Threads() override {
    stopping_ = true;
    for (std::thread& helper : helpers_) {
      helper.join();
    }
    EXPECT_EQ(damaged_, 0u);
  }

  static void apply(ThreadedNode& node, const PeerChange& peer) {
    TunnelChange change;
    change.peers.push_back(peer);
    EXPECT_TRUE(node.engine->apply(change).has_value());
  }

  // Does `step` again and again for as long as a test churns. At least once.
  template <class Step>
  void churn(Step step) {
    const Clock::time_point end = Clock::now() + kChurn;
    do {
      step();
    } while (Clock::now() < end);
  }

  // Both hosts hear from the other again. Time runs meanwhile, so that what waits for a timer comes
  // to pass; a change of nothing wakes the handshakers, who sleep by the real clock.
  void expect_traffic() {
    const uint64_t a_before = a_heard_, b_before = b_heard_;
    const Clock::time_point end = Clock::now() + kPatience;
    while ((a_heard_ == a_before || b_heard_ == b_before) && Clock::now() < end) {
      FakeClock::advance(100 * kMillisecond);
      for (ThreadedNode* node : {&a_, &b_}) {
        ASSERT_TRUE(node->engine->apply({}).has_value());
      }
      std::this_thread::sleep_for(milliseconds(1));
    }
    EXPECT_GT(a_heard_, a_before);
    EXPECT_GT(b_heard_, b_before);
  }

  // How the courier picks a port: as the kernel steers, or as chance has it.
  std::atomic<bool> steered_{true};
  // It holds A's datagrams back until they are many of one session and length, and lets go of them as one train.
  std::atomic<bool> gathers_{false};
  ThreadedNode a_{0x11, "192.0.2.1:1000", 2};
  ThreadedNode b_{0x22, "192.0.2.2:2000", 3};

 private:
  // True if the datagram joined a train.
  bool gather(const Bytes& datagram) {
    if (!gathers_ || datagram[0] != 4 || datagram.size() < 64) {
      return false;
    }
    const bool fits = datagram.size() == stride_ &&
                      std::equal(datagram.begin() + 4, datagram.begin() + 8, train_.begin() + 4);
    if (!fits) {
      train_.clear();
      stride_ = datagram.size();
    }
    train_.insert(train_.end(), datagram.begin(), datagram.end());
    if (train_.size() >= kTrainDatagrams * stride_) {
      b_.train_arriving(train_, static_cast<uint32_t>(stride_), a_.address,
                        train_[4] % b_.workers());
      train_.clear();
      stride_ = 0;
    }
    return true;
  }
  void carry_from(ThreadedNode& from, ThreadedNode& to) {
    for (const MemoryPort::Frame& frame : from.departing()) {
      for (const Bytes& datagram : frame.segments()) {
        if (&to == &b_ && gather(datagram)) {
          continue;
        }
        unsigned port = datagram[0] == 4 ? datagram[4] % to.workers() : to.workers();
        if (!steered_) {
          port = ++any_port_ % (to.workers() + 1);
        }
        to.arriving(datagram, from.address, port);
      }
    }
  }
  void hear(ThreadedNode& node, std::atomic<uint64_t>& heard) {
    for (const Bytes& packet : node.host_receives()) {
      if (packet[9] == kProtocolUdp) {  // the rest is the engine's own ICMP
        damaged_ += checksums_right(packet) ? 0 : 1;
        ++heard;
      }
    }
  }
  void carry() {
    while (!stopping_) {
      carry_from(a_, b_);
      carry_from(b_, a_);
      hear(a_, a_heard_);
      hear(b_, b_heard_);
      std::this_thread::yield();
    }
  }
  void talk() {
    const Bytes forth = udp({}, pattern(300));
    const Bytes back = udp({.source = "10.0.0.2", .destination = "10.0.0.1"}, pattern(200));
    for (unsigned turn = 0; !stopping_; ++turn) {
      a_.host_sends(forth, turn);
      b_.host_sends(back, turn);
      std::this_thread::yield();
    }
  }
  void observe() {
    while (!stopping_) {
      for (ThreadedNode* node : {&a_, &b_}) {
        const TunnelState state = node->engine->describe();
        const EngineStatus status = node->engine->status();
        ASSERT_LE(state.peers.size(), 2u);
        ASSERT_EQ(status.workers.size(), node->workers());
      }
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> a_heard_{0}, b_heard_{0}, damaged_{0};
  unsigned any_port_ = 0;
  static constexpr size_t kTrainDatagrams = 150;
  Bytes train_;  // the courier's
  size_t stride_ = 0;
  std::vector<std::thread> helpers_;
};

TEST_F(Threads, PacketsFlow) {
  expect_traffic();
}

TEST_F(Threads, SnapshotsChangeUnderTraffic) {
  uint32_t mtu = 1'280;
  churn([&] {
    a_.engine->set_mtu(1'280 + ++mtu % 200);
    b_.replace_outer();
    a_.replace_plain();
    std::this_thread::yield();
  });
  expect_traffic();
}

TEST_F(Threads, TheInterfaceGoesDownAndUpUnderTraffic) {
  churn([&] {
    a_.engine->set_up(false);
    a_.close_outer();
    std::this_thread::yield();
    a_.replace_outer();
    a_.engine->set_up(true);
    std::this_thread::sleep_for(milliseconds(2));
  });
  expect_traffic();
}

TEST_F(Threads, SessionsRotateUnderTraffic) {
  expect_traffic();
  const uint64_t before = a_.engine->status().sessions_derived;
  const Clock::time_point patience_end = Clock::now() + kPatience;
  do {
    churn([] {
      FakeClock::advance(5 * kSecond);
      std::this_thread::sleep_for(milliseconds(2));
    });
    expect_traffic();
  } while (a_.engine->status().sessions_derived == before && Clock::now() < patience_end);
  EXPECT_GT(a_.engine->status().sessions_derived, before);
}

TEST_F(Threads, PeersComeAndGoUnderTraffic) {
  PeerChange gone = b_.as_peer("10.0.0.2/32");
  gone.remove = true;
  churn([&] {
    apply(a_, gone);
    std::this_thread::yield();
    apply(a_, b_.as_peer("10.0.0.2/32"));
    FakeClock::advance(20 * kMillisecond);
    std::this_thread::sleep_for(milliseconds(2));
  });
  expect_traffic();
}

TEST_F(Threads, AllowedIpsMoveUnderTraffic) {
  PeerChange other;
  other.public_key = public_key_of(filled_key(0x33));
  other.endpoint = *parse_endpoint("192.0.2.3:3000");
  other.allowed_ips = {{*parse_prefix("10.0.0.2/32"), false}};
  churn([&] {
    apply(a_, other);
    std::this_thread::yield();
    apply(a_, b_.as_peer("10.0.0.2/32"));
    std::this_thread::yield();
  });
  expect_traffic();
}

TEST_F(Threads, KeysChangeUnderTraffic) {
  TunnelChange another, own;
  another.private_key = filled_key(0x44);
  own.private_key = a_.key;
  churn([&] {
    EXPECT_TRUE(a_.engine->apply(another).has_value());
    std::this_thread::yield();
    EXPECT_TRUE(a_.engine->apply(own).has_value());
    FakeClock::advance(kSecond);
    std::this_thread::sleep_for(milliseconds(2));
  });
  expect_traffic();
}

TEST_F(Threads, DatagramsFindTheirWorkerFromAnyPort) {
  steered_ = false;
  expect_traffic();
  churn([] {
    FakeClock::advance(kSecond);
    std::this_thread::sleep_for(milliseconds(5));
  });
  expect_traffic();
  uint64_t handed_over = 0;
  for (const WorkerStatus& worker : b_.engine->status().workers) {
    handed_over += worker.handed_over;
  }
  EXPECT_GT(handed_over, 0u);
}

TEST_F(Threads, LargeBurstsOfOneSessionAreOpenedByAll) {
  expect_traffic();
  gathers_ = true;
  const auto assisted = [&] {
    uint64_t packets = 0;
    for (const WorkerStatus& worker : b_.engine->status().workers) {
      packets += worker.assisted;
    }
    return packets;
  };
  const Clock::time_point end = Clock::now() + kPatience;
  while (assisted() == 0 && Clock::now() < end) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_GT(assisted(), 0u);
  churn([&] {
    FakeClock::advance(kSecond);
    std::this_thread::sleep_for(milliseconds(2));
  });
  gathers_ = false;
  expect_traffic();
  uint64_t bad = 0;
  for (const WorkerStatus& worker : b_.engine->status().workers) {
    bad += worker.drops[static_cast<size_t>(DropReason::bad_tag)];
  }
  EXPECT_EQ(bad, 0u);
}

TEST_F(Threads, ThreadsStopAndStartUnderTraffic) {
  churn([&] {
    b_.engine->stop_threads();
    std::this_thread::yield();
    b_.engine->run_threads();
    std::this_thread::sleep_for(milliseconds(2));
  });
  expect_traffic();
}

// A's policy, and what outlives it.
class PolicyThreads : public Threads {
 protected:
  ~PolicyThreads() override {
    a_.engine->set_policy(nullptr);
    a_.engine->set_tap(nullptr);
    rcu_barrier_all();
  }
  Engine& engine() { return *a_.engine; }
  PolicyMaker maker() { return {engine().tags(), a_.workers()}; }
  uint32_t tag_of_b() { return *engine().tag(public_key_of(b_.key), 0); }

  Sets sets_;
};

TEST_F(PolicyThreads, PoliciesAndSetsAreSwappedUnderTraffic) {
  PrefixSet* set = sets_.add({"10.0.0.0/24"});
  AffinityTable* affinity = sets_.add_affinity(64);
  const uint32_t tag = tag_of_b();
  unsigned turn = 0;
  churn([&] {
    PolicyMaker made = maker();
    const uint32_t peer = made.peer(tag), tunnel = made.tunnel(0);
    const uint32_t group = made.group(turn % 2 == 0 ? GroupMode::failover : GroupMode::weighted,
                                      {{peer}, {tunnel}}, peer, affinity);
    const uint32_t table = made.table({{"0.0.0.0/0", tunnel}}, {{set, group}});
    made.rule(to(set), set_mark(turn, 0xff));
    made.rule(to("10.0.0.2/32"), turn % 3 == 0 ? use_exit(group) : use_table(table));
    engine().set_policy(made.finish());
    for (int i = 0; i < 3; ++i) {
      Sets::fill(*set, {turn % 2 == 0 ? "10.0.0.0/24" : "192.0.2.0/24", "!10.0.0.7/32"});
      engine().policy()->alive[peer] = i != 1;
      std::this_thread::yield();
      (void)rule_packets(*engine().policy(), 0);
    }
    if (++turn % 10 == 0) {
      engine().set_policy(nullptr);
    }
  });
  expect_traffic();
  EXPECT_GT(turn, 1u);
}

TEST_F(PolicyThreads, TunnelsComeAndGoUnderTraffic) {
  const Bytes packet = udp({.source = "10.1.0.1", .destination = "10.1.0.2"}, pattern(100));
  unsigned turn = 0;
  churn([&] {
    const TunnelNumber number = engine().add_tunnel();
    ASSERT_EQ(number, 1u);
    std::vector<MemoryPort*> plain;
    const auto ports = [&](unsigned count) {
      std::vector<std::unique_ptr<Port>> out;
      for (unsigned i = 0; i < count; ++i) {
        out.push_back(std::make_unique<MemoryPort>("added", MemoryPort::Events::eventfd));
        plain.push_back(static_cast<MemoryPort*>(out.back().get()));
      }
      return out;
    };
    engine().set_outer_ports(ports(a_.workers() + 1), number);
    plain.clear();
    engine().set_plain_ports(ports(a_.workers()), number);
    TunnelChange change;
    change.private_key = filled_key(0x55);
    PeerChange& peer = change.peers.emplace_back(b_.as_peer("10.1.0.2/32"));
    ASSERT_TRUE(engine().apply(change, number).has_value());
    engine().set_up(true, number);
    const auto tag = engine().tag(peer.public_key, number);
    ASSERT_TRUE(tag.has_value());
    // Half of what the host says goes by the new tunnel, where nobody answers.
    PolicyMaker made = maker();
    const uint32_t group = made.group(GroupMode::failover, {{made.peer(*tag)}});
    made.rule(to("10.0.0.2/32"), turn % 2 == 0 ? use_exit(group) : use_exit(made.tunnel(0)));
    made.rule(to("10.1.0.0/16"), use_exit(made.port(number)));
    engine().set_policy(made.finish());
    for (unsigned i = 0; i < 8; ++i) {
      plain[i % plain.size()]->inject(packet);
      engine().send_packet(*tag, packet);
      engine().want_session(*tag);
      std::this_thread::yield();
    }
    engine().remove_tunnel(number);
    ASSERT_FALSE(engine().brief(*tag).has_value());
    ++turn;
  });
  engine().set_policy(nullptr);
  expect_traffic();
}

TEST_F(PolicyThreads, NamedPeersComeAndGoUnderTraffic) {
  const uint32_t tag = tag_of_b();
  PolicyMaker made = maker();
  made.rule(from_peer(tag), use_exit(made.exit(ExitKind::host)));
  made.rule(all(), use_exit(made.peer(tag)));
  engine().set_policy(made.finish());
  PeerChange gone = b_.as_peer("10.0.0.2/32"), back = gone, other = gone;
  gone.remove = true;
  other.public_key = public_key_of(filled_key(0x33));
  back.allowed_ips[0].shared = other.allowed_ips[0].shared = true;
  const Bytes packet = udp({}, pattern(40));
  unsigned turn = 0;
  churn([&] {
    engine().set_tap(std::make_unique<Tap>(TraceFilter{}));
    apply(a_, other);
    apply(a_, gone);
    (void)engine().brief(tag);
    engine().send_packet(tag, packet);
    std::this_thread::yield();
    (void)engine().explain({.tunnel = 0, .from_tag = tag, .packet = packet});
    apply(a_, back);
    engine().want_session(tag);
    engine().send_packet(tag, packet);
    (void)engine().explain({.tunnel = 0, .from_tag = {}, .packet = packet});
    FakeClock::advance(20 * kMillisecond);
    std::this_thread::sleep_for(milliseconds(2));
    while (engine().tap()->take().has_value()) {
    }
    PeerChange other_gone = other;
    other_gone.remove = ++turn % 2 == 0;
    apply(a_, other_gone);
  });
  expect_traffic();
}

}  // namespace
}  // namespace sallyport::test
