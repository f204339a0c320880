#include "control/readiness.h"

#include <sys/wait.h>
#include <unistd.h>

#include <fcntl.h>
#include <utility>

namespace sallyport {
namespace {

constexpr char kReady = '\0';  // no reason begins with it

ssize_t write_whole(int fd, std::string_view text) {
  return write(fd, text.data(),
               text.size());  // less than PIPE_BUF into an empty pipe: never partial
}

}  // namespace

Result<Readiness> Readiness::fork_child() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return fail_errno("cannot make a pipe");
  }
  const pid_t child = fork();
  if (child < 0) {
    auto failed = fail_errno("cannot go into the background");
    close(ends[0]);
    close(ends[1]);
    return failed;
  }
  Readiness readiness;
  readiness.side_ = child == 0 ? Side::child : Side::parent;
  readiness.pipe_ = child == 0 ? ends[1] : ends[0];
  close(child == 0 ? ends[0] : ends[1]);
  return readiness;
}

Readiness::Readiness(Readiness&& other) noexcept
    : side_(other.side_), pipe_(std::exchange(other.pipe_, -1)) {}

Readiness::~Readiness() {
  if (pipe_ >= 0) {
    close(pipe_);
  }
}

Result<void> Readiness::await() {
  std::string said;
  char bytes[4096];
  for (;;) {
    const ssize_t count = read(pipe_, bytes, sizeof(bytes));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      break;
    }
    said.append(bytes, static_cast<size_t>(count));
  }
  if (said == std::string_view(&kReady, 1)) {
    return {};
  }
  if (said.empty()) {
    return fail("the daemon died while starting; run it with -f and LOG_LEVEL=debug to see why", 0);
  }
  return fail(said, 0);
}

bool Readiness::ready() {
  const bool told = pipe_ < 0 || write_whole(pipe_, std::string_view(&kReady, 1)) == 1;
  if (pipe_ >= 0) {
    close(std::exchange(pipe_, -1));
  }
  return told;
}

void Readiness::failed(std::string_view reason) {
  if (pipe_ >= 0) {
    (void)!write_whole(pipe_, reason);
    close(std::exchange(pipe_, -1));
  }
}

}  // namespace sallyport
