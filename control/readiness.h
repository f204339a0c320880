// Readiness: how a daemon going into the background tells its parent that it is ready, or why not.
//
// The child writes its reason into a pipe and then closes it; nothing but a mark means ready. A child
// that dies without a word is told of as such. Assumes that no thread exists yet at fork().
#pragma once

#include <string_view>

#include "dataplane/base/result.h"

namespace sallyport {

class Readiness {
 public:
  enum class Side { parent, child };

  // Forks. The parent gets its own Readiness back too, and should call await().
  static Result<Readiness> fork_child();
  // In the foreground: nobody waits.
  Readiness() = default;
  Readiness(Readiness&& other) noexcept;
  Readiness& operator=(Readiness&&) = delete;
  ~Readiness();

  Side side() const { return side_; }
  int fd() const { return pipe_; }  // -1 in the foreground

  // Parent: until the child has spoken. The child's reason when it failed.
  Result<void> await();

  // Child: one of these, once. ready() is false if the parent is gone.
  bool ready();
  void failed(std::string_view reason);

 private:
  Side side_ = Side::child;
  int pipe_ = -1;
};

}  // namespace sallyport
