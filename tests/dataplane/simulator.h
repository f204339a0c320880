// The simulator: several real engines, one thread, one seed, and a network that does its worst.
//
// A seed decides everything: how many engines and workers, who is whose peer and who knows whose
// address, the traffic, and the faults. Datagrams are lost, doubled, delayed past each other, cut
// and flipped; engines restart, sleep, roam, go down, lose peers and ports; wall clocks jump both
// ways. Then all faults stop, and what was broken must mend.
//
// What holds at every moment: no packet reaches a host twice, changed, or at the wrong engine; no
// engine uses a nonce twice under one session. What holds after the faults: within kRecovery a
// packet gets through each way between peers, and once every session from before has ended, none is
// lost. kRecovery is what the protocol takes at worst: an engine notices a dead session after
// KEEPALIVE_TIMEOUT + REKEY_TIMEOUT, and up to four attempts may cross one of the other side's.
//
// Limits that are the protocol's and so are kept: of two peers one at most roams, and a wall clock
// ends where it was highest, for initiations from the past are refused.
#pragma once

#include <algorithm>
#include <map>
#include <queue>
#include <set>
#include <sstream>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "dataplane/base/rcu.h"
#include "tests/dataplane/pair.h"

namespace sallyport::test {

class Simulator {
 public:
  static constexpr Time kRecovery =
      wireguard::kKeepaliveTimeout + wireguard::kRekeyTimeout +
      4 * (wireguard::kRekeyTimeout + wireguard::kRekeyTimeoutJitterMax);

  explicit Simulator(uint64_t seed) : random_(seed) {
    FakeClock::reset();
    SeededSodium::seed(seed);
    make_nodes();
    make_links();
    make_network();
  }
  ~Simulator() {
    // Each engine waits for grace periods when it goes: let them wait together.
    std::vector<std::thread> undertakers;
    for (auto& node : nodes_) {
      undertakers.emplace_back([&node] { node.reset(); });
    }
    for (std::thread& undertaker : undertakers) {
      undertaker.join();
    }
    FakeClock::current = nullptr;
  }

  // The whole story. What went wrong, one sentence each; empty when nothing did.
  std::vector<std::string> run() {
    const Time faults_end = now() + static_cast<Time>(60 + random_.below(300)) * kSecond;
    while (now() < faults_end && broken_.empty()) {
      const uint64_t pause = random_.chance(0.05) ? random_.below(150'000) : random_.below(4'000);
      run_for(static_cast<Time>(pause) * kMillisecond);
      random_.chance(0.3) ? fault() : traffic();
    }
    calm();
    recover();
    return broken_;
  }

  uint64_t delivered() const { return delivered_; }
  uint64_t sent() const { return packets_.size(); }

 private:
  struct Packet {
    unsigned from = 0, to = 0;
    uint32_t size = 0;
    Time when = 0;
    Flow flow;
    unsigned delivered = 0;
  };
  struct Link {
    unsigned a = 0, b = 0;  // a knows b's address, always
    bool mutual = false;    // and b knows a's
    KeyBytes preshared_key{};
    uint16_t keepalive = 0;
    Time cut_until = 0;
  };
  struct InFlight {
    Time when;
    uint64_t order;  // of two at one moment, the first sent arrives first
    Datagram datagram;
    bool operator<(const InFlight& other) const {
      return std::tie(when, order) > std::tie(other.when, other.order);
    }
  };
  static constexpr uint32_t kMagic = 0x51a11e57;
  static constexpr uint32_t kPayloadMin = 16;

  static Time now() { return FakeClock::base.load(); }

  template <class... Parts>
  void broken(Parts... parts) {
    std::ostringstream out;
    (out << ... << parts) << " (at " << (now() - FakeClock::kStart) / kMillisecond << " ms)";
    broken_.push_back(out.str());
  }

  // -- The world.

  void make_nodes() {
    const unsigned count = 2 + static_cast<unsigned>(random_.below(4));
    for (unsigned i = 0; i < count; ++i) {
      NodeOptions options;
      options.workers = 1 + static_cast<unsigned>(random_.below(4));
      if (random_.chance(0.5)) {
        options.takes = {Gso::tcp4, Gso::tcp6, Gso::udp};
      }
      options.mtu = 1'420;
      nodes_.push_back(
          std::make_unique<Node>(filled_key(static_cast<uint8_t>(i + 1)), address_of(i), options));
      mobile_.push_back(random_.chance(0.3));
      nodes_.back()->clock().cost_step =
          static_cast<Time>(random_.chance(0.3) ? random_.below(30) : 0) * kMillisecond;
    }
    wall_high_.resize(count);
  }
  void make_links() {
    for (unsigned a = 0; a < nodes_.size(); ++a) {
      for (unsigned b = a + 1; b < nodes_.size(); ++b) {
        if ((mobile_[a] && mobile_[b]) || !(random_.chance(0.6) || (a == 0 && b == 1))) {
          continue;
        }
        Link link{.a = a, .b = b};
        if (mobile_[b] || (!mobile_[a] && random_.chance(0.5))) {
          std::swap(link.a, link.b);
        }
        link.mutual = !mobile_[link.a] && random_.chance(0.6);
        if (random_.chance(0.3)) {
          SeededSodium::buf(link.preshared_key.data(), link.preshared_key.size());
        }
        link.keepalive = static_cast<uint16_t>(random_.chance(0.3) ? 5 + random_.below(20) : 0);
        links_.push_back(link);
      }
    }
    for (unsigned i = 0; i < nodes_.size(); ++i) {
      introduce_all(i);
    }
  }
  void make_network() {
    loss_ = static_cast<double>(random_.below(30)) / 100;
    doubled_ = static_cast<double>(random_.below(20)) / 100;
    flipped_ = static_cast<double>(random_.below(10)) / 100;
    delay_max_ = random_.chance(0.5) ? 20 * kMillisecond : 2'500 * kMillisecond;
  }
  Endpoint address_of(unsigned node) {
    const std::string port = std::to_string(1'000 + ++moves_);
    return *parse_endpoint("192.0.2." + std::to_string(node + 1) + ":" + port);
  }

  // Tells node i of the peer it has by this link.
  void introduce(unsigned i, const Link& link) {
    const unsigned other = link.a == i ? link.b : link.a;
    const std::string number = std::to_string(other);
    PeerChange peer = as_peer(
        *nodes_[other],
        {"10.0." + number + ".0/25", "10.0." + number + ".128/25", "fd00:" + number + "::/32"},
        link.a == i || link.mutual);
    peer.preshared_key = link.preshared_key;
    peer.persistent_keepalive = link.a == i ? link.keepalive : 0;
    nodes_[i]->apply(peer);
  }
  void introduce_all(unsigned i) {
    for (const Link& link : links_) {
      if (link.a == i || link.b == i) {
        introduce(i, link);
      }
    }
  }

  // -- Traffic.

  static Bytes payload_of(uint64_t id, uint32_t size) {
    Bytes payload(size);
    Random filler(id);
    for (uint32_t i = kPayloadMin; i < size; ++i) {
      payload[i] = static_cast<uint8_t>(filler.next());
    }
    at<le32>(payload, 0) = kMagic;
    at<le32>(payload, 4) = size;
    at<le64>(payload, 8) = id;
    return payload;
  }
  Flow random_flow(unsigned from, unsigned to) {
    const bool v6 = random_.chance(0.4);
    const std::string f = std::to_string(from), t = std::to_string(to);
    Flow flow;
    flow.source = v6 ? "fd00:" + f + "::1" : "10.0." + f + "." + std::to_string(random_.below(256));
    flow.destination =
        v6 ? "fd00:" + t + "::2" : "10.0." + t + "." + std::to_string(random_.below(256));
    flow.source_port = static_cast<uint16_t>(1 + random_.below(4));
    return flow;
  }
  uint64_t note(unsigned from, unsigned to, const Flow& flow, uint32_t size) {
    packets_.push_back({from, to, size, now(), flow, 0});
    return packets_.size() - 1;
  }
  void send_one(unsigned from, unsigned to) {
    const Flow flow = random_flow(from, to);
    const auto size = kPayloadMin + static_cast<uint32_t>(random_.below(1'300));
    const uint64_t id = note(from, to, flow, size);
    host_sends(from, udp(flow, payload_of(id, size)), {});
  }
  // Several datagrams of one size in one super-packet, the last perhaps shorter.
  void send_super(unsigned from, unsigned to) {
    const Flow flow = random_flow(from, to);
    const auto size = kPayloadMin + static_cast<uint32_t>(random_.below(1'200));
    const uint64_t count = 2 + random_.below(40);
    Bytes payload;
    for (uint64_t i = 0; i < count; ++i) {
      const bool last = i + 1 == count;
      const auto part =
          last ? kPayloadMin + static_cast<uint32_t>(random_.below(size - kPayloadMin + 1)) : size;
      payload = joined(std::move(payload), payload_of(note(from, to, flow, part), part));
    }
    const auto start = static_cast<uint16_t>(flow.ip_bytes());
    Bytes packet = udp(flow, payload);
    at<be16>(packet, start + 6u) = pseudo_sum(packet);
    Offload offload;
    offload.gso = Gso::udp;
    offload.needs_checksum = true;
    offload.gso_size = static_cast<uint16_t>(size);
    offload.header_bytes = static_cast<uint16_t>(start + 8);
    offload.checksum_start = start;
    offload.checksum_offset = 6;
    host_sends(from, std::move(packet), offload);
  }
  void host_sends(unsigned from, Bytes packet, const Offload& offload) {
    MemoryPort::Frame frame;
    frame.bytes = std::move(packet);
    frame.offload = offload;
    Node& node = *nodes_[from];
    node.plain(static_cast<unsigned>(random_.below(node.workers()))).inject(std::move(frame));
  }
  void traffic() {
    if (links_.empty()) {
      return;
    }
    const Link& link = links_[random_.below(links_.size())];
    const bool forth = random_.chance(0.5);
    const unsigned from = forth ? link.a : link.b, to = forth ? link.b : link.a;
    if (random_.chance(0.2)) {
      send_super(from, to);
      return;
    }
    for (uint64_t i = random_.below(10) + 1; i > 0; --i) {
      send_one(from, to);
    }
  }

  // -- Faults.

  void fault() {
    const auto i = static_cast<unsigned>(random_.below(nodes_.size()));
    Node& node = *nodes_[i];
    switch (random_.below(10)) {
      case 0:
        node.start();
        introduce_all(i);
        break;
      case 1:  // the machine sleeps
        node.clock().boot_offset += static_cast<Time>(random_.below(400)) * kSecond;
        break;
      case 2:
        wall_high_[i] = std::max(wall_high_[i], node.clock().wall_offset);
        node.clock().wall_offset =
            static_cast<WallTime>(random_.below(7'200)) * kSecond - 3'600 * kSecond;
        break;
      case 3:
      case 4:
        if (!links_.empty()) {
          links_[random_.below(links_.size())].cut_until =
              now() + static_cast<Time>(random_.below(100)) * kSecond;
        }
        break;
      case 5:
        forget_and_remember(i);
        break;
      case 6:
        node.engine().set_up(false);
        run_for(static_cast<Time>(random_.below(3'000)) * kMillisecond);
        node.engine().set_up(true);
        break;
      case 7:
        random_.chance(0.5) ? node.connect_outer() : node.connect_plain();
        break;
      case 8:
        if (mobile_[i]) {
          node.move_to(address_of(i));
        }
        break;
      default:
        node.engine().set_mtu(static_cast<uint32_t>(1'280 + random_.below(300)));
    }
  }
  void forget_and_remember(unsigned i) {
    for (const Link& link : links_) {
      if ((link.a == i || link.b == i) && random_.chance(0.5)) {
        PeerChange change;
        change.public_key = nodes_[link.a == i ? link.b : link.a]->public_key();
        change.remove = true;
        nodes_[i]->apply(change);
        rcu_barrier_all();  // its slot comes back now, not whenever: a seed must repeat
        run_for(static_cast<Time>(random_.below(2'000)) * kMillisecond);
        introduce(i, link);
        return;
      }
    }
  }
  void calm() {
    loss_ = doubled_ = flipped_ = 0;
    delay_max_ = 0;  // and order is kept: in a rekey a packet overtaken by a handshake may be lost
    for (Link& link : links_) {
      link.cut_until = 0;
    }
    for (unsigned i = 0; i < nodes_.size(); ++i) {
      NodeClock& clock = nodes_[i]->clock();
      clock.wall_offset = std::max(wall_high_[i], clock.wall_offset);
      clock.cost_step = 0;
    }
  }

  // -- After the faults.

  // A packet each way between all peers, every second.
  void chat_for(Time duration) {
    const Time end = now() + duration;
    while (now() < end && broken_.empty()) {
      for (const Link& link : links_) {
        send_one(link.a, link.b);
        send_one(link.b, link.a);
      }
      run_for(kSecond);
    }
  }
  void recover() {
    const size_t first = packets_.size();
    chat_for(kRecovery);
    std::set<std::pair<unsigned, unsigned>> reached;
    for (size_t i = first; i < packets_.size(); ++i) {
      if (packets_[i].delivered > 0) {
        reached.emplace(packets_[i].from, packets_[i].to);
      }
    }
    for (const Link& link : links_) {
      for (const auto& [from, to] : {std::pair(link.a, link.b), std::pair(link.b, link.a)}) {
        if (!reached.contains({from, to})) {
          broken("no packet from ", from, " to ", to, " since the faults stopped");
        }
      }
    }
    // A session that outlived somebody's sleep may end for one side before the other knows: let all
    // such go by.
    chat_for(wireguard::kRejectAfterTime);
    const size_t second = packets_.size();
    chat_for(wireguard::kRekeyAfterTime + 10 * kSecond);
    run_for(kRecovery);
    for (size_t i = second; i < packets_.size(); ++i) {
      if (packets_[i].delivered == 0 && broken_.empty()) {
        broken("packet ", i, " from ", packets_[i].from, " to ", packets_[i].to,
               " was lost on a good network");
      }
    }
  }

  // -- Time.

  void run_for(Time duration) {
    const Time end = now() + duration;
    settle();
    while (now() < end && broken_.empty()) {
      Time step = end - now();
      if (!in_flight_.empty()) {
        step = std::min(step, in_flight_.top().when - now());
      }
      for (const auto& node : nodes_) {
        step = std::min(step, std::max(node->sleep(), kMillisecond));
      }
      FakeClock::advance(std::max<Time>(step, 0));
      arrive();
      settle();
    }
  }
  void settle() {
    bool moving = true;
    for (int rounds = 0; moving && broken_.empty(); ++rounds) {
      if (rounds > 10'000) {
        broken("an engine never comes to rest");
      }
      moving = false;
      for (unsigned i = 0; i < nodes_.size(); ++i) {
        moving |= nodes_[i]->step();
        depart(i);
        check_host(i);
      }
    }
  }

  // -- The network.

  void depart(unsigned i) {
    Node& node = *nodes_[i];
    for (MemoryPort* port : node.outer_ports()) {
      for (const MemoryPort::Frame& frame : port->sent()) {
        for (Bytes& bytes : frame.segments()) {
          check_nonce(i, bytes);
          send_datagram({std::move(bytes), node.address(), frame.endpoint, frame.tos, now()});
        }
      }
    }
  }
  void send_datagram(Datagram datagram) {
    if (random_.chance(loss_) || cut(datagram)) {
      return;
    }
    const int copies = random_.chance(doubled_) ? 2 : 1;
    for (int i = 0; i < copies; ++i) {
      const Time delay = delay_max_ == 0 ? 5 * kMillisecond : random_delay();
      Datagram copy = datagram;
      if (random_.chance(flipped_)) {
        damage(copy.bytes);
      }
      in_flight_.push({now() + delay, ++order_, std::move(copy)});
    }
  }
  Time random_delay() {
    const Time longest = random_.chance(0.2) ? delay_max_ : 5 * kMillisecond;
    return kMillisecond + static_cast<Time>(random_.below(static_cast<uint64_t>(longest)));
  }
  void damage(Bytes& bytes) {
    if (random_.chance(0.2)) {
      bytes.resize(1 + random_.below(bytes.size()));
    } else {
      bytes[random_.below(bytes.size())] ^= static_cast<uint8_t>(1 << random_.below(8));
    }
  }
  std::optional<unsigned> node_at(const Endpoint& address) const {
    for (unsigned i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i]->address().same_remote(address)) {
        return i;
      }
    }
    return std::nullopt;
  }
  bool cut(const Datagram& datagram) const {
    const std::optional<unsigned> from = node_at(datagram.from), to = node_at(datagram.to);
    return std::any_of(links_.begin(), links_.end(), [&](const Link& link) {
      return now() < link.cut_until &&
             ((from == link.a && to == link.b) || (from == link.b && to == link.a));
    });
  }
  void arrive() {
    while (!in_flight_.empty() && in_flight_.top().when <= now()) {
      const Datagram datagram = in_flight_.top().datagram;
      in_flight_.pop();
      const std::optional<unsigned> to = node_at(datagram.to);
      if (!to.has_value()) {
        continue;
      }
      // Mostly to the port that the kernel would choose, but any must do.
      Node& node = *nodes_[*to];
      unsigned port =
          datagram.is_data() ? (datagram.receiver() & 0xff) % node.workers() : node.workers();
      if (random_.chance(0.1)) {
        port = static_cast<unsigned>(random_.below(node.workers() + 1));
      }
      node.outer(port).inject(datagram.bytes, datagram.from, datagram.tos);
    }
  }

  // -- What must hold.

  // A receiver index may be drawn again for a later session, so a session is known by the handshake
  // message that announced its index.
  void check_nonce(unsigned from, const Bytes& bytes) {
    const wireguard::MessageKind kind = wireguard::classify(bytes.data(), bytes.size());
    const uint32_t second_word = load<le32>(bytes.data() + 4);
    if (kind == wireguard::MessageKind::initiation || kind == wireguard::MessageKind::response) {
      announced_[second_word] = ++announcements_;
    } else if (kind == wireguard::MessageKind::data) {
      const uint64_t counter = load<le64>(bytes.data() + 8);
      if (!nonces_.emplace(from, announced_[second_word], counter).second) {
        broken("engine ", from, " used counter ", counter, " twice for receiver ", second_word);
      }
    } else if (kind == wireguard::MessageKind::invalid) {
      broken("engine ", from, " sent something that is no message");
    }
  }
  void check_host(unsigned i) {
    for (const MemoryPort::Frame& frame : nodes_[i]->host_frames()) {
      const bool v6 = frame.bytes[0] >> 4 == 6;
      const uint8_t protocol = frame.bytes[v6 ? 6 : 9];
      if (protocol != kProtocolUdp) {
        continue;  // ICMP: the engine tells its host what could not be sent
      }
      const Bytes payload = udp_payload(frame.bytes);
      const size_t stride = frame.offload.gso == Gso::udp ? frame.offload.gso_size : payload.size();
      for (size_t begin = 0; begin < payload.size(); begin += stride) {
        const size_t end = std::min(begin + stride, payload.size());
        check_packet(i, frame,
                     Bytes(payload.begin() + static_cast<ptrdiff_t>(begin),
                           payload.begin() + static_cast<ptrdiff_t>(end)));
      }
    }
  }
  void check_packet(unsigned i, const MemoryPort::Frame& frame, const Bytes& payload) {
    const uint64_t id =
        payload.size() < kPayloadMin ? UINT64_MAX : uint64_t{load<le64>(payload.data() + 8)};
    if (id >= packets_.size()) {
      broken("host ", i, " got something nobody sent");
      return;
    }
    Packet& packet = packets_[id];
    const size_t addresses = packet.flow.v6() ? 8 : 12;
    const Bytes sent = udp(packet.flow, {});
    if (payload != payload_of(id, packet.size) ||
        !std::equal(sent.begin() + static_cast<ptrdiff_t>(addresses),
                    sent.begin() + static_cast<ptrdiff_t>(packet.flow.ip_bytes()) + 4,
                    frame.bytes.begin() + static_cast<ptrdiff_t>(addresses))) {
      broken("packet ", id, " arrived changed");
    }
    if (packet.to != i) {
      broken("packet ", id, " for ", packet.to, " arrived at ", i);
    }
    if (frame.offload.gso == Gso::none && !checksums_right(frame.bytes)) {
      broken("packet ", id, " arrived with a wrong checksum");
    }
    if (++packet.delivered > 1) {
      broken("packet ", id, " arrived twice");
    }
    ++delivered_;
  }

  Random random_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<bool> mobile_;
  std::vector<WallTime> wall_high_;
  std::vector<Link> links_;
  double loss_ = 0, doubled_ = 0, flipped_ = 0;
  Time delay_max_ = 0;  // 0: all take the same time
  unsigned moves_ = 0;

  std::priority_queue<InFlight> in_flight_;
  uint64_t order_ = 0;
  std::vector<Packet> packets_;
  std::unordered_map<uint32_t, uint64_t> announced_;
  uint64_t announcements_ = 0;
  std::set<std::tuple<unsigned, uint64_t, uint64_t>> nonces_;
  uint64_t delivered_ = 0;
  std::vector<std::string> broken_;
};

}  // namespace sallyport::test
