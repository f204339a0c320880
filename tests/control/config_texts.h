// What tests of configurations share: keys as wg prints them, made for these tests, and problems as one text.
#pragma once

#include <string>
#include <vector>

#include "control/config.h"

namespace sallyport::config {

inline const std::string kKeyA = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
inline const std::string kKeyB = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
inline const std::string kKeyC = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=";

inline std::string all(const std::vector<Problem>& problems) {
  std::string text;
  for (const std::string& line : to_texts(problems)) {
    text += line + "\n";
  }
  return text;
}

}  // namespace sallyport::config
