#include "server/requests/executor.h"

#include <atomic>
#include <future>
#include <vector>

#include "gtest/gtest.h"

namespace elserve {
namespace {

TEST(ExecutorTest, RunsWhatIsQueuedBeforeItEnds) {
  std::atomic<int> ran{0};
  {
    Executor executor(3);
    for (int i = 0; i < 1000; ++i) executor.Run([&ran] { ++ran; });
  }
  EXPECT_EQ(ran, 1000);
}

TEST(ExecutorTest, OneThreadKeepsTheOrder) {
  std::vector<int> order;
  {
    Executor executor(0);  // at least one
    for (int i = 0; i < 100; ++i) executor.Run([&order, i] { order.push_back(i); });
  }
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(ExecutorTest, ATaskMayQueueAnother) {
  std::promise<void> done;
  Executor executor(1);
  executor.Run([&] { executor.Run([&] { done.set_value(); }); });
  done.get_future().wait();
}

}  // namespace
}  // namespace elserve
