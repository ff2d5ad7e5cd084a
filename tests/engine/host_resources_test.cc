// Quotas and limits of control groups, read from trees that stand for the system's.
#include "engine/host_resources.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kMiB = 1 << 20;

class HostResourcesTest : public testing::Test {
 protected:
  HostResourcesTest() {
    std::filesystem::remove_all(root_);
    Write("/proc/meminfo", "MemTotal:  8192 kB\nMemAvailable:    4096 kB\nSwapTotal: 1 kB\n");
  }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  // The process is in `group` of version 2, whose group `mounted` stands at /sys/fs/cgroup.
  void Unified(const std::string& group, const std::string& mounted = "/") {
    Write("/proc/self/cgroup", "0::" + group + "\n");
    Write("/proc/self/mountinfo", "20 1 0:5 / /proc rw - proc proc rw\n30 1 0:28 " + mounted +
                                      " /sys/fs/cgroup rw,relatime shared:4 master:1 - cgroup2 cgroup2 rw\n");
  }
  // In `group` of version 1, with processors and memory in hierarchies of their own.
  void Split(const std::string& group) {
    Write("/proc/self/cgroup", "4:memory:" + group + "\n3:cpuset:/elsewhere\n1:cpu,cpuacct:" + group + "\n0::/\n");
    Write("/proc/self/mountinfo",
          "30 1 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
          "31 1 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
          "32 1 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  }

  const std::string root_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(HostResourcesTest, NoQuotaWhereThereIsNoGroup) { EXPECT_EQ(CpuQuota(root_), std::nullopt); }

TEST_F(HostResourcesTest, QuotaIsTheProcesssOwnGroups) {
  Unified("/service/a");
  Write("/sys/fs/cgroup/service/a/cpu.max", "150000 100000\n");
  Write("/sys/fs/cgroup/service/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(CpuQuota(root_), 1.5);
  Write("/sys/fs/cgroup/service/a/cpu.max", "50000 20000\n");
  EXPECT_EQ(CpuQuota(root_), 2.5);
  Write("/sys/fs/cgroup/service/a/cpu.max", "max 100000\n");
  EXPECT_EQ(CpuQuota(root_), std::nullopt);
}

TEST_F(HostResourcesTest, TheTightestGroupAboveDecides) {
  Unified("/service/a");
  Write("/sys/fs/cgroup/service/a/cpu.max", "300000 100000\n");
  Write("/sys/fs/cgroup/service/cpu.max", "200000 100000\n");
  Write("/sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(CpuQuota(root_), 2.0);
  Write("/sys/fs/cgroup/cpu.max", "100000 100000\n");
  EXPECT_EQ(CpuQuota(root_), 1.0);
  Write("/sys/fs/cgroup/service/a/cpu.max", "10000 100000\n");
  EXPECT_EQ(CpuQuota(root_), 0.1);
}

// A container whose groups have no namespace of their own: the path is the system's, and only its end is mounted.
TEST_F(HostResourcesTest, PathsAreSeenFromTheGroupThatIsMounted) {
  Unified("/docker/abc/inner", "/docker/abc");
  Write("/sys/fs/cgroup/inner/cpu.max", "100000 100000\n");
  EXPECT_EQ(CpuQuota(root_), 1.0);
  Unified("/docker/abc", "/docker/abc");
  Write("/sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_EQ(CpuQuota(root_), 2.0);
  Unified("/docker/abcdef", "/docker/abc");  // another group, outside of what is mounted
  EXPECT_EQ(CpuQuota(root_), 2.0);
  Unified("/../../inner");
  EXPECT_EQ(CpuQuota(root_), 2.0);
}

TEST_F(HostResourcesTest, QuotaOfVersion1) {
  Split("/service/a");
  Write("/sys/fs/cgroup/cpu,cpuacct/service/a/cpu.cfs_quota_us", "250000\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/service/a/cpu.cfs_period_us", "100000\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CpuQuota(root_), 2.5);
  Write("/sys/fs/cgroup/cpu,cpuacct/service/a/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(CpuQuota(root_), std::nullopt);
}

TEST_F(HostResourcesTest, BrokenFilesAreNoLimit) {
  Unified("/a");
  for (const char* text : {"", "lots", "100000", "-5 100000", "100000 0", "0 100000"}) {
    Write("/sys/fs/cgroup/a/cpu.max", text);
    EXPECT_EQ(CpuQuota(root_), std::nullopt) << text;
  }
  Write("/proc/self/cgroup", "nonsense\n0:\n\n");
  EXPECT_EQ(CpuQuota(root_), std::nullopt);
}

TEST_F(HostResourcesTest, MemoryIsTheSystemsWhereNoGroupLimitsIt) {
  const HostMemory memory = ReadHostMemory(root_);
  EXPECT_EQ(memory.available, 4 * kMiB);
  EXPECT_EQ(memory.group_left, std::nullopt);
  EXPECT_EQ(memory.free(), 4 * kMiB);
  EXPECT_THAT(memory.Text(), HasSubstr("4.0 MiB are available in the system"));
  EXPECT_THAT(memory.Text(), Not(HasSubstr("control group")));
}

// A checkpoint that is mapped fills the page cache, which is nobody's for good.
TEST_F(HostResourcesTest, PageCacheIsNotUsed) {
  Unified("/a");
  Write("/sys/fs/cgroup/a/memory.max", "3145728\n");
  Write("/sys/fs/cgroup/a/memory.current", "2621440\n");
  EXPECT_EQ(ReadHostMemory(root_).group_left, kMiB / 2);
  Write("/sys/fs/cgroup/a/memory.stat", "anon 524288\nfile 3000000\ninactive_file 1048576\nactive_file 1048576\n");
  const HostMemory memory = ReadHostMemory(root_);
  EXPECT_EQ(memory.group_left, 5 * kMiB / 2);
  EXPECT_EQ(memory.free(), 5 * kMiB / 2);
  EXPECT_THAT(memory.Text(), HasSubstr("4.0 MiB are available in the system and 2.5 MiB left in the control group"));
}

TEST_F(HostResourcesTest, MemoryOfVersion1) {
  Split("/service/a");
  const std::string folder = "/sys/fs/cgroup/memory/service/a";
  Write(folder + "/memory.limit_in_bytes", "2097152\n");
  Write(folder + "/memory.usage_in_bytes", "1048576\n");
  Write(folder + "/memory.stat", "active_file 1\ntotal_inactive_file 262144\ntotal_active_file 262144\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1000000000\n");
  EXPECT_EQ(ReadHostMemory(root_).group_left, 3 * kMiB / 2);
}

TEST_F(HostResourcesTest, TheGroupWithTheLeastLeftDecides) {
  Unified("/a/b");
  Write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  Write("/sys/fs/cgroup/a/b/memory.current", "1048576\n");
  EXPECT_EQ(ReadHostMemory(root_).group_left, std::nullopt);
  Write("/sys/fs/cgroup/a/memory.max", "4194304\n");
  Write("/sys/fs/cgroup/a/memory.current", "3145728\n");
  EXPECT_EQ(ReadHostMemory(root_).group_left, kMiB);
  Write("/sys/fs/cgroup/a/b/memory.max", "1572864\n");
  EXPECT_EQ(ReadHostMemory(root_).group_left, kMiB / 2);
  // More used than allowed, or cache that is counted late: never less than nothing, nor more than the limit.
  Write("/sys/fs/cgroup/a/b/memory.current", "9000000\n");
  EXPECT_EQ(ReadHostMemory(root_).group_left, 0);
  Write("/sys/fs/cgroup/a/b/memory.max", "1\n");
  Write("/sys/fs/cgroup/a/b/memory.stat", "active_file 99000000\n");
  EXPECT_EQ(ReadHostMemory(root_).group_left, 1);
  EXPECT_EQ(ReadHostMemory(root_).free(), 1);
}

// The system's own files: whatever they say, it is something.
TEST(HostResources, ReadsThisSystem) {
  EXPECT_GT(ReadHostMemory().available, 0);
  EXPECT_GE(ReadHostMemory().free(), 0);
}

}  // namespace
}  // namespace elserve
