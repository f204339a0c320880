#include "control/control_client.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <utility>

#include "control/flow_query.h"
#include "control/limits.h"
#include "control/run_gateway.h"
#include "control/show_text.h"

namespace sallyport {

// -- The connection

Result<ControlClient> ControlClient::connect(const std::string& path) {
  const auto address = local_address(path);
  if (!address) {
    return fail("the path of the control socket is too long: " + path, ENAMETOOLONG);
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return fail_errno("cannot make a socket");
  }
  ControlClient client(fd, path);
  const timeval patience{kControlAnswerWait.count(), 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return fail(
          "no sallyport run answers at " + path + ": is it running, and with this --socket?",
          errno);
    }
    return fail_errno("cannot ask " + path + " (are you root?)");
  }
  return client;
}

ControlClient::ControlClient(ControlClient&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      input_(std::move(other.input_)) {}

ControlClient::~ControlClient() {
  if (fd_ >= 0) {
    close(fd_);
  }
}

Result<void> ControlClient::send_line(const Json& request) {
  const std::string line = request.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (send(fd_, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) {
    return fail_errno("cannot write to " + path_);
  }
  return {};
}

Result<Json> ControlClient::receive_line() {
  size_t newline = 0, searched = 0;
  while ((newline = input_.find('\n', searched)) == std::string::npos) {
    searched = input_.size();
    char bytes[64 * 1024];
    const ssize_t count = recv(fd_, bytes, sizeof(bytes), 0);
    if (count < 0) {
      return fail_errno("no answer from " + path_);
    }
    if (count == 0) {
      return fail(path_ + " ended the connection: see the daemon's log", ECONNRESET);
    }
    input_.append(bytes, static_cast<size_t>(count));
    if (input_.size() > 2 * kControlAnswerBytesMax) {
      return fail("the answer of " + path_ + " never ends", EMSGSIZE);
    }
  }
  Json line = Json::parse(input_.begin(), input_.begin() + static_cast<ptrdiff_t>(newline), nullptr,
                          /*allow_exceptions=*/false);
  input_.erase(0, newline + 1);
  if (!line.is_object()) {
    return fail(path_ + " answered with something that is no JSON object", EPROTO);
  }
  return line;
}

ControlResult ControlClient::ask(const Json& request) {
  return exchange(request, [](const Json&) { return true; });
}

ControlResult ControlClient::follow(const Json& request,
                                    const std::function<bool(const Json&)>& event) {
  const timeval forever{};  // the next packet may be long in coming
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
  return exchange(request, event);
}

ControlResult ControlClient::exchange(const Json& request,
                                      const std::function<bool(const Json&)>& event) {
  if (auto sent = send_line(request); !sent) {
    return control_fail(std::move(sent.error().text));
  }
  for (;;) {
    auto line = receive_line();
    if (!line) {
      return control_fail(std::move(line.error().text));
    }
    if (const auto told = line->find("event"); told != line->end()) {
      if (!event(*told)) {
        return Json::object();
      }
      continue;
    }
    if (line->value("ok", false)) {
      return line->contains("result") ? std::move((*line)["result"]) : Json();
    }
    return control_fail(line->value("error", "the daemon refuses, and does not say why"),
                        line->value("details", std::vector<std::string>()));
  }
}

// -- The subcommands

namespace {

int complain(const ControlFailure& failure) {
  for (const std::string& detail : failure.details) {
    std::fprintf(stderr, "%s\n", detail.c_str());
  }
  std::fprintf(stderr, "sallyport: %s\n", failure.error.c_str());
  return 1;
}

int complain(const Error& error) {
  return complain(ControlFailure{error.text, {}});
}

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
}

void print_json(const Json& result, int indent = 2) {
  print(result.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n");
}

ControlResult ask_daemon(const std::string& socket, const Json& request) {
  auto client = ControlClient::connect(socket.empty() ? control_path() : socket);
  if (!client) {
    return control_fail(std::move(client.error().text));
  }
  return client->ask(request);
}

int64_t number_in(const Json& result, const char* member) {
  return result.is_object() ? result.value(member, int64_t{0}) : 0;
}

// A filter that is none is refused here: the daemon would say the same.
Result<void> add_flow_filter(const std::string& what, const std::vector<std::string>& filter,
                             Json& request) {
  if (filter.empty()) {
    return {};
  }
  if (what != "flows") {
    return fail("only flows take a filter, and '" + filter.front() + "' would be one");
  }
  if (auto query = read_flow_query(filter); !query) {
    return std::unexpected(std::move(query.error()));
  }
  request["filter"] = filter;
  return {};
}

// Daemons of other versions answer in other ways; none may end this program with a type error.
template <class Command>
int guarded(const Command& command) {
  try {
    return command();
  } catch (const Json::exception& unexpected) {
    return complain(Error{std::string("the running daemon answers as another version would (") +
                              unexpected.what() + "): restart it, or use --json",
                          EPROTO});
  }
}

}  // namespace

int run_show(const std::string& socket, const std::string& what,
             const std::vector<std::string>& filter, bool json) {
  return guarded([&] {
    const bool overview = what.empty();
    Json request = overview ? Json{{"do", "status"}} : Json{{"do", "show"}, {"what", what}};
    if (auto added = add_flow_filter(what, filter, request); !added) {
      return complain(added.error());
    }
    const auto result = ask_daemon(socket, request);
    if (!result) {
      return complain(result.error());
    }
    if (json) {
      print_json(*result);
    } else {
      print(show_text(overview ? "status" : what, *result));
    }
    return 0;
  });
}

int run_flush(const std::string& socket, const std::string& what,
              const std::vector<std::string>& filter) {
  return guarded([&] {
    Json request{{"do", "flush"}, {"what", what}};
    if (auto added = add_flow_filter(what, filter, request); !added) {
      return complain(added.error());
    }
    const auto result = ask_daemon(socket, request);
    if (!result) {
      return complain(result.error());
    }
    print(std::to_string(number_in(*result, "flushed")) + " flows are forgotten\n");
    return 0;
  });
}

int run_reload(const std::string& socket, std::optional<int64_t> confirm_seconds) {
  return guarded([&] {
    Json request{{"do", "reload"}};
    if (confirm_seconds) {
      request["confirm_s"] = *confirm_seconds;
    }
    const auto result = ask_daemon(socket, request);
    if (!result) {
      return complain(result.error());
    }
    for (const Json& change : result->value("changes", Json::array())) {
      print(change.get<std::string>() + "\n");
    }
    if (confirm_seconds && number_in(*result, "confirm_s") != 0) {
      print("on trial: undone in " + std::to_string(number_in(*result, "confirm_s")) +
            " seconds unless you run sallyport confirm\n");
    }
    return 0;
  });
}

int run_confirm(const std::string& socket) {
  const auto result = ask_daemon(socket, {{"do", "confirm"}});
  return result ? 0 : complain(result.error());
}

int run_diff(const std::string& socket, const std::string& file) {
  return guarded([&] {
    std::error_code failed;
    const std::string path = std::filesystem::absolute(file, failed);  // the daemon works elsewhere
    const auto result = ask_daemon(socket, {{"do", "diff"}, {"config", failed ? file : path}});
    if (!result) {
      return complain(result.error());
    }
    if (result->empty()) {
      print("nothing would change\n");
    }
    for (const Json& change : *result) {
      print(change.get<std::string>() + "\n");
    }
    return 0;
  });
}

int run_explain(const std::string& socket, const PacketQueryWords& words,
                const std::string& config_file, bool json) {
  return guarded([&] {
    const auto query = read_query(words);
    if (!query) {
      return complain(query.error());
    }
    if (const auto whole = check_whole(*query); !whole) {
      return complain(whole.error());
    }
    Json request{{"do", "explain"}};
    write_query(*query, request);
    const auto result =
        config_file.empty() ? ask_daemon(socket, request) : explain_offline(config_file, *query);
    if (!result) {
      return complain(result.error());
    }
    if (json) {
      print_json(*result);
    } else {
      print(explain_text(*result));
    }
    return 0;
  });
}

int run_trace(const std::string& socket, const PacketQueryWords& words, uint64_t count, bool json) {
  return guarded([&] {
    const auto query = read_query(words);
    if (!query) {
      return complain(query.error());
    }
    auto client = ControlClient::connect(socket.empty() ? control_path() : socket);
    if (!client) {
      return complain(client.error());
    }
    Json request{{"do", "trace"}, {"count", count}};
    write_query(*query, request);
    const auto result = client->follow(request, [&](const Json& event) {
      if (json) {
        print_json(event, -1);
      } else {
        print(trace_text(event));
      }
      return std::fflush(stdout) == 0;  // whoever reads along wants it now, and may go
    });
    if (!result) {
      return complain(result.error());
    }
    if (const int64_t lost = number_in(*result, "lost"); lost != 0) {
      std::fprintf(stderr, "sallyport: %lld more were not told: this end read too slowly\n",
                   static_cast<long long>(lost));
    }
    return 0;
  });
}

}  // namespace sallyport
