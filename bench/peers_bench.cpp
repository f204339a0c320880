// What peers cost: memory of one that is only configured and of one with a session, time to find
// one by receiver index and by public key, and how many handshakes a second one core answers.
//
//   peers_bench [peers...]     default: 0 10000 100000
//
// Memory is the process's resident set, read from /proc/self/statm, each case in a process of its
// own; per peer it is the difference to the case before it. Peers have one IPv4 prefix each.
// Handshakes are answered by the real engine on memory ports, whose copies are small beside the
// curve; making the initiations is not counted.
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <unordered_map>
#include <vector>

#include "bench/report.h"
#include "crypto/aead.h"
#include "crypto/x25519.h"
#include "dataplane/base/rcu.h"
#include "dataplane/engine.h"
#include "dataplane/handshaker.h"
#include "dataplane/table/index_table.h"
#include "dataplane/wireguard/cookie.h"
#include "tun/memory_port.h"

namespace sallyport {
namespace {

using wireguard::PublicKey;

constexpr size_t kSessionsMax =
    10'000;  // a session takes both sides' handshake: a millisecond each
constexpr size_t kHandshakes = 4'000;
constexpr size_t kLookups = 4'000'000;

size_t resident_bytes() {
  malloc_trim(0);
  unsigned long pages_total = 0, pages_resident = 0;
  FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr || std::fscanf(file, "%lu %lu", &pages_total, &pages_resident) != 2) {
    std::perror("/proc/self/statm");
    std::exit(1);
  }
  std::fclose(file);
  return pages_resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// Time this thread has run: a busy machine takes none of it.
Time cpu_time() {
  return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

double seconds_since(Time start) {
  return static_cast<double>(cpu_time() - start) / kSecond;
}

// Never under load: what is measured is the answer itself.
Time costs_nothing() {
  return 0;
}

PublicKey random_key() {
  PublicKey key;
  crypto::random_bytes(key);
  return key;
}

IpPrefix prefix_of(size_t i) {
  IpPrefix prefix;
  prefix.address.family = Family::v4;
  prefix.address.bytes = {10, static_cast<uint8_t>(i >> 16), static_cast<uint8_t>(i >> 8),
                          static_cast<uint8_t>(i)};
  prefix.length = 32;
  return prefix;
}

// An initiator at the far end: just enough of one to get a session out of the engine.
struct Caller {
  wireguard::Identity identity;
  wireguard::Handshake handshake;
  wireguard::CookieJar cookies;

  Caller() {
    const crypto::Key key = crypto::generate_private_key();
    identity.set_private_key(key.data());
  }
  MemoryPort::Bytes initiation(const PublicKey& to, uint32_t index) {
    handshake.set_identities(identity, to);
    cookies.set_remote(to);
    wireguard::MessageInitiation message;
    handshake.create_initiation(identity, now_wall(), index, message);
    auto* bytes = reinterpret_cast<uint8_t*>(&message);
    cookies.add_macs(now_boottime(), bytes, sizeof(message));
    return {bytes, bytes + sizeof(message)};
  }
  // An empty data packet under the session that this response makes; nothing when it makes none.
  MemoryPort::Bytes keepalive(const MemoryPort::Bytes& response) {
    wireguard::Keypair keypair;
    if (!handshake.consume_response(
            identity, *reinterpret_cast<const wireguard::MessageResponse*>(response.data())) ||
        !handshake.derive(now_boottime(), keypair)) {
      return {};
    }
    MemoryPort::Bytes out(wireguard::kDataOverhead);
    auto* header = reinterpret_cast<wireguard::MessageData*>(out.data());
    header->type = 4;
    header->receiver = keypair.remote_index;
    header->counter = 0;
    crypto::aead_seal_with_ad(std::span(out).subspan(sizeof(*header)), {}, {},
                              std::span(keypair.sending.bytes), 0);
    return out;
  }
};

// One engine, one worker, stepped by hand.
struct Subject {
  Subject() {
    EngineOptions options;
    options.cost_clock = costs_nothing;
    engine = std::make_unique<Engine>(options);
    std::vector<std::unique_ptr<Port>> plain, outer;
    plain.push_back(std::make_unique<MemoryPort>());
    for (MemoryPort** port : {&data, &handshakes}) {
      auto fresh = std::make_unique<MemoryPort>();
      *port = fresh.get();
      outer.push_back(std::move(fresh));
    }
    engine->set_plain_ports(std::move(plain));
    engine->set_outer_ports(std::move(outer));
    TunnelChange change;
    crypto::Key key = crypto::generate_private_key();
    change.private_key.emplace();
    std::copy(key.begin(), key.end(), change.private_key->begin());
    check(engine->apply(change));
    engine->set_up(true);
    public_key = engine->describe().public_key;
  }
  static void check(const Result<void>& result) {
    if (!result.has_value()) {
      std::fprintf(stderr, "%s\n", result.error().text.c_str());
      std::exit(1);
    }
  }
  void add(const PublicKey& key, size_t number) {
    TunnelChange change;
    PeerChange& peer = change.peers.emplace_back();
    peer.public_key = key;
    peer.allowed_ips.push_back({prefix_of(number), false});
    check(engine->apply(change));
  }
  void settle() {
    while (engine->step_handshaker() | engine->step_worker(0)) {
    }
  }

  std::unique_ptr<Engine> engine;
  MemoryPort* data = nullptr;
  MemoryPort* handshakes = nullptr;
  PublicKey public_key{};
};

const Endpoint kFrom = *parse_endpoint("192.0.2.1:1000");

size_t make_sessions(Subject& subject, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    Caller caller;
    subject.add(caller.identity.public_key, i);
    subject.handshakes->inject(caller.initiation(subject.public_key, static_cast<uint32_t>(i + 1)),
                               kFrom);
    subject.settle();
    for (const MemoryPort::Frame& answer : subject.handshakes->sent()) {
      subject.data->inject(caller.keepalive(answer.bytes), kFrom);
    }
    subject.settle();
  }
  rcu_barrier_all();
  return subject.engine->status().indices;
}

// Runs `measure` in a process of its own and brings back the number it returns.
template <class Measure>
double apart(Measure measure) {
  int ends[2];
  if (pipe(ends) != 0) {
    std::perror("pipe");
    std::exit(1);
  }
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    const double value = measure();
    const bool told = write(ends[1], &value, sizeof(value)) == sizeof(value);
    _exit(told ? 0 : 1);
  }
  close(ends[1]);
  double value = 0;
  const bool heard = read(ends[0], &value, sizeof(value)) == sizeof(value);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!heard || status != 0) {
    std::fprintf(stderr, "a measurement failed\n");
    std::exit(1);
  }
  return value;
}

double resident_with_peers(size_t peers) {
  Subject subject;
  for (size_t i = 0; i < peers; ++i) {
    subject.add(random_key(), i);
  }
  subject.settle();
  return static_cast<double>(resident_bytes());
}

double bytes_a_session(size_t peers) {
  Subject subject;
  make_sessions(subject, 100);  // what is made once is made
  const size_t before = resident_bytes();
  const size_t sessions = make_sessions(subject, peers) - 100;
  if (sessions != peers) {
    std::fprintf(stderr, "only %zu of %zu sessions\n", sessions, peers);
    std::exit(1);
  }
  return static_cast<double>(resident_bytes() - before) / static_cast<double>(peers);
}

double index_lookup_ns(size_t entries) {
  IndexTable table;
  std::vector<uint32_t> indices(entries);
  for (uint32_t& index : indices) {
    do {
      crypto::random_bytes(std::span(reinterpret_cast<uint8_t*>(&index), 4));
    } while (!table.insert(index, uintptr_t{index} << 1 | 1));
  }
  uintptr_t sum = 0;
  const Time start = cpu_time();
  for (size_t i = 0; i < kLookups; ++i) {
    sum += table.lookup(indices[(i * 7'919) % entries]);
  }
  const double seconds = seconds_since(start);
  return sum == 0 ? 0 : seconds * 1e9 / kLookups;
}

double key_lookup_ns(size_t entries) {
  std::unordered_map<PublicKey, uint32_t, PublicKeyHash> table;
  std::vector<PublicKey> keys(entries);
  for (PublicKey& key : keys) {
    key = random_key();
    table.emplace(key, uint32_t{1});
  }
  size_t found = 0;
  const Time start = cpu_time();
  for (size_t i = 0; i < kLookups / 4; ++i) {
    found += table.count(keys[(i * 7'919) % entries]);
  }
  const double seconds = seconds_since(start);
  return found == 0 ? 0 : seconds * 1e9 / (kLookups / 4);
}

double handshakes_a_second(size_t other_peers) {
  Subject subject;
  for (size_t i = 0; i < other_peers; ++i) {
    subject.add(random_key(), i + kHandshakes);
  }
  std::vector<Caller> callers(kHandshakes);
  for (size_t i = 0; i < kHandshakes; ++i) {
    subject.add(callers[i].identity.public_key, i);
    subject.handshakes->inject(
        callers[i].initiation(subject.public_key, static_cast<uint32_t>(i + 1)), kFrom);
  }
  const Time start = cpu_time();
  while (subject.engine->step_handshaker()) {
  }
  const double seconds = seconds_since(start);
  return static_cast<double>(subject.engine->status().handshakes_answered) / seconds;
}

int run(const std::vector<size_t>& counts) {
  bench::Report report;
  std::printf("%10s %14s %14s %14s %14s %16s\n", "peers", "resident MiB", "bytes/peer", "index ns",
              "key ns", "handshakes/s");
  double previous = 0;
  size_t previous_count = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const size_t peers = counts[i];
    const std::string title = std::to_string(peers) + " peers";
    const double resident = apart([&] { return resident_with_peers(peers); });
    std::printf("%10zu %14.1f ", peers, resident / (1 << 20));
    if (i > 0 && peers > previous_count) {
      const double bytes = (resident - previous) / static_cast<double>(peers - previous_count);
      std::printf("%14.0f ", bytes);
      report.figure(title + ", memory of one", bytes, "B");
    } else {
      std::printf("%14s ", "-");
    }
    previous = resident;
    previous_count = peers;
    const size_t entries = std::max<size_t>(peers, 1);
    const double by_index = apart([&] { return index_lookup_ns(entries); });
    const double by_key = apart([&] { return key_lookup_ns(entries); });
    const double handshakes = apart([&] { return handshakes_a_second(peers); });
    std::printf("%14.1f %14.1f %16.0f\n", by_index, by_key, handshakes);
    report.figure(title + ", one found by index", by_index, "ns");
    report.figure(title + ", one found by key", by_key, "ns");
    report.at_least(title + ", handshakes answered a second and core", handshakes, 2'400);
  }
  const double session = apart([] { return bytes_a_session(kSessionsMax); });
  std::printf("a peer with a session: %.0f bytes\n", session);
  report.figure("memory of a peer with a session", session, "B");
  return report.finish();
}

}  // namespace
}  // namespace sallyport

int main(int argc, char** argv) {
  std::vector<size_t> counts;
  for (int i = 1; i < argc; ++i) {
    counts.push_back(std::strtoull(argv[i], nullptr, 10));
  }
  return sallyport::run(counts.empty() ? std::vector<size_t>{0, 10'000, 100'000} : counts);
}
