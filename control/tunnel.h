// TunnelControl: one interface as control steers it. It owns the engine, opens and closes its outer
// sockets with the link, and carries out UAPI requests.
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
  TunnelControl(std::string interface, const EngineOptions& options,
                std::vector<std::unique_ptr<Port>> plain_ports);

  Engine& engine() { return engine_; }

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
  Result<void> mark_ports(uint32_t fwmark);
  void take_mark_back();
  Result<void> start_listening();
  void stop_listening();

  std::string interface_;
  Engine engine_;
  LinkState link_;
  bool listening_ = false;
  uint16_t asked_port_ = 0;  // by configuration; 0 any
  uint16_t port_ = 0;        // asked for or, once bound, actual
  uint32_t fwmark_ = 0;
};

}  // namespace sallyport
