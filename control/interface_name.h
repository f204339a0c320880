// What Linux takes as the name of an interface, in a sentence.
#pragma once

#include <string>
#include <string_view>

#include "control/limits.h"

namespace sallyport {

// Empty when the name can be an interface's.
inline std::string interface_name_problem(std::string_view name) {
  if (name.empty() || name.size() > kInterfaceNameMax || name == "." || name == ".." ||
      name.find_first_of("/: \t\n\v\f\r%") != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    return "'" + std::string(name.substr(0, 4 * kInterfaceNameMax)) +
           "' is no interface name: 1 to 15 characters, no blanks, '/', ':' or '%'";
  }
  return {};
}

}  // namespace sallyport
