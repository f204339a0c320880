// Hundreds of small worlds, each from one seed. A seed that fails is printed; SALLYPORT_SEED=n runs
// it alone, SALLYPORT_SEEDS=n sets how many there are.
#include "tests/dataplane/simulator.h"

#include <cstdlib>

#include "crypto/aead.h"

namespace sallyport::test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 8;
#else
constexpr uint64_t kSeeds = 150;
#endif

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

// One world. The cipher takes turns, too: each seed has one of those that this CPU can do.
void live_through(uint64_t seed, uint64_t& sent, uint64_t& delivered) {
  std::vector<std::string_view> ciphers;
  for (const crypto::AeadImplementation& cipher : crypto::aead_implementations()) {
    if (cipher.usable) {
      ciphers.push_back(cipher.name);
    }
  }
  ASSERT_TRUE(crypto::select_aead(ciphers[seed % ciphers.size()]));
  Simulator simulator(seed);
  for (const std::string& sentence : simulator.run()) {
    ADD_FAILURE() << "SALLYPORT_SEED=" << seed << ": " << sentence;
  }
  sent += simulator.sent();
  delivered += simulator.delivered();
}

TEST(Simulator, WhateverTheNetworkDoesTheInvariantsHold) {
  const uint64_t only = from_environment("SALLYPORT_SEED", 0);
  const uint64_t count = only != 0 ? 1 : from_environment("SALLYPORT_SEEDS", kSeeds);
  const uint64_t first = only != 0 ? only : 1;
  uint64_t sent = 0, delivered = 0;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    live_through(seed, sent, delivered);
  }
  // Invariants hold trivially where nothing moves.
  EXPECT_GT(delivered, sent / 3) << sent << " sent";
  RecordProperty("sent", std::to_string(sent));
  RecordProperty("delivered", std::to_string(delivered));
}

// A seed is worth something only if it tells the same story again.
TEST(Simulator, ASeedRepeats) {
  uint64_t sent[2] = {}, delivered[2] = {};
  for (int i = 0; i < 2; ++i) {
    live_through(7, sent[i], delivered[i]);
  }
  EXPECT_EQ(sent[0], sent[1]);
  EXPECT_EQ(delivered[0], delivered[1]);
}

}  // namespace
}  // namespace sallyport::test
