// What a peer may put inside a tunnel packet, from parsing to joining and cutting, without cipher
// or engine.
//
// Input: a byte that says what the plain port takes, then packets: a template, how much payload,
// bytes to overwrite, and whether lengths and checksums are made right again afterwards. Packets of
// one kind follow on from each other, so that without any overwriting they join. Each lies in an
// allocation of its size.
//
// Invariants: no read beyond a packet; what was joined, cut again, is the packets that went in,
// each once; a packet whose checksums are wrong is never changed.
#include <cstdlib>
#include <map>
#include <memory>

#include "dataplane/net/icmp.h"
#include "dataplane/net/parse.h"
#include "dataplane/path/join.h"
#include "dataplane/path/segment.h"
#include "tests/dataplane/net/packets.h"

using namespace sallyport;
using namespace sallyport::test;

namespace {

struct Input {
  const uint8_t* at;
  const uint8_t* end;

  bool empty() const { return at == end; }
  uint8_t byte() { return empty() ? uint8_t{0} : *at++; }
  uint32_t word() {
    const uint32_t high = byte();
    return high << 8 | byte();
  }
};

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

constexpr uint8_t kFixLength = 1, kFixIp = 2, kFixL4 = 4, kPush = 8, kCut = 16;

// The next packet of one of four streams, then what the input does to it.
Bytes next_packet(Input& input, Packet (&streams)[4]) {
  const uint8_t kind = input.byte();
  const uint8_t fixes = input.byte();
  Packet& words = streams[kind % 4];
  words.family = kind % 2 == 0 ? Family::v4 : Family::v6;
  words.protocol = kind % 4 < 2 ? kProtocolTcp : kProtocolUdp;
  words.flags = (fixes & kPush) != 0 ? kTcpAck | kTcpPsh : kTcpAck;
  words.payload = Bytes(input.word() % 1500, kind);
  Bytes packet = build(words);
  words.sequence += static_cast<uint32_t>(words.payload.size());
  ++words.id;
  if ((fixes & kCut) != 0) {
    packet.resize(input.word() % (packet.size() + 1));
  }
  for (unsigned changes = input.byte() % 8; changes > 0 && !packet.empty(); --changes) {
    const size_t at = input.byte() % packet.size();
    packet[at] = input.byte();
  }
  const bool v4 = words.family == Family::v4;
  if (packet.size() < words.header_bytes()) {
    return packet;
  }
  if ((fixes & kFixLength) != 0) {
    put16(packet, v4 ? 2 : 4, static_cast<uint32_t>(v4 ? packet.size() : packet.size() - 40));
  }
  if ((fixes & kFixL4) != 0) {
    fix_l4_checksum(packet, words);
  }
  if (v4 && (fixes & kFixIp) != 0) {
    packet[0] = 0x45;
    fix_ip_checksum(packet);
  }
  return packet;
}

// TCP's all-ones checksum means its zero, and ids of unfragmentable packets mean nothing.
Bytes normal(Bytes packet) {
  const bool v4 = packet[0] >> 4 == 4;
  if (v4 && (packet[6] & 0x40) != 0) {
    put16(packet, 4, 0);
    put16(packet, 10, 0);
  }
  const size_t l4 = v4 ? 20 : 40;
  if (packet[v4 ? 9 : 6] == kProtocolTcp && packet.size() >= l4 + 20 &&
      get16(packet, l4 + 16) == 0xffff) {
    put16(packet, l4 + 16, 0);
  }
  return packet;
}

void check_runs(const Burst& burst, std::map<Bytes, int>& went_in,
                std::map<Bytes, int>& went_in_normal) {
  for (size_t i = 0; i < burst.count; ++i) {
    const Run& run = burst.runs[i];
    if (run.segments == 1) {
      const Bytes packet(run.head, run.head + run.head_bytes);
      require(run.first_piece == kNoPiece && run.bytes == run.head_bytes);
      require(--went_in[packet] >= 0);
      require(--went_in_normal[normal(packet)] >= 0);
      continue;
    }
    require(run.bytes <= 65'535 && run.offload.gso != Gso::none && run.offload.gso_size > 0);
    require(run.offload.header_bytes == run.head_bytes && run.head_bytes <= crypto::kHeadMax);
    require(ip_length(run.head, run.bytes) == run.bytes);
    SegmentWalk walk(burst, run);
    uint32_t segments = 0;
    while (walk.next()) {
      auto head = std::make_unique<uint8_t[]>(walk.head_bytes());
      walk.write_head(head.get());
      Bytes packet(head.get(), head.get() + walk.head_bytes());
      packet.insert(packet.end(), walk.payload(), walk.payload() + walk.payload_bytes());
      require(--went_in_normal[normal(packet)] >= 0);
      ++segments;
    }
    require(segments == run.segments);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input{data, data + size};
  const uint8_t takes = input.byte();
  static Burst burst;
  burst.clear();
  Joiner joiner(burst, (takes & 1) != 0, (takes & 2) != 0, (takes & 4) != 0);
  Packet streams[4];
  std::vector<std::unique_ptr<uint8_t[]>> memory;
  std::map<Bytes, int> went_in, went_in_normal;
  uint32_t added = 0;
  while (!input.empty() && added < Burst::kRunsMax) {
    const Bytes packet = next_packet(input, streams);
    memory.push_back(std::make_unique<uint8_t[]>(packet.size()));
    uint8_t* exact = memory.back().get();
    std::copy(packet.begin(), packet.end(), exact);
    Run run;
    run.head = exact;
    run.head_bytes = ip_length(exact, static_cast<uint32_t>(packet.size()));
    if (run.head_bytes == 0 || !parse(run)) {
      continue;
    }
    require(run.head_bytes <= packet.size() && run.l4_offset <= run.head_bytes);
    uint8_t answer[kIcmpErrorBytesMax];
    require(icmp_error(IcmpError::unreachable, run, answer) <= sizeof(answer));
    if (!ecn_decapsulate(run, static_cast<uint8_t>(takes >> 3))) {
      continue;
    }
    const Bytes as_added(run.head, run.head + run.head_bytes);
    ++went_in[as_added];
    ++went_in_normal[normal(as_added)];
    ++added;
    joiner.add(run);
  }
  joiner.finish();
  check_runs(burst, went_in, went_in_normal);
  uint32_t packets = 0;
  for (size_t i = 0; i < burst.count; ++i) {
    packets += burst.runs[i].segments;
  }
  require(packets == added);
  return 0;
}
