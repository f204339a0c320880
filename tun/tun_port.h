// One queue of a TUN device as a Port: whole IP packets, and TCP or UDP super-packets where the
// device has offloads.
//
// The device takes and gives one packet a call, a super-packet of 64 KiB too: that is why offloads matter here. The calls
// themselves are made many at once where there is io_uring (tun/uring.h), else one by one. rx() reads until the queue is
// empty, the caller's frames are full or about kRxBytesMax are gathered, so that a burst stays in the cache; how many reads
// it makes at once follows what the last one found. The virtio header is read into the headroom right before the packet: no
// copy, no second buffer. Without IFF_VNET_HDR (some handed-in descriptors) packets come single with finished checksums, and
// a checksum left open by the caller is finished here.
//
// Assumes that joined frames come only where takes() said so. Cannot tell a full queue from a slow
// reader: the kernel drops then, and counts it on the device (tx_dropped).
// Threads: rx and tx from one thread; gone() and status() from any. Closing the last port of a
// device removes it.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "dataplane/port.h"
#include "tun/uring.h"
#include "tun/vnet.h"

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

// How the calls for several packets are made: all at once where the kernel can, or one by one.
enum class TunCalls { batched, single };

class TunPort final : public Port {
 public:
  static constexpr size_t kRxBytesMax = 256 * 1024;

  // Owns fd, which must be non-blocking. A port that does not receive shares its queue with one
  // that does.
  TunPort(int fd, std::string name, TunFeatures features, bool receives, TunCalls calls);
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
  static constexpr size_t kReadsMax = Uring::kCallsMax;
  static constexpr size_t kPartsMax = 1024;  // UIO_MAXIOV

  // A frame as writev takes it.
  struct Parts {
    VnetHeader header;
    iovec* first;
    size_t count;
  };

  size_t reads_at_once(size_t room, size_t gathered) const;
  size_t read_all(std::span<Buffer* const> buffers, int* outcomes);
  bool describe(Buffer* buffer, size_t bytes, RxFrame& frame) const;
  int split(const TxFrame& frame, Parts& parts) const;
  int send(const TxFrame& frame);
  void send_batch(std::span<TxFrame> frames);
  void note(int error);
  void give_up_batches();

  int fd_;
  std::string name_;
  TunFeatures features_;
  bool receives_;
  std::atomic<bool> gone_{false};
  std::atomic<uint64_t> discarded_{0};  // written by the port's thread only
  std::unique_ptr<Uring> ring_;         // null: single calls
  std::atomic<const char*> why_no_ring_{nullptr};
  std::string why_no_ring_text_;
  size_t wanted_ = 2;      // reads to try at once
  size_t last_bytes_ = 1;  // of the packet read last
  iovec parts_[kPartsMax];
};

}  // namespace sallyport
