#include "control/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "control/cpus.h"
#include "control/file_watch.h"
#include "control/link_watch.h"
#include "control/log.h"
#include "control/process.h"
#include "control/readiness.h"
#include "control/tunnel.h"
#include "control/uapi_server.h"
#include "crypto/aead.h"
#include "tun/tun_device.h"

namespace sallyport {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

int complain(const Error& error) {
  std::fprintf(stderr, "sallyport: %s\n", error.text.c_str());
  return 1;
}

// -- The environment

constexpr int kNotHandedIn = -1;

// A descriptor handed in by number; kNotHandedIn when the variable is not set.
Result<int> descriptor_from(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == '\0') {
    return kNotHandedIn;
  }
  int fd = -1;
  const char* end = text + std::strlen(text);
  const auto [stopped, error] = std::from_chars(text, end, fd);
  if (error != std::errc{} || stopped != end || fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    return fail(std::string(variable) + "=" + text + " is not the number of an open descriptor");
  }
  return fd;
}

// Closes what our starter happened to have open, but for standard streams and those to keep: a lock or a
// pipe held for as long as the tunnel lives would hang whoever waits on it.
void close_inherited(std::vector<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned first = STDERR_FILENO + 1;
  for (const int fd : keep) {
    const auto kept = static_cast<unsigned>(fd);
    if (fd < 0 || kept < first) {
      continue;
    }
    if (kept > first) {
      close_range(first, kept - 1, 0);
    }
    first = kept + 1;
  }
  close_range(first, UINT_MAX, 0);
}

// -- What has to be there before we are ready

struct Parts {
  unsigned workers;
  TunDevice tun;
  UapiSocket socket;
};

Result<Parts> prepare(const DaemonOptions& options, int readiness_fd) {
  const auto tun_fd = descriptor_from("WG_TUN_FD");
  const auto uapi_fd = descriptor_from("WG_UAPI_FD");
  if (!tun_fd || !uapi_fd) {
    return std::unexpected(!tun_fd ? tun_fd.error() : uapi_fd.error());
  }
  if (!options.foreground) {
    close_inherited({readiness_fd, *tun_fd, *uapi_fd});
  }
  const auto workers = count_workers(std::getenv("WG_THREADS"), affinity_cpus(), cgroup_cpus());
  if (!workers) {
    return std::unexpected(workers.error());
  }
  if (auto chosen = choose_aead(); !chosen) {
    return std::unexpected(std::move(chosen.error()));
  }
  auto tun = *tun_fd == kNotHandedIn
                 ? TunDevice::open(options.interface, *workers, choose_tun_calls())
                 : TunDevice::adopt(*tun_fd, *workers, choose_tun_calls());
  if (!tun) {
    return std::unexpected(std::move(tun.error()));
  }
  auto socket = *uapi_fd == kNotHandedIn ? UapiSocket::open(tun->name())
                                         : UapiSocket::adopt(*uapi_fd, tun->name());
  if (!socket) {
    return std::unexpected(std::move(socket.error()));
  }
  return Parts{*workers, std::move(*tun), std::move(*socket)};
}

// -- Running

// Everything alive, and the loop that serves it.
class Daemon {
 public:
  Daemon(Parts parts, std::vector<std::unique_ptr<Port>> plain_ports, bool foreground)
      : socket_(std::move(parts.socket)),
        engine_(options_for(parts)),
        tunnel_(parts.tun.name(), engine_, 0, std::move(plain_ports)),
        signals_(context_, SIGTERM, SIGINT),
        gone_(context_, dup(engine_.gone_fd())) {
    if (foreground) {
      signals_.add(SIGHUP);
    }
    if (const auto mtu = parts.tun.mtu()) {
      engine_.set_mtu(*mtu);
    }
  }

  // The link's state, the socket and the threads. Nothing may fork from here on.
  Result<void> start(int tun_fd) {
    auto link = LinkWatch::start(context_, tun_fd,
                                 {[this](const LinkState& state) { link_changed(state); },
                                  [this] { end("the TUN was deleted"); }});
    if (!link) {
      return std::unexpected(std::move(link.error()));
    }
    link_ = std::move(*link);
    if (!socket_.path().empty()) {
      auto file = FileWatch::start(context_, socket_.path(), [this] { socket_file_changed(); });
      if (!file) {
        return std::unexpected(std::move(file.error()));
      }
      file_ = std::move(*file);
    }
    server_.emplace(
        context_, socket_,
        UapiService{[this](const SetRequest& request) { return set(request); },
                    [this] { return tunnel_.get(); }, [this] { return tunnel_.status(); }});
    signals_.async_wait([this](error_code error, int number) {
      if (!error) {
        end(strsignal(number));
      }
    });
    gone_.async_wait(asio::posix::stream_descriptor::wait_read, [this](error_code error) {
      if (!error) {
        end("the TUN was deleted");
      }
    });
    engine_.run_threads();
    context_.poll();  // the link's state at start is waiting already
    return {};
  }

  void run() {
    context_.run();
    server_.reset();
    engine_.stop_threads();
  }

 private:
  static EngineOptions options_for(const Parts& parts) {
    EngineOptions options;
    options.workers = parts.workers;
    return options;
  }

  void link_changed(const LinkState& state) {
    if (auto followed = tunnel_.link_changed(state); !followed) {
      spdlog::error("{}; setting the interface down again", followed.error().text);
      if (auto down = link_->set_down(); !down) {
        spdlog::error("{}", down.error().text);
      }
    }
  }

  Result<void> set(const SetRequest& request) {
    auto done = tunnel_.set(request);
    if (!done) {
      spdlog::error("a set request is refused: {}", done.error().text);
    }
    return done;
  }

  void socket_file_changed() {
    if (!socket_.still_ours()) {
      end("the UAPI socket was removed");
    }
  }

  void end(const char* why) {
    spdlog::debug("ending: {}", why);
    context_.stop();
  }

  asio::io_context context_{1};
  UapiSocket socket_;
  Engine engine_;
  TunnelControl tunnel_;
  std::unique_ptr<LinkWatch> link_;
  std::unique_ptr<FileWatch> file_;
  std::optional<UapiServer> server_;
  asio::signal_set signals_;
  asio::posix::stream_descriptor gone_;
};

// Standard streams to /dev/null, stderr too unless it is the log's.
void leave_terminal(bool keep_stderr) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) {
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    if (!keep_stderr) {
      dup2(null, STDERR_FILENO);
    }
    close(null);
  }
}

int serve(const DaemonOptions& options, Readiness readiness) {
  const char* level = std::getenv("LOG_LEVEL");
  const bool level_set = level != nullptr && *level != '\0';
  const bool keep_stderr = options.foreground || level_set;
  start_log(level, options.interface,
            keep_stderr ? LogTarget::standard_error : LogTarget::system_log);
  const auto give_up = [&](const Error& error) {
    readiness.failed(error.text);
    return options.foreground ? complain(error) : 1;
  };
  signal(SIGPIPE, SIG_IGN);
  hide_memory();
  if (!options.foreground) {
    setsid();
    signal(SIGHUP, SIG_IGN);
    if (chdir("/") != 0) {
      return give_up({"cannot enter /", errno});
    }
  }
  auto parts = prepare(options, readiness.fd());
  if (!parts) {
    return give_up(parts.error());
  }
  const unsigned workers = parts->workers;
  auto plain_ports = parts->tun.take_ports();
  const int tun_fd = fcntl(plain_ports.front()->descriptors().fd[0], F_DUPFD_CLOEXEC, 0);
  Daemon daemon(std::move(*parts), std::move(plain_ports), options.foreground);
  if (auto started = daemon.start(tun_fd); !started) {
    return give_up(started.error());
  }
  if (!options.foreground) {
    leave_terminal(keep_stderr);
  }
  spdlog::debug("ready: {} workers, {}", workers, crypto::aead_name());
  if (readiness.ready()) {  // a parent that was ended while it waited wants no daemon
    daemon.run();
  }
  return 0;
}

}  // namespace

int run_daemon(const DaemonOptions& options) {
  if (options.foreground) {
    return serve(options, Readiness());
  }
  auto readiness = Readiness::fork_child();
  if (!readiness) {
    return complain(readiness.error());
  }
  if (readiness->side() == Readiness::Side::child) {
    return serve(options, std::move(*readiness));
  }
  const auto ready = readiness->await();
  return ready ? 0 : complain(ready.error());
}

}  // namespace sallyport
