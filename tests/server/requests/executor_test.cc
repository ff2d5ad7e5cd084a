#include "server/requests/executor.h"

#include <atomic>
#include <vector>

#include "absl/synchronization/notification.h"
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
  Executor executor(1);
  absl::Notification done;
  executor.Run([&] { executor.Run([&] { done.Notify(); }); });
  done.WaitForNotification();
}

}  // namespace
}  // namespace elserve
