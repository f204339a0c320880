// Notify: tells systemd how the daemon does, as sd_notify(3) does, without libsystemd.
//
// A datagram of VARIABLE=VALUE lines to the socket that $NOTIFY_SOCKET names: a path, or with a leading '@' an abstract
// name. Without the variable everything here does nothing: the daemon was not started by a service manager that asks.
// Type=notify waits for ready(); Type=notify-reload also for reloading() and the ready() after it. watchdog() is
// owed at least once an interval when WatchdogSec= is set.
//
// Cannot: block; a manager that does not read misses a message, and the next one comes.
// Thread rules: one thread at a time.
// Source: sd_notify(3), sd_watchdog_enabled(3).
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "dataplane/base/result.h"

namespace sallyport {

class Notify {
 public:
  // From the environment. What is there but wrong (a relative path, VSOCK) is an error: the manager would wait in vain.
  static Result<Notify> from_environment();

  Notify() = default;  // nobody listens
  Notify(Notify&& other) noexcept;
  Notify& operator=(Notify&& other) noexcept;
  ~Notify();

  bool active() const { return fd_ >= 0; }

  void ready(std::string_view status = {});
  void reloading();  // ready() says that it is done, well or not
  void stopping();
  void status(std::string_view text);  // one line, for `systemctl status`
  void watchdog();

  // How often the manager wants to hear watchdog(), at the latest; half of it is a good rhythm. Nothing when it does not ask.
  std::optional<std::chrono::microseconds> watchdog_interval() const { return watchdog_; }

 private:
  void send(const std::string& message) const;

  int fd_ = -1;
  sockaddr_un to_{};
  socklen_t to_length_ = 0;
  std::optional<std::chrono::microseconds> watchdog_;
};

}  // namespace sallyport
