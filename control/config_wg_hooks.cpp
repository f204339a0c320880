// What each command that people put into wg-quick's hooks is for, and what there is instead.
//
// A hook line is cut at ';', '&&', '||' and newlines, and each command is looked at by its words: the first idiom all of
// whose words occur in it counts. That is a guess about somebody's shell, good enough for advice and used for nothing else.
#include <algorithm>
#include <array>

#include "control/config_wg_nat.h"
#include "control/config_wg_quick.h"

namespace sallyport::config {
namespace {

constexpr size_t kCommandsMax = 32;  // of one line; beyond that the advice is the same anyway

struct Idiom {
  std::array<std::string_view, 2>
      words;  // all of them, anywhere in the command; an empty one is there
  std::string_view advice;
};

constexpr std::string_view kNat =
    "instead: a [[nat]] in TOML with masquerade = true, snat or dnat; oif = \"host\" for what "
    "leaves by the host's own interfaces";
constexpr std::string_view kMss =
    "not needed: leave it out. A tunnel clamps the MSS to its path MTU by itself, both ways; mss "
    "of a tunnel in TOML says otherwise";
constexpr std::string_view kRule =
    "instead: `capture` of the tunnel says what the host routes into it, and a [[rule]] in TOML "
    "decides where it goes from there (from, to, fwmark, iif, ...). Sallyport keeps its own "
    "datagrams out of the tunnel by host.from_mark";
constexpr std::string_view kRoute =
    "instead: `capture` of the tunnel says what the host routes into it (in a wg-quick file the "
    "AllowedIPs, unless Table = off), and a [table.NAME] in TOML routes by prefix to exits";
constexpr std::string_view kSysctl =
    "not needed by Sallyport itself: leave it out. Where this host forwards for others, "
    "net.ipv4.ip_forward belongs in /etc/sysctl.d";
constexpr std::string_view kMark =
    "instead: a [[rule]] in TOML with set_mark marks what it matches on its way through the "
    "tunnel; datagrams of the tunnel itself have FwMark or host.from_mark. Other marks are the "
    "host's firewall's";
constexpr std::string_view kForward =
    "not needed by Sallyport: leave it out here. Where the host's firewall drops what is "
    "forwarded, the exception belongs to the firewall's own files";
constexpr std::string_view kFirewall =
    "the host's firewall, which is not Sallyport's to change: it belongs to the firewall's own "
    "files. What comes through the tunnel can be refused by a [[rule]] in TOML with action = "
    "\"drop\" or \"reject\"";
constexpr std::string_view kDns =
    "the host's resolver, which is the host's matter: leave it out. (`resolver` of a tunnel in "
    "TOML is for the names of its endpoints only)";
constexpr std::string_view kLink =
    "not needed: leave it out. Sallyport sets the link up, with the addresses of Address and its "
    "MTU";
constexpr std::string_view kWg =
    "not needed: leave it out. The keys of this file take effect at once; a key that comes from a "
    "file is private_key_file or preshared_key_file in TOML";
constexpr std::string_view kOther =
    "hooks are not run. What must happen before or after belongs outside, for example into "
    "ExecStartPost= of the systemd unit";

constexpr Idiom kIdioms[] = {
    {{"masquerade"}, kNat},
    {{"-t nat"}, kNat},
    {{"snat"}, kNat},
    {{"dnat"}, kNat},
    {{"tcpmss"}, kMss},
    {{"maxseg"}, kMss},
    {{"clamp-mss"}, kMss},
    {{"ip ", " rule "}, kRule},
    {{"ip ", " ru "}, kRule},
    {{"ip ", " route "}, kRoute},
    {{"ip ", " ro "}, kRoute},
    {{"ip ", " r "}, kRoute},
    {{"ip_forward"}, kSysctl},
    {{"src_valid_mark"}, kSysctl},
    {{"rp_filter"}, kSysctl},
    {{"ipv6.conf", "forwarding"}, kSysctl},
    {{"sysctl"}, kSysctl},
    {{"iptables", "-j mark"}, kMark},
    {{"ip6tables", "-j mark"}, kMark},
    {{"nft", "mark set"}, kMark},
    {{"forward", "accept"}, kForward},
    {{"iptables"}, kFirewall},
    {{"ip6tables"}, kFirewall},
    {{"nft "}, kFirewall},
    {{"ufw "}, kFirewall},
    {{"firewall-cmd"}, kFirewall},
    {{"resolvconf"}, kDns},
    {{"resolvectl"}, kDns},
    {{"systemd-resolve"}, kDns},
    {{"ip ", " link "}, kLink},
    {{"ip ", " addr"}, kLink},
    {{"ip ", " a "}, kLink},
    {{"wg set"}, kWg},
    {{"wg addconf"}, kWg},
};

std::string_view idiom_of(std::string_view command) {
  // Lower case, runs of blanks as one, with a blank at either end.
  std::string words = " ";
  for (const char c : lowered(command)) {
    const bool blank = c == ' ' || c == '\t';
    if (!blank || words.back() != ' ') {
      words += blank ? ' ' : c;
    }
  }
  words += ' ';
  for (const Idiom& idiom : kIdioms) {
    if (std::ranges::all_of(idiom.words, [&](std::string_view word) {
          return words.find(word) != std::string::npos;
        })) {
      return idiom.advice;
    }
  }
  return kOther;
}

std::string advice_for(std::string_view command, std::string_view tunnel) {
  const std::string_view advice = idiom_of(command);
  const std::optional<std::string> toml = advice == kNat   ? nat_replacement(command, tunnel)
                                          : advice == kMss ? mss_replacement(command, tunnel)
                                                           : std::nullopt;
  return toml ? "instead, in TOML, each key on a line of its own: " + *toml : std::string(advice);
}

}  // namespace

std::vector<std::string> hook_replacements(std::string_view line, std::string_view tunnel) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin < line.size() && out.size() < kCommandsMax;) {
    const size_t end = std::min(line.find_first_of(";&|", begin), line.size());
    const std::string_view command = trimmed(line.substr(begin, end - begin));
    if (!command.empty()) {
      out.push_back(quoted(command) + ": " + advice_for(command, tunnel));
    }
    begin = end + 1;
  }
  if (out.empty()) {
    out.push_back(quoted(line) + ": " + std::string(kOther));
  }
  return out;
}

}  // namespace sallyport::config
