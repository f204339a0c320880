// Engine: the data plane as control sees it. Workers, tunnels with a handshaker each, and the snapshot they all read.
//
// Control makes an Engine, gives it ports, and steers it with whole changes: a TunnelChange is checked by control before
// it comes here and applied in one go. Nothing here blocks on a worker: ports and settings reach workers by a new
// Snapshot (one pointer store), and what they replace is freed after a grace period.
//
// Tunnels have numbers. An engine begins with those that its options ask for, and more are added and removed as it runs.
//
// Thread rules: all methods are control's (one thread), but for status() and describe(), which any thread may call as long as the
// tunnel stays. run_threads() starts a thread a worker and one a tunnel for handshakes. Without it, whoever holds the engine
// steps it (tests, simulator): the same code, one thread, any clock.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/base/clock.h"
#include "dataplane/net/address.h"
#include "dataplane/path/drop.h"
#include "dataplane/path/peer_tags.h"
#include "dataplane/path/policy.h"
#include "dataplane/path/snapshot.h"
#include "dataplane/path/tap.h"
#include "dataplane/port.h"
#include "dataplane/wireguard/handshake.h"

namespace sallyport {

using KeyBytes = std::array<uint8_t, 32>;

// -- What control asks for. Keys are as in the UAPI: absent means "leave as it is".

struct AllowedIpChange {
  IpPrefix prefix;
  bool remove = false;
  // Others that have the same prefix keep it (path/tunnel.h): policy picks the peer to send to. Otherwise it moves here.
  bool shared = false;
};

struct PeerChange {
  wireguard::PublicKey public_key{};
  bool remove = false;
  bool update_only = false;
  bool replace_allowed_ips = false;
  std::optional<KeyBytes> preshared_key;  // all zero: none
  std::optional<Endpoint> endpoint;
  std::optional<uint16_t> persistent_keepalive;
  std::optional<uint32_t> path_mtu;  // of outer datagrams, headers included; 0: not known
  std::vector<AllowedIpChange> allowed_ips;
};

struct TunnelChange {
  std::optional<KeyBytes> private_key;  // all zero: none
  std::optional<uint32_t> fwmark;       // control sets it on the sockets; kept here to be shown
  bool replace_peers = false;
  std::vector<PeerChange> peers;  // in order; the same peer may come more than once
};

// -- What control is told.

struct PeerState {
  wireguard::PublicKey public_key{};
  KeyBytes preshared_key{};
  Endpoint endpoint;
  std::vector<IpPrefix> allowed_ips;
  uint16_t persistent_keepalive = 0;
  WallTime last_handshake = 0;  // 0 never
  uint64_t rx_bytes = 0, tx_bytes = 0, rx_packets = 0, tx_packets = 0;
  uint64_t handshakes = 0;
  std::array<uint32_t, kDropReasons> drops{};
};

struct TunnelState {
  KeyBytes private_key{};  // all zero: none
  KeyBytes public_key{};
  uint32_t fwmark = 0;
  std::vector<PeerState> peers;  // in the order they were added
};

struct WorkerStatus {
  uint64_t rx_packets = 0, tx_packets = 0;  // tunnel packets opened and sealed
  uint64_t rx_runs = 0, tx_runs = 0;        // and in how many runs
  uint64_t wakeups = 0;
  uint64_t handed_over = 0;  // datagrams that arrived here and belonged to another worker
  uint64_t assisted = 0;     // tunnel packets that others opened for this one
  Time busy = 0;             // time spent on packets since start
  std::array<uint64_t, kDropReasons> drops{};
};

struct EngineStatus {
  std::vector<WorkerStatus> workers;
  WorkerStatus handshaker;  // from here on, of the tunnel asked about
  uint64_t handshakes_initiated = 0, handshakes_answered = 0, sessions_derived = 0,
           cookies_sent = 0;
  bool under_load = false;
  std::string aead;  // the implementation in use
  size_t buffers = 0, buffer_bytes_reserved = 0;
  size_t staging_blocks_free = 0;
  size_t indices = 0;  // receiver indices in use
  std::vector<PortStatus> plain_ports, outer_ports;
  Time uptime = 0;
};

// What is known of a peer by its tag, without all the rest of its tunnel.
struct PeerBrief {
  TunnelNumber tunnel = 0;
  wireguard::PublicKey public_key{};
  Endpoint endpoint;
  WallTime last_handshake = 0;  // 0 never
  bool has_session = false;     // that can seal now
};

// A packet to be explained: as if it came in by this side of this tunnel.
struct PacketToExplain {
  TunnelNumber tunnel = 0;
  std::optional<uint32_t> from_tag;  // the peer it comes from; nothing: the host
  std::vector<uint8_t> packet;       // whole, from its IP header on
};

struct Explanation {
  Trace trace;
  bool discarded = false;
  bool to_peer = false;   // else to the host, when not discarded
  PeerBrief peer;         // that one
  TunnelNumber port = 0;  // to the host: the tunnel whose plain port it leaves by
  uint32_t mtu = 0;       // of the tunnel it leaves by
};

struct EngineOptions {
  unsigned workers = 1;  // 1 to wireguard::kWorkersMax
  unsigned tunnels = 1;  // at start
  size_t buffers_per_worker = 192;
  // Whether workers help each other to open large bursts (path/assist.h). Automatic: with three workers and more.
  enum class Assistance { automatic, never, always } assistance = Assistance::automatic;
  size_t staging_blocks = 4096;  // of 2 KiB, for packets that wait for a handshake
  Time (*clock)() = now_boottime;
  WallTime (*wall_clock)() = now_wall;
  Time (*cost_clock)() =
      now_boottime;  // measures how long handshakes take; a simulator gives its own
};

class Engine {
 public:
  explicit Engine(const EngineOptions& options);
  ~Engine();  // stops threads, frees everything
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  unsigned workers() const;

  // A new tunnel, down and without ports. Its number was never used, or its last bearer is gone altogether.
  TunnelNumber add_tunnel();
  // Its peers, sessions and ports go. Waits for a grace period.
  void remove_tunnel(TunnelNumber tunnel);

  // One plain port a worker. The old ones are freed once no worker can be using them.
  void set_plain_ports(std::vector<std::unique_ptr<Port>> ports, TunnelNumber tunnel = 0);
  // One outer port a worker, and the handshake socket last: workers + 1. Empty: no sockets (interface down).
  void set_outer_ports(std::vector<std::unique_ptr<Port>> ports, TunnelNumber tunnel = 0);
  // For live changes on the ports in use (fwmark); control's thread, valid until the next set_outer_ports.
  const std::vector<std::unique_ptr<Port>>& outer_ports(TunnelNumber tunnel = 0) const;

  // Outer datagrams are packets of another tunnel (path/nest.h), from and to this port. kNoTunnel: no more; then it has no ports at all.
  void set_via(TunnelNumber via, uint16_t listen_port, TunnelNumber tunnel);

  void set_mtu(uint32_t mtu, TunnelNumber tunnel = 0);  // of the plain ports: bounds padding
  // Of the plain side: the sources of what is masqueraded into this tunnel. Unset: none of that family.
  void set_addresses(const IpAddress& v4, const IpAddress& v6, TunnelNumber tunnel = 0);
  // And of what is masqueraded towards the host.
  void set_host_addresses(const IpAddress& v4, const IpAddress& v6);
  // What is made of the MSS that TCP asks for through this tunnel; `bytes` for MssMode::fixed.
  void set_mss(MssMode mode, uint32_t bytes, TunnelNumber tunnel = 0);
  // Down: nothing is sent, sessions are forgotten (as in the kernel module). Up again: persistent keepalives start.
  void set_up(bool up, TunnelNumber tunnel = 0);

  // Fails only when it would exceed kPeersMax (counted before anything changes). A change for our own public key is
  // ignored, as in the kernel module.
  Result<void> apply(const TunnelChange& change, TunnelNumber tunnel = 0);

  TunnelState describe(TunnelNumber tunnel = 0) const;
  EngineStatus status(TunnelNumber tunnel = 0) const;

  // -- Policy. Its tags come from here, and so it is built for this engine.
  const PeerTags& tags() const;
  // The tag of this peer, whether or not there is such a peer now. Fails when there are no more tags.
  Result<uint32_t> tag(const wireguard::PublicKey& key, TunnelNumber tunnel);
  void set_policy(
      std::unique_ptr<Policy> policy);  // null: none. The old one goes after a grace period
  const Policy* policy() const;         // in force; valid until the next set_policy
  // What flows remember of the policy is asked anew: the content of a set is another.
  void renew_decisions();
  // Flows whose answers come to this address go; returns how many.
  size_t forget_flows_to(const IpAddress& address);

  // Flows that have been quiet for too long go, of the next `budget` that are looked at; returns how many went. Workers do it
  // too, but only while packets come.
  size_t sweep_flows(size_t budget);

  std::optional<PeerBrief> brief(uint32_t tag) const;  // nothing: there is no such peer now
  void want_session(uint32_t tag);  // begins a handshake, unless one has just been tried
  // An IP packet of our own to a peer, by the tunnel and past all policy. False: no such peer, or no room.
  bool send_packet(uint32_t tag, std::span<const uint8_t> packet);

  // An IP packet as if the host sent it into that tunnel. False: no room.
  bool inject(TunnelNumber tunnel, std::span<const uint8_t> packet);
  // Is it one, of either direction, of a flow that is remembered, from the host's side; or an error about one?
  bool knows_flow_of(std::span<const uint8_t> packet) const;

  // Takes the packet through policy and route, as a rehearsal. Fails when it is no IP packet or nobody has the tunnel.
  Result<Explanation> explain(const PacketToExplain& query) const;

  void set_tap(std::unique_ptr<Tap> tap);  // null: none
  Tap* tap() const;

  void run_threads();
  void stop_threads();
  // Readable when a port in use has gone away (TUN deleted).
  int gone_fd() const;

  // Single-threaded stepping. Each returns true if there was anything to do.
  bool step_worker(unsigned worker);
  bool step_handshaker(TunnelNumber tunnel = 0);
  // How long, from the clock's now, until step_handshaker() has something to do by itself.
  Time handshaker_sleep(TunnelNumber tunnel = 0) const;

 private:
  struct Inside;
  std::unique_ptr<Inside> inside_;
};

}  // namespace sallyport
