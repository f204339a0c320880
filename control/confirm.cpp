#include "control/confirm.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

#include "control/limits.h"
#include "control/uapi.h"

namespace sallyport {

using std::chrono::seconds;
using std::chrono::steady_clock;

// -- The trial

Result<seconds> Trial::patience(int64_t wanted) {
  if (wanted < kConfirmMin.count() || wanted > kConfirmMax.count()) {
    return fail("a reload can wait " + std::to_string(kConfirmMin.count()) + " to " +
                std::to_string(kConfirmMax.count()) + " seconds to be confirmed, not " +
                std::to_string(wanted));
  }
  return seconds(wanted);
}

std::optional<int64_t> Trial::seconds_left(TimePoint now) const {
  if (!deadline_) {
    return std::nullopt;
  }
  return std::max<int64_t>(0, std::chrono::ceil<seconds>(*deadline_ - now).count());
}

Result<void> Trial::may_reload(TimePoint now) const {
  if (!waiting()) {
    return {};
  }
  return fail("the last reload is undone in " + std::to_string(*seconds_left(now)) +
                  " seconds unless it is confirmed: run sallyport confirm first, or wait",
              EBUSY);
}

void Trial::applied(TimePoint now, seconds patience, Undo undo) {
  deadline_ = now + patience;
  undo_ = std::move(undo);
}

Result<void> Trial::confirm(TimePoint now) {
  if (!waiting()) {
    return fail("nothing waits to be confirmed: no reload --confirm is under way, or it was undone",
                ENOENT);
  }
  if (now >= *deadline_) {
    return fail("too late: the time to confirm is over, and the reload is being undone", ETIMEDOUT);
  }
  deadline_.reset();
  undo_ = nullptr;
  return {};
}

std::optional<Result<void>> Trial::expire(TimePoint now) {
  if (!waiting() || now < *deadline_) {
    return std::nullopt;
  }
  deadline_.reset();
  return std::exchange(undo_, nullptr)();
}

// -- The record: the path, a newline, the text

namespace {

Result<void> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR) {
      return fail_errno("cannot write");
    }
    bytes.remove_prefix(count > 0 ? static_cast<size_t>(count) : 0);
  }
  return {};
}

Result<std::string> read_all(int fd) {
  std::string bytes;
  char piece[64 * 1024];
  for (;;) {
    const ssize_t count = read(fd, piece, sizeof(piece));
    if (count < 0) {
      return fail_errno("cannot read");
    }
    if (count == 0) {
      return bytes;
    }
    bytes.append(piece, static_cast<size_t>(count));
    if (bytes.size() > kConfirmRecordBytesMax) {
      return fail("is too large", EFBIG);
    }
  }
}

Error about(const std::string& path, const Error& error) {
  return {path + ": " + error.text, error.code};
}

}  // namespace

std::string trial_record_path(const std::string& control_socket) {
  const size_t slash = control_socket.rfind('/');
  return (slash == std::string::npos ? "" : control_socket.substr(0, slash + 1)) + "unconfirmed";
}

Result<void> TrialRecord::keep(const std::string& path, const TrialRecord& record) {
  const std::string unborn = path + ".new";
  unlink(unborn.c_str());
  const int fd = open(unborn.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    return fail_errno("cannot keep the configuration before in " + path);
  }
  std::string bytes = record.file + '\n' + record.text;
  auto written = write_all(fd, bytes);
  wipe(bytes);
  close(fd);
  if (written && rename(unborn.c_str(), path.c_str()) != 0) {
    written = fail_errno("cannot rename");
  }
  if (!written) {
    unlink(unborn.c_str());
    return std::unexpected(about(path, written.error()));
  }
  return {};
}

void TrialRecord::forget(const std::string& path) {
  unlink(path.c_str());
}

Result<std::optional<TrialRecord>> TrialRecord::take_back(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) {
    if (errno == ENOENT) {
      return std::optional<TrialRecord>();
    }
    return fail_errno("cannot open " + path);
  }
  auto bytes = read_all(fd);
  close(fd);
  if (!bytes) {
    return std::unexpected(about(path, bytes.error()));
  }
  forget(path);
  const size_t newline = bytes->find('\n');
  if (newline == std::string::npos) {
    return fail(path + " is no record of a reload");
  }
  TrialRecord record{bytes->substr(0, newline), bytes->substr(newline + 1)};
  wipe(*bytes);
  return record;
}

// -- The timer

TrialTimer::TrialTimer(boost::asio::io_context& context, std::string record, Told told)
    : timer_(context), record_(std::move(record)), told_(std::move(told)) {}

Result<void> TrialTimer::may_reload() const {
  return trial_.may_reload(steady_clock::now());
}

Result<void> TrialTimer::applied(seconds patience, const TrialRecord& before, Trial::Undo undo) {
  if (!record_.empty()) {
    if (auto kept = TrialRecord::keep(record_, before); !kept) {
      return kept;
    }
  }
  trial_.applied(steady_clock::now(), patience, std::move(undo));
  arm();
  return {};
}

Result<void> TrialTimer::confirm() {
  auto confirmed = trial_.confirm(steady_clock::now());
  if (confirmed) {
    timer_.cancel();
    TrialRecord::forget(record_);
  }
  return confirmed;
}

std::optional<int64_t> TrialTimer::seconds_left() const {
  return trial_.seconds_left(steady_clock::now());
}

void TrialTimer::arm() {
  timer_.expires_at(*trial_.deadline());
  timer_.async_wait([this](boost::system::error_code cancelled) {
    if (cancelled) {
      return;
    }
    if (const auto undone = trial_.expire(steady_clock::now())) {
      TrialRecord::forget(record_);
      told_(*undone);
    }
  });
}

}  // namespace sallyport
