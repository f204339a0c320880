// What flows cost: finding one among a million, opening and closing them, and what others notice of an owner that opens them as
// fast as it can. Cases in turn round after round, medians, then a line for each target; exit status 1 if one is not met.
//
//   flow_bench               everything
//   flow_bench --only find   finds among a million for five seconds, for a profiler to look at; or: --only insert
//
// Flows: UDP, four in five over IPv4, of 64 owners, every third with a translated reply. Finds: random flows of all, random
// direction, independent of each other as packets are. "One flow": the same work on a table that holds one. Times are CPU
// time of the thread that measures. Under the flood a second thread inserts all the time for one owner that is over its share.
#include <ctime>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/lpm_tables.h"
#include "bench/report.h"
#include "dataplane/base/rcu.h"
#include "dataplane/net/run.h"
#include "dataplane/table/flow_table.h"
#include "dataplane/table/port_blocks.h"

namespace sallyport::bench {
namespace {

constexpr int kRounds = 11;
constexpr size_t kCapacity = size_t{1} << 20;
constexpr uint32_t kFlows = 1'000'000;
constexpr uint16_t kOwners = 64;
constexpr size_t kFinds = 1 << 19;
constexpr size_t kBurst = Burst::kRunsMax;
constexpr uint8_t kUdp = 17;
constexpr Time kNow = 1000 * kSecond;

double thread_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::atomic<uint64_t> sink;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "flow_bench: %s\n", why.c_str());
  std::exit(1);
}

// ---- flows

// Flow number n; different numbers, different tuples.
NewFlow make_flow(uint32_t n, uint16_t owner) {
  NewFlow fresh;
  fresh.owner = owner;
  FlowTuple& tuple = fresh.original;
  Random random{n};
  const be64 noise[2] = {random.next(), random.next()};
  const be32 number = n;
  const bool v4 = n % 5 != 0;
  std::memcpy(tuple.source, noise, v4 ? 4 : 16);
  std::memcpy(tuple.source, &owner, sizeof(owner));
  std::memcpy(tuple.destination, &noise[1], v4 ? 4 : 8);
  std::memcpy(v4 ? &tuple.destination[0] : &tuple.destination[8], &number, sizeof(number));
  tuple.source_port = static_cast<uint16_t>(random.next());
  tuple.destination_port = 443;
  tuple.protocol = kUdp;
  tuple.set(v4 ? Family::v4 : Family::v6, 1);
  fresh.reply = tuple.reversed(0);
  if (n % 3 == 0) {
    const be32 outside = 0xcb007101;
    std::memcpy(fresh.reply.destination, &outside, sizeof(outside));
  }
  return fresh;
}

void insert_or_die(FlowTable& table, const NewFlow& fresh) {
  const FlowInsert result = table.insert(fresh, kNow).result;
  if (result != FlowInsert::done) {
    die("a flow was refused: " + std::to_string(static_cast<int>(result)));
  }
}

std::unique_ptr<FlowTable> make_table(uint32_t flows) {
  auto table = std::make_unique<FlowTable>(FlowTable::Config{.capacity = kCapacity});
  for (uint32_t n = 0; n < flows; ++n) {
    insert_or_die(*table, make_flow(n, static_cast<uint16_t>(n % kOwners)));
  }
  return table;
}

std::vector<FlowTuple> make_tuples(uint32_t flows, size_t count) {
  Random random{42};
  std::vector<FlowTuple> tuples(count);
  for (FlowTuple& tuple : tuples) {
    const auto n = static_cast<uint32_t>(random.below(flows));
    const NewFlow flow = make_flow(n, static_cast<uint16_t>(n % kOwners));
    tuple = random.below(2) == 0 ? flow.original : flow.reply;
  }
  return tuples;
}

// ---- measuring; all in ns an operation

double time_find(const FlowTable& table, const std::vector<FlowTuple>& tuples) {
  const double start = thread_seconds();
  uint64_t sum = 0;
  for (const FlowTuple& tuple : tuples) {
    sum += table.find(tuple).word;
  }
  sink += sum;
  rcu_quiescent();
  return (thread_seconds() - start) * 1e9 / static_cast<double>(tuples.size());
}

double time_find_many(const FlowTable& table, const std::vector<FlowTuple>& tuples) {
  FlowRef refs[kBurst];
  const double start = thread_seconds();
  uint64_t sum = 0;
  for (size_t i = 0; i + kBurst <= tuples.size(); i += kBurst) {
    table.find_many(&tuples[i], refs, kBurst);
    for (const FlowRef& ref : refs) {
      sum += ref.word;
    }
  }
  sink += sum;
  rcu_quiescent();
  return (thread_seconds() - start) * 1e9 / static_cast<double>(tuples.size());
}

// As a worker does: found in a burst, then counted.
double time_find_and_note(FlowTable& table, const std::vector<FlowTuple>& tuples) {
  FlowRef refs[kBurst];
  const double start = thread_seconds();
  uint64_t sum = 0;
  for (size_t i = 0; i + kBurst <= tuples.size(); i += kBurst) {
    table.find_many(&tuples[i], refs, kBurst);
    for (const FlowRef& ref : refs) {
      sum += static_cast<uint64_t>(table.note(ref, {1, 1400, 0}, kNow));
    }
  }
  sink += sum;
  rcu_quiescent();
  return (thread_seconds() - start) * 1e9 / static_cast<double>(tuples.size());
}

// New flows come and old ones go, in a table that stays as full as it is. Grace periods run beside, on a core of their own.
double time_churn(FlowTable& table, std::vector<NewFlow>& flows) {
  const double start = thread_seconds();
  for (size_t i = 0; i < flows.size(); ++i) {
    insert_or_die(table, flows[i]);
    if (i % 32 == 31) {
      for (size_t k = i - 31; k <= i; ++k) {
        table.remove(table.find(flows[k].original).flow());
      }
      rcu_quiescent();
    }
  }
  return (thread_seconds() - start) * 1e9 / static_cast<double>(flows.size());
}

// Lives of flows to the end: inserted, and swept when they are over.
double time_lives(FlowTable& table, const std::vector<NewFlow>& flows) {
  const double start = thread_seconds();
  for (size_t i = 0; i < flows.size(); ++i) {
    insert_or_die(table, flows[i]);
    if (i % 256 == 255) {
      rcu_quiescent();
    }
  }
  size_t removed = 0;
  while (removed < flows.size()) {
    removed += table.expire(kNow + 1000 * kSecond, 512);
    rcu_quiescent();
  }
  return (thread_seconds() - start) * 1e9 / static_cast<double>(flows.size());
}

// The port is found by asking the table until it says yes; towards one destination, nine tenths of whose ports are taken.
double time_ports(size_t inserts) {
  FlowTable table({.capacity = 100'000});
  PortBlocks ports(1024, 65535, 0, 1, 99);
  const auto flow_by = [&](uint32_t n, uint16_t port) {
    NewFlow fresh = make_flow(n * 5 + 1, static_cast<uint16_t>(n % kOwners));
    const be32 inside = n, outside = 0xcb007101, there = 0xc0000201;
    std::memcpy(fresh.original.source, &inside, sizeof(inside));
    std::memcpy(fresh.original.destination, &there, sizeof(there));
    fresh.reply = fresh.original.reversed(0);
    std::memcpy(fresh.reply.destination, &outside, sizeof(outside));
    fresh.reply.destination_port = port;
    return fresh;
  };
  const auto open = [&](uint32_t n) {
    PortSearch search = ports.search(7, static_cast<uint16_t>(n * 40503), false);
    while (const auto port = search.next()) {
      if (const Inserted inserted = table.insert(flow_by(n, *port), kNow);
          inserted.result == FlowInsert::done) {
        ports.found(search);
        return inserted.ref.flow();
      }
    }
    ports.failed(search);
    return FlowRef::kNone;
  };
  std::vector<uint32_t> flows;
  for (uint32_t n = 0; flows.size() < size_t{65536 - 1024} * 9 / 10; ++n) {
    if (const uint32_t flow = open(n); flow != FlowRef::kNone) {
      flows.push_back(flow);
    }
  }
  Random random{3};
  const double start = thread_seconds();
  for (size_t i = 0; i < inserts; ++i) {
    uint32_t& flow = flows[random.below(flows.size())];
    if (const uint32_t fresh = open(static_cast<uint32_t>(1'000'000 + i));
        fresh != FlowRef::kNone) {
      table.remove(flow);
      flow = fresh;
    }
    if (i % 32 == 31) {
      rcu_quiescent();
    }
  }
  return (thread_seconds() - start) * 1e9 / static_cast<double>(inserts);
}

// ---- the flood

class Flood {
 public:
  static constexpr uint16_t kOwner = 900;

  explicit Flood(FlowTable& table) : table_(table), thread_([this] { run(); }) {}
  ~Flood() {
    stop_ = true;
    thread_.join();
  }
  void set(bool on) {
    on_ = on;
    while (is_on_ != on) {
      std::this_thread::yield();
    }
  }
  uint64_t asked() const { return asked_; }
  uint64_t granted() const { return granted_; }

 private:
  void run() {
    rcu_join();
    for (uint32_t n = 1u << 31; !stop_;) {
      is_on_ = on_.load();
      if (!is_on_) {  // as busy as the flood, so that both cores run alike
        for (int i = 0; i < 64; ++i) {
          sink += make_flow(n++, kOwner).original.source_port;
        }
      } else {
        for (int i = 0; i < 64; ++i) {
          const FlowInsert result = table_.insert(make_flow(n++, kOwner), kNow).result;
          ++asked_;
          granted_ += result == FlowInsert::done ? 1 : 0;
        }
      }
      rcu_quiescent();
    }
    rcu_leave();
  }

  FlowTable& table_;
  std::atomic<bool> stop_ = false, on_ = false, is_on_ = false;
  std::atomic<uint64_t> asked_ = 0, granted_ = 0;
  std::thread thread_;
};

// ---- the report

struct Case {
  const char* name;
  std::function<double()> run;
  std::vector<double> ns = {};
};

void race(std::vector<Case>& cases) {
  for (int round = 0; round < kRounds; ++round) {
    for (Case& each : cases) {
      each.run();  // what the one before left in the caches is nobody's merit
      each.ns.push_back(each.run());
    }
  }
  for (const Case& each : cases) {
    std::printf("  %-52s %9.1f ns\n", each.name, median(each.ns));
  }
  std::fflush(stdout);
}

std::vector<NewFlow> make_flows(uint32_t first, uint32_t count) {
  std::vector<NewFlow> flows;
  for (uint32_t n = 0; n < count; ++n) {
    flows.push_back(make_flow(first + n, static_cast<uint16_t>(n % kOwners)));
  }
  return flows;
}

int run(int argc, char** argv) {
  rcu_join();
  const bool only = argc == 3 && std::strcmp(argv[1], "--only") == 0;
  auto million = make_table(kFlows);
  auto tuples = make_tuples(kFlows, kFinds);
  auto fresh = make_flows(kFlows, 32 << 10);
  if (only) {
    const double end = thread_seconds() + 5;
    while (thread_seconds() < end) {
      std::strcmp(argv[2], "find") == 0 ? time_find_many(*million, tuples)
                                        : time_churn(*million, fresh);
    }
    return 0;
  }
  auto one = make_table(1);
  auto empty = make_table(0);
  const auto same = make_tuples(1, kFinds);
  const auto lives = make_flows(2 * kFlows, 100'000);
  std::printf("find, random hits among 1,000,000 flows beside one; open and close\n");
  std::vector<Case> cases = {
      {"find, one flow", [&] { return time_find(*one, same); }},
      {"find, a million", [&] { return time_find(*million, tuples); }},
      {"find_many of 256, one flow", [&] { return time_find_many(*one, same); }},
      {"find_many of 256, a million", [&] { return time_find_many(*million, tuples); }},
      {"find_many and note, a million", [&] { return time_find_and_note(*million, tuples); }},
      {"insert and remove beside a million", [&] { return time_churn(*million, fresh); }},
      {"insert and expire, 100,000 at once", [&] { return time_lives(*empty, lives); }},
      {"with a port of a range nine tenths taken", [&] { return time_ports(20'000); }},
  };
  race(cases);
  const auto figure = [&](size_t i) { return median(cases[i].ns); };

  std::printf("\nanother owner's find and insert while one owner floods a table under pressure\n");
  Flood flood(*million);
  std::vector<Case> calm = {
      {"find_many, calm",
       [&] {
         flood.set(false);
         return time_find_many(*million, tuples);
       }},
      {"find_many, flood",
       [&] {
         flood.set(true);
         return time_find_many(*million, tuples);
       }},
      {"insert and remove, calm",
       [&] {
         flood.set(false);
         return time_churn(*million, fresh);
       }},
      {"insert and remove, flood",
       [&] {
         flood.set(true);
         return time_churn(*million, fresh);
       }},
  };
  race(calm);
  std::printf("  of %.1f million flows the flood asked for, %.2f million were granted\n",
              static_cast<double>(flood.asked()) * 1e-6,
              static_cast<double>(flood.granted()) * 1e-6);

  Report report;
  report.at_most("find among a million, more than with one", figure(1) - figure(0), 150, "ns");
  report.at_most("find_many among a million, more a tuple", figure(3) - figure(2), 150, "ns");
  report.at_least("new flows a second and core, inserted and removed", 1e3 / figure(5), 0.5, "M");
  report.at_least("new flows a second and core, inserted and expired", 1e3 / figure(6), 0.5, "M");
  report.at_most("a flow, all included",
                 static_cast<double>(million->memory_bytes()) / static_cast<double>(kCapacity), 160,
                 "B");
  report.at_least("finds of others under a flood, of their speed without",
                  median(calm[0].ns) / median(calm[1].ns), 0.9);
  report.at_least("inserts of others under a flood, of their speed without",
                  median(calm[2].ns) / median(calm[3].ns), 0.9);
  return report.finish();
}

}  // namespace
}  // namespace sallyport::bench

int main(int argc, char** argv) {
  return sallyport::bench::run(argc, argv);
}
