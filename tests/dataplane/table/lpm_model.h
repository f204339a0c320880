// LpmModel: longest-prefix match so plain that it is right: a map from (length, address) to value,
// asked length by length. The tests and the fuzz target drive it and the real table with the same
// calls and compare every answer.
#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "dataplane/table/lpm.h"

namespace sallyport {

template <class Table>
class LpmModel {
 public:
  using Address = typename Table::Address;
  using Prefix = typename Table::Prefix;
  static constexpr unsigned kBits = Table::kBits;

  static Address masked(const Address& address, unsigned length) {
    if constexpr (kBits == 32) {
      return length == 0 ? 0 : address & (~uint32_t{0} << (32 - length));
    } else {
      Address result;
      for (unsigned bit = 0; bit < length; ++bit) {
        const uint64_t mask = uint64_t{1} << (63 - bit % 64);
        result.high |= bit < 64 ? address.high & mask : 0;
        result.low |= bit < 64 ? 0 : address.low & mask;
      }
      return result;
    }
  }

  bool insert(const Address& address, unsigned length, LpmValue value) {
    return prefixes_.insert_or_assign({masked(address, length), length}, value).second;
  }

  bool remove(const Address& address, unsigned length) {
    return prefixes_.erase({masked(address, length), length}) != 0;
  }

  std::optional<LpmValue> find(const Address& address, unsigned length) const {
    const auto found = prefixes_.find({masked(address, length), length});
    return found != prefixes_.end() ? std::optional(found->second) : std::nullopt;
  }

  LpmValue lookup(const Address& address) const {
    for (unsigned length = kBits + 1; length-- > 0;) {
      if (const auto value = find(address, length)) {
        return *value;
      }
    }
    return kLpmMiss;
  }

  // By address, shorter first.
  std::vector<Prefix> all() const {
    std::vector<Prefix> list;
    for (const auto& [prefix, value] : prefixes_) {
      list.push_back({prefix.first, prefix.second, value});
    }
    return list;
  }

  size_t size() const { return prefixes_.size(); }
  void clear() { prefixes_.clear(); }

 private:
  std::map<std::pair<Address, unsigned>, LpmValue> prefixes_;
};

}  // namespace sallyport
