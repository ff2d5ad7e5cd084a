#include "engine/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace elserve {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {
 protected:
  ThreadPool pool_{GetParam()};
};

TEST_P(ThreadPoolTest, HasAsManyThreadsAsAskedFor) { EXPECT_EQ(pool_.threads(), GetParam()); }

TEST_P(ThreadPoolTest, RunsEachTaskOnce) {
  for (const int64_t count : {0, 1, 2, 3, 7, 100, 5000}) {
    // Plain numbers: what tasks wrote is there when Run returns.
    std::vector<int> runs(count, 0);
    pool_.Run(count, [&](int64_t i, int) { ++runs[i]; });
    EXPECT_EQ(std::count(runs.begin(), runs.end(), 1), count);
    pool_.RunInShares(count, [&](int64_t i, int) { ++runs[i]; });
    EXPECT_EQ(std::count(runs.begin(), runs.end(), 2), count);
  }
}

TEST_P(ThreadPoolTest, NegativeCountsRunNothing) {
  pool_.Run(-3, [](int64_t, int) { ADD_FAILURE(); });
}

TEST_P(ThreadPoolTest, ThreadNumbersAreOfThePoolAndNeverUsedTwiceAtATime) {
  std::vector<std::atomic<int>> inside(GetParam());
  std::atomic<int> wrong{0};
  pool_.Run(20000, [&](int64_t, int thread) {
    if (thread < 0 || thread >= GetParam()) {
      ++wrong;
      return;
    }
    if (inside[thread].fetch_add(1) != 0) ++wrong;
    inside[thread].fetch_sub(1);
  });
  EXPECT_EQ(wrong, 0);
}

TEST_P(ThreadPoolTest, TasksFlushSubnormalNumbersAndTheCallerDoesNot) {
  volatile float small = 1e-30f, subnormal = 1e-40f;
  for (const int64_t count : {1, 2000}) {
    std::atomic<int> kept{0};
    pool_.Run(count, [&](int64_t, int) {
      if (small * 1e-10f != 0.0f || subnormal * 1e10f != 0.0f) ++kept;
    });
    EXPECT_EQ(kept, 0);
    EXPECT_NE(small * 1e-10f, 0.0f);
    EXPECT_NE(subnormal * 1e10f, 0.0f);
  }
}

// Tasks are taken in order: each thread sees rising numbers, and a task starts only after all before it were taken.
TEST_P(ThreadPoolTest, StartsTasksInOrder) {
  constexpr int kCount = 5000;
  std::vector<std::vector<int64_t>> seen(GetParam());
  std::atomic<int64_t> started{0};
  std::atomic<int> wrong{0};
  pool_.Run(kCount, [&](int64_t i, int thread) {
    // All but those that other threads hold this moment have counted themselves.
    if (started.fetch_add(1) < i - (GetParam() - 1)) ++wrong;
    seen[thread].push_back(i);
  });
  EXPECT_EQ(wrong, 0);
  int64_t total = 0;
  for (const std::vector<int64_t>& tasks : seen) {
    EXPECT_TRUE(std::is_sorted(tasks.begin(), tasks.end()));
    total += static_cast<int64_t>(tasks.size());
  }
  EXPECT_EQ(total, kCount);
}

// Each thread begins with its own share; one that stays in its first task leaves the others to the rest.
TEST_P(ThreadPoolTest, SharesAreTakenInOrderAndThenFromOthers) {
  constexpr int64_t kCount = 2400;
  const int threads = GetParam();
  std::vector<std::vector<int64_t>> seen(threads);
  std::atomic<int> begun{0};
  std::atomic<int64_t> left{kCount};
  pool_.RunInShares(kCount, [&](int64_t i, int thread) {
    seen[thread].push_back(i);
    --left;
    if (seen[thread].size() > 1) return;
    ++begun;
    while (begun < threads) std::this_thread::yield();
    while (thread == 0 && threads > 1 && left > 0) std::this_thread::yield();
  });
  int64_t all = 0;
  for (int thread = 0; thread < threads; ++thread) {
    const std::vector<int64_t>& tasks = seen[thread];
    all += static_cast<int64_t>(tasks.size());
    ASSERT_FALSE(tasks.empty());
    EXPECT_EQ(tasks.front(), thread * kCount / threads);
    const auto share_of = [threads](int64_t i) { return i * threads / kCount; };
    for (size_t j = 1; j < tasks.size(); ++j) {
      EXPECT_TRUE(share_of(tasks[j]) != share_of(tasks[j - 1]) || tasks[j] > tasks[j - 1]);
    }
  }
  EXPECT_EQ(all, kCount);
  EXPECT_EQ(seen[0].size(), threads > 1 ? 1u : static_cast<size_t>(kCount));
}

// A decode step is a chain of short loops, each of which reads what the one before wrote.
TEST_P(ThreadPoolTest, ManyShortLoopsSeeEachOther) {
  constexpr int kLoops = 3000, kCount = 5;
  std::vector<int64_t> values(kCount, 0), next(kCount);
  for (int loop = 0; loop < kLoops; ++loop) {
    pool_.Run(kCount, [&](int64_t i, int) { next[i] = values[(i + 1) % kCount] + 1; });
    values.swap(next);
  }
  EXPECT_EQ(values, std::vector<int64_t>(kCount, kLoops));
}

TEST_P(ThreadPoolTest, SeveralCallersTakeTurns) {
  constexpr int kCallers = 4, kLoops = 300, kCount = 9;
  std::atomic<int> loops_running{0}, wrong{0};
  std::vector<int64_t> sums(kCallers, 0);
  {
    std::vector<std::jthread> callers;
    for (int caller = 0; caller < kCallers; ++caller) {
      callers.emplace_back([&, caller] {
        for (int loop = 0; loop < kLoops; ++loop) {
          std::vector<int64_t> out(kCount, 0);
          // The first task of a loop and the last one to end bracket it: loops of two callers must not overlap.
          std::atomic<int> left{kCount};
          std::once_flag first;
          pool_.Run(kCount, [&](int64_t i, int) {
            std::call_once(first, [&] {
              if (loops_running.fetch_add(1) != 0) ++wrong;
            });
            out[i] = i + caller;
            if (left.fetch_sub(1) == 1) loops_running.fetch_sub(1);
          });
          sums[caller] += std::accumulate(out.begin(), out.end(), int64_t{0});
        }
      });
    }
  }
  EXPECT_EQ(wrong, 0);
  for (int64_t caller = 0; caller < kCallers; ++caller) EXPECT_EQ(sums[caller], kLoops * (36 + kCount * caller));
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 8));

TEST(ThreadPool, CountsTheProcessorsOfThisProcess) {
  EXPECT_GE(ThreadPool::AvailableProcessors(), 1);
  EXPECT_LE(ThreadPool::AvailableProcessors(), static_cast<int>(std::thread::hardware_concurrency()));
}

// A quota of half a processor: one thread, however many processors there are.
TEST(ThreadPool, HonoursTheQuotaOfItsControlGroup) {
  const std::string root = testing::TempDir() + "/thread_pool_quota";
  std::filesystem::create_directories(root + "/proc/self");
  std::filesystem::create_directories(root + "/groups/own");
  std::ofstream(root + "/proc/self/cgroup") << "0::/own\n";
  std::ofstream(root + "/proc/self/mountinfo") << "1 0 0:1 / /groups rw - cgroup2 cgroup2 rw\n";
  const auto with_quota = [&root](const std::string& quota) {
    std::ofstream(root + "/groups/own/cpu.max") << quota << " 100000\n";
    return ThreadPool::AvailableProcessors(root);
  };
  const int all = ThreadPool::AvailableProcessors("/no/such/root");
  EXPECT_EQ(with_quota("50000"), 1);
  EXPECT_EQ(with_quota("100000"), 1);
  EXPECT_EQ(with_quota("100001"), std::min(2, all));  // parts of a processor count
  EXPECT_EQ(with_quota("6400000"), std::min(64, all));
  EXPECT_EQ(with_quota("max"), all);
}

// The caller has nothing left to do, waits for a while, and then sleeps until the worker ends.
TEST(ThreadPool, WaitsForAWorkerThatTakesLonger) {
  ThreadPool pool(2);
  for (int loop = 0; loop < 5; ++loop) {
    std::atomic<int> inside{0};
    std::atomic<bool> ended{false};
    pool.Run(2, [&](int64_t, int thread) {
      // Both threads are in the loop, each with a task.
      ++inside;
      while (inside < 2) std::this_thread::yield();
      if (thread == 0) return;
      const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
      while (std::chrono::steady_clock::now() < until) {
      }
      ended = true;
    });
    EXPECT_TRUE(ended);
  }
}

TEST(ThreadPool, EndsWhetherItWorkedOrNot) {
  for (int i = 0; i < 100; ++i) {
    ThreadPool pool(4);
    std::atomic<int> runs{0};
    if (i % 2 == 0) pool.Run(3, [&](int64_t, int) { ++runs; });
    EXPECT_EQ(runs, i % 2 == 0 ? 3 : 0);
  }
}

}  // namespace
}  // namespace elserve
