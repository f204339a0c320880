// Bytes as a set request: parsed in one piece, and once more as the server does, line by line; what is accepted
// is applied to a tunnel, and what get then says can be read back. The tunnel lives on, so inputs meet its past.
#include <cstdlib>
#include <string>
#include <string_view>

#include "control/tunnel.h"
#include "tun/memory_port.h"

namespace {

using namespace sallyport;

constexpr size_t kPeersKept = 64;

EngineOptions small() {
  EngineOptions options;
  options.buffers_per_worker = 8;
  options.staging_blocks = 64;
  return options;
}

std::unique_ptr<TunnelControl> make_tunnel() {
  static Engine engine(small());
  std::vector<std::unique_ptr<Port>> ports;
  ports.push_back(std::make_unique<MemoryPort>());
  return std::make_unique<TunnelControl>("wgfuzz", engine, TunnelNumber{0}, std::move(ports));
}

void require(bool truth) {
  if (!truth) {
    std::abort();
  }
}

bool same(const Result<SetRequest>& left, const Result<SetRequest>& right) {
  if (left.has_value() != right.has_value()) {
    return false;
  }
  return left ? left->change.peers.size() == right->change.peers.size() &&
                    left->listen_port == right->listen_port
              : left.error().code == right.error().code;
}

Result<SetRequest> parse_by_line(std::string_view lines) {
  SetParser parser;
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = std::min(lines.find('\n', begin), lines.size());
    if (end == begin) {
      break;
    }
    parser.line(lines.substr(begin, end - begin));
    begin = end + 1;
  }
  return parser.finish();
}

// The settable part of what get says.
std::string settable(const std::string& answer) {
  std::string kept;
  for (size_t begin = 0; begin < answer.size();) {
    const size_t end = answer.find('\n', begin);
    const std::string_view line = std::string_view(answer).substr(begin, end - begin);
    if (!line.empty() && !line.starts_with("last_handshake") && !line.starts_with("rx_bytes") &&
        !line.starts_with("tx_bytes") && !line.starts_with("errno")) {
      kept.append(line).append("\n");
    }
    begin = end + 1;
  }
  return kept;
}

}  // namespace

// Boost.Lockfree keeps a tag in the upper bits of its pointers, so LeakSanitizer takes what an engine that lives as long as
// the process holds in its queues for lost.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:boost::lockfree";
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static std::unique_ptr<TunnelControl> tunnel = make_tunnel();
  const std::string_view lines(reinterpret_cast<const char*>(data), size);
  const auto request = parse_set(lines);
  require(same(request, parse_by_line(lines)));
  if (!request) {
    require(request.error().code > 0 && !request.error().text.empty());
    return 0;
  }
  require(tunnel->set(*request).has_value());
  const std::string answer = tunnel->get();
  const auto again = parse_set(settable(answer));
  require(again.has_value());
  require(!tunnel->status().empty());
  if (again->change.peers.size() > kPeersKept) {
    require(tunnel->set(*parse_set("replace_peers=true\n")).has_value());
  }
  return 0;
}
