// DPDK's longest-prefix tables behind the few calls the LPM benchmark makes. lpm_dpdk.cpp is built
// only where libdpdk is found (SALLYPORT_HAVE_DPDK); its memory is large pages, as everybody else's
// in the benchmark.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/table/lpm.h"

namespace sallyport::bench {

// Starts DPDK without devices, network or privileges, with `megabytes` for its tables.
bool start_dpdk(size_t megabytes);

template <class Table>
class DpdkTable {
 public:
  using Address = typename Table::Address;

  virtual ~DpdkTable() = default;
  virtual bool add(const typename Table::Prefix& prefix) = 0;
  // Addresses in the form the library wants them in, for the two calls below.
  virtual void prepare(const std::vector<Address>& addresses) = 0;
  // Looks up the first n in bursts of this size; the sum of the answers.
  virtual uint64_t lookup(size_t n, size_t burst) = 0;
  virtual std::vector<LpmValue> answers() = 0;
};

// Null where the library refuses.
std::unique_ptr<DpdkTable<Lpm4>> make_rte_lpm(size_t routes);
std::unique_ptr<DpdkTable<Lpm4>> make_rte_fib(size_t routes, size_t groups);
std::unique_ptr<DpdkTable<Lpm6>> make_rte_fib6(size_t routes, size_t groups);

}  // namespace sallyport::bench
