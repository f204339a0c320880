// RuleFields: from what a packet has in one field (an address, a port, a mark) to the row of what matches it there.
//
// One class for each kind of field, each built from the rules and then immutable. What rows have bits for are
// alternatives: a rule whose `from` or `to` names several sets, or a set and prefixes, any one of which is enough, is
// written out as one rule for each of them, since a conjunction of rows cannot say "or" between fields. A negated list is
// already a conjunction ("in none of them"), so it needs no such thing.
//
// Only rule_* includes this.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/table/lpm.h"
#include "dataplane/table/rule_rows.h"
#include "dataplane/table/rule_table.h"

namespace sallyport::rules {

// What an alternative asks of the source or of the destination.
struct AddressPart {
  std::span<const SetEntry> prefixes;
  std::span<const PrefixSet* const> sets;  // more than one only when negated
  bool negated = false;
};

struct Alternative {
  uint32_t rule;
  const RuleConditions* asks;
  AddressPart from, to;
};

// In the rules' order. Stops when there are more than kAlternativesMax.
std::vector<Alternative> write_out(std::span<const RuleConditions> rules);

using Alternatives = std::span<const Alternative>;

// ---- protocol and tos: 256 values.
class ByteField {
 public:
  using Condition = bool (*)(const RuleConditions& rule, uint8_t value);
  ByteField(Alternatives all, Condition matches, RowMaker& rows);
  RowRef row(uint8_t value) const { return rows_[value]; }
  size_t memory_bytes() const { return sizeof(*this); }

 private:
  std::array<RowRef, 256> rows_;
};

// ---- ports: 65,536 values in pages of 256, equal pages kept once.
class PortField {
 public:
  PortField(Alternatives all, PortCondition RuleConditions::*condition, RowMaker& rows);
  RowRef row(uint16_t port) const { return pages_[page_of_[port >> 8]][port & 255]; }
  RowRef no_ports() const { return no_ports_; }
  size_t memory_bytes() const { return sizeof(*this) + pages_.capacity() * sizeof(Page); }

 private:
  using Page = std::array<RowRef, 256>;
  void fold(const std::vector<RowRef>& flat);

  std::array<uint8_t, 256> page_of_{};
  std::vector<Page> pages_;
  RowRef no_ports_ = 0;
};

// ---- interfaces, peers, marks: any word; few of them are named, and all others are alike.
class WordField {
 public:
  struct Named {
    uint32_t value;
    uint32_t alternative;
  };
  // What each alternative that asks says of values that are not named: its `negated`. Those that do not ask match.
  struct Asking {
    uint32_t alternative;
    bool negated;
  };
  WordField(std::vector<Named> named, std::span<const Asking> asking, RowMaker& rows);

  RowRef row(uint32_t value) const {
    for (uint32_t at = value * kSpread >> shift_;; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.value == value && slot.is_used) {
        return slot.row;
      }
      if (!slot.is_used) {
        return others_;
      }
    }
  }
  size_t memory_bytes() const { return sizeof(*this) + slots_.capacity() * sizeof(Slot); }

 private:
  static constexpr uint32_t kSpread = 0x9e3779b1;
  struct Slot {
    uint32_t value = 0;
    RowRef row = 0;
    bool is_used = false;
  };
  void insert(uint32_t value, RowRef row);

  std::vector<Slot> slots_;  // a power of two, at most a quarter full
  uint32_t mask_ = 0;
  uint32_t shift_ = 0;
  RowRef others_ = 0;
};

WordField make_number_field(Alternatives all, NumberCondition RuleConditions::*condition,
                            RowMaker& rows);
WordField make_mark_field(Alternatives all, uint32_t mask, RowMaker& rows);

// ---- literal prefixes: a trie a family. The row of a prefix counts in all shorter ones that cover it.
class AddressField {
 public:
  AddressField(Alternatives all, AddressPart Alternative::*part, RowMaker& rows);

  RowRef row(bool v4, const uint8_t* address) const {
    LpmValue found = kLpmMiss;
    if (v4 && v4_ != nullptr) {
      found = v4_->lookup(Lpm4::from_bytes(address));
    } else if (!v4 && v6_ != nullptr) {
      found = v6_->lookup(Lpm6::from_bytes(address));
    }
    return found == kLpmMiss ? others_ : found;
  }
  size_t memory_bytes() const;

 private:
  std::unique_ptr<Lpm4> v4_;  // null: no prefix of this family
  std::unique_ptr<Lpm6> v6_;
  RowRef others_ = 0;
};

// ---- a named set as source or destination: looked up only when a rule that asks for it may match otherwise.
struct SetField {
  SetField(Alternatives all, AddressPart Alternative::*part, const PrefixSet* set, RowMaker& rows);

  const PrefixSet* set;
  bool is_source;
  RowRef inside = 0;
  RowRef outside = 0;
};

}  // namespace sallyport::rules
