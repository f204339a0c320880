#include "control/notify.h"

#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>

namespace sallyport {
namespace {

std::string_view environment(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? std::string_view() : text;
}

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [stopped, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || stopped != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

// Asked of this process, and not of one that it was started by.
std::optional<std::chrono::microseconds> asked_interval() {
  const auto interval = number(environment("WATCHDOG_USEC"));
  const std::string_view process = environment("WATCHDOG_PID");
  if (!interval || *interval == 0 || *interval > INT64_MAX ||
      (!process.empty() && number(process) != static_cast<uint64_t>(getpid()))) {
    return std::nullopt;
  }
  return std::chrono::microseconds(static_cast<int64_t>(*interval));
}

std::string status_line(std::string_view text) {
  std::string line = "STATUS=" + std::string(text);
  for (char& c : line) {
    c = c == '\n' ? ' ' : c;  // it would begin a variable
  }
  return line;
}

}  // namespace

Result<Notify> Notify::from_environment() {
  Notify notify;
  const std::string_view name = environment("NOTIFY_SOCKET");
  if (name.empty()) {
    return notify;
  }
  if ((name[0] != '/' && name[0] != '@') || name.size() < 2) {
    return fail("NOTIFY_SOCKET=" + std::string(name) +
                " is neither a path nor an abstract name (@NAME)");
  }
  if (name.size() >= sizeof(notify.to_.sun_path)) {
    return fail("NOTIFY_SOCKET=" + std::string(name) + " is too long for a socket", ENAMETOOLONG);
  }
  notify.to_.sun_family = AF_UNIX;
  name.copy(notify.to_.sun_path, name.size());
  // An abstract name has no end but its length; a path has its zero.
  const size_t ending = name[0] == '@' ? 0 : 1;
  notify.to_.sun_path[0] = name[0] == '@' ? '\0' : '/';
  notify.to_length_ =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + ending);
  notify.fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (notify.fd_ < 0) {
    return fail_errno("cannot make a socket to notify the service manager");
  }
  notify.watchdog_ = asked_interval();
  return notify;
}

Notify::Notify(Notify&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      to_(other.to_),
      to_length_(other.to_length_),
      watchdog_(other.watchdog_) {}

Notify& Notify::operator=(Notify&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(to_, other.to_);
  std::swap(to_length_, other.to_length_);
  std::swap(watchdog_, other.watchdog_);
  return *this;
}

Notify::~Notify() {
  if (fd_ >= 0) {
    close(fd_);
  }
}

void Notify::send(const std::string& message) const {
  if (active()) {
    sendto(fd_, message.data(), message.size(), MSG_NOSIGNAL,
           reinterpret_cast<const sockaddr*>(&to_), to_length_);
  }
}

void Notify::ready(std::string_view status) {
  send(status.empty() ? "READY=1" : "READY=1\n" + status_line(status));
}

void Notify::reloading() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const uint64_t microseconds =
      static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1'000;
  send("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(microseconds));
}

void Notify::stopping() {
  send("STOPPING=1");
}

void Notify::status(std::string_view text) {
  send(status_line(text));
}

void Notify::watchdog() {
  send("WATCHDOG=1");
}

}  // namespace sallyport
