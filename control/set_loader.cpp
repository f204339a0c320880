#include "control/set_loader.h"

#include <sched.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "dataplane/base/thread.h"

namespace sallyport {

SetLoader::SetLoader(boost::asio::io_context& context, Done done)
    : context_(context), done_(std::make_shared<Done>(std::move(done))) {}

SetLoader::~SetLoader() {
  {
    const std::lock_guard lock(mutex_);
    ending_.store(true, std::memory_order_relaxed);
  }
  wake_.notify_one();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void SetLoader::load(config::Set set) {
  const std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [&](const config::Set& each) { return each.name == set.name; });
  waiting_.push_back(std::move(set));
  if (!thread_.joinable()) {
    thread_ = start_thread([this] { run(); });
  }
  wake_.notify_one();
}

std::optional<std::string> SetLoader::progress(const std::string& set) const {
  const std::lock_guard lock(mutex_);
  if (current_ != nullptr && current_->set() == set) {
    return current_->text();
  }
  return std::nullopt;
}

void SetLoader::deliver(PolicyAssets::Prepared prepared, std::vector<config::Problem> problems) {
  struct Delivery {
    PolicyAssets::Prepared prepared;
    std::vector<config::Problem> problems;
  };
  // Handlers are copied; the content cannot be.
  auto delivery = std::make_shared<Delivery>(Delivery{std::move(prepared), std::move(problems)});
  boost::asio::post(context_, [delivery, done = std::weak_ptr<Done>(done_)] {
    if (const auto alive = done.lock(); alive != nullptr) {
      (*alive)(std::move(delivery->prepared), delivery->problems);
    }
  });
}

void SetLoader::run() {
  const sched_param none{};
  sched_setscheduler(0, SCHED_IDLE, &none);  // on Linux, of this thread alone
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock,
               [this] { return ending_.load(std::memory_order_relaxed) || !waiting_.empty(); });
    if (ending_.load(std::memory_order_relaxed)) {
      return;
    }
    const config::Set set = std::move(waiting_.front());
    waiting_.pop_front();
    LoadProgress progress(set.name, &ending_, LoadProgress::Pace::gentle);
    current_ = &progress;
    lock.unlock();
    std::vector<config::Problem> problems;
    PolicyAssets::Prepared prepared = PolicyAssets::prepare(set, problems, progress);
    lock.lock();
    current_ = nullptr;
    if (!ending_.load(std::memory_order_relaxed)) {
      deliver(std::move(prepared), std::move(problems));
    }
  }
}

}  // namespace sallyport
