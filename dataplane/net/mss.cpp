#include "dataplane/net/mss.h"

#include <algorithm>
#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"

namespace sallyport {
namespace {

constexpr uint8_t kEnd = 0, kNothing = 1, kMss = 2;
constexpr uint32_t kTcpHeaderMax = 60;

TcpHeader* tcp_of(const Run& run) {
  return reinterpret_cast<TcpHeader*>(run.head + run.l4_offset);
}

// Calls `found` with the offset in `run.head` of each MSS there is.
template <class Found>
void for_each_mss(const Run& run, Found found) {
  const uint32_t header = tcp_of(run)->header_bytes();
  const uint32_t end = std::min(run.l4_offset + header, run.head_bytes);
  for (uint32_t at = run.l4_offset + uint32_t{sizeof(TcpHeader)}; at + kMssOptionBytes <= end;) {
    const uint8_t kind = run.head[at];
    if (kind == kEnd) {
      return;
    }
    if (kind == kNothing) {
      ++at;
      continue;
    }
    const uint8_t length = run.head[at + 1];
    if (length < 2) {
      return;
    }
    if (kind == kMss && length == kMssOptionBytes) {
      found(at + 2);
    }
    at += length;
  }
}

bool is_unfinished(const Run& run) {
  return run.offload.needs_checksum && run.offload.checksum_start == run.l4_offset;
}

void write_mss(Run& run, uint32_t at, uint16_t value) {
  // Options stand at any offset, sums are of words at even ones; the headers end at an even one.
  const uint32_t first = at & ~1u;
  const uint32_t length = (at & 1) != 0 ? 4 : 2;
  uint8_t was[4];
  std::memcpy(was, run.head + first, length);
  const be16 word = value;
  std::memcpy(run.head + at, &word, sizeof(word));
  if (!is_unfinished(run)) {
    checksum_apply(run.head + run.l4_offset + offsetof(TcpHeader, checksum),
                   checksum_change(0, was, run.head + first, length));
  }
}

bool has_room(const Run& run) {
  const uint32_t header = tcp_of(run)->header_bytes();
  return !run.fragment && run.first_piece == kNoPiece && run.l4_offset + header == run.bytes &&
         header >= sizeof(TcpHeader) && header + kMssOptionBytes <= kTcpHeaderMax &&
         run.bytes + kMssOptionBytes <= UINT16_MAX;
}

// The new length of the IP packet. Returns what that does to the pseudo-header's sum.
uint64_t lengthen(Run& run) {
  const be16 was = static_cast<uint16_t>(run.bytes - run.l4_offset);
  const be16 becomes = static_cast<uint16_t>(was + kMssOptionBytes);
  if (run.family == Family::v4) {
    const be16 total = static_cast<uint16_t>(run.bytes + kMssOptionBytes);
    uint16_t word;
    std::memcpy(&word, &total, sizeof(word));
    checksum_replace16(run.head + offsetof(Ipv4Header, checksum),
                       run.head + offsetof(Ipv4Header, total_length), word);
  } else {
    auto* ip = reinterpret_cast<Ipv6Header*>(run.head);
    ip->payload_length = static_cast<uint16_t>(ip->payload_length + kMssOptionBytes);
  }
  return checksum_change(0, reinterpret_cast<const uint8_t*>(&was),
                         reinterpret_cast<const uint8_t*>(&becomes), sizeof(was));
}

void insert_mss(Run& run, uint16_t value) {
  const uint64_t pseudo = lengthen(run);
  // The headers before the options move; the option comes first among them.
  const uint32_t moving = run.l4_offset + uint32_t{sizeof(TcpHeader)};
  std::memmove(run.head - kMssOptionBytes, run.head, moving);
  run.head -= kMssOptionBytes;
  run.head_bytes += kMssOptionBytes;
  run.bytes += kMssOptionBytes;
  uint8_t* option = run.head + moving;
  const uint8_t bytes[kMssOptionBytes] = {kMss, kMssOptionBytes, static_cast<uint8_t>(value >> 8),
                                          static_cast<uint8_t>(value)};
  std::memcpy(option, bytes, sizeof(bytes));
  TcpHeader* tcp = tcp_of(run);
  uint8_t was[2] = {tcp->data_offset, tcp->flags};
  tcp->data_offset = static_cast<uint8_t>(tcp->data_offset + (kMssOptionBytes / 4 << 4));
  uint8_t* field = reinterpret_cast<uint8_t*>(&tcp->checksum);
  if (is_unfinished(run)) {
    checksum_apply_partial(field, pseudo);
  } else {
    checksum_apply(field, checksum_add(checksum_change(pseudo, was, &tcp->data_offset, 2), bytes,
                                       sizeof(bytes)));
  }
}

}  // namespace

std::optional<uint16_t> mss_of(const Run& run) {
  std::optional<uint16_t> mss;
  if (is_syn(run)) {
    for_each_mss(run, [&](uint32_t at) { mss = load<be16>(run.head + at); });
  }
  return mss;
}

bool clamp_mss(Run& run, uint32_t mtu) {
  const bool v4 = run.family == Family::v4;
  const uint32_t headers = v4 ? uint32_t{sizeof(Ipv4Header) + sizeof(TcpHeader)}
                              : uint32_t{sizeof(Ipv6Header) + sizeof(TcpHeader)};
  if (!is_syn(run) || mtu <= headers) {
    return false;
  }
  const auto limit = static_cast<uint16_t>(std::min<uint32_t>(mtu - headers, UINT16_MAX));
  bool there = false;
  bool changed = false;
  for_each_mss(run, [&](uint32_t at) {
    there = true;
    if (load<be16>(run.head + at) > limit) {
      write_mss(run, at, limit);
      changed = true;
    }
  });
  const uint16_t assumed = v4 ? 536 : 1220;
  if (!there && limit < assumed && has_room(run)) {
    insert_mss(run, limit);
    changed = true;
  }
  return changed;
}

}  // namespace sallyport
