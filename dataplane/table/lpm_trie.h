// Trie: the writer's half of the LPM trie below one entry of the root array: find, insert, remove,
// build, visit.
//
// Knows nodes (lpm_node.h) and the arena, not families, root arrays or the prefixes those cover;
// that is lpm.cpp's. A subtree hangs in a place, a Ref in a Node or in the root array, and all
// addresses that get there agree in their first `from` bits; its prefixes are longer.
//
// Each change makes one new node for the place that changes, hangs it in with one release store and
// retires what it replaced. The trie stays canonical: which nodes there are depends on the
// prefixes, not on their history. Rules:
//   a lone prefix is a leaf, a Node tells apart two things or more, prefixes of its own or
//     children; but at the top, where a lookup expects a Node, one at home there is a Node alone;
//   a Node is a Skip unless its depth is `from`;
//   skipped bits never cross bit 64, so one word is compared a node: at depth 60 a Node may have
//     a child alone.
//
// Threads: the writer's only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/table/lpm_arena.h"
#include "dataplane/table/lpm_node.h"

namespace sallyport::lpm {

struct Item {
  Key key;  // masked to its length
  unsigned length = 0;
  Value value = 0;
};

using VisitItem = void (*)(void* context, const Item& item);

// Counts what build() has placed, and asks now and then whether to go on.
struct Meter {
  static constexpr size_t kStep = 8192;

  bool (*progress)(void* context, size_t done, size_t total) = nullptr;
  void* context = nullptr;
  size_t total = 0;
  size_t done = 0;
  bool cancelled = false;

  void advance() {
    if (++done % kStep == 0 && progress != nullptr && !cancelled) {
      cancelled = !progress(context, done, total);
    }
  }
};

class Trie {
 public:
  // `top` is the depth of the root array's entries.
  Trie(Arena& arena, unsigned top) : arena_(arena), top_(top) {}

  // Fills the beginning of a new arena.
  void make_nothing();

  // The value of exactly this prefix.
  std::optional<Value> find(Ref ref, unsigned from, const Key& key, unsigned length);
  // True if the prefix is new, false if it was there and has a new value.
  bool insert(Ref* place, unsigned from, const Item& item);
  // The prefix must be there.
  void remove(Ref* place, unsigned from, const Key& key, unsigned length);

  // From items sorted by key, then length, no two alike. Useless if the meter says cancelled.
  Ref build(std::span<const Item> items, unsigned from, Meter& meter);

  // In order. `path` holds the first `from` bits.
  void visit(Ref ref, unsigned from, const Key& path, VisitItem fn, void* context);

  // Retires every node of a subtree that has been unlinked.
  void retire_all(Ref ref);

 private:
  struct Content;
  struct Answers;
  struct Step;

  // Nodes to retire once the change that unlinks them is published: at most two a level.
  struct Replaced {
    Ref refs[64];
    unsigned count = 0;
    void add(Ref ref) { refs[count++] = ref; }
  };

  template <class Node>
  Node* at(Ref ref) {
    return reinterpret_cast<Node*>(arena_.base() + (ref & ~kKindMask));
  }

  Ref make_lone(const Item& item, unsigned from);
  Ref make_node(const Content& content, unsigned from);
  Ref make_reduced(const Content& content, unsigned from, Replaced& replaced);
  Ref lift_only_child(const Content& content, unsigned from, Replaced& replaced);
  Item leaf_item(Ref ref, const Key& path);
  void open(Ref ref, unsigned from, const Key& path, Content& content);
  bool add_item(Content& content, const Item& item);
  bool insert_at_leaf(Ref* place, unsigned from, const Item& item);
  void retire(Ref ref);

  unsigned depth_of(Ref ref, unsigned from);
  bool is_under(Ref ref, unsigned depth, const Key& key);
  bool is_in(Ref ref, unsigned depth, const Key& key, unsigned length);
  void fork_above(Ref* place, unsigned from, const Item& item);
  void replace_upwards(Step* steps, unsigned top, const Key& key, Ref next, Replaced& replaced);

  Arena& arena_;
  unsigned top_;
};

}  // namespace sallyport::lpm
