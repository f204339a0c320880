// Every AEAD implementation against OpenSSL, on bursts whose shape is the input: lengths, heads,
// pads, keys, counters, slices of one buffer or packets apart, and which bytes are damaged before
// they are opened.
//
// The input is read as a list of packets, kRecord bytes each, after two bytes about the burst.
// Bytes of packets are made up from a counter: what they are must not matter.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "crypto/aead.h"
#include "tests/crypto/openssl_aead.h"

namespace sallyport::crypto {
namespace {

using Buffer = std::vector<uint8_t>;
using Seal = void (*)(std::span<SealItem> items);
using Open = void (*)(std::span<OpenItem> items);

constexpr size_t kRecord = 8;
constexpr size_t kMostPackets = 80;
constexpr size_t kKeys = 4;

void require(bool truth) {
  if (!truth) {
    std::abort();
  }
}

// What one record asks for.
struct Shape {
  uint32_t body_len;
  uint32_t head_len;
  uint32_t pad;
  size_t key;
  uint64_t counter;
  bool in_place;
  uint8_t damage;  // 0: none
};

Shape read_shape(const uint8_t* record, bool slices) {
  Shape shape;
  shape.body_len = (record[0] | uint32_t{record[1]} << 8) % 4096;
  shape.in_place = !slices && (record[2] & 0x80) != 0;
  shape.head_len = shape.in_place ? 0 : record[3];
  shape.pad = record[2] & kPadMax;
  shape.key = record[2] >> 4 & (kKeys - 1);
  // Near a carry between the halves of the counter, or anywhere.
  shape.counter = (uint64_t{record[4]} << 32) - (record[5] & 3) + (uint64_t{record[6]} << 56);
  shape.damage = record[7];
  return shape;
}

Buffer made_up(size_t size, uint64_t seed) {
  Buffer bytes(size);
  for (uint8_t& byte : bytes) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<uint8_t>(seed >> 56);
  }
  return bytes;
}

// One burst, sealed and opened by one implementation.
class Burst {
 public:
  Burst(const uint8_t* data, size_t size) : slices_((data[0] & 1) != 0), shift_(data[1] % 64) {
    for (size_t at = 2; at + kRecord <= size && shapes_.size() < kMostPackets; at += kRecord) {
      shapes_.push_back(read_shape(data + at, slices_));
    }
    for (size_t i = 0; i < kKeys; ++i) {
      const Buffer bytes = made_up(32, i);
      keys_[i].assign(std::span<const uint8_t, 32>(bytes));
    }
    heads_ = made_up(kHeadMax, 99);
    lay_out();
    source_ = made_up(source_.size(), 7);
    for (const SealItem& item : make_items()) {
      Buffer plain(item.head, item.head + item.head_len);
      plain.insert(plain.end(), item.body, item.body + item.body_len);
      plain.resize(plain.size() + item.pad);
      sealed_.push_back(openssl_seal(item.key->bytes, item.counter, plain));
      plain_.push_back(std::move(plain));
    }
  }

  void check(Seal seal, Open open) {
    const Buffer before = source_;
    std::vector<SealItem> items = make_items();
    seal(items);
    bool any_in_place = false;
    for (size_t i = 0; i < items.size(); ++i) {
      require(std::memcmp(items[i].out, sealed_[i].data(), sealed_[i].size()) == 0);
      any_in_place = any_in_place || shapes_[i].in_place;
    }
    require(any_in_place || source_ == before);
    check_open(items, open);
    source_ = before;
  }

 private:
  // Packets apart have margins of their own; slices share those of the one buffer they are cut
  // from.
  void lay_out() {
    size_t at = shift_ + kBodyMargin;
    size_t out = shift_;
    for (const Shape& shape : shapes_) {
      body_at_.push_back(at);
      at += shape.body_len + (slices_ ? 0 : kBodyMargin + kPadMax + kTagSize);
      out_at_.push_back(out);
      out += shape.head_len + shape.body_len + shape.pad + kTagSize;
    }
    source_.resize(at + kPadMax + kTagSize);
    out_.resize(out);
  }

  std::vector<SealItem> make_items() {
    std::vector<SealItem> items;
    for (size_t i = 0; i < shapes_.size(); ++i) {
      const Shape& shape = shapes_[i];
      uint8_t* body = source_.data() + body_at_[i];
      items.push_back({&keys_[shape.key], shape.counter, heads_.data(), shape.head_len, body,
                       shape.body_len, shape.pad,
                       shape.in_place ? body : out_.data() + out_at_[i]});
    }
    return items;
  }

  void check_open(const std::vector<SealItem>& items, Open open) {
    std::vector<Buffer> packets = sealed_;
    std::vector<OpenItem> opened;
    for (size_t i = 0; i < packets.size(); ++i) {
      Buffer& packet = packets[i];
      const uint8_t damage = shapes_[i].damage;
      if (damage >= 0xf0) {
        packet.resize(damage & 15);  // shorter than a tag
      } else if (damage != 0) {
        packet[(damage * size_t{257}) % packet.size()] ^= static_cast<uint8_t>(1 << damage % 8);
      }
      opened.push_back({items[i].key, items[i].counter, packet.data(),
                        static_cast<uint32_t>(packet.size()), damage % 2 == 0});
    }
    open(opened);
    for (size_t i = 0; i < packets.size(); ++i) {
      require(opened[i].ok == (shapes_[i].damage == 0));
      const size_t len = plain_[i].size();
      if (opened[i].ok) {
        require(len == 0 || std::memcmp(packets[i].data(), plain_[i].data(), len) == 0);
      } else if (shapes_[i].damage < 0xf0 && len >= 16) {
        require(std::memcmp(packets[i].data(), plain_[i].data(), len) != 0);
      }
    }
  }

  bool slices_;
  size_t shift_;
  std::vector<Shape> shapes_;
  AeadKey keys_[kKeys];
  Buffer heads_;
  Buffer source_;
  Buffer out_;
  std::vector<size_t> body_at_;
  std::vector<size_t> out_at_;
  std::vector<Buffer> plain_;
  std::vector<Buffer> sealed_;
};

}  // namespace
}  // namespace sallyport::crypto

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sallyport::crypto;
  if (size < 2) {
    return 0;
  }
  Burst burst(data, size);
  for (const AeadImplementation& implementation : aead_implementations()) {
    if (!implementation.usable) {
      continue;
    }
    burst.check(implementation.seal_many, implementation.open_many);
    if (implementation.seal_lanes != nullptr) {
      burst.check(implementation.seal_lanes, implementation.open_lanes);
    }
  }
  return 0;
}
