#include "control/run_gateway.h"

#include <malloc.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "control/config_diff.h"
#include "control/config_text.h"
#include "control/confirm.h"
#include "control/control_server.h"
#include "control/cpus.h"
#include "control/gateway.h"
#include "control/limits.h"
#include "control/log.h"
#include "control/notify.h"
#include "control/process.h"

namespace sallyport {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

class RunningGateway {
 public:
  RunningGateway(const GatewayOptions& options, std::string socket_path, unsigned workers,
                 Notify notify)
      : options_(options),
        socket_path_(std::move(socket_path)),
        notify_(std::move(notify)),
        gateway_(context_, workers, [this](std::string why) { fail_with(std::move(why)); }),
        trial_(context_, trial_record_path(socket_path_),
               [this](const Result<void>& undone) { told_of_undoing(undone); }),
        signals_(context_, SIGTERM, SIGINT),
        hangup_(context_, SIGHUP),
        watchdog_(context_) {}

  // The first configuration, or why not.
  Gateway::Outcome begin() {
    auto record = TrialRecord::take_back(trial_record_path(socket_path_));
    if (record && record->has_value()) {
      // We ended while a reload was on trial: nobody confirmed it.
      spdlog::warn("the last reload was never confirmed: going back to the configuration before");
      last_text_ = (*record)->text;
      return adopt(config::read_text((*record)->text, (*record)->file));
    }
    remember_text();
    return adopt(config::read_file(options_.config));
  }

  int run(const LocalSocket& socket) {
    ControlServer server(
        context_, socket,
        {[this](const Json& request) { return answer(request); },
         [this](const Json& request, TraceSink sink) { return trace(request, std::move(sink)); }});
    signals_.async_wait([this](error_code error, int number) {
      if (!error) {
        spdlog::info("ending: {}", strsignal(number));
        context_.stop();
      }
    });
    wait_for_hangup();
    feed_watchdog();
    notify_.ready("running " + options_.config);
    context_.run();
    notify_.stopping();
    return failed_ ? 1 : 0;
  }

 private:
  Gateway::Outcome adopt(const config::ReadResult& read) {
    for (const std::string& line : config::to_texts(read.warnings)) {
      spdlog::warn("{}", line);
    }
    if (!read.ok()) {
      return control_fail(options_.config + " is refused, and nothing has changed",
                          config::to_texts(read.errors));
    }
    notify_.watchdog();  // a million routes take a while
    Gateway::Outcome applied = gateway_.apply(read.config);
    notify_.watchdog();
    return applied;
  }

  ControlResult answer(const Json& request) {
    const std::string what = request.at("do");
    if (what == "status") {
      Json status = gateway_.status();
      if (const auto left = trial_.seconds_left(); left.has_value()) {
        status["confirm_s"] = *left;
      }
      return status;
    }
    if (what == "show") {
      return request.at("what") == "flows" ? gateway_.show_flows(filter_in(request))
                                           : gateway_.show(request.at("what"));
    }
    if (what == "flush") {
      if (request.at("what") != "flows") {
        return control_fail("only flows can be flushed");
      }
      return gateway_.flush_flows(filter_in(request));
    }
    if (what == "diff") {
      const config::ReadResult read = config::read_file(request.at("config"));
      if (!read.ok()) {
        return control_fail("it is no configuration", config::to_texts(read.errors));
      }
      return Json(config::diff(gateway_.config(), read.config));
    }
    if (what == "explain") {
      const auto query = read_query(request);
      if (!query) {
        return control_fail(query.error().text);
      }
      if (auto whole = check_whole(*query); !whole) {
        return control_fail(whole.error().text);
      }
      return gateway_.explain(*query);
    }
    if (what == "reload") {
      return reload(request);
    }
    if (what == "confirm") {
      if (auto confirmed = trial_.confirm(); !confirmed) {
        return control_fail(confirmed.error().text);
      }
      return Json::object();
    }
    return control_fail("'" + what + "' is nothing that can be done here");
  }

  static std::vector<std::string> filter_in(const Json& request) {
    return request.value("filter", std::vector<std::string>());
  }

  ControlResult reload(const Json& request) {
    if (auto may = trial_.may_reload(); !may) {
      return control_fail(may.error().text);
    }
    std::optional<std::chrono::seconds> patience;
    if (request.contains("confirm_s")) {
      const auto wanted = Trial::patience(request.at("confirm_s"));
      if (!wanted) {
        return control_fail(wanted.error().text);
      }
      patience = *wanted;
    }
    if (request.contains("config")) {
      options_.config = request.at("config");
    }
    const std::string text = last_text_;
    const config::Config before = gateway_.config();
    notify_.reloading();
    const config::ReadResult read = config::read_file(options_.config);
    const Gateway::Outcome applied = adopt(read);
    notify_.ready("running " + options_.config);
    if (!applied) {
      spdlog::error("{}", applied.error().error);
      for (const std::string& line : applied.error().details) {
        spdlog::error("{}", line);
      }
      return std::unexpected(applied.error());
    }
    remember_text();
    const std::vector<std::string> changes = config::diff(before, read.config);
    spdlog::info("reloaded {}: {} changes", options_.config, changes.size());
    Json result = {{"changes", changes}};
    if (patience.has_value()) {
      auto kept = trial_.applied(*patience, {before.file, text},
                                 [this, before, text] { return undo(before, text); });
      if (!kept) {
        if (auto undone = undo(before, text); !undone) {
          return control_fail(kept.error().text + "; and " + undone.error().text);
        }
        return control_fail(kept.error().text);
      }
      result["confirm_s"] = patience->count();
    }
    return result;
  }

  Result<void> undo(const config::Config& before, const std::string& text) {
    const Gateway::Outcome undone = gateway_.apply(before);
    if (!undone) {
      std::string why = undone.error().error;
      for (const std::string& line : undone.error().details) {
        why += "; " + line;
      }
      return fail(std::move(why));
    }
    last_text_ = text;
    return {};
  }

  void told_of_undoing(const Result<void>& undone) {
    if (undone) {
      spdlog::warn("nobody confirmed the reload: it is undone");
    } else {
      spdlog::error("nobody confirmed the reload, and it could not be undone: {}",
                    undone.error().text);
    }
  }

  std::expected<ControlService::Stop, ControlFailure> trace(const Json& request, TraceSink sink) {
    const auto query = read_query(request);
    if (!query) {
      return control_fail(query.error().text);
    }
    return gateway_.trace(*query, std::move(sink));
  }

  void wait_for_hangup() {
    hangup_.async_wait([this](error_code error, int) {
      if (!error) {
        reload(Json::object());
        wait_for_hangup();
      }
    });
  }

  void feed_watchdog() {
    const auto interval = notify_.watchdog_interval();
    if (!interval.has_value()) {
      return;
    }
    notify_.watchdog();
    watchdog_.expires_after(*interval / 2);
    watchdog_.async_wait([this](error_code error) {
      if (!error) {
        feed_watchdog();
      }
    });
  }

  void fail_with(std::string why) {
    spdlog::error("{}", why);
    failed_ = true;
    context_.stop();
  }

  // The file as it is in force, for a trial that must be undone after a crash.
  void remember_text() {
    auto text = config::read_whole(options_.config, kConfigBytesMax);
    last_text_ = text ? std::move(*text) : std::string();
  }

  asio::io_context context_{1};
  GatewayOptions options_;
  std::string socket_path_;
  Notify notify_;
  Gateway gateway_;
  TrialTimer trial_;
  asio::signal_set signals_, hangup_;
  asio::steady_timer watchdog_;
  std::string last_text_;
  bool failed_ = false;
};

}  // namespace

int run_gateway(const GatewayOptions& given) {
  const char* level = std::getenv("LOG_LEVEL");
  start_log(level == nullptr || *level == '\0' ? "info" : level, "run", LogTarget::standard_error);
  signal(SIGPIPE, SIG_IGN);
  hide_memory();
  // Lists and what is built from them go back to the host when they are freed: left to itself, malloc begins to keep what is as
  // large as these.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  GatewayOptions options = given;
  options.config = std::filesystem::absolute(options.config);
  const auto complain = [](const std::string& text, const std::vector<std::string>& lines = {}) {
    for (const std::string& line : lines) {
      std::fprintf(stderr, "%s\n", line.c_str());
    }
    std::fprintf(stderr, "sallyport: %s\n", text.c_str());
    return 1;
  };
  auto notify = Notify::from_environment();
  if (!notify) {
    return complain(notify.error().text);
  }
  const auto workers = count_workers(std::getenv("WG_THREADS"), affinity_cpus(), cgroup_cpus());
  if (!workers) {
    return complain(workers.error().text);
  }
  if (auto chosen = choose_aead(); !chosen) {
    return complain(chosen.error().text);
  }
  const std::string path = options.socket.empty() ? control_path() : options.socket;
  auto socket = open_control_socket(path);  // first: two daemons of one socket must not meet
  if (!socket) {
    return complain(socket.error().text);
  }
  RunningGateway running(options, path, *workers, std::move(*notify));
  if (auto begun = running.begin(); !begun) {
    return complain(begun.error().error, begun.error().details);
  }
  return running.run(*socket);
}

}  // namespace sallyport
