#include "crypto/selftest.h"

#include <algorithm>
#include <vector>

#include "crypto/aead_backends.h"

namespace sallyport::crypto {

namespace {

constexpr size_t kLengths[] = {0,  1,  15,  16,  17,  31,  48,  63,   64,   65,
                               79, 96, 127, 128, 144, 191, 256, 1024, 1420, 1500};
constexpr size_t kBatches[] = {1, 2, 7, 8, 16, 17, 33};
constexpr size_t kKeyCount = 3;
constexpr size_t kSlot = 2304;  // margins, the longest message, its tag

using Buffer = std::vector<uint8_t>;

// One packet's buffers: a body with margins, and an output apart from it; and what should become of
// it.
struct Packet {
  Buffer body = Buffer(kSlot);
  Buffer out = Buffer(kSlot);
  Buffer plain;
  Buffer sealed;
};

class Trial {
 public:
  Trial(void (*seal)(std::span<SealItem>), void (*open)(std::span<OpenItem>))
      : seal_(seal), open_(open) {
    for (AeadKey& key : keys_) {
      for (uint8_t& byte : key.bytes) {
        byte = next_byte();
      }
    }
    for (uint8_t& byte : noise_) {
      byte = next_byte();
    }
  }

  const char* run() {
    for (const size_t batch : kBatches) {
      for (const bool in_place : {false, true}) {
        for (const bool even : {true, false}) {
          if (const char* why = round(batch, in_place, even); *why != '\0') {
            return why;
          }
        }
      }
    }
    return "";
  }

 private:
  // Not random: the same bytes at every start, so that a failure is one everybody sees.
  uint8_t next_byte() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint8_t>(state_ >> 56);
  }

  SealItem make_item(size_t index, size_t len, bool in_place) {
    Packet& packet = packets_[index];
    const uint32_t head_len = in_place ? 0 : static_cast<uint32_t>(std::min<size_t>(len, 40));
    const uint32_t pad = len - head_len < 7 ? 0 : 7;
    const uint32_t body_len = static_cast<uint32_t>(len) - head_len - pad;
    const uint8_t* head = noise_ + index;
    uint8_t* body = packet.body.data() + kBodyMargin + index % 5;
    std::copy_n(noise_ + (index * 37 + len) % 256, body_len, body);
    counter_ += (index % 4 == 3) ? 0x1'0000'0000u : 1;

    packet.plain.assign(head, head + head_len);
    packet.plain.insert(packet.plain.end(), body, body + body_len);
    packet.plain.resize(len);
    packet.sealed.resize(len + kTagSize);
    const AeadKey& key = keys_[index % kKeyCount];
    aead_seal_with_ad(packet.sealed, packet.plain, {}, key.bytes, counter_);
    return {&key, counter_, head, head_len,
            body, body_len, pad,  in_place ? body : packet.out.data()};
  }

  const char* round(size_t batch, bool in_place, bool even) {
    std::vector<SealItem> items;
    const size_t start = ++round_;
    for (size_t i = 0; i < batch; ++i) {
      const size_t len = kLengths[(start + (even ? 0 : i * 7)) % std::size(kLengths)];
      items.push_back(make_item(i, len, in_place));
    }
    seal_(items);
    for (size_t i = 0; i < batch; ++i) {
      if (!std::equal(packets_[i].sealed.begin(), packets_[i].sealed.end(), items[i].out)) {
        return "sealed bytes differ from libsodium's";
      }
    }
    return check_open(items, start);
  }

  // Opens what was sealed, every third packet damaged.
  const char* check_open(const std::vector<SealItem>& items, size_t start) {
    std::vector<OpenItem> opened;
    for (size_t i = 0; i < items.size(); ++i) {
      const size_t size = packets_[i].sealed.size();
      if ((start + i) % 3 == 0) {
        items[i].out[(start * 31 + i) % size] ^= 1;
      }
      opened.push_back(
          {items[i].key, items[i].counter, items[i].out, static_cast<uint32_t>(size), false});
    }
    open_(opened);
    for (size_t i = 0; i < items.size(); ++i) {
      const bool damaged = (start + i) % 3 == 0;
      if (opened[i].ok == damaged) {
        return damaged ? "a damaged packet was accepted" : "a good packet was refused";
      }
      const Buffer& plain = packets_[i].plain;
      if (!damaged && !std::equal(plain.begin(), plain.end(), opened[i].data)) {
        return "opened bytes differ from libsodium's";
      }
    }
    return "";
  }

  void (*seal_)(std::span<SealItem> items);
  void (*open_)(std::span<OpenItem> items);
  AeadKey keys_[kKeyCount];
  uint8_t noise_[kSlot];
  std::vector<Packet> packets_ = std::vector<Packet>(40);
  uint64_t state_ = 1;
  uint64_t counter_ = 0;
  size_t round_ = 0;
};

}  // namespace

const char* self_test(const AeadImplementation& implementation) {
  const char* why = Trial(implementation.seal_many, implementation.open_many).run();
  if (*why == '\0' && implementation.seal_lanes != nullptr) {
    why = Trial(implementation.seal_lanes, implementation.open_lanes).run();
  }
  return why;
}

}  // namespace sallyport::crypto
