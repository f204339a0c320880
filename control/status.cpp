#include "control/status.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "control/uapi.h"

namespace sallyport {
namespace {

// -- JSON

double seconds(Time time) {
  return std::round(static_cast<double>(time) / kMicrosecond) / 1e6;
}

Json worker_json(const WorkerStatus& worker, Time uptime) {
  const double load =
      uptime > 0 ? static_cast<double>(worker.busy) / static_cast<double>(uptime) : 0;
  return {{"rx_packets", worker.rx_packets},
          {"tx_packets", worker.tx_packets},
          {"rx_runs", worker.rx_runs},
          {"tx_runs", worker.tx_runs},
          {"wakeups", worker.wakeups},
          {"handed_over", worker.handed_over},
          {"assisted", worker.assisted},
          {"busy_seconds", seconds(worker.busy)},
          {"load", std::round(load * 1e4) / 1e4},
          {"drops", drops_json(worker.drops)}};
}

Json port_json(const PortStatus& port) {
  Json offloads = Json::array();
  for (const PortStatus::Offload& offload : port.offloads) {
    offloads.push_back({{"name", offload.name}, {"on", offload.on}, {"reason", offload.reason}});
  }
  return {{"driver", port.driver},
          {"name", port.name},
          {"discarded", port.discarded},
          {"offloads", std::move(offloads)}};
}

Json ports_json(const std::vector<PortStatus>& ports) {
  Json list = Json::array();
  for (const PortStatus& port : ports) {
    list.push_back(port_json(port));
  }
  return list;
}

Json peer_json(const PeerState& peer) {
  Json allowed_ips = Json::array();
  for (const IpPrefix& prefix : peer.allowed_ips) {
    allowed_ips.push_back(to_text(prefix));
  }
  Json endpoint;  // null while there is none
  if (peer.endpoint.is_set()) {
    endpoint = to_text(peer.endpoint);
  }
  return {{"public_key", base64_of(peer.public_key)},
          {"endpoint", std::move(endpoint)},
          {"allowed_ips", std::move(allowed_ips)},
          {"persistent_keepalive", peer.persistent_keepalive},
          {"last_handshake", peer.last_handshake / kSecond},
          {"handshakes", peer.handshakes},
          {"rx_bytes", peer.rx_bytes},
          {"tx_bytes", peer.tx_bytes},
          {"rx_packets", peer.rx_packets},
          {"tx_packets", peer.tx_packets},
          {"drops", drops_json(peer.drops)}};
}

Json totals_json(const TunnelState& tunnel, const EngineStatus& engine) {
  PeerState sum;
  for (const PeerState& peer : tunnel.peers) {
    sum.rx_bytes += peer.rx_bytes;
    sum.tx_bytes += peer.tx_bytes;
    sum.rx_packets += peer.rx_packets;
    sum.tx_packets += peer.tx_packets;
  }
  std::array<uint64_t, kDropReasons> drops = engine.handshaker.drops;
  for (const WorkerStatus& worker : engine.workers) {
    for (size_t i = 0; i < drops.size(); ++i) {
      drops[i] += worker.drops[i];
    }
  }
  return {{"rx_bytes", sum.rx_bytes},
          {"tx_bytes", sum.tx_bytes},
          {"rx_packets", sum.rx_packets},
          {"tx_packets", sum.tx_packets},
          {"drops", drops_json(drops)}};
}

// A session beyond a peer's first is a rekey.
uint64_t rekeys(const TunnelState& tunnel) {
  uint64_t count = 0;
  for (const PeerState& peer : tunnel.peers) {
    count += peer.handshakes > 0 ? peer.handshakes - 1 : 0;
  }
  return count;
}

}  // namespace

Json status_json(const StatusFacts& facts, const TunnelState& tunnel, const EngineStatus& engine) {
  Json workers = Json::array();
  for (const WorkerStatus& worker : engine.workers) {
    workers.push_back(worker_json(worker, engine.uptime));
  }
  Json peers = Json::array();
  for (const PeerState& peer : tunnel.peers) {
    peers.push_back(peer_json(peer));
  }
  return {{"interface", facts.interface},
          {"version", SALLYPORT_VERSION},
          {"pid", getpid()},
          {"time", facts.now},
          {"uptime_seconds", seconds(engine.uptime)},
          {"backend", engine.plain_ports.empty() ? "none" : engine.plain_ports.front().driver},
          {"aead", engine.aead},
          {"up", facts.link.up},
          {"mtu", facts.link.mtu},
          {"listen_port", facts.listen_port},
          {"fwmark", tunnel.fwmark},
          {"public_key", base64_of(tunnel.public_key)},
          {"totals", totals_json(tunnel, engine)},
          {"handshakes",
           {{"initiated", engine.handshakes_initiated},
            {"answered", engine.handshakes_answered},
            {"sessions", engine.sessions_derived},
            {"rekeys", rekeys(tunnel)},
            {"cookies_sent", engine.cookies_sent},
            {"under_load", engine.under_load}}},
          {"memory",
           {{"buffers", engine.buffers},
            {"buffer_bytes_reserved", engine.buffer_bytes_reserved},
            {"staging_blocks_free", engine.staging_blocks_free},
            {"receiver_indices", engine.indices}}},
          {"workers", std::move(workers)},
          {"handshaker", worker_json(engine.handshaker, engine.uptime)},
          {"plain_ports", ports_json(engine.plain_ports)},
          {"outer_ports", ports_json(engine.outer_ports)},
          {"peers", std::move(peers)}};
}

// -- Text

namespace {

std::string with_decimal(double value, const char* unit) {
  char text[48];
  std::snprintf(text, sizeof(text), value < 10 ? "%.1f%s" : "%.0f%s", value, unit);
  return text;
}

}  // namespace

std::string amount(uint64_t bytes) {
  constexpr const char* kUnits[] = {" KiB", " MiB", " GiB", " TiB", " PiB"};
  if (bytes < 1024) {
    return std::to_string(bytes) + " B";
  }
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) {
    value /= 1024;
  }
  return with_decimal(value, kUnits[unit]);
}

std::string span_of_time(int64_t secs) {
  if (secs < 120) {
    return std::to_string(secs) + " s";
  }
  if (secs < 120 * 60) {
    return std::to_string(secs / 60) + " min";
  }
  return secs < 48 * 3600 ? std::to_string(secs / 3600) + " h"
                          : std::to_string(secs / 86400) + " days";
}

namespace {

std::string plural(uint64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string port_text(int port) {
  return port == 0 ? "no UDP port yet" : "UDP port " + std::to_string(port);
}

std::string drops_line(const Json& drops) {
  std::string line;
  for (const auto& [name, count] : drops.items()) {
    line += (line.empty() ? "" : ", ") + name + " " + count.dump();
  }
  return line;
}

// The ports of a side are alike: each offload is told once, and why where it is off.
std::string offloads_line(const Json& ports) {
  std::set<std::string> told;
  std::string line;
  for (const Json& port : ports) {
    for (const Json& offload : port.at("offloads")) {
      std::string words = offload.at("name");
      words.append(offload.at("on") ? " on" : " off");
      if (const std::string reason = offload.at("reason"); !reason.empty()) {
        words.append(" (").append(reason).append(")");
      }
      if (told.insert(words).second) {
        line.append(line.empty() ? "" : ", ").append(words);
      }
    }
  }
  return line.empty() ? "none" : line;
}

double load_between(const Json& earlier, const Json& later, double interval) {
  const double busy =
      later.at("busy_seconds").get<double>() - earlier.at("busy_seconds").get<double>();
  return interval > 0 ? std::clamp(busy / interval, 0.0, 1.0) : 0.0;
}

std::string per_run(const Json& worker, const char* packets, const char* runs) {
  const auto count = worker.at(runs).get<double>();
  return count == 0 ? "" : " (" + with_decimal(worker.at(packets).get<double>() / count, " a run)");
}

std::string workers_text(const Json& report, const Json& earlier) {
  const double interval =
      report.at("uptime_seconds").get<double>() - earlier.at("uptime_seconds").get<double>();
  const Json& workers = report.at("workers");
  const Json& before = earlier.at("workers");
  std::string text;
  for (size_t i = 0; i < workers.size(); ++i) {
    const double load = i < before.size() ? load_between(before[i], workers[i], interval) : 0;
    text += "  worker " + std::to_string(i) + ": " + with_decimal(100 * load, " % busy now, ") +
            with_decimal(100 * workers[i].at("load").get<double>(), " % since start; packets in ") +
            workers[i].at("rx_packets").dump() + per_run(workers[i], "rx_packets", "rx_runs") +
            ", out " + workers[i].at("tx_packets").dump() +
            per_run(workers[i], "tx_packets", "tx_runs") + "\n";
  }
  return text;
}

std::string peer_text(const Json& peer, int64_t now) {
  const std::string key = peer.at("public_key");
  const auto handshake = peer.at("last_handshake").get<int64_t>();
  std::string text = "\n  peer " + key.substr(0, 8) + "...: ";
  text += peer.at("endpoint").is_null() ? "no endpoint" : peer.at("endpoint").get<std::string>();
  text += handshake == 0 ? ", no handshake yet"
                         : ", handshake " + span_of_time(std::max<int64_t>(0, now - handshake)) +
                               " ago (" + plural(peer.at("handshakes"), "session") + ")";
  text += "\n    " + amount(peer.at("rx_bytes")) + " received, " + amount(peer.at("tx_bytes")) +
          " sent\n";
  if (const std::string drops = drops_line(peer.at("drops")); !drops.empty()) {
    text += "    drops: " + drops + "\n";
  }
  return text;
}

}  // namespace

std::string status_text(const Json& report, const Json& earlier) {
  const Json& handshakes = report.at("handshakes");
  const Json& totals = report.at("totals");
  const std::string drops = drops_line(totals.at("drops"));
  std::string text = report.at("interface").get<std::string>() + ": " +
                     (report.at("up") ? "up" : "down") + ", MTU " + report.at("mtu").dump() + ", " +
                     port_text(report.at("listen_port")) + ", running " +
                     span_of_time(static_cast<int64_t>(report.at("uptime_seconds").get<double>())) +
                     " (sallyport " + report.at("version").get<std::string>() + ", pid " +
                     report.at("pid").dump() + ")\n";
  text += "  backend " + report.at("backend").get<std::string>() + ", cipher by " +
          report.at("aead").get<std::string>() + ", " +
          plural(report.at("workers").size(), "worker") + "\n";
  text += "  offloads inside: " + offloads_line(report.at("plain_ports")) + "\n";
  text += "  offloads outside: " + offloads_line(report.at("outer_ports")) + "\n";
  text += workers_text(report, earlier);
  text += "  handshakes: " + handshakes.at("initiated").dump() + " begun, " +
          handshakes.at("answered").dump() + " answered, " +
          plural(handshakes.at("sessions"), "session") + ", " +
          plural(handshakes.at("rekeys"), "rekey") + ", " +
          plural(handshakes.at("cookies_sent"), "cookie") + " sent" +
          (handshakes.at("under_load") ? "; under load" : "") + "\n";
  text += "  transfer: " + amount(totals.at("rx_bytes")) + " received, " +
          amount(totals.at("tx_bytes")) + " sent\n";
  text += "  drops: " + (drops.empty() ? "none" : drops) + "\n";
  for (const Json& peer : report.at("peers")) {
    text += peer_text(peer, report.at("time"));
  }
  return text;
}

}  // namespace sallyport
