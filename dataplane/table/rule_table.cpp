#include "dataplane/table/rule_table.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "dataplane/table/rule_fields.h"

namespace sallyport {

using rules::AddressField;
using rules::Alternative;
using rules::Alternatives;
using rules::ByteField;
using rules::kFirstBit;
using rules::kLineBits;
using rules::kLineWords;
using rules::Line;
using rules::PortField;
using rules::Row;
using rules::RowMaker;
using rules::RowRef;
using rules::SetField;
using rules::WordField;

namespace {

struct MarkField {
  uint32_t mask;
  WordField field;
};

constexpr uint32_t kPlainFieldsMax = 9;  // family, from, to, iif, peer, protocol, sport, dport, tos

}  // namespace

struct RuleTable::Inside {
  const uint64_t* at(RowRef row) const { return lines[row].words; }

  uint32_t size = 0;
  uint32_t mark_count = 0;
  std::vector<Line> lines;
  // Fields that no rule asks about are empty.
  RowRef v4 = 0, v6 = 0;
  std::optional<AddressField> from, to;
  std::optional<WordField> iif, peer;
  std::optional<ByteField> protocol, tos;
  std::optional<PortField> sport, dport;
  std::vector<MarkField> marks;
  std::vector<SetField> sets;

  std::vector<uint32_t> first_bits;  // by rule
  std::vector<uint32_t> rules;       // by alternative
  std::vector<uint64_t> needs;       // by alternative: the sets it names; empty when none does

  Result<void> make_fields(Alternatives all, RowMaker& rows);
  Result<void> make_sets_and_marks(Alternatives all, RowMaker& rows);
};

// ---- building

namespace {

std::string count_of(size_t count) {
  return std::to_string(count);
}

Result<void> check_room(const RowMaker& rows, const char* field) {
  if (!rows.is_full()) {
    return {};
  }
  return fail("the rules tell too many different values of " + std::string(field) +
              " apart for so many rules (their table would exceed " +
              count_of(rules::kRowBytesMax >> 20) +
              " MiB); give long lists of prefixes a name as a set, and let rules share it");
}

bool matches_protocol(const RuleConditions& rule, uint8_t value) {
  const auto& [values, negated] = rule.protocol;
  const bool any = std::find(values.begin(), values.end(), value) != values.end();
  return values.empty() || any != negated;
}

bool matches_tos(const RuleConditions& rule, uint8_t value) {
  return !rule.tos.asks || ((value & rule.tos.mask) == rule.tos.value) != rule.tos.negated;
}

template <class Asks>
bool any_asks(Alternatives all, Asks asks) {
  return std::any_of(all.begin(), all.end(),
                     [&](const Alternative& each) { return asks(*each.asks); });
}

RowRef family_row(Alternatives all, bool RuleConditions::*family, RowMaker& rows) {
  Row row(rows.alternatives());
  for (uint32_t i = 0; i < all.size(); ++i) {
    row.put(i, all[i].asks->*family);
  }
  return rows.keep(row);
}

}  // namespace

Result<void> RuleTable::Inside::make_fields(Alternatives all, RowMaker& rows) {
  v4 = family_row(all, &RuleConditions::v4, rows);
  v6 = family_row(all, &RuleConditions::v6, rows);
  if (any_asks(all, [](const auto& rule) { return !rule.protocol.values.empty(); })) {
    protocol.emplace(all, matches_protocol, rows);
  }
  if (any_asks(all, [](const auto& rule) { return rule.tos.asks; })) {
    tos.emplace(all, matches_tos, rows);
  }
  Result<void> room = check_room(rows, "protocol and tos");
  const auto make = [&](const char* name, const auto& asks, const auto& emplace) {
    if (room.has_value() && any_asks(all, asks)) {
      emplace();
      room = check_room(rows, name);
    }
  };
  make(
      "iif", [](const auto& rule) { return !rule.iif.values.empty(); },
      [&] { iif = rules::make_number_field(all, &RuleConditions::iif, rows); });
  make(
      "peer", [](const auto& rule) { return !rule.peer.values.empty(); },
      [&] { peer = rules::make_number_field(all, &RuleConditions::peer, rows); });
  make(
      "sport", [](const auto& rule) { return !rule.sport.ranges.empty(); },
      [&] { sport.emplace(all, &RuleConditions::sport, rows); });
  make(
      "dport", [](const auto& rule) { return !rule.dport.ranges.empty(); },
      [&] { dport.emplace(all, &RuleConditions::dport, rows); });
  make(
      "from", [](const auto& rule) { return !rule.from.prefixes.empty(); },
      [&] { from.emplace(all, &Alternative::from, rows); });
  make(
      "to", [](const auto& rule) { return !rule.to.prefixes.empty(); },
      [&] { to.emplace(all, &Alternative::to, rows); });
  return room;
}

Result<void> RuleTable::Inside::make_sets_and_marks(Alternatives all, RowMaker& rows) {
  std::vector<uint32_t> masks;
  for (const Alternative& each : all) {
    if (each.asks->mark.asks) {
      masks.push_back(each.asks->mark.mask);
    }
  }
  std::sort(masks.begin(), masks.end());
  masks.erase(std::unique(masks.begin(), masks.end()), masks.end());

  struct Use {
    rules::AddressPart Alternative::*part;
    const PrefixSet* set;
  };
  std::vector<Use> uses;
  needs.assign(all.size(), 0);
  const auto number_of = [&](const Use& use) {
    const auto found = std::find_if(uses.begin(), uses.end(), [&](const Use& known) {
      return known.part == use.part && known.set == use.set;
    });
    const auto number = static_cast<size_t>(found - uses.begin());
    if (found == uses.end()) {
      uses.push_back(use);
    }
    return number;
  };
  for (size_t i = 0; i < all.size(); ++i) {
    for (const auto part : {&Alternative::from, &Alternative::to}) {
      for (const PrefixSet* set : (all[i].*part).sets) {
        needs[i] |= uint64_t{1} << (number_of({part, set}) & 63);
      }
    }
  }
  constexpr size_t kMost = Walk::kRowsMax - kPlainFieldsMax;
  if (masks.size() + uses.size() > kMost) {
    return fail("the rules ask for " + count_of(uses.size()) +
                " sets (counted once as source, once as destination) and " +
                count_of(masks.size()) + " different fwmark masks; together at most " +
                count_of(kMost) + " are possible: join sets that are used alike");
  }
  if (uses.empty()) {
    needs.clear();
  }
  for (const Use& use : uses) {
    sets.emplace_back(all, use.part, use.set, rows);
  }
  for (const uint32_t mask : masks) {
    marks.push_back({mask, rules::make_mark_field(all, mask, rows)});
  }
  mark_count = static_cast<uint32_t>(marks.size());
  return check_room(rows, "fwmark");
}

RuleTable::RuleTable(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}

RuleTable::~RuleTable() = default;

Result<std::unique_ptr<RuleTable>> RuleTable::build(std::span<const RuleConditions> conditions) {
  if (conditions.size() > kRulesMax) {
    return fail("there are " + count_of(conditions.size()) + " rules, and at most " +
                    count_of(kRulesMax) +
                    " are possible; rules that differ in an address only can share a set",
                E2BIG);
  }
  const std::vector<Alternative> all = rules::write_out(conditions);
  if (all.size() > rules::kAlternativesMax) {
    return fail("the rules name several sets in one `from` or `to` too often (more than " +
                    count_of(rules::kAlternativesMax) +
                    " combinations); join sets that are used together",
                E2BIG);
  }
  auto inside = std::make_unique<Inside>();
  inside->size = static_cast<uint32_t>(conditions.size());
  RowMaker rows(static_cast<uint32_t>(all.size()));
  if (auto made = inside->make_fields(all, rows); !made.has_value()) {
    return std::unexpected(made.error());
  }
  if (auto made = inside->make_sets_and_marks(all, rows); !made.has_value()) {
    return std::unexpected(made.error());
  }
  inside->lines = rows.take();
  for (uint32_t i = 0; i < all.size(); ++i) {
    if (i == 0 || all[i].rule != all[i - 1].rule) {
      inside->first_bits.push_back(kFirstBit + i);
    }
    inside->rules.push_back(all[i].rule);
  }
  return std::unique_ptr<RuleTable>(new RuleTable(std::move(inside)));
}

uint32_t RuleTable::size() const {
  return inside_->size;
}

size_t RuleTable::memory_bytes() const {
  const auto bytes_of = [](const auto& field) { return field ? field->memory_bytes() : 0; };
  const Inside& in = *inside_;
  size_t bytes = sizeof(*this) + sizeof(in) + in.lines.capacity() * sizeof(Line) +
                 in.marks.capacity() * sizeof(MarkField) + in.sets.capacity() * sizeof(SetField) +
                 (in.first_bits.capacity() + in.rules.capacity()) * sizeof(uint32_t) +
                 in.needs.capacity() * sizeof(uint64_t);
  for (const MarkField& each : in.marks) {
    bytes += each.field.memory_bytes();
  }
  return bytes + bytes_of(in.from) + bytes_of(in.to) + bytes_of(in.iif) + bytes_of(in.peer) +
         bytes_of(in.protocol) + bytes_of(in.tos) + bytes_of(in.sport) + bytes_of(in.dport);
}

// ---- walking

// One line of the AND of rows. The vectors are the compiler's, for any machine; four by name, so that they stay in registers.
struct RuleTable::Walk::Block {
  using Lanes = uint64_t __attribute__((vector_size(16)));
  static constexpr uint32_t kNone = kLineBits;

  Lanes a, b, c, d;

  static Block load(const uint64_t* line) {
    const auto* lanes = reinterpret_cast<const Lanes*>(line);
    return {lanes[0], lanes[1], lanes[2], lanes[3]};
  }
  void store(uint64_t* line) const { *reinterpret_cast<Block*>(line) = *this; }
  void keep(const uint64_t* line) {
    const Block other = load(line);
    a &= other.a;
    b &= other.b;
    c &= other.c;
    d &= other.d;
  }
  // The line at `offset` of these rows, too.
  void keep(const uint64_t* const* rows, size_t count, size_t offset) {
    for (size_t i = 0; i < count; ++i) {
      keep(rows[i] + offset);
    }
  }
  bool is_empty() const {
    const Lanes any = (a | b) | (c | d);
    return (any[0] | any[1]) == 0;
  }

  // The first bit set at or behind `from`, both within the line; or kNone.
  uint32_t first(uint32_t from) const {
    if (is_empty()) {
      return kNone;
    }
    alignas(16) uint64_t words[kLineWords];
    store(words);
    const uint32_t word = from / 64;
    words[word] &= ~uint64_t{0} << (from & 63);
    uint32_t filled = 0;
    for (uint32_t i = 0; i < kLineWords; ++i) {
      filled |= uint32_t{words[i] != 0} << i;
    }
    filled &= ~0u << word;
    if (filled == 0) {
      return kNone;
    }
    const auto found = static_cast<uint32_t>(std::countr_zero(filled));
    return found * 64 + static_cast<uint32_t>(std::countr_zero(words[found]));
  }
};

RuleTable::Walk::Walk(const Inside& in, const RuleKey& key)
    : inside_(&in), v4_(key.v4), row_count_(in.mark_count) {
  const auto add = [&](RowRef row) { rows_[row_count_++] = in.at(row); };
  add(key.v4 ? in.v4 : in.v6);
  if (in.to) {
    add(in.to->row(key.v4, key.destination));
  }
  if (in.from) {
    add(in.from->row(key.v4, key.source));
  }
  if (in.iif) {
    add(in.iif->row(key.iif));
  }
  if (in.peer) {
    add(in.peer->row(key.peer));
  }
  if (in.protocol) {
    add(in.protocol->row(key.protocol));
  }
  if (in.tos) {
    add(in.tos->row(key.tos));
  }
  if (in.sport) {
    add(key.has_ports ? in.sport->row(key.source_port) : in.sport->no_ports());
  }
  if (in.dport) {
    add(key.has_ports ? in.dport->row(key.destination_port) : in.dport->no_ports());
  }
  if (!in.sets.empty()) {
    const size_t bytes = key.v4 ? 4 : 16;
    std::memcpy(source_, key.source, bytes);
    std::memcpy(destination_, key.destination, bytes);
  }
  Block head = Block::load(rows_[in.mark_count]);
  head.keep(rows_ + in.mark_count + 1, row_count_ - in.mark_count - 1, 0);
  head.store(head_);
}

void RuleTable::Walk::find_marks(uint32_t mark) {
  for (size_t i = 0; i < inside_->marks.size(); ++i) {
    const MarkField& each = inside_->marks[i];
    rows_[i] = inside_->at(each.field.row(mark & each.mask));
  }
  mark_ = mark;
  are_marks_known_ = true;
}

// Its row is one of the walk's from now on.
const uint64_t* RuleTable::Walk::find_set(uint32_t number) {
  const SetField& field = inside_->sets[number];
  const bool inside = field.set->contains(v4_, field.is_source ? source_ : destination_);
  const uint64_t* row = inside_->at(inside ? field.inside : field.outside);
  sets_known_ |= uint64_t{1} << number;
  rows_[row_count_++] = row;
  Block head = Block::load(head_);
  head.keep(row);
  head.store(head_);
  return row;
}

// What all rows together have in this line; of the first without its summary.
[[gnu::always_inline]] inline RuleTable::Walk::Block RuleTable::Walk::find_block(
    uint32_t line, uint64_t& summary) const {
  if (line > 0) {
    const size_t offset = size_t{line} * kLineWords;
    Block block = Block::load(rows_[0] + offset);
    block.keep(rows_ + 1, row_count_ - 1, offset);
    return block;
  }
  Block block = Block::load(head_);
  block.keep(rows_, inside_->mark_count, 0);
  summary = block.a[0];
  block.a[0] = 0;
  return block;
}

uint32_t RuleTable::Walk::next(uint32_t from, uint32_t mark) {
  const Inside& in = *inside_;
  if (from >= in.size) {
    return kNoRule;
  }
  if (!are_marks_known_ || mark != mark_) {
    find_marks(mark);
  }
  uint64_t summary = 0;
  Block block = find_block(0, summary);
  uint32_t line = in.first_bits[from] / kLineBits;
  uint32_t start = in.first_bits[from] % kLineBits;
  if (line > 0) {
    block = find_block(line, summary);
  }
  for (;;) {
    const uint32_t bit = block.first(start);
    if (bit == Block::kNone) {
      // No shift by 64: the last line has none behind it.
      const uint64_t behind = line == 63 ? 0 : summary & ~uint64_t{0} << (line + 1);
      if (behind == 0) {
        return kNoRule;
      }
      line = static_cast<uint32_t>(std::countr_zero(behind));
      start = 0;
      block = find_block(line, summary);
      continue;
    }
    const uint32_t alternative = line * kLineBits + bit - kFirstBit;
    const uint64_t needs = in.needs.empty() ? 0 : in.needs[alternative] & ~sets_known_;
    if (needs == 0) {
      return in.rules[alternative];
    }
    const uint64_t* row = find_set(static_cast<uint32_t>(std::countr_zero(needs)));
    summary &= row[0];
    block.keep(row + size_t{line} * kLineWords);
  }
}

}  // namespace sallyport
