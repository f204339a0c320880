#include "dataplane/path/assist.h"

#include <algorithm>

#include "dataplane/base/cpu_relax.h"

namespace sallyport {

Assist::Assist(std::vector<Mailbox*> workers)
    : workers_(std::move(workers)), boards_(std::make_unique<Board[]>(workers_.size())) {}

// Takes chunks until there are none; returns how many packets those were.
size_t Assist::work_on(Board& board) {
  size_t done = 0;
  for (;;) {
    const size_t first = board.next.fetch_add(kChunk, std::memory_order_relaxed);
    if (first >= board.count) {
      return done;
    }
    const size_t size = std::min(kChunk, board.count - first);
    crypto::open_many({board.items + first, size});
    done += size;
  }
}

size_t Assist::open(unsigned worker, std::span<crypto::OpenItem> items) {
  Board& board = boards_[worker];
  board.items = items.data();
  board.count = items.size();
  board.next.store(0, std::memory_order_relaxed);
  board.is_open.store(true, std::memory_order_seq_cst);
  boards_in_use_.fetch_add(1, std::memory_order_seq_cst);
  unsigned woken = 0;
  for (size_t i = 1; i < workers_.size() && woken < kWakeMost; ++i) {
    Mailbox& other = *workers_[(worker + i) % workers_.size()];
    if (other.asleep()) {
      other.ring();
      ++woken;
    }
  }
  const size_t done = work_on(board);
  boards_in_use_.fetch_sub(1, std::memory_order_seq_cst);
  board.is_open.store(false, std::memory_order_seq_cst);
  // Who signed in before that is about to finish a chunk; who does after sees that the board is closed.
  while (board.inside.load(std::memory_order_seq_cst) != 0) {
    cpu_relax();
  }
  return items.size() - done;
}

bool Assist::help(unsigned worker) {
  bool helped = false;
  for (size_t i = 1; i < workers_.size() && wanted(); ++i) {
    Board& board = boards_[(worker + i) % workers_.size()];
    if (!board.is_open.load(std::memory_order_relaxed)) {
      continue;
    }
    board.inside.fetch_add(1, std::memory_order_seq_cst);
    if (board.is_open.load(std::memory_order_seq_cst)) {
      helped |= work_on(board) > 0;
    }
    board.inside.fetch_sub(1, std::memory_order_release);
  }
  return helped;
}

}  // namespace sallyport
