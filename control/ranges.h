// Ranges: a set of numbers as sorted ranges, so that "all addresses from which this rule would match" is a value.
//
// What tells every possible packet apart when a part of it is not known (control/policy_outcomes.h): each condition splits
// what is still possible in two, exactly. Addresses of both families and ports are numbers here; whoever mixes families is
// wrong.
//
// Costs: 32 bytes a range; the operations are linear in the ranges of both sides that meet, and in those of the result.
// Thread rules: values.
#pragma once

#include <cstddef>
#include <vector>

#include "control/config.h"
#include "dataplane/net/address.h"

namespace sallyport {

__extension__ using WideNumber = unsigned __int128;

class Ranges {
 public:
  struct Range {
    WideNumber first = 0, last = 0;  // both included
    bool operator==(const Range&) const = default;
  };

  Ranges() = default;  // nothing
  Ranges(WideNumber first, WideNumber last) : ranges_{{first, last}} {}

  static Ranges whole(Family family);
  // The members of this family, as a PrefixSet answers: the longest entry decides, of two equal ones the last.
  static Ranges members(const std::vector<config::Set::Entry>& entries, Family family);

  bool empty() const { return ranges_.empty(); }
  size_t size() const { return ranges_.size(); }
  const std::vector<Range>& list() const { return ranges_; }
  bool contains(WideNumber number) const;

  void add(const Ranges& other);
  Ranges common(const Ranges& other) const;
  Ranges without(const Ranges& other) const;

  bool operator==(const Ranges&) const = default;

 private:
  std::vector<Range>::const_iterator first_reaching(WideNumber number) const;
  void append(WideNumber first, WideNumber last);

  std::vector<Range> ranges_;  // sorted; a gap between any two
};

WideNumber wide(const IpAddress& address);
Ranges::Range range_of(const IpPrefix& prefix);

}  // namespace sallyport
