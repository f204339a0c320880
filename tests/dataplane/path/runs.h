// Runs for tests: packets in memory of their own, as they lie in a buffer.
#pragma once

#include <gtest/gtest.h>

#include <deque>

#include "dataplane/net/parse.h"
#include "tests/dataplane/net/packets.h"

namespace sallyport::test {

// Owns the bytes that a burst's runs point to, each packet in an allocation of exactly its size.
class Memory {
 public:
  uint8_t* keep(const Bytes& bytes) {
    auto& exact = kept_.emplace_back(std::make_unique<uint8_t[]>(bytes.size()));
    std::copy(bytes.begin(), bytes.end(), exact.get());
    return exact.get();
  }

  // A packet as `open` hands it to the joiner.
  Run packet(const Bytes& bytes, wireguard::Peer* from = nullptr) {
    Run run;
    run.head = keep(bytes);
    run.head_bytes = run.bytes = static_cast<uint32_t>(bytes.size());
    EXPECT_TRUE(parse(run));
    run.from = from;
    return run;
  }

 private:
  std::deque<std::unique_ptr<uint8_t[]>> kept_;
};

}  // namespace sallyport::test
