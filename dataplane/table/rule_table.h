// RuleTable: which rules match a packet, in priority order, found without walking them.
//
// Rules are `ip rule`'s: each a conjunction of conditions on the packet's fields, the first that matches counts, and some
// (a mark, a table without the answer) let the search go on. A thousand of them must cost little more than one, so they are
// compiled: for each field, a lookup of the packet's value yields a row of bits, one a rule, "as far as this field is
// concerned, these rules match". The rules that match are the AND of one row a field, the first of them the lowest bit.
//
//     destination 198.51.100.7 --> trie --> row  0110 1101 ...
//     protocol udp            --> array --> row  1111 0101 ...      AND  0010 0101 ...   first: rule 2
//     dport 53                --> ranges -> row  1010 1111 ...
//
// Rows carry a summary (one bit for each 512 rules, a cache line), so that lines in which no rule can match are never touched.
// Fields that no rule looks at cost nothing. A condition on a named set is a field of its own with two rows, since sets change
// without the rules; a set is asked only once some rule that names it matches in all else, and at most once a packet. Marks
// are a field for each mask in use, evaluated anew when a rule sets the mark. A list of several sets, or of sets and prefixes,
// makes a rule count as one for each of them (rule_fields.h says why); when it is negated it does not.
//
// Costs: see bench/policy_bench; memory is rules x distinct values / 8 bytes a field, equal rows kept once. build() is cold and
// allocates; a walk does not.
// Cannot: be changed; a new one is built and published with its snapshot. At most kRulesMax rules, and what rule_rows.h bounds.
// Threads: immutable after build(), any reader; the sets it names follow PrefixSet's rules, so whoever walks a table with sets
// is an RCU reader (base/rcu.h), and a walk does not outlive a quiescent state.
// Sources: ip-rule(8) for the words; T. Lakshman, D. Stiliadis, "High-speed policy-based packet forwarding using efficient
// multi-dimensional range matching" (SIGCOMM 1998) for bit vectors; F. Baboescu, G. Varghese, "Scalable packet classification"
// (SIGCOMM 2001) for their summaries.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/base/result.h"
#include "dataplane/table/prefix_set.h"

namespace sallyport {

inline constexpr uint32_t kRulesMax = 4096;
inline constexpr uint32_t kNoRule = UINT32_MAX;

// -- What a rule asks. Any one of a list's entries is enough; an empty list asks nothing; `negated` turns the answer of
// a list that is not empty around. A condition on ports fails for a packet without them (ICMP, a later
// fragment), negated or not.

struct AddressCondition {
  std::vector<SetEntry> prefixes;      // literal prefixes; `hole` has no meaning here
  std::vector<const PrefixSet*> sets;  // none of them null
  bool negated = false;
  bool asks() const { return !prefixes.empty() || !sets.empty(); }
};

struct NumberCondition {  // interfaces, peers, protocols (one above 255 is nobody's)
  std::vector<uint32_t> values;
  bool negated = false;
};

struct PortRange {
  uint16_t first = 0, last = 0;  // both included; holds nothing when last is less
};

struct PortCondition {
  std::vector<PortRange> ranges;
  bool negated = false;
};

struct MaskedCondition {  // a mark or a tos: (value of the packet & mask) == value
  bool asks = false;
  uint32_t value = 0, mask = UINT32_MAX;
  bool negated = false;
};

struct RuleConditions {
  bool v4 = true, v6 = true;  // families the rule applies to
  AddressCondition from, to;
  NumberCondition iif;   // input interface numbers (path/policy.h says which)
  NumberCondition peer;  // ingress peer tags; 0 is "from the host"
  NumberCondition protocol;
  PortCondition sport, dport;
  MaskedCondition tos;
  MaskedCondition mark;
};

// -- What a packet looks like to rules.

struct RuleKey {
  bool v4 = true;
  const uint8_t* source = nullptr;  // network order, 4 or 16 bytes
  const uint8_t* destination = nullptr;
  uint32_t iif = 0;
  uint32_t peer = 0;
  uint8_t protocol = 0;
  bool has_ports = false;                          // false for ICMP too
  uint16_t source_port = 0, destination_port = 0;  // host order
  uint8_t tos = 0;
};

class RuleTable {
 private:
  struct Inside;

 public:
  // One packet's way through the rules: looked up once, then asked for one match after the other. Keeps nothing of the key,
  // and answers the same whatever happens to the sets meanwhile: each is asked once at most.
  class Walk {
   public:
    // The first rule at or behind `from` that matches a packet of this mark, or kNoRule.
    uint32_t next(uint32_t from, uint32_t mark);

   private:
    friend class RuleTable;
    struct Block;
    static constexpr uint32_t kRowsMax = 64;

    Walk(const Inside& inside, const RuleKey& key);
    void find_marks(uint32_t mark);
    const uint64_t* find_set(uint32_t number);
    inline Block find_block(uint32_t line, uint64_t& summary) const;

    const Inside* inside_;
    uint32_t mark_ = 0;
    bool are_marks_known_ = false;
    bool v4_;
    uint32_t row_count_;
    uint64_t sets_known_ = 0;
    uint8_t source_[16], destination_[16];
    alignas(16) uint64_t head_[8];  // the first line of all rows but the marks'
    const uint64_t*
        rows_[kRowsMax];  // the marks' first; those of sets come to the end as they are asked
  };

  // Rules in priority order: rule i is number i. Fails with a sentence when there are more than kRulesMax, more sets and
  // masks than a walk holds (a set counts once as source and once as destination), more combinations of sets or
  // more distinct rows than rule_rows.h allows. The sets must outlive the table; the rules need not.
  static Result<std::unique_ptr<RuleTable>> build(std::span<const RuleConditions> rules);
  ~RuleTable();

  Walk walk(const RuleKey& key) const { return Walk(*inside_, key); }
  uint32_t size() const;
  size_t memory_bytes() const;

 private:
  explicit RuleTable(std::unique_ptr<Inside> inside);

  std::unique_ptr<Inside> inside_;
};

}  // namespace sallyport
