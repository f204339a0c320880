#include "control/check.h"

#include <cstdio>
#include <vector>

#include "control/build.h"
#include "control/loop_check.h"

namespace sallyport {
namespace {

std::string count(size_t number, const char* noun) {
  return std::to_string(number) + " " + noun + (number == 1 ? "" : "s");
}

}  // namespace

PolicyAssets::Prepared check_beyond(const config::Config& config, bool with_credentials,
                                    std::vector<config::Problem>& problems) {
  PolicyAssets::Prepared sets = PolicyAssets::prepare(config, problems);
  check_keys(config, with_credentials, problems);
  check_loops(
      config, [&](const std::string& set) -> const auto& { return sets.entries(set); }, problems);
  return sets;
}

std::string check_summary(const config::Config& config) {
  size_t peers = 0;
  for (const config::Tunnel& tunnel : config.tunnels) {
    peers += tunnel.peers.size();
  }
  return config.file + ": ok: " + count(config.tunnels.size(), "tunnel") + ", " +
         count(peers, "peer") + ", " + count(config.sets.size(), "set") + ", " +
         count(config.exits.size(), "exit") + ", " + count(config.tables.size(), "table") + ", " +
         count(config.rules.size(), "rule");
}

int run_check(const std::string& path) {
  config::ReadResult read = config::read_file(path);
  if (read.ok()) {
    check_beyond(read.config, /*with_credentials=*/false, read.errors);
  }
  for (const config::Problem& warning : read.warnings) {
    std::fprintf(stderr, "%s (warning)\n", config::to_text(warning).c_str());
  }
  for (const config::Problem& problem : read.errors) {
    std::fprintf(stderr, "%s\n", config::to_text(problem).c_str());
  }
  if (!read.ok()) {
    std::fprintf(stderr, "sallyport: %s: %s\n", path.c_str(),
                 count(read.errors.size(), "error").c_str());
    return 1;
  }
  std::printf("%s\n", check_summary(read.config).c_str());
  return 0;
}

}  // namespace sallyport
