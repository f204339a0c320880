#include "control/status_client.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <thread>
#include <vector>

#include "control/limits.h"
#include "control/uapi_server.h"

namespace sallyport {
namespace {

constexpr std::string_view kRequest = "sallyport_status=1\n\n";
constexpr std::string_view kAnswerEnd = "\nerrno=0\n\n";

Result<std::string> exchange(int fd, const std::string& path) {
  if (send(fd, kRequest.data(), kRequest.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(kRequest.size())) {
    return fail_errno("cannot write to " + path);
  }
  std::string answer;
  char bytes[64 * 1024];
  while (!answer.ends_with(kAnswerEnd)) {
    const ssize_t count = recv(fd, bytes, sizeof(bytes), 0);
    if (count < 0) {
      return fail_errno("no answer from " + path);
    }
    if (count == 0) {
      return fail(path + " is not served by Sallyport (wg show works with any implementation)",
                  EPROTO);
    }
    answer.append(bytes, static_cast<size_t>(count));
  }
  answer.resize(answer.size() - kAnswerEnd.size());
  return answer;
}

std::vector<std::string> interfaces_in(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    if (entry.path().extension() == ".sock") {
      names.push_back(entry.path().stem());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

int complain(const Error& error) {
  std::fprintf(stderr, "sallyport: %s\n", error.text.c_str());
  return 1;
}

std::string dump(const Json& report) {
  return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// Asks once more, for the load since `before`.
Result<std::string> text_of(const Json& before) {
  try {
    const auto report = ask_status(before.at("interface"), kUapiDirectory);
    return status_text(report ? *report : before, before);
  } catch (const Json::exception&) {  // a daemon from before an upgrade may say less, or otherwise
    return fail(
        "a running daemon is of another version than this program: use --json, or restart it");
  }
}

}  // namespace

Result<Json> ask_status(const std::string& interface, const std::string& directory) {
  const std::string path = uapi_path(interface, directory);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return fail("no interface can be called " + interface);
  }
  path.copy(address.sun_path, path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return fail_errno("cannot make a socket");
  }
  const timeval patience{kStatusAnswerWait.count(), 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    auto failed = fail_errno(errno == ENOENT || errno == ECONNREFUSED
                                 ? "no daemon serves " + interface + " (" + path + ")"
                                 : "cannot ask " + path + " (are you root?)");
    close(fd);
    return failed;
  }
  auto answer = exchange(fd, path);
  close(fd);
  if (!answer) {
    return std::unexpected(std::move(answer.error()));
  }
  Json report = Json::parse(*answer, nullptr, /*allow_exceptions=*/false);
  if (!report.is_object()) {
    return fail(path + " answered with something that is no status report", EPROTO);
  }
  return report;
}

int run_status(const std::string& interface, bool json) {
  const std::vector<std::string> names =
      interface.empty() ? interfaces_in(kUapiDirectory) : std::vector{interface};
  std::vector<Json> earlier;
  for (const std::string& name : names) {
    if (auto report = ask_status(name, kUapiDirectory)) {
      earlier.push_back(std::move(*report));
    } else if (!interface.empty()) {
      return complain(report.error());
    }
  }
  if (json) {
    std::fputs(dump(interface.empty() ? Json(earlier) : earlier.front()).c_str(), stdout);
    return 0;
  }
  if (earlier.empty()) {
    std::puts("No Sallyport is running.");
    return 0;
  }
  std::this_thread::sleep_for(kStatusLoadSample);
  for (const Json& before : earlier) {
    const auto text = text_of(before);
    if (!text) {
      return complain(text.error());
    }
    std::printf("%s%s", &before == &earlier.front() ? "" : "\n", text->c_str());
  }
  return 0;
}

}  // namespace sallyport
