// fragment: what there is to know of a fragment, and an IPv4 packet cut into fragments (RFC 791 3.2, RFC 8200 4.5).
#pragma once

#include <cstdint>

#include "dataplane/net/run.h"

namespace sallyport {

struct Fragment {
  uint32_t id = 0;
  uint32_t offset = 0;   // of its first byte, in bytes
  uint32_t bytes = 0;    // of the packet's fragmentable part that it carries
  uint8_t protocol = 0;  // IPv4: ids are apart for each; IPv6: 0, they are not
  bool more = false;     // it is not the last

  bool is_first() const { return offset == 0; }
};

// Why a fragment must not go on.
enum class FragmentFault : uint8_t {
  none,
  empty,       // carries nothing
  misaligned,  // more follow, but it does not end at a multiple of eight bytes
  too_long,    // the packet it is of would be longer than 65,535 bytes
  tiny,        // the L4 header is cut, so that no filter would see all of it (RFC 1858, RFC 7112)
};

// Assumed: parse() has passed `run`, and run.fragment is set.
FragmentFault read_fragment(const Run& run, Fragment& out);

// FragmentWalk: cuts one IPv4 packet, or fragment, for an MTU. Nothing is copied but headers.
//
// The id stays, a fragment's offset and "more" carry on; options go into later fragments where their copy bit says so.
// A packet that says "don't fragment", is longer than 65,535 bytes whole, or an MTU below kMtuMin or too small for the header
// makes no fragments at all. One that fits the MTU makes one, itself.
// Assumed: parse() has passed the run; it is a single packet, its L4 checksum finished.
class FragmentWalk {
 public:
  static constexpr uint32_t kMtuMin = 68;          // every IPv4 link carries that (RFC 791)
  static constexpr uint32_t kHeadBytesMax = 60;    // an IPv4 header
  static constexpr uint32_t kFragmentsMax = 8190;  // 65,515 bytes, eight at a time

  FragmentWalk(const Run& run, uint32_t mtu);

  // Steps to the next fragment; false after the last.
  bool next();

  const uint8_t* payload() const { return payload_; }
  uint32_t payload_bytes() const { return payload_bytes_; }
  uint32_t head_bytes() const { return head_bytes_; }

  // Writes this fragment's header to `out`: head_bytes() bytes, checksum complete.
  void write_head(uint8_t* out) const;

 private:
  const uint8_t* packet_;
  uint32_t mtu_;
  uint32_t length_;               // of the packet; 0: not to be cut
  uint32_t at_;                   // where the next fragment's payload begins
  uint32_t base_ = 0;             // the packet's own offset, in bytes
  bool more_ = false;             // and its own "more"
  bool first_ = true;             // the next is the first: it keeps the header as it is
  uint8_t later_[kHeadBytesMax];  // the header of those after the first
  uint32_t later_bytes_ = 0;
  uint8_t head_[kHeadBytesMax];  // of the current one
  uint32_t head_bytes_ = 0;
  const uint8_t* payload_ = nullptr;
  uint32_t payload_bytes_ = 0;
};

}  // namespace sallyport
