// One UDP socket of one family: trains of datagrams in and out with recvmmsg and sendmmsg, UDP_GRO
// and UDP_SEGMENT.
//
// A burst costs one system call for kRxBatch trains in and kTxBatch out. A train that the route
// does not take (UDP_SEGMENT fails with EIO on a device without checksums, with EINVAL or EMSGSIZE
// where a segment exceeds the route's MTU) is sent one datagram at a time, and so is every train to
// that address for RefusedRoutes::kAge: then it is tried again, since routes change. As in the kernel
// module the outer packet may be fragmented: DF is never set, and path MTU discovery sets no limit.
//
// The source of a reply is the address that was asked, while the kernel accepts it; the interface
// is left to routing, because naming it would keep using a route that has gone.
//
// Assumes what frame.h says of a TxFrame (kTrainSegmentsMax and its neighbours). A train sent one
// by one of which a part is lost counts as lost.
// Threads: rx and tx from one; set_fwmark and the counters from any.
// Source: Linux' udp(7), ip(7), ipv6(7); WireGuard for Linux, socket.c, for what is set on the
// outer header.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>

#include "dataplane/base/clock.h"
#include "dataplane/base/result.h"
#include "dataplane/net/frame.h"

namespace sallyport {

// Addresses whose route refused a train lately. A small cache: what falls out is merely tried once
// more.
class RefusedRoutes {
 public:
  bool contains(const IpAddress& address, Time now) const;
  void insert(const IpAddress& address, Time now);
  bool empty() const { return !used_; }

  static constexpr Time kAge = 60 * kSecond;

 private:
  static constexpr size_t kEntries = 64;
  static size_t slot(const IpAddress& address);

  struct Entry {
    IpAddress address;
    Time until = 0;
  };
  Entry entries_[kEntries];
  bool used_ = false;
};

class UdpSocket {
 public:
  static constexpr size_t kRxBatch = 16;
  static constexpr size_t kTxBatch = 64;
  static constexpr int kBufferBytes = 7 * 1024 * 1024;
  static constexpr int kWaitForRoomMs = 4;

  // Not bound yet. The error's code is EAFNOSUPPORT or EADDRNOTAVAIL where the kernel lacks the
  // family.
  static Result<std::unique_ptr<UdpSocket>> open(Family family);
  ~UdpSocket();
  UdpSocket(const UdpSocket&) = delete;
  UdpSocket& operator=(const UdpSocket&) = delete;

  // Datagrams are never cut on their way: one that is too big for it is refused (EMSGSIZE), and its frame told what fits.
  Result<void> never_fragment();
  Result<uint16_t> bind(uint16_t port);  // to every address; 0 picks a free port. Returns the port
  Result<void> share_port();             // SO_REUSEPORT
  Result<void> set_fwmark(uint32_t mark);
  // Only by this interface, in and out. Before bind(): who shares a port must share the interface.
  Result<void> bind_device(const std::string& device);

  size_t rx(std::span<RxFrame> frames, BufferCache& cache);
  void tx(std::span<TxFrame> frames);  // all to addresses of this family

  int fd() const { return fd_; }
  Family family() const { return family_; }
  bool gro() const { return gro_; }
  bool segments() const { return segments_; }
  uint64_t discarded() const { return discarded_.load(std::memory_order_relaxed); }
  uint64_t trains_refused() const { return trains_refused_.load(std::memory_order_relaxed); }

 private:
  struct RxScratch;
  struct TxScratch;
  struct Piece;

  UdpSocket(int fd, Family family);
  bool accept(size_t slot, RxFrame& frame);
  void add(TxFrame& frame, const Piece& piece);
  void flush();
  uint32_t path_mtu_to(const Endpoint& to) const;
  int resolve(TxFrame& frame, const Piece& piece, int error);
  int send_one(const TxFrame& frame, const Piece& piece);
  int send_split(const TxFrame& frame, const Piece& train);
  bool wait_for_room();

  const int fd_;
  const Family family_;
  bool gro_ = false;
  bool segments_ = false;
  bool never_fragment_ = false;
  int wait_budget_ms_ = 0;  // what is left of kWaitForRoomMs in this tx()
  RefusedRoutes refused_;
  std::unique_ptr<RxScratch> rx_;
  std::unique_ptr<TxScratch> tx_;
  std::atomic<uint64_t> discarded_{0};
  std::atomic<uint64_t> trains_refused_{0};
};

}  // namespace sallyport
