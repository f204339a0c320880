#include "control/control_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>

#include "control/limits.h"

namespace sallyport {
namespace {

// One line: names and paths in it may be no UTF-8.
std::string line_of(const Json& answer) {
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string failure_line(const ControlFailure& failure) {
  Json answer{{"ok", false}, {"error", failure.error}};
  if (!failure.details.empty()) {
    answer["details"] = failure.details;
  }
  return line_of(answer);
}

std::string answer_line(const ControlResult& result) {
  if (!result) {
    return failure_line(result.error());
  }
  std::string line = line_of({{"ok", true}, {"result", *result}});
  if (line.size() > kControlAnswerBytesMax) {
    return failure_line({"the answer is too long: " + std::to_string(line.size()) + " bytes", {}});
  }
  return line;
}

// Nothing deep, so that nothing that walks it need fear for its stack.
std::expected<Json, ControlFailure> parse_request(std::string_view line) {
  bool too_deep = false;
  const auto shallow = [&](int depth, Json::parse_event_t, const Json&) {
    too_deep |= depth > static_cast<int>(kControlJsonDepthMax);
    return !too_deep;
  };
  Json request = Json::parse(line, shallow, /*allow_exceptions=*/false);
  if (too_deep || !request.is_object() || !request.contains("do") || !request["do"].is_string()) {
    return control_fail(R"(a request is one line with one JSON object, such as {"do":"status"})");
  }
  return request;
}

std::optional<uid_t> user_of(int fd) {
  ucred client{};
  socklen_t length = sizeof(client);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &client, &length) != 0) {
    return std::nullopt;
  }
  return client.uid;
}

}  // namespace

std::string control_path() {
  const char* directory = std::getenv("RUNTIME_DIRECTORY");
  std::string_view first = directory == nullptr ? "" : directory;
  first = first.substr(0, first.find(':'));  // systemd joins several with colons
  return (first.empty() ? "/run/sallyport" : std::string(first)) + "/control.sock";
}

Result<LocalSocket> open_control_socket(const std::string& path) {
  return LocalSocket::open(path, "control socket", kControlTakeoverWait);
}

bool may_control(uid_t client, uid_t daemon) {
  return client == 0 || client == daemon;
}

// -- A trace

struct TraceSink::Target {
  ControlServer::Session* session = nullptr;  // null when the trace is over
};

// -- One connection

class ControlServer::Session : public LocalServer::Session {
 public:
  Session(const ControlService& service, LocalServer::Connection connection)
      : LocalServer::Session(std::move(connection)), service_(service) {}

  bool event(const Json& event);
  void end_trace();

 private:
  void started() override;
  void heard(std::string_view bytes) override;
  void wrote() override;
  void ended() override;

  void proceed();
  void take_line(std::string_view line);
  void begin_trace(const Json& request);
  void stop_trace();
  void say(std::string line);

  const ControlService& service_;
  std::string input_;     // not taken yet
  std::string output_;    // not given to write() yet
  bool writing_ = false;  // an answer or events are under way
  bool reading_ = false;
  bool closing_ = false;

  std::shared_ptr<TraceSink::Target> trace_;
  ControlService::Stop stop_;
  uint64_t events_ = 0, lost_ = 0, wanted_ = 0;
};

void ControlServer::Session::started() {
  const auto user = user_of(connection().native_handle());
  if (!user || !may_control(*user, geteuid())) {
    closing_ = true;
    say(failure_line({"only root and the daemon's own user may ask", {}}));
    return;
  }
  proceed();
}

void ControlServer::Session::heard(std::string_view bytes) {
  reading_ = false;
  input_.append(bytes);
  if (trace_ != nullptr) {
    end_trace();
  }
  proceed();
}

void ControlServer::Session::wrote() {
  writing_ = false;
  if (!output_.empty()) {
    say({});
    return;
  }
  if (closing_) {
    end();
    return;
  }
  proceed();
}

void ControlServer::Session::ended() {
  stop_trace();
}

// The next line that is there, once the answer to the last one is out; else listens. During a trace it only listens.
void ControlServer::Session::proceed() {
  while (alive() && !writing_ && !closing_ && trace_ == nullptr) {
    const size_t newline = input_.find('\n');
    if (newline > kControlLineBytesMax && input_.size() > kControlLineBytesMax) {
      closing_ = true;
      say(failure_line(
          {"a request is at most " + std::to_string(kControlLineBytesMax) + " bytes", {}}));
      return;
    }
    if (newline == std::string::npos) {
      break;
    }
    const std::string line = input_.substr(0, newline);
    input_.erase(0, newline + 1);
    take_line(line);
  }
  if (alive() && !reading_ && !closing_ && (!writing_ || trace_ != nullptr)) {
    reading_ = true;
    read(/*forever=*/trace_ != nullptr);
  }
}

void ControlServer::Session::take_line(std::string_view line) {
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) {
    return;
  }
  const auto request = parse_request(line);
  if (!request) {
    say(failure_line(request.error()));
    return;
  }
  try {
    if ((*request)["do"] == "trace") {
      begin_trace(*request);
    } else {
      say(answer_line(service_.request(*request)));
    }
  } catch (const Json::exception& unexpected) {
    say(failure_line(
        {std::string("the request's members are not understood: ") + unexpected.what(), {}}));
  }
}

void ControlServer::Session::begin_trace(const Json& request) {
  const uint64_t wanted = request.value("count", uint64_t{0});
  auto target = std::make_shared<TraceSink::Target>();
  target->session = this;
  auto begun = service_.trace(request, TraceSink(target));
  if (!begun) {
    say(failure_line(begun.error()));
    return;
  }
  trace_ = std::move(target);
  stop_ = std::move(*begun);
  wanted_ = wanted;
  events_ = lost_ = 0;
}

bool ControlServer::Session::event(const Json& event) {
  std::string line = line_of({{"event", event}});
  if (output_.size() + line.size() > kControlTraceBytesMax) {
    ++lost_;
    return true;
  }
  say(std::move(line));
  if (++events_ == wanted_) {
    end_trace();
    return false;
  }
  return true;
}

void ControlServer::Session::end_trace() {
  stop_trace();
  say(line_of({{"ok", true}, {"result", {{"events", events_}, {"lost", lost_}}}}));
}

void ControlServer::Session::stop_trace() {
  if (trace_ == nullptr) {
    return;
  }
  std::exchange(trace_, nullptr)->session = nullptr;
  std::exchange(stop_, nullptr)();
}

void ControlServer::Session::say(std::string line) {
  output_ += line;
  if (!writing_ && !output_.empty()) {
    writing_ = true;
    write(std::exchange(output_, {}));
  }
}

// -- The sink

bool TraceSink::event(const Json& event) {
  const auto target = target_.lock();
  return target != nullptr && target->session != nullptr && target->session->event(event);
}

void TraceSink::end() {
  const auto target = target_.lock();
  if (target != nullptr && target->session != nullptr) {
    target->session->end_trace();
  }
}

// -- The server

ControlServer::ControlServer(boost::asio::io_context& context, const LocalSocket& socket,
                             ControlService service)
    : service_(std::move(service)),
      server_(context, socket.fd(),
              {kControlConnectionsMax, kControlUnreadAnswerMax, kControlSilenceMax},
              [this](LocalServer::Connection connection) {
                return std::make_shared<Session>(service_, std::move(connection));
              }) {}

}  // namespace sallyport
