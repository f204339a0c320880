// Grace periods: how a reader without locks and a writer that frees agree. A thin skin over
// liburcu's QSBR flavour.
//
// Rules for a reader thread: rcu_join() once; pointers loaded from shared structures are valid
// until its next rcu_quiescent() or rcu_offline(); go offline before anything that blocks (DPDK's
// rcu guide says why); rcu_leave() at the end. A writer unlinks an object first and hands it to
// rcu_retire() after; the deleter runs on liburcu's own thread once every reader has passed a
// quiescent state. A writer need not be a reader.
//
// A thread that reads now and then (control) does it inside step_as_reader().
//
// liburcu's barriers are inline assembly, which ThreadSanitizer cannot see; under TSan the same
// order is declared to it here.
#pragma once

namespace sallyport {

void rcu_join();
void rcu_leave();
void rcu_quiescent();
void rcu_offline();
void rcu_online();

// Calls free_object(object) after a grace period. Allocates a small node: writers only, never a
// worker's hot path.
void rcu_retire(void* object, void (*free_object)(void*));

// Waits until everything retired so far is freed. Not from a reader thread that is online.
void rcu_barrier_all();

template <class T>
void rcu_delete(T* object) {
  rcu_retire(object, [](void* raw) { delete static_cast<T*>(raw); });
}

// This thread is a reader from its first step to its end, and online only during one.
void rcu_join_for_steps();

// Calls step() as a reader: what it loads from shared structures is good until it returns, or passes a quiescent state.
template <class Step>
auto step_as_reader(Step step) {
  rcu_join_for_steps();
  rcu_online();
  const auto outcome = step();
  rcu_offline();
  return outcome;
}

}  // namespace sallyport
