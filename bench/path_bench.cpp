// What a packet costs on its way through the engine, beside the cipher alone on the same bytes in
// the same run.
//
//   path_bench             the table, then the targets with met or not; exit status 1 if one is not
//   path_bench --only N    row N again and again for five seconds, for a profiler to look at; rows behind
//                          the last are those with a policy
//
// The real engine with one worker, stepped by hand, on ports that cost next to nothing: they hand
// out frames that lie ready in memory of their own, and look at nothing that they are given. So
// what is measured beyond the cipher is ingress, parse, route, seal or open, join and egress.
// "Alone" is crypto's seal_many or open_many over the same number of packets of the same length
// with the same burst size and the same distance in memory. Path and alone take turns, so that a
// slow moment of the machine hits both; figures are medians over the rounds, in ns per packet.
// Ratios are what counts.
//
// What a policy costs is measured in the same way (bench/path_policy.h has the policies): one engine
// without, and one with each number of rules, in turn in blocks of bursts. A flow goes to a member of a
// set of a million prefixes that no other flow has asked for of late, so it finds the set cold: "each
// another flow" is the worst there is. The figure is what the path takes more, and its share of the path.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bench/path_policy.h"
#include "bench/report.h"
#include "crypto/aead.h"
#include "dataplane/engine.h"
#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "dataplane/wireguard/cookie.h"
#include "dataplane/wireguard/handshake.h"
#include "tun/memory_port.h"

namespace sallyport {
namespace {

using bench::median;

using Bytes = std::vector<uint8_t>;

constexpr size_t kRounds = 301;
constexpr size_t kMargin = Buffer::kHeadroom;
const Endpoint kFarEnd = *parse_endpoint("192.0.2.1:1000");

struct Row {
  const char* name;
  bool sealing;        // plain to tunnel; else tunnel to plain
  uint8_t protocol;    // of the inner packets
  uint32_t packet;     // bytes of one inner packet
  uint32_t frames;     // in a burst
  uint32_t per_frame;  // packets in a frame: segments of a super-packet, datagrams of a train
  bool joined;         // tunnel to plain: the plain port takes runs
  double target;       // ratio to the cipher alone; 0: none of its own
};

constexpr Row kRows[] = {
    {"plain to tunnel, 64 B", true, kProtocolUdp, 64, 32, 1, false, 2.5},
    {"plain to tunnel, 1420 B", true, kProtocolUdp, 1420, 32, 1, false, 1.25},
    {"plain to tunnel, 64 KiB TCP super-packets", true, kProtocolTcp, 1420, 2, 46, false, 1.25},
    {"plain to tunnel, 64 KiB UDP super-packets", true, kProtocolUdp, 1420, 2, 46, false, 0},
    {"tunnel to plain, 64 B", false, kProtocolUdp, 64, 4, 64, false, 3},
    {"tunnel to plain, 1420 B", false, kProtocolUdp, 1420, 3, 44, false, 1.35},
    {"tunnel to plain, 1420 B, TCP joined", false, kProtocolTcp, 1420, 3, 44, true, 1.35},
    {"tunnel to plain, 1420 B, UDP joined", false, kProtocolUdp, 1420, 3, 44, true, 0},
    {"tunnel to plain, 64 B, UDP joined", false, kProtocolUdp, 64, 4, 64, true, 0},
};

// Hands out the frames it is given once, in the order they came; what is sent through it is counted
// and forgotten.
class ReadyPort final : public Port {
 public:
  size_t rx(std::span<RxFrame> frames, BufferCache& cache) override {
    size_t count = 0;
    while (count < frames.size() && next_ < ready_.size()) {
      frames[count] = ready_[next_++];
      frames[count++].buffer =
          cache.take();  // for the worker to give back; the bytes stay where they are
    }
    return count;
  }
  void tx(std::span<TxFrame> frames) override { sent_ += frames.size(); }
  bool takes(Gso kind) const override { return kind == Gso::none || joined_; }
  PortStatus status() const override { return {}; }

  void set_ready(std::vector<RxFrame> frames) {
    ready_ = std::move(frames);
    next_ = ready_.size();
  }
  void rewind() { next_ = 0; }
  void set_joined(bool joined) { joined_ = joined; }
  uint64_t sent() const { return sent_; }

 private:
  std::vector<RxFrame> ready_;
  size_t next_ = 0;
  uint64_t sent_ = 0;
  bool joined_ = false;
};

[[noreturn]] void die(const char* why) {
  std::fprintf(stderr, "path_bench: %s\n", why);
  std::exit(1);
}

// Time stands still for the engine: no session grows old.
Time same_time() {
  return 1000 * kSecond;
}

// One engine and the far end of its one session.
struct Subject {
  explicit Subject(const char* allowed = "10.0.0.2/32") {
    EngineOptions options;
    options.clock = same_time;
    engine = std::make_unique<Engine>(options);
    std::vector<std::unique_ptr<Port>> plain_ports, outer_ports;
    auto handshakes = std::make_unique<MemoryPort>();
    MemoryPort& handshake_port = *handshakes;
    plain_ports.push_back(std::make_unique<ReadyPort>());
    outer_ports.push_back(std::make_unique<ReadyPort>());
    plain = static_cast<ReadyPort*>(plain_ports[0].get());
    outer = static_cast<ReadyPort*>(outer_ports[0].get());
    outer_ports.push_back(std::move(handshakes));
    engine->set_plain_ports(std::move(plain_ports));
    engine->set_outer_ports(std::move(outer_ports));
    wireguard::Identity ours, theirs;
    KeyBytes key;
    key.fill(0x11);
    ours.set_private_key(key.data());
    TunnelChange change;
    change.private_key = key;
    key.fill(0x22);
    theirs.set_private_key(key.data());
    PeerChange& peer = change.peers.emplace_back();
    peer.public_key = theirs.public_key;
    peer.endpoint = kFarEnd;
    peer.allowed_ips.push_back({*parse_prefix(allowed), false});
    if (!engine->apply(change).has_value()) {
      die("the engine refuses its configuration");
    }
    engine->set_up(true);
    far_key = theirs.public_key;
    meet(ours.public_key, theirs, handshake_port);
  }

  void meet(const wireguard::PublicKey& public_key, const wireguard::Identity& theirs,
            MemoryPort& port) {
    wireguard::Handshake handshake;
    wireguard::CookieJar cookies;
    handshake.set_identities(theirs, public_key);
    cookies.set_remote(public_key);
    wireguard::MessageInitiation message;
    handshake.create_initiation(theirs, now_wall(), 1, message);
    auto* bytes = reinterpret_cast<uint8_t*>(&message);
    cookies.add_macs(same_time(), bytes, sizeof(message));
    port.inject(Bytes(bytes, bytes + sizeof(message)), kFarEnd);
    settle();
    const std::vector<MemoryPort::Frame> answers = port.sent();
    if (answers.size() != 1 ||
        !handshake.consume_response(theirs, *reinterpret_cast<const wireguard::MessageResponse*>(
                                                answers[0].bytes.data())) ||
        !handshake.derive(same_time(), session)) {
      die("the handshake fails");
    }
    confirm();
  }

  // An empty packet under the new session: from here on the engine sends with it.
  void confirm() {
    uint8_t datagram[wireguard::kDataOverhead] = {};
    auto* message = reinterpret_cast<wireguard::MessageData*>(datagram);
    message->type = 4;
    message->receiver = session.remote_index;
    uint8_t* inside = datagram + sizeof(*message);
    crypto::SealItem item{&session.sending, 0, nullptr, 0, inside, 0, 0, inside};
    crypto::seal_many({&item, 1});
    RxFrame frame;
    frame.data = datagram;
    frame.length = frame.segment_bytes = sizeof(datagram);
    frame.from = kFarEnd;
    outer->set_ready({frame});
    outer->rewind();
    settle();
  }

  void settle() {
    while (engine->step_handshaker() | engine->step_worker(0)) {
    }
  }
  uint64_t packets() const {
    const EngineStatus status = engine->status();
    return status.workers[0].rx_packets + status.workers[0].tx_packets;
  }

  std::unique_ptr<Engine> engine;
  ReadyPort* plain = nullptr;
  ReadyPort* outer = nullptr;
  wireguard::Keypair session;  // the far end's
  wireguard::PublicKey far_key;
};

// An inner packet of the row's kind with `payload` bytes, checksums right. `number` moves the
// sequence on.
void write_packet(uint8_t* out, const Row& row, uint32_t payload, uint32_t number) {
  const uint32_t l4_header = row.protocol == kProtocolTcp ? 20 : 8;
  const uint32_t l4_bytes = l4_header + payload;
  std::memset(out, 0, 20 + l4_header);
  auto* ip = reinterpret_cast<Ipv4Header*>(out);
  ip->version_ihl = 0x45;
  ip->total_length = static_cast<uint16_t>(20 + l4_bytes);
  ip->fragment = kIpv4DontFragment;
  ip->ttl = 64;
  ip->protocol = row.protocol;
  const uint8_t here[4] = {10, 0, 0, 1}, there[4] = {10, 0, 0, 2};
  std::memcpy(ip->source, row.sealing ? here : there, 4);
  std::memcpy(ip->destination, row.sealing ? there : here, 4);
  checksum_ipv4(out, 20);
  uint8_t* l4 = out + 20;
  for (uint32_t i = 0; i < payload; ++i) {
    l4[l4_header + i] = static_cast<uint8_t>(i);
  }
  reinterpret_cast<be16*>(l4)[0] = 1000;
  reinterpret_cast<be16*>(l4)[1] = 2000;
  uint8_t* field = l4 + 6;
  if (row.protocol == kProtocolTcp) {
    auto* tcp = reinterpret_cast<TcpHeader*>(l4);
    tcp->sequence = number * payload;
    tcp->data_offset = 0x50;
    tcp->flags = kTcpAck;
    field = l4 + 16;
  } else {
    reinterpret_cast<UdpHeader*>(l4)->length = static_cast<uint16_t>(l4_bytes);
  }
  const uint64_t pseudo = checksum_pseudo(out, Family::v4, row.protocol, l4_bytes);
  checksum_store(field, checksum_add(pseudo, l4, l4_bytes), row.protocol == kProtocolUdp);
}

class Measurement {
 public:
  Measurement(Subject& subject, const Row& row)
      : subject_(subject), row_(row), packets_(row.frames * row.per_frame) {
    header_ = 20 + (row.protocol == kProtocolTcp ? 20 : 8);
    payload_ = row.packet - header_;
    if (row.sealing) {
      lay_out_plain();
    } else {
      lay_out_outer();
    }
    lay_out_alone();
  }

  uint32_t packets() const { return packets_; }

  // So many frames at a time become a flow of their own, to a member of the set. Untimed.
  void scatter(bench::RuleBook& book, uint32_t frames_a_flow) {
    uint8_t destination[4], ports[4];
    for (uint32_t i = 0; i < row_.frames; ++i) {
      if (i % frames_a_flow == 0) {
        book.fill_destination(destination);
        book.fill_ports(ports);
      }
      uint8_t* packet = frames_[i].data;
      if (sources_.size() <= i) {
        sources_.push_back({packet[12], packet[13], packet[14], packet[15]});
      }
      std::memcpy(packet + 12, sources_[i].data(), sources_[i].size());  // NAT wrote over it
      std::memcpy(packet + 16, destination, sizeof(destination));
      std::memcpy(packet + 20, ports, sizeof(ports));
      checksum_ipv4(packet, 20);
    }
  }

  // ns per packet, once through the burst.
  double path() {
    if (!row_.sealing) {
      seal_again();
    }
    ReadyPort& port = row_.sealing ? *subject_.plain : *subject_.outer;
    subject_.plain->set_joined(row_.joined);
    port.set_ready(frames_);
    port.rewind();
    const Time start = read_clock(CLOCK_MONOTONIC);
    subject_.engine->step_worker(0);
    return static_cast<double>(read_clock(CLOCK_MONOTONIC) - start) / packets_;
  }

  double alone() {
    if (!row_.sealing) {
      crypto::seal_many(reseal_);
    }
    const Time start = read_clock(CLOCK_MONOTONIC);
    if (row_.sealing) {
      for (crypto::SealItem& item : seal_) {
        item.counter = counter_++;
      }
      crypto::seal_many(seal_);
    } else {
      crypto::open_many(open_);
    }
    return static_cast<double>(read_clock(CLOCK_MONOTONIC) - start) / packets_;
  }

 private:
  static uint32_t in_lines(uint32_t bytes) { return (bytes + 63) & ~63u; }

  // Each frame with a buffer's headroom before it, and staggered as buffers are.
  void lay_out_frames(uint32_t frame_bytes) {
    const uint32_t slot = in_lines(static_cast<uint32_t>(kMargin) + frame_bytes + 64) + 128;
    memory_.resize(size_t{slot} * row_.frames + 64);
    for (uint32_t i = 0; i < row_.frames; ++i) {
      RxFrame& frame = frames_.emplace_back();
      frame.data = memory_.data() + size_t{slot} * i + kMargin;
      frame.length = frame.segment_bytes = frame_bytes;
      frame.from = kFarEnd;
    }
  }

  void lay_out_plain() {
    lay_out_frames(header_ + payload_ * row_.per_frame);
    for (RxFrame& frame : frames_) {
      write_packet(frame.data, row_, payload_ * row_.per_frame, 0);
      if (row_.per_frame > 1) {
        const bool tcp = row_.protocol == kProtocolTcp;
        frame.offload.gso = tcp ? Gso::tcp4 : Gso::udp;
        frame.offload.needs_checksum = true;
        frame.offload.gso_size = static_cast<uint16_t>(payload_);
        frame.offload.checksum_start = 20;
        frame.offload.checksum_offset = tcp ? 16 : 6;
      }
    }
  }

  void lay_out_outer() {
    const uint32_t stride = row_.packet + 32;
    lay_out_frames(stride * row_.per_frame);
    for (RxFrame& frame : frames_) {
      frame.segment_bytes = stride;
    }
    plain_.resize(size_t{packets_} * row_.packet);
    for (uint32_t i = 0; i < packets_; ++i) {
      write_packet(plain_.data() + size_t{i} * row_.packet, row_, payload_, i);
    }
  }

  // What the far end does between rounds, untimed: the same packets under new counters.
  void seal_again() {
    for (uint32_t i = 0; i < packets_; ++i) {
      RxFrame& frame = frames_[i / row_.per_frame];
      uint8_t* datagram = frame.data + (i % row_.per_frame) * frame.segment_bytes;
      auto* message = reinterpret_cast<wireguard::MessageData*>(datagram);
      message->type = 4;
      message->receiver = subject_.session.remote_index;
      message->counter = counter_;
      uint8_t* inside = datagram + sizeof(*message);
      std::memcpy(inside, plain_.data() + size_t{i} * row_.packet, row_.packet);
      far_[i] = {&subject_.session.sending, counter_++, nullptr, 0, inside, row_.packet, 0, inside};
    }
    crypto::seal_many(far_);
  }

  // The cipher over packets that lie as the path's do: sealed beside each other from where the
  // frames are, opened in place in trains.
  void lay_out_alone() {
    far_.resize(packets_);
    const uint32_t stride = row_.packet + 32;
    alone_.resize(size_t{stride} * packets_ + 2 * kMargin);
    for (uint32_t i = 0; i < packets_; ++i) {
      uint8_t* out = alone_.data() + kMargin + size_t{i} * stride + sizeof(wireguard::MessageData);
      if (row_.sealing) {
        const RxFrame& frame = frames_[i / row_.per_frame];
        // Of a super-packet, every segment has as many bytes as a packet; they overlap by the
        // length of a header.
        uint8_t* body = frame.data + (i % row_.per_frame) * payload_;
        seal_.push_back({&key_, 0, nullptr, 0, body, row_.packet, 0, out});
      } else {
        reseal_.push_back({&key_, i, nullptr, 0, out, row_.packet, 0, out});
        open_.push_back({&key_, i, out, row_.packet + 16, false});
      }
    }
  }

  Subject& subject_;
  const Row& row_;
  const uint32_t packets_;
  uint32_t header_ = 0, payload_ = 0;
  Bytes memory_, plain_, alone_;
  std::vector<RxFrame> frames_;
  std::vector<std::array<uint8_t, 4>> sources_;
  std::vector<crypto::SealItem> far_, seal_, reseal_;
  std::vector<crypto::OpenItem> open_;
  crypto::AeadKey key_;
  static inline uint64_t counter_ = 1;  // one for all rows: the session's replay window goes on
};

struct Figures {
  double path = 0, alone = 0;
  double ratio() const { return path / alone; }
};

Figures measure(Subject& subject, const Row& row) {
  Measurement measurement(subject, row);
  std::vector<double> path, alone;
  const uint64_t before = subject.packets();
  for (size_t round = 0; round < kRounds; ++round) {
    if (round % 2 == 0) {
      path.push_back(measurement.path());
      alone.push_back(measurement.alone());
    } else {
      alone.push_back(measurement.alone());
      path.push_back(measurement.path());
    }
  }
  if (subject.packets() - before != kRounds * measurement.packets()) {
    die("packets were lost on the way");
  }
  return {median(std::move(path)), median(std::move(alone))};
}

// ---- what a policy costs

struct PolicyKind {
  size_t rules;
  bool nat;       // masquerades what it sends; its flows are known after a while
  double target;  // percent of the path without, for rows with a target
  const char* name;
};
constexpr PolicyKind kPolicies[] = {{0, false, 5, "0 rules"},
                                    {1, false, 5, "1 rule"},
                                    {100, false, 5, "100 rules"},
                                    {1000, false, 5, "1000 rules"},
                                    {100, true, 15, "100 rules, masquerade"}};
constexpr size_t kPolicyKinds = std::size(kPolicies) + 1;  // and none at all
constexpr uint64_t kKnownBursts = 16;                      // whose flows come again and again
constexpr size_t kBlocks = 25, kBlockBursts = 24, kWarmBursts = 4;

struct PolicyRow {
  Row row;
  uint32_t frames_a_flow;
  const char* flows;
  bool has_target;
};

constexpr PolicyRow kPolicyRows[] = {
    {{"1420 B", true, kProtocolUdp, 1420, 32, 1, false, 0}, 32, "one flow a burst", false},
    {{"1420 B", true, kProtocolUdp, 1420, 32, 1, false, 0}, 1, "each another flow", false},
    {{"64 KiB TCP", true, kProtocolTcp, 1420, 2, 46, false, 0}, 1, "each another flow", true},
};

struct PolicyFigures {
  std::string name;
  double path = 0, more = 0;  // ns per packet
  double target = 0;
  double percent() const { return more / (path - more) * 100; }
};

// Engines with no policy, and with each of those there are.
class PolicySubjects {
 public:
  PolicySubjects() {
    subjects_.push_back(std::make_unique<Subject>("0.0.0.0/0"));
    for (const PolicyKind& kind : kPolicies) {
      Subject& subject = *subjects_.emplace_back(std::make_unique<Subject>("0.0.0.0/0"));
      const auto tag = subject.engine->tag(subject.far_key, 0);
      auto policy = book_.make(subject.engine->tags(), tag.value_or(0), kind.rules);
      if (!tag.has_value() || policy == nullptr) {
        die("the policy cannot be built");
      }
      if (kind.nat) {
        book_.add_nat(*policy);
        subject.engine->set_addresses(*parse_address("10.9.0.1"), IpAddress{});
      }
      subject.engine->set_policy(std::move(policy));
    }
  }

  void measure(const PolicyRow& row, std::vector<PolicyFigures>& all) {
    std::vector<std::unique_ptr<Measurement>> each;
    for (auto& subject : subjects_) {
      each.push_back(std::make_unique<Measurement>(*subject, row.row));
    }
    std::vector<double> times[kPolicyKinds];
    for (size_t block = 0; block < kBlocks; ++block) {
      for (size_t i = 0; i < kPolicyKinds; ++i) {
        const size_t kind = (i + block) % kPolicyKinds;
        const bool known = kind > 0 && kPolicies[kind - 1].nat;
        run_block(*each[kind], row.frames_a_flow, known, times[kind]);
      }
    }
    const double without = median(times[0]);
    for (size_t kind = 1; kind < kPolicyKinds; ++kind) {
      const double with = median(times[kind]);
      const PolicyKind& its = kPolicies[kind - 1];
      all.push_back({std::string(row.row.name) + ", " + row.flows + ", " + its.name, with,
                     with - without, row.has_target ? its.target : 0});
    }
    check(*subjects_.back());
  }

  // For a profiler.
  void run_for(const PolicyRow& row, Time duration) {
    Measurement measurement(*subjects_.back(), row.row);
    const Time end = read_clock(CLOCK_MONOTONIC) + duration;
    while (read_clock(CLOCK_MONOTONIC) < end) {
      measurement.scatter(book_, row.frames_a_flow);
      measurement.path();
    }
  }

 private:
  void run_block(Measurement& measurement, uint32_t frames_a_flow, bool known,
                 std::vector<double>& times) {
    for (size_t burst = 0; burst < kBlockBursts; ++burst) {
      if (known) {
        book_.begin_again(1 + burst % kKnownBursts);
      }
      measurement.scatter(book_, frames_a_flow);
      const double ns = measurement.path();
      if (burst >= kWarmBursts) {
        times.push_back(ns);
      }
    }
  }
  // All of them went by the last rule, and none was lost.
  static void check(const Subject& subject) {
    const EngineStatus status = subject.engine->status();
    const Policy& policy = *subject.engine->policy();
    const size_t last = policy.actions.size() - 1;
    uint64_t dropped = 0;
    for (const uint64_t drops : status.workers[0].drops) {
      dropped += drops;
    }
    if (dropped != 0 || policy.rule_counters[0][last].packets == 0) {
      die("packets did not go the way the policy says");
    }
  }

  bench::RuleBook book_;
  std::vector<std::unique_ptr<Subject>> subjects_;
};

std::vector<PolicyFigures> measure_policies() {
  PolicySubjects subjects;
  std::vector<PolicyFigures> all;
  for (const PolicyRow& row : kPolicyRows) {
    subjects.measure(row, all);
  }
  return all;
}

void print_policies(const std::vector<PolicyFigures>& all, bench::Report& report) {
  std::printf("\n%-50s %10s %10s %8s\n", "plain to tunnel with a policy, ns per packet", "path",
              "more", "of path");
  for (const PolicyFigures& each : all) {
    std::printf("%-50s %10.1f %10.1f %7.1f%%\n", each.name.c_str(), each.path, each.more,
                each.percent());
    report.figure("with a policy: " + each.name + ", more a packet", each.more, "ns");
    if (each.target > 0) {
      report.at_most("with a policy: " + each.name, each.percent(), each.target, "%");
    }
  }
}

void print(const std::vector<Figures>& all, bench::Report& report) {
  std::printf("%-45s %10s %10s %7s\n", "ns per packet", "path", "cipher", "ratio");
  for (size_t i = 0; i < all.size(); ++i) {
    std::printf("%-45s %10.1f %10.1f %6.2fx\n", kRows[i].name, all[i].path, all[i].alone,
                all[i].ratio());
    report.figure(std::string(kRows[i].name) + ", a packet", all[i].path, "ns");
    if (kRows[i].target > 0) {
      report.at_most(std::string(kRows[i].name) + ", of the cipher alone", all[i].ratio(),
                     kRows[i].target);
    }
  }
  std::printf("the cipher is %s\n", crypto::aead_name());
}

int run(int argc, char** argv) {
  if (!crypto::select_aead()) {
    die("no cipher passes its self-test");
  }
  crypto::aead_thread_init();
  Subject subject;
  if (argc == 3 && std::strcmp(argv[1], "--only") == 0) {
    const size_t number = std::strtoul(argv[2], nullptr, 10);
    if (number >= std::size(kRows) + std::size(kPolicyRows)) {
      die("there is no such row");
    }
    if (number >= std::size(kRows)) {
      PolicySubjects().run_for(kPolicyRows[number - std::size(kRows)], 5 * kSecond);
      return 0;
    }
    Measurement measurement(subject, kRows[number]);
    const Time end = read_clock(CLOCK_MONOTONIC) + 5 * kSecond;
    while (read_clock(CLOCK_MONOTONIC) < end) {
      measurement.path();
    }
    return 0;
  }
  std::vector<Figures> all;
  for (const Row& row : kRows) {
    all.push_back(measure(subject, row));
  }
  bench::Report report;
  print(all, report);
  print_policies(measure_policies(), report);
  return report.finish();
}

}  // namespace
}  // namespace sallyport

int main(int argc, char** argv) {
  return sallyport::run(argc, argv);
}
