// FileWatch: says when the file of a name may have changed: removed, replaced, or its directory gone.
//
// inotify on the directory, since a socket file cannot be watched through its descriptor. It says "look",
// not what happened: the caller compares the file with what it knows. Thread rules: the io_context's.
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
  static Result<std::unique_ptr<FileWatch>> start(boost::asio::io_context& context,
                                                  const std::string& path,
                                                  std::function<void()> changed);
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

 private:
  FileWatch(boost::asio::io_context& context, int fd, std::function<void()> changed);
  void wait();

  boost::asio::posix::stream_descriptor events_;
  std::function<void()> changed_;
};

}  // namespace sallyport
