// SetLoader: reads and builds sets beside everything else, on a thread of its own that takes what nobody else wants (SCHED_IDLE),
// and of that a fifth of a core (load_progress.h).
//
// A list of a million prefixes takes some 0.3 s of work, so it is in force after some 2 s. Control must answer meanwhile, and
// where cores are few the workers must not feel it. One set at a time; a set that is asked for again while it waits is read once, and one
// that is being read is read once more after.
//
// Thread rules: control's thread, on which `done` is called too (from the loop, never from in here). Ends what it is at when
// it is destroyed.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "control/policy_assets.h"

namespace sallyport {

class SetLoader {
 public:
  // With problems there is nothing to put in force.
  using Done = std::function<void(PolicyAssets::Prepared, const std::vector<config::Problem>&)>;

  SetLoader(boost::asio::io_context& context, Done done);
  ~SetLoader();
  SetLoader(const SetLoader&) = delete;
  SetLoader& operator=(const SetLoader&) = delete;

  void load(config::Set set);
  // The set that is being loaded, and how far it is ("40 % read"); of another set, or none: absent.
  std::optional<std::string> progress(const std::string& set) const;

 private:
  void run();
  void deliver(PolicyAssets::Prepared prepared, std::vector<config::Problem> problems);

  boost::asio::io_context& context_;
  std::shared_ptr<Done> done_;  // handlers hold it weakly
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<config::Set> waiting_;
  const LoadProgress* current_ = nullptr;
  std::atomic<bool> ending_{false};
  std::thread thread_;  // from the first load() on
};

}  // namespace sallyport
