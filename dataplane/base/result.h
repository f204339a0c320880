// Result<T>: how everything off the hot path reports failure.
//
// An Error is one sentence a person can act on (what, where, what to do) and the errno that caused
// it, if one did. Cold code only: it allocates. The data path names a DropReason instead
// (dataplane/path/drop.h).
#pragma once

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <utility>

namespace sallyport {

struct Error {
  std::string text;
  int code = 0;  // an errno value, 0 when none applies
};

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(std::string text, int code = EINVAL) {
  return std::unexpected(Error{std::move(text), code});
}

// "text: strerror(code)", with code kept for whoever has to answer in errno (UAPI).
inline std::unexpected<Error> fail_errno(std::string text, int code = errno) {
  text += ": ";
  text += std::strerror(code);
  return std::unexpected(Error{std::move(text), code});
}

}  // namespace sallyport
