#include "dataplane/table/mapping_table.h"

#include <algorithm>
#include <cstring>
#include <mutex>

namespace sallyport {

MappedEnd MappedEnd::make(const FlowTuple& original, const uint8_t* outer_address) {
  MappedEnd end{original};
  std::memcpy(end.key.destination, outer_address, sizeof(end.key.destination));
  end.key.destination_port = be16{0};
  return end;
}

MappingTable::MappingTable(size_t mappings, unsigned owners)
    : capacity_(static_cast<uint32_t>(std::max<size_t>(mappings, 2))),
      entries_(capacity_),
      inner_(capacity_, capacity_),
      outer_(capacity_, capacity_),
      owned_(std::max(owners, 1u)) {}

size_t MappingTable::memory_bytes() const {
  return sizeof(*this) + entries_.bytes() + inner_.bytes() + outer_.bytes() + owned_.bytes();
}

FlowTuple MappingTable::outer_of(const FlowTuple& end, be16 port) {
  FlowTuple outer;
  std::memcpy(outer.source, end.destination, sizeof(outer.source));
  outer.source_port = port;
  outer.protocol = end.protocol;
  outer.set(end.family(), 0);
  return outer;
}

uint32_t MappingTable::find_inner(const FlowTuple& end, uint64_t hash) const {
  return inner_.find(hash, [&](uint32_t number) { return entries_[number].end == end; });
}

uint32_t MappingTable::find_outer(const FlowTuple& outer, uint64_t hash) const {
  return outer_.find(hash, [&](uint32_t number) {
    return outer_of(entries_[number].end, entries_[number].port) == outer;
  });
}

std::optional<be16> MappingTable::join(const MappedEnd& end) {
  const uint64_t hash = hash_(end.key);
  const std::lock_guard lock(lock_);
  const uint32_t number = find_inner(end.key, hash);
  if (number == FlowIndex::kNone) {
    return std::nullopt;
  }
  ++entries_[number].shares;
  return entries_[number].port;
}

MappingTable::Claim MappingTable::claim(const MappedEnd& end, be16 outer_port, const Origin& origin,
                                        size_t most) {
  const FlowTuple outer = outer_of(end.key, outer_port);
  const uint64_t inner_hash = hash_(end.key), outer_hash = hash_(outer);
  const std::lock_guard lock(lock_);
  if (const uint32_t number = find_inner(end.key, inner_hash); number != FlowIndex::kNone) {
    ++entries_[number].shares;
    return {Claimed::joined, entries_[number].port};
  }
  if (owned_by(origin) >= most) {
    return {Claimed::over_share};
  }
  if (find_outer(outer, outer_hash) != FlowIndex::kNone) {
    return {Claimed::taken};
  }
  if (free_ == 0 && fresh_ == capacity_) {
    return {Claimed::full};
  }
  const uint32_t number = free_ != 0 ? free_ - 1 : fresh_;
  Entry& entry = entries_[number];
  const uint32_t next_free = free_ != 0 ? entry.next_free : 0;
  entry = {end.key, outer_port, origin, 1, 0};
  if (!inner_.insert(inner_hash, number)) {
    entry.next_free = next_free;
    return {Claimed::full};
  }
  if (!outer_.insert(outer_hash, number)) {
    inner_.remove(inner_hash, number);
    entry.next_free = next_free;
    return {Claimed::full};
  }
  fresh_ += free_ == 0 ? 1 : 0;
  free_ = next_free;
  ++owned_by(origin);
  size_.store(size() + 1, std::memory_order_relaxed);
  return {Claimed::done, outer_port};
}

void MappingTable::leave(const MappedEnd& end) {
  const uint64_t inner_hash = hash_(end.key);
  const std::lock_guard lock(lock_);
  const uint32_t number = find_inner(end.key, inner_hash);
  if (number == FlowIndex::kNone || --entries_[number].shares > 0) {
    return;
  }
  Entry& entry = entries_[number];
  --owned_by(entry.origin);
  inner_.remove(inner_hash, number);
  outer_.remove(hash_(outer_of(entry.end, entry.port)), number);
  entry.next_free = free_;
  free_ = number + 1;
  size_.store(size() - 1, std::memory_order_relaxed);
}

std::optional<MappingTable::Inner> MappingTable::find_outer(const FlowTuple& packet) const {
  FlowTuple outer;
  std::memcpy(outer.source, packet.destination, sizeof(outer.source));
  outer.source_port = packet.destination_port;
  outer.protocol = packet.protocol;
  outer.set(packet.family(), 0);
  const uint64_t hash = hash_(outer);
  const std::lock_guard lock(lock_);
  const uint32_t number = find_outer(outer, hash);
  if (number == FlowIndex::kNone) {
    return std::nullopt;
  }
  const Entry& entry = entries_[number];
  Inner inner;
  std::memcpy(inner.address, entry.end.source, sizeof(inner.address));
  inner.port = entry.end.source_port;
  inner.origin = entry.origin;
  return inner;
}

}  // namespace sallyport
