#include "dataplane/path/classify.h"

#include <cstddef>
#include <cstring>

namespace sallyport {
namespace {

bool has_ports(uint8_t protocol) {
  constexpr uint8_t kDccp = 33, kSctp = 132, kUdpLite = 136;
  return protocol == kProtocolTcp || protocol == kProtocolUdp || protocol == kDccp ||
         protocol == kSctp || protocol == kUdpLite;
}

uint64_t load64(const uint8_t* bytes) {
  uint64_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

uint32_t load32(const uint8_t* bytes) {
  uint32_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

}  // namespace

RuleKey classify(const Context& context, const Run& run) {
  RuleKey key;
  key.v4 = run.family == Family::v4;
  key.source = run.source();
  key.destination = run.destination();
  key.iif = iif_number(context.number, run.from == nullptr);
  key.peer = run.from == nullptr ? 0 : run.from->tag.load(std::memory_order_relaxed);
  key.protocol = run.protocol;
  key.tos = run.tos;
  key.has_ports = has_ports(run.protocol) && run.l4_offset + 4u <= run.head_bytes;
  if (key.has_ports) {
    key.source_port = load<be16>(run.head + run.l4_offset);
    key.destination_port = load<be16>(run.head + run.l4_offset + 2);
  }
  return key;
}

uint8_t tcp_flags(const Run& run) {
  return run.protocol == kProtocolTcp && run.l4_offset + sizeof(TcpHeader) <= run.head_bytes
             ? run.head[run.l4_offset + offsetof(TcpHeader, flags)]
             : 0;
}

bool same_key(const RuleKey& a, const RuleKey& b) {
  const size_t bytes = a.v4 ? 4 : 16;
  return a.v4 == b.v4 && a.protocol == b.protocol && a.source_port == b.source_port &&
         a.destination_port == b.destination_port && a.tos == b.tos && a.peer == b.peer &&
         a.iif == b.iif && a.has_ports == b.has_ports &&
         std::memcmp(a.destination, b.destination, bytes) == 0 &&
         std::memcmp(a.source, b.source, bytes) == 0;
}

// Stafford's thirteenth mixer of 64 bits.
uint64_t mix64(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

uint64_t flow_hash(const RuleKey& key) {
  const uint64_t ports =
      uint64_t{key.source_port} << 24 | uint64_t{key.destination_port} << 8 | key.protocol;
  uint64_t hash = mix64(ports + 0x9e3779b97f4a7c15);
  if (key.v4) {
    return mix64(hash ^ (uint64_t{load32(key.source)} << 32 | load32(key.destination)));
  }
  for (const uint8_t* address : {key.source, key.destination}) {
    hash = mix64(hash ^ load64(address));
    hash = mix64(hash ^ load64(address + 8));
  }
  return hash;
}

}  // namespace sallyport
