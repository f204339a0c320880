#include "bench/lpm_dpdk.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lpm.h>
#include <rte_malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <string>

namespace sallyport::bench {
namespace {

constexpr const char* kHeap = "lpm";
constexpr size_t kLargePage = size_t{2} << 20;
constexpr size_t kBurstMax = 64;

int heap_socket() {
  return rte_malloc_heap_get_socket(kHeap);
}

std::string unique_name() {
  static int number = 0;
  return "lpm" + std::to_string(number++);
}

// What rte_fib and rte_fib6 share: addresses laid out for the library, and 64-bit answers.
template <class Table, class Laid, class Lookup>
uint64_t lookup_in_bursts(std::vector<Laid>& laid, size_t n, size_t burst, Lookup lookup) {
  uint64_t sum = 0;
  uint64_t next_hops[kBurstMax];
  for (size_t i = 0; i + burst <= n; i += burst) {
    lookup(&laid[i], next_hops, static_cast<unsigned>(burst));
    for (size_t j = 0; j < burst; ++j) {
      sum += next_hops[j];
    }
  }
  return sum;
}

class RteLpm : public DpdkTable<Lpm4> {
 public:
  explicit RteLpm(rte_lpm* table) : table_(table) {}
  ~RteLpm() override { rte_lpm_free(table_); }

  bool add(const Lpm4::Prefix& prefix) override {
    return rte_lpm_add(table_, prefix.address, static_cast<uint8_t>(prefix.length), prefix.value) ==
           0;
  }

  void prepare(const std::vector<uint32_t>& addresses) override { addresses_ = addresses; }

  uint64_t lookup(size_t n, size_t burst) override {
    uint64_t sum = 0;
    if (burst == 1) {
      for (size_t i = 0; i < n; ++i) {
        uint32_t next_hop = 0;
        rte_lpm_lookup(table_, addresses_[i], &next_hop);
        sum += next_hop;
      }
      return sum;
    }
    uint32_t next_hops[kBurstMax];
    for (size_t i = 0; i + burst <= n; i += burst) {
      rte_lpm_lookup_bulk(table_, &addresses_[i], next_hops, static_cast<unsigned>(burst));
      for (size_t j = 0; j < burst; ++j) {
        sum += next_hops[j] & 0xffffff;
      }
    }
    return sum;
  }

  std::vector<LpmValue> answers() override {
    std::vector<LpmValue> values;
    for (const uint32_t address : addresses_) {
      uint32_t next_hop = 0;
      values.push_back(rte_lpm_lookup(table_, address, &next_hop) == 0 ? next_hop : kLpmMiss);
    }
    return values;
  }

 private:
  rte_lpm* table_;
  std::vector<uint32_t> addresses_;
};

class RteFib : public DpdkTable<Lpm4> {
 public:
  explicit RteFib(rte_fib* table) : table_(table) {}
  ~RteFib() override { rte_fib_free(table_); }

  bool add(const Lpm4::Prefix& prefix) override {
    return rte_fib_add(table_, prefix.address, static_cast<uint8_t>(prefix.length), prefix.value) ==
           0;
  }

  void prepare(const std::vector<uint32_t>& addresses) override { addresses_ = addresses; }

  uint64_t lookup(size_t n, size_t burst) override {
    return lookup_in_bursts<Lpm4>(addresses_, n, burst,
                                  [this](uint32_t* at, uint64_t* to, unsigned count) {
                                    rte_fib_lookup_bulk(table_, at, to, static_cast<int>(count));
                                  });
  }

  std::vector<LpmValue> answers() override {
    std::vector<LpmValue> values;
    for (uint32_t address : addresses_) {
      uint64_t next_hop = 0;
      rte_fib_lookup_bulk(table_, &address, &next_hop, 1);
      values.push_back(next_hop == 0 ? kLpmMiss : static_cast<LpmValue>(next_hop));
    }
    return values;
  }

 private:
  rte_fib* table_;
  std::vector<uint32_t> addresses_;
};

class RteFib6 : public DpdkTable<Lpm6> {
 public:
  using Bytes = std::array<uint8_t, 16>;

  explicit RteFib6(rte_fib6* table) : table_(table) {}
  ~RteFib6() override { rte_fib6_free(table_); }

  bool add(const Lpm6::Prefix& prefix) override {
    const Bytes bytes = lay_out(prefix.address);
    return rte_fib6_add(table_, bytes.data(), static_cast<uint8_t>(prefix.length), prefix.value) ==
           0;
  }

  void prepare(const std::vector<Address6>& addresses) override {
    addresses_.clear();
    for (const Address6& address : addresses) {
      addresses_.push_back(lay_out(address));
    }
  }

  uint64_t lookup(size_t n, size_t burst) override {
    return lookup_in_bursts<Lpm6>(
        addresses_, n, burst, [this](Bytes* at, uint64_t* to, unsigned count) {
          rte_fib6_lookup_bulk(table_, reinterpret_cast<uint8_t(*)[16]>(at), to,
                               static_cast<int>(count));
        });
  }

  std::vector<LpmValue> answers() override {
    std::vector<LpmValue> values;
    for (Bytes& address : addresses_) {
      uint64_t next_hop = 0;
      rte_fib6_lookup_bulk(table_, reinterpret_cast<uint8_t(*)[16]>(&address), &next_hop, 1);
      values.push_back(next_hop == 0 ? kLpmMiss : static_cast<LpmValue>(next_hop));
    }
    return values;
  }

 private:
  static Bytes lay_out(const Address6& address) {
    Bytes bytes;
    for (unsigned i = 0; i < 8; ++i) {
      bytes[i] = static_cast<uint8_t>(address.high >> (56 - 8 * i));
      bytes[8 + i] = static_cast<uint8_t>(address.low >> (56 - 8 * i));
    }
    return bytes;
  }

  rte_fib6* table_;
  std::vector<Bytes> addresses_;
};

}  // namespace

bool start_dpdk(size_t megabytes) {
  static const char* const kArguments[] = {
      "lpm_bench", "--no-huge", "--no-pci", "--no-telemetry", "--no-shconf", "-m",
      "64",        "-l",        "0",        "--log-level",    "error"};
  std::vector<std::string> words(std::begin(kArguments), std::end(kArguments));
  std::vector<char*> arguments;
  for (std::string& word : words) {
    arguments.push_back(word.data());
  }
  if (rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) < 0) {
    return false;
  }
  const size_t bytes = (megabytes << 20) / kLargePage * kLargePage;
  void* memory = mmap(nullptr, bytes + kLargePage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return false;
  }
  const auto aligned =
      (reinterpret_cast<uintptr_t>(memory) + kLargePage - 1) / kLargePage * kLargePage;
  madvise(reinterpret_cast<void*>(aligned), bytes, MADV_HUGEPAGE);
  std::vector<rte_iova_t> pages;
  for (uintptr_t page = aligned; page < aligned + bytes; page += kLargePage) {
    pages.push_back(page);
  }
  return rte_malloc_heap_create(kHeap) == 0 &&
         rte_malloc_heap_memory_add(kHeap, reinterpret_cast<void*>(aligned), bytes, pages.data(),
                                    static_cast<unsigned>(pages.size()), kLargePage) == 0;
}

std::unique_ptr<DpdkTable<Lpm4>> make_rte_lpm(size_t routes) {
  rte_lpm_config config{};
  config.max_rules = static_cast<uint32_t>(routes);
  config.number_tbl8s = 4096;
  rte_lpm* table = rte_lpm_create(unique_name().c_str(), heap_socket(), &config);
  return table != nullptr ? std::make_unique<RteLpm>(table) : nullptr;
}

std::unique_ptr<DpdkTable<Lpm4>> make_rte_fib(size_t routes, size_t groups) {
  rte_fib_conf config{};
  config.type = RTE_FIB_DIR24_8;
  config.max_routes = static_cast<int>(routes);
  config.dir24_8.nh_sz = RTE_FIB_DIR24_8_4B;
  config.dir24_8.num_tbl8 = static_cast<uint32_t>(groups);
  rte_fib* table = rte_fib_create(unique_name().c_str(), heap_socket(), &config);
  return table != nullptr ? std::make_unique<RteFib>(table) : nullptr;
}

std::unique_ptr<DpdkTable<Lpm6>> make_rte_fib6(size_t routes, size_t groups) {
  rte_fib6_conf config{};
  config.type = RTE_FIB6_TRIE;
  config.max_routes = static_cast<int>(routes);
  config.trie.nh_sz = RTE_FIB6_TRIE_4B;
  config.trie.num_tbl8 = static_cast<uint32_t>(groups);
  rte_fib6* table = rte_fib6_create(unique_name().c_str(), heap_socket(), &config);
  return table != nullptr ? std::make_unique<RteFib6>(table) : nullptr;
}

}  // namespace sallyport::bench
