#include "dataplane/net/fragment.h"

#include <algorithm>
#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "dataplane/net/l4.h"

namespace sallyport {
namespace {

// Where the fragment header stands that makes it one. There is one: parse() has seen it.
uint32_t fragment_header_at(const Run& run) {
  uint8_t next = reinterpret_cast<const Ipv6Header*>(run.head)->next_header;
  for (uint32_t at = sizeof(Ipv6Header); at + 8 <= run.l4_offset;) {
    const uint8_t* extension = run.head + at;
    if (next == kFragment &&
        (load<be16>(extension + 2) & (kIpv6FragmentOffset | kIpv6MoreFragments)) != 0) {
      return at;
    }
    at += next == kFragment ? 8u : (extension[1] + 1u) * 8u;
    next = extension[0];
  }
  return sizeof(Ipv6Header);
}

// The part of the packet before what is cut into fragments, as far as its length counts, is `unfragmentable`.
FragmentFault judge(const Run& run, const Fragment& fragment, uint32_t unfragmentable) {
  if (fragment.bytes == 0) {
    return FragmentFault::empty;
  }
  if (fragment.more && fragment.bytes % 8 != 0) {
    return FragmentFault::misaligned;
  }
  if (unfragmentable + fragment.offset + fragment.bytes > UINT16_MAX) {
    return FragmentFault::too_long;
  }
  if (fragment.is_first()) {
    const uint32_t available = run.head_bytes - std::min<uint32_t>(run.l4_offset, run.head_bytes);
    const L4Layout layout =
        l4_layout(run.family, run.protocol, run.head + run.l4_offset, available);
    const bool whole = run.protocol != 0 && available >= layout.header_bytes;
    return whole ? FragmentFault::none : FragmentFault::tiny;
  }
  // What the first would have cut off of a TCP header, its flags among it.
  return fragment.protocol == kProtocolTcp && fragment.offset == 8 ? FragmentFault::tiny
                                                                   : FragmentFault::none;
}

}  // namespace

FragmentFault read_fragment(const Run& run, Fragment& out) {
  if (run.family == Family::v4) {
    const auto* ip = reinterpret_cast<const Ipv4Header*>(run.head);
    out.id = ip->id;
    out.offset = (ip->fragment & kIpv4FragmentOffset) * 8u;
    out.bytes = run.bytes - ip->header_bytes();
    out.protocol = ip->protocol;
    out.more = (ip->fragment & kIpv4MoreFragments) != 0;
    return judge(run, out, ip->header_bytes());
  }
  const uint32_t at = fragment_header_at(run);
  const auto* header = reinterpret_cast<const Ipv6FragmentHeader*>(run.head + at);
  out.id = header->id;
  out.offset = header->fragment & kIpv6FragmentOffset;
  out.bytes = run.bytes - at - uint32_t{sizeof(Ipv6FragmentHeader)};
  out.protocol = 0;
  out.more = (header->fragment & kIpv6MoreFragments) != 0;
  return judge(run, out, at - uint32_t{sizeof(Ipv6Header)});
}

FragmentWalk::FragmentWalk(const Run& run, uint32_t mtu)
    : packet_(run.head), mtu_(mtu), length_(run.bytes), at_(0) {
  const auto* ip = reinterpret_cast<const Ipv4Header*>(run.head);
  const uint32_t header = run.l4_offset;
  if (run.family != Family::v4 || run.first_piece != kNoPiece || mtu < kMtuMin ||
      mtu < header + 8 || (ip->fragment & kIpv4DontFragment) != 0) {
    length_ = 0;
    return;
  }
  at_ = header;
  base_ = (ip->fragment & kIpv4FragmentOffset) * 8u;
  more_ = (ip->fragment & kIpv4MoreFragments) != 0;
  if (base_ + length_ > UINT16_MAX) {
    length_ = 0;
    return;
  }
  std::memcpy(later_, packet_, sizeof(Ipv4Header));
  std::memset(later_ + sizeof(Ipv4Header), 0, sizeof(later_) - sizeof(Ipv4Header));
  later_bytes_ = sizeof(Ipv4Header);
  for (uint32_t at = sizeof(Ipv4Header); at + 2 <= header && packet_[at] != 0;) {
    const uint32_t option_bytes = packet_[at] == 1 ? 1 : packet_[at + 1];
    if ((option_bytes < 2 && packet_[at] != 1) || at + option_bytes > header) {
      break;
    }
    if ((packet_[at] & 0x80) != 0) {
      std::memcpy(later_ + later_bytes_, packet_ + at, option_bytes);
      later_bytes_ += option_bytes;
    }
    at += option_bytes;
  }
  later_bytes_ = (later_bytes_ + 3) & ~3u;
  later_[0] = static_cast<uint8_t>(0x40 | later_bytes_ / 4);
}

bool FragmentWalk::next() {
  if (length_ == 0 || (at_ == length_ && !first_)) {
    return false;
  }
  const uint32_t whole_header = reinterpret_cast<const Ipv4Header*>(packet_)->header_bytes();
  head_bytes_ = first_ ? whole_header : later_bytes_;
  std::memcpy(head_, first_ ? packet_ : later_, head_bytes_);
  const uint32_t left = length_ - at_;
  const bool last = head_bytes_ + left <= mtu_;
  payload_ = packet_ + at_;
  payload_bytes_ = last ? left : (mtu_ - head_bytes_) & ~7u;
  auto* ip = reinterpret_cast<Ipv4Header*>(head_);
  ip->total_length = static_cast<uint16_t>(head_bytes_ + payload_bytes_);
  ip->fragment = static_cast<uint16_t>((base_ + at_ - whole_header) / 8 |
                                       (!last || more_ ? kIpv4MoreFragments : 0));
  checksum_ipv4(head_, head_bytes_);
  at_ += payload_bytes_;
  first_ = false;
  return true;
}

void FragmentWalk::write_head(uint8_t* out) const {
  std::memcpy(out, head_, head_bytes_);
}

}  // namespace sallyport
