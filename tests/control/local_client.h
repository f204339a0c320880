// A folder of a test's own, and a client of the sockets in it that reads only when the test says so.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace sallyport {

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/sallyport_test.XXXXXX";
    path_ = mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_; }

 private:
  std::string path_;
};

// A blocking client of our own, so that the test decides when it reads.
class Client {
 public:
  explicit Client(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  void say(const std::string& text) const {
    EXPECT_EQ(send(fd_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  // What has come so far; `ended` tells whether the server closed.
  std::string hear() {
    std::string heard;
    char bytes[4096];
    ssize_t count;
    while ((count = recv(fd_, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
      heard.append(bytes, static_cast<size_t>(count));
    }
    ended = count == 0;
    return heard;
  }
  int fd() const { return fd_; }
  bool ended = false;

 private:
  int fd_;
  bool connected_;
};

}  // namespace sallyport
