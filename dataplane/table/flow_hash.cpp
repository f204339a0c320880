#include "dataplane/table/flow_hash.h"

#include <sys/random.h>

#include <cstdio>
#include <cstdlib>

namespace sallyport {
namespace {

uint64_t fold(uint64_t a, uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = Wide{a} * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Every bit of the word into every bit of the hash: a product's low bits know little of a factor's upper ones.
uint64_t mix(uint64_t word) {
  word ^= word >> 32;
  word *= 0x9e3779b97f4a7c15;
  word ^= word >> 29;
  word *= 0xbf58476d1ce4e5b9;
  return word ^ word >> 32;
}

}  // namespace

FlowHash::FlowHash() {
  if (getrandom(secret_, sizeof(secret_), 0) != sizeof(secret_)) {
    std::fprintf(stderr, "sallyport: flow table: the kernel has no random bytes\n");
    std::abort();
  }
}

uint64_t FlowHash::operator()(const FlowTuple& tuple) const {
  const uint64_t addresses = fold(tuple.word(0) ^ secret_[0], tuple.word(16) ^ secret_[1]) +
                             fold(tuple.word(8) ^ secret_[2], tuple.word(24) ^ secret_[3]);
  return mix(fold(addresses ^ secret_[4], tuple.word(FlowTuple::kBytes - 8) ^ secret_[5]));
}

uint64_t FlowHash::of_source(uint16_t owner, const FlowTuple& original) const {
  return mix(fold(original.word(0) ^ secret_[1], owner ^ secret_[3]));
}

}  // namespace sallyport
