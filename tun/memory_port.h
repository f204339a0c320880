// A port in memory: what a test, the simulator, a fuzzer or a bench puts in comes out of rx(), and
// what tx() is given can be looked at. It is no mock: the real engine runs on it.
//
// Bytes are copied in both directions, so nothing outlives its buffer. Bounded: beyond kQueueMax
// frames input is refused and output lost (ENOBUFS), as on a full device. An eventfd is readable
// while there is input, so threads can sleep on it.
// Threads: all methods from any thread, one mutex. Not for measuring drivers: it allocates for each
// frame.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "dataplane/port.h"

namespace sallyport {

class MemoryPort final : public Port {
 public:
  static constexpr size_t kQueueMax = 65'536;
  using Bytes = std::vector<uint8_t>;

  // A frame on its way in, or one that tx() was given, gathered into one piece.
  struct Frame {
    Bytes bytes;
    uint32_t segment_bytes = 0;  // outer: 0 stands for a single datagram
    Offload offload;             // plain
    Endpoint endpoint;           // outer: from whom, to whom
    uint8_t tos = 0;             // outer

    // The datagrams of a train; the whole frame when it is none.
    std::vector<Bytes> segments() const;
  };

  // With an event descriptor it can be polled; without one it costs no descriptor.
  enum class Events { none, eventfd };

  explicit MemoryPort(std::string name = "memory", Events events = Events::none);
  ~MemoryPort() override;
  MemoryPort(const MemoryPort&) = delete;
  MemoryPort& operator=(const MemoryPort&) = delete;

  size_t rx(std::span<RxFrame> frames, BufferCache& cache) override;
  void tx(std::span<TxFrame> frames) override;
  Descriptors descriptors() const override { return {{event_, -1}}; }
  bool gone() const override;
  PortStatus status() const override;
  bool takes(Gso kind) const override;

  // -- The test's side.

  // False when the queue is full, or the frame is larger than a buffer.
  bool inject(Frame frame);
  bool inject(Bytes packet);                                           // plain
  bool inject(Bytes datagram, const Endpoint& from, uint8_t tos = 0);  // outer
  bool inject_train(Bytes train, uint32_t segment_bytes, const Endpoint& from, uint8_t tos = 0);

  std::vector<Frame> sent();  // takes out everything sent so far, in order
  size_t sent_count() const;  // what sent() would return now
  size_t waiting() const;     // frames injected and not yet received

  void set_takes(Gso kind, bool yes);       // before the engine has the port
  void fail_next(size_t count, int error);  // the next frames sent fail with this errno
  void refuse_sources(bool yes);  // frames with a source address are sent without it, and say so
  void set_gone();                // as a TUN that was deleted

 private:
  void set_event(bool readable);
  int accept(TxFrame& frame);

  const std::string name_;
  int event_ = -1;
  mutable std::mutex mutex_;
  std::deque<Frame> in_;
  std::vector<Frame> out_;
  bool takes_[4] = {true, false, false, false};  // by Gso
  size_t failures_ = 0;
  int failure_ = 0;
  bool refuse_sources_ = false;
  bool gone_ = false;
};

}  // namespace sallyport
