// ConfigWgNat: an iptables command of a wg-quick hook as the TOML that does the same here.
//
//     iptables -t nat -A POSTROUTING -s 10.9.0.0/24 -o %i -j MASQUERADE
//     [[nat]] from = "10.9.0.0/24" oif = "wg0" masquerade = true
//
// Only what is understood to the last word is translated: an option that is not known here may change everything.
// Another interface than the tunnel's own is "host".
// Thread rules: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sallyport::config {

// Keys in one line, to be written one a line. Nothing: not of table nat, or not understood.
std::optional<std::string> nat_replacement(std::string_view command, std::string_view tunnel);

// `[tunnel.wg0] mss = 1360` for a TCPMSS target with a size; nothing where it clamps, as a tunnel does by itself.
std::optional<std::string> mss_replacement(std::string_view command, std::string_view tunnel);

}  // namespace sallyport::config
