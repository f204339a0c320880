// Port: where frames come in and go out. The one abstract class; its drivers live in tun/ (two levels, never more).
//
// A Port is one queue, and belongs to one thread. A TUN with four queues is four ports; four UDP sockets that share a
// listening port are four ports. The engine knows nothing of drivers: a driver owns its offloads, and hides their
// absence (software segmentation, one datagram at a time) behind the same two calls. Calls cost a virtual call a burst.
// Drivers: tun/tun_port, tun/udp_port, tun/memory_port (tests, simulator, fuzzing, bench).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dataplane/base/pool.h"
#include "dataplane/net/frame.h"

namespace sallyport {

// What `status` prints of a port. Plain words, and why an offload is off.
struct PortStatus {
  struct Offload {
    std::string name;  // "tso4", "uso", "udp_segment", ...
    bool on = false;
    std::string reason;  // why it is off; empty when on
  };
  std::string driver;  // "tun", "udp", "memory"
  std::string name;
  std::vector<Offload> offloads;
  uint64_t discarded =
      0;  // input thrown away by the driver: a header that makes no sense, a truncated datagram
};

class Port {
 public:
  virtual ~Port() = default;

  // Fills up to frames.size() frames with what is waiting, buffers taken from `cache`; never blocks. Returns how many.
  // 0 may also mean that the cache is dry.
  virtual size_t rx(std::span<RxFrame> frames, BufferCache& cache) = 0;

  // Sends every frame or sets its `error`. May wait a few milliseconds for room in a socket, and no longer.
  virtual void tx(std::span<TxFrame> frames) = 0;

  // Descriptors to poll for input (at most 2; -1 where there is none). Fixed for the port's life.
  struct Descriptors {
    int fd[2] = {-1, -1};
  };
  virtual Descriptors descriptors() const { return {}; }

  // True once the device is gone (TUN deleted): the engine stops polling it and tells control.
  virtual bool gone() const { return false; }

  virtual PortStatus status() const = 0;  // any thread

  // Runs of this kind may be handed to tx() joined. Fixed for the port's life.
  virtual bool takes(Gso kind) const { return kind == Gso::none; }
};

}  // namespace sallyport
