// The UAPI's words: what wg(8) writes to the socket, read into a change, and our state written back.
//
// Pure text work, no I/O: the server (control/uapi_server.h) feeds lines, the tunnel (control/tunnel.h)
// applies the outcome. A request is read whole before any of it counts, so a bad line anywhere changes
// nothing. Grammar: docs/uapi.md, after the "xplatform" page of the WireGuard project; order matters as
// it does there (a line `replace_allowed_ips=true` forgets the allowed_ip lines before it).
//
// Costs: one PeerChange for each public_key line; bounded by kPeersMax of those and by the server's
// bound on a request's bytes. The same bytes always mean the same, but for scopes that are names
// (`[fe80::1%eth0]:1`), which are looked up here because wg(8) writes them so.
// Errors are errno values as wg-quick's users see them: EINVAL for a key or value that is wrong, EPROTO
// for a line that is none. No thread rules: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dataplane/base/result.h"
#include "dataplane/engine.h"

namespace sallyport {

struct SetRequest {
  TunnelChange change;
  std::optional<uint16_t> listen_port;
};

class SetParser {
 public:
  // One line, without its newline and not empty. After a bad line the rest is read and ignored.
  void line(std::string_view text);

  // The request ended. Leaves the parser as new.
  Result<SetRequest> finish();

 private:
  Result<void> device_line(std::string_view key, std::string_view value);
  Result<void> peer_line(std::string_view key, std::string_view value);
  Result<void> allowed_ip_line(std::string_view value);
  Result<void> begin_peer(std::string_view value);
  PeerChange& peer() { return request_.change.peers.back(); }

  SetRequest request_;
  size_t allowed_ips_ = 0;
  std::optional<Error> error_;
};

// All lines of a set request, with or without the empty line that ends it.
Result<SetRequest> parse_set(std::string_view lines);

// The answer to get=1, whole: state, errno=0 and the empty line.
std::string format_get(const TunnelState& state, uint16_t listen_port);

// "errno=N" and an empty line. wg(8) wants failures of a set negative and those of a get positive.
std::string format_set_errno(int error_number);
std::string format_get_errno(int error_number);

// Key texts: the UAPI's hex, and the base64 in which people know keys.
std::string hex_of(const KeyBytes& key);
std::string base64_of(const KeyBytes& key);

// The same in memory that is not needed any more: requests and answers hold private keys.
void wipe(std::string& text);
void wipe(SetRequest& request);
void wipe(TunnelState& state);

}  // namespace sallyport
