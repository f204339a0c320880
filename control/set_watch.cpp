#include "control/set_watch.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace sallyport {
namespace {

// Any write, rename, link or exchange changes it: none can be undone to the nanosecond. Empty when there is nothing.
std::string fingerprint_of(const std::string& path) {
  struct stat file {};
  if (stat(path.c_str(), &file) != 0) {
    return "";
  }
  std::string text;
  for (const auto number : {static_cast<int64_t>(file.st_dev), static_cast<int64_t>(file.st_ino),
                            static_cast<int64_t>(file.st_size), int64_t{file.st_mtim.tv_sec},
                            int64_t{file.st_mtim.tv_nsec}, int64_t{file.st_ctim.tv_sec},
                            int64_t{file.st_ctim.tv_nsec}}) {
    text += std::to_string(number) + " ";
  }
  return text;
}

// Which folder, whatever stands in it.
std::string identity_of(const std::string& folder) {
  struct stat file {};
  if (stat(folder.c_str(), &file) != 0) {
    return "";
  }
  return std::to_string(file.st_dev) + " " + std::to_string(file.st_ino);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

// Where the links of a path end; the path itself where there is nothing.
std::string end_of_links(const std::string& path) {
  char* real = realpath(path.c_str(), nullptr);
  std::string result = real == nullptr ? path : real;
  free(real);
  return result;
}

}  // namespace

SetWatch::SetWatch(boost::asio::io_context& context, std::string path,
                   std::function<void()> changed)
    : SetWatch(context, std::move(path), std::move(changed), Settings()) {}

SetWatch::SetWatch(boost::asio::io_context& context, std::string path,
                   std::function<void()> changed, Settings settings)
    : context_(context),
      path_(std::move(path)),
      changed_(std::move(changed)),
      settings_(settings),
      timer_(context),
      same_since_(Clock::now()),
      self_(std::make_shared<SetWatch*>(this)) {
  watch_folders();  // first, so that nothing is missed between the two
  reported_ = last_seen_ = fingerprint_of(path_);
  sleep();
}

void SetWatch::watch_folders() {
  trouble_.clear();
  const std::string end = end_of_links(path_);
  watch_folder(near_, path_);
  if (identity_of(folder_of(end)) == identity_of(folder_of(path_))) {
    far_ = {};
  } else {
    watch_folder(far_, end);
  }
}

void SetWatch::watch_folder(Folder& folder, const std::string& file) {
  const std::string identity = identity_of(folder_of(file));
  // A folder made anew may have the number of the old one, so the watch itself is asked as well.
  if (folder.watch != nullptr && !folder.watch->ended() && folder.identity == identity) {
    return;
  }
  folder = {identity, nullptr};
  auto watch = FileWatch::start(
      context_, file, [this] { look(); }, FileWatch::What::names_and_contents);
  if (watch) {
    folder.watch = std::move(*watch);
  } else {
    trouble_ = watch.error().text;
  }
}

// Compares the file with what was last seen, and speaks when it is another one that has come to rest.
void SetWatch::look() {
  const std::string seen = fingerprint_of(path_);
  const auto now = Clock::now();
  if (seen != last_seen_) {
    last_seen_ = seen;
    same_since_ = now;
  }
  const bool news = !seen.empty() && seen != reported_ && now - same_since_ >= settings_.quiet;
  if (news) {
    reported_ = seen;
  }
  sleep();
  if (news) {
    const auto changed = changed_;
    changed();  // may destroy this
  }
}

void SetWatch::sleep() {
  auto until = Clock::now() + (trouble_.empty() ? settings_.look : settings_.retry);
  if (last_seen_.empty()) {
    until = std::min(until, Clock::now() + settings_.retry);  // its folder may have gone with it
  } else if (last_seen_ != reported_) {
    until = std::min(until, same_since_ + settings_.quiet);
  }
  timer_.expires_at(until);
  timer_.async_wait(
      [weak = std::weak_ptr(self_), id = ++sleep_id_](boost::system::error_code error) {
        const auto self = weak.lock();
        if (!error && self != nullptr && (*self)->sleep_id_ == id) {
          (*self)->watch_folders();  // here, where no watch of ours is on the stack
          (*self)->look();
        }
      });
}

}  // namespace sallyport
