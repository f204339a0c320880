// FileWatch: says when the file of a name may have changed: removed, replaced, or its directory gone; on request
// also when it was written and closed.
//
// inotify on the directory, since a socket file cannot be watched through its descriptor. It says "look",
// not what happened: the caller compares the file with what it knows. When the directory is gone it says so
// once and nothing any more (ended). Thread rules: the io_context's; `changed` may destroy the watch.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <string>

#include "dataplane/base/result.h"

namespace sallyport {

class FileWatch {
 public:
  enum class What { names, names_and_contents };
  static Result<std::unique_ptr<FileWatch>> start(boost::asio::io_context& context,
                                                  const std::string& path,
                                                  std::function<void()> changed,
                                                  What what = What::names);
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

  bool ended() const { return ended_; }

 private:
  FileWatch(boost::asio::io_context& context, int fd, std::function<void()> changed);
  void wait();
  void read_events();

  boost::asio::posix::stream_descriptor events_;
  std::function<void()> changed_;
  bool ended_ = false;
  std::shared_ptr<FileWatch*> self_;  // handlers hold it weakly
};

}  // namespace sallyport
