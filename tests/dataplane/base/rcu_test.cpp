#include "dataplane/base/rcu.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace sallyport {
namespace {

std::atomic<int> freed{0};

struct Counted {
  ~Counted() { ++freed; }
};

TEST(Rcu, WithoutReadersARetiredObjectIsFreed) {
  freed = 0;
  rcu_delete(new Counted);
  rcu_barrier_all();
  EXPECT_EQ(freed, 1);
}

// The reader sits between two quiescent states, so nothing retired meanwhile may go. This thread
// hands over by flags alone: no outcome depends on how long anything takes.
TEST(Rcu, ARetiredObjectOutlivesItsReaders) {
  freed = 0;
  std::atomic<int> step{0};
  std::atomic<int> freed_under_reader{-1};
  std::thread reader([&] {
    rcu_join();
    step = 1;
    while (step != 2) {
    }
    for (int i = 0; i < 1000; ++i) {
      std::this_thread::yield();
    }
    freed_under_reader = freed.load();
    rcu_quiescent();
    rcu_leave();
  });
  while (step != 1) {
  }
  rcu_delete(new Counted);
  step = 2;
  reader.join();
  rcu_barrier_all();
  EXPECT_EQ(freed_under_reader, 0);
  EXPECT_EQ(freed, 1);
}

TEST(Rcu, AnOfflineReaderHoldsNothingUp) {
  freed = 0;
  std::atomic<int> step{0};
  std::thread reader([&] {
    rcu_join();
    rcu_offline();
    step = 1;
    while (step != 2) {
      std::this_thread::yield();
    }
    rcu_online();
    rcu_leave();
  });
  while (step != 1) {
    std::this_thread::yield();
  }
  rcu_delete(new Counted);
  rcu_barrier_all();
  EXPECT_EQ(freed, 1);
  step = 2;
  reader.join();
}

// One published pointer is replaced over and over under two readers: each value read must be alive.
TEST(Rcu, ReadersOfAPublishedPointerOnlyMeetLiveObjects) {
  struct Value {
    explicit Value(int n) : number(n), copy(n) {}
    ~Value() { copy = -1; }
    int number;
    int copy;
  };
  constexpr int kSwaps = 2000;
  std::atomic<Value*> published{new Value(0)};
  std::atomic<bool> stop{false};
  std::atomic<bool> met_dead{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      rcu_join();
      while (!stop) {
        const Value* value = published.load(std::memory_order_acquire);
        if (value->number != value->copy) {
          met_dead = true;
        }
        rcu_quiescent();
      }
      rcu_leave();
    });
  }
  for (int i = 1; i <= kSwaps; ++i) {
    rcu_delete(published.exchange(new Value(i), std::memory_order_acq_rel));
  }
  stop = true;
  for (auto& reader : readers) {
    reader.join();
  }
  rcu_barrier_all();
  EXPECT_FALSE(met_dead);
  delete published.load();
}

}  // namespace
}  // namespace sallyport
