// TunnelControl: one interface as control steers it: one tunnel of an engine, its outer sockets, which it opens and
// closes with the link, and UAPI requests.
//
// A request is all or nothing: what can fail is done first (new sockets are opened beside the old ones,
// the mark is set on sockets in use and taken back if the rest fails), then the engine takes the change.
// As with wireguard-go the UDP port is bound while the interface is up, and a port that was picked at
// random stays the same over down and up.
//
// Knows no TUN: the plain ports come ready, the link's state is told. Thread rules: control's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "control/link_watch.h"
#include "control/uapi.h"
#include "dataplane/engine.h"

namespace sallyport {

class TunnelControl {
 public:
  // The tunnel of this number is there, and stays as long as this does.
  TunnelControl(std::string interface, Engine& engine, TunnelNumber number,
                std::vector<std::unique_ptr<Port>> plain_ports);

  TunnelNumber number() const { return number_; }

  // The interface that outer datagrams are bound to, from the next opening of sockets on; empty: routing decides.
  void set_underlay(std::string device) { underlay_ = std::move(device); }
  // Outer datagrams go through that tunnel instead of sockets; kNoTunnel: sockets. From the next opening on.
  void set_via(TunnelNumber via) { via_ = via; }
  // Outer datagrams are never fragmented, and peers' path MTUs learned; from the next opening of sockets on. The kernel module fragments.
  void set_never_fragment(bool never) { never_fragment_ = never; }
  // As if the link went down and up: for a change that sockets cannot take live.
  Result<void> reopen();

  // The UAPI.
  Result<void> set(const SetRequest& request);
  std::string get() const;
  std::string status() const;

  // The link went up or down or got another MTU. When it is up and the port cannot be had, this fails,
  // and the tunnel stays down: the caller should set the link down again, as the kernel would.
  Result<void> link_changed(const LinkState& link);

  uint16_t listen_port() const { return port_; }
  bool listening() const { return listening_; }

 private:
  using Ports = std::vector<std::unique_ptr<Port>>;

  Result<Ports> open_ports(uint16_t& port, uint32_t fwmark) const;
  Result<void> open_outer(uint16_t& port, uint32_t fwmark);
  Result<void> mark_ports(uint32_t fwmark);
  void take_mark_back();
  Result<void> start_listening();
  void stop_listening();

  std::string interface_;
  Engine& engine_;
  const TunnelNumber number_;
  std::string underlay_;
  bool never_fragment_ = false;
  TunnelNumber via_ = kNoTunnel;
  LinkState link_;
  bool listening_ = false;
  uint16_t asked_port_ = 0;  // by configuration; 0 any
  uint16_t port_ = 0;        // asked for or, once bound, actual
  uint32_t fwmark_ = 0;
};

}  // namespace sallyport
