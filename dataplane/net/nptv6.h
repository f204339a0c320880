// Nptv6: one prefix for another in IPv6 addresses, so that no checksum over them changes (RFC 6296).
//
// Stateless and one to one. What the prefixes differ by is taken out of 16 bits of the rest of the address: bits 48 to 63
// where both prefixes are /48 or shorter, else the first word of the interface identifier that is not 0xffff. Of two
// lengths the longer is used, the shorter prefix is filled with zeros.
//
// Cannot: translate a subnet of 0xffff, nor an interface identifier of nothing but such words (section 3.4, 3.5).
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/net/address.h"
#include "dataplane/net/run.h"

namespace sallyport {

class Nptv6 {
 public:
  static constexpr uint8_t kLengthMax = 64;

  // Nothing unless both are IPv6 and no longer than /64.
  static std::optional<Nptv6> make(const IpPrefix& inside, const IpPrefix& outside);

  bool is_inside(const uint8_t* address) const;
  bool is_outside(const uint8_t* address) const;

  // In place; false, and unchanged, where the address cannot be translated. Assumed: it is inside, or outside.
  bool to_outside(uint8_t* address) const;
  bool to_inside(uint8_t* address) const;

 private:
  // The direction's tables: the new prefix, and what is added to make up for it.
  struct Way {
    uint8_t prefix[8];
    uint16_t adjustment;  // native order, as checksums are summed
  };
  bool has_prefix(const Way& way, const uint8_t* address) const;
  bool translate(const Way& way, uint8_t* address) const;

  uint8_t mask_[8] = {};
  uint8_t length_ = 0;
  Way out_{}, in_{};
};

}  // namespace sallyport
