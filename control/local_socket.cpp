#include "control/local_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <thread>
#include <utility>

namespace sallyport {
namespace {

// True if a program answers behind this path.
bool somebody_listens(const sockaddr_un& address) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int refused =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ? 0 : errno;
  close(fd);
  return refused != ECONNREFUSED && refused != ENOENT;  // EAGAIN: its backlog is full, so it lives
}

bool wait_for_silence(const sockaddr_un& address, std::chrono::milliseconds patience) {
  constexpr std::chrono::milliseconds kStep{20};
  for (; somebody_listens(address); patience -= kStep) {
    if (patience <= kStep) {
      return false;
    }
    std::this_thread::sleep_for(kStep);
  }
  return true;
}

// bind() under umask 0177: nobody else can connect even for an instant.
bool bind_private(int fd, const sockaddr_un& address) {
  const mode_t before = umask(0177);
  const bool bound = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  const int error = errno;
  umask(before);
  errno = error;
  return bound;
}

Result<void> make_directory_of(const std::string& path, const std::string& what) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) {
    return {};
  }
  const std::string directory = path.substr(0, slash);
  if (mkdir(directory.c_str(), 0755) == 0 || errno == EEXIST) {
    return {};
  }
  return fail_errno("cannot make the directory " + directory + " for the " + what +
                    " (run as root)");
}

}  // namespace

std::optional<sockaddr_un> local_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return std::nullopt;
  }
  path.copy(address.sun_path, path.size());
  return address;
}

Result<LocalSocket> LocalSocket::open(const std::string& path, const std::string& what,
                                      std::chrono::milliseconds patience) {
  if (auto made = make_directory_of(path, what); !made) {
    return std::unexpected(std::move(made.error()));
  }
  const auto named = local_address(path);
  // Any wg(8) that runs removes a *.sock that refuses it, as ours would between bind and listen: so it
  // gets its name when it listens.
  const std::string unborn = path + ".new";
  const auto unborn_address = local_address(unborn);
  if (!named || !unborn_address) {
    return fail("the path of the " + what + " is too long: " + path, ENAMETOOLONG);
  }
  if (!wait_for_silence(*named, patience)) {
    return fail("another program already serves " + path + ": end it, or choose another name",
                EADDRINUSE);
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  unlink(unborn.c_str());
  if (fd < 0 || !bind_private(fd, *unborn_address) || listen(fd, SOMAXCONN) != 0 ||
      rename(unborn.c_str(), path.c_str()) != 0) {
    auto failed = fail_errno("cannot make the " + what + " " + path);
    unlink(unborn.c_str());
    close(fd);
    return failed;
  }
  return LocalSocket(fd, path);
}

Result<LocalSocket> LocalSocket::adopt(int fd, const std::string& path, const std::string& whose) {
  sockaddr_un address{};
  socklen_t length = sizeof(address);
  int listening = 0;
  socklen_t option = sizeof(listening);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      address.sun_family != AF_UNIX ||
      getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &option) != 0 || listening == 0) {
    return fail(whose + ": descriptor " + std::to_string(fd) + " is not a listening Unix socket");
  }
  return LocalSocket(fd, access(path.c_str(), F_OK) == 0 ? path : std::string());
}

LocalSocket::LocalSocket(int fd, std::string path) : fd_(fd), path_(std::move(path)) {
  struct stat file {};
  if (!path_.empty() && lstat(path_.c_str(), &file) == 0) {
    device_ = file.st_dev;
    inode_ = file.st_ino;
  }
}

LocalSocket::LocalSocket(LocalSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      device_(other.device_),
      inode_(other.inode_) {}

LocalSocket::~LocalSocket() {
  if (fd_ < 0) {
    return;
  }
  if (!path_.empty() && still_ours()) {
    unlink(path_.c_str());
  }
  close(fd_);
}

bool LocalSocket::still_ours() const {
  struct stat file {};
  return lstat(path_.c_str(), &file) == 0 && file.st_dev == device_ && file.st_ino == inode_;
}

}  // namespace sallyport
