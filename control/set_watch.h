// SetWatch: says when the list file of a set is to be read again.
//
// A list is written in many ways: in place, by rename over the old one, by a symbolic link that is turned to another
// file (or to another folder, as orchestrators do it). FileWatch says when to look at the folder of the path and at
// the folder of the file that the path leads to; what counts is the file found there: its device, inode, size and times of
// change. `changed` is called once it has stayed the same for 200 ms, so that a list in the midst of being written is left alone.
//
// A file or folder that is missing is waited for, without a call: a set keeps what it has. Once in 30 s it looks by
// itself, for what inotify cannot see (network file systems, a folder above exchanged); each second while the file is
// missing or its folder cannot be watched.
//
// What stands there at start is taken as read, so start the watch before reading: a change between the two is then reported.
// Cannot: tell a writer that pauses for longer than 200 ms from one that is done; the end of its writing is reported again.
// Costs: an inotify instance or two a set. Thread rules: the io_context's thread; `changed` may destroy the watch.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "control/file_watch.h"
#include "control/limits.h"

namespace sallyport {

class SetWatch {
 public:
  using Clock = std::chrono::steady_clock;
  struct Settings {
    std::chrono::milliseconds quiet = kSetFileQuiet;
    std::chrono::milliseconds retry = kSetFileRetry;
    std::chrono::milliseconds look = kSetFileLook;
  };

  SetWatch(boost::asio::io_context& context, std::string path, std::function<void()> changed);
  SetWatch(boost::asio::io_context& context, std::string path, std::function<void()> changed,
           Settings settings);
  SetWatch(const SetWatch&) = delete;
  SetWatch& operator=(const SetWatch&) = delete;

  const std::string& path() const { return path_; }
  bool missing() const { return last_seen_.empty(); }
  // Why the folder cannot be watched, so that it is only looked at each second; empty when it is watched.
  const std::string& trouble() const { return trouble_; }

 private:
  struct Folder {
    std::string identity;  // device and inode
    std::unique_ptr<FileWatch> watch;
  };

  void look();
  void watch_folders();
  void watch_folder(Folder& folder, const std::string& file);
  void sleep();

  boost::asio::io_context& context_;
  std::string path_;
  std::function<void()> changed_;
  Settings settings_;
  boost::asio::steady_timer timer_;
  Folder near_, far_;      // of the path, and of what it leads to when that is elsewhere
  std::string reported_;   // fingerprint of the file that was last spoken of
  std::string last_seen_;  // empty: missing
  Clock::time_point same_since_;
  std::string trouble_;
  std::shared_ptr<SetWatch*> self_;  // handlers hold it weakly
  uint64_t sleep_id_ = 0;
};

}  // namespace sallyport
