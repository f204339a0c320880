// UapiServer: the AF_UNIX socket by which wg(8) and `sallyport status` talk to the daemon.
//
// /var/run/wireguard/INTERFACE.sock, mode 0600 in a directory 0755 (control/local_socket.h); several requests
// a connection, one after the other. A request is parsed line by line as it comes in, so what is held is the
// change it describes and never its text. Clients are kept apart and bounded by control/local_server.h, with
// the numbers in control/limits.h.
//
// What the requests do is not known here: the caller gives a UapiService. Beside wg's get=1 and set=1
// there is sallyport_status=1, which only `sallyport status` sends (docs/uapi.md).
//
// Thread rules: everything on the thread that runs the io_context.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <string>
#include <utility>

#include "control/limits.h"
#include "control/local_server.h"
#include "control/local_socket.h"
#include "control/uapi.h"

namespace sallyport {

inline constexpr char kUapiDirectory[] = "/var/run/wireguard";

std::string uapi_path(const std::string& interface, const std::string& directory = kUapiDirectory);

// The interface's LocalSocket.
class UapiSocket {
 public:
  // Makes the directory and the socket. A live one is waited for a little: whoever asks has made the TUN
  // already, so its daemon can only be on its way out.
  static Result<UapiSocket> open(const std::string& interface,
                                 const std::string& directory = kUapiDirectory,
                                 std::chrono::milliseconds patience = kUapiTakeoverWait);
  // Takes over a listening socket that somebody else made (WG_UAPI_FD).
  static Result<UapiSocket> adopt(int fd, const std::string& interface,
                                  const std::string& directory = kUapiDirectory);

  int fd() const { return socket_.fd(); }
  const std::string& path() const { return socket_.path(); }
  bool still_ours() const { return socket_.still_ours(); }

 private:
  explicit UapiSocket(LocalSocket socket) : socket_(std::move(socket)) {}

  LocalSocket socket_;
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

  size_t connections() const { return server_.connections(); }

 private:
  class Session;

  UapiService service_;
  LocalServer server_;
};

}  // namespace sallyport
