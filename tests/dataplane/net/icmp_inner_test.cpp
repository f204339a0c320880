#include "dataplane/net/icmp_inner.h"

#include <gtest/gtest.h>

#include "tests/dataplane/net/shapes.h"

namespace sallyport::test {
namespace {

void put_addresses(Bytes& packet, size_t at, const Bytes& source, const Bytes& destination) {
  std::copy(source.begin(), source.end(), packet.begin() + static_cast<ptrdiff_t>(at));
  std::copy(destination.begin(), destination.end(),
            packet.begin() + static_cast<ptrdiff_t>(at + source.size()));
}

// An error about a packet, of which it quotes `quoted` bytes.
struct Error {
  Shape about;
  size_t quoted = 0;
  Bytes extension;  // behind the quoted packet, and then RFC 4884's length is set
  Bytes source, destination;
  uint8_t type = 3;
  bool unfinished = false;

  Bytes bytes() const {
    Shape error;
    error.family = about.family;
    error.protocol = about.v4() ? kProtocolIcmp : kProtocolIcmpv6;
    error.ip = Bytes(about.v4() ? 20 : 40);
    error.ip[0] = about.v4() ? 0x45 : 0x60;
    error.ip[about.v4() ? 9 : 6] = error.protocol;
    put_addresses(error.ip, error.source_at(), source, destination);
    error.l4 = Bytes(8);
    error.l4[0] = type;
    const Bytes packet = about.bytes();
    error.l4.insert(error.l4.end(), packet.begin(),
                    packet.begin() + static_cast<ptrdiff_t>(quoted));
    if (!extension.empty()) {
      error.l4[about.v4() ? 5 : 4] = static_cast<uint8_t>(quoted / (about.v4() ? 4 : 8));
      error.l4.insert(error.l4.end(), extension.begin(), extension.end());
    }
    error.unfinished = unfinished;
    error.finish();
    return error.bytes();
  }
  size_t ip_bytes() const { return about.v4() ? 20 : 40; }

  sallyport::Run run(Bytes& packet) const {
    sallyport::Run run = run_of(packet);
    if (unfinished) {
      run.offload.needs_checksum = true;
      run.offload.checksum_start = run.l4_offset;
      run.offload.checksum_offset = 2;
    }
    return run;
  }
};

Error random_error(std::mt19937& random) {
  Error error;
  error.about = random_shape(random);
  error.about.unfinished = false;  // it has been on its way
  error.about.finish();
  error.source = random_bytes(random, error.about.address_bytes());
  error.destination = random_bytes(random, error.about.address_bytes());
  const uint8_t v4_types[] = {3, 4, 11, 12}, v6_types[] = {1, 2, 3, 4};
  error.type = error.about.v4() ? v4_types[random() % 4] : v6_types[random() % 4];
  const size_t all = error.about.bytes().size();
  const size_t least = std::min(all, error.about.ip.size() + 8);
  error.quoted = random() % 3 == 0 ? all : least + random() % (all - least + 1);
  const bool extensible = error.about.v4() ? error.type != 4 : error.type % 2 == 1;
  if (extensible && random() % 3 == 0) {
    error.quoted -= error.quoted % 8;
    if (error.quoted >= least && error.quoted / 4 < 256) {
      error.extension = random_bytes(random, random() % 30 + 1);
    } else {
      error.quoted = all;
    }
  }
  error.unfinished = error.extension.empty() && !error.about.v4() && random() % 4 == 0;
  return error;
}

TEST(IcmpInner, FindsAndTranslatesWhatIsQuoted) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 3000; ++round) {
    const Error error = random_error(random);
    SCOPED_TRACE(error.about.says());
    const Bytes before = error.bytes();
    Bytes packet = before;
    sallyport::Run run = error.run(packet);
    Quoted quoted;
    ASSERT_EQ(find_quoted(run, quoted), Quote::found);
    const Shape& about = error.about;
    ASSERT_EQ(quoted.packet.head, packet.data() + error.ip_bytes() + 8);
    ASSERT_EQ(quoted.packet.protocol, about.later ? 0 : about.protocol);
    ASSERT_EQ(quoted.ends.source, quoted.packet.head + about.source_at());
    const bool has_ports = !about.later && about.has_ports();
    const bool has_id = !about.later && about.has_id();
    ASSERT_EQ(quoted.ends.source_port, has_ports ? get16(about.l4, 0)
                                       : has_id  ? get16(about.l4, 4)
                                                 : 0);

    Error expected = error;
    const Bytes inner_source = random_bytes(random, about.address_bytes());
    const Bytes inner_destination = random_bytes(random, about.address_bytes());
    put_addresses(expected.about.ip, about.source_at(), inner_source, inner_destination);
    expected.source = random_bytes(random, about.address_bytes());
    expected.destination = random_bytes(random, about.address_bytes());
    const Ends quoted_to{inner_source.data(), inner_destination.data(),
                         static_cast<uint16_t>(random()), static_cast<uint16_t>(random())};
    if (has_ports) {
      put16(expected.about.l4, 0, quoted_to.source_port);
      put16(expected.about.l4, 2, quoted_to.destination_port);
    } else if (has_id) {
      put16(expected.about.l4, 4, quoted_to.source_port);
    }
    const bool crc_unknown = about.protocol == kProtocolSctp && about.fragmented;
    const bool crc_cut = about.protocol == kProtocolSctp && error.quoted < about.ip.size() + 12;
    const Bytes l4_before = about.l4;
    expected.about.finish();
    if (!about.later && (crc_unknown || crc_cut)) {  // what cannot be known stays as it was
      std::copy(l4_before.begin() + 8, l4_before.begin() + 12, expected.about.l4.begin() + 8);
    }
    if (about.protocol == kProtocolTcp && !about.later &&
        error.quoted == about.ip.size() + 17) {  // half a checksum stays as it was
      expected.about.l4[16] = about.l4[16];
    }
    const Ends was = quoted.ends;
    const be16 was_source = was.source_port, was_destination = was.destination_port;
    rewrite_quoted(run, quoted, quoted_to, {expected.source.data(), expected.destination.data()});
    ASSERT_EQ(packet, expected.bytes());
    ASSERT_EQ(quoted.ends.source_port, has_ports || has_id ? quoted_to.source_port : be16(0));

    const uint8_t* inner = before.data() + error.ip_bytes() + 8 + about.source_at();
    rewrite_quoted(run, quoted, {inner, inner + about.address_bytes(), was_source, was_destination},
                   {error.source.data(), error.destination.data()});
    ASSERT_EQ(packet, before);
  }
}

TEST(IcmpInner, OnlyErrors) {
  for (const Family family : {Family::v4, Family::v6}) {
    for (int type = 0; type < 256; ++type) {
      Error error;
      error.about.family = family;
      std::mt19937 random(1);
      do {
        error.about = random_shape(random);
      } while (error.about.family != family);
      error.quoted = error.about.bytes().size();
      error.source = error.destination = Bytes(error.about.address_bytes(), 9);
      error.type = static_cast<uint8_t>(type);
      Bytes packet = error.bytes();
      const sallyport::Run run = run_of(packet);
      Quoted quoted;
      const bool is_error = family == Family::v4
                                ? type == 3 || type == 4 || type == 11 || type == 12
                                : type >= 1 && type <= 4;
      EXPECT_EQ(find_quoted(run, quoted), is_error ? Quote::found : Quote::none) << type;
    }
  }
  Packet words;
  Bytes packet = build(words);
  Quoted quoted;
  EXPECT_EQ(find_quoted(run_of(packet), quoted), Quote::none);
}

// RFC 5508 REQ-3.
TEST(IcmpInner, DamagedErrorsAreNotBelieved) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 500; ++round) {
    const Error error = random_error(random);
    Bytes packet = error.bytes();
    sallyport::Run run = error.run(packet);
    Quoted quoted;
    if (error.unfinished) {
      continue;
    }
    packet[error.ip_bytes() + 2] ^= 0x40;
    EXPECT_EQ(find_quoted(run, quoted), Quote::damaged);
    packet[error.ip_bytes() + 2] ^= 0x40;
    if (error.about.v4()) {  // right outside, wrong inside
      packet[error.ip_bytes() + 8 + 8] ^= 1;
      put16(packet, error.ip_bytes() + 2, 0);
      put16(packet, error.ip_bytes() + 2,
            ~uint32_t{naive_sum(packet.data() + 20, packet.size() - 20)} & 0xffff);
      EXPECT_EQ(find_quoted(run, quoted), Quote::damaged);
    }
  }
}

TEST(IcmpInner, FragmentsOfErrorsAreNone) {
  std::mt19937 random(3);
  Error error = random_error(random);
  while (!error.about.v4()) {
    error = random_error(random);
  }
  Bytes packet = error.bytes();
  packet[6] = 0x20;
  fix_ip_checksum(packet);
  Quoted quoted;
  EXPECT_EQ(find_quoted(run_of(packet), quoted), Quote::fragment);
}

TEST(IcmpInner, EveryTruncationAndAnyMutation) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 60; ++round) {
    const Error error = random_error(random);
    const Bytes whole = error.bytes();
    const size_t header = error.ip_bytes() + 8;
    const size_t needed = header + error.about.ip.size() + (error.about.later ? 0 : 8);
    for (size_t length = error.ip_bytes(); length <= std::min<size_t>(whole.size(), 300);
         ++length) {
      Bytes packet(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
      put16(packet, error.about.v4() ? 2 : 4,
            static_cast<uint32_t>(error.about.v4() ? length : length - 40));
      const bool mutated = random() % 2 == 0;
      if (mutated && length > error.ip_bytes()) {
        packet[error.ip_bytes() + random() % (length - error.ip_bytes())] =
            static_cast<uint8_t>(random());
      }
      sallyport::Run run = run_of(packet);
      run.offload.checksum_valid = true;  // so that the rest is looked at
      Quoted quoted;
      const Quote state = find_quoted(run, quoted);
      if (!mutated) {
        EXPECT_EQ(state, length < header   ? Quote::none
                         : length < needed ? Quote::too_short
                                           : Quote::found)
            << length << " of " << needed << " " << error.about.says();
      }
      if (state == Quote::found) {
        const Bytes other = random_bytes(random, 32);
        rewrite_quoted(run, quoted, {other.data(), other.data() + 16, 1, 2}, {other.data()});
      }
    }
  }
}

}  // namespace
}  // namespace sallyport::test
