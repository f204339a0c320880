// The scheduler of the multi-buffer AEAD: which packets of a burst share the lanes of a kernel, and
// which go one by one.
//
// A burst is taken in windows of 64. A window is sorted, longest first (a run already is: its
// segments have one length and the last is shorter), and cut into groups of as many packets as the
// kernel has lanes. A group takes as long as its longest packet, so the costs below decide: a
// packet much longer than the rest leaves the group, and a group too small to pay for its idle
// lanes is dissolved. What is left over goes to the fastest implementation for single packets.
#include <algorithm>
#include <string_view>

#include "crypto/aead_backends.h"
#include "crypto/aead_lanes.h"

namespace sallyport::crypto {

namespace {

constexpr size_t kWindow = 64;

// What a group costs, and what a packet costs that goes alone: a fixed part and a part for each 64
// bytes of the longest packet, in ns on a Zen 4 at 3.7 GHz (bench/aead_bench --routing prints them
// for any machine). Only ratios matter.
struct Cost {
  uint32_t fixed;
  uint32_t block;

  constexpr uint32_t of(uint32_t len) const { return fixed + block * ((len + 63) / 64); }
};

struct Routing {
  const LaneKernel& kernel;
  Cost group;
  Cost alone_ipsecmb;  // on a CPU whose best kernel this is
};

const Routing kAvx512Routing = {kAvx512Kernel, {330, 242}, {150, 16}};
const Routing kAvx2Routing = {kAvx2Kernel, {230, 230}, {190, 31}};
constexpr Cost kAloneSodium = {260, 38};

// Fewer packets than this are not worth a group on any machine, whatever their lengths.
constexpr size_t kFewest = 3;

Cost cost_alone(const Routing& routing) {
  static const bool has_ipsecmb = std::string_view(aead_one_by_one().name) == "ipsecmb";
  return has_ipsecmb ? routing.alone_ipsecmb : kAloneSodium;
}

// A packet of the window, and how long it is without its tag.
template <class Item>
struct Entry {
  Item* item;
  uint32_t len;
};

LanePacket to_lane(const SealItem& item) {
  return {item.key->bytes,
          item.counter,
          item.head,
          item.body,
          item.out,
          item.head_len,
          item.body_len,
          static_cast<uint32_t>(item.plain_len()),
          false};
}

LanePacket to_lane(const OpenItem& item) {
  const uint32_t len = item.len - static_cast<uint32_t>(kTagSize);
  return {item.key->bytes, item.counter, nullptr, item.data, item.data, 0, len, len, false};
}

uint32_t plain_len(const SealItem& item) {
  return static_cast<uint32_t>(item.plain_len());
}

// Of an OpenItem at least as long as a tag.
uint32_t plain_len(const OpenItem& item) {
  return item.len - static_cast<uint32_t>(kTagSize);
}

void run_group(const LaneKernel& kernel, const Entry<SealItem>* entries, size_t count,
               LaneScratch& scratch) {
  LanePacket packets[kMostLanes];
  for (size_t i = 0; i < count; ++i) {
    packets[i] = to_lane(*entries[i].item);
  }
  kernel.seal(packets, count, scratch);
}

void run_group(const LaneKernel& kernel, const Entry<OpenItem>* entries, size_t count,
               LaneScratch& scratch) {
  LanePacket packets[kMostLanes];
  for (size_t i = 0; i < count; ++i) {
    packets[i] = to_lane(*entries[i].item);
  }
  kernel.open(packets, count, scratch);
  for (size_t i = 0; i < count; ++i) {
    entries[i].item->ok = packets[i].ok;
    if (!packets[i].ok) {
      secure_zero(packets[i].target, packets[i].len);
    }
  }
}

void run_alone(std::span<SealItem> items) {
  static const auto seal = aead_one_by_one().seal_many;
  seal(items);
}

void run_alone(std::span<OpenItem> items) {
  static const auto open = aead_one_by_one().open_many;
  open(items);
}

template <class Item>
bool longest_first(const Entry<Item>* entries, size_t count) {
  for (size_t i = 1; i < count; ++i) {
    if (entries[i - 1].len < entries[i].len) {
      return false;
    }
  }
  return true;
}

// How many packets at the front of sorted items cost less alone than as the ones all others wait
// for.
template <class Item>
size_t count_outliers(const Cost& group, const Cost& alone, const Entry<Item>* entries,
                      size_t count) {
  size_t outliers = 0;
  while (outliers + 1 < count) {
    const uint32_t longest = entries[outliers].len;
    const uint32_t next = entries[outliers + 1].len;
    if (alone.of(longest) + group.of(next) >= group.of(longest)) {
      break;
    }
    ++outliers;
  }
  return outliers;
}

template <class Item>
bool group_pays(const Cost& group, const Cost& alone, const Entry<Item>* entries, size_t count) {
  uint32_t apart = 0;
  for (size_t i = 0; i < count; ++i) {
    apart += alone.of(entries[i].len);
  }
  return group.of(entries[0].len) < apart;
}

// The next of sorted items, as a group or alone. Returns how many are done.
template <class Item>
size_t run_some(const Routing& routing, const Entry<Item>* entries, size_t count,
                LaneScratch& scratch) {
  const Cost alone = cost_alone(routing);
  const size_t size = std::min(count, routing.kernel.lanes);
  const size_t outliers = count_outliers(routing.group, alone, entries, size);
  if (outliers == 0 && group_pays(routing.group, alone, entries, size)) {
    run_group(routing.kernel, entries, size, scratch);
    return size;
  }
  const size_t apart = outliers != 0 ? outliers : size;
  for (size_t i = 0; i < apart; ++i) {
    run_alone(std::span(entries[i].item, 1));
  }
  return apart;
}

template <bool kRouted, class Item>
void run_window(const Routing& routing, Entry<Item>* entries, size_t count, LaneScratch& scratch) {
  if (!longest_first(entries, count)) {
    std::sort(entries, entries + count,
              [](const Entry<Item>& a, const Entry<Item>& b) { return a.len > b.len; });
  }
  size_t done = 0;
  while (done < count) {
    if constexpr (kRouted) {
      done += run_some(routing, entries + done, count - done, scratch);
    } else {
      const size_t size = std::min(count - done, routing.kernel.lanes);
      run_group(routing.kernel, entries + done, size, scratch);
      done += size;
    }
  }
}

// False, and settled, if the packet is shorter than a tag.
bool has_tag(OpenItem& item) {
  item.ok = false;
  return item.len >= kTagSize;
}

bool has_tag(SealItem&) {
  return true;
}

template <bool kRouted, class Item>
[[gnu::noinline]] void run_burst(const Routing& routing, std::span<Item> burst) {
  LaneScratch scratch;
  for (size_t start = 0; start < burst.size(); start += kWindow) {
    Entry<Item> entries[kWindow];
    size_t count = 0;
    for (Item& item : burst.subspan(start, std::min(kWindow, burst.size() - start))) {
      if (has_tag(item)) {
        entries[count++] = {&item, plain_len(item)};
      }
    }
    run_window<kRouted>(routing, entries, count, scratch);
  }
  secure_zero(scratch.bytes, scratch.used);
}

// True if no group of these packets could pay: not even one that lasts as long as the shortest of
// them.
template <class Item>
bool too_few(const Routing& routing, std::span<Item> burst) {
  if (burst.size() < kFewest || burst.size() >= routing.kernel.lanes) {
    return burst.size() < kFewest;
  }
  const Cost alone = cost_alone(routing);
  uint32_t shortest = UINT32_MAX;
  uint32_t apart = 0;
  for (Item& item : burst) {
    const uint32_t len = has_tag(item) ? plain_len(item) : 0;
    shortest = std::min(shortest, len);
    apart += alone.of(len);
  }
  return routing.group.of(shortest) >= apart;
}

template <class Item>
void run_routed(const Routing& routing, std::span<Item> burst) {
  if (too_few(routing, burst)) {
    run_alone(burst);
  } else {
    run_burst<true>(routing, burst);
  }
}

}  // namespace

void avx512_seal_many(std::span<SealItem> items) {
  run_routed(kAvx512Routing, items);
}

void avx512_open_many(std::span<OpenItem> items) {
  run_routed(kAvx512Routing, items);
}

void avx512_seal_lanes(std::span<SealItem> items) {
  run_burst<false>(kAvx512Routing, items);
}

void avx512_open_lanes(std::span<OpenItem> items) {
  run_burst<false>(kAvx512Routing, items);
}

void avx2_seal_many(std::span<SealItem> items) {
  run_routed(kAvx2Routing, items);
}

void avx2_open_many(std::span<OpenItem> items) {
  run_routed(kAvx2Routing, items);
}

void avx2_seal_lanes(std::span<SealItem> items) {
  run_burst<false>(kAvx2Routing, items);
}

void avx2_open_lanes(std::span<OpenItem> items) {
  run_burst<false>(kAvx2Routing, items);
}

}  // namespace sallyport::crypto
