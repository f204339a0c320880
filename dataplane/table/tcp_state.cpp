#include "dataplane/table/tcp_state.h"

#include "dataplane/net/headers.h"

namespace sallyport {
namespace {

using enum TcpState;

constexpr uint8_t kBothFins = 3;

uint8_t fin_of(FlowDirection direction) {
  return static_cast<uint8_t>(1 << static_cast<unsigned>(direction));
}

// What a packet is, by the flags that matter here. RFC 9293 knows no others.
enum class Kind { syn, syn_ack, fin, ack, rst, invalid };

Kind kind_of(uint8_t flags) {
  switch (flags & (kTcpSyn | kTcpAck | kTcpFin | kTcpRst)) {
    case kTcpSyn:
      return Kind::syn;
    case kTcpSyn | kTcpAck:
      return Kind::syn_ack;
    case kTcpFin | kTcpAck:
      return Kind::fin;
    case kTcpAck:
      return Kind::ack;
    case kTcpRst:
    case kTcpRst | kTcpAck:
      return Kind::rst;
    default:
      return Kind::invalid;
  }
}

std::optional<TcpTrack> on_syn(TcpTrack track, FlowDirection direction) {
  const bool is_original = direction == FlowDirection::original;
  switch (track.state) {
    case syn_sent:
      return TcpTrack{is_original ? syn_sent : syn_sent2, 0};
    case time_wait:
    case close:
    case reset:
      return TcpTrack{is_original ? syn_sent : syn_sent2, 0};
    default:
      return track;
  }
}

std::optional<TcpTrack> on_syn_ack(TcpTrack track, FlowDirection direction) {
  switch (track.state) {
    case syn_sent:
      if (direction == FlowDirection::original) {
        return std::nullopt;
      }
      return TcpTrack{syn_recv, 0};
    case syn_sent2:
      return TcpTrack{syn_recv, 0};
    default:
      return track;
  }
}

std::optional<TcpTrack> on_fin(TcpTrack track, FlowDirection direction) {
  const auto fins = static_cast<uint8_t>(track.fins | fin_of(direction));
  switch (track.state) {
    case syn_sent:
    case syn_sent2:
      return std::nullopt;
    case syn_recv:
    case established:
    case reset:
      return TcpTrack{fins == kBothFins ? last_ack : fin_wait, fins};
    case fin_wait:
    case close_wait:
      return fins == track.fins ? track : TcpTrack{last_ack, fins};
    default:
      return track;
  }
}

std::optional<TcpTrack> on_ack(TcpTrack track, FlowDirection direction) {
  switch (track.state) {
    case syn_recv:
      return direction == FlowDirection::original ? TcpTrack{established, 0} : track;
    case fin_wait:
      return (track.fins & fin_of(direction)) != 0 ? track : TcpTrack{close_wait, track.fins};
    case last_ack:
      return TcpTrack{time_wait, track.fins};
    case reset:
      return TcpTrack{track.fins == 0 ? established : close_wait, track.fins};
    default:
      return track;
  }
}

std::optional<TcpTrack> on_rst(TcpTrack track, FlowDirection direction, bool has_ack) {
  switch (track.state) {
    case syn_sent:
      // RFC 9293 3.5.2: an answer to a SYN acknowledges it.
      if (direction == FlowDirection::reply && !has_ack) {
        return std::nullopt;
      }
      return TcpTrack{close, 0};
    case syn_sent2:
      return TcpTrack{close, 0};
    case syn_recv:
    case established:
    case fin_wait:
    case close_wait:
      return TcpTrack{reset, track.fins};
    case last_ack:
      return TcpTrack{close, track.fins};
    default:
      return track;
  }
}

}  // namespace

const char* to_text(TcpState state) {
  static constexpr const char* kNames[kTcpStates] = {
      "none",       "syn_sent", "syn_sent2", "syn_recv", "established", "fin_wait",
      "close_wait", "last_ack", "time_wait", "close",    "reset"};
  return kNames[static_cast<unsigned>(state)];
}

std::optional<TcpTrack> tcp_start(uint8_t flags, bool pick_up) {
  switch (kind_of(flags)) {
    case Kind::syn:
      return TcpTrack{syn_sent, 0};
    case Kind::ack:
      return pick_up ? std::optional(TcpTrack{established, 0}) : std::nullopt;
    case Kind::fin:
      return pick_up ? std::optional(TcpTrack{fin_wait, fin_of(FlowDirection::original)})
                     : std::nullopt;
    default:
      return std::nullopt;
  }
}

std::optional<TcpTrack> tcp_step(TcpTrack track, FlowDirection direction, uint8_t flags) {
  switch (kind_of(flags)) {
    case Kind::syn:
      return on_syn(track, direction);
    case Kind::syn_ack:
      return on_syn_ack(track, direction);
    case Kind::fin:
      return on_fin(track, direction);
    case Kind::ack:
      return on_ack(track, direction);
    case Kind::rst:
      return on_rst(track, direction, (flags & kTcpAck) != 0);
    case Kind::invalid:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace sallyport
