// Packets of every shape that address translation meets, with checksums made from scratch.
#pragma once

#include <optional>
#include <string>

#include "dataplane/net/parse.h"
#include "tests/dataplane/net/packets.h"

namespace sallyport::test {

// Bit by bit, RFC 9260 appendix A.
inline uint32_t naive_crc32c(const Bytes& bytes) {
  uint32_t crc = 0xffffffff;
  for (const uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78 : crc >> 1;
    }
  }
  return ~crc;
}

struct Shape {
  Family family = Family::v4;
  uint8_t protocol = kProtocolTcp;
  Bytes ip;    // header, options, extension headers
  Bytes l4;    // what this packet has of it: a header and payload, or a later fragment's part
  Bytes rest;  // what other fragments have, after `l4`, or before it when `later`
  bool fragmented = false;
  bool later = false;
  bool unfinished = false;   // the L4 checksum is the host's to finish
  bool no_checksum = false;  // UDP

  bool v4() const { return family == Family::v4; }
  size_t source_at() const { return v4() ? 12 : 8; }
  size_t address_bytes() const { return v4() ? 4 : 16; }

  bool has_ports() const {
    return protocol == kProtocolTcp || protocol == kProtocolUdp || protocol == kProtocolUdpLite ||
           protocol == kProtocolDccp || protocol == kProtocolSctp;
  }
  bool has_id() const {
    return v4() ? protocol == kProtocolIcmp && (l4[0] == 8 || l4[0] == 0)
                : protocol == kProtocolIcmpv6 && (l4[0] == 128 || l4[0] == 129);
  }
  std::optional<size_t> checksum_at() const {
    switch (protocol) {
      case kProtocolTcp:
        return 16;
      case kProtocolUdp:
      case kProtocolUdpLite:
      case kProtocolDccp:
        return 6;
      case kProtocolIcmp:
      case kProtocolIcmpv6:
        return 2;
      default:
        return std::nullopt;
    }
  }

  Bytes bytes() const {
    Bytes packet = ip;
    packet.insert(packet.end(), l4.begin(), l4.end());
    return packet;
  }

  // Lengths and checksums, from scratch.
  void finish() {
    if (v4()) {
      put16(ip, 2, static_cast<uint32_t>(ip.size() + l4.size()));
      fix_ip_checksum(ip);
    } else {
      put16(ip, 4, static_cast<uint32_t>(ip.size() - 40 + l4.size()));
    }
    if (later) {
      return;
    }
    Bytes whole = l4;
    whole.insert(whole.end(), rest.begin(), rest.end());
    if (protocol == kProtocolSctp) {
      std::fill(whole.begin() + 8, whole.begin() + 12, uint8_t{0});
      const uint32_t crc = naive_crc32c(whole);
      for (size_t i = 0; i < 4; ++i) {
        l4[8 + i] = static_cast<uint8_t>(crc >> 8 * i);
      }
      return;
    }
    const std::optional<size_t> at = checksum_at();
    if (!at.has_value()) {
      return;
    }
    put16(whole, *at, 0);
    uint32_t pseudo = uint32_t{naive_sum(ip.data() + source_at(), 2 * address_bytes())} + protocol +
                      static_cast<uint32_t>(whole.size());
    pseudo = protocol == kProtocolIcmp ? 0 : pseudo;
    uint32_t value = naive_sum(nullptr, 0, pseudo);
    if (!unfinished) {
      value = ~uint32_t{naive_sum(whole.data(), whole.size(), pseudo)} & 0xffff;
      const bool udp = protocol == kProtocolUdp || protocol == kProtocolUdpLite;
      value = udp && value == 0 ? 0xffff : value;
    }
    put16(l4, *at, no_checksum ? 0 : value);
  }

  std::string says() const {
    return std::string(v4() ? "v4" : "v6") + " protocol " + std::to_string(protocol) + ", ip " +
           std::to_string(ip.size()) + ", l4 " + std::to_string(l4.size()) +
           (fragmented ? later ? ", later fragment" : ", first fragment" : "") +
           (unfinished ? ", unfinished" : "") + (no_checksum ? ", no checksum" : "");
  }
};

inline Bytes random_extensions(std::mt19937& random, uint8_t& first, uint8_t protocol) {
  const uint8_t kinds[] = {0, 60, 43};
  Bytes chain;
  uint8_t next = protocol;
  for (size_t left = random() % 3; left > 0; --left) {
    const uint8_t kind = kinds[random() % 3];
    Bytes extension(8 * (1 + random() % 3));
    extension[0] = next;
    extension[1] = static_cast<uint8_t>(extension.size() / 8 - 1);
    extension[2] = 1;  // PadN that fills it; as a routing header: of type 1, all visited
    extension[3] = kind == 43 ? 0 : static_cast<uint8_t>(extension.size() - 4);
    chain.insert(chain.begin(), extension.begin(), extension.end());
    next = kind;
  }
  first = next;
  return chain;
}

inline Bytes random_l4(std::mt19937& random, const Shape& shape) {
  size_t header = 8;
  switch (shape.protocol) {
    case kProtocolTcp:
      header = 20 + random() % 11 * 4;
      break;
    case kProtocolDccp:
    case kProtocolSctp:
      header = 12;
      break;
    default:
      break;
  }
  const size_t payload = random() % 4 == 0 ? random() % 1400 : random() % 60;
  Bytes l4 = random_bytes(random, header + payload);
  if (shape.protocol == kProtocolTcp) {
    l4[12] = static_cast<uint8_t>(header / 4 << 4);
  }
  if (shape.protocol == kProtocolIcmp || shape.protocol == kProtocolIcmpv6) {
    const uint8_t v4_types[] = {0, 8, 3, 40}, v6_types[] = {128, 129, 1, 200};
    l4[0] = shape.v4() ? v4_types[random() % 4] : v6_types[random() % 4];
  }
  return l4;
}

inline Shape random_shape(std::mt19937& random) {
  Shape shape;
  shape.family = random() % 2 == 0 ? Family::v4 : Family::v6;
  const uint8_t protocols[] = {6, 6, 17, 17, 136, 33, 132, 1, 58, 47, 50};
  do {
    shape.protocol = protocols[random() % std::size(protocols)];
  } while (shape.protocol == (shape.v4() ? kProtocolIcmpv6 : kProtocolIcmp));
  shape.fragmented = random() % 4 == 0;
  shape.later = shape.fragmented && random() % 2 == 0;
  shape.l4 = random_l4(random, shape);
  size_t offset = 0;
  if (shape.fragmented) {
    shape.l4.resize(shape.l4.size() + 64);
    const size_t cut = 64 + random() % 2 * 8;  // beyond every header
    const auto middle = shape.l4.begin() + static_cast<ptrdiff_t>(std::min(cut, shape.l4.size()));
    shape.rest.assign(middle, shape.l4.end());
    shape.l4.erase(middle, shape.l4.end());
    if (shape.later) {
      offset = shape.l4.size();
      std::swap(shape.l4, shape.rest);
    }
  }
  const bool more = shape.fragmented && !shape.later;
  if (shape.v4()) {
    const size_t options = random() % 3 == 0 ? 4 * (random() % 11) : 0;
    shape.ip = Bytes(20 + options, 1);
    shape.ip[0] = static_cast<uint8_t>(0x40 | shape.ip.size() / 4);
    shape.ip[1] = 0;
    put16(shape.ip, 4, random() & 0xffff);
    put16(shape.ip, 6, static_cast<uint32_t>(offset / 8) | (more ? 0x2000u : 0u));
    shape.ip[8] = 64;
    shape.ip[9] = shape.protocol;
  } else {
    shape.ip = Bytes(40);
    put32(shape.ip, 0, 0x60000000);
    Bytes chain = random_extensions(random, shape.ip[6], shape.fragmented ? 44 : shape.protocol);
    shape.ip.insert(shape.ip.end(), chain.begin(), chain.end());
    if (shape.fragmented) {
      Bytes header(8);
      header[0] = shape.protocol;
      put16(header, 2, static_cast<uint32_t>(offset) | (more ? 1u : 0u));
      put32(header, 4, static_cast<uint32_t>(random()));
      shape.ip.insert(shape.ip.end(), header.begin(), header.end());
    }
  }
  const Bytes addresses = random_bytes(random, 2 * shape.address_bytes());
  std::copy(addresses.begin(), addresses.end(),
            shape.ip.begin() + static_cast<ptrdiff_t>(shape.source_at()));
  const bool udp = shape.protocol == kProtocolUdp || shape.protocol == kProtocolUdpLite;
  shape.no_checksum = udp && random() % 4 == 0;
  shape.unfinished = !shape.fragmented && !shape.no_checksum && random() % 3 == 0 &&
                     (shape.protocol == kProtocolTcp || udp);
  shape.finish();
  return shape;
}

// As ingress makes it. `bytes` must live as long.
inline Run run_of(Bytes& bytes, const Shape& shape = {}) {
  sallyport::Run run;
  run.head = bytes.data();
  run.head_bytes = run.bytes = static_cast<uint32_t>(bytes.size());
  if (!parse(run)) {
    std::abort();
  }
  if (shape.unfinished) {
    run.offload.needs_checksum = true;
    run.offload.checksum_start = run.l4_offset;
    run.offload.checksum_offset = static_cast<uint16_t>(*shape.checksum_at());
  }
  return run;
}

}  // namespace sallyport::test
