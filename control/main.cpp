// The program: what it is asked to do, and nothing else.
//
//   sallyport [-f] INTERFACE            the daemon of one tunnel; what wg-quick calls
//   sallyport status [INTERFACE] [--json]
//
// An interface that is itself called "status" goes behind two dashes: sallyport -- status.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "control/daemon.h"
#include "control/limits.h"
#include "control/status_client.h"

namespace {

constexpr const char* kEnvironment = R"(
Environment:
  LOG_LEVEL                    verbose, debug, error (the default) or silent
  WG_THREADS                   workers, 1 to 64 (default: the CPUs that affinity and cgroup quota leave)
  WG_TUN_FD, WG_UAPI_FD        an attached TUN and a listening UAPI socket, opened by somebody else
  WG_PROCESS_FOREGROUND=1      like --foreground
  SALLYPORT_AEAD               the implementation of the cipher to use, instead of the fastest

An interface called "status": sallyport -- status)";

std::string check_name(const std::string& name) {
  if (name.empty() || name.size() > sallyport::kInterfaceNameMax || name == "." || name == ".." ||
      name.find_first_of("/: \t\n%") != std::string::npos) {
    return "'" + name + "' is no interface name: 1 to 15 characters, no blanks, '/', ':' or '%'";
  }
  return {};
}

std::string one_line(const CLI::App*, const CLI::Error& error) {
  return std::string("sallyport: ") + error.what() + " (see sallyport --help)\n";
}

bool environment_is(const char* variable, const char* value) {
  const char* text = std::getenv(variable);
  return text != nullptr && std::string(text) == value;
}

int run(int argc, char** argv) {
  CLI::App app("Sallyport: a userspace WireGuard data plane", "sallyport");
  app.footer(kEnvironment);
  app.failure_message(one_line);
  app.set_version_flag("--version", std::string("sallyport ") + SALLYPORT_VERSION);
  sallyport::DaemonOptions options;
  app.add_flag("-f,--foreground", options.foreground, "stay in the foreground, log to stderr");
  app.add_option("INTERFACE", options.interface, "the tunnel's name, such as wg0")
      ->check(check_name);

  std::string asked;
  bool json = false;
  CLI::App* status = app.add_subcommand("status", "what running tunnels do: load, offloads, drops");
  status->add_option("INTERFACE", asked, "only this one")->check(check_name);
  status->add_flag("--json", json, "one JSON object (without INTERFACE: an array of them)");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& outcome) {
    return app.exit(outcome) == 0 ? 0 : 1;
  }
  if (status->parsed()) {
    return sallyport::run_status(asked, json);
  }
  if (options.interface.empty()) {
    std::fputs("sallyport: name an interface, such as wg0 (sallyport --help)\n", stderr);
    return 1;
  }
  options.foreground |= environment_is("WG_PROCESS_FOREGROUND", "1");
  return sallyport::run_daemon(options);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& unexpected) {  // out of memory, most likely
    std::fprintf(stderr, "sallyport: %s\n", unexpected.what());
    return 1;
  }
}
