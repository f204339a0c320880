// ControlServer: the socket by which a person steers `sallyport run`.
//
// /run/sallyport/control.sock (systemd's RUNTIME_DIRECTORY where it is set), mode 0600, for root and the daemon's own user.
// One JSON object a line in, one a line out, several a connection, answered in order (docs/control.md):
//
//     {"do":"show","what":"rules"}   ->   {"ok":true,"result":[...]}   or   {"ok":false,"error":"...","details":["..."]}
//
// `trace` answers with {"event":{...}} lines first. It ends with its count, with the client's next request, or with the
// connection. A client that does not keep up with its events loses some, and is told how many; it holds up nobody.
// Bounds are in control/limits.h. What the requests do is not known here: the caller gives a ControlService.
//
// Cannot: answer later; a request is done when the service returns, and nobody else is served meanwhile.
// Thread rules: everything on the thread that runs the io_context.
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "control/local_server.h"
#include "control/local_socket.h"
#include "control/status.h"

namespace sallyport {

// $RUNTIME_DIRECTORY/control.sock, else /run/sallyport/control.sock. Both sides ask here when no --socket is given.
std::string control_path();

// Owns the file; waits a little for a daemon that is ending.
Result<LocalSocket> open_control_socket(const std::string& path);

// What failed, in a sentence, and the lines that belong to it: each error of a configuration file.
struct ControlFailure {
  std::string error;
  std::vector<std::string> details;
};
using ControlResult = std::expected<Json, ControlFailure>;

inline std::unexpected<ControlFailure> control_fail(std::string error,
                                                    std::vector<std::string> details = {}) {
  return std::unexpected(ControlFailure{std::move(error), std::move(details)});
}

// Where a trace's events go. Copies; outlives its client, and then does nothing.
class TraceSink {
 public:
  bool event(const Json& event);  // false: nobody takes it any more, so the trace should stop
  void end();                     // the trace is over, for the service's own reasons

 private:
  friend class ControlServer;
  struct Target;
  explicit TraceSink(std::weak_ptr<Target> target) : target_(std::move(target)) {}
  std::weak_ptr<Target> target_;
};

struct ControlService {
  // Everything but trace: the "result" of an answer. May throw Json::exception when the request's members are not what they
  // should be; that is answered.
  std::function<ControlResult(const Json& request)> request;
  // Begins a trace and returns how to stop it, which is called once, however it ends. Must not call the sink before returning.
  // "count" (0: no end) is seen to here; the rest is a PacketQuery's.
  using Stop = std::function<void()>;
  std::function<std::expected<Stop, ControlFailure>(const Json& request, TraceSink sink)> trace;
};

// Root and the daemon's user may.
bool may_control(uid_t client, uid_t daemon);

class ControlServer {
 public:
  // The socket is the caller's and outlives the server. Accepts at once.
  ControlServer(boost::asio::io_context& context, const LocalSocket& socket,
                ControlService service);

  size_t connections() const { return server_.connections(); }

 private:
  friend class TraceSink;
  class Session;

  ControlService service_;
  LocalServer server_;  // last: its end ends the sessions, which stop their traces
};

}  // namespace sallyport
