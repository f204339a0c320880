#include "control/file_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <utility>

namespace sallyport {

Result<std::unique_ptr<FileWatch>> FileWatch::start(boost::asio::io_context& context,
                                                    const std::string& path,
                                                    std::function<void()> changed) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (fd < 0) {
    return fail_errno("cannot watch " + path + " (fs.inotify.max_user_instances may be too low)");
  }
  constexpr uint32_t kChanges =
      IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF;
  if (inotify_add_watch(fd, directory.c_str(), kChanges) < 0) {
    auto failed = fail_errno("cannot watch " + directory);
    close(fd);
    return failed;
  }
  std::unique_ptr<FileWatch> watch(new FileWatch(context, fd, std::move(changed)));
  watch->wait();
  return watch;
}

FileWatch::FileWatch(boost::asio::io_context& context, int fd, std::function<void()> changed)
    : events_(context, fd), changed_(std::move(changed)) {}

void FileWatch::wait() {
  events_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                     [this](boost::system::error_code error) {
                       if (error) {
                         return;
                       }
                       // Which file it was does not matter: looking is cheap, and a queue that
                       // overflowed names none.
                       char bytes[4096];
                       while (read(events_.native_handle(), bytes, sizeof(bytes)) > 0) {
                       }
                       changed_();
                       wait();
                     });
}

}  // namespace sallyport
