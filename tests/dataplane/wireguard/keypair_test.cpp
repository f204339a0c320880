#include "dataplane/wireguard/keypair.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

namespace sallyport::wireguard {
namespace {

class KeypairsTest : public testing::Test {
 protected:
  Keypair* make(bool is_initiator) {
    all_.push_back(std::make_unique<Keypair>());
    all_.back()->is_initiator = is_initiator;
    return all_.back().get();
  }
  Keypair* initiated() { return make(true); }
  Keypair* answered() { return make(false); }

  void expect_slots(Keypair* previous, Keypair* current, Keypair* next) {
    EXPECT_EQ(keypairs_.previous(), previous);
    EXPECT_EQ(keypairs_.current(), current);
    EXPECT_EQ(keypairs_.next(), next);
    for (const Keypair* held : {previous, current, next}) {
      EXPECT_TRUE(held == nullptr || !held->dead);
    }
  }

  static void expect_displaced(const Displaced& displaced, std::set<Keypair*> expected) {
    std::set<Keypair*> found(displaced.keypairs, displaced.keypairs + displaced.count);
    EXPECT_EQ(found, expected);
    EXPECT_EQ(displaced.count, expected.size());
    for (const Keypair* keypair : found) {
      EXPECT_TRUE(keypair->dead);
    }
  }

  Keypairs keypairs_;
  std::vector<std::unique_ptr<Keypair>> all_;
};

TEST_F(KeypairsTest, BeginsWithNone) {
  expect_slots(nullptr, nullptr, nullptr);
  expect_displaced(keypairs_.clear(), {});
}

TEST_F(KeypairsTest, TheInitiatorsSessionIsCurrentAtOnce) {
  Keypair* const a = initiated();
  expect_displaced(keypairs_.install(a), {});
  expect_slots(nullptr, a, nullptr);
}

TEST_F(KeypairsTest, AnInitiatorsRekeyKeepsOnePreviousSession) {
  Keypair *const a = initiated(), *const b = initiated(), *const c = initiated();
  keypairs_.install(a);
  expect_displaced(keypairs_.install(b), {});
  expect_slots(a, b, nullptr);
  expect_displaced(keypairs_.install(c), {a});
  expect_slots(b, c, nullptr);
}

TEST_F(KeypairsTest, TheRespondersSessionWaitsForItsFirstDataPacket) {
  Keypair* const a = answered();
  expect_displaced(keypairs_.install(a), {});
  expect_slots(nullptr, nullptr, a);
  Displaced displaced;
  EXPECT_TRUE(keypairs_.confirm(a, displaced));
  expect_displaced(displaced, {});
  expect_slots(nullptr, a, nullptr);
}

TEST_F(KeypairsTest, AConfirmedSessionKeepsItsPredecessorForOpening) {
  Keypair *const a = initiated(), *const b = initiated(), *const c = answered();
  keypairs_.install(a);
  keypairs_.install(b);
  expect_displaced(keypairs_.install(c), {a});  // an answer displaces what was previous
  expect_slots(nullptr, b, c);
  Displaced displaced;
  EXPECT_TRUE(keypairs_.confirm(c, displaced));
  expect_displaced(displaced, {});
  expect_slots(b, c, nullptr);
  EXPECT_TRUE(b->usable(kSecond));
}

TEST_F(KeypairsTest, ASecondAnswerReplacesTheUnconfirmedFirst) {
  Keypair *const a = answered(), *const b = answered();
  keypairs_.install(a);
  expect_displaced(keypairs_.install(b), {a});
  expect_slots(nullptr, nullptr, b);
  Displaced displaced;
  EXPECT_FALSE(keypairs_.confirm(a, displaced));
  expect_slots(nullptr, nullptr, b);
}

TEST_F(KeypairsTest, AnInitiatedSessionOverAnUnconfirmedOneKeepsThatToOpenWith) {
  Keypair *const a = initiated(), *const b = initiated();
  Keypair *const c = answered(), *const d = initiated();
  keypairs_.install(a);
  keypairs_.install(b);
  keypairs_.install(c);
  expect_displaced(keypairs_.install(d), {b});
  expect_slots(c, d, nullptr);
}

TEST_F(KeypairsTest, OnlyTheNextSessionIsConfirmed) {
  Keypair *const a = initiated(), *const b = initiated(), *const stranger = initiated();
  keypairs_.install(a);
  keypairs_.install(b);
  for (Keypair* used : {a, b, stranger}) {
    Displaced displaced;
    EXPECT_FALSE(keypairs_.confirm(used, displaced));
    expect_displaced(displaced, {});
  }
  expect_slots(a, b, nullptr);
  Displaced displaced;
  EXPECT_FALSE(keypairs_.confirm(nullptr, displaced));  // an empty slot is not a match
}

TEST_F(KeypairsTest, ASessionIsConfirmedOnce) {
  Keypair* const a = answered();
  keypairs_.install(a);
  Displaced displaced;
  EXPECT_TRUE(keypairs_.confirm(a, displaced));
  EXPECT_FALSE(keypairs_.confirm(a, displaced));
  expect_slots(nullptr, a, nullptr);
}

TEST_F(KeypairsTest, ClearReturnsAllThreeDead) {
  Keypair *const a = initiated(), *const b = initiated(), *const c = answered();
  keypairs_.install(a);
  keypairs_.install(b);
  keypairs_.install(c);  // displaces a
  Keypair* const d = answered();
  Displaced displaced;
  keypairs_.confirm(c, displaced);
  keypairs_.install(d);  // displaces b
  expect_slots(nullptr, c, d);
  expect_displaced(keypairs_.clear(), {c, d});
  expect_slots(nullptr, nullptr, nullptr);

  keypairs_.install(initiated());
  keypairs_.install(initiated());
  EXPECT_EQ(keypairs_.clear().count, 2u);
}

TEST_F(KeypairsTest, AKeypairIsUsableUntilRejectAfterTime) {
  Keypair* const a = initiated();
  a->birth = 1000 * kSecond;
  EXPECT_TRUE(a->usable(a->birth));
  EXPECT_TRUE(a->usable(a->birth - kMillisecond));  // a worker's clock a little behind
  EXPECT_TRUE(a->usable(a->birth + kRejectAfterTime - 1));
  EXPECT_FALSE(a->usable(a->birth + kRejectAfterTime));
  a->dead = true;
  EXPECT_FALSE(a->usable(a->birth));
}

TEST_F(KeypairsTest, SizesAreWhatTheHeaderSays) {
  EXPECT_EQ(offsetof(Keypair, sending_counter) % 64, 0u);
  EXPECT_EQ(offsetof(Keypair, replay) % 64, 0u);
  EXPECT_LE(sizeof(ReplayWindow), 1024u + 8u);
}

// Workers confirm while the handshaker installs and clears: every session is displaced exactly once.
TEST_F(KeypairsTest, EachSessionIsDisplacedOnceUnderRace) {
  constexpr int kSessions = 3000;
  for (int i = 0; i < kSessions; ++i) {
    make(i % 3 == 0);
  }
  std::vector<std::atomic<int>> displaced_times(kSessions);
  const auto count = [&](const Displaced& displaced) {
    for (unsigned i = 0; i < displaced.count; ++i) {
      const auto found = std::find_if(all_.begin(), all_.end(), [&](const auto& keypair) {
        return keypair.get() == displaced.keypairs[i];
      });
      ++displaced_times[static_cast<size_t>(found - all_.begin())];
    }
  };
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  for (int i = 0; i < 2; ++i) {
    workers.emplace_back([&] {
      while (!stop) {
        Displaced displaced;
        keypairs_.confirm(keypairs_.next(), displaced);
        count(displaced);
      }
    });
  }
  for (int i = 0; i < kSessions; ++i) {
    count(keypairs_.install(all_[static_cast<size_t>(i)].get()));
    if (i % 100 == 0) {
      count(keypairs_.clear());
    }
  }
  stop = true;
  for (auto& worker : workers) {
    worker.join();
  }
  count(keypairs_.clear());
  for (const auto& times : displaced_times) {
    ASSERT_EQ(times, 1);
  }
}

}  // namespace
}  // namespace sallyport::wireguard
