// AddressPool: the addresses that translation may choose from.
//
// Thread rules: values.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/net/address.h"

namespace sallyport {

struct AddressRange {
  IpAddress first, last;  // of one family, both included
};

// The address that a number stands for, spread evenly; the numbers behind it stand for the addresses behind it. Assumed: the
// pool has one. Of a range with more than 2^64 addresses the first 2^64 - 1 are used.
IpAddress pick(const std::vector<AddressRange>& pool, uint64_t number);

}  // namespace sallyport
