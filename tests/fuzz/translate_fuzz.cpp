// What a stranger may put into a packet that is translated, clamped, cut and told apart by its fragments.
//
// Input: five bytes of what is asked for, then a packet, in an allocation of its size (and four bytes before it, for an MSS).
//
// Invariants: no read or write beyond the packet; what is refused is not changed; what was translated and translated back,
// with the first ends, has them again; fragments are no longer than the MTU and together carry the payload.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "dataplane/net/fragment.h"
#include "dataplane/net/icmp.h"
#include "dataplane/net/icmp_inner.h"
#include "dataplane/net/mss.h"
#include "dataplane/net/nptv6.h"
#include "dataplane/net/parse.h"
#include "dataplane/net/rewrite.h"
#include "dataplane/table/fragment_table.h"

using namespace sallyport;

namespace {

using Bytes = std::vector<uint8_t>;

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

struct Input {
  uint8_t fill, flags;
  uint16_t port, mtu;
};

// A copy that ends where its memory does.
struct Exact {
  Bytes memory;
  Run run;

  explicit Exact(const Run& from) : memory(kMssOptionBytes + from.head_bytes), run(from) {
    run.head = memory.data() + kMssOptionBytes;
    std::memcpy(run.head, from.head, from.head_bytes);
  }
  bool is(const Run& other) const { return std::memcmp(run.head, other.head, other.bytes) == 0; }
};

void translate(const Run& original, const Input& input) {
  Exact packet(original);
  const Ends was = ends_of(original);
  const Bytes addresses(32, input.fill);
  const Rewritten done =
      rewrite(packet.run, {addresses.data(), addresses.data() + 16, input.port, input.mtu});
  require(done == Rewritten::done || packet.is(original));
  if (done == Rewritten::done) {
    require(rewrite(packet.run, was) == Rewritten::done);
    const Ends is = ends_of(packet.run);
    const size_t bytes = original.family == Family::v4 ? 8 : 32;
    require(std::memcmp(is.source, was.source, bytes) == 0);
    require(is.source_port == was.source_port);
  }
}

void translate_quoted(const Run& original, const Input& input) {
  Exact packet(original);
  packet.run.offload.checksum_valid = (input.flags & 1) != 0;
  Quoted quoted;
  if (find_quoted(packet.run, quoted) != Quote::found) {
    require(packet.is(original));
    return;
  }
  require(quoted.packet.head + quoted.packet.head_bytes <= packet.run.head + packet.run.bytes);
  const Bytes addresses(32, input.fill);
  rewrite_quoted(packet.run, quoted,
                 {addresses.data(), addresses.data() + 16, input.port, input.mtu},
                 {addresses.data(), addresses.data() + 16});
  if (!packet.run.offload.checksum_valid) {  // it was right before
    require(find_quoted(packet.run, quoted) == Quote::found);
  }
}

void clamp(const Run& original, const Input& input) {
  Exact packet(original);
  const bool changed = clamp_mss(packet.run, input.mtu);
  require(packet.run.head >= packet.memory.data() &&
          packet.run.head + packet.run.head_bytes == packet.memory.data() + packet.memory.size());
  require(changed || packet.is(original));
  require(parse(packet.run));
  require(!changed || mss_of(packet.run).has_value());
}

void cut(const Run& original, const Input& input) {
  FragmentWalk walk(original, input.mtu);
  uint32_t payload = 0, fragments = 0;
  while (walk.next()) {
    uint8_t head[FragmentWalk::kHeadBytesMax];
    walk.write_head(head);
    require(walk.head_bytes() + walk.payload_bytes() <= input.mtu);
    require(walk.payload() >= original.head &&
            walk.payload() + walk.payload_bytes() <= original.head + original.bytes);
    payload += walk.payload_bytes();
    require(++fragments <= FragmentWalk::kFragmentsMax);
  }
  require(fragments == 0 || payload == original.bytes - original.l4_offset);
}

void tell_apart(const Run& original, const Input& input) {
  Fragment fragment;
  if (!original.fragment || read_fragment(original, fragment) != FragmentFault::none) {
    return;
  }
  static FragmentTable table(64, 1);
  FragmentPorts ports{input.port, input.mtu};
  const FragmentState state =
      table.add(fragment_key(original, fragment, 0), fragment, ports, input.fill);
  require(fragment.is_first() ? state == FragmentState::first || state == FragmentState::overlap
                              : state != FragmentState::first);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 6) {
    return 0;
  }
  const Input input{data[0], data[1], static_cast<uint16_t>(data[2] << 8 | data[3]),
                    static_cast<uint16_t>(data[4] << 8 | data[5])};
  Bytes bytes(data + 6, data + size);
  bytes.shrink_to_fit();
  Run run;
  run.head = bytes.data();
  run.head_bytes = run.bytes =
      ip_length(bytes.data(), static_cast<uint32_t>(std::min<size_t>(bytes.size(), UINT16_MAX)));
  if (run.head_bytes == 0 || !parse(run)) {
    return 0;
  }
  translate(run, input);
  translate_quoted(run, input);
  clamp(run, input);
  cut(run, input);
  tell_apart(run, input);
  uint8_t answer[kIcmpErrorBytesMax];
  require(icmp_error(IcmpError::too_big, run, answer, input.mtu) <= sizeof(answer));
  return 0;
}
