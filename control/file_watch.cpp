#include "control/file_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <cstring>
#include <utility>

namespace sallyport {

Result<std::unique_ptr<FileWatch>> FileWatch::start(boost::asio::io_context& context,
                                                    const std::string& path,
                                                    std::function<void()> changed, What what) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (fd < 0) {
    return fail_errno("cannot watch " + path + " (fs.inotify.max_user_instances may be too low)");
  }
  constexpr uint32_t kChanges =
      IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF;
  const uint32_t contents = what == What::names_and_contents ? IN_CLOSE_WRITE : 0;
  if (inotify_add_watch(fd, directory.c_str(), kChanges | contents | IN_ONLYDIR) < 0) {
    auto failed = fail_errno("cannot watch " + directory);
    close(fd);
    return failed;
  }
  std::unique_ptr<FileWatch> watch(new FileWatch(context, fd, std::move(changed)));
  watch->wait();
  return watch;
}

FileWatch::FileWatch(boost::asio::io_context& context, int fd, std::function<void()> changed)
    : events_(context, fd),
      changed_(std::move(changed)),
      self_(std::make_shared<FileWatch*>(this)) {}

// Which file it was does not matter: looking is cheap, and a queue that overflowed names none.
void FileWatch::read_events() {
  char bytes[4096];
  ssize_t length;
  while ((length = read(events_.native_handle(), bytes, sizeof(bytes))) > 0) {
    inotify_event event;
    for (size_t at = 0; at + sizeof(event) <= static_cast<size_t>(length);
         at += sizeof(event) + event.len) {
      std::memcpy(&event, bytes + at, sizeof(event));
      ended_ |= (event.mask & IN_IGNORED) != 0;
    }
  }
}

void FileWatch::wait() {
  events_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                     [this, weak = std::weak_ptr(self_)](boost::system::error_code error) {
                       if (error || weak.expired()) {
                         return;
                       }
                       read_events();
                       const auto changed = changed_;
                       changed();
                       if (!weak.expired()) {
                         wait();
                       }
                     });
}

}  // namespace sallyport
