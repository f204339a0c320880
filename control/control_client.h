// ControlClient: the other end of the control socket, and what the subcommands of `sallyport` do with it.
//
// A short-lived process of its own: blocking calls with a time limit (control/limits.h). Needs to be whoever may open the
// socket: root, or the daemon's user. The run_* functions print results to stdout, what is wrong to stderr in one line (and the
// errors of a file before it, a line each), and return the program's exit status.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/control_server.h"
#include "control/packet_query.h"

namespace sallyport {

class ControlClient {
 public:
  static Result<ControlClient> connect(const std::string& path);
  ControlClient(ControlClient&& other) noexcept;
  ControlClient& operator=(ControlClient&&) = delete;
  ~ControlClient();

  // The result of one request.
  ControlResult ask(const Json& request);

  // For trace: each event goes to `event`, until that returns false or the daemon is done. The result tells how many.
  ControlResult follow(const Json& request, const std::function<bool(const Json& event)>& event);

 private:
  ControlClient(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ControlResult exchange(const Json& request, const std::function<bool(const Json& event)>& event);
  Result<void> send_line(const Json& request);
  Result<Json> receive_line();

  int fd_;
  std::string path_;
  std::string input_;
};

// `socket` is --socket's path; empty: control_path().
// `filter`: of flows.
int run_show(const std::string& socket, const std::string& what,
             const std::vector<std::string>& filter, bool json);
int run_flush(const std::string& socket, const std::string& what,
              const std::vector<std::string>& filter);
int run_reload(const std::string& socket, std::optional<int64_t> confirm_seconds);
int run_confirm(const std::string& socket);
int run_diff(const std::string& socket, const std::string& file);

// With `config_file` the packet is explained offline, on that file.
int run_explain(const std::string& socket, const PacketQueryWords& words,
                const std::string& config_file, bool json);
int run_trace(const std::string& socket, const PacketQueryWords& words, uint64_t count, bool json);

}  // namespace sallyport
