#include "dataplane/path/peer_tags.h"

#include <gtest/gtest.h>

namespace sallyport::test {
namespace {

using wireguard::Peer;
using wireguard::PublicKey;

PublicKey key(uint8_t number) {
  PublicKey out{};
  out[0] = number;
  return out;
}

TEST(PeerTags, ANameHasOneTagAndNoneIsZero) {
  PeerTags tags;
  const uint32_t a = *tags.claim(0, key(1));
  EXPECT_NE(a, PeerTags::kNone);
  EXPECT_EQ(tags.claim(0, key(1)), a);
  EXPECT_NE(tags.claim(0, key(2)), a);
  EXPECT_NE(tags.claim(1, key(1)), a) << "the same key on another tunnel is somebody else";
  EXPECT_EQ(tags.get(PeerTags::kNone), nullptr);
  EXPECT_EQ(tags.get(a), nullptr) << "nobody is there yet";
  EXPECT_EQ(tags.get(PeerTags::kTagsMax - 1), nullptr);
}

TEST(PeerTags, FindThePeerThatIsThereNow) {
  PeerTags tags;
  const uint32_t tag = *tags.claim(3, key(1));
  Peer unnamed(key(9), 0, 1, 3), elsewhere(key(1), 1, 1, 2);
  tags.bind(unnamed);
  tags.bind(elsewhere);
  EXPECT_EQ(unnamed.tag, PeerTags::kNone);
  EXPECT_EQ(elsewhere.tag, PeerTags::kNone);
  EXPECT_EQ(tags.get(tag), nullptr);
  {
    Peer first(key(1), 2, 1, 3);
    tags.bind(first);
    EXPECT_EQ(first.tag, tag);
    EXPECT_EQ(tags.get(tag), &first);
    tags.unbind(first);
    EXPECT_EQ(tags.get(tag), nullptr);
  }
  Peer again(key(1), 3, 1, 3);
  tags.bind(again);
  EXPECT_EQ(tags.get(tag), &again) << "put back, under the name it had";
  tags.unbind(unnamed);
  EXPECT_EQ(tags.get(tag), &again);
}

TEST(PeerTags, AForgottenTagIsNobodyElses) {
  PeerTags tags;
  const uint32_t old = *tags.claim(1, key(1)), kept = *tags.claim(2, key(1));
  tags.forget(1);
  Peer successor(key(1), 0, 1, 1);
  tags.bind(successor);
  EXPECT_EQ(successor.tag, PeerTags::kNone);
  const uint32_t fresh = *tags.claim(1, key(1));
  EXPECT_NE(fresh, old);
  tags.bind(successor);
  EXPECT_EQ(tags.get(fresh), &successor);
  EXPECT_EQ(tags.get(old), nullptr);
  EXPECT_EQ(tags.claim(2, key(1)), kept);
}

TEST(PeerTags, ManyInChunks) {
  PeerTags tags;
  std::vector<std::unique_ptr<Peer>> peers;
  for (uint32_t i = 0; i < 3000; ++i) {
    PublicKey name{};
    std::memcpy(name.data(), &i, sizeof(i));
    ASSERT_EQ(tags.claim(0, name), i + 1);
    if (i % 500 == 0) {
      tags.bind(*peers.emplace_back(std::make_unique<Peer>(name, i, 1)));
    }
  }
  for (const auto& peer : peers) {
    EXPECT_EQ(tags.get(peer->tag), peer.get());
  }
}

TEST(PeerTags, AreBounded) {
  PeerTags tags;
  PublicKey name{};
  uint32_t claimed = 0;
  for (uint32_t i = 0; i <= PeerTags::kTagsMax; ++i) {
    std::memcpy(name.data(), &i, sizeof(i));
    claimed += tags.claim(0, name).has_value() ? 1 : 0;
  }
  EXPECT_EQ(claimed, PeerTags::kTagsMax - 1) << "zero is none's";
  name.fill(0);
  EXPECT_EQ(tags.claim(0, name), 1u) << "those that have a tag keep it";
}

}  // namespace
}  // namespace sallyport::test
