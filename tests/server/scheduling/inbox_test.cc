#include "server/scheduling/inbox.h"

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduling/engine_loop.h"
#include "tests/server/scheduling/fake_engine.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

constexpr Resources kCapacity{.rows = 8, .encoder_pages = 64, .decoder_blocks = 64, .edits = 64};

TimePoint Now() { return std::chrono::steady_clock::now(); }

class PassTest : public ::testing::Test {
 protected:
  // A loop for which one job may wait, and a job that was accepted with a pass and has ended.
  void SetUp() override {
    auto engine = std::make_unique<FakeEngine>(kCapacity);
    engine->on_step = [this] {
      if (hold) open.Wait();
    };
    engine_ = engine.get();
    EngineLoopOptions options;
    options.max_queued_requests = 1;
    loop_ = std::make_unique<EngineLoop>(std::move(engine), options);
    const TestJob first = MakeJob({});
    ASSERT_TRUE(inbox().Submit({first.job}, &pass_).ok());
    EXPECT_TRUE(first.sink->Wait().status.ok());
  }
  Inbox& inbox() { return *loop_->inbox(); }
  // Until new jobs are refused.
  void WaitUntilClosed() {
    while (!absl::IsUnavailable(inbox().Submit({MakeJob({}).job}))) std::this_thread::yield();
  }

  std::atomic<bool> hold{false};  // the engine's steps, until `open`
  Event open;
  FakeEngine* engine_ = nullptr;
  std::unique_ptr<EngineLoop> loop_;
  Inbox::Pass pass_;
};

TEST_F(PassTest, WhatFollowsHasRoomInAFullQueue) {
  hold = true;
  const TestJob running = MakeJob({.rows = 8});
  ASSERT_TRUE(inbox().Submit({running.job}).ok());
  const TestJob a = MakeJob({}), b = MakeJob({}), c = MakeJob({});
  ASSERT_TRUE(pass_.Submit({a.job, b.job, c.job}).ok()) << "more than may wait";
  EXPECT_TRUE(absl::IsResourceExhausted(inbox().Submit({MakeJob({}).job})));
  open.Happen();
  for (const TestJob* job : {&running, &a, &b, &c}) EXPECT_TRUE(job->sink->Wait().status.ok());
}

TEST_F(PassTest, ADrainWaitsForWhatMayFollow) {
  Event drained;
  std::thread drain([this, &drained] {
    loop_->Drain(TimePoint::max());
    drained.Happen();
  });
  WaitUntilClosed();
  // The loop has nothing to do, twice, and may not end.
  for (int i = 0; i < 2; ++i) {
    const TestJob next = MakeJob({});
    ASSERT_TRUE(pass_.Submit({next.job}).ok());
    EXPECT_TRUE(next.sink->Wait().status.ok());
  }
  EXPECT_FALSE(drained.happened());
  pass_ = {};
  drained.Wait();
  drain.join();
}

TEST_F(PassTest, OfSeveralTheLastIsWaitedFor) {
  Inbox::Pass other;
  const TestJob job = MakeJob({});
  ASSERT_TRUE(inbox().Submit({job.job}, &other).ok());
  Inbox::Pass moved = std::move(other);
  std::thread drain([this] { loop_->Drain(TimePoint::max()); });
  WaitUntilClosed();
  pass_ = {};
  other = {};  // empty: it was moved
  const TestJob next = MakeJob({});
  ASSERT_TRUE(moved.Submit({next.job}).ok());
  EXPECT_TRUE(next.sink->Wait().status.ok());
  moved = {};
  drain.join();
}

TEST_F(PassTest, WhatFollowsBehindTheDrainsDeadlineIsRefused) {
  loop_->Drain(Now());
  const TestJob late = MakeJob({});
  const absl::Status status = pass_.Submit({late.job});
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("shut down before the request was finished"));
  EXPECT_FALSE(late.sink->is_done());
}

TEST_F(PassTest, ADeadlineEndsAnIdleDrain) {
  loop_->Drain(Now() + std::chrono::milliseconds(20));
  EXPECT_TRUE(absl::IsUnavailable(pass_.Submit({MakeJob({}).job})));
}

TEST_F(PassTest, AFailedDeviceRefusesWhatFollows) {
  engine_->fail_steps = true;
  const TestJob failing = MakeJob({});
  ASSERT_TRUE(pass_.Submit({failing.job}).ok());
  EXPECT_TRUE(absl::IsInternal(failing.sink->Wait().status));
  const absl::Status status = pass_.Submit({MakeJob({}).job});
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("device failed"));
}

// A pass may be the last that holds an inbox.
TEST_F(PassTest, MayOutliveTheLoop) {
  loop_.reset();
  EXPECT_TRUE(absl::IsUnavailable(pass_.Submit({MakeJob({}).job})));
  pass_ = {};
}

TEST_F(PassTest, IsNotGivenWhereJobsAreRefused) {
  pass_ = {};
  Inbox::Pass none;
  const TestJob a = MakeJob({}), b = MakeJob({});
  EXPECT_FALSE(inbox().Submit({a.job, b.job}, &none).ok());
  loop_->Drain(TimePoint::max());
}

}  // namespace
}  // namespace elserve
