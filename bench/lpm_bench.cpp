// The LPM table against what people would link instead, on the tables of bench/lpm_tables.h: lookup
// times, memory, and updates beside a reader. One run, contenders in turn round after round,
// medians; then a line for each target.
//
// Times are CPU time of the thread that measures, so that other work on the machine disturbs less;
// lookups are independent of each other, as those of packets are. Large pages where the kernel lets
// a program ask for them.
#include <ctime>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "bench/lpm_rivals.h"
#include "bench/lpm_tables.h"
#include "bench/report.h"
#include "dataplane/base/rcu.h"
#include "dataplane/table/lpm.h"
#ifdef SALLYPORT_HAVE_DPDK
#include "bench/lpm_dpdk.h"
#endif

namespace sallyport::bench {
namespace {

constexpr int kRounds = 7;
constexpr size_t kAddresses = 1 << 20;
constexpr size_t kSlowAddresses = 1 << 16;  // for contenders above a microsecond
constexpr size_t kBurst = 64;

double thread_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::atomic<uint64_t> sink;

struct Contender {
  std::string name;
  size_t n;
  std::function<uint64_t(size_t)>
      run;  // looks up the first n addresses, returns the sum of the answers
  std::vector<double> ns = {};

  double figure() const { return median(ns); }
};

void race(const char* title, std::vector<Contender>& contenders) {
  for (int round = 0; round < kRounds; ++round) {
    for (Contender& each : contenders) {
      sink += each.run(each.n / 4);  // what the one before left in the caches is nobody's merit
      const double start = thread_seconds();
      sink += each.run(each.n);
      each.ns.push_back((thread_seconds() - start) * 1e9 / static_cast<double>(each.n));
    }
  }
  std::printf("\n%s\n", title);
  for (const Contender& each : contenders) {
    std::printf("  %-34s %8.1f ns   %6.2f x the first\n", each.name.c_str(), each.figure(),
                each.figure() / contenders[0].figure());
  }
  std::fflush(stdout);
}

Report report;

// ---- contenders

template <class Table>
Contender single(const std::string& name, const Table& table,
                 const std::vector<typename Table::Address>& addresses, size_t n) {
  return {name, n, [&](size_t count) {
            uint64_t sum = 0;
            for (size_t i = 0; i < count; ++i) {
              sum += table.lookup(addresses[i]);
            }
            return sum;
          }};
}

template <class Table>
Contender burst(const std::string& name, const Table& table,
                const std::vector<typename Table::Address>& addresses) {
  return {name, addresses.size(), [&](size_t count) {
            uint64_t sum = 0;
            LpmValue values[kBurst];
            for (size_t i = 0; i + kBurst <= count; i += kBurst) {
              table.lookup_many(&addresses[i], values, kBurst);
              for (const LpmValue value : values) {
                sum += value;
              }
            }
            return sum;
          }};
}

template <class Table>
std::unique_ptr<Table> build_sorted(std::vector<typename Table::Prefix> prefixes) {
  std::sort(prefixes.begin(), prefixes.end(), [](const auto& a, const auto& b) {
    return a.address < b.address || (a.address == b.address && a.length < b.length);
  });
  const double start = thread_seconds();
  auto table = Table::build(prefixes);
  const double seconds = thread_seconds() - start;
  const auto count = static_cast<double>(prefixes.size());
  std::printf("\n%zu prefixes: built in %.1f ms, %zu bytes, %.1f a prefix\n", prefixes.size(),
              seconds * 1e3, table->memory_bytes(),
              static_cast<double>(table->memory_bytes()) / count);
  return table;
}

template <class Table>
void fill(BitTrie<Table>& trie, const std::vector<typename Table::Prefix>& prefixes) {
  for (const auto& prefix : prefixes) {
    trie.insert(prefix.address, prefix.length, prefix.value);
  }
}

// Whoever disagrees with the bit trie is said to.
template <class Table, class Answer>
size_t count_wrong(const BitTrie<Table>& truth,
                   const std::vector<typename Table::Address>& addresses, Answer answer) {
  size_t wrong = 0;
  for (size_t i = 0; i < kSlowAddresses; ++i) {
    wrong += truth.lookup(addresses[i]) != answer(i) ? 1 : 0;
  }
  return wrong;
}

template <class Table>
void check_ours(const char* name, const Table& table, const BitTrie<Table>& truth,
                const std::vector<typename Table::Address>& addresses) {
  std::vector<LpmValue> many(addresses.size());
  table.lookup_many(addresses.data(), many.data(), addresses.size());
  const size_t wrong = count_wrong<Table>(truth, addresses, [&](size_t i) {
    return table.lookup(addresses[i]) == many[i] ? many[i] : kLpmMiss - 1;
  });
  report.at_most(std::string(name) + ": wrong answers", static_cast<double>(wrong), 0);
}

#ifdef SALLYPORT_HAVE_DPDK

bool has_dpdk = false;

template <class Table>
using Dpdk = std::unique_ptr<DpdkTable<Table>>;

template <class Table>
void fill(const char* name, Dpdk<Table>& table, const std::vector<typename Table::Prefix>& prefixes,
          const BitTrie<Table>& truth, const std::vector<typename Table::Address>& addresses) {
  if (table == nullptr) {
    std::printf("  %s: could not be made\n", name);
    return;
  }
  size_t refused = 0;
  for (const auto& prefix : prefixes) {
    refused += table->add(prefix) ? 0 : 1;
  }
  table->prepare({addresses.begin(), addresses.begin() + kSlowAddresses});
  const std::vector<LpmValue> answers = table->answers();
  const size_t wrong = count_wrong<Table>(truth, addresses, [&](size_t i) { return answers[i]; });
  std::printf("  %s: %zu prefixes refused, %zu of %zu answers wrong\n", name, refused, wrong,
              kSlowAddresses);
  table->prepare(addresses);
}

template <class Table>
void add(std::vector<Contender>& contenders, const std::string& name, Dpdk<Table>& table,
         size_t size) {
  if (table != nullptr) {
    contenders.push_back(
        {name, kAddresses, [&table, size](size_t n) { return table->lookup(n, size); }});
  }
}

#endif

// ---- the tables, largest first

void bench_internet4() {
  const auto data = Generator<Lpm4>(9).make(1000000, 0, kInternet4, 256);
  const auto table = build_sorted<Lpm4>(data.prefixes);
  const auto hits = addresses_that_hit<Lpm4>(data.prefixes, kAddresses, false, 1);
  const auto zipf = addresses_that_hit<Lpm4>(data.prefixes, kAddresses, true, 2);
  BitTrie<Lpm4> trie;
  fill(trie, data.prefixes);
  check_ours("1 M v4", *table, trie, hits);
  report.at_most("1 M v4: bytes a prefix", static_cast<double>(table->memory_bytes()) / 1e6, 20);

  std::vector<Contender> on_hits = {single("lpm", *table, hits, kAddresses),
                                    burst("lpm, bursts of 64", *table, hits),
                                    single("bit trie", trie, hits, kSlowAddresses)};
  std::vector<Contender> on_zipf = {single("lpm", *table, zipf, kAddresses),
                                    burst("lpm, bursts of 64", *table, zipf),
                                    single("bit trie", trie, zipf, kSlowAddresses)};
#ifdef SALLYPORT_HAVE_DPDK
  Dpdk<Lpm4> fib;
  if (has_dpdk) {
    fib = make_rte_fib(2000000, 40000);
    fill("rte_fib", fib, data.prefixes, trie, hits);
    add(on_hits, "rte_fib", fib, 1);
    add(on_hits, "rte_fib, bursts of 64", fib, kBurst);
  }
#endif
  race("1 M v4, addresses that hit", on_hits);
  report.at_least("1 M v4, hits: times faster than the bit trie",
                  on_hits[2].figure() / on_hits[0].figure(), 25);
#ifdef SALLYPORT_HAVE_DPDK
  if (fib != nullptr) {
    fib->prepare(zipf);
    add(on_zipf, "rte_fib", fib, 1);
    add(on_zipf, "rte_fib, bursts of 64", fib, kBurst);
  }
#endif
  race("1 M v4, Zipf", on_zipf);
  if (on_hits.size() > 3) {
    report.at_most("1 M v4, hits: of rte_fib's time", on_hits[0].figure() / on_hits[3].figure(),
                   1.1);
    report.at_most("1 M v4, Zipf: of rte_fib's time", on_zipf[0].figure() / on_zipf[3].figure(),
                   1.1);
    report.at_most("1 M v4, hits, bursts of 64: of rte_fib's time",
                   on_hits[1].figure() / on_hits[4].figure(), 2.5);
  }
}

void bench_large6(const char* name, const TableData<Lpm6>& data, double times_faster,
                  bool is_internet) {
  const std::string title = name;
  const auto table = build_sorted<Lpm6>(data.prefixes);
  const auto hits = addresses_that_hit<Lpm6>(data.prefixes, kAddresses, false, 3);
  BitTrie<Lpm6> trie;
  fill(trie, data.prefixes);
  check_ours(name, *table, trie, hits);
  report.at_most(
      title + ": bytes a prefix",
      static_cast<double>(table->memory_bytes()) / static_cast<double>(data.prefixes.size()), 35);
  std::vector<Contender> contenders = {single("lpm", *table, hits, kAddresses),
                                       burst("lpm, bursts of 64", *table, hits),
                                       single("bit trie", trie, hits, kSlowAddresses)};
#ifdef SALLYPORT_HAVE_DPDK
  Dpdk<Lpm6> fib;
  if (has_dpdk) {
    fib = make_rte_fib6(500000, 700000);
    fill("rte_fib6", fib, data.prefixes, trie, hits);
    add(contenders, "rte_fib6", fib, 1);
    add(contenders, "rte_fib6, bursts of 64", fib, kBurst);
  }
#endif
  race((title + ", addresses that hit").c_str(), contenders);
  report.at_least(title + ", hits: times faster than the bit trie",
                  contenders[2].figure() / contenders[0].figure(), times_faster);
  if (is_internet && contenders.size() > 3) {
    report.at_most(title + ", hits: of rte_fib6's time",
                   contenders[0].figure() / contenders[3].figure(), 3);
  }
}

void bench_set4() {
  const auto data = Generator<Lpm4>(5).make(10000, 0, kSet4, 8);
  const auto table = build_sorted<Lpm4>(data.prefixes);
  const auto hits = addresses_that_hit<Lpm4>(data.prefixes, kAddresses, false, 4);
  BitTrie<Lpm4> trie;
  fill(trie, data.prefixes);
  check_ours("10 k v4 set", *table, trie, hits);
  std::vector<Contender> contenders = {single("lpm", *table, hits, kAddresses),
                                       burst("lpm, bursts of 64", *table, hits),
                                       single("bit trie", trie, hits, kSlowAddresses)};
#ifdef SALLYPORT_HAVE_DPDK
  Dpdk<Lpm4> rte_lpm;
  Dpdk<Lpm4> fib;
  if (has_dpdk) {
    rte_lpm = make_rte_lpm(20000);
    fill("rte_lpm", rte_lpm, data.prefixes, trie, hits);
    add(contenders, "rte_lpm", rte_lpm, 1);
    add(contenders, "rte_lpm, bursts of 64", rte_lpm, kBurst);
    fib = make_rte_fib(20000, 4000);
    fill("rte_fib", fib, data.prefixes, trie, hits);
    add(contenders, "rte_fib", fib, 1);
  }
#endif
  race("10 k v4 set, addresses that hit", contenders);
  report.at_most("10 k v4 set, hits: ns", contenders[0].figure(), 35);
  report.at_most("10 k v4 set: KB", static_cast<double>(table->memory_bytes()) / 1e3, 300);
}

template <class Table>
void bench_ten(const char* name, const TableData<Table>& data) {
  const std::string title = name;
  const auto table = build_sorted<Table>(data.prefixes);
  const auto hits = addresses_that_hit<Table>(data.prefixes, kAddresses / 16, false, 5);
  const SortedArray<Table> array(data.prefixes);
  BitTrie<Table> trie;
  fill(trie, data.prefixes);
  check_ours(name, *table, trie, hits);
  std::vector<Contender> contenders = {single("lpm", *table, hits, hits.size()),
                                       single("sorted array", array, hits, hits.size()),
                                       single("bit trie", trie, hits, hits.size())};
  race((title + ", addresses that hit").c_str(), contenders);
  report.at_most(title + ": of the sorted array's time",
                 contenders[0].figure() / contenders[1].figure(), 1.3);
  report.at_most(title + ": bytes", static_cast<double>(table->memory_bytes()), 1024);
}

// ---- updates beside a reader

// Values of the prefixes that come and go: the mark and their index.
constexpr LpmValue kMark = 0x40000000;

// What the writer does: nothing, somewhat more than a million updates a second, or all it can.
enum Pace { kQuiet = 0, kSteady = 1, kFull = 2 };
constexpr double kSteadyRate = 1.1e6;

template <class Table>
struct UpdateRace {
  Table& table;
  const std::vector<typename Table::Prefix>& updates;
  const std::vector<typename Table::Address>& addresses;
  std::vector<LpmValue> quiet_answers = {};
  std::atomic<int> pace = kQuiet;
  std::atomic<bool> is_over = false;
  std::atomic<unsigned> passes = 0;
  std::atomic<uint64_t> wrong = 0;
  std::vector<double> reader_ns[3] = {};  // by pace

  // Right is what the table answered before, or a coming and going prefix that holds the address.
  bool is_right(size_t i, LpmValue value) const {
    if (value == quiet_answers[i]) {
      return true;
    }
    if ((value & kMark) == 0 || value == kLpmMiss) {
      return false;
    }
    using N = Numbers<Table>;
    const auto& prefix = updates[value & ~kMark];
    return (N::number(addresses[i]) & ~N::host_mask(prefix.length)) == N::number(prefix.address);
  }

  void read() {
    rcu_join();
    for (size_t i = 0; !is_over.load(std::memory_order_relaxed);) {
      const int pace_before = pace.load(std::memory_order_relaxed);
      const double start = thread_seconds();
      constexpr size_t kPass = 1 << 16;
      for (const size_t end = i + kPass; i < end; ++i) {
        const LpmValue value = table.lookup(addresses[i]);
        if (value != quiet_answers[i] && !is_right(i, value)) {
          ++wrong;
        }
        if (i % kBurst == 0) {
          rcu_quiescent();
        }
      }
      const double ns = (thread_seconds() - start) * 1e9 / kPass;
      i = i + kPass > addresses.size() ? 0 : i;
      if (pace_before == pace.load(std::memory_order_relaxed)) {
        reader_ns[pace_before].push_back(ns);
      }
      ++passes;
    }
    rcu_leave();
  }

  // Each prefix goes in, and out again a thousand updates later. Returns updates a second.
  double write(Pace at, unsigned until_passes) {
    pace = at;
    size_t count = 0;
    constexpr size_t kLag = 500;
    const double start = thread_seconds();
    for (size_t i = 0;
         passes.load(std::memory_order_relaxed) < until_passes || i % updates.size() != 0; ++i) {
      const auto& added = updates[i % updates.size()];
      count += table.insert(added.address, added.length,
                            kMark | static_cast<LpmValue>(i % updates.size()))
                   ? 1
                   : 0;
      const auto& gone = updates[(i + updates.size() - kLag) % updates.size()];
      count += table.remove(gone.address, gone.length) ? 1 : 0;
      while (at == kSteady && i % 32 == 0 &&
             static_cast<double>(count) > (thread_seconds() - start) * kSteadyRate) {
      }
    }
    pace = kQuiet;
    return static_cast<double>(count) / (thread_seconds() - start);
  }
};

template <class Table>
void bench_updates(const char* name, Generator<Table> generator, size_t count,
                   const std::vector<LengthShare>& shares) {
  const auto data = generator.make(count, 10000, shares, 256);
  const auto table = build_sorted<Table>(data.prefixes);
  const auto hits = addresses_that_hit<Table>(data.prefixes, kAddresses, false, 6);
  UpdateRace<Table> updates{*table, data.updates, hits};
  updates.quiet_answers.resize(hits.size());
  table->lookup_many(hits.data(), updates.quiet_answers.data(), hits.size());
  std::vector<double> steady_rates;
  std::vector<double> full_rates;
  std::thread reader([&] { updates.read(); });
  for (int round = 0; round < kRounds; ++round) {
    const unsigned quiet_until = updates.passes + 12;
    while (updates.passes.load(std::memory_order_relaxed) < quiet_until) {
      std::this_thread::yield();
    }
    steady_rates.push_back(updates.write(kSteady, updates.passes + 12));
    full_rates.push_back(updates.write(kFull, updates.passes + 12));
  }
  updates.is_over = true;
  reader.join();
  const double quiet = median(updates.reader_ns[kQuiet]);
  const double steady = median(updates.reader_ns[kSteady]);
  std::printf("\n%s, updates beside a reader\n", name);
  std::printf("  reader %.1f ns quiet, %.1f ns beside %.2f M updates/s, %.1f ns beside %.2f M\n",
              quiet, steady, median(steady_rates) / 1e6, median(updates.reader_ns[kFull]),
              median(full_rates) / 1e6);
  const std::string title = name;
  report.at_least(title + ": M updates/s beside a reader", median(full_rates) / 1e6, 1);
  report.at_least(title + ": M updates/s, held back", median(steady_rates) / 1e6, 1);
  report.at_most(title + ": reader's time beside that, of its quiet", steady / quiet, 1.3);
  report.at_most(title + ": wrong answers beside the writer", static_cast<double>(updates.wrong),
                 0);
}

int run() {
#ifdef SALLYPORT_HAVE_DPDK
  has_dpdk = start_dpdk(2400);
  std::printf(
      has_dpdk
          ? "DPDK's tables take part (rte_lpm only in the small one: it adds in quadratic time)\n"
          : "DPDK did not start: its rows are absent\n");
#else
  std::printf("built without libdpdk-dev: DPDK's rows are absent\n");
#endif
  bench_ten<Lpm4>("10 v4", make_ten4());
  bench_ten<Lpm6>("10 v6", make_ten6());
  bench_set4();
  bench_internet4();
  bench_large6("230 k v6", Generator<Lpm6>(10).make(230000, 0, kInternet6, 256), 7, true);
  bench_large6("100 k v6 hosts", Generator<Lpm6>(8).make_hosts(100000, 0, 4000), 5, false);
  bench_updates<Lpm4>("1 M v4", Generator<Lpm4>(9), 1000000, kInternet4);
  bench_updates<Lpm6>("230 k v6", Generator<Lpm6>(10), 230000, kInternet6);
  return report.finish();
}

}  // namespace
}  // namespace sallyport::bench

int main() {
  return sallyport::bench::run();
}
