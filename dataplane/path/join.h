// join: opened packets of one flow become one run, so that everything after classifies them once and the TUN takes them
// in one write. What GRO does for a NIC; the rules are those of the kernel's tcp_gro_receive.
//
// TCP: same addresses, ports, TTL, tos, options, acknowledgement and window; only ACK and PSH set; sequence continues;
// all segments of one size but the last; every checksum verified, since the joined packet will vouch for it.
// UDP (where the port takes USO): same flow, one size, checksums present and right.
// Whatever does not qualify stays a run by itself, and nothing of its flow is joined across it. Headers and checksums
// are read; payload is read once, for its checksum, while it is still in cache from the cipher; no byte is moved.
#pragma once

#include "dataplane/path/context.h"

namespace sallyport {

class Joiner {
 public:
  // What the plain port takes.
  Joiner(Burst& burst, bool tcp4, bool tcp6, bool udp)
      : burst_(burst), tcp4_(tcp4), tcp6_(tcp6), udp_(udp) {}

  // Adds one parsed packet to the burst, to an open run or as a run of its own.
  void add(const Run& packet);

  // Writes the headers of joined runs. Call once, after the last add().
  void finish();

 private:
  static constexpr size_t kFlows = 8;  // open at once; a train rarely carries more flows than that

  struct Open {
    Run* run = nullptr;
    uint32_t next_sequence = 0;
    uint32_t gso_size = 0;
    uint32_t header_bytes = 0;
    bool closed = false;
  };

  bool qualifies(const Run& packet, uint32_t& header_bytes) const;
  Open* find(const Run& packet);
  bool append(Open& open, const Run& packet, uint32_t header_bytes);
  void finish_run(const Open& open);

  Burst& burst_;
  const bool tcp4_, tcp6_, udp_;
  Open open_[kFlows];
  size_t next_victim_ = 0;
  Open joined_[Burst::kRunsMax];  // runs of more than one segment, for finish()
  size_t joined_count_ = 0;
};

}  // namespace sallyport
