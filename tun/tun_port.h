// One queue of a TUN device as a Port: whole IP packets, and TCP or UDP super-packets where the
// device has offloads.
//
// A packet costs one system call each way, a super-packet of 64 KiB too; that is why offloads
// matter here. rx() reads until the queue is empty, the caller's frames are full or kRxBytesMax are
// gathered, so that a burst stays in the cache. The virtio header is read into the headroom right
// before the packet: no copy, no second buffer. Without IFF_VNET_HDR (some handed-in descriptors)
// packets come single with finished checksums, and a checksum left open by the caller is finished
// here.
//
// Assumes that joined frames come only where takes() said so. Cannot tell a full queue from a slow
// reader: the kernel drops then, and counts it on the device (tx_dropped).
// Threads: rx and tx from one thread; gone() and status() from any. Closing the last port of a
// device removes it.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "dataplane/port.h"

namespace sallyport {

// What the kernel granted of a TUN device, the same for all its queues.
struct TunFeatures {
  bool vnet_header = false;
  bool checksum = false;
  bool tso4 = false;
  bool tso6 = false;
  bool uso = false;
  bool multi_queue = false;
  std::string why_no_vnet_header;
  std::string why_no_uso;
  std::string why_no_multi_queue;
};

class TunPort final : public Port {
 public:
  static constexpr size_t kRxBytesMax = 256 * 1024;

  // Owns fd, which must be non-blocking. A port that does not receive shares its queue with one
  // that does.
  TunPort(int fd, std::string name, TunFeatures features, bool receives);
  ~TunPort() override;
  TunPort(const TunPort&) = delete;
  TunPort& operator=(const TunPort&) = delete;

  size_t rx(std::span<RxFrame> frames, BufferCache& cache) override;
  void tx(std::span<TxFrame> frames) override;
  Descriptors descriptors() const override { return {{receives_ ? fd_ : -1, -1}}; }
  bool gone() const override { return gone_.load(std::memory_order_relaxed); }
  PortStatus status() const override;
  bool takes(Gso kind) const override;

 private:
  bool describe(Buffer* buffer, size_t bytes, RxFrame& frame) const;
  int send(const TxFrame& frame);

  int fd_;
  std::string name_;
  TunFeatures features_;
  bool receives_;
  std::atomic<bool> gone_{false};
  std::atomic<uint64_t> discarded_{0};  // written by the port's thread only
};

}  // namespace sallyport
