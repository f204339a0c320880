#include "control/packet_query.h"

#include <netinet/in.h>

#include <charconv>
#include <limits>
#include <string_view>
#include <utility>

namespace sallyport {
namespace {

struct Protocol {
  const char* name;
  uint8_t number;
};
constexpr Protocol kProtocols[] = {{"icmp", IPPROTO_ICMP}, {"tcp", IPPROTO_TCP},
                                   {"udp", IPPROTO_UDP},   {"gre", IPPROTO_GRE},
                                   {"esp", IPPROTO_ESP},   {"icmpv6", IPPROTO_ICMPV6},
                                   {"sctp", IPPROTO_SCTP}, {"ipv6-icmp", IPPROTO_ICMPV6}};

// Decimal, or hexadecimal with 0x, as `ip rule` takes marks.
std::optional<uint64_t> number_in(std::string_view text, uint64_t max) {
  const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
  const std::string_view digits = hexadecimal ? text.substr(2) : text;
  uint64_t value = 0;
  const auto [stopped, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, hexadecimal ? 16 : 10);
  if (error != std::errc{} || stopped != digits.data() + digits.size() || value > max) {
    return std::nullopt;
  }
  return value;
}

template <class Word>
Result<void> take_number(const char* option, const std::string& text, std::optional<Word>& out) {
  if (text.empty()) {
    return {};
  }
  constexpr uint64_t kMax = std::numeric_limits<Word>::max();
  const auto value = number_in(text, kMax);
  if (!value) {
    return fail(std::string(option) + " '" + text + "' is no number from 0 to " +
                std::to_string(kMax));
  }
  out = static_cast<Word>(*value);
  return {};
}

Result<void> take_prefix(const char* option, const std::string& text,
                         std::optional<IpPrefix>& out) {
  if (text.empty()) {
    return {};
  }
  const auto prefix = parse_prefix(text);
  if (!prefix) {
    return fail(std::string(option) + " '" + text +
                "' is no address such as 10.0.0.5 or 2001:db8::5");
  }
  out = *prefix;
  return {};
}

Result<void> take_protocol(const std::string& text, std::optional<uint8_t>& out) {
  if (text.empty()) {
    return {};
  }
  auto number = protocol_number(text);
  if (!number) {
    return std::unexpected(std::move(number.error()));
  }
  out = *number;
  return {};
}

bool has_ports(uint8_t protocol) {
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

bool is_whole(const std::optional<IpPrefix>& prefix) {
  return prefix && prefix->length == prefix->address.bits();
}

// A member as the words of a command line: numbers may come as numbers.
Result<std::string> word_in(const Json& request, const char* member) {
  const auto found = request.find(member);
  if (found == request.end() || found->is_null()) {
    return std::string();
  }
  if (found->is_string()) {
    return found->get<std::string>();
  }
  if (found->is_number_unsigned()) {
    return std::to_string(found->get<uint64_t>());
  }
  return fail(std::string(member) + " is neither a text nor a number");
}

}  // namespace

std::string protocol_name(uint8_t protocol) {
  for (const Protocol& known : kProtocols) {
    if (protocol == known.number) {
      return known.name;
    }
  }
  return std::to_string(protocol);
}

Result<uint8_t> protocol_number(const std::string& text) {
  for (const Protocol& known : kProtocols) {
    if (text == known.name) {
      return known.number;
    }
  }
  const auto number = number_in(text, UINT8_MAX);
  if (!number) {
    return fail("proto '" + text +
                "' is not known: tcp, udp, icmp, icmpv6, sctp, gre, esp or a number");
  }
  return static_cast<uint8_t>(*number);
}

Result<PacketQuery> read_query(const PacketQueryWords& words) {
  PacketQuery query;
  query.iif = words.iif;
  query.peer = words.peer;
  query.drops = words.drops;
  Result<void> taken;
  if ((taken = take_prefix("from", words.from, query.from)) &&
      (taken = take_prefix("to", words.to, query.to)) &&
      (taken = take_protocol(words.protocol, query.protocol)) &&
      (taken = take_number("sport", words.source_port, query.source_port)) &&
      (taken = take_number("dport", words.destination_port, query.destination_port)) &&
      (taken = take_number("mark", words.mark, query.mark)) &&
      (taken = take_number("tos", words.tos, query.tos)) &&
      (taken = take_number("size", words.size, query.size))) {
    return query;
  }
  return std::unexpected(std::move(taken.error()));
}

Result<void> check_whole(const PacketQuery& query) {
  if (!is_whole(query.from) || !is_whole(query.to)) {
    return fail("explain needs one packet: --from ADDRESS and --to ADDRESS, not prefixes");
  }
  if (query.from->address.family != query.to->address.family) {
    return fail("no packet goes from " + to_text(query.from->address) + " to " +
                to_text(query.to->address) + ": one is IPv4, the other IPv6");
  }
  if ((query.source_port || query.destination_port) && query.protocol &&
      !has_ports(*query.protocol)) {
    return fail(protocol_name(*query.protocol) + " has no ports: leave --sport and --dport out");
  }
  return {};
}

void write_query(const PacketQuery& query, Json& request) {
  const auto put = [&](const char* member, const auto& value) {
    if (value) {
      request[member] = *value;
    }
  };
  if (query.from) {
    request["from"] = to_text(*query.from);
  }
  if (query.to) {
    request["to"] = to_text(*query.to);
  }
  if (query.protocol) {
    request["protocol"] = protocol_name(*query.protocol);
  }
  put("sport", query.source_port);
  put("dport", query.destination_port);
  if (!query.iif.empty()) {
    request["iif"] = query.iif;
  }
  if (!query.peer.empty()) {
    request["peer"] = query.peer;
  }
  put("mark", query.mark);
  put("tos", query.tos);
  put("size", query.size);
  if (query.drops) {
    request["drops"] = true;
  }
}

Result<PacketQuery> read_query(const Json& request) {
  PacketQueryWords words;
  const std::pair<const char*, std::string PacketQueryWords::*> members[] = {
      {"from", &PacketQueryWords::from},
      {"to", &PacketQueryWords::to},
      {"protocol", &PacketQueryWords::protocol},
      {"sport", &PacketQueryWords::source_port},
      {"dport", &PacketQueryWords::destination_port},
      {"iif", &PacketQueryWords::iif},
      {"peer", &PacketQueryWords::peer},
      {"mark", &PacketQueryWords::mark},
      {"tos", &PacketQueryWords::tos},
      {"size", &PacketQueryWords::size}};
  for (const auto& [member, word] : members) {
    auto text = word_in(request, member);
    if (!text) {
      return std::unexpected(std::move(text.error()));
    }
    words.*word = std::move(*text);
  }
  const auto drops = request.find("drops");
  words.drops = drops != request.end() && drops->is_boolean() && drops->get<bool>();
  return read_query(words);
}

}  // namespace sallyport
