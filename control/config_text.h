// ConfigText: the words that configuration files share, read from text: keys, prefixes, endpoints, ports, marks, durations.
//
// Each parser takes all of its text or returns a sentence that says what it wants instead. A sentence quotes what it was
// given, cut to a length, except for keys: a bad secret is described and never shown. Key bytes are decoded without a branch
// or an index that depends on them.
//
// Costs: allocates when it fails. Cannot: look at the host; names stay names.
// Thread rules: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/config.h"
#include "dataplane/base/result.h"

namespace sallyport {
class LoadProgress;
}

namespace sallyport::config {

std::string_view trimmed(std::string_view text);  // without blanks at either end
std::string lowered(std::string_view text);       // ASCII only
bool equal_ignoring_case(std::string_view left, std::string_view right);

// For messages: in quotes, cut, control characters shown as '?'.
std::string quoted(std::string_view text);

// "parent.key", the key in quotes where TOML needs them; "parent[3]", counting from 1.
std::string dotted(std::string_view parent, std::string_view key);
std::string indexed(std::string_view parent, size_t index);

// "'fooo' is not known: did you mean 'foo'?", or the list of those known when none is near.
std::string not_known(std::string_view what, std::string_view word,
                      const std::vector<std::string_view>& known);

// All of the text, decimal or 0x hexadecimal; no sign, no blanks.
std::optional<uint64_t> parse_number(std::string_view text, uint64_t max);

Result<KeyBytes> parse_key_text(std::string_view text);           // 44 characters of base64
Result<IpPrefix> parse_interface_address(std::string_view text);  // as parse_prefix, host bits kept
Result<EndpointText> parse_endpoint_text(std::string_view text);
Result<std::pair<uint16_t, uint16_t>> parse_port_range(std::string_view text);  // "53", "1000-2000"
Result<AddressRange> parse_address_range(
    std::string_view text);                                 // "10.0.0.1-10.0.0.9", or a prefix
Result<uint8_t> parse_protocol(std::string_view text);      // "tcp", "6"
Result<uint64_t> parse_duration_ms(std::string_view text);  // "500ms", "2s", "5m", "1h"

// "VALUE[/MASK]": neither may exceed `max`, the value has no bit outside the mask, the mask is not 0.
Result<Masked> parse_masked(std::string_view text, uint32_t max, uint32_t default_mask);

// Names that are not interfaces: of sets, exits, tables, rules and peers. An empty string: nothing wrong.
std::string name_problem(std::string_view name);

// The whole of a file of at most `bytes_max`. Directories and devices are refused, pipes are read to their end, which is given
// up once `progress` says so.
Result<std::string> read_whole(const std::string& path, size_t bytes_max, unsigned* mode = nullptr,
                               const LoadProgress* progress = nullptr);

}  // namespace sallyport::config
