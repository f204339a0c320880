// Every implementation of this build against OpenSSL, byte for byte; and what the contract in
// crypto/aead.h promises about memory it does not own.
#include "crypto/aead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/crypto/hex.h"
#include "tests/crypto/openssl_aead.h"
#include "tests/crypto/secrecy.h"

namespace sallyport::crypto {
namespace {

using Buffer = std::vector<uint8_t>;

uint64_t test_seed() {
  static const uint64_t seed = std::random_device{}();
  return seed;
}

// The plaintext an item stands for.
Buffer plaintext_of(const SealItem& item) {
  Buffer plain(item.head, item.head + item.head_len);
  plain.insert(plain.end(), item.body, item.body + item.body_len);
  plain.resize(plain.size() + item.pad);
  return plain;
}

// RFC 8439, appendix A.1: with an all-zero key and counter the ciphertext of zeroes is the
// keystream from block 1 on.
TEST(Aead, KeystreamOfTheRfc) {
  AeadKey key;
  for (const AeadImplementation& implementation : aead_implementations()) {
    if (!implementation.usable) {
      continue;
    }
    Buffer buffer(kBodyMargin + 64 + kTagSize);
    uint8_t* body = buffer.data() + kBodyMargin;
    SealItem item{&key, 0, nullptr, 0, body, 64, 0, body};
    implementation.seal_many({&item, 1});
    EXPECT_EQ(to_hex({body, 64}),
              "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
              "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f")
        << implementation.name;
  }
}

// RFC 8439, appendix A.5, whose nonce has the shape of WireGuard's.
TEST(AeadWithAd, OpensTheRfcsMessage) {
  const Buffer key = from_hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
  const Buffer ad = from_hex("f33388860000000000004e91");
  const Buffer sealed = from_hex(
      "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d"
      "26b0bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1"
      "ff37c8559797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b"
      "5216cde7a4e99040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea"
      "1b422273f548271a0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d36"
      "1094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709beead9d67890cbb22392336"
      "fea1851f38");
  constexpr uint64_t kCounter = 0x0807060504030201;
  Buffer plain(sealed.size() - kTagSize);
  const std::span<const uint8_t, 32> key_span(key);
  ASSERT_TRUE(aead_open_with_ad(plain, sealed, ad, key_span, kCounter));
  const std::string text(plain.begin(), plain.end());
  EXPECT_TRUE(text.starts_with("Internet-Drafts are draft documents valid for a maximum of six"));

  Buffer again(sealed.size());
  aead_seal_with_ad(again, plain, ad, key_span, kCounter);
  EXPECT_EQ(again, sealed);
}

TEST(AeadWithAd, WrongTagSizeOrDataIsRefusedAndZeroed) {
  const Buffer key = counting_bytes(32);
  const std::span<const uint8_t, 32> key_span(key);
  const Buffer plain = counting_bytes(28);
  const Buffer ad = counting_bytes(32, 9);
  Buffer sealed(plain.size() + kTagSize);
  aead_seal_with_ad(sealed, plain, ad, key_span, 0);
  Buffer opened(plain.size(), 0x55);
  EXPECT_FALSE(aead_open_with_ad(opened, sealed, ad, key_span, 1));
  EXPECT_EQ(opened, Buffer(plain.size()));
  EXPECT_FALSE(aead_open_with_ad(opened, Bytes(sealed).first(15), ad, key_span, 0));
  sealed[3] ^= 1;
  EXPECT_FALSE(aead_open_with_ad(opened, sealed, ad, key_span, 0));
}

TEST(Aead, SelectsByNameAndBest) {
  EXPECT_STREQ(aead_name(), "sodium");
  EXPECT_FALSE(select_aead("no such cipher"));
  EXPECT_STREQ(aead_name(), "sodium");
  for (const AeadImplementation& implementation : aead_implementations()) {
    EXPECT_EQ(select_aead(implementation.name), implementation.usable);
    if (implementation.usable) {
      EXPECT_STREQ(aead_name(), implementation.name);
      aead_thread_init();
    }
  }
  EXPECT_TRUE(select_aead());
  const auto list = aead_implementations();
  const auto best = std::find_if(list.begin(), list.end(), [](const auto& i) { return i.usable; });
  EXPECT_STREQ(aead_name(), best->name);
  EXPECT_TRUE(select_aead("sodium"));
}

TEST(Aead, OnlyTheCpuMakesAnImplementationUnusable) {
  for (const AeadImplementation& implementation : aead_implementations()) {
    EXPECT_TRUE(implementation.usable ||
                std::string(implementation.reason).find("CPU") != std::string::npos)
        << implementation.name << ": " << implementation.reason;
  }
}

// What a test runs over: an implementation as it is, or with every packet in vector lanes however
// few there are.
struct Way {
  std::string name;
  void (*seal)(std::span<SealItem> items);
  void (*open)(std::span<OpenItem> items);
};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.name;
}

class AeadEach : public testing::TestWithParam<Way> {
 protected:
  AeadEach() : random_(test_seed()) {
    RecordProperty("seed", std::to_string(test_seed()));
    for (AeadKey& key : keys_) {
      key.assign(std::span<const uint8_t, 32>(random_bytes_of(32)));
    }
  }

  void TearDown() override {
    if (HasFailure()) {
      std::printf("seed %llu\n", static_cast<unsigned long long>(test_seed()));
    }
  }

  size_t random_to(size_t last) { return std::uniform_int_distribution<size_t>(0, last)(random_); }

  Buffer random_bytes_of(size_t size) {
    Buffer bytes(size);
    for (uint8_t& byte : bytes) {
      byte = static_cast<uint8_t>(random_());
    }
    return bytes;
  }

  void seal(std::span<SealItem> items) { GetParam().seal(items); }
  void open(std::span<OpenItem> items) { GetParam().open(items); }

  // Seals a batch of the given lengths, in place or apart, and opens it; one key or one of several
  // for each packet.
  void check_batch(const std::vector<size_t>& lengths, bool in_place, bool many_keys);

  // Cuts one buffer into slices of body_len and seals each behind a head of its own.
  void check_slices(size_t count, size_t body_len, uint32_t head_len, uint32_t pad);

  static constexpr size_t kGuard = 32;

  std::mt19937_64 random_;
  AeadKey keys_[5];
};

struct Packet {
  Buffer source;  // margins and body
  Buffer before;  // source as it was
  Buffer out;     // guard, sealed bytes, guard
  Buffer plain;
  Buffer expected;  // sealed by OpenSSL
};

void AeadEach::check_batch(const std::vector<size_t>& lengths, bool in_place, bool many_keys) {
  std::vector<Packet> packets(lengths.size());
  std::vector<SealItem> items;
  const uint64_t first_counter = random_();
  for (size_t i = 0; i < lengths.size(); ++i) {
    Packet& packet = packets[i];
    const size_t shift = random_to(63);
    packet.source = random_bytes_of(shift + kBodyMargin + lengths[i] + kTagSize + kGuard);
    packet.before = packet.source;
    packet.out.assign(2 * kGuard + shift + lengths[i] + kTagSize, 0xee);
    uint8_t* body = packet.source.data() + shift + kBodyMargin;
    const AeadKey& key = keys_[many_keys ? random_to(std::size(keys_) - 1) : 0];
    items.push_back({&key, first_counter + i, nullptr, 0, body, static_cast<uint32_t>(lengths[i]),
                     0, in_place ? body : packet.out.data() + kGuard + shift});
    packet.plain.assign(body, body + lengths[i]);
    packet.expected = openssl_seal(key.bytes, first_counter + i, packet.plain);
  }
  seal(items);

  std::vector<OpenItem> opened;
  for (size_t i = 0; i < items.size(); ++i) {
    const Packet& packet = packets[i];
    uint8_t* out = items[i].out;
    ASSERT_EQ(Buffer(out, out + packet.expected.size()), packet.expected)
        << "packet " << i << " of " << items.size() << ", " << lengths[i] << " bytes";
    const Buffer& whole = in_place ? packet.source : packet.out;
    const Buffer& original = in_place ? packet.before : Buffer(packet.out.size(), 0xee);
    const size_t start = static_cast<size_t>(out - whole.data());
    const size_t end = start + packet.expected.size();
    ASSERT_TRUE(std::equal(whole.begin(), whole.begin() + start, original.begin()));
    ASSERT_TRUE(std::equal(whole.begin() + end, whole.end(), original.begin() + end));
    ASSERT_TRUE(in_place || packet.source == packet.before);
    opened.push_back({items[i].key, items[i].counter, out,
                      static_cast<uint32_t>(packet.expected.size()), false});
  }

  open(opened);
  for (size_t i = 0; i < items.size(); ++i) {
    ASSERT_TRUE(opened[i].ok) << i;
    ASSERT_EQ(Buffer(opened[i].data, opened[i].data + lengths[i]), packets[i].plain) << i;
  }
}

TEST_P(AeadEach, EveryLengthInBatchesOfOneLength) {
  for (size_t len = 0; len <= 2100; ++len) {
    const size_t batch = 1 + (len * 5) % 33;
    check_batch(std::vector<size_t>(batch, len), len % 2 == 0, false);
    ASSERT_FALSE(HasFailure());
  }
}

TEST_P(AeadEach, EveryLengthInMixedBatches) {
  std::vector<size_t> lengths(2101);
  for (size_t i = 0; i < lengths.size(); ++i) {
    lengths[i] = i;
  }
  for (int round = 0; round < 4; ++round) {
    if (round != 0) {
      std::shuffle(lengths.begin(), lengths.end(), random_);
    }
    for (size_t i = 0; i < lengths.size();) {
      const size_t batch = std::min(1 + random_to(63), lengths.size() - i);
      check_batch({lengths.begin() + i, lengths.begin() + i + batch}, round % 2 == 0, true);
      ASSERT_FALSE(HasFailure());
      i += batch;
    }
  }
}

TEST_P(AeadEach, EveryBatchSize) {
  for (size_t batch = 0; batch <= 64; ++batch) {
    for (const size_t len : {0, 16, 63, 64, 80, 200, 1420}) {
      check_batch(std::vector<size_t>(batch, len), true, false);
      ASSERT_FALSE(HasFailure());
      // As a super-packet is cut: all of one length but the last.
      std::vector<size_t> train(batch, len);
      if (!train.empty()) {
        train.back() = random_to(len);
      }
      check_batch(train, false, true);
      ASSERT_FALSE(HasFailure());
    }
  }
}

TEST_P(AeadEach, ABatchOfManyHundreds) {
  std::vector<size_t> lengths(700);
  for (size_t& len : lengths) {
    len = random_to(300);
  }
  check_batch(lengths, true, true);
  check_batch(std::vector<size_t>(700, 128), false, false);
}

TEST_P(AeadEach, LongestPackets) {
  check_batch(std::vector<size_t>(17, 65535), true, false);
  check_batch({65535, 0, 65535, 9000, 1, 65534, 65472, 1420}, false, true);
}

TEST_P(AeadEach, CountersCarryIntoTheirHighHalf) {
  for (const uint64_t first : {uint64_t{0xfffffff8}, uint64_t{0xfffffffffffffff8}, uint64_t{0}}) {
    std::vector<Buffer> buffers(16, Buffer(kBodyMargin + 100 + kTagSize, 0x42));
    std::vector<SealItem> items;
    for (size_t i = 0; i < buffers.size(); ++i) {
      uint8_t* body = buffers[i].data() + kBodyMargin;
      items.push_back({&keys_[0], first + i, nullptr, 0, body, 100, 0, body});
    }
    seal(items);
    for (size_t i = 0; i < buffers.size(); ++i) {
      EXPECT_EQ(Buffer(items[i].out, items[i].out + 116),
                openssl_seal(keys_[0].bytes, first + i, Buffer(100, 0x42)));
    }
  }
}

void AeadEach::check_slices(size_t count, size_t body_len, uint32_t head_len, uint32_t pad) {
  const size_t last_len = body_len - random_to(body_len / 2);
  const size_t shift = random_to(63);
  const size_t payload = (count - 1) * body_len + last_len;
  Buffer source = random_bytes_of(shift + kBodyMargin + payload + kTagSize);
  const Buffer before = source;
  const Buffer heads = random_bytes_of(count * head_len + 1);
  const size_t stride = head_len + body_len + pad + kTagSize + kGuard;
  Buffer out(count * stride + 64, 0xee);
  std::vector<SealItem> items;
  std::vector<Buffer> expected;
  for (size_t i = 0; i < count; ++i) {
    const size_t len = i + 1 == count ? last_len : body_len;
    items.push_back({&keys_[0], 1000 + i, heads.data() + i * head_len, head_len,
                     source.data() + shift + kBodyMargin + i * body_len, static_cast<uint32_t>(len),
                     pad, out.data() + i * stride + shift % 7});
    expected.push_back(openssl_seal(keys_[0].bytes, 1000 + i, plaintext_of(items.back())));
  }
  seal(items);
  ASSERT_EQ(source, before) << "the source of a split seal has changed";
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* sealed = items[i].out;
    ASSERT_EQ(Buffer(sealed, sealed + expected[i].size()), expected[i])
        << "slice " << i << " of " << count << ", head " << head_len << ", body "
        << items[i].body_len << ", pad " << pad;
    const uint8_t* gap = sealed + expected[i].size();
    const uint8_t* gap_end = i + 1 == count ? out.data() + out.size() : items[i + 1].out;
    ASSERT_TRUE(std::all_of(gap, gap_end, [](uint8_t byte) { return byte == 0xee; }));
  }
}

TEST_P(AeadEach, SplitHeadBodyAndPad) {
  for (const uint32_t head_len :
       {0, 1, 15, 16, 20, 28, 40, 52, 60, 63, 64, 65, 72, 80, 127, 128, 129, 191, 192, 255, 256}) {
    for (uint32_t pad = 0; pad <= kPadMax; ++pad) {
      for (const size_t body_len :
           {size_t{0}, size_t{1}, size_t{24}, random_to(200), random_to(1500)}) {
        check_slices(1 + random_to(20), body_len, head_len, pad);
        ASSERT_FALSE(HasFailure());
      }
    }
  }
}

TEST_P(AeadEach, SegmentsOfASuperPacket) {
  for (size_t count = 1; count <= 46; ++count) {
    check_slices(count, 1368, 52, static_cast<uint32_t>(count % 16));
    ASSERT_FALSE(HasFailure());
  }
}

TEST_P(AeadEach, MixedHeadsOfOneBatch) {
  for (int round = 0; round < 200; ++round) {
    const size_t count = 1 + random_to(40);
    std::vector<Packet> packets(count);
    std::vector<SealItem> items;
    const Buffer heads = random_bytes_of(kHeadMax);
    for (size_t i = 0; i < count; ++i) {
      const size_t body_len = random_to(round % 4 == 0 ? 1500 : 130);
      const uint32_t pad = static_cast<uint32_t>(random_to(kPadMax));
      packets[i].source = random_bytes_of(kBodyMargin + body_len + kTagSize);
      packets[i].before = packets[i].source;
      const bool in_place = random_to(3) == 0;
      const uint32_t head_len = in_place ? 0 : static_cast<uint32_t>(random_to(kHeadMax));
      packets[i].source.resize(kBodyMargin + body_len + kPadMax + kTagSize + kGuard);
      uint8_t* body = packets[i].source.data() + kBodyMargin;
      packets[i].before = packets[i].source;
      packets[i].out.resize(head_len + body_len + pad + kTagSize);
      items.push_back({&keys_[random_to(4)], random_(), heads.data(), head_len, body,
                       static_cast<uint32_t>(body_len), pad,
                       in_place ? body : packets[i].out.data()});
      packets[i].expected =
          openssl_seal(items[i].key->bytes, items[i].counter, plaintext_of(items[i]));
    }
    seal(items);
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(Buffer(items[i].out, items[i].out + packets[i].expected.size()),
                packets[i].expected);
      ASSERT_TRUE(items[i].out == items[i].body || packets[i].source == packets[i].before);
    }
  }
}

// An empty packet is a keepalive: nothing but a tag, and its pointers may be null.
TEST_P(AeadEach, KeepalivesNeedNoPointers) {
  for (const size_t count : {1, 16, 40}) {
    std::vector<Buffer> outs(count, Buffer(kTagSize));
    std::vector<SealItem> items;
    for (size_t i = 0; i < count; ++i) {
      items.push_back({&keys_[0], i, nullptr, 0, nullptr, 0, 0, outs[i].data()});
    }
    seal(items);
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(outs[i], openssl_seal(keys_[0].bytes, i, {}));
    }
  }
}

// One packet of a batch damaged at every byte in turn: it alone is refused, and leaves no
// plaintext.
TEST_P(AeadEach, EveryDamagedByteIsNoticed) {
  for (const size_t len : {0, 1, 40, 64, 200, 333}) {
    const Buffer plain(len, 0x5a);
    const Buffer sealed = openssl_seal(keys_[1].bytes, 77, plain);
    for (const size_t batch : {1, 16, 19}) {
      const size_t step = batch == 16 ? 1 : 7;
      for (size_t position = 0; position < sealed.size(); position += step) {
        std::vector<Buffer> packets(batch, sealed);
        std::vector<OpenItem> items;
        for (Buffer& packet : packets) {
          items.push_back(
              {&keys_[1], 77, packet.data(), static_cast<uint32_t>(packet.size()), true});
        }
        const size_t victim = position % batch;
        packets[victim][position] =
            static_cast<uint8_t>(packets[victim][position] ^ (1 << position % 8));
        open(items);
        for (size_t i = 0; i < batch; ++i) {
          const Buffer left(items[i].data, items[i].data + len);
          ASSERT_EQ(items[i].ok, i != victim) << len << " bytes, damaged at " << position;
          ASSERT_TRUE(i == victim || left == plain);
          ASSERT_TRUE(i != victim || len < 16 || left == Buffer(len) || left[0] == sealed[0] ||
                      left[1] == sealed[1]);
        }
      }
    }
  }
}

TEST_P(AeadEach, NoPlaintextIsLeftOfARefusedPacket) {
  for (const size_t batch : {1, 5, 16, 33}) {
    for (const size_t len : {16, 64, 100, 1420}) {
      const Buffer plain = random_bytes_of(len);
      Buffer sealed = openssl_seal(keys_[0].bytes, 5, plain);
      sealed.back() ^= 0x80;
      std::vector<Buffer> packets(batch, sealed);
      std::vector<OpenItem> items;
      for (Buffer& packet : packets) {
        items.push_back({&keys_[0], 5, packet.data(), static_cast<uint32_t>(packet.size()), true});
      }
      open(items);
      for (size_t i = 0; i < batch; ++i) {
        ASSERT_FALSE(items[i].ok);
        const Buffer left(items[i].data, items[i].data + len);
        const Buffer cipher(sealed.begin(), sealed.begin() + len);
        ASSERT_TRUE(left == Buffer(len) || left == cipher);
      }
    }
  }
}

TEST_P(AeadEach, WrongKeyOrCounterIsRefused) {
  const Buffer sealed = openssl_seal(keys_[0].bytes, 5, counting_bytes(80));
  std::vector<Buffer> packets(20, sealed);
  std::vector<OpenItem> items;
  for (size_t i = 0; i < packets.size(); ++i) {
    items.push_back({&keys_[i % 2], 5 + uint64_t{i % 4 == 2}, packets[i].data(),
                     static_cast<uint32_t>(sealed.size()), false});
  }
  open(items);
  for (size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(items[i].ok, i % 4 == 0) << i;
  }
}

TEST_P(AeadEach, WhatIsShorterThanATagIsRefusedUntouched) {
  std::vector<Buffer> packets;
  std::vector<OpenItem> items;
  for (size_t i = 0; i < 40; ++i) {
    packets.push_back(openssl_seal(keys_[0].bytes, i, Buffer(64, 1)));
  }
  const std::vector<Buffer> before = packets;
  for (size_t i = 0; i < packets.size(); ++i) {
    const uint32_t len = i % 2 == 0 ? 80 : static_cast<uint32_t>(i % kTagSize);
    items.push_back({&keys_[0], i, packets[i].data(), len, true});
  }
  open(items);
  for (size_t i = 0; i < packets.size(); ++i) {
    EXPECT_EQ(items[i].ok, i % 2 == 0) << i;
    EXPECT_TRUE(i % 2 == 0 || packets[i] == before[i]);
  }
}

// Run by ctest under valgrind's memcheck too, where keys and plaintext are then undefined, and a
// branch or an index that depends on them is an error. (Valgrind 3.19 has no AVX-512, so that
// kernel is absent there; it is the same template as AVX2's.)
TEST_P(AeadEach, SealingLooksAtNoSecret) {
  for (const size_t len : {0, 40, 64, 200, 1420}) {
    for (const bool many_keys : {false, true}) {
      std::vector<Buffer> bodies(19, Buffer(kBodyMargin + len + kTagSize));
      std::vector<Buffer> outs(19, Buffer(52 + len + 9 + kTagSize));
      Buffer head(52);
      AeadKey keys[2];
      mark_secret(head.data(), head.size());
      mark_secret(&keys[0].bytes, sizeof(keys[0].bytes));
      mark_secret(&keys[1].bytes, sizeof(keys[1].bytes));
      std::vector<SealItem> items;
      for (size_t i = 0; i < bodies.size(); ++i) {
        uint8_t* body = bodies[i].data() + kBodyMargin;
        mark_secret(body, len);
        items.push_back({&keys[many_keys ? i % 2 : 0], i, head.data(), 52, body,
                         static_cast<uint32_t>(len), 9, outs[i].data()});
      }
      seal(items);
      for (Buffer& out : outs) {
        mark_public(out.data(), out.size());
        ASSERT_NE(out, Buffer(out.size()));
      }
    }
  }
}

std::vector<Way> usable_ways() {
  std::vector<Way> ways;
  for (const AeadImplementation& implementation : aead_implementations()) {
    if (!implementation.usable) {
      continue;
    }
    ways.push_back({implementation.name, implementation.seal_many, implementation.open_many});
    if (implementation.seal_lanes != nullptr) {
      ways.push_back({std::string(implementation.name) + "_lanes", implementation.seal_lanes,
                      implementation.open_lanes});
    }
  }
  return ways;
}

INSTANTIATE_TEST_SUITE_P(Aead, AeadEach, testing::ValuesIn(usable_ways()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace sallyport::crypto
