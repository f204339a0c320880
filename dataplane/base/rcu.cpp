#include "dataplane/base/rcu.h"

#include <urcu-qsbr.h>

#include <condition_variable>
#include <mutex>

#if defined(__SANITIZE_THREAD__)
#define SALLYPORT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SALLYPORT_TSAN 1
#endif
#endif

#ifdef SALLYPORT_TSAN
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace sallyport {
namespace {

// One address stands for "all readers' quiescent states" towards TSan.
[[maybe_unused]] char grace_period_token;

void declare_quiescent() {
#ifdef SALLYPORT_TSAN
  __tsan_release(&grace_period_token);
#endif
}

void declare_grace_period_over() {
#ifdef SALLYPORT_TSAN
  __tsan_acquire(&grace_period_token);
#endif
}

struct Retired {
  rcu_head head;
  void* object;
  void (*free_object)(void*);
};

void free_retired(rcu_head* head) {
  declare_grace_period_over();
  auto* retired = reinterpret_cast<Retired*>(head);  // head is the first member
  retired->free_object(retired->object);
  delete retired;
}

struct StepMembership {
  StepMembership() {
    rcu_join();
    rcu_offline();
  }
  ~StepMembership() { rcu_leave(); }
};

thread_local StepMembership step_membership;  // made by the thread's first step

}  // namespace

void rcu_join_for_steps() {
  [[maybe_unused]] StepMembership& membership = step_membership;
}

void rcu_join() {
  urcu_qsbr_register_thread();
}

void rcu_leave() {
  declare_quiescent();
  urcu_qsbr_unregister_thread();
}

void rcu_quiescent() {
  declare_quiescent();
  urcu_qsbr_quiescent_state();
}

void rcu_offline() {
  declare_quiescent();
  urcu_qsbr_thread_offline();
}

void rcu_online() {
  urcu_qsbr_thread_online();
}

void rcu_retire(void* object, void (*free_object)(void*)) {
  auto* retired = new Retired{{}, object, free_object};
  declare_quiescent();  // what the writer did before is seen by the deleter
  urcu_qsbr_call_rcu(&retired->head, free_retired);
}

// Deleters run in the order they were retired, so a last one that raises a flag is the barrier.
// (liburcu has a barrier of its own, whose reference counts ThreadSanitizer cannot see.)
void rcu_barrier_all() {
  struct Last {
    std::mutex mutex;
    std::condition_variable changed;
    bool reached = false;
  } last;
  rcu_retire(&last, [](void* raw) {
    auto* marker = static_cast<Last*>(raw);
    const std::lock_guard lock(marker->mutex);
    marker->reached = true;
    marker->changed.notify_all();  // under the lock: afterwards there may be no marker
  });
  std::unique_lock lock(last.mutex);
  last.changed.wait(lock, [&] { return last.reached; });
}

}  // namespace sallyport
