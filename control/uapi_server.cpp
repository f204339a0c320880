#include "control/uapi_server.h"

#include <string_view>
#include <utility>

#include "control/limits.h"

namespace sallyport {

// -- The socket file

std::string uapi_path(const std::string& interface, const std::string& directory) {
  return directory + "/" + interface + ".sock";
}

Result<UapiSocket> UapiSocket::open(const std::string& interface, const std::string& directory,
                                    std::chrono::milliseconds patience) {
  auto socket = LocalSocket::open(uapi_path(interface, directory), "UAPI socket", patience);
  if (!socket) {
    return std::unexpected(std::move(socket.error()));
  }
  return UapiSocket(std::move(*socket));
}

Result<UapiSocket> UapiSocket::adopt(int fd, const std::string& interface,
                                     const std::string& directory) {
  auto socket = LocalSocket::adopt(fd, uapi_path(interface, directory), "WG_UAPI_FD");
  if (!socket) {
    return std::unexpected(std::move(socket.error()));
  }
  return UapiSocket(std::move(*socket));
}

// -- One connection

// Outlives the server only without being called: LocalServer ends its sessions, and those then are silent.
class UapiServer::Session : public LocalServer::Session {
 public:
  Session(const UapiService& service, LocalServer::Connection connection)
      : LocalServer::Session(std::move(connection)), service_(service) {
    line_.reserve(kUapiLineBytesMax);
  }
  ~Session() override { wipe(line_); }

 private:
  enum class Reading { operation, set, get, status };

  void heard(std::string_view bytes) override {
    left_ = bytes;
    consume();
  }

  void wrote() override {
    if (closing_) {
      end();
      return;
    }
    consume();
  }

  // Takes lines until one asks for an answer or no whole line is left.
  void consume() {
    while (!left_.empty()) {
      const std::string_view left = left_;
      const size_t newline = left.find('\n');
      const size_t taken = newline == std::string_view::npos ? left.size() : newline + 1;
      left_.remove_prefix(taken);
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
        write(apply());
        break;
      case Reading::get:
        write(service_.get());
        break;
      default:
        write(service_.status());
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
    const auto done = service_.set(*request);
    wipe(*request);
    return format_set_errno(done ? 0 : done.error().code == 0 ? EIO : done.error().code);
  }

  // Something we cannot make sense of: what follows would be guesswork, so the connection ends.
  void refuse(int error_number) {
    closing_ = true;
    write(reading_ == Reading::set ? format_set_errno(error_number)
                                   : format_get_errno(error_number));
  }

  const UapiService& service_;
  std::string_view left_;  // of what was heard last
  std::string line_;
  Reading reading_ = Reading::operation;
  size_t request_bytes_ = 0;
  SetParser parser_;
  bool closing_ = false;
};

// -- The server

UapiServer::UapiServer(boost::asio::io_context& context, const UapiSocket& socket,
                       UapiService service)
    : service_(std::move(service)),
      server_(context, socket.fd(), {kUapiConnectionsMax, kUapiUnreadAnswerMax, {}},
              [this](LocalServer::Connection connection) {
                return std::make_shared<Session>(service_, std::move(connection));
              }) {}

}  // namespace sallyport
