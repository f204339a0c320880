// How many workers: affinity, cgroup quotas (both versions, as files of our own) and WG_THREADS.
#include "control/cpus.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <string>

namespace sallyport {
namespace {

namespace fs = std::filesystem;

// A made-up root of /proc and /sys.
class CgroupTest : public testing::Test {
 protected:
  CgroupTest() {
    char name[] = "/tmp/cpus_test.XXXXXX";
    root_ = mkdtemp(name);
  }
  ~CgroupTest() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }

  fs::path root_;
};

TEST_F(CgroupTest, NothingThereIsNoQuota) {
  EXPECT_FALSE(cgroup_cpus(root_));
}

TEST_F(CgroupTest, Version2) {
  write("proc/self/cgroup", "0::/box/inner");
  EXPECT_FALSE(cgroup_cpus(root_));
  write("sys/fs/cgroup/box/inner/cpu.max", "max 100000");
  EXPECT_FALSE(cgroup_cpus(root_));
  write("sys/fs/cgroup/box/inner/cpu.max", "200000 100000");
  EXPECT_EQ(cgroup_cpus(root_), 2u);
  write("sys/fs/cgroup/box/inner/cpu.max", "200001 100000");
  EXPECT_EQ(cgroup_cpus(root_), 3u);
  write("sys/fs/cgroup/box/inner/cpu.max", "1000 100000");
  EXPECT_EQ(cgroup_cpus(root_), 1u);
}

TEST_F(CgroupTest, ATighterQuotaAboveCounts) {
  write("proc/self/cgroup", "0::/box/inner");
  write("sys/fs/cgroup/box/inner/cpu.max", "800000 100000");
  write("sys/fs/cgroup/box/cpu.max", "150000 100000");
  EXPECT_EQ(cgroup_cpus(root_), 2u);
}

TEST_F(CgroupTest, InANamespaceTheRootIsOurs) {
  write("proc/self/cgroup", "0::/");
  write("sys/fs/cgroup/cpu.max", "300000 100000");
  EXPECT_EQ(cgroup_cpus(root_), 3u);
  write("proc/self/cgroup", "0::/../../elsewhere");
  EXPECT_EQ(cgroup_cpus(root_), 3u);
}

TEST_F(CgroupTest, Version1) {
  write("proc/self/cgroup", "5:memory:/box\n4:cpu,cpuacct:/box\n3:cpuset:/other");
  write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "-1");
  write("sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000");
  EXPECT_FALSE(cgroup_cpus(root_));
  write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "250000");
  EXPECT_EQ(cgroup_cpus(root_), 3u);
}

TEST_F(CgroupTest, NonsenseIsNoQuota) {
  write("proc/self/cgroup", "garbage\n0::/box");
  for (const char* text : {"", "100000", "x y", "100000 0", "-5 100000", "100000 x"}) {
    write("sys/fs/cgroup/box/cpu.max", text);
    EXPECT_FALSE(cgroup_cpus(root_)) << text;
  }
}

TEST(CountWorkers, IsTheLeastOfAll) {
  EXPECT_EQ(*count_workers(nullptr, 8, std::nullopt), 8u);
  EXPECT_EQ(*count_workers(nullptr, 8, 3), 3u);
  EXPECT_EQ(*count_workers(nullptr, 2, 3), 2u);
  EXPECT_EQ(*count_workers(nullptr, 400, std::nullopt), 64u);
  EXPECT_EQ(*count_workers("", 8, std::nullopt), 8u);
}

TEST(CountWorkers, WgThreadsOverrides) {
  EXPECT_EQ(*count_workers("1", 8, 3), 1u);
  EXPECT_EQ(*count_workers("64", 2, 1), 64u);
  for (const char* text : {"0", "65", "-1", "two", "4x", " 4", "99999999999999999999"}) {
    const auto workers = count_workers(text, 8, 3);
    ASSERT_FALSE(workers) << text;
    EXPECT_NE(workers.error().text.find("1 to 64"), std::string::npos);
  }
}

TEST(CountWorkers, SomeCpuIsOurs) {
  EXPECT_GE(affinity_cpus(), 1u);
}

}  // namespace
}  // namespace sallyport
