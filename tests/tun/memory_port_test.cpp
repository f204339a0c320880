#include "tun/memory_port.h"

#include "tests/tun/network.h"

namespace sallyport::test {
namespace {

Endpoint somebody() {
  return *parse_endpoint("192.0.2.1:1000");
}

TEST(MemoryPort, ReceivesInOrderWhatWasInjected) {
  MemoryPort port;
  Receiver receiver;
  ASSERT_TRUE(port.inject({1, 2, 3}));
  ASSERT_TRUE(port.inject({4, 5}, somebody(), 7));
  ASSERT_TRUE(port.inject_train(pattern(250), 100, somebody()));
  EXPECT_EQ(port.waiting(), 3u);
  const std::vector<RxFrame> frames = receiver.poll_once(port);
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(bytes_of(frames[0]), (std::vector<uint8_t>{1, 2, 3}));
  EXPECT_EQ(frames[0].segment_bytes, 3u);
  EXPECT_EQ(frames[1].from, somebody());
  EXPECT_EQ(frames[1].tos, 7);
  EXPECT_EQ(frames[2].segment_bytes, 100u);
  EXPECT_EQ(bytes_of(frames[2]), pattern(250));
  EXPECT_TRUE(receiver.poll_once(port).empty());
}

TEST(MemoryPort, ASuperPacketKeepsItsOffload) {
  MemoryPort port;
  Receiver receiver;
  MemoryPort::Frame frame;
  frame.bytes = pattern(3000);
  frame.offload.gso = Gso::tcp4;
  frame.offload.gso_size = 1000;
  ASSERT_TRUE(port.inject(frame));
  const std::vector<RxFrame> frames = receiver.poll_once(port);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].offload.gso, Gso::tcp4);
  EXPECT_EQ(frames[0].offload.gso_size, 1000);
}

TEST(MemoryPort, KeepsWhatWasSent) {
  MemoryPort port;
  Outgoing out(pattern(250), 3);
  out.to = somebody();
  TxFrame frame = out.frame(100);
  frame.tos = 3;
  port.tx({&frame, 1});
  EXPECT_EQ(frame.error, 0);
  EXPECT_EQ(port.sent_count(), 1u);
  const std::vector<MemoryPort::Frame> sent = port.sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].bytes, pattern(250));
  EXPECT_EQ(sent[0].endpoint, somebody());
  EXPECT_EQ(sent[0].tos, 3);
  const auto segments = sent[0].segments();
  ASSERT_EQ(segments.size(), 3u);
  EXPECT_EQ(segments[2].size(), 50u);
  EXPECT_TRUE(port.sent().empty());
}

TEST(MemoryPort, FailsWhenTold) {
  MemoryPort port;
  port.fail_next(1, ENETUNREACH);
  Outgoing out(pattern(10));
  TxFrame frames[2] = {out.frame(), out.frame()};
  port.tx(frames);
  EXPECT_EQ(frames[0].error, ENETUNREACH);
  EXPECT_EQ(frames[1].error, 0);
  EXPECT_EQ(port.sent_count(), 1u);
  port.refuse_sources(true);
  out.to.local = *parse_address("192.0.2.9");
  port.tx(frames);
  EXPECT_TRUE(frames[0].source_refused);
  port.set_gone();
  EXPECT_TRUE(port.gone());
  port.tx(frames);
  EXPECT_EQ(frames[0].error, EBADFD);
}

TEST(MemoryPort, IsBounded) {
  MemoryPort port;
  for (size_t i = 0; i < MemoryPort::kQueueMax; ++i) {
    ASSERT_TRUE(port.inject({1}));
  }
  EXPECT_FALSE(port.inject({1}));
  MemoryPort other;
  EXPECT_FALSE(other.inject(std::vector<uint8_t>(Buffer::kDataBytes + 1)));
  EXPECT_TRUE(other.inject(std::vector<uint8_t>(Buffer::kDataBytes)));
  EXPECT_FALSE(other.inject(std::vector<uint8_t>()));
}

TEST(MemoryPort, ADryCacheLosesNothing) {
  MemoryPort port;
  ASSERT_TRUE(port.inject({1}));
  BufferPool pool(1);
  BufferCache dry(pool);
  dry.take();
  RxFrame frame;
  EXPECT_EQ(port.rx({&frame, 1}, dry), 0u);
  EXPECT_EQ(port.waiting(), 1u);
}

TEST(MemoryPort, TheDescriptorIsReadableWhileThereIsInput) {
  MemoryPort port("memory", MemoryPort::Events::eventfd);
  Receiver receiver;
  EXPECT_FALSE(Receiver::wait_readable(port, 0));
  port.inject({1});
  port.inject({2});
  EXPECT_TRUE(Receiver::wait_readable(port, 0));
  receiver.poll_once(port, 1);
  EXPECT_TRUE(Receiver::wait_readable(port, 0));
  receiver.poll_once(port);
  EXPECT_FALSE(Receiver::wait_readable(port, 0));
}

TEST(MemoryPort, TakesWhatItIsToldTo) {
  MemoryPort port;
  EXPECT_TRUE(port.takes(Gso::none));
  EXPECT_FALSE(port.takes(Gso::tcp4));
  port.set_takes(Gso::tcp4, true);
  EXPECT_TRUE(port.takes(Gso::tcp4));
  EXPECT_TRUE(port.status().offloads[0].on);
  EXPECT_FALSE(port.status().offloads[1].reason.empty());
}

}  // namespace
}  // namespace sallyport::test
