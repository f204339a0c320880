// FlowHash: a hash of tuples that nobody outside can make collide.
//
// Products of words xor-ed with words of a random secret of each table, folded and mixed. It resists who sends packets and sees
// none of our secret: no set of tuples collides for more than a negligible part of the secrets. It is no MAC; one who could
// measure single lookups for long might learn something.
//
// Threads: a value that does not change.
#pragma once

#include <cstdint>

#include "dataplane/table/flow_tuple.h"

namespace sallyport {

class FlowHash {
 public:
  FlowHash();  // with a secret of its own

  uint64_t operator()(const FlowTuple& tuple) const;
  // Of an owner and the source of a flow of its; of v6 a /64: within it addresses cost nothing.
  uint64_t of_source(uint16_t owner, const FlowTuple& original) const;

 private:
  uint64_t secret_[6];
};

}  // namespace sallyport
