// The program: what it is asked to do, and nothing else.
//
//   sallyport [-f] INTERFACE                the daemon of one tunnel; what wg-quick calls
//   sallyport status [INTERFACE] [--json]
//   sallyport run --config FILE             the daemon of a configuration file
//   sallyport check FILE                    is it one?
//   sallyport diff FILE | reload | confirm | show [WHAT] | flush flows | explain ... | trace ...     ask or tell that daemon
//
// An interface that is itself called as a subcommand goes behind two dashes: sallyport -- status.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/check.h"
#include "control/control_client.h"
#include "control/daemon.h"
#include "control/interface_name.h"
#include "control/run_gateway.h"
#include "control/status_client.h"

namespace {

constexpr const char* kEnvironment = R"(
Environment:
  LOG_LEVEL                    verbose, debug, error (the default) or silent
  WG_THREADS                   workers, 1 to 64 (default: the CPUs that affinity and cgroup quota leave)
  WG_TUN_FD, WG_UAPI_FD        an attached TUN and a listening UAPI socket, opened by somebody else
  WG_PROCESS_FOREGROUND=1      like --foreground
  SALLYPORT_AEAD               the implementation of the cipher to use, instead of the fastest

An interface called as a subcommand is: sallyport -- status)";

std::string check_name(const std::string& name) {
  return sallyport::interface_name_problem(name);
}

std::string one_line(const CLI::App*, const CLI::Error& error) {
  return std::string("sallyport: ") + error.what() + " (see sallyport --help)\n";
}

bool environment_is(const char* variable, const char* value) {
  const char* text = std::getenv(variable);
  return text != nullptr && std::string(text) == value;
}

// What the command line said, for whichever subcommand it was.
struct Said {
  std::string interface;  // of status
  std::string file;
  std::string socket;
  std::string what;
  std::vector<std::string> filter;
  std::optional<int64_t> confirm_seconds;
  uint64_t count = 0;
  bool json = false;
  sallyport::PacketQueryWords packet;
};

void add_socket(CLI::App* command, Said& said) {
  command->add_option("--socket", said.socket,
                      "the control socket (default: $RUNTIME_DIRECTORY/control.sock, or "
                      "/run/sallyport/control.sock)");
}

void add_json(CLI::App* command, Said& said, const char* description = "as JSON") {
  command->add_flag("--json", said.json, description);
}

void add_filter(CLI::App* command, Said& said) {
  command->add_option("FILTER", said.filter,
                      "of flows: from PREFIX, to PREFIX, sport N[-M], dport N[-M], ipproto P, "
                      "peer NAME, tunnel NAME, exit NAME, state STATE");
}

void add_packet(CLI::App* command, Said& said) {
  sallyport::PacketQueryWords& packet = said.packet;
  command->add_option("--from", packet.from, "source address");
  command->add_option("--to", packet.to, "destination address");
  command->add_option("--proto,--ipproto", packet.protocol, "tcp, udp, icmp, icmpv6, or a number");
  command->add_option("--sport", packet.source_port, "source port");
  command->add_option("--dport", packet.destination_port, "destination port");
  command->add_option("--iif", packet.iif, "where it comes in: host, or a tunnel");
  command->add_option("--peer", packet.peer, "the peer it comes from: TUNNEL/PEER, or PEER");
  command->add_option("--mark", packet.mark, "its mark, decimal or 0x...");
  command->add_option("--tos", packet.tos, "its TOS byte, decimal or 0x...");
}

// A subcommand and what it does. The outcome is the program's exit status.
using Command = std::function<int()>;

class Commands {
 public:
  Commands(CLI::App& app, Said& said) : app_(app), said_(said) {
    add_daemon();
    add_steering();
    add_asking();
  }

  // Nothing when no subcommand was given.
  std::optional<int> run() const {
    for (const auto& [command, run] : commands_) {
      if (command->parsed()) {
        return run();
      }
    }
    return std::nullopt;
  }

 private:
  CLI::App* add(const char* name, const char* description, Command run) {
    CLI::App* command = app_.add_subcommand(name, description);
    commands_.emplace_back(command, std::move(run));
    return command;
  }

  void add_daemon() {
    CLI::App* status = add("status", "what running tunnels do: load, offloads, drops",
                           [this] { return sallyport::run_status(said_.interface, said_.json); });
    status->add_option("INTERFACE", said_.interface, "only this one")->check(check_name);
    add_json(status, said_, "one JSON object (without INTERFACE: an array of them)");

    CLI::App* run = add("run", "the daemon of a configuration file, in the foreground", [this] {
      return sallyport::run_gateway({said_.file, said_.socket});
    });
    run->add_option("--config", said_.file, "the configuration file")->required();
    add_socket(run, said_);

    CLI::App* check = add("check", "is this a configuration? every error, with its line",
                          [this] { return sallyport::run_check(said_.file); });
    check->add_option("FILE", said_.file, "the configuration file")->required();
  }

  void add_steering() {
    CLI::App* diff = add("diff", "what a reload with this file would change, in words",
                         [this] { return sallyport::run_diff(said_.socket, said_.file); });
    diff->add_option("FILE", said_.file, "the configuration file")->required();
    add_socket(diff, said_);

    CLI::App* reload = add("reload", "read the configuration again, all of it or nothing", [this] {
      return sallyport::run_reload(said_.socket, said_.confirm_seconds);
    });
    reload
        ->add_option("--confirm", said_.confirm_seconds,
                     "undo it after SECONDS unless sallyport confirm is run")
        ->type_name("SECONDS");
    add_socket(reload, said_);

    CLI::App* confirm = add("confirm", "keep what reload --confirm put on trial",
                            [this] { return sallyport::run_confirm(said_.socket); });
    add_socket(confirm, said_);

    CLI::App* flush = add("flush", "forget flows: their next packets begin anew", [this] {
      return sallyport::run_flush(said_.socket, said_.what, said_.filter);
    });
    flush->add_option("WHAT", said_.what, "flows")->required()->check(CLI::IsMember({"flows"}));
    add_filter(flush, said_);
    add_socket(flush, said_);
  }

  void add_asking() {
    CLI::App* show = add(
        "show", "what the daemon has: rules, sets, tables, exits, peers, ...",
        [this] { return sallyport::run_show(said_.socket, said_.what, said_.filter, said_.json); });
    show->add_option("WHAT", said_.what, "without it: an overview")
        ->check(CLI::IsMember(
            {"rules", "sets", "tables", "exits", "peers", "drops", "tunnels", "flows"}));
    add_filter(show, said_);
    add_json(show, said_);
    add_socket(show, said_);

    CLI::App* explain = add("explain", "where a packet would go, and why", [this] {
      return sallyport::run_explain(said_.socket, said_.packet, said_.file, said_.json);
    });
    add_packet(explain, said_);
    explain->add_option("--size", said_.packet.size, "its length in bytes");
    explain->add_option("--config", said_.file, "by this file, without a daemon");
    add_json(explain, said_);
    add_socket(explain, said_);

    CLI::App* trace = add("trace", "the same for packets that pass now", [this] {
      return sallyport::run_trace(said_.socket, said_.packet, said_.count, said_.json);
    });
    add_packet(trace, said_);
    trace->add_flag("--drops", said_.packet.drops, "only packets that are dropped");
    trace->add_option("-c,--count", said_.count, "end after so many packets");
    add_json(trace, said_, "one JSON object a line");
    add_socket(trace, said_);
  }

  CLI::App& app_;
  Said& said_;
  std::vector<std::pair<CLI::App*, Command>> commands_;
};

int run(int argc, char** argv) {
  CLI::App app("Sallyport: a userspace WireGuard data plane", "sallyport");
  app.footer(kEnvironment);
  app.failure_message(one_line);
  app.set_version_flag("--version", std::string("sallyport ") + SALLYPORT_VERSION);
  app.require_subcommand(0, 1);
  sallyport::DaemonOptions options;
  app.add_flag("-f,--foreground", options.foreground, "stay in the foreground, log to stderr");
  app.add_option("INTERFACE", options.interface, "the tunnel's name, such as wg0")
      ->check(check_name);
  Said said;
  const Commands commands(app, said);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& outcome) {
    return app.exit(outcome) == 0 ? 0 : 1;
  }
  if (const auto status = commands.run()) {
    return *status;
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
