// Bursts opened by several threads: every packet right, whoever opened it, while owners come and go.
#include "dataplane/path/assist.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <thread>
#include <vector>

#include "crypto/aead.h"
#include "crypto/x25519.h"

namespace sallyport {
namespace {

constexpr unsigned kWorkers = 3;

// Packets of random lengths, some of them damaged; made anew for each burst.
class Packets {
 public:
  explicit Packets(size_t count) : bodies_(count), plain_(count), damaged_(count) {
    crypto::random_bytes(key_.bytes);
  }

  std::span<crypto::OpenItem> seal() {
    items_.clear();
    for (size_t i = 0; i < bodies_.size(); ++i) {
      uint8_t chance[3];
      crypto::random_bytes(chance);
      const size_t length = 1 + (size_t{chance[0]} * 6);
      plain_[i].resize(length);
      crypto::random_bytes(plain_[i]);
      bodies_[i].assign(kMargin + length + crypto::kTagSize + kMargin, 0);
      uint8_t* body = bodies_[i].data() + kMargin;
      std::copy(plain_[i].begin(), plain_[i].end(), body);
      crypto::SealItem item{&key_, counter_, nullptr, 0, body, static_cast<uint32_t>(length),
                            0,     body};
      crypto::seal_many({&item, 1});
      damaged_[i] = chance[1] % 8 == 0;
      body[chance[2] % length] ^= static_cast<uint8_t>(damaged_[i] ? 1 : 0);
      items_.push_back(
          {&key_, counter_++, body, static_cast<uint32_t>(length + crypto::kTagSize), false});
    }
    return items_;
  }

  void check() const {
    for (size_t i = 0; i < items_.size(); ++i) {
      ASSERT_EQ(items_[i].ok, !damaged_[i]) << i;
      if (items_[i].ok) {
        ASSERT_TRUE(std::equal(plain_[i].begin(), plain_[i].end(), items_[i].data)) << i;
      }
    }
  }

 private:
  static constexpr size_t kMargin = 64;

  crypto::AeadKey key_{};
  uint64_t counter_ = 0;
  std::vector<std::vector<uint8_t>> bodies_, plain_;
  std::vector<char> damaged_;
  std::vector<crypto::OpenItem> items_;
};

std::vector<Mailbox*> pointers(std::array<Mailbox, kWorkers>& mailboxes) {
  std::vector<Mailbox*> out;
  for (Mailbox& each : mailboxes) {
    out.push_back(&each);
  }
  return out;
}

class AssistTest : public testing::Test {
 protected:
  AssistTest() { EXPECT_TRUE(crypto::select_aead()); }

  std::array<Mailbox, kWorkers> mailboxes_;
  Assist assist_{pointers(mailboxes_)};
};

TEST_F(AssistTest, WithNobodyThereTheOwnerDoesAll) {
  Packets packets(200);
  EXPECT_EQ(assist_.open(0, packets.seal()), 0u);
  packets.check();
  EXPECT_FALSE(assist_.wanted());
  EXPECT_FALSE(assist_.help(1));
}

TEST_F(AssistTest, OnlyTheSleepingAreRung) {
  mailboxes_[2].going_to_sleep();
  Packets packets(Assist::kLeast);
  assist_.open(0, packets.seal());
  uint64_t rings = 0;
  EXPECT_EQ(read(mailboxes_[2].bell(), &rings, sizeof(rings)), static_cast<ssize_t>(sizeof(rings)));
  EXPECT_EQ(rings, 1u);
  EXPECT_EQ(read(mailboxes_[1].bell(), &rings, sizeof(rings)), -1) << "it is awake";
}

TEST_F(AssistTest, AllKindsOfSizes) {
  for (const size_t count : {size_t{0}, size_t{1}, Assist::kChunk - 1, Assist::kChunk,
                             Assist::kChunk + 1, size_t{255}, size_t{256}}) {
    Packets packets(count);
    assist_.open(0, packets.seal());
    packets.check();
  }
}

// Every thread is an owner now and a helper then.
TEST_F(AssistTest, AllHelpAll) {
  constexpr int kBursts = 150;
  std::atomic<unsigned> owners = kWorkers;
  std::atomic<uint64_t> by_others = 0;
  std::vector<std::thread> threads;
  for (unsigned worker = 0; worker < kWorkers; ++worker) {
    threads.emplace_back([&, worker] {
      crypto::aead_thread_init();
      Packets packets(Assist::kLeast + 40 * worker);
      for (int burst = 0; burst < kBursts; ++burst) {
        by_others += assist_.open(worker, packets.seal());
        packets.check();
        assist_.help(worker);
      }
      --owners;
      while (owners > 0) {
        assist_.help(worker);
        std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_FALSE(assist_.wanted());
  EXPECT_GT(by_others, 0u);
}

}  // namespace
}  // namespace sallyport
