#include "dataplane/table/lpm_trie.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>

namespace sallyport::lpm {
namespace {

constexpr unsigned kKeyBytes = sizeof(uint64_t);  // of a Skip, before its Node
constexpr unsigned kPrefixesMax = 126;            // of a Node: 2 + 4 + ... + 64
constexpr unsigned kShorterMax = 62;

bool is_leaf(Ref ref) {
  return kind_of(ref) > kSkip;
}

// A depth has at most sixty bits of its word above it, so its stride's number fits below them.
uint64_t skip_key(const Key& key, unsigned depth) {
  return (word_at(key, depth) & upper_bits(depth & 63)) | (depth & 63) / kStride;
}

// The bit that stands for a prefix in its home node: of `longest` if it ends with the stride, else
// of `shorter`.
struct Bit {
  bool is_longest;
  unsigned number;

  Bit(bool longest, unsigned at) : is_longest(longest), number(at) {}

  Bit(const Key& key, unsigned length, unsigned depth) {
    const unsigned width = length - depth;
    const unsigned slot = slot_of(word_at(key, depth), depth);
    is_longest = width == kStride;
    number = is_longest ? slot : 1u << width | slot >> (kStride - width);
  }

  bool is_in(const Bitmaps& maps) const {
    return ((is_longest ? maps.longest : maps.shorter) >> number & 1) != 0;
  }

  unsigned rank(const Bitmaps& maps) const {
    return is_longest ? count_bits(maps.shorter) + count_bits(maps.longest & below(number))
                      : count_bits(maps.shorter & below(number));
  }

  void flip(Bitmaps& maps) const {
    (is_longest ? maps.longest : maps.shorter) ^= uint64_t{1} << number;
  }
};

// The key of what lies in this slot of a node at this depth.
Key key_of_slot(const Key& path, unsigned depth, unsigned slot) {
  Key key = masked(path, depth);
  (depth < 64 ? key.high : key.low) |= (uint64_t{slot} << 58) >> (depth & 63);
  return key;
}

size_t aligned(size_t bytes, size_t to) {
  return (bytes + to - 1) / to * to;
}

// Where the parts of a Node lie, from its beginning.
struct Layout {
  size_t memory;
  size_t numbers;
  size_t hidden;
  size_t end;

  Layout(unsigned runs, unsigned children, unsigned prefixes, unsigned hidden_values)
      : memory(aligned(sizeof(Node) + (runs + children) * sizeof(Value), alignof(NodeMemory))),
        numbers(memory + offsetof(NodeMemory, hidden_count) + 1),
        hidden(aligned(numbers + prefixes, sizeof(Value))),
        end(aligned(hidden + hidden_values * sizeof(Value), Arena::kUnit)) {}

  explicit Layout(const Node& node)
      : Layout(count_bits(node.runs), count_bits(node.children), 0, 0) {
    const auto& known =
        *reinterpret_cast<const NodeMemory*>(reinterpret_cast<const char*>(&node) + memory);
    *this = Layout(count_bits(node.runs), count_bits(node.children), known.prefixes.count(),
                   known.hidden_count);
  }

  template <class Part>
  static Part* at(const Node* node, size_t offset) {
    return reinterpret_cast<Part*>(const_cast<char*>(reinterpret_cast<const char*>(node)) + offset);
  }
};

static_assert(kKeyBytes + sizeof(Node) + (64 + 64) * sizeof(Value) + sizeof(NodeMemory) +
                  kPrefixesMax + kShorterMax * sizeof(Value) + 8 <=
              Arena::kUnitsMax * Arena::kUnit);

template <class Word>
void insert_word(Word* words, unsigned count, unsigned index, Word word) {
  std::memmove(words + index + 1, words + index, (count - index) * sizeof(Word));
  words[index] = word;
}

template <class Word>
void erase_word(Word* words, unsigned count, unsigned index) {
  std::memmove(words + index, words + index + 1, (count - index - 1) * sizeof(Word));
}

}  // namespace

// A node taken apart, to be changed and made anew. Arrays are packed as in the node.
struct Trie::Content {
  Key path;  // bits above the depth
  unsigned depth = 0;
  uint64_t children = 0;
  Bitmaps prefixes;
  Ref refs[64];
  Value values[kPrefixesMax];

  Content() {}  // the arrays stay as they are: only the first counted words mean something
  Content(const Key& key, unsigned at_depth) : path(masked(key, at_depth)), depth(at_depth) {}

  unsigned child_rank(unsigned slot) const { return count_bits(children & below(slot)); }

  void add_child(unsigned slot, Ref ref) {
    insert_word(refs, count_bits(children), child_rank(slot), ref);
    children |= uint64_t{1} << slot;
  }

  void remove_child(unsigned slot) {
    erase_word(refs, count_bits(children), child_rank(slot));
    children &= ~(uint64_t{1} << slot);
  }

  // True if the prefix is new.
  bool set_value(const Item& item) {
    const Bit bit(item.key, item.length, depth);
    const unsigned rank = bit.rank(prefixes);
    if (bit.is_in(prefixes)) {
      values[rank] = item.value;
      return false;
    }
    insert_word(values, prefixes.count(), rank, item.value);
    bit.flip(prefixes);
    return true;
  }

  void remove_value(const Bit& bit) {
    erase_word(values, prefixes.count(), bit.rank(prefixes));
    bit.flip(prefixes);
  }

  // The prefix that one bit stands for.
  Item item_of(const Bit& bit) const {
    const unsigned width =
        bit.is_longest ? kStride : 31 - static_cast<unsigned>(std::countl_zero(bit.number));
    const unsigned slot =
        bit.is_longest ? bit.number : (bit.number ^ 1u << width) << (kStride - width);
    return {key_of_slot(path, depth, slot), depth + width, values[bit.rank(prefixes)]};
  }

  Item only_item() const {
    const bool is_longest = prefixes.longest != 0;
    const uint64_t map = is_longest ? prefixes.longest : prefixes.shorter;
    return item_of(Bit(is_longest, static_cast<unsigned>(std::countr_zero(map))));
  }
};

// One node on the way from the root array down to a prefix.
struct Trie::Step {
  Ref* place = nullptr;
  Ref ref = kNothing;
  unsigned from = 0;
};

// ---- making and unmaking nodes

Ref Trie::make_lone(const Item& item, unsigned from) {
  if (from == top_ && home_depth(item.length) == from) {
    Content content(item.key, from);
    content.set_value(item);
    return make_node(content, from);
  }
  if (item.length > 64 && from < 64) {
    const Ref ref = arena_.allocate(sizeof(FarLeaf) / Arena::kUnit) | kFarLeaf;
    new (at<FarLeaf>(ref)) FarLeaf{item.key.high, item.key.low, item.value, item.length};
    return ref;
  }
  const Ref ref = arena_.allocate(sizeof(Leaf) / Arena::kUnit) | kLeaf;
  new (at<Leaf>(ref)) Leaf{word_at(item.key, item.length - 1), item.value, item.length};
  return ref;
}

// What each slot of a node answers, as runs, and which of their values is each prefix's.
struct Trie::Answers {
  uint64_t runs = 0;
  unsigned run_count = 0;
  unsigned hidden_count = 0;
  Value values[64 + kShorterMax];  // the runs', then the hidden ones
  uint8_t numbers[kPrefixesMax];

  explicit Answers(const Content& content) {
    constexpr uint8_t kNobody = 0xff;
    uint8_t owners[64];
    std::memset(owners, kNobody, sizeof(owners));
    unsigned rank = 0;
    for (uint64_t bits = content.prefixes.shorter; bits != 0; bits &= bits - 1, ++rank) {
      // Longer ones come later, and overwrite.
      const auto number = static_cast<unsigned>(std::countr_zero(bits));
      const unsigned width = 31 - static_cast<unsigned>(std::countl_zero(number));
      const unsigned span = 1u << (kStride - width);
      std::memset(owners + (number ^ 1u << width) * span, static_cast<int>(rank), span);
    }
    for (uint64_t bits = content.prefixes.longest; bits != 0; bits &= bits - 1, ++rank) {
      owners[std::countr_zero(bits)] = static_cast<uint8_t>(rank);
    }
    std::memset(numbers, kNobody, rank);
    for (unsigned slot = 0; slot < 64; ++slot) {
      const uint8_t owner = owners[slot];
      if (slot > 0 && owner == owners[slot - 1]) {
        continue;
      }
      const Value value = owner != kNobody ? content.values[owner] : kMiss;
      if (slot == 0 || value != values[run_count - 1]) {
        runs |= uint64_t{1} << slot;
        values[run_count++] = value;
      }
      if (owner != kNobody) {
        numbers[owner] = static_cast<uint8_t>(run_count - 1);
      }
    }
    for (unsigned i = 0; i < rank; ++i) {
      if (numbers[i] == kNobody) {
        numbers[i] = static_cast<uint8_t>(run_count + hidden_count);
        values[run_count + hidden_count++] = content.values[i];
      }
    }
  }
};

Ref Trie::make_node(const Content& content, unsigned from) {
  const Answers answers(content);
  const bool is_skip = content.depth != from;
  const unsigned child_count = count_bits(content.children);
  const unsigned prefix_count = content.prefixes.count();
  const Layout layout(answers.run_count, child_count, prefix_count, answers.hidden_count);
  const size_t bytes = (is_skip ? kKeyBytes : 0) + layout.end;
  uint32_t offset = arena_.allocate(static_cast<unsigned>(bytes / Arena::kUnit));
  if (is_skip) {
    *at<uint64_t>(offset) = skip_key(content.path, content.depth);
    offset += kKeyBytes;
  }
  Node* node = new (at<Node>(offset)) Node{content.children, answers.runs};
  std::memcpy(node->run_values(), answers.values, answers.run_count * sizeof(Value));
  std::memcpy(node->refs(), content.refs, child_count * sizeof(Ref));
  auto* memory = Layout::at<NodeMemory>(node, layout.memory);
  memory->prefixes = content.prefixes;
  memory->hidden_count = static_cast<uint8_t>(answers.hidden_count);
  std::memcpy(Layout::at<uint8_t>(node, layout.numbers), answers.numbers, prefix_count);
  std::memcpy(Layout::at<Value>(node, layout.hidden), answers.values + answers.run_count,
              answers.hidden_count * sizeof(Value));
  return offset | (is_skip ? kSkip : kNode);
}

void Trie::make_nothing() {
  static_assert(kNothingBytes + sizeof(Cell) == Arena::kReserved);
  Node* node = new (at<Node>(kNothing)) Node{0, 1};  // the rest is zero, as the arena is
  node->run_values()[0] = kMiss;
}

// As make_node, but what need not be a node of its own any more becomes less. Nodes that this
// leaves unused go to `replaced`.
Ref Trie::make_reduced(const Content& content, unsigned from, Replaced& replaced) {
  const unsigned child_count = count_bits(content.children);
  const unsigned value_count = content.prefixes.count();
  if (child_count == 0 && value_count == 0) {
    return kNothing;
  }
  if (child_count == 0 && value_count == 1) {
    return make_lone(content.only_item(), from);
  }
  if (child_count == 1 && value_count == 0) {
    return lift_only_child(content, from, replaced);
  }
  return make_node(content, from);
}

Ref Trie::lift_only_child(const Content& content, unsigned from, Replaced& replaced) {
  const Ref child = content.refs[0];
  const auto slot = static_cast<unsigned>(std::countr_zero(content.children));
  const Key path = key_of_slot(content.path, content.depth, slot);
  if (is_leaf(child)) {
    replaced.add(child);
    return make_lone(leaf_item(child, path), from);
  }
  if (from < 64 && next_depth(content.depth) == 64) {
    return make_node(content, from);  // below bit 64 nobody checks the bits above it
  }
  if (kind_of(child) == kSkip) {
    return child;
  }
  Content lifted;
  open(child, next_depth(content.depth), path, lifted);
  replaced.add(child);
  return make_node(lifted, from);
}

// `path` agrees with the leaf where nodes above have seen to it.
Item Trie::leaf_item(Ref ref, const Key& path) {
  if (kind_of(ref) == kFarLeaf) {
    const FarLeaf* leaf = at<FarLeaf>(ref);
    return {{leaf->high, leaf->low}, leaf->length, leaf->value};
  }
  const Leaf* leaf = at<Leaf>(ref);
  const Key key = leaf->length <= 64 ? Key{leaf->word, 0} : Key{path.high, leaf->word};
  return {key, leaf->length, leaf->value};
}

// Takes a Node or Skip apart. `path` agrees with it in the first `from` bits, at least.
void Trie::open(Ref ref, unsigned from, const Key& path, Content& content) {
  const Node* node = at<Node>(ref);
  content.depth = depth_of(ref, from);
  Key key = path;
  if (kind_of(ref) == kSkip) {
    (from < 64 ? key.high : key.low) = node->key();
  }
  content.path = masked(key, content.depth);
  content.children = node->children;
  std::memcpy(content.refs, node->refs(), count_bits(node->children) * sizeof(Ref));
  const Layout layout(*node);
  content.prefixes = Layout::at<NodeMemory>(node, layout.memory)->prefixes;
  const uint8_t* numbers = Layout::at<uint8_t>(node, layout.numbers);
  const Value* hidden = Layout::at<Value>(node, layout.hidden);
  const unsigned run_count = count_bits(node->runs);
  for (unsigned i = 0; i < content.prefixes.count(); ++i) {
    content.values[i] =
        numbers[i] < run_count ? node->run_values()[numbers[i]] : hidden[numbers[i] - run_count];
  }
}

// As one of the node's own, or alone below it. False if it was there and only its value is new.
bool Trie::add_item(Content& content, const Item& item) {
  if (home_depth(item.length) == content.depth) {
    return content.set_value(item);
  }
  content.add_child(slot_of(word_at(item.key, content.depth), content.depth),
                    make_lone(item, next_depth(content.depth)));
  return true;
}

void Trie::retire(Ref ref) {
  if (ref == kNothing) {
    return;
  }
  uint32_t offset = ref & ~kKindMask;
  size_t bytes = kind_of(ref) == kLeaf ? sizeof(Leaf) : sizeof(FarLeaf);
  if (!is_leaf(ref)) {
    const unsigned key_bytes = kind_of(ref) == kSkip ? kKeyBytes : 0;
    offset -= key_bytes;
    bytes = key_bytes + Layout(*at<Node>(ref)).end;
  }
  arena_.retire(offset, static_cast<unsigned>(bytes / Arena::kUnit));
}

void Trie::retire_all(Ref ref) {
  if (!is_leaf(ref)) {
    const Node* node = at<Node>(ref);
    for (unsigned i = 0; i < count_bits(node->children); ++i) {
      retire_all(node->refs()[i]);
    }
  }
  retire(ref);
}

// ---- operations

unsigned Trie::depth_of(Ref ref, unsigned from) {
  if (kind_of(ref) != kSkip) {
    return from;
  }
  return (from & 64) + static_cast<unsigned>(at<Node>(ref)->key() & kStrideNumber) * kStride;
}

// Whether a key has the bits that a Node or Skip at this depth asks for.
bool Trie::is_under(Ref ref, unsigned depth, const Key& key) {
  return kind_of(ref) != kSkip || at<Node>(ref)->key() == skip_key(key, depth);
}

// Whether a Node or Skip at this depth holds the prefix, which is at home there.
bool Trie::is_in(Ref ref, unsigned depth, const Key& key, unsigned length) {
  const Node* node = at<Node>(ref);
  return Bit(key, length, depth)
      .is_in(Layout::at<NodeMemory>(node, Layout(*node).memory)->prefixes);
}

std::optional<Value> Trie::find(Ref ref, unsigned from, const Key& key, unsigned length) {
  const unsigned home = home_depth(length);
  while (ref != kNothing && !is_leaf(ref)) {
    const unsigned depth = depth_of(ref, from);
    if (home < depth || !is_under(ref, depth, key)) {
      return std::nullopt;
    }
    if (home == depth) {
      if (!is_in(ref, depth, key, length)) {
        return std::nullopt;
      }
      Content content;
      open(ref, from, key, content);
      return content.values[Bit(key, length, depth).rank(content.prefixes)];
    }
    const Node* node = at<Node>(ref);
    const unsigned slot = slot_of(word_at(key, depth), depth);
    ref = node->has_child(slot) ? node->child(slot) : kNothing;
    from = next_depth(depth);
  }
  if (ref == kNothing) {
    return std::nullopt;
  }
  const Item item = leaf_item(ref, key);
  return item.length == length && item.key == key ? std::optional(item.value) : std::nullopt;
}

bool Trie::insert(Ref* place, unsigned from, const Item& item) {
  const unsigned home = home_depth(item.length);
  while (*place != kNothing && !is_leaf(*place)) {
    const Ref ref = *place;
    const unsigned depth = depth_of(ref, from);
    if (home < depth || !is_under(ref, depth, item.key)) {
      fork_above(place, from, item);
      return true;
    }
    const unsigned slot = slot_of(word_at(item.key, depth), depth);
    if (home > depth && at<Node>(ref)->has_child(slot)) {
      place = &at<Node>(ref)->child(slot);
      from = next_depth(depth);
      continue;
    }
    Content content;
    open(ref, from, item.key, content);
    const bool is_new = add_item(content, item);
    store_shared(*place, make_node(content, from));
    retire(ref);
    return is_new;
  }
  return insert_at_leaf(place, from, item);
}

// Where there is a leaf, or nothing.
bool Trie::insert_at_leaf(Ref* place, unsigned from, const Item& item) {
  const Ref ref = *place;
  if (ref == kNothing) {
    store_shared(*place, make_lone(item, from));
    return true;
  }
  const Item other = leaf_item(ref, item.key);
  if (item.key == other.key && item.length == other.length) {
    store_shared(kind_of(ref) == kLeaf ? at<Leaf>(ref)->value : at<FarLeaf>(ref)->value,
                 item.value);
    return false;
  }
  const bool is_first =
      item.key < other.key || (item.key == other.key && item.length < other.length);
  const Item pair[2] = {is_first ? item : other, is_first ? other : item};
  Meter meter;
  store_shared(*place, build(pair, from, meter));
  retire(ref);
  return true;
}

// The item leaves the skipped bits of the Skip in `place`, or ends among them: a Node there for
// both.
void Trie::fork_above(Ref* place, unsigned from, const Item& item) {
  const Ref ref = *place;
  Content below_fork;
  open(ref, from, item.key, below_fork);
  const unsigned agreed = depth_of_bit(std::min(127u, common_bits(item.key, below_fork.path)));
  Content fork(item.key, std::min(home_depth(item.length), agreed));
  const bool is_next = next_depth(fork.depth) == below_fork.depth;  // nothing left to skip
  const unsigned slot = slot_of(word_at(below_fork.path, fork.depth), fork.depth);
  fork.add_child(slot, is_next ? make_node(below_fork, below_fork.depth) : ref);
  add_item(fork, item);
  store_shared(*place, make_node(fork, from));
  if (is_next) {
    retire(ref);
  }
}

void Trie::remove(Ref* place, unsigned from, const Key& key, unsigned length) {
  Step steps[24];  // at most a node for each depth
  unsigned top = 0;
  const unsigned home = home_depth(length);
  for (;; ++top) {
    steps[top] = {place, *place, from};
    const unsigned depth = depth_of(*place, from);
    if (is_leaf(*place) || home == depth) {
      break;
    }
    place = &at<Node>(*place)->child(slot_of(word_at(key, depth), depth));
    from = next_depth(depth);
  }
  Replaced replaced;
  Ref next = kNothing;
  const Step& last = steps[top];
  if (!is_leaf(last.ref)) {
    Content content;
    open(last.ref, last.from, key, content);
    content.remove_value(Bit(key, length, content.depth));
    next = make_reduced(content, last.from, replaced);
  }
  replace_upwards(steps, top, key, next, replaced);
}

// Hangs `next` in for the node of the top step. Where that leaves the node above with nothing to
// tell apart, that one is remade too, and so on up; all of it takes effect with one store.
void Trie::replace_upwards(Step* steps, unsigned top, const Key& key, Ref next,
                           Replaced& replaced) {
  replaced.add(steps[top].ref);
  while (top > 0) {
    const Step& above = steps[top - 1];
    const Node* node = at<Node>(above.ref);
    const auto* memory = Layout::at<NodeMemory>(node, Layout(*node).memory);
    const bool is_only_child = count_bits(node->children) + memory->prefixes.count() == 1;
    if (next != kNothing && !(is_only_child && is_leaf(next))) {
      break;
    }
    Content content;
    open(above.ref, above.from, key, content);
    const unsigned slot = slot_of(word_at(key, content.depth), content.depth);
    if (next == kNothing) {
      content.remove_child(slot);
    } else {
      content.refs[content.child_rank(slot)] = next;
    }
    next = make_reduced(content, above.from, replaced);
    replaced.add(above.ref);
    --top;
  }
  store_shared(*steps[top].place, next);
  for (unsigned i = 0; i < replaced.count; ++i) {
    retire(replaced.refs[i]);
  }
}

Ref Trie::build(std::span<const Item> items, unsigned from, Meter& meter) {
  if (items.size() == 1) {
    meter.advance();
    return make_lone(items[0], from);
  }
  unsigned depth = depth_of_bit(std::min(127u, common_bits(items.front().key, items.back().key)));
  for (const Item& item : items) {
    depth = std::min(depth, home_depth(item.length));
  }
  if (from < 64) {
    depth = std::min(depth, 60u);
  }
  Content content(items.front().key, depth);
  for (size_t i = 0; i < items.size() && !meter.cancelled;) {
    if (home_depth(items[i].length) == depth) {
      content.set_value(items[i++]);
      meter.advance();
      continue;
    }
    const unsigned slot = slot_of(word_at(items[i].key, depth), depth);
    size_t end = i + 1;
    while (end < items.size() && home_depth(items[end].length) != depth &&
           slot_of(word_at(items[end].key, depth), depth) == slot) {
      ++end;
    }
    content.add_child(slot, build(items.subspan(i, end - i), next_depth(depth), meter));
    i = end;
  }
  return make_node(content, from);
}

void Trie::visit(Ref ref, unsigned from, const Key& path, VisitItem fn, void* context) {
  if (ref == kNothing) {
    return;
  }
  if (is_leaf(ref)) {
    fn(context, leaf_item(ref, path));
    return;
  }
  Content content;
  open(ref, from, path, content);
  for (unsigned slot = 0; slot < 64; ++slot) {
    const Key slot_key = key_of_slot(content.path, content.depth, slot);
    for (unsigned width = 1; width <= kStride; ++width) {
      if ((slot & below(kStride - width)) == 0) {
        const Bit bit(slot_key, content.depth + width, content.depth);
        if (bit.is_in(content.prefixes)) {
          fn(context, content.item_of(bit));
        }
      }
    }
    if (content.children >> slot & 1) {
      visit(content.refs[content.child_rank(slot)], next_depth(content.depth), slot_key, fn,
            context);
    }
  }
}

}  // namespace sallyport::lpm
