#include "control/uapi_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <cstdio>
#include <optional>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "control/limits.h"
#include "crypto/secret.h"

namespace sallyport {

namespace asio = boost::asio;
using Connection = asio::local::stream_protocol::socket;
using boost::system::error_code;

// -- The socket file

std::string uapi_path(const std::string& interface, const std::string& directory) {
  return directory + "/" + interface + ".sock";
}

namespace {

std::optional<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return std::nullopt;
  }
  path.copy(address.sun_path, path.size());
  return address;
}

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

// bind() under umask 077: nobody else can connect even for an instant.
bool bind_private(int fd, const sockaddr_un& address) {
  const mode_t before = umask(077);
  const bool bound = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  const int error = errno;
  umask(before);
  errno = error;
  return bound;
}

Result<void> make_directory(const std::string& directory) {
  if (mkdir(directory.c_str(), 0755) == 0 || errno == EEXIST) {
    return {};
  }
  return fail_errno("cannot make the directory " + directory +
                    " for the UAPI socket (run as root)");
}

}  // namespace

Result<UapiSocket> UapiSocket::open(const std::string& interface, const std::string& directory,
                                    std::chrono::milliseconds patience) {
  if (auto made = make_directory(directory); !made) {
    return std::unexpected(std::move(made.error()));
  }
  const std::string path = uapi_path(interface, directory);
  const auto named = address_of(path);
  // Any wg(8) that runs removes a *.sock that refuses it, as ours would between bind and listen: so it
  // gets its name when it listens.
  const std::string unborn = path + ".new";
  const auto unborn_address = address_of(unborn);
  if (!named || !unborn_address) {
    return fail("the path of the UAPI socket is too long: " + path, ENAMETOOLONG);
  }
  if (!wait_for_silence(*named, patience)) {
    return fail("another program already serves " + path + ": end it, or choose another name",
                EADDRINUSE);
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  unlink(unborn.c_str());
  if (fd < 0 || !bind_private(fd, *unborn_address) || listen(fd, SOMAXCONN) != 0 ||
      rename(unborn.c_str(), path.c_str()) != 0) {
    auto failed = fail_errno("cannot make the UAPI socket " + path);
    unlink(unborn.c_str());
    close(fd);
    return failed;
  }
  return UapiSocket(fd, path);
}

Result<UapiSocket> UapiSocket::adopt(int fd, const std::string& interface,
                                     const std::string& directory) {
  sockaddr_un address{};
  socklen_t length = sizeof(address);
  int listening = 0;
  socklen_t option = sizeof(listening);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      address.sun_family != AF_UNIX ||
      getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &option) != 0 || listening == 0) {
    return fail("WG_UAPI_FD: descriptor " + std::to_string(fd) + " is not a listening Unix socket");
  }
  const std::string path = uapi_path(interface, directory);
  return UapiSocket(fd, access(path.c_str(), F_OK) == 0 ? path : std::string());
}

UapiSocket::UapiSocket(int fd, std::string path) : fd_(fd), path_(std::move(path)) {
  struct stat file {};
  if (!path_.empty() && lstat(path_.c_str(), &file) == 0) {
    device_ = file.st_dev;
    inode_ = file.st_ino;
  }
}

UapiSocket::UapiSocket(UapiSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      device_(other.device_),
      inode_(other.inode_) {}

UapiSocket::~UapiSocket() {
  if (fd_ < 0) {
    return;
  }
  if (!path_.empty() && still_ours()) {
    unlink(path_.c_str());
  }
  close(fd_);
}

bool UapiSocket::still_ours() const {
  struct stat file {};
  return lstat(path_.c_str(), &file) == 0 && file.st_dev == device_ && file.st_ino == inode_;
}

// -- One connection

class UapiServer::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(UapiServer& server, Connection connection)
      : server_(&server),
        connection_(std::move(connection)),
        patience_(connection_.get_executor()),
        input_(kUapiReadBytes) {
    line_.reserve(kUapiLineBytesMax);
  }
  ~Session() {
    crypto::secure_zero(input_.data(), input_.size());
    wipe(line_);
    wipe(answer_);
  }

  void start(Sessions::iterator place) {
    place_ = place;
    read();
  }

  // Also when the server ends before us: a handler still queued finds nothing to do.
  void end() {
    if (server_ != nullptr) {
      std::exchange(server_, nullptr)->remove(place_);
    }
    error_code ignored;
    std::ignore = patience_.cancel(ignored);
    std::ignore = connection_.close(ignored);
  }

 private:
  enum class Reading { operation, set, get, status };

  void read() {
    connection_.async_read_some(asio::buffer(input_),
                                [self = shared_from_this()](error_code error, size_t bytes) {
                                  if (error || self->server_ == nullptr) {
                                    self->end();
                                    return;
                                  }
                                  self->server_->touch(self->place_);
                                  self->begin_ = 0;
                                  self->end_ = bytes;
                                  self->consume();
                                });
  }

  // Takes lines until one asks for an answer or no whole line is left.
  void consume() {
    while (begin_ < end_) {
      const std::string_view left(input_.data() + begin_, end_ - begin_);
      const size_t newline = left.find('\n');
      const size_t taken = newline == std::string_view::npos ? left.size() : newline + 1;
      begin_ += taken;
      request_bytes_ += taken;
      if (request_bytes_ > kUapiRequestBytesMax || line_.size() + taken > kUapiLineBytesMax) {
        refuse(E2BIG);
        return;
      }
      line_.append(left.substr(0, newline));
      if (newline == std::string_view::npos) {
        break;
      }
      const bool answering = take_line();
      wipe(line_);
      if (answering) {
        return;
      }
    }
    read();
  }

  // True if it led to an answer; reading goes on once that is written.
  bool take_line() {
    if (reading_ == Reading::operation) {
      request_bytes_ = 0;
      return take_operation();
    }
    if (!line_.empty()) {
      if (reading_ != Reading::set) {
        refuse(EINVAL);  // nothing follows get=1
        return true;
      }
      parser_.line(line_);
      return false;
    }
    switch (std::exchange(reading_, Reading::operation)) {
      case Reading::set:
        respond(apply());
        break;
      case Reading::get:
        respond(server_->service_.get());
        break;
      default:
        respond(server_->service_.status());
        break;
    }
    return true;
  }

  bool take_operation() {
    if (line_ == "set=1") {
      reading_ = Reading::set;
    } else if (line_ == "get=1") {
      reading_ = Reading::get;
    } else if (line_ == "sallyport_status=1") {
      reading_ = Reading::status;
    } else if (!line_.empty()) {
      refuse(EINVAL);
      return true;
    }
    return false;
  }

  std::string apply() {
    auto request = parser_.finish();
    if (!request) {
      return format_set_errno(request.error().code);
    }
    const auto done = server_->service_.set(*request);
    wipe(*request);
    return format_set_errno(done ? 0 : done.error().code == 0 ? EIO : done.error().code);
  }

  // Something we cannot make sense of: what follows would be guesswork, so the connection ends.
  void refuse(int error_number) {
    closing_ = true;
    respond(reading_ == Reading::set ? format_set_errno(error_number)
                                     : format_get_errno(error_number));
  }

  void respond(std::string answer) {
    answer_ = std::move(answer);
    written_ = 0;
    write();
  }

  void write() {
    patience_.expires_after(kUapiUnreadAnswerMax);
    patience_.async_wait([weak = weak_from_this()](error_code error) {
      if (const auto self = weak.lock(); self != nullptr && !error) {
        self->end();
      }
    });
    connection_.async_write_some(asio::buffer(answer_.data() + written_, answer_.size() - written_),
                                 [self = shared_from_this()](error_code error, size_t bytes) {
                                   if (error || self->server_ == nullptr) {
                                     self->end();
                                     return;
                                   }
                                   self->server_->touch(self->place_);
                                   self->written_ += bytes;
                                   self->wrote();
                                 });
  }

  void wrote() {
    if (written_ < answer_.size()) {
      write();
      return;
    }
    patience_.cancel();
    wipe(answer_);
    answer_.shrink_to_fit();
    if (closing_) {
      end();
      return;
    }
    consume();
  }

  UapiServer* server_;
  Sessions::iterator place_;
  Connection connection_;
  asio::steady_timer patience_;
  std::vector<char> input_;
  size_t begin_ = 0, end_ = 0;
  std::string line_;
  Reading reading_ = Reading::operation;
  size_t request_bytes_ = 0;
  SetParser parser_;
  std::string answer_;
  size_t written_ = 0;
  bool closing_ = false;
};

// -- The server

UapiServer::UapiServer(asio::io_context& context, const UapiSocket& socket, UapiService service)
    : service_(std::move(service)), acceptor_(context), retry_(context) {
  acceptor_.assign(asio::local::stream_protocol(), dup(socket.fd()));
  accept();
}

UapiServer::~UapiServer() {
  while (!sessions_.empty()) {
    if (const auto session = sessions_.front().lock()) {
      session->end();
    } else {
      sessions_.pop_front();
    }
  }
}

void UapiServer::accept() {
  acceptor_.async_accept([this](error_code error, Connection connection) {
    if (error == asio::error::operation_aborted) {
      return;
    }
    if (error) {  // out of descriptors, most likely: trying at once would only spin
      retry_.expires_after(std::chrono::milliseconds(100));
      retry_.async_wait([this](error_code cancelled) {
        if (!cancelled) {
          accept();
        }
      });
      return;
    }
    add(std::move(connection));
    accept();
  });
}

void UapiServer::add(Connection connection) {
  if (sessions_.size() >= kUapiConnectionsMax) {
    if (const auto quietest = sessions_.front().lock()) {
      quietest->end();
    }
  }
  const auto session = std::make_shared<Session>(*this, std::move(connection));
  session->start(sessions_.insert(sessions_.end(), session));
}

void UapiServer::touch(Sessions::iterator place) {
  sessions_.splice(sessions_.end(), sessions_, place);
}

void UapiServer::remove(Sessions::iterator place) {
  sessions_.erase(place);
}

}  // namespace sallyport
