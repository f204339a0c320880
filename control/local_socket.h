// LocalSocket: a listening AF_UNIX socket and the file that names it, for daemons that are asked and told.
//
// Mode 0600: who may open it may do everything. A stale file (nobody listens) is replaced; a live one is
// left alone, after waiting a little for a daemon that is on its way out. The name appears only once
// somebody listens behind it. The file is removed at the end if it is still the one that was made.
//
// Costs: opening blocks for as long as the caller has patience. Cannot: tell who connects (LocalServer can).
// Thread rules: values; open() changes the process's umask for a moment, so no other thread may make files.
#pragma once

#include <sys/types.h>
#include <sys/un.h>

#include <chrono>
#include <optional>
#include <string>

#include "dataplane/base/result.h"

namespace sallyport {

// Empty when the path is too long for a socket.
std::optional<sockaddr_un> local_address(const std::string& path);

class LocalSocket {
 public:
  // Makes the socket, and its directory (0755) where it is missing. `what` is what errors call it: "UAPI socket".
  static Result<LocalSocket> open(const std::string& path, const std::string& what,
                                  std::chrono::milliseconds patience);
  // Takes over a listening socket that somebody else made; errors name `whose`. Where the file is
  // not to be seen from here there is nothing to watch and nothing to remove.
  static Result<LocalSocket> adopt(int fd, const std::string& path, const std::string& whose);

  LocalSocket(LocalSocket&& other) noexcept;
  LocalSocket& operator=(LocalSocket&&) = delete;
  ~LocalSocket();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }  // empty: no file to watch or to remove
  bool still_ours() const;                           // the file at path() is this socket's

 private:
  LocalSocket(int fd, std::string path);

  int fd_;
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace sallyport
