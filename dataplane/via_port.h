// ViaPort: the handshake port of a tunnel that goes through another one: what is sent becomes a packet of that tunnel, as if
// the host had sent it there, on a worker's thread. Nothing is received here: what arrives is posted to the handshaker by the worker that
// opened it (path/nest.h).
//
// Costs: a copy and a note a message; handshakes are few. A full mailbox or a dry pool is an error of the frame, as a full
// socket is.
// Thread rules: tx by the handshaker's thread, an RCU reader; status by any.
#pragma once

#include <atomic>

#include "dataplane/base/mailbox.h"
#include "dataplane/path/snapshot.h"
#include "dataplane/port.h"

namespace sallyport {

class ViaPort final : public Port {
 public:
  ViaPort(TunnelNumber tunnel, const std::atomic<const Snapshot*>& snapshot, BufferPool& pool,
          Mailbox& worker)
      : tunnel_(tunnel), snapshot_(snapshot), buffers_(pool), worker_(worker) {}

  size_t rx(std::span<RxFrame>, BufferCache&) override { return 0; }
  void tx(std::span<TxFrame> frames) override;
  PortStatus status() const override;

 private:
  int send(const TxFrame& frame);

  const TunnelNumber tunnel_;
  const std::atomic<const Snapshot*>& snapshot_;
  BufferCache buffers_;
  Mailbox& worker_;
};

}  // namespace sallyport
