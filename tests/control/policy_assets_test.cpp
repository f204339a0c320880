// What outlives a policy: contents come in force whole or not at all, and flows keep their memory while their group is the same.
#include "control/policy_assets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "tests/control/built_engine.h"

namespace sallyport::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class PolicyAssetsTest : public testing::Test {
 protected:
  PolicyAssetsTest() {
    char name[] = "/tmp/policy_assets_test.XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~PolicyAssetsTest() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& file, const std::string& text) {
    std::ofstream(folder_ / file) << text;
  }
  config::Set set(const std::string& name, const std::vector<std::string>& inline_entries,
                  const std::string& file = "") {
    config::Set set;
    set.name = name;
    for (const std::string& text : inline_entries) {
      const bool hole = text[0] == '!';
      set.entries.push_back({*parse_prefix(text.substr(hole)), hole});
    }
    set.file = file;
    set.where = {(folder_ / "x.toml").string(), 3};
    return set;
  }
  static config::Config with_sets(std::vector<config::Set> sets) {
    config::Config config;
    config.sets = std::move(sets);
    return config;
  }
  // Prepares and puts in force what has no errors.
  std::string load(const config::Config& config) {
    std::vector<config::Problem> errors;
    PolicyAssets::Prepared prepared = PolicyAssets::prepare(config, errors);
    if (errors.empty()) {
      assets_.commit(std::move(prepared));
    }
    return lines_of(errors);
  }
  bool holds(const std::string& name, const std::string& address) {
    const IpAddress at = *parse_address(address);
    return assets_.set(name).contains(at.family == Family::v4, at.bytes.data());
  }

  std::filesystem::path folder_;
  PolicyAssets assets_;
};

TEST_F(PolicyAssetsTest, ASetIsEmptyUntilItsContentComes) {
  PrefixSet& before = assets_.set("lan");
  EXPECT_FALSE(holds("lan", "10.0.0.1"));
  EXPECT_EQ(assets_.facts("lan").prefixes, 0u);
  EXPECT_EQ(load(with_sets({set("lan", {"10.0.0.0/8", "!10.9.0.0/16", "2001:db8::/32"})})), "");
  EXPECT_TRUE(holds("lan", "10.0.0.1"));
  EXPECT_TRUE(holds("lan", "2001:db8::1"));
  EXPECT_FALSE(holds("lan", "10.9.0.1"));
  EXPECT_EQ(&assets_.set("lan"), &before) << "policies point at it";
  const SetFacts& facts = assets_.facts("lan");
  EXPECT_EQ(facts.prefixes, 2u);
  EXPECT_EQ(facts.holes, 1u);
  EXPECT_GT(facts.memory_bytes, 0u);
  EXPECT_EQ(facts.source, "config");
  EXPECT_GT(facts.loaded_at, 0);
  EXPECT_EQ(facts.error, "");
  EXPECT_THAT(assets_.entries("lan"), SizeIs(3));
  EXPECT_THAT(assets_.entries("nobody"), IsEmpty());
  EXPECT_EQ(assets_.facts("nobody").source, "");
}

TEST_F(PolicyAssetsTest, PreparingChangesNothing) {
  EXPECT_EQ(load(with_sets({set("lan", {"10.0.0.0/8"})})), "");
  std::vector<config::Problem> errors;
  const auto prepared =
      PolicyAssets::prepare(with_sets({set("lan", {"192.0.2.0/24"}), set("b", {"::/0"})}), errors);
  EXPECT_THAT(prepared.entries("lan"), SizeIs(1));
  EXPECT_THAT(prepared.entries("nobody"), IsEmpty());
  EXPECT_TRUE(holds("lan", "10.0.0.1"));
  EXPECT_FALSE(holds("lan", "192.0.2.1"));
}

TEST_F(PolicyAssetsTest, CommitReplacesTheWholeContent) {
  EXPECT_EQ(load(with_sets({set("lan", {"10.0.0.0/8"}), set("b", {"172.16.0.0/12"})})), "");
  std::vector<config::Problem> errors;
  assets_.set_error("lan", "could not be read");
  EXPECT_EQ(assets_.facts("lan").error, "could not be read");
  LoadProgress progress("lan");
  assets_.commit(PolicyAssets::prepare(set("lan", {"192.0.2.0/24"}), errors, progress));
  EXPECT_FALSE(holds("lan", "10.0.0.1"));
  EXPECT_TRUE(holds("lan", "192.0.2.1"));
  EXPECT_EQ(assets_.facts("lan").error, "") << "of the last attempt";
  EXPECT_TRUE(holds("b", "172.16.0.1")) << "the others stay";
}

TEST_F(PolicyAssetsTest, AListComesBeforeWhatStandsInTheConfiguration) {
  write("lan.txt", "# a list\n10.0.0.0/8\n!10.9.0.0/16\n");
  EXPECT_EQ(load(with_sets({set("lan", {"10.9.0.0/16", "!10.8.0.0/16"}, "lan.txt")})), "");
  EXPECT_TRUE(holds("lan", "10.9.0.1")) << "the inline entry wins over its equal";
  EXPECT_FALSE(holds("lan", "10.8.0.1"));
  EXPECT_EQ(assets_.facts("lan").source, (folder_ / "lan.txt").string());
  EXPECT_THAT(assets_.entries("lan"), SizeIs(4));
}

TEST_F(PolicyAssetsTest, ErrorsOfAListNameItsLinesAndChangeNothing) {
  EXPECT_EQ(load(with_sets({set("lan", {"10.0.0.0/8"})})), "");
  write("lan.txt", "192.0.2.0/24\nnonsense\n");
  const std::string errors =
      load(with_sets({set("lan", {}, "lan.txt"), set("b", {"::/0"}), set("gone", {}, "none.txt")}));
  EXPECT_THAT(errors, testing::HasSubstr((folder_ / "lan.txt").string() + ":2: "));
  EXPECT_THAT(errors, testing::HasSubstr((folder_ / "none.txt").string()));
  EXPECT_TRUE(holds("lan", "10.0.0.1"));
  EXPECT_FALSE(holds("lan", "192.0.2.1"));
}

TEST_F(PolicyAssetsTest, OneSetIsGivenUpWhenItIsCancelled) {
  std::vector<config::Problem> errors;
  std::atomic<bool> cancelled{true};
  LoadProgress progress("lan", &cancelled);
  EXPECT_THAT(PolicyAssets::prepare(set("lan", {"10.0.0.0/8"}), errors, progress).sets, IsEmpty());
  cancelled = false;
  EXPECT_THAT(PolicyAssets::prepare(set("lan", {"10.0.0.0/8"}), errors, progress).sets, SizeIs(1));
  EXPECT_THAT(errors, IsEmpty());
}

TEST_F(PolicyAssetsTest, WhatIsNotNamedAnyMoreGoes) {
  EXPECT_EQ(load(with_sets({set("lan", {"10.0.0.0/8"}), set("old", {"192.0.2.0/24"})})), "");
  PrefixSet& kept = assets_.set("lan");
  assets_.drop_unused(with_sets({set("lan", {})}));
  EXPECT_EQ(&assets_.set("lan"), &kept);
  EXPECT_TRUE(holds("lan", "10.0.0.1"));
  EXPECT_THAT(assets_.entries("old"), IsEmpty());
  EXPECT_EQ(assets_.facts("old").source, "");
  EXPECT_FALSE(holds("old", "192.0.2.1")) << "one of that name begins empty";
}

config::Exit group(const std::string& name, const std::vector<std::string>& members) {
  config::Exit exit;
  exit.kind = config::Exit::Kind::group;
  exit.name = name;
  for (const std::string& member : members) {
    exit.members.push_back({member, 1});
  }
  return exit;
}

TEST_F(PolicyAssetsTest, FlowsAreRememberedWhileTheirGroupIsTheSame) {
  constexpr uint64_t kFlow = 0x123456789abcdef0;
  AffinityTable& table = assets_.affinity(group("g", {"a", "b"}));
  table.remember(kFlow, 1, 100);
  config::Exit heavier = group("g", {"a", "b"});
  heavier.members[1].weight = 9;
  heavier.sticky_s = 60;
  EXPECT_EQ(assets_.affinity(heavier).find(kFlow, 101, 300), 1) << "weights are no other members";
  EXPECT_EQ(assets_.affinity(group("g", {"b", "a"})).find(kFlow, 101, 300), std::nullopt)
      << "place 1 is somebody else there";
  EXPECT_EQ(assets_.affinity(group("g", {"a", "b", "c"})).find(kFlow, 101, 300), std::nullopt);
  EXPECT_EQ(assets_.affinity(group("h", {"a", "b"})).find(kFlow, 101, 300), std::nullopt);
}

TEST_F(PolicyAssetsTest, TheMemoryOfGroupsThatAreGoneGoes) {
  constexpr uint64_t kFlow = 0x123456789abcdef0;
  assets_.affinity(group("g", {"a", "b"})).remember(kFlow, 1, 100);
  assets_.affinity(group("old", {"a", "b"})).remember(kFlow, 1, 100);
  config::Config config;
  config.exits = {group("g", {"a", "b"})};
  assets_.drop_unused(config);
  EXPECT_EQ(assets_.affinity(group("g", {"a", "b"})).find(kFlow, 101, 300), 1);
  EXPECT_EQ(assets_.affinity(group("old", {"a", "b"})).find(kFlow, 101, 300), std::nullopt);
}

}  // namespace
}  // namespace sallyport::test
