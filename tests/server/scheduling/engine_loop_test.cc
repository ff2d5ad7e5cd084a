// EngineLoop with its real thread. What has to happen in a certain order waits for events, never for time.
#include "server/scheduling/engine_loop.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/scheduling/fake_engine.h"

namespace elserve {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Resources kCapacity{.rows = 8, .encoder_pages = 1000, .decoder_blocks = 1000, .edits = 1000};

TimePoint Now() { return std::chrono::steady_clock::now(); }

// An observer that counts, and remembers the failure.
struct RecordingObserver : LoopObserver {
  void OnStep(const StepObservation& step) override {
    ++steps;
    rows += step.rows;
    documents += step.documents;
  }
  void OnUnhealthy(const absl::Status& error) override { errors.push_back(error); }

  int steps = 0, rows = 0, documents = 0;
  std::vector<absl::Status> errors;
};

// Stops the engine at the beginning of its next step until it is let go.
struct Gate {
  // The engine's on_step.
  void Pass() {
    if (!entered.happened()) entered.Happen();
    open.Wait();
  }
  Event entered, open;
};

class EngineLoopTest : public ::testing::Test {
 protected:
  EngineLoopTest() : owned_(std::make_unique<FakeEngine>(kCapacity)), engine_(owned_.get()) {}

  EngineLoop& Start(EngineLoopOptions options = {}) {
    options.observer = &observer_;
    loop_ = std::make_unique<EngineLoop>(std::move(owned_), options);
    return *loop_;
  }
  TestJob Submit(const JobShape& shape) {
    TestJob made = MakeJob(shape);
    const absl::Status status = loop_->inbox()->Submit({made.job});
    EXPECT_TRUE(status.ok()) << status;
    return made;
  }
  // A job that is in flight when this returns; it keeps the rows until somebody ends it.
  TestJob SubmitEndless(int rows) {
    TestJob made = MakeJob({.rows = rows, .tokens = kEndless, .stream = true});
    auto decoding = std::make_shared<Event>();
    made.sink->on_tokens = [decoding] {
      if (!decoding->happened()) decoding->Happen();
    };
    EXPECT_TRUE(loop_->inbox()->Submit({made.job}).ok());
    decoding->Wait();
    return made;
  }
  // Ends the loop and expects that nothing is left anywhere.
  LoopSnapshot End(TimePoint deadline = TimePoint::max()) {
    loop_->Drain(deadline);
    const LoopSnapshot snapshot = loop_->Snapshot();
    EXPECT_EQ(snapshot.queued, 0);
    EXPECT_EQ(snapshot.in_flight, 0);
    EXPECT_EQ(snapshot.used, Resources{});
    EXPECT_EQ(snapshot.jobs.added,
              snapshot.jobs.finished + snapshot.jobs.cancelled + snapshot.jobs.expired + snapshot.jobs.failed);
    return snapshot;
  }

  RecordingObserver observer_;
  std::unique_ptr<FakeEngine> owned_;
  FakeEngine* engine_;  // the loop's once it started
  std::unique_ptr<EngineLoop> loop_;
};

TEST_F(EngineLoopTest, AnswersAndStepsNoMoreThanItMust) {
  Start();
  const TestJob job = Submit({.rows = 2, .tokens = 4, .source_tokens = 10, .blocks = 3, .edits = 5, .stream = true});
  const JobResult& result = job.sink->Wait();
  EXPECT_TRUE(result.status.ok());
  EXPECT_THAT(result.hypotheses[0].tokens, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(job.sink->streamed, ElementsAre(0, 1, 2, 3));
  EXPECT_GE(result.timings.queue_seconds, 0);
  EXPECT_GT(result.timings.decode_seconds, 0);
  EXPECT_EQ(result.timings.steps, 4);

  const LoopSnapshot snapshot = End();
  EXPECT_EQ(snapshot.steps, 5);  // encode, and a step for each token; none while idle
  EXPECT_EQ(snapshot.rows, 8);
  EXPECT_EQ(snapshot.encoded_tokens, 10);
  EXPECT_EQ(snapshot.jobs.generated_tokens, 4);
  EXPECT_EQ(snapshot.peak_in_flight, 1);
  EXPECT_EQ(snapshot.peak_used, (Resources{.rows = 2, .encoder_pages = 1, .decoder_blocks = 3, .edits = 5}));
  EXPECT_EQ(snapshot.times.encode, 5);
  EXPECT_EQ(snapshot.times.decode, 10);
  EXPECT_EQ(snapshot.times.select, 15);
  EXPECT_EQ(snapshot.times.search, 20);
  EXPECT_GT(snapshot.step_seconds, 0);
  EXPECT_EQ(snapshot.capacity, kCapacity);
  EXPECT_EQ(observer_.steps, 5);
  EXPECT_EQ(observer_.rows, 8);
  EXPECT_EQ(observer_.documents, 4);
  EXPECT_EQ(snapshot.encoder_cache.misses, 1);
}

TEST_F(EngineLoopTest, SharesSourcesWhereTheEngineDoes) {
  for (const bool cache : {true, false}) {
    owned_ = std::make_unique<FakeEngine>(kCapacity, cache);
    Gate gate;
    owned_->on_step = [&] { gate.Pass(); };
    Start();
    const TestJob first = Submit({});
    gate.entered.Wait();
    const JobShape large{.source_tokens = 600 * 64, .document = 1};
    const TestJob a = Submit(large), b = Submit(large);
    gate.open.Happen();
    EXPECT_TRUE(a.sink->Wait().status.ok());
    EXPECT_TRUE(b.sink->Wait().status.ok());
    const LoopSnapshot snapshot = End();
    EXPECT_EQ(snapshot.encoder_cache.hits, cache ? 1 : 0);
    EXPECT_EQ(snapshot.peak_in_flight, cache ? 3 : 2);
    EXPECT_EQ(snapshot.peak_used.encoder_pages, 601);
  }
}

TEST_F(EngineLoopTest, WakesAgainAfterItSlept) {
  Start();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Submit({}).sink->Wait().status.ok());
}

TEST_F(EngineLoopTest, RefusesWhatCanNeverFit) {
  Start();
  TestJob job = MakeJob({.rows = 9});
  const std::weak_ptr<ResponseSink> sink = job.sink;
  job.sink->on_done = [keep = job.job] { FAIL() << "the sink of a refused job was called"; };
  const absl::Status status = loop_->inbox()->Submit({job.job});
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("num_beams: 9"));
  job.sink->on_done = nullptr;
  job.sink.reset();
  EXPECT_TRUE(sink.expired()) << "a refused job keeps its sink";
}

TEST_F(EngineLoopTest, BoundsTheQueue) {
  Gate gate;
  engine_->on_step = [&] { gate.Pass(); };
  Start({.scheduler = {}, .max_queued_requests = 3});
  const TestJob running = Submit({.rows = 8});
  gate.entered.Wait();
  std::vector<TestJob> queued;
  for (int i = 0; i < 3; ++i) queued.push_back(Submit({.rows = 8}));
  const TestJob refused = MakeJob({});
  const absl::Status status = loop_->inbox()->Submit({refused.job});
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("max_queued_requests is 3"));
  EXPECT_EQ(loop_->Snapshot().queued, 3);
  gate.open.Happen();
  for (const TestJob& job : queued) EXPECT_TRUE(job.sink->Wait().status.ok());
  EXPECT_TRUE(Submit({}).sink->Wait().status.ok());
  const LoopSnapshot snapshot = End();
  EXPECT_EQ(snapshot.rejected, 1);
  EXPECT_EQ(snapshot.jobs.finished, 5);
  EXPECT_FALSE(refused.sink->is_done());
}

TEST_F(EngineLoopTest, TakesAGroupOrNoneOfIt) {
  Gate gate;
  engine_->on_step = [&] { gate.Pass(); };
  Start({.scheduler = {}, .max_queued_requests = 3});
  const TestJob running = Submit({.rows = 8});
  gate.entered.Wait();
  const TestJob waiting = Submit({.rows = 8});
  std::vector<TestJob> refused;
  const auto refuse = [&](const std::vector<JobShape>& shapes) {
    std::vector<std::shared_ptr<Job>> jobs;
    for (const JobShape& shape : shapes) jobs.push_back(refused.emplace_back(MakeJob(shape)).job);
    return loop_->inbox()->Submit(jobs);
  };
  absl::Status status = refuse({{}, {}, {}});
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("no room for 3 more: max_queued_requests is 3, and 1 wait"));
  status = refuse({{}, {}, {}, {}});  // never
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("has 4 jobs; allowed are at most 3"));
  EXPECT_TRUE(absl::IsInvalidArgument(refuse({{}, {.rows = 9}})));
  const TestJob good = MakeJob({}), cancelled = MakeJob({});
  cancelled.job->Cancel();
  EXPECT_TRUE(absl::IsCancelled(loop_->inbox()->Submit({good.job, cancelled.job})));
  EXPECT_EQ(good.sink.use_count(), 1) << "a refused job keeps its sink";

  const TestJob a = MakeJob({}), b = MakeJob({});
  EXPECT_TRUE(loop_->inbox()->Submit({a.job, b.job}).ok());
  EXPECT_EQ(loop_->Snapshot().queued, 3);
  gate.open.Happen();
  EXPECT_TRUE(a.sink->Wait().status.ok());
  EXPECT_TRUE(b.sink->Wait().status.ok());
  const LoopSnapshot snapshot = End();
  EXPECT_EQ(snapshot.jobs.added, 4);
  EXPECT_EQ(snapshot.rejected, 3);
  for (const TestJob& job : refused) {
    EXPECT_EQ(job.sink.use_count(), 1) << "a refused job keeps its sink";
    EXPECT_FALSE(job.sink->is_done());
  }
}

TEST_F(EngineLoopTest, TakesAGroupAsLargeAsTheQueue) {
  Start({.scheduler = {}, .max_queued_requests = 3});
  const TestJob a = MakeJob({}), b = MakeJob({}), c = MakeJob({});
  EXPECT_TRUE(loop_->inbox()->Submit({a.job, b.job, c.job}).ok());
  for (const TestJob* job : {&a, &b, &c}) EXPECT_TRUE(job->sink->Wait().status.ok());
}

TEST_F(EngineLoopTest, JobsWithTheSchedulerCountAsQueued) {
  Start({.scheduler = {}, .max_queued_requests = 2});
  const TestJob running = SubmitEndless(7), other = SubmitEndless(1);
  const TestJob a = Submit({.rows = 8}), b = Submit({.rows = 8});
  // A cancellation that came after them was carried out: the inbox is empty and the Scheduler holds both.
  other.job->Cancel();
  EXPECT_TRUE(absl::IsCancelled(other.sink->Wait().status));
  EXPECT_TRUE(absl::IsResourceExhausted(loop_->inbox()->Submit({MakeJob({}).job})));
  EXPECT_EQ(loop_->Snapshot().queued, 2);
  a.job->Cancel();
  EXPECT_TRUE(absl::IsCancelled(a.sink->Wait().status));
  running.job->Cancel();
  EXPECT_TRUE(b.sink->Wait().status.ok());
  End();
}

TEST_F(EngineLoopTest, CancelsWhereverTheJobIs) {
  Start();
  const TestJob running = SubmitEndless(8);
  const TestJob queued = Submit({.rows = 8}), next = Submit({.rows = 8});
  queued.job->Cancel();
  EXPECT_TRUE(absl::IsCancelled(queued.sink->Wait().status));
  running.job->Cancel();
  running.job->Cancel();
  EXPECT_TRUE(absl::IsCancelled(running.sink->Wait().status));
  EXPECT_TRUE(next.sink->Wait().status.ok());
  next.job->Cancel();
  queued.job->Cancel();

  const TestJob before = MakeJob({});
  before.job->Cancel();
  EXPECT_TRUE(absl::IsCancelled(loop_->inbox()->Submit({before.job})));
  const LoopSnapshot snapshot = End();
  EXPECT_EQ(snapshot.jobs.cancelled, 2);
  EXPECT_EQ(snapshot.jobs.finished, 1);
  EXPECT_FALSE(before.sink->is_done());
}

TEST_F(EngineLoopTest, SinksMaySubmitAndCancel) {
  Start();
  const TestJob endless = SubmitEndless(1);
  const TestJob first = MakeJob({}), second = MakeJob({}), self = MakeJob({.tokens = kEndless, .stream = true});
  first.sink->on_done = [&] {
    EXPECT_TRUE(loop_->inbox()->Submit({second.job}).ok());
    endless.job->Cancel();
  };
  self.sink->on_tokens = [&] { self.job->Cancel(); };
  EXPECT_TRUE(loop_->inbox()->Submit({first.job}).ok());
  EXPECT_TRUE(loop_->inbox()->Submit({self.job}).ok());
  EXPECT_TRUE(second.sink->Wait().status.ok());
  EXPECT_TRUE(absl::IsCancelled(endless.sink->Wait().status));
  EXPECT_TRUE(absl::IsCancelled(self.sink->Wait().status));
  End();
}

TEST_F(EngineLoopTest, DeadlinesEndQueuedAndRunningJobs) {
  Start();
  const TestJob running = MakeJob({.rows = 8, .tokens = kEndless, .deadline = Now() + milliseconds(50)});
  ASSERT_TRUE(loop_->inbox()->Submit({running.job}).ok());
  const TestJob expired = Submit({.rows = 8, .deadline = Now()});
  EXPECT_TRUE(absl::IsDeadlineExceeded(expired.sink->Wait().status));
  const JobResult& result = running.sink->Wait();
  EXPECT_TRUE(result.status.ok());
  EXPECT_TRUE(result.deadline_reached);
  EXPECT_EQ(static_cast<int>(result.hypotheses[0].tokens.size()), result.timings.steps);
  EXPECT_GE(Now(), running.job->deadline()->at);
  End();
}

TEST_F(EngineLoopTest, AJobThatExpiredBeforeItCameTakesNoStep) {
  Start();
  EXPECT_TRUE(absl::IsDeadlineExceeded(Submit({.deadline = Now()}).sink->Wait().status));
  EXPECT_EQ(End().steps, 0);
}

TEST_F(EngineLoopTest, DrainFinishesWhatWasAccepted) {
  Gate gate;
  engine_->on_step = [&] { gate.Pass(); };
  Start();
  std::vector<TestJob> jobs;
  for (int i = 0; i < 10; ++i) jobs.push_back(Submit({.rows = 5}));
  gate.entered.Wait();
  std::thread drain([this] { End(); });
  // From some moment on new jobs are refused; what was accepted until then is work.
  absl::Status status;
  while (!absl::IsUnavailable(status)) {
    const TestJob late = MakeJob({.rows = 5});
    status = loop_->inbox()->Submit({late.job});
    if (status.ok()) jobs.push_back(late);
    std::this_thread::yield();
  }
  gate.open.Happen();
  drain.join();
  for (const TestJob& job : jobs) {
    ASSERT_TRUE(job.sink->is_done());
    EXPECT_TRUE(job.sink->result.status.ok()) << job.sink->result.status;
  }
  EXPECT_TRUE(absl::IsUnavailable(loop_->inbox()->Submit({MakeJob({}).job})));
  EXPECT_TRUE(loop_->healthy());
}

TEST_F(EngineLoopTest, DrainEndsWhatIsLeftAtItsDeadline) {
  Start();
  const TestJob running = SubmitEndless(8), queued = Submit({.rows = 8});
  End(Now() + milliseconds(20));
  EXPECT_TRUE(absl::IsUnavailable(running.sink->result.status));
  EXPECT_TRUE(absl::IsUnavailable(queued.sink->result.status));
}

TEST_F(EngineLoopTest, StopCutsADrainShort) {
  Start();
  const TestJob running = SubmitEndless(8);
  std::thread drain([this] { End(); });
  loop_->Stop();
  drain.join();
  EXPECT_TRUE(absl::IsUnavailable(running.sink->result.status));
  loop_->Drain(TimePoint::max());  // once more does nothing
}

TEST_F(EngineLoopTest, TheDestructorEndsAllJobs) {
  Start();
  const TestJob running = SubmitEndless(8), queued = Submit({.rows = 8});
  loop_.reset();
  EXPECT_TRUE(absl::IsUnavailable(running.sink->result.status));
  EXPECT_TRUE(absl::IsUnavailable(queued.sink->result.status));
  running.job->Cancel();  // a job may outlive its loop
}

TEST_F(EngineLoopTest, ADeviceErrorEndsAllJobsAndTheLoop) {
  Gate gate;
  engine_->on_step = [&] {
    gate.Pass();
    engine_->fail_steps = true;
  };
  Start();
  const TestJob running = Submit({.rows = 8});
  gate.entered.Wait();
  const TestJob queued = Submit({.rows = 8});
  EXPECT_TRUE(loop_->healthy());
  gate.open.Happen();
  EXPECT_TRUE(absl::IsInternal(running.sink->Wait().status));
  EXPECT_THAT(std::string(running.sink->result.status.message()), HasSubstr("fell off the bus"));
  EXPECT_TRUE(absl::IsUnavailable(queued.sink->Wait().status));
  EXPECT_FALSE(loop_->healthy());
  const absl::Status status = loop_->inbox()->Submit({MakeJob({}).job});
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("fell off the bus"));
  loop_->Drain(TimePoint::max());
  EXPECT_EQ(loop_->Snapshot().in_flight, 0);
  EXPECT_EQ(loop_->Snapshot().queued, 0);
  EXPECT_EQ(loop_->Snapshot().jobs.failed, 2);
  ASSERT_EQ(observer_.errors.size(), 1u);
  EXPECT_TRUE(absl::IsInternal(observer_.errors[0]));
}

TEST_F(EngineLoopTest, ADeviceErrorDuringADrainEndsIt) {
  Gate gate;
  engine_->on_step = [&] {
    gate.Pass();
    engine_->fail_steps = true;
  };
  Start();
  const TestJob running = Submit({.rows = 8});
  gate.entered.Wait();
  std::thread drain([this] { loop_->Drain(TimePoint::max()); });
  gate.open.Happen();
  drain.join();
  EXPECT_TRUE(absl::IsInternal(running.sink->result.status));
}

// The loop sleeps, wakes for an answer that is kept, and takes no step for it.
TEST_F(EngineLoopTest, KeptAnswersTakeNoStep) {
  Start({.scheduler = {.answer_cache_bytes = 1 << 20}});
  EXPECT_TRUE(Submit({.question = 1}).sink->Wait().status.ok());
  const JobResult result = Submit({.question = 1}).sink->Wait();
  EXPECT_EQ(result.answered_by, AnsweredBy::kCache);
  EXPECT_THAT(result.hypotheses[0].tokens, ElementsAre(0, 1, 2));
  EXPECT_GE(result.timings.queue_seconds, 0);
  const LoopSnapshot snapshot = End();
  EXPECT_EQ(snapshot.steps, 4);
  EXPECT_EQ(snapshot.jobs.cached, 1);
  EXPECT_EQ(snapshot.answer_cache.entries, 1);
  EXPECT_GT(snapshot.answer_cache.bytes, 0);
}

// Those that wait for one sequence take one place in the queue, once the loop has them.
TEST_F(EngineLoopTest, EqualJobsTakeOnePlaceInTheQueue) {
  Gate gate;
  engine_->on_step = [&gate] { gate.Pass(); };
  Start({.scheduler = {}, .max_queued_requests = 3});
  const TestJob running = Submit({.rows = 8, .question = 1});
  gate.entered.Wait();
  std::vector<TestJob> equal;
  for (int i = 0; i < 3; ++i) equal.push_back(Submit({.rows = 8, .question = 1}));
  EXPECT_TRUE(absl::IsResourceExhausted(loop_->inbox()->Submit({MakeJob({.question = 1}).job})));
  gate.open.Happen();
  for (const TestJob& job : equal) EXPECT_EQ(job.sink->Wait().answered_by, AnsweredBy::kSharing);
  const LoopSnapshot snapshot = End();
  EXPECT_EQ(snapshot.jobs.admitted, 1);
  EXPECT_EQ(snapshot.rejected, 1);
}

// Many threads submit, cancel and forget; the loop is drained under them. Every accepted job is told once, and lets go.
TEST_F(EngineLoopTest, ManyThreads) {
  Start({.scheduler = {.max_overtakes = 4, .answer_cache_bytes = 2500}, .max_queued_requests = 50});
  constexpr int kThreads = 8, kJobs = 300;
  std::vector<std::vector<TestJob>> accepted(kThreads);
  std::vector<std::thread> threads;
  Event half;
  std::atomic<int> halfway{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      for (int i = 0; i < kJobs; ++i) {
        if (i == kJobs / 2 && ++halfway == kThreads) half.Happen();
        JobShape shape{.rows = 1 + static_cast<int>(random() % 8), .tokens = 1 + static_cast<int>(random() % 10)};
        // Many are equal to others.
        if (random() % 2 == 0) shape = {.rows = 2, .tokens = 6, .question = 1 + static_cast<int>(random() % 4)};
        shape.stream = random() % 2 == 0;
        if (random() % 4 == 0) shape.deadline = Now() + std::chrono::microseconds(random() % 2000);
        if (random() % 2 == 0) shape.at_deadline = EndKind::kDiscard;
        const TestJob made = MakeJob(shape);
        made.sink->on_done = [keep = made.job] {};
        std::thread canceller;
        if (i % 50 == 0) canceller = std::thread([job = made.job] { job->Cancel(); });
        const absl::Status status = loop_->inbox()->Submit({made.job});
        if (status.ok()) {
          accepted[static_cast<size_t>(t)].push_back(made);
          if (random() % 4 == 0) made.job->Cancel();
        } else {
          EXPECT_TRUE(absl::IsResourceExhausted(status) || absl::IsUnavailable(status) || absl::IsCancelled(status))
              << status;
          made.sink->on_done = nullptr;
          std::this_thread::yield();
        }
        if (canceller.joinable()) canceller.join();
        loop_->Snapshot();
      }
    });
  }
  half.Wait();
  const LoopSnapshot snapshot = End();
  for (std::thread& thread : threads) thread.join();
  int64_t count = 0;
  for (std::vector<TestJob>& jobs : accepted) {
    for (TestJob& made : jobs) {
      ++count;
      ASSERT_TRUE(made.sink->is_done());
      EXPECT_EQ(made.sink.use_count(), 1) << "a finished job keeps its sink";
      made.sink->on_done = nullptr;
    }
  }
  EXPECT_EQ(snapshot.jobs.added, count);
  EXPECT_GT(snapshot.jobs.finished, 0);
  EXPECT_GT(snapshot.jobs.shared, 0);
  EXPECT_GT(snapshot.jobs.cached, 0);
}

}  // namespace
}  // namespace elserve
