#include "dataplane/table/fragment_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace sallyport {
namespace {

uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15;
  return hash ^ (hash >> 32);
}

uint64_t load64(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

}  // namespace

FragmentKey fragment_key(const Run& run, const Fragment& fragment, uint32_t zone) {
  const bool v4 = run.family == Family::v4;
  return {v4 ? IpAddress::v4(run.source()) : IpAddress::v6(run.source()),
          v4 ? IpAddress::v4(run.destination()) : IpAddress::v6(run.destination()), fragment.id,
          zone, fragment.protocol};
}

FragmentTable::FragmentTable(size_t packets, uint64_t seed)
    : seed_(seed),
      mask_(std::bit_ceil(std::max(packets, kWays)) / kWays - 1),
      entries_(std::make_unique<Entry[]>((mask_ + 1) * kWays)),
      locks_(std::make_unique<Lock[]>(kLocks)) {}

uint64_t FragmentTable::hash(const FragmentKey& key) const {
  uint64_t hash = mix(seed_, uint64_t{key.id} << 32 | key.zone);
  for (const IpAddress* each : {&key.source, &key.destination}) {
    hash = mix(hash ^ (seed_ >> 7), load64(each->bytes.data()));
    hash = mix(hash, load64(each->bytes.data() + 8));
  }
  return mix(hash, seed_ ^ key.protocol);
}

bool FragmentTable::Entry::is_complete() const {
  return total != 0 && ranges == 1 && come[0].begin == 0 && come[0].end == total;
}

bool FragmentTable::Entry::is_old(uint32_t now) const {
  const auto age = static_cast<int32_t>(now - born);
  return age >= static_cast<int32_t>(key.source.family == Family::v4 ? kSecondsV4 : kSecondsV6);
}

// Adds a stretch of bytes to those that have come.
FragmentState FragmentTable::Entry::take(uint32_t begin, uint32_t end) {
  size_t place = 0;  // the first that ends behind `begin`, or touches it
  while (place < ranges && come[place].end < begin) {
    ++place;
  }
  if (place < ranges && come[place].begin <= begin && end <= come[place].end) {
    return FragmentState::duplicate;
  }
  for (size_t i = place; i < ranges; ++i) {
    if (begin < come[i].end && come[i].begin < end) {
      return FragmentState::overlap;
    }
  }
  const bool joins_before = place < ranges && come[place].end == begin;
  const size_t after = joins_before ? place + 1 : place;
  const bool joins_after = after < ranges && come[after].begin == end;
  if (joins_before && joins_after) {
    come[place].end = come[after].end;
    std::copy(come + after + 1, come + ranges, come + after);
    --ranges;
  } else if (joins_before) {
    come[place].end = end;
  } else if (joins_after) {
    come[after].begin = begin;
  } else if (ranges == kRangesMax) {
    return FragmentState::scattered;
  } else {
    std::copy_backward(come + place, come + ranges, come + ranges + 1);
    come[place] = {begin, end};
    ++ranges;
  }
  return FragmentState::known;
}

// A later fragment of this packet.
FragmentState FragmentTable::Entry::extend(const Fragment& fragment) {
  if (refused) {
    return FragmentState::overlap;
  }
  const uint32_t end = fragment.offset + fragment.bytes;
  const bool beyond = total != 0 && (end > total || (!fragment.more && end != total));
  if (beyond || (!fragment.more && come[ranges - 1].end > end)) {
    refused = true;
    return FragmentState::impossible;
  }
  const FragmentState state = take(fragment.offset, end);
  refused = state == FragmentState::overlap;
  if (state == FragmentState::known && !fragment.more) {
    total = end;
  }
  return state;
}

// A first fragment; `entry` is what is known of its packet, or of one before it with the same id.
FragmentState FragmentTable::begin(Entry* set, Entry* entry, const FragmentKey& key,
                                   const Fragment& fragment, FragmentPorts ports, uint32_t now) {
  if (entry != nullptr && !entry->is_complete()) {
    if (entry->refused) {
      return FragmentState::overlap;
    }
    // The same again is a copy of it, or the first of another packet after one that never became complete.
    const uint32_t bytes_then = entry->first_bytes;
    if (bytes_then != fragment.bytes || entry->ports.source != ports.source ||
        entry->ports.destination != ports.destination) {
      entry->refused = true;
      return FragmentState::overlap;
    }
  }
  if (entry == nullptr) {
    const auto worth = [now](const Entry& each) {  // to keep: the age, or none at all
      return each.ranges == 0 || each.is_old(now) ? 0 : each.is_complete() ? 1 : 2;
    };
    entry = std::min_element(set, set + kWays, [&](const Entry& a, const Entry& b) {
      return worth(a) != worth(b) ? worth(a) < worth(b) : static_cast<int32_t>(a.born - b.born) < 0;
    });
  }
  *entry = Entry{};
  entry->key = key;
  entry->ports = ports;
  entry->born = now;
  entry->first_bytes = fragment.bytes;
  entry->ranges = 1;
  entry->come[0] = {0, fragment.bytes};
  return FragmentState::first;
}

FragmentState FragmentTable::add(const FragmentKey& key, const Fragment& fragment,
                                 FragmentPorts& ports, uint32_t now_seconds) {
  const uint64_t number = hash(key);
  Entry* set = entries_.get() + (number & mask_) * kWays;
  const std::lock_guard guard(locks_[(number & mask_) % kLocks].mutex);
  Entry* entry = std::find_if(set, set + kWays, [&](const Entry& each) {
    return each.ranges > 0 && each.key == key && !each.is_old(now_seconds);
  });
  entry = entry == set + kWays ? nullptr : entry;
  if (fragment.is_first()) {
    return begin(set, entry, key, fragment, ports, now_seconds);
  }
  if (entry == nullptr) {
    return FragmentState::early;
  }
  const FragmentState state = entry->extend(fragment);
  if (state == FragmentState::known) {
    ports = entry->ports;
  }
  return state;
}

size_t FragmentTable::memory_bytes() const {
  return sizeof(*this) + (mask_ + 1) * kWays * sizeof(Entry) + kLocks * sizeof(Lock);
}

}  // namespace sallyport
