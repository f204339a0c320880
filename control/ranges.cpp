#include "control/ranges.h"

#include <algorithm>
#include <utility>

namespace sallyport {
namespace {

struct Entry {
  Ranges::Range range;
  uint8_t length;
  bool hole;
};

// By address, the outer before the inner; of equal ones the last of the list alone.
std::vector<Entry> nested(const std::vector<config::Set::Entry>& entries, Family family) {
  std::vector<Entry> out;
  for (const config::Set::Entry& entry : entries) {
    if (entry.prefix.address.family == family) {
      out.push_back({range_of(entry.prefix), entry.prefix.length, entry.hole});
    }
  }
  std::ranges::stable_sort(out, [](const Entry& a, const Entry& b) {
    return a.range.first != b.range.first ? a.range.first < b.range.first : a.length < b.length;
  });
  size_t kept = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    if (i + 1 == out.size() || out[i].range != out[i + 1].range) {
      out[kept++] = out[i];
    }
  }
  out.resize(kept);
  return out;
}

}  // namespace

WideNumber wide(const IpAddress& address) {
  WideNumber number = 0;
  for (unsigned i = 0; i < address.bits() / 8; ++i) {
    number = number << 8 | address.bytes[i];
  }
  return number;
}

Ranges::Range range_of(const IpPrefix& prefix) {
  const WideNumber first = wide(prefix.address);
  const unsigned host_bits = prefix.address.bits() - prefix.length;
  const WideNumber host = host_bits == 128 ? ~WideNumber{0} : (WideNumber{1} << host_bits) - 1;
  return {first & ~host, first | host};
}

Ranges Ranges::whole(Family family) {
  return {0, family == Family::v4 ? WideNumber{UINT32_MAX} : ~WideNumber{0}};
}

Ranges Ranges::members(const std::vector<config::Set::Entry>& entries, Family family) {
  Ranges out;
  std::vector<Entry> open;  // each within the one before it
  WideNumber next = 0;      // all before it are decided
  bool at_the_end = false;  // nothing is behind the last address there is
  const auto decide_to = [&](WideNumber last) {
    if (!open.back().hole && !at_the_end && next <= last) {
      out.append(next, last);
    }
    at_the_end = at_the_end || last == ~WideNumber{0};
    next = last + 1;
  };
  const auto close = [&] {
    decide_to(open.back().range.last);
    open.pop_back();
  };
  for (const Entry& entry : nested(entries, family)) {
    while (!open.empty() && open.back().range.last < entry.range.first) {
      close();
    }
    if (!open.empty() && entry.range.first > next) {
      decide_to(entry.range.first - 1);
    }
    next = entry.range.first;
    open.push_back(entry);
  }
  while (!open.empty()) {
    close();
  }
  return out;
}

// Numbers only grow here: what adjoins the last range becomes part of it.
void Ranges::append(WideNumber first, WideNumber last) {
  if (!ranges_.empty() && (first == 0 || ranges_.back().last >= first - 1)) {
    ranges_.back().last = std::max(ranges_.back().last, last);
  } else {
    ranges_.push_back({first, last});
  }
}

std::vector<Ranges::Range>::const_iterator Ranges::first_reaching(WideNumber number) const {
  return std::ranges::lower_bound(ranges_, number, {}, &Range::last);
}

bool Ranges::contains(WideNumber number) const {
  const auto found = first_reaching(number);
  return found != ranges_.end() && found->first <= number;
}

void Ranges::add(const Ranges& other) {
  std::vector<Range> all(ranges_.size() + other.ranges_.size());
  std::ranges::merge(ranges_, other.ranges_, all.begin(), {}, &Range::first, &Range::first);
  ranges_.clear();
  for (const Range& range : all) {
    append(range.first, range.last);
  }
}

Ranges Ranges::common(const Ranges& other) const {
  Ranges out;
  if (empty() || other.empty()) {
    return out;
  }
  auto a = first_reaching(other.ranges_.front().first);
  auto b = other.first_reaching(ranges_.front().first);
  while (a != ranges_.end() && b != other.ranges_.end()) {
    const WideNumber first = std::max(a->first, b->first), last = std::min(a->last, b->last);
    if (first <= last) {
      out.ranges_.push_back({first, last});
    }
    ++(a->last < b->last ? a : b);
  }
  return out;
}

Ranges Ranges::without(const Ranges& other) const {
  Ranges out;
  if (empty()) {
    return out;
  }
  auto cut = other.first_reaching(ranges_.front().first);
  for (const Range& range : ranges_) {
    WideNumber first = range.first;
    bool some = true;  // of the range is left, from `first` on
    while (cut != other.ranges_.end() && cut->last < first) {
      ++cut;
    }
    for (auto at = cut; some && at != other.ranges_.end() && at->first <= range.last; ++at) {
      if (at->first > first) {
        out.ranges_.push_back({first, at->first - 1});
      }
      some = at->last < range.last;
      first = some ? at->last + 1 : first;
      cut = at;  // it may reach into the next range
    }
    if (some) {
      out.ranges_.push_back({first, range.last});
    }
  }
  return out;
}

}  // namespace sallyport
