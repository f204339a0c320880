// A TUN device: made or found by name, or handed in as a descriptor; its offloads negotiated; its
// queues as ports.
//
// Non-persistent: the device lives as long as one of its queues is open, that is, as long as the
// ports. TunDevice itself holds only a control socket, so keep it for mtu() and is_up() and give
// its ports to the engine. A worker without a queue of its own (the kernel or the descriptor allows
// only fewer) gets a port that can send but never receives; the queues there are then feed the
// first workers.
//
// A name is taken when a device of another process, or of another kind, has it. A persistent TUN
// that nobody is attached to (ip tuntap add, systemd-networkd) is adopted by its name, so that no
// privilege is needed.
//
// Cold, control's thread. Everything happens in the network namespace of the calling thread.
// Source: Linux' Documentation/networking/tuntap.rst.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "dataplane/base/result.h"
#include "tun/tun_port.h"

namespace sallyport {

class TunDevice {
 public:
  static constexpr uint32_t kDefaultMtu = 1420;
  static constexpr unsigned kQueuesMax = 256;  // the kernel's MAX_TAP_QUEUES

  static Result<TunDevice> open(const std::string& name, unsigned queues,
                                TunCalls calls = TunCalls::batched);
  // Takes the descriptor over, also when it fails.
  static Result<TunDevice> adopt(int fd, unsigned queues, TunCalls calls = TunCalls::batched);

  TunDevice(TunDevice&& other) noexcept;
  TunDevice& operator=(TunDevice&& other) noexcept;
  ~TunDevice();

  // Exactly `queues` ports, once.
  std::vector<std::unique_ptr<Port>> take_ports();

  const std::string& name() const { return name_; }
  unsigned queues() const { return queues_; }  // of the device, at most as many as asked for
  const TunFeatures& features() const { return features_; }

  Result<unsigned> index() const;  // ENODEV once the device is gone
  Result<uint32_t> mtu() const;
  Result<void> set_mtu(uint32_t mtu) const;
  Result<bool> is_up() const;

 private:
  TunDevice() = default;
  Result<void> finish(int first, unsigned queues, TunCalls calls);

  std::string name_;
  TunFeatures features_;
  unsigned queues_ = 0;
  int control_ = -1;  // a socket for interface ioctls
  std::vector<std::unique_ptr<Port>> ports_;
};

}  // namespace sallyport
