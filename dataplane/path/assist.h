// Assist: one worker's burst opened on several cores.
//
// A session's datagrams all come to the worker that owns its receiver index, so one elephant receives with one core, and most of
// that core's time is the cipher's. A worker whose burst is large, which is what an owner that cannot keep up gets, puts it on
// its board and wakes up to three sleeping workers. Everybody there, the owner too, takes chunk after chunk from the head, until
// none is left; the owner waits for the last chunks and goes on as if it had opened all of it: replay window, counters,
// order and buffers stay its own. Nobody is made to wait for a helper that has not begun.
//
// Who helped looks for more for some microseconds before it sleeps, so that helpers are awake when the next burst comes.
//
// Costs a handful of atomic operations a burst and two a chunk; a wake-up where somebody sleeps. On one or two cores it only takes
// from others, so it is off there (EngineOptions).
// Assumes that helpers run: one that is taken off its core in the middle of a chunk holds the owner up.
// Thread rules: open() from the owner's thread, help() from any worker's.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "crypto/aead.h"
#include "dataplane/base/mailbox.h"

namespace sallyport {

class Assist {
 public:
  static constexpr size_t kChunk = 32;  // two groups of sixteen lanes: 20 us
  static constexpr size_t kLeast = 96;  // fewer are done before anybody is awake
  static constexpr unsigned kWakeMost = 3;

  // The workers' mailboxes, by number: the bells to wake them with.
  explicit Assist(std::vector<Mailbox*> workers);

  // crypto::open_many, shared with whoever has time. Returns how many packets others opened.
  size_t open(unsigned worker, std::span<crypto::OpenItem> items);

  // Is there a board with something on it?
  bool wanted() const { return boards_in_use_.load(std::memory_order_seq_cst) != 0; }

  // Opens others' packets while there are any. True if there were.
  bool help(unsigned worker);

 private:
  struct alignas(64) Board {
    std::atomic<bool> is_open{false};  // what is below may be read by who has signed in while it is
    crypto::OpenItem* items = nullptr;
    size_t count = 0;
    alignas(64) std::atomic<size_t> next{0};  // the first item of the chunk that nobody has taken
    alignas(64) std::atomic<uint32_t> inside{0};  // helpers that have signed in
  };

  static size_t work_on(Board& board);

  std::vector<Mailbox*> workers_;
  std::unique_ptr<Board[]> boards_;  // one a worker
  std::atomic<uint32_t> boards_in_use_{0};
};

}  // namespace sallyport
