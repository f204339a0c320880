#include "dataplane/base/mailbox.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <thread>
#include <vector>

namespace sallyport {
namespace {

bool rings(const Mailbox& mailbox, int timeout_ms = 0) {
  pollfd polled{mailbox.bell(), POLLIN, 0};
  return poll(&polled, 1, timeout_ms) == 1;
}

TEST(Mailbox, FirstInFirstOut) {
  Mailbox mailbox;
  Message message;
  EXPECT_TRUE(mailbox.empty());
  EXPECT_FALSE(mailbox.take(message));
  EXPECT_TRUE(mailbox.post({Message::Kind::keepalive, 0, 7, nullptr}));
  EXPECT_TRUE(mailbox.post({Message::Kind::flush_staged, 0, 8, nullptr}));
  EXPECT_FALSE(mailbox.empty());
  ASSERT_TRUE(mailbox.take(message));
  EXPECT_EQ(message.kind, Message::Kind::keepalive);
  EXPECT_EQ(message.peer, 7u);
  ASSERT_TRUE(mailbox.take(message));
  EXPECT_EQ(message.kind, Message::Kind::flush_staged);
  EXPECT_EQ(message.peer, 8u);
  EXPECT_FALSE(mailbox.take(message));
}

TEST(Mailbox, RefusesWhenFullAndGoesOnAfter) {
  Mailbox mailbox;
  uint32_t posted = 0;
  while (mailbox.post({Message::Kind::request, 0, posted, nullptr})) {
    ASSERT_LE(++posted, Mailbox::kMessages);
  }
  EXPECT_EQ(posted, Mailbox::kMessages);
  Message message;
  ASSERT_TRUE(mailbox.take(message));
  EXPECT_EQ(message.peer, 0u);
  EXPECT_TRUE(mailbox.post({Message::Kind::request, 0, posted, nullptr}));
  EXPECT_FALSE(mailbox.post({Message::Kind::request, 0, posted, nullptr}));
  for (uint32_t i = 1; i <= posted; ++i) {
    ASSERT_TRUE(mailbox.take(message));
    ASSERT_EQ(message.peer, i);
  }
  EXPECT_TRUE(mailbox.empty());
}

TEST(Mailbox, TheBellRingsOnlyForOneAsleep) {
  Mailbox mailbox;
  mailbox.post({});
  EXPECT_FALSE(rings(mailbox)) << "a busy receiver costs its senders no system call";
  mailbox.going_to_sleep();
  mailbox.post({});
  EXPECT_TRUE(rings(mailbox));
  mailbox.awake();
  mailbox.quiet();
  EXPECT_FALSE(rings(mailbox));
  mailbox.post({});
  EXPECT_FALSE(rings(mailbox));
  mailbox.going_to_sleep();
  mailbox.ring();
  EXPECT_TRUE(rings(mailbox)) << "without a message too";
}

// Many senders, one receiver that sleeps whenever it finds nothing: every message arrives, each
// sender's in order, and no wake-up is lost (a lost one would leave the receiver asleep until the
// timeout).
TEST(Mailbox, ManySendersLoseNothing) {
  constexpr uint32_t kSenders = 4, kEach = 20'000;
  Mailbox mailbox;
  std::vector<std::thread> senders;
  for (uint32_t s = 0; s < kSenders; ++s) {
    senders.emplace_back([&mailbox, s] {
      for (uint32_t i = 0; i < kEach; ++i) {
        while (!mailbox.post({Message::Kind::request, 0, s << 24 | i, nullptr})) {
          std::this_thread::yield();
        }
      }
    });
  }
  std::vector<uint32_t> next(kSenders, 0);
  bool in_order = true, woken = true;
  for (uint32_t received = 0; received < kSenders * kEach && woken;) {
    Message message;
    if (mailbox.take(message)) {
      in_order &= (message.peer & 0xffffff) == next[message.peer >> 24]++;
      ++received;
      continue;
    }
    mailbox.going_to_sleep();
    if (mailbox.empty()) {
      woken = rings(mailbox, 20'000);
    }
    mailbox.awake();
    mailbox.quiet();
  }
  for (std::thread& sender : senders) {
    sender.join();
  }
  EXPECT_TRUE(in_order);
  EXPECT_TRUE(woken);
  EXPECT_EQ(next, std::vector<uint32_t>(kSenders, woken ? kEach : 0));
}

}  // namespace
}  // namespace sallyport
