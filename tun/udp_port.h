// The outer side: UDP sockets that share a listening port, one port a worker and one more for
// handshakes.
//
// A UdpPort is one v4 and one v6 socket, where the kernel has both. A UdpGroup makes all of them in
// one go: the first socket of each family is bound alone, so that a port in use is noticed even
// when its owner shares it too; then all share, and steering (tun/steer.h) is attached. With port 0
// the kernel picks one that is free in both families.
//
// Works without steering where the kernel refuses it (status says so). Costs one system call
// for each 16 trains, and two an idle rx().
// Threads: a port's rx and tx from one thread; set_fwmark and status from any. Opening is
// control's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "dataplane/base/result.h"
#include "dataplane/port.h"
#include "tun/udp_socket.h"

namespace sallyport {

class UdpPort final : public Port {
 public:
  static constexpr size_t kRxBytesMax = 256 * 1024;
  static constexpr unsigned kQuietTurns = 8;

  // Either socket may be absent.
  UdpPort(std::string name, std::unique_ptr<UdpSocket> v4, std::unique_ptr<UdpSocket> v6);

  size_t rx(std::span<RxFrame> frames, BufferCache& cache) override;
  void tx(std::span<TxFrame> frames) override;
  Descriptors descriptors() const override;
  PortStatus status() const override;

  Result<void> set_fwmark(uint32_t mark);

 private:
  friend class UdpGroup;
  UdpSocket* socket(Family family) const;
  size_t receive(unsigned family, std::span<RxFrame> frames, BufferCache& cache);

  std::string name_;
  std::unique_ptr<UdpSocket> v4_;
  std::unique_ptr<UdpSocket> v6_;
  std::string why_no_v4_;
  std::string why_no_v6_;
  std::string why_no_steering_;
  unsigned busy_ = 0;  // the family that talked last: 0 is v4, 1 is v6
  unsigned skip_ = 0;  // calls for which the other one need not be asked
};

struct UdpGroupOptions {
  uint16_t port = 0;  // 0: any
  uint32_t fwmark = 0;
  unsigned workers = 1;  // 1 to 256
  bool v4 = true;
  bool v6 = true;
  std::string device{};  // bound to this interface; empty: routing decides
  bool never_fragment = false;
};

class UdpGroup {
 public:
  static Result<UdpGroup> open(const UdpGroupOptions& options);

  uint16_t port() const { return port_; }

  // workers + 1 ports, the handshakes' last; once.
  std::vector<std::unique_ptr<Port>> take_ports();

 private:
  UdpGroup() = default;
  using Sockets = std::vector<std::unique_ptr<UdpSocket>>;
  static Result<uint16_t> open_first(Family family, const UdpGroupOptions& options, uint16_t port,
                                     Sockets& out, std::string& why_absent);
  Result<void> open_rest(Family family, const UdpGroupOptions& options, Sockets& sockets) const;
  Result<void> assemble(const UdpGroupOptions& options);

  uint16_t port_ = 0;
  Sockets v4_;
  Sockets v6_;
  std::string why_no_v4_ = "not asked for";
  std::string why_no_v6_ = "not asked for";
  std::vector<std::unique_ptr<Port>> ports_;
};

}  // namespace sallyport
