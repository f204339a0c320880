#include "dataplane/net/probe.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "dataplane/net/checksum.h"
#include "dataplane/net/headers.h"
#include "dataplane/net/parse.h"

namespace sallyport {
namespace {

constexpr uint8_t kV4EchoReply = 0, kV4EchoRequest = 8;
constexpr uint8_t kV6EchoRequest = 128, kV6EchoReply = 129;
constexpr size_t kIcmpBytes = sizeof(IcmpHeader) + sizeof(uint64_t);

uint64_t pseudo_sum(const uint8_t* ip, Family family, size_t icmp_bytes) {
  return family == Family::v4
             ? 0  // ICMP has none
             : checksum_pseudo(ip, family, kProtocolIcmpv6, static_cast<uint32_t>(icmp_bytes));
}

void write_ipv4(const Probe& probe, uint8_t* out) {
  auto* ip = reinterpret_cast<Ipv4Header*>(out);
  ip->version_ihl = 0x45;
  ip->total_length = static_cast<uint16_t>(sizeof(Ipv4Header) + kIcmpBytes);
  ip->fragment = kIpv4DontFragment;
  ip->ttl = 64;
  ip->protocol = kProtocolIcmp;
  std::memcpy(ip->source, probe.source.bytes.data(), 4);
  std::memcpy(ip->destination, probe.target.bytes.data(), 4);
  checksum_ipv4(out, sizeof(Ipv4Header));
}

void write_ipv6(const Probe& probe, uint8_t* out) {
  auto* ip = reinterpret_cast<Ipv6Header*>(out);
  ip->version_class_flow = 0x60000000;
  ip->payload_length = static_cast<uint16_t>(kIcmpBytes);
  ip->next_header = kProtocolIcmpv6;
  ip->hop_limit = 64;
  std::memcpy(ip->source, probe.source.bytes.data(), 16);
  std::memcpy(ip->destination, probe.target.bytes.data(), 16);
}

// Whole, unfragmented, from the target to the source, and with a right header checksum.
bool ip_header_fits(const Probe& probe, Run& run, uint32_t length) {
  const size_t address_bytes = run.family == Family::v4 ? 4 : 16;
  if (run.family != probe.target.family ||
      std::memcmp(run.source(), probe.target.bytes.data(), address_bytes) != 0 ||
      std::memcmp(run.destination(), probe.source.bytes.data(), address_bytes) != 0) {
    return false;
  }
  if (run.family == Family::v6) {
    return run.protocol == kProtocolIcmpv6;
  }
  const auto* ip = reinterpret_cast<const Ipv4Header*>(run.head);
  return run.protocol == kProtocolIcmp && (ip->fragment & kIpv4MoreFragments) == 0 &&
         run.l4_offset <= length &&
         checksum_fold(checksum_add(0, run.head, run.l4_offset)) == 0xffff;
}

}  // namespace

size_t build_probe(const Probe& probe, uint16_t sequence, std::span<uint8_t> out) {
  const Family family = probe.target.family;
  const size_t ip_bytes = family == Family::v4 ? sizeof(Ipv4Header) : sizeof(Ipv6Header);
  const size_t bytes = ip_bytes + kIcmpBytes;
  if (family == Family::none || probe.source.family != family || out.size() < bytes) {
    return 0;
  }
  std::memset(out.data(), 0, bytes);
  uint8_t* icmp = out.data() + ip_bytes;
  auto* header = reinterpret_cast<IcmpHeader*>(icmp);
  header->type = family == Family::v4 ? kV4EchoRequest : kV6EchoRequest;
  header->rest = uint32_t{probe.id} << 16 | sequence;
  const be64 tag = probe.tag;
  std::memcpy(icmp + sizeof(IcmpHeader), &tag, sizeof(tag));
  if (family == Family::v4) {
    write_ipv4(probe, out.data());
  } else {
    write_ipv6(probe, out.data());
  }
  checksum_store(icmp + offsetof(IcmpHeader, checksum),
                 checksum_add(pseudo_sum(out.data(), family, kIcmpBytes), icmp, kIcmpBytes));
  return bytes;
}

std::optional<uint16_t> read_probe_answer(const Probe& probe, std::span<const uint8_t> packet) {
  const auto available = static_cast<uint32_t>(std::min<size_t>(packet.size(), UINT16_MAX));
  const uint32_t length = ip_length(packet.data(), available);
  Run run;
  run.head = const_cast<uint8_t*>(packet.data());  // parse only reads
  run.head_bytes = run.bytes = length;
  if (length == 0 || !parse(run) || !ip_header_fits(probe, run, length) ||
      run.l4_offset + kIcmpBytes != length) {
    return std::nullopt;
  }
  const uint8_t* icmp = packet.data() + run.l4_offset;
  const auto* header = reinterpret_cast<const IcmpHeader*>(icmp);
  const uint8_t reply = run.family == Family::v4 ? kV4EchoReply : kV6EchoReply;
  const uint64_t sum =
      checksum_add(pseudo_sum(packet.data(), run.family, kIcmpBytes), icmp, kIcmpBytes);
  if (header->type != reply || header->code != 0 || header->rest >> 16 != probe.id ||
      load<be64>(icmp + sizeof(IcmpHeader)) != probe.tag || checksum_fold(sum) != 0xffff) {
    return std::nullopt;
  }
  return static_cast<uint16_t>(header->rest & 0xffff);
}

}  // namespace sallyport
