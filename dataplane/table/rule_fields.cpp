#include "dataplane/table/rule_fields.h"

#include <algorithm>
#include <bit>

namespace sallyport::rules {
namespace {

std::vector<AddressPart> ways(const AddressCondition& condition) {
  if (condition.negated) {
    return {{condition.prefixes, condition.sets, true}};
  }
  std::vector<AddressPart> parts;
  if (!condition.prefixes.empty()) {
    parts.push_back({condition.prefixes, {}, false});
  }
  for (const PrefixSet* const& set : condition.sets) {
    parts.push_back({{}, {&set, 1}, false});
  }
  if (parts.empty()) {
    parts.emplace_back();
  }
  return parts;
}

Row matching_all(uint32_t alternatives) {
  Row row(alternatives);
  for (uint32_t i = 0; i < alternatives; ++i) {
    row.put(i, true);
  }
  return row;
}

}  // namespace

std::vector<Alternative> write_out(std::span<const RuleConditions> rules) {
  std::vector<Alternative> all;
  all.reserve(rules.size());
  for (uint32_t i = 0; i < rules.size() && all.size() <= kAlternativesMax; ++i) {
    const std::vector<AddressPart> targets = ways(rules[i].to);
    for (const AddressPart& from : ways(rules[i].from)) {
      for (const AddressPart& to : targets) {
        all.push_back({i, &rules[i], from, to});
      }
    }
  }
  return all;
}

// ---- bytes

ByteField::ByteField(Alternatives all, Condition matches, RowMaker& rows) {
  for (unsigned value = 0; value < rows_.size(); ++value) {
    Row row(rows.alternatives());
    for (uint32_t i = 0; i < all.size(); ++i) {
      row.put(i, matches(*all[i].asks, static_cast<uint8_t>(value)));
    }
    rows_[value] = rows.keep(row);
  }
}

// ---- ports

namespace {

// From this port on, the alternative matches or not.
struct Edge {
  uint32_t port;
  uint32_t alternative;
  bool matches;
};

// The edges of one list of ranges, which may overlap and come in any order. Ranges the wrong way round hold nothing.
void add_edges(const PortCondition& condition, uint32_t alternative, std::vector<Edge>& edges) {
  std::vector<PortRange> ranges = condition.ranges;
  std::erase_if(ranges, [](const PortRange& range) { return range.first > range.last; });
  std::sort(ranges.begin(), ranges.end(),
            [](const PortRange& a, const PortRange& b) { return a.first < b.first; });
  edges.push_back({0, alternative, condition.negated});
  for (size_t i = 0; i < ranges.size();) {
    const uint32_t first = ranges[i].first;
    uint32_t end = ranges[i].last + 1u;
    for (++i; i < ranges.size() && ranges[i].first <= end; ++i) {
      end = std::max(end, ranges[i].last + 1u);
    }
    edges.push_back({first, alternative, !condition.negated});
    edges.push_back({end, alternative, condition.negated});
  }
}

}  // namespace

PortField::PortField(Alternatives all, PortCondition RuleConditions::*condition, RowMaker& rows) {
  Row row = matching_all(rows.alternatives());
  std::vector<Edge> edges;
  for (uint32_t i = 0; i < all.size(); ++i) {
    const PortCondition& asked = all[i].asks->*condition;
    if (!asked.ranges.empty()) {
      row.put(i, false);
      add_edges(asked, i, edges);
    }
  }
  no_ports_ = rows.keep(row);
  // Stable: an alternative's own edges at one port (a range from 0) take effect in order.
  std::stable_sort(edges.begin(), edges.end(),
                   [](const Edge& a, const Edge& b) { return a.port < b.port; });
  std::vector<RowRef> flat(65536, no_ports_);
  for (size_t i = 0; i < edges.size() && edges[i].port < flat.size() && !rows.is_full();) {
    const uint32_t port = edges[i].port;
    for (; i < edges.size() && edges[i].port == port; ++i) {
      row.put(edges[i].alternative, edges[i].matches);
    }
    const size_t end = i < edges.size() ? edges[i].port : flat.size();
    std::fill(flat.begin() + port, flat.begin() + static_cast<ptrdiff_t>(end), rows.keep(row));
  }
  fold(flat);
}

void PortField::fold(const std::vector<RowRef>& flat) {
  for (size_t number = 0; number < page_of_.size(); ++number) {
    Page page;
    std::copy_n(flat.begin() + static_cast<ptrdiff_t>(number * page.size()), page.size(),
                page.begin());
    const auto found = std::find(pages_.begin(), pages_.end(), page);
    page_of_[number] = static_cast<uint8_t>(found - pages_.begin());
    if (found == pages_.end()) {
      pages_.push_back(page);
    }
  }
  pages_.shrink_to_fit();
}

// ---- words

WordField::WordField(std::vector<Named> named, std::span<const Asking> asking, RowMaker& rows) {
  Row others = matching_all(rows.alternatives());
  std::vector<bool> negated(rows.alternatives());
  for (const Asking& each : asking) {
    negated[each.alternative] = each.negated;
    others.put(each.alternative, each.negated);
  }
  others_ = rows.keep(others);
  const auto size = static_cast<uint32_t>(std::bit_ceil(4 * named.size() + 4));
  slots_.resize(size);
  mask_ = size - 1;
  shift_ = 32 - static_cast<uint32_t>(std::countr_zero(size));
  std::sort(named.begin(), named.end(),
            [](const Named& a, const Named& b) { return a.value < b.value; });
  for (size_t i = 0; i < named.size() && !rows.is_full();) {
    const uint32_t value = named[i].value;
    Row row = others;
    for (; i < named.size() && named[i].value == value; ++i) {
      row.put(named[i].alternative, !negated[named[i].alternative]);
    }
    insert(value, rows.keep(row));
  }
}

void WordField::insert(uint32_t value, RowRef row) {
  uint32_t at = value * kSpread >> shift_;
  while (slots_[at].is_used) {
    at = (at + 1) & mask_;
  }
  slots_[at] = {value, row, true};
}

WordField make_number_field(Alternatives all, NumberCondition RuleConditions::*condition,
                            RowMaker& rows) {
  std::vector<WordField::Named> named;
  std::vector<WordField::Asking> asking;
  for (uint32_t i = 0; i < all.size(); ++i) {
    const NumberCondition& asked = all[i].asks->*condition;
    for (const uint32_t value : asked.values) {
      named.push_back({value, i});
    }
    if (!asked.values.empty()) {
      asking.push_back({i, asked.negated});
    }
  }
  return WordField(std::move(named), asking, rows);
}

WordField make_mark_field(Alternatives all, uint32_t mask, RowMaker& rows) {
  std::vector<WordField::Named> named;
  std::vector<WordField::Asking> asking;
  for (uint32_t i = 0; i < all.size(); ++i) {
    const MaskedCondition& asked = all[i].asks->mark;
    if (asked.asks && asked.mask == mask) {
      named.push_back({asked.value, i});
      asking.push_back({i, asked.negated});
    }
  }
  return WordField(std::move(named), asking, rows);
}

// ---- addresses

namespace {

struct Literal {
  lpm::Key key;
  unsigned length;
  uint32_t alternative;
  bool matches;
};

template <class Family>
std::vector<Literal> literals(Alternatives all, AddressPart Alternative::*part, bool v4) {
  std::vector<Literal> list;
  for (uint32_t i = 0; i < all.size(); ++i) {
    for (const SetEntry& entry : (all[i].*part).prefixes) {
      if (entry.v4 == v4) {
        const lpm::Key key = Family::key(Family::from_bytes(entry.address));
        list.push_back({lpm::masked(key, entry.length), entry.length, i, !(all[i].*part).negated});
      }
    }
  }
  std::sort(list.begin(), list.end(), [](const Literal& a, const Literal& b) {
    return a.key < b.key || (a.key == b.key && a.length < b.length);
  });
  return list;
}

// Sorted like that, a prefix comes after all that cover it, and those are what is open when it comes.
template <class Family>
std::unique_ptr<Lpm<Family>> make_trie(const std::vector<Literal>& list, const Row& others,
                                       RowMaker& rows) {
  struct Open {
    lpm::Key key;
    unsigned length;
    Row row;
  };
  std::vector<Open> open;
  std::vector<typename Lpm<Family>::Prefix> prefixes;
  for (size_t i = 0; i < list.size() && !rows.is_full();) {
    const Literal& first = list[i];
    while (!open.empty() && lpm::common_bits(open.back().key, first.key) < open.back().length) {
      open.pop_back();
    }
    Row row = open.empty() ? others : open.back().row;
    for (; i < list.size() && list[i].key == first.key && list[i].length == first.length; ++i) {
      row.put(list[i].alternative, list[i].matches);
    }
    prefixes.push_back({Family::address(first.key), first.length, rows.keep(row)});
    open.push_back({first.key, first.length, std::move(row)});
  }
  return prefixes.empty() ? nullptr : Lpm<Family>::build(prefixes);
}

}  // namespace

AddressField::AddressField(Alternatives all, AddressPart Alternative::*part, RowMaker& rows) {
  Row others = matching_all(rows.alternatives());
  for (uint32_t i = 0; i < all.size(); ++i) {
    if (!(all[i].*part).prefixes.empty()) {
      others.put(i, (all[i].*part).negated);
    }
  }
  others_ = rows.keep(others);
  v4_ = make_trie<lpm::Ipv4>(literals<lpm::Ipv4>(all, part, true), others, rows);
  v6_ = make_trie<lpm::Ipv6>(literals<lpm::Ipv6>(all, part, false), others, rows);
}

size_t AddressField::memory_bytes() const {
  return sizeof(*this) + (v4_ != nullptr ? v4_->memory_bytes() : 0) +
         (v6_ != nullptr ? v6_->memory_bytes() : 0);
}

SetField::SetField(Alternatives all, AddressPart Alternative::*part, const PrefixSet* named,
                   RowMaker& rows)
    : set(named), is_source(part == &Alternative::from) {
  Row in = matching_all(rows.alternatives());
  Row out = in;
  for (uint32_t i = 0; i < all.size(); ++i) {
    const AddressPart& asked = all[i].*part;
    if (std::find(asked.sets.begin(), asked.sets.end(), named) != asked.sets.end()) {
      in.put(i, !asked.negated);
      out.put(i, asked.negated);
    }
  }
  inside = rows.keep(in);
  outside = rows.keep(out);
}

}  // namespace sallyport::rules
