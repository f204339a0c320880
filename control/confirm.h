// Confirm: `reload --confirm SECONDS`, a configuration that is undone unless somebody says that it works.
//
// Whoever reloads over the very tunnel that the reload may break cannot repair it. So the new configuration is applied on
// trial: `sallyport confirm` keeps it, and when nobody does in time, the one before comes back.
//
//     settled --applied()--> on trial --confirm()--> settled
//                               |
//                               +--- time is up ---> undo() --> settled
//
// One trial at a time: what would a second one go back to? Undoing that fails (a file of the old configuration is gone) is
// tried once and told; the trial is over all the same, since what failed now will fail again.
//
// Restart-safe: the file on disk is the new one already, so a daemon that crashes on trial would come up with it as if it
// were confirmed. A TrialRecord beside the control socket therefore keeps the text of the configuration before, for as long as
// the trial lasts; take_back() gives it to a daemon that starts. /run does not outlive a reboot; systemd keeps it over a
// restart with RuntimeDirectoryPreserve=restart. Cannot: keep what the text refers to (lists, key files, conf files).
//
// Trial is pure: it is told the time. TrialTimer wakes it on the control thread. Thread rules: values; the timer's io_context.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "dataplane/base/result.h"

namespace sallyport {

class Trial {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Undo = std::function<Result<void>()>;  // restores the configuration before

  // Before anything is applied: a reload while one is on trial is refused, and so is a time that makes no sense.
  Result<void> may_reload(TimePoint now) const;
  static Result<std::chrono::seconds> patience(int64_t seconds);

  // The new configuration is in force, on trial. Only after may_reload().
  void applied(TimePoint now, std::chrono::seconds patience, Undo undo);

  // Keeps it. Fails when nothing is on trial, or when the time is up and undoing is due.
  Result<void> confirm(TimePoint now);

  // Undoes if it is due; the outcome of undoing then. To be called at the deadline, and not before.
  std::optional<Result<void>> expire(TimePoint now);

  bool waiting() const { return deadline_.has_value(); }
  std::optional<TimePoint> deadline() const { return deadline_; }
  // For `status`: whole seconds, rounded up; nothing when settled.
  std::optional<int64_t> seconds_left(TimePoint now) const;

 private:
  std::optional<TimePoint> deadline_;
  Undo undo_;
};

// What a daemon that starts needs to know of an unfinished trial.
struct TrialRecord {
  std::string file;  // the configuration's path; relative paths in the text start there
  std::string text;  // what it said before the reload

  // Written whole or not at all, mode 0600: the text may hold private keys.
  static Result<void> keep(const std::string& path, const TrialRecord& record);
  static void forget(const std::string& path);
  // Nothing when there is no record. A record is taken once: it is forgotten with this.
  static Result<std::optional<TrialRecord>> take_back(const std::string& path);
};

// "DIRECTORY OF THE SOCKET/unconfirmed".
std::string trial_record_path(const std::string& control_socket);

// A Trial that notices by itself when its time is up, and keeps its record.
class TrialTimer {
 public:
  using Told = std::function<void(const Result<void>& undone)>;

  // `told` hears of every undoing, after it. `record` is where a trial's record goes; empty: nowhere.
  TrialTimer(boost::asio::io_context& context, std::string record, Told told);

  Result<void> may_reload() const;
  // `before` is what to go back to after a crash. If it cannot be kept, nothing is on trial and the caller should undo.
  Result<void> applied(std::chrono::seconds patience, const TrialRecord& before, Trial::Undo undo);
  Result<void> confirm();
  std::optional<int64_t> seconds_left() const;

 private:
  void arm();

  Trial trial_;
  boost::asio::steady_timer timer_;
  std::string record_;
  Told told_;
};

}  // namespace sallyport
