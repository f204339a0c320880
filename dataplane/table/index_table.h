// Receiver index to object: which keypair or handshake an incoming message means.
//
// An open-addressing hash table, linear probing, power-of-two size, at most half full. Values are
// opaque words (pointers); the table owns none of them.
//
// Readers take no lock and do no read-modify-write: a lookup is one pointer load and usually one
// cache line. They are QSBR readers (dataplane/base/rcu.h): a value found is valid until the
// reader's next quiescent state, provided that whoever removes it retires the object after. A
// lookup beside a change sees the table before or after it. Writers may be any thread, and wait for
// each other.
//
// A slot once given to an index stays that index's until the table is rebuilt: a removed entry
// keeps its slot without a value, so no reader ever takes one index's value for another's. When
// half of the slots are given away the table is built anew aside, sized by what is alive, and put
// in place with one store; the old one is retired. That is when a writer allocates and takes
// O(size); otherwise O(1).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace sallyport {

class IndexTable {
 public:
  IndexTable();
  ~IndexTable();  // no reader is left
  IndexTable(const IndexTable&) = delete;
  IndexTable& operator=(const IndexTable&) = delete;

  // False, and nothing changes: insert, if the index is taken; replace and remove, if it is not. A
  // value is never 0.
  bool insert(uint32_t index, uintptr_t value);
  bool replace(uint32_t index, uintptr_t value);
  bool remove(uint32_t index);

  uintptr_t lookup(uint32_t index) const;  // 0: none

  size_t size() const;
  size_t memory_bytes() const;

 private:
  struct Slots;

  std::atomic<uintptr_t>* value_of(uint32_t index) const;  // a writer's; null if it has none
  void rebuild();

  std::atomic<Slots*> slots_;
  mutable std::mutex mutex_;  // writers only, as are the counts below
  size_t live_ = 0;
  size_t given_ = 0;  // live ones, and removed ones that still hold their slot
};

}  // namespace sallyport
