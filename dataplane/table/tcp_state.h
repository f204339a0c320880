// TcpState: how far a TCP connection has come, as someone in the middle who sees both directions can tell (RFC 9293 3.3.2, RFC 5382).
//
// Names and ways are those of conntrack, with two differences. Who has sent a FIN is remembered, so one that is sent again
// does not count as the other side's. And a RST is not believed at once: without the sequence numbers a forged one looks
// like any other, so a connection in use goes to `reset` only, from where it comes back when either end goes on talking (who got a
// forged RST does, RFC 5961; who got a true one does not), and else ends after a timeout of its own.
//
//     original SYN -> syn_sent -> SYN-ACK -> syn_recv -> ACK -> established -> FIN -> fin_wait -> the other side's ACK -> close_wait
//     -> its FIN -> last_ack -> ACK -> time_wait.  SYNs that cross: syn_sent2.  RST before anything was established, or
//     at the end: close.
//
// What a packet cannot mean (flags that exclude each other; a SYN-ACK from who asked) is invalid and changes nothing. A SYN
// within a connection changes nothing either (RFC 5961 4), but opens one anew that is over. A value and a function, no clock.
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/table/flow_tuple.h"

namespace sallyport {

enum class TcpState : uint8_t {
  none,
  syn_sent,
  syn_sent2,
  syn_recv,
  established,
  fin_wait,
  close_wait,
  last_ack,
  time_wait,
  close,
  reset,
};
inline constexpr unsigned kTcpStates = 11;

const char* to_text(TcpState state);

struct TcpTrack {
  TcpState state = TcpState::none;
  uint8_t fins = 0;  // bit 0: original has sent one; bit 1: reply has

  bool operator==(const TcpTrack&) const = default;
};

// The state after the first packet of a flow; nothing when it cannot open one. A SYN can. Others can only join a
// connection that is under way already, if `pick_up` allows that.
std::optional<TcpTrack> tcp_start(uint8_t flags, bool pick_up);

// The state after a packet of this direction; nothing when the packet is invalid.
std::optional<TcpTrack> tcp_step(TcpTrack track, FlowDirection direction, uint8_t flags);

}  // namespace sallyport
