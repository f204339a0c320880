// An engine against a peer that holds valid keys and says anything: past mac1, past the cipher.
//
// Input: a list of small orders. Seal a packet whose bytes are the input's, or change one after
// sealing; hand over raw bytes; make a handshake message, change it, and put a right mac1 under it;
// answer the engine's own initiation; hand over a frame on the plain side as a TUN would; let time
// pass. Each input begins with a session of its own on one long-lived engine of two workers, so a
// buffer lost anywhere is a pool that runs dry here.
//
// Invariants: what reaches the host is a whole IP packet, from the peer's own addresses or an ICMP
// error, and its offload is one a kernel would accept; what goes out is a message, opens under the
// session's key, and no counter comes twice.
#include <cstdlib>
#include <set>

#include "dataplane/engine.h"
#include "dataplane/net/parse.h"
#include "dataplane/wireguard/cookie.h"
#include "dataplane/wireguard/handshake.h"
#include "tests/dataplane/fake_clock.h"
#include "tests/dataplane/net/packets.h"
#include "tun/memory_port.h"
#include "tun/vnet.h"

using namespace sallyport;
using namespace sallyport::test;
using wireguard::MessageKind;

namespace {

constexpr unsigned kWorkers = 2;

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

struct Input {
  const uint8_t* at;
  const uint8_t* end;

  bool empty() const { return at == end; }
  uint8_t byte() { return empty() ? uint8_t{0} : *at++; }
  uint32_t word() {
    const uint32_t high = byte();
    return high << 8 | byte();
  }
  Bytes bytes(size_t most) {
    const size_t length = std::min({size_t{word()}, most, static_cast<size_t>(end - at)});
    const Bytes out(at, at + length);
    at += length;
    return out;
  }
};

KeyBytes key_of(uint8_t byte) {
  KeyBytes key;
  key.fill(byte);
  return key;
}

Endpoint address_of(const char* text) {
  return *parse_endpoint(text);
}

class World {
 public:
  World() {
    EngineOptions options;
    options.workers = kWorkers;
    options.buffers_per_worker = 96;
    options.clock = FakeClock::now;
    options.wall_clock = FakeClock::wall;
    options.cost_clock = FakeClock::cost;
    engine_ = std::make_unique<Engine>(options);
    std::vector<std::unique_ptr<Port>> plain, outer;
    for (unsigned i = 0; i <= kWorkers; ++i) {
      auto port = std::make_unique<MemoryPort>();
      outer_.push_back(port.get());
      outer.push_back(std::move(port));
    }
    for (unsigned i = 0; i < kWorkers; ++i) {
      auto port = std::make_unique<MemoryPort>();
      for (const Gso kind : {Gso::tcp4, Gso::tcp6, Gso::udp}) {
        port->set_takes(kind, i == 0);
      }
      plain_.push_back(port.get());
      plain.push_back(std::move(port));
    }
    engine_->set_plain_ports(std::move(plain));
    engine_->set_outer_ports(std::move(outer));
    identity_.set_private_key(key_of(0x22).data());
    wireguard::Identity theirs;
    theirs.set_private_key(key_of(0x11).data());
    handshake_.set_identities(identity_, theirs.public_key);
    cookies_.set_remote(theirs.public_key);
    TunnelChange change;
    change.private_key = key_of(0x11);
    PeerChange peer;
    peer.public_key = identity_.public_key;
    peer.endpoint = address_of("192.0.2.2:2000");
    peer.allowed_ips = {{*parse_prefix("10.0.0.2/32"), false},
                        {*parse_prefix("fd00::2/128"), false}};
    change.peers.push_back(peer);
    require(engine_->apply(change).has_value());
    engine_->set_up(true);
  }

  // Everything earlier is forgotten, and a session of ours begins.
  void begin() {
    FakeClock::advance(1000 * kSecond);
    settle();
    counter_ = 0;
    seen_.clear();
    keypair_.reset();
    last_initiation_.clear();
    hand(initiation(), kWorkers);
    settle();
    require(keypair_ != nullptr);
    hand(sealed({}), 0);
    settle();
  }

  void obey(Input& input) {
    const uint8_t order = input.byte();
    const unsigned port = (order >> 4) % (kWorkers + 1);
    switch (order % 8) {
      case 0:
        hand(sealed(packet(input)), port, input.byte());
        return;
      case 1:
        train(input, port);
        return;
      case 2:
        hand(input.bytes(2000), port, input.byte());
        return;
      case 3:
        hand(changed(initiation(), input, true), port);
        return;
      case 4:
        hand(changed(answer(), input, true), port);
        return;
      case 5:
        hand(changed(sealed(packet(input)), input, false), port);
        return;
      case 6:
        from_host(input, port % kWorkers);
        return;
      default:
        FakeClock::advance(Time{input.word()} * kMillisecond);
        settle();
        return;
    }
  }

  void settle() {
    for (int rounds = 0;; ++rounds) {
      require(rounds < 1000);
      bool worked = false;
      for (unsigned i = 0; i < kWorkers; ++i) {
        worked |= engine_->step_worker(i);
      }
      worked |= engine_->step_handshaker();
      check_plain();
      check_outer();
      if (!worked) {
        break;
      }
    }
    for (const MemoryPort* port : outer_) {
      require(port->waiting() == 0);  // a pool that ran dry takes no more
    }
  }

 private:
  // -- Making things.

  // A good packet from or to the peer, overwritten here and there.
  static Bytes packet(Input& input, bool to_peer = false) {
    const uint8_t kind = input.byte();
    Packet words;
    words.family = kind % 2 == 0 ? Family::v4 : Family::v6;
    words.protocol = (kind & 2) == 0 ? kProtocolTcp : kProtocolUdp;
    words.source = to_peer ? 1 : 2;
    words.destination = to_peer ? 2 : 1;
    words.sequence = (kind >> 4) * 100u;
    words.payload = Bytes((kind & 4) == 0 ? 100 : input.word() % 9000);
    Bytes bytes = build(words);
    for (unsigned changes = (kind & 8) == 0 ? 0 : input.byte() % 8; changes > 0; --changes) {
      const size_t at = input.byte() % bytes.size();
      bytes[at] = input.byte();
    }
    return bytes;
  }

  Bytes sealed(const Bytes& inner) {
    Bytes out(16 + inner.size() + 16);
    auto* header = reinterpret_cast<wireguard::MessageData*>(out.data());
    header->type = 4;
    header->receiver = keypair_->remote_index;
    header->counter = counter_;
    std::copy(inner.begin(), inner.end(), out.begin() + 16);
    crypto::aead_seal_with_ad(std::span(out).subspan(16), inner, {},
                              std::span(keypair_->sending.bytes), counter_);
    ++counter_;
    return out;
  }

  void train(Input& input, unsigned port) {
    const uint32_t stride = input.byte() % 128 + 1u + (input.byte() % 2 == 0 ? 0u : 64u);
    Bytes bytes;
    for (unsigned datagrams = input.byte(); datagrams > 0 && bytes.size() < 40'000; --datagrams) {
      Bytes datagram = sealed(packet(input));
      datagram.resize(datagrams % 7 == 0 ? stride : datagram.size());
      bytes.insert(bytes.end(), datagram.begin(), datagram.end());
    }
    if (!bytes.empty()) {
      outer_[port]->inject_train(bytes, input.byte() % 2 == 0 ? 172 : stride,
                                 address_of("192.0.2.2:2000"));
    }
  }

  Bytes initiation() {
    wireguard::MessageInitiation message;
    require(handshake_.create_initiation(identity_, FakeClock::wall(), ++index_, message));
    return with_macs({reinterpret_cast<uint8_t*>(&message),
                      reinterpret_cast<uint8_t*>(&message) + sizeof(message)});
  }

  // A response to what the engine last asked; without such, an initiation of a kind.
  Bytes answer() {
    wireguard::OpenedInitiation opened;
    wireguard::MessageResponse message;
    if (last_initiation_.size() != sizeof(wireguard::MessageInitiation) ||
        !wireguard::open_initiation(
            identity_,
            *reinterpret_cast<const wireguard::MessageInitiation*>(last_initiation_.data()),
            opened) ||
        wireguard::accept_initiation(handshake_, opened, FakeClock::now()) !=
            wireguard::InitiationVerdict::accepted ||
        !handshake_.create_response(identity_, ++index_, message)) {
      return initiation();
    }
    handshake_.clear();
    return with_macs({reinterpret_cast<uint8_t*>(&message),
                      reinterpret_cast<uint8_t*>(&message) + sizeof(message)});
  }

  Bytes with_macs(Bytes message) {
    cookies_.add_macs(FakeClock::now(), message.data(), message.size());
    return message;
  }

  Bytes changed(Bytes message, Input& input, bool macs) {
    for (unsigned changes = input.byte() % 4; changes > 0; --changes) {
      const size_t at = input.word() % message.size();
      message[at] = input.byte();
    }
    return macs ? with_macs(std::move(message)) : message;
  }

  void hand(const Bytes& bytes, unsigned port, uint8_t tos = 0) {
    if (!bytes.empty()) {
      outer_[port]->inject(bytes, address_of("192.0.2.2:2000"), tos);
    }
  }

  // A TUN's frames have been through read_vnet().
  void from_host(Input& input, unsigned port) {
    MemoryPort::Frame frame;
    frame.bytes = packet(input, true);
    const bool v6 = frame.bytes[0] >> 4 == 6;
    const bool udp = frame.bytes[v6 ? 6 : 9] == kProtocolUdp;
    VnetHeader header{};
    const uint8_t how = input.byte();
    if (how % 4 != 0) {
      header.flags = 1;
      header.checksum_start = v6 ? 40 : 20;
      header.checksum_offset = udp ? 6 : 16;
    }
    if (how % 4 > 1) {
      header.gso_type = udp ? 5 : v6 ? 4 : 1;
      header.gso_size = static_cast<uint16_t>(input.word());
    }
    if (how % 4 == 3) {
      header.checksum_start = static_cast<uint16_t>(input.word() % 200);
    }
    if (read_vnet(header, frame.bytes, frame.offload)) {
      plain_[port]->inject(std::move(frame));
    }
  }

  // -- Looking at what comes out.

  void check_plain() {
    constexpr uint8_t kPeer4[4] = {10, 0, 0, 2};
    uint8_t peer6[16] = {0xfd};
    peer6[15] = 2;
    for (MemoryPort* port : plain_) {
      for (const MemoryPort::Frame& frame : port->sent()) {
        const auto size = static_cast<uint32_t>(frame.bytes.size());
        Bytes bytes = frame.bytes;
        require(ip_length(bytes.data(), size) == size);
        Run run;
        run.head = bytes.data();
        run.head_bytes = size;
        require(parse(run));
        const bool v4 = run.family == Family::v4;
        const bool from_peer = std::memcmp(run.source(), v4 ? kPeer4 : peer6, v4 ? 4 : 16) == 0;
        const bool an_error = run.protocol == (v4 ? kProtocolIcmp : kProtocolIcmpv6);
        require(from_peer || an_error);
        Offload again;
        require(read_vnet(write_vnet(frame.offload), bytes, again));
        require(again.gso == frame.offload.gso && again.gso_size == frame.offload.gso_size);
        require(frame.offload.gso == Gso::none || port->takes(frame.offload.gso));
      }
    }
  }

  void check_outer() {
    for (MemoryPort* port : outer_) {
      for (const MemoryPort::Frame& frame : port->sent()) {
        for (Bytes& datagram : frame.segments()) {
          check_datagram(datagram);
        }
      }
    }
  }

  void check_datagram(Bytes& bytes) {
    switch (wireguard::classify(bytes.data(), bytes.size())) {
      case MessageKind::initiation:
        last_initiation_ = bytes;
        return;
      case MessageKind::response:
        take_response(bytes);
        return;
      case MessageKind::cookie_reply:
        return;
      case MessageKind::data:
        break;
      case MessageKind::invalid:
        std::abort();
    }
    const auto* header = reinterpret_cast<const wireguard::MessageData*>(bytes.data());
    if (keypair_ == nullptr || header->receiver != keypair_->local_index) {
      return;  // a session that an answer of ours began
    }
    require(seen_.insert(header->counter).second);
    Bytes plain(bytes.size() - 32);
    require(crypto::aead_open_with_ad(plain, std::span(bytes).subspan(16), {},
                                      std::span(keypair_->receiving.bytes), header->counter));
    require(plain.empty() || ip_length(plain.data(), static_cast<uint32_t>(plain.size())) > 0);
  }

  // The first of an input makes the session that it works with.
  void take_response(const Bytes& bytes) {
    const auto* response = reinterpret_cast<const wireguard::MessageResponse*>(bytes.data());
    if (keypair_ != nullptr || !handshake_.consume_response(identity_, *response)) {
      return;
    }
    keypair_ = std::make_unique<wireguard::Keypair>();
    require(handshake_.derive(FakeClock::now(), *keypair_));
  }

  std::unique_ptr<Engine> engine_;
  std::vector<MemoryPort*> outer_, plain_;
  wireguard::Identity identity_;
  wireguard::Handshake handshake_;
  wireguard::CookieJar cookies_;
  std::unique_ptr<wireguard::Keypair> keypair_;
  uint64_t counter_ = 0;
  uint32_t index_ = 0;
  std::set<uint64_t> seen_;
  Bytes last_initiation_;
};

}  // namespace

// The engine lives on between inputs, and its pool's lock-free queue packs its pointers where a
// leak checker finds none.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0";
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  Input input{data, data + size};
  world.begin();
  while (!input.empty()) {
    world.obey(input);
    if (input.byte() % 4 != 0) {
      world.settle();
    }
  }
  world.settle();
  return 0;
}
