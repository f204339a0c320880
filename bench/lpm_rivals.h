// What the LPM table is measured against, besides DPDK (lpm_dpdk.h): written for the benchmark, as
// well as their kind allows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bench/lpm_tables.h"

namespace sallyport::bench {

// A binary trie that skips bits without a branch: what the kernel module keeps allowed-IPs in. A
// node for each prefix and each fork, of the kernel's size, allocated one by one.
template <class Table>
class BitTrie {
 public:
  using Address = typename Table::Address;
  static constexpr unsigned kBits = Table::kBits;

  ~BitTrie() { destroy(root_); }

  void insert(const Address& address, unsigned length, LpmValue value) {
    const lpm::Key key = lpm::masked(to_key(address), length);
    Node** place = &root_;
    while (*place != nullptr && (*place)->length <= length && agrees(**place, key)) {
      if ((*place)->length == length) {
        (*place)->value = value;
        return;
      }
      place = &(*place)->child[bit(key, (*place)->length)];
    }
    Node* below = *place;
    if (below == nullptr) {
      *place = new Node{key, length, value};
      return;
    }
    const unsigned common = std::min({lpm::common_bits(key, below->key), length, below->length});
    if (common == length) {
      *place = new Node{key, length, value};
    } else {
      *place = new Node{lpm::masked(key, common), common, kLpmMiss};
      (*place)->child[bit(key, common)] = new Node{key, length, value};
    }
    (*place)->child[bit(below->key, common)] = below;
  }

  LpmValue lookup(const Address& address) const {
    const lpm::Key key = to_key(address);
    LpmValue best = kLpmMiss;
    for (const Node* node = root_; node != nullptr && agrees(*node, key);) {
      best = node->value != kLpmMiss ? node->value : best;
      if (node->length == kBits) {
        break;
      }
      node = node->child[bit(key, node->length)];
    }
    return best;
  }

 private:
  struct Node {
    lpm::Key key;
    unsigned length;
    LpmValue value;
    Node* child[2] = {nullptr, nullptr};
    void* parent_and_list[3] =
        {};  // the kernel's node has these, and they spread the tree over the cache
  };

  static lpm::Key to_key(const Address& address) {
    if constexpr (kBits == 32) {
      return lpm::Ipv4::key(address);
    } else {
      return lpm::Ipv6::key(address);
    }
  }

  static bool agrees(const Node& node, const lpm::Key& key) {
    if constexpr (kBits == 32) {
      return ((node.key.high ^ key.high) & lpm::upper_bits(node.length)) == 0;
    } else {
      return lpm::common_bits(node.key, key) >= node.length;
    }
  }

  static unsigned bit(const lpm::Key& key, unsigned number) {
    return static_cast<unsigned>((number < 64 ? key.high : key.low) >> (63 - number % 64) & 1);
  }

  static void destroy(Node* node) {
    if (node != nullptr) {
      destroy(node->child[0]);
      destroy(node->child[1]);
      delete node;
    }
  }

  Node* root_ = nullptr;
};

// Prefixes longest first; the first that matches is the answer. Hard to beat with ten.
template <class Table>
class SortedArray {
 public:
  using Address = typename Table::Address;

  explicit SortedArray(std::vector<typename Table::Prefix> prefixes) {
    std::stable_sort(prefixes.begin(), prefixes.end(),
                     [](const auto& a, const auto& b) { return a.length > b.length; });
    for (const auto& prefix : prefixes) {
      entries_.push_back({prefix.address, mask(prefix.length), prefix.value});
    }
  }

  LpmValue lookup(const Address& address) const {
    for (const Entry& entry : entries_) {
      if (matches(entry, address)) {
        return entry.value;
      }
    }
    return kLpmMiss;
  }

 private:
  struct Entry {
    Address address;
    Address mask;
    LpmValue value;
  };

  static Address mask(unsigned length) {
    return Numbers<Table>::address(~Numbers<Table>::host_mask(length));
  }

  static bool matches(const Entry& entry, const Address& address) {
    if constexpr (Table::kBits == 32) {
      return (address & entry.mask) == entry.address;
    } else {
      return (((address.high & entry.mask.high) ^ entry.address.high) |
              ((address.low & entry.mask.low) ^ entry.address.low)) == 0;
    }
  }

  std::vector<Entry> entries_;
};

}  // namespace sallyport::bench
