// IcmpTap: a second look at the ICMP that the host receives for its own addresses.
//
// Who sends as the host (masquerade towards it) is answered at the host's address. TCP and UDP come to us by their ports
// (control/claims.h); an echo reply or an error has none that a rule could ask for. So the host keeps its ICMP, and raw sockets
// see a copy: what is of one of our flows goes through the engine as if the host had sent it into the tunnel, and the host, which
// knows nothing of it, ignores its own.
//
// Costs: a message that is not ours costs a read and a lookup; other types never leave the kernel. At most kReadsMax at once.
// Needs CAP_NET_RAW. Thread rules: the io_context's. Sources: raw(7), icmp(7), RFC 3542 for ICMPv6.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <memory>

#include "dataplane/base/result.h"
#include "dataplane/engine.h"

namespace sallyport {

class IcmpTap {
 public:
  static Result<std::unique_ptr<IcmpTap>> open(boost::asio::io_context& context, Engine& engine,
                                               TunnelNumber tunnel);
  IcmpTap(const IcmpTap&) = delete;
  IcmpTap& operator=(const IcmpTap&) = delete;

  TunnelNumber tunnel() const { return tunnel_; }

 private:
  static constexpr int kReadsMax = 64;

  IcmpTap(boost::asio::io_context& context, Engine& engine, TunnelNumber tunnel)
      : engine_(engine), tunnel_(tunnel), v4_(context), v6_(context) {}
  void wait(Family family);
  size_t read(Family family, std::span<uint8_t> room);

  Engine& engine_;
  const TunnelNumber tunnel_;
  boost::asio::posix::stream_descriptor v4_, v6_;  // v6_ may be closed: no such family
  std::shared_ptr<bool> alive_ =
      std::make_shared<bool>(true);  // a wait that is over may outlive this
};

}  // namespace sallyport
