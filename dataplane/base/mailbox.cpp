#include "dataplane/base/mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

// ThreadSanitizer does not model fences, and GCC says so. The one below orders two flags and publishes
// nothing, so a sanitizer loses nothing by not seeing it.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif

namespace sallyport {

Mailbox::Mailbox() : bell_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (bell_ < 0) {
    std::perror("sallyport: eventfd");
    std::abort();
  }
}

Mailbox::~Mailbox() {
  close(bell_);
}

bool Mailbox::post(const Message& message) {
  if (!messages_.bounded_push(message)) {
    return false;
  }
  ring();
  return true;
}

void Mailbox::ring() {
  // Orders "the message is there" before "does it sleep", against the receiver's opposite order.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (asleep_.load(std::memory_order_relaxed)) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(bell_, &one, sizeof(one));
  }
}

void Mailbox::going_to_sleep() {
  asleep_.store(true, std::memory_order_relaxed);
  // "I sleep" comes before the last look at what is there: ring() has it the other way round.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void Mailbox::quiet() {
  uint64_t count;
  [[maybe_unused]] const ssize_t got = read(bell_, &count, sizeof(count));
}

}  // namespace sallyport
