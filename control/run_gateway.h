// RunGateway: the program `sallyport run`: the process around a Gateway.
//
// In the foreground, for a service manager or a person: logs to stderr (LOG_LEVEL, info unless set), tells systemd when it
// is ready, reloads, stops and lives. SIGTERM and SIGINT end it with status 0, SIGHUP reloads. It takes the control
// socket before anything else, so that two daemons never meet on one host's routes.
#pragma once

#include <string>

#include "control/control_server.h"
#include "control/packet_query.h"

namespace sallyport {

struct GatewayOptions {
  std::string config;  // the file's path
  std::string socket;  // the control socket's; empty: control_path()
};

// Returns the program's exit status.
int run_gateway(const GatewayOptions& options);

// `explain --config FILE`: the answer that a daemon with that file would give, without one.
ControlResult explain_offline(const std::string& config_file, const PacketQuery& query);

}  // namespace sallyport
