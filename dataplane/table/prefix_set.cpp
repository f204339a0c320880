#include "dataplane/table/prefix_set.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "dataplane/base/rcu.h"

namespace sallyport {
namespace {

// A trie's value: the entry's length, and whether it is a hole.
constexpr LpmValue kHole = 256;

SetMatch decode(LpmValue value) {
  if (value == kLpmMiss) {
    return {};
  }
  return {(value & kHole) == 0, true, static_cast<uint8_t>(value)};
}

template <class Table>
SetMatch match_in(const Table* table, const uint8_t* address) {
  return table == nullptr ? SetMatch{} : decode(table->lookup(Table::from_bytes(address)));
}

lpm::Key masked_key(const SetEntry& entry) {
  const unsigned bits = entry.v4 ? Lpm4::kBits : Lpm6::kBits;
  if (entry.length > bits) {
    std::fprintf(stderr, "sallyport: prefix_set: an entry of length %u among addresses of %u\n",
                 entry.length, bits);
    std::abort();
  }
  const lpm::Key key = entry.v4 ? lpm::Ipv4::key(lpm::Ipv4::from_bytes(entry.address))
                                : lpm::Ipv6::key(lpm::Ipv6::from_bytes(entry.address));
  return lpm::masked(key, entry.length);
}

// The entries of one family, sorted as Lpm::build wants them, the last of equal ones only.
template <class Family>
std::vector<typename Lpm<Family>::Prefix> sorted(std::span<const SetEntry> entries, bool v4) {
  using Prefix = typename Lpm<Family>::Prefix;
  std::vector<Prefix> prefixes;
  prefixes.reserve(static_cast<size_t>(std::count_if(
      entries.begin(), entries.end(), [&](const SetEntry& e) { return e.v4 == v4; })));
  for (const SetEntry& entry : entries) {
    if (entry.v4 == v4) {
      prefixes.push_back({Family::address(masked_key(entry)), entry.length,
                          entry.length | (entry.hole ? kHole : 0)});
    }
  }
  const auto comes_first = [](const Prefix& a, const Prefix& b) {
    return a.address < b.address || (a.address == b.address && a.length < b.length);
  };
  const auto is_same = [](const Prefix& a, const Prefix& b) {
    return a.address == b.address && a.length == b.length;
  };
  if (!std::is_sorted(prefixes.begin(), prefixes.end(), comes_first)) {
    std::stable_sort(prefixes.begin(), prefixes.end(), comes_first);
  }
  // From the back, so that of equal ones the last stays.
  const auto kept = std::unique(prefixes.rbegin(), prefixes.rend(), is_same);
  prefixes.erase(prefixes.begin(), kept.base());
  return prefixes;
}

// Two tries report as one.
struct Meter {
  Lpm4::Progress progress;
  void* context;
  size_t before;
  size_t total;

  static bool report(void* raw, size_t done, size_t) {
    const Meter& meter = *static_cast<const Meter*>(raw);
    return meter.progress(meter.context, meter.before + done, meter.total);
  }
};

}  // namespace

std::unique_ptr<PrefixSet::Content> PrefixSet::Content::build(std::span<const SetEntry> entries,
                                                              Lpm4::Progress progress,
                                                              void* context) {
  auto content = std::make_unique<Content>();
  Meter meter{progress, context, 0, entries.size()};
  const Lpm4::Progress report = progress == nullptr ? nullptr : Meter::report;
  if (const auto prefixes = sorted<lpm::Ipv4>(entries, true); !prefixes.empty()) {
    content->v4_ = Lpm4::build(prefixes, report, &meter);
    if (content->v4_ == nullptr) {
      return nullptr;
    }
    meter.before = prefixes.size();
  }
  if (const auto prefixes = sorted<lpm::Ipv6>(entries, false); !prefixes.empty()) {
    content->v6_ = Lpm6::build(prefixes, report, &meter);
    if (content->v6_ == nullptr) {
      return nullptr;
    }
  }
  return content;
}

SetMatch PrefixSet::Content::match_v4(const uint8_t* address) const {
  return match_in(v4_.get(), address);
}

SetMatch PrefixSet::Content::match_v6(const uint8_t* address) const {
  return match_in(v6_.get(), address);
}

size_t PrefixSet::Content::size() const {
  return (v4_ != nullptr ? v4_->size() : 0) + (v6_ != nullptr ? v6_->size() : 0);
}

size_t PrefixSet::Content::memory_bytes() const {
  return sizeof(*this) + (v4_ != nullptr ? v4_->memory_bytes() : 0) +
         (v6_ != nullptr ? v6_->memory_bytes() : 0);
}

PrefixSet::PrefixSet() : content_(new Content) {}

PrefixSet::~PrefixSet() {
  delete content_.load(std::memory_order_relaxed);
}

void PrefixSet::replace(std::unique_ptr<Content> content) {
  auto* old = const_cast<Content*>(content_.load(std::memory_order_relaxed));
  content_.store(content.release(), std::memory_order_release);
  rcu_delete(old);
}

size_t PrefixSet::size() const {
  return content_.load(std::memory_order_acquire)->size();
}

size_t PrefixSet::memory_bytes() const {
  return sizeof(*this) + content_.load(std::memory_order_acquire)->memory_bytes();
}

}  // namespace sallyport
