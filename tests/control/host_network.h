// What the tests of the host's network need: a namespace with links in it, and ip(8) as a second opinion on what is there.
#pragma once

#include <net/if.h>
#include <stdio.h>

#include <string>

#include "dataplane/net/address.h"
#include "tests/tun/network.h"

namespace sallyport::test {

// What ip(8) prints, in the namespace of the calling thread; what it complains about is part of it.
inline std::string ip(const std::string& arguments) {
  FILE* pipe = popen(("ip " + arguments + " 2>&1").c_str(), "r");
  std::string out;
  char bytes[4096];
  for (size_t length; (length = fread(bytes, 1, sizeof(bytes), pipe)) > 0;) {
    out.append(bytes, length);
  }
  pclose(pipe);
  return out;
}

// A persistent TUN that nobody is attached to, up: the kernel routes into it all the same. Its ifindex.
inline uint32_t make_link(const std::string& name) {
  EXPECT_EQ(ip("tuntap add dev " + name + " mode tun"), "");
  EXPECT_EQ(ip("link set " + name + " up"), "");
  const uint32_t index = if_nametoindex(name.c_str());
  EXPECT_NE(index, 0u);
  return index;
}

inline IpPrefix prefix(const std::string& text) {
  const auto parsed = parse_prefix(text);
  EXPECT_TRUE(parsed) << text;
  return parsed.value_or(IpPrefix{});
}

inline IpAddress address(const std::string& text) {
  const auto parsed = parse_address(text);
  EXPECT_TRUE(parsed) << text;
  return parsed.value_or(IpAddress{});
}

}  // namespace sallyport::test
