#include "dataplane/path/drop.h"

#include <gtest/gtest.h>

#include <set>

namespace sallyport {
namespace {

TEST(DropReason, EachHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < kDropReasons; ++i) {
    const std::string_view name = drop_name(static_cast<DropReason>(i));
    EXPECT_FALSE(name.empty()) << i;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), name.npos) << name;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
}

// The table is by position: some that would show a slip.
TEST(DropReason, NamesStandWhereTheyBelong) {
  EXPECT_EQ(drop_name(DropReason::none), "none");
  EXPECT_EQ(drop_name(DropReason::bad_mac1), "bad_mac1");
  EXPECT_EQ(drop_name(DropReason::bad_tag), "bad_tag");
  EXPECT_EQ(drop_name(DropReason::plain_malformed), "plain_malformed");
  EXPECT_EQ(drop_name(DropReason::pool_dry), "pool_dry");
  EXPECT_EQ(drop_name(DropReason::peer_removed), "peer_removed");
}

TEST(DropCounts, AThreadsAndAPeers) {
  DropCounts counts;
  wireguard::Peer peer({}, 0, 1);
  drop(counts, DropReason::bad_tag);
  drop(counts, DropReason::bad_tag, &peer, 3);
  EXPECT_EQ(counts.get(DropReason::bad_tag), 4u);
  EXPECT_EQ(counts.get(DropReason::pool_dry), 0u);
  EXPECT_EQ(peer.drops[static_cast<size_t>(DropReason::bad_tag)], 3u);
}

}  // namespace
}  // namespace sallyport
