// Threads of the data plane: signals are control's, and would only interrupt a worker.
#pragma once

#include <csignal>
#include <thread>
#include <utility>

namespace sallyport {

// A thread that no signal is delivered to.
template <class Run>
std::thread start_thread(Run run) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(run));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace sallyport
