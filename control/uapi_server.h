// UapiServer: the AF_UNIX socket by which wg(8) and `sallyport status` talk to the daemon.
//
// /var/run/wireguard/INTERFACE.sock, mode 0600 in a directory 0755; several requests a connection, one
// after the other. A request is parsed line by line as it comes in, so what is held is the change it
// describes and never its text. Everything is asynchronous: a client that dribbles or never reads its
// answer holds up nobody else. Bounds are in control/limits.h: at the connection limit the one that has
// been quiet longest gives way, and an answer that nobody reads for a while is given up with its client.
//
// What the requests do is not known here: the caller gives a UapiService. Beside wg's get=1 and set=1
// there is sallyport_status=1, which only `sallyport status` sends (docs/uapi.md).
//
// Thread rules: everything on the thread that runs the io_context.
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <string>

#include "control/limits.h"
#include "control/uapi.h"

namespace sallyport {

inline constexpr char kUapiDirectory[] = "/var/run/wireguard";

std::string uapi_path(const std::string& interface, const std::string& directory = kUapiDirectory);

// A listening socket and the file that names it. Moves; the destructor closes the socket and removes the
// file if it is still the one that was made.
class UapiSocket {
 public:
  // Makes the directory and the socket. A stale file (nobody listens) is replaced. A live one is waited
  // for a little: whoever asks has made the TUN already, so its daemon can only be on its way out.
  static Result<UapiSocket> open(const std::string& interface,
                                 const std::string& directory = kUapiDirectory,
                                 std::chrono::milliseconds patience = kUapiTakeoverWait);
  // Takes over a listening socket that somebody else made (WG_UAPI_FD). Where the interface's file is not
  // to be seen from here there is nothing to watch and nothing to remove.
  static Result<UapiSocket> adopt(int fd, const std::string& interface,
                                  const std::string& directory = kUapiDirectory);

  UapiSocket(UapiSocket&& other) noexcept;
  UapiSocket& operator=(UapiSocket&&) = delete;
  ~UapiSocket();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }  // empty: no file to watch or to remove
  bool still_ours() const;                           // the file at path() is this socket's

 private:
  UapiSocket(int fd, std::string path);

  int fd_;
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

struct UapiService {
  std::function<Result<void>(const SetRequest&)> set;
  std::function<std::string()> get;     // a whole answer, errno line included
  std::function<std::string()> status;  // likewise
};

class UapiServer {
 public:
  // The socket is the caller's and outlives the server. Accepts at once.
  UapiServer(boost::asio::io_context& context, const UapiSocket& socket, UapiService service);
  ~UapiServer();  // closes every connection
  UapiServer(const UapiServer&) = delete;
  UapiServer& operator=(const UapiServer&) = delete;

  size_t connections() const { return sessions_.size(); }

 private:
  class Session;
  using Sessions = std::list<std::weak_ptr<Session>>;

  void accept();
  void add(boost::asio::local::stream_protocol::socket connection);
  void touch(Sessions::iterator place);  // was active just now: to the end of the list
  void remove(Sessions::iterator place);

  UapiService service_;
  boost::asio::local::stream_protocol::acceptor acceptor_;
  boost::asio::steady_timer retry_;
  Sessions sessions_;  // longest quiet first
};

}  // namespace sallyport
