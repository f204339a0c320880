// HostNat: what NAT needs of the host: the addresses it sends from, what is to be brought to us (control/claims.h), leave to
// forward, and a look at its ICMP.
//
// IPv4 forwarding is allowed on our TUNs and on the link that leads out, by netlink, and stays so. IPv6 has one switch for the whole
// host, which changes what it makes of router advertisements; that is not ours to turn: a warning says where it is off.
//
// Looks every few seconds whether the host got another address: new flows take it, and flows that went out with the old one
// are forgotten, since nothing comes back for them.
//
// Thread rules: control's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "control/claims.h"
#include "control/host_claims.h"
#include "control/icmp_tap.h"
#include "control/netlink.h"

namespace sallyport {

class HostNat {
 public:
  // The tunnels there are, by name.
  struct Tunnels {
    std::map<std::string, uint32_t> links;
    std::map<std::string, uint16_t> listen_ports;
    std::map<std::string, TunnelNumber> numbers;
  };

  HostNat(boost::asio::io_context& context, Engine& engine) : context_(context), engine_(engine) {}
  ~HostNat();  // takes everything back but the leave to forward

  // All of it, or why not; then the caller applies what was before.
  Result<void> apply(const config::Config& config, const Tunnels& tunnels);
  // The same again where something has changed, or somebody else has changed it.
  void look_after(const config::Config& config, const Tunnels& tunnels);

 private:
  ClaimFacts facts_for(const config::Config& config, const Tunnels& tunnels);
  Result<void> allow_forwarding(const config::Config& config, const Claims& claims);
  void say_host_addresses(const ClaimFacts& facts);

  boost::asio::io_context& context_;
  Engine& engine_;
  std::unique_ptr<HostClaims> claims_;
  HostClaims::Options options_;
  std::unique_ptr<IcmpTap> tap_;
  IpAddress host_v4_, host_v6_;
  std::map<Family, uint32_t> ways_out_;  // the links that the host sends by
};

}  // namespace sallyport
