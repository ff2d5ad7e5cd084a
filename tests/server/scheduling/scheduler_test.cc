#include "server/scheduling/scheduler.h"

#include <chrono>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/scheduling/scheduler_fixture.h"

namespace elserve {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(SchedulerTest, AdmitsInOrderOfArrivalWhatFits) {
  const TestJob a = Add({.rows = 4}), b = Add({.rows = 4}), c = Add({.rows = 4});
  EXPECT_THAT(Step(), ElementsAre(a.job->id(), b.job->id()));
  EXPECT_EQ(scheduler().queued(), 1u);
  EXPECT_EQ(scheduler().in_flight(), 2u);
  EXPECT_THAT(Step(), IsEmpty());
  RunToEnd();
  EXPECT_TRUE(c.sink->result.status.ok());
  EXPECT_EQ(scheduler().counters().finished, 3);
  EXPECT_EQ(scheduler().counters().generated_tokens, 9);
}

TEST_F(SchedulerTest, CarriesEverythingToTheEngineAndBack) {
  const TestJob job = Add({.rows = 2, .tokens = 3, .source_tokens = 5, .stream = true});
  now_ += milliseconds(40);
  Step();
  ASSERT_EQ(plan_.admissions.size(), 1u);
  EXPECT_EQ(plan_.admissions[0].source, job.job->source());
  EXPECT_EQ(plan_.admissions[0].decoding.num_beams, 2);
  EXPECT_TRUE(plan_.admissions[0].stream);
  EXPECT_THAT(job.sink->streamed, IsEmpty());
  Step();
  EXPECT_THAT(job.sink->streamed, ElementsAre(0));
  RunToEnd();
  const JobResult& result = job.sink->result;
  EXPECT_THAT(job.sink->streamed, ElementsAre(0, 1, 2));
  ASSERT_EQ(result.hypotheses.size(), 1u);
  EXPECT_THAT(result.hypotheses[0].tokens, ElementsAre(0, 1, 2));
  EXPECT_FALSE(result.deadline_reached);
  EXPECT_DOUBLE_EQ(result.timings.queue_seconds, 0.040);
  EXPECT_DOUBLE_EQ(result.timings.encode_seconds, 0.010);
  EXPECT_DOUBLE_EQ(result.timings.decode_seconds, 0.030);
  EXPECT_EQ(result.timings.steps, 3);
}

TEST_F(SchedulerTest, ReportsNoTokensUnlessAsked) {
  const TestJob job = Add({});
  RunToEnd();
  EXPECT_THAT(job.sink->streamed, IsEmpty());
}

TEST_F(SchedulerTest, EveryKindOfMemoryLimits) {
  for (const JobShape& shape :
       {JobShape{.rows = 5}, JobShape{.source_tokens = 501 * 64}, JobShape{.blocks = 501}, JobShape{.edits = 501}}) {
    const TestJob a = Add(shape), b = Add(shape);
    EXPECT_THAT(Step(), ElementsAre(a.job->id()));
    RunToEnd();
  }
}

// Of equal sources the pages count once while a job in flight has them, whichever it is.
TEST_F(SchedulerTest, JobsOfOneSourceTakeItsPagesOnce) {
  const JobShape half{.tokens = 3, .source_tokens = 500 * 64, .document = 1};
  const TestJob a = Add(half), b = Add({.source_tokens = 500 * 64, .document = 2}), c = Add(half);
  EXPECT_THAT(Step(), ElementsAre(a.job->id(), b.job->id(), c.job->id()));
  EXPECT_EQ(engine_.free().encoder_pages, 0);
  Step();
  const TestJob d = Add(half), other = Add({.source_tokens = 1, .document = 3});
  EXPECT_THAT(Step(), ElementsAre(d.job->id()));
  EXPECT_FALSE(other.sink->is_done());
  while (!b.sink->is_done()) EXPECT_THAT(Step(), IsEmpty());
  EXPECT_TRUE(a.sink->is_done() && c.sink->is_done());
  EXPECT_THAT(Step(), ElementsAre(other.job->id()));
  RunToEnd();
}

// The same length and hash would not do; the same tokens do.
TEST_F(SchedulerTest, SourcesAreCompared) {
  const TestJob a = Add({.source_tokens = 600 * 64, .document = 1}),
                b = Add({.source_tokens = 600 * 64, .document = 2}),
                c = Add({.source_tokens = 599 * 64, .document = 1});
  EXPECT_THAT(Step(), ElementsAre(a.job->id()));
  RunToEnd();
}

// A document whose last job ended is the engine's to keep or to give up: it counts in full again, and so it does for
// a job that comes with the plan that ends the last one.
TEST_F(SchedulerTest, ASourceThatNobodyHasCountsInFull) {
  const JobShape large{.tokens = 100, .source_tokens = 600 * 64, .document = 1};
  const TestJob a = Add(large);
  Step();
  Cancel(a);
  const TestJob b = Add(large), c = Add({.source_tokens = 400 * 64});
  EXPECT_THAT(Step(), ElementsAre(c.job->id()));
  EXPECT_THAT(Step(), ElementsAre(b.job->id()));
  Cancel(b);
  RunToEnd();
}

// One that a plan ends by its deadline still has its source: who comes with the same plan takes it over.
TEST_F(SchedulerTest, ASourcePassesFromOneThatEndsToTheNext) {
  const TestJob a = Add({.tokens = 100, .source_tokens = 900 * 64, .document = 1, .deadline = now_ + milliseconds(15)});
  Step();
  Step();
  const TestJob b = Add({.source_tokens = 100 * 64}), c = Add({.source_tokens = 900 * 64, .document = 1});
  EXPECT_THAT(Step(), ElementsAre(b.job->id(), c.job->id()));
  EXPECT_EQ(plan_.ends.size(), 1u);
  EXPECT_EQ(engine_.free().encoder_pages, 0);
  RunToEnd();
}

TEST(SchedulerWithoutSharingTest, EverySourceCountsInFull) {
  FakeEngine engine(kCapacity, /*encoder_cache=*/false);
  Scheduler scheduler({}, /*shares_documents=*/false);
  std::vector<TestJob> jobs;
  const TimePoint now{seconds(1000)};
  for (int i = 0; i < 3; ++i) {
    const TestJob& made = jobs.emplace_back(MakeJob({.source_tokens = 500 * 64, .document = 1}));
    const Resources resources = *engine.Measure({.source_tokens = 500 * 64, .decoding = &made.job->decoding()});
    scheduler.Add(now, {.job = made.job, .resources = resources, .submitted = now});
  }
  StepPlan plan;
  scheduler.Plan(now, engine.free(), &plan);
  EXPECT_EQ(plan.admissions.size(), 2u);
}

TEST_F(SchedulerTest, OvertakesTheHeadABoundedNumberOfTimes) {
  Use({.max_overtakes = 3});
  const TestJob running = Add({.rows = 4, .tokens = 100});
  Step();
  const TestJob large = Add({.rows = 8});
  std::vector<TestJob> small = AddMany(10, {.rows = 1, .tokens = 1});
  EXPECT_THAT(Step(), ElementsAre(small[0].job->id(), small[1].job->id(), small[2].job->id()));
  // There is room, but the head's turn has come.
  for (int i = 0; i < 90; ++i) EXPECT_THAT(Step(), IsEmpty());
  EXPECT_FALSE(large.sink->is_done());
  while (!running.sink->is_done()) EXPECT_THAT(Step(), IsEmpty());
  EXPECT_THAT(Step(), ElementsAre(large.job->id()));
  RunToEnd();
}

TEST_F(SchedulerTest, StrictOrderWithoutOvertakes) {
  Use({.max_overtakes = 0});
  Add({.rows = 4, .tokens = 5});
  Step();
  const TestJob large = Add({.rows = 8}), small = Add({.rows = 1});
  EXPECT_THAT(Step(), IsEmpty());
  RunToEnd();
  EXPECT_GT(small.sink->result.timings.queue_seconds, large.sink->result.timings.queue_seconds);
}

TEST_F(SchedulerTest, TheNextHeadStartsItsOwnCount) {
  Use({.max_overtakes = 2});
  const TestJob running = Add({.rows = 4, .tokens = 100});
  Step();
  const TestJob first = Add({.rows = 8}), second = Add({.rows = 8});
  std::vector<TestJob> small = AddMany(6, {.rows = 1, .tokens = 100});
  EXPECT_THAT(Step(), ElementsAre(small[0].job->id(), small[1].job->id()));
  EXPECT_THAT(Step(), IsEmpty());
  Cancel(first);
  EXPECT_THAT(Step(), ElementsAre(small[2].job->id(), small[3].job->id()));
  EXPECT_THAT(Step(), IsEmpty());
  // Cancelling a job behind the head changes nothing for the head.
  Cancel(small[4]);
  EXPECT_THAT(Step(), IsEmpty());
  RunToEnd();
}

TEST_F(SchedulerTest, LooksAtTheFirst64Only) {
  Use({.max_overtakes = 1000});
  Add({.rows = 4, .tokens = 5});
  Step();
  std::vector<TestJob> large = AddMany(Scheduler::kWindow, {.rows = 8, .tokens = 1});
  const TestJob hidden = Add({.rows = 1}), behind = Add({.rows = 1});
  EXPECT_THAT(Step(), IsEmpty());
  Cancel(large[30]);
  EXPECT_THAT(Step(), ElementsAre(hidden.job->id(), behind.job->id()));
  RunToEnd();
}

TEST_F(SchedulerTest, ADeadlineInTheQueueEndsAJobThatWasNeverAdmitted) {
  Add({.rows = 8, .tokens = 100});
  Step();
  const TestJob late = Add({.deadline = now_ + milliseconds(25)});
  const TestJob later = Add({.deadline = now_ + seconds(100)});
  for (int i = 0; i < 3; ++i) Step();
  EXPECT_FALSE(late.sink->is_done());
  Step();
  ASSERT_TRUE(late.sink->is_done());
  EXPECT_EQ(late.sink->result.status, absl::DeadlineExceededError("the time passed after 0.030 s in the queue"));
  EXPECT_DOUBLE_EQ(late.sink->result.timings.queue_seconds, 0.030);
  EXPECT_EQ(late.sink->result.timings.steps, 0);
  RunToEnd();
  EXPECT_TRUE(later.sink->result.status.ok());
  EXPECT_EQ(scheduler().counters().expired, 1);
  EXPECT_EQ(scheduler().counters().admitted, 2);
}

TEST_F(SchedulerTest, ADeadlineThatPassedBeforeSubmissionIsNotAdmitted) {
  const TestJob job = Add({.deadline = now_ - seconds(1)});
  EXPECT_THAT(Step(), IsEmpty());
  EXPECT_TRUE(absl::IsDeadlineExceeded(job.sink->result.status));
}

TEST_F(SchedulerTest, ADeadlineWhileDecodingReportsWhatExists) {
  const TestJob job = Add({.tokens = 100, .deadline = now_ + milliseconds(45)});
  for (int i = 0; i < 5; ++i) Step();  // encode, then four tokens
  EXPECT_FALSE(job.sink->is_done());
  Step();
  ASSERT_TRUE(job.sink->is_done());
  EXPECT_EQ(plan_.ends[0].kind, EndKind::kFinish);
  EXPECT_TRUE(job.sink->result.status.ok());
  EXPECT_TRUE(job.sink->result.deadline_reached);
  EXPECT_THAT(job.sink->result.hypotheses[0].tokens, ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(scheduler().counters().finished, 1);
  RunToEnd();
}

TEST_F(SchedulerTest, ADeadlineBeforeTheFirstTokenIsAnError) {
  const TestJob job = Add({.tokens = 100, .deadline = now_ + milliseconds(5)});
  Step();
  Step();
  ASSERT_TRUE(job.sink->is_done());
  EXPECT_EQ(job.sink->result.status, absl::DeadlineExceededError("the time passed before the first token"));
  EXPECT_EQ(scheduler().counters().expired, 1);
  RunToEnd();
}

TEST_F(SchedulerTest, ADeadlineThatFailsAJobLeavesNothingOfIt) {
  const TestJob job =
      Add({.rows = 8, .tokens = 100, .deadline = now_ + milliseconds(45), .at_deadline = EndKind::kDiscard});
  const TestJob next = Add({.rows = 8});
  for (int i = 0; i < 5; ++i) Step();  // encode, then four tokens
  EXPECT_FALSE(job.sink->is_done());
  scheduler().Plan(now_, engine_.free(), &plan_);
  ASSERT_TRUE(job.sink->is_done()) << "a step more is spent on it";
  EXPECT_EQ(job.sink->result.status, absl::DeadlineExceededError("the time passed before the answer was complete"));
  EXPECT_THAT(job.sink->result.hypotheses, IsEmpty());
  EXPECT_FALSE(job.sink->result.deadline_reached);
  ASSERT_EQ(plan_.ends.size(), 1u);
  EXPECT_EQ(plan_.ends[0].kind, EndKind::kDiscard);
  EXPECT_EQ(scheduler().counters().expired, 1);
  ASSERT_TRUE(engine_.Step(plan_, &result_).ok());
  scheduler().Commit(now_, &result_);
  EXPECT_THAT(Step(), ElementsAre(next.job->id()));
  EXPECT_THAT(plan_.ends, IsEmpty());
  RunToEnd();
  EXPECT_TRUE(next.sink->result.status.ok());
}

TEST_F(SchedulerTest, AnEndAtTheDeadlineIsAnOrdinaryEnd) {
  for (const EndKind end : {EndKind::kFinish, EndKind::kDiscard}) {
    const TestJob job = Add({.tokens = 3, .deadline = now_ + milliseconds(40), .at_deadline = end});
    for (int i = 0; i < 4; ++i) Step();
    ASSERT_TRUE(job.sink->is_done());
    EXPECT_TRUE(job.sink->result.status.ok());
    EXPECT_FALSE(job.sink->result.deadline_reached);
    Step();
    EXPECT_THAT(plan_.ends, IsEmpty());
  }
}

TEST_F(SchedulerTest, CancelsInTheQueueAtOnce) {
  Add({.rows = 8});
  Step();
  const TestJob job = Add({.deadline = now_ + milliseconds(5)});
  Cancel(job);
  EXPECT_TRUE(absl::IsCancelled(job.sink->result.status));
  Cancel(job);
  Step();
  EXPECT_THAT(plan_.ends, IsEmpty());
  RunToEnd();
  EXPECT_EQ(scheduler().counters().cancelled, 1);
  EXPECT_EQ(scheduler().counters().expired, 0);
}

TEST_F(SchedulerTest, CancelsInFlightWithTheNextPlan) {
  const TestJob job = Add({.rows = 8, .tokens = 100, .deadline = now_ + milliseconds(25)}), next = Add({.rows = 8});
  Step();
  Step();
  Cancel(job);
  Cancel(job);
  EXPECT_TRUE(absl::IsCancelled(job.sink->result.status));
  EXPECT_TRUE(job.sink->result.hypotheses.empty());
  now_ += seconds(1);  // its deadline means nothing any more
  Step();
  ASSERT_EQ(plan_.ends.size(), 1u);
  EXPECT_EQ(plan_.ends[0].id, job.job->id());
  EXPECT_EQ(plan_.ends[0].kind, EndKind::kDiscard);
  EXPECT_THAT(Step(), ElementsAre(next.job->id()));
  EXPECT_THAT(plan_.ends, IsEmpty());
  RunToEnd();
  Cancel(job);
  Cancel(next);
  EXPECT_TRUE(next.sink->result.status.ok());
}

TEST_F(SchedulerTest, ASequenceThatFailsFailsAlone) {
  const TestJob bad = Add({}), good = Add({});
  engine_.failing.insert(bad.job->id());
  RunToEnd();
  EXPECT_TRUE(absl::IsInternal(bad.sink->result.status));
  EXPECT_TRUE(good.sink->result.status.ok());
  EXPECT_EQ(scheduler().counters().failed, 1);
}

TEST_F(SchedulerTest, StaticBatchesStartOnlyWhenNothingIsInFlight) {
  Use({.max_overtakes = 16, .admit_only_when_idle = true});
  const TestJob a = Add({.rows = 3, .tokens = 2}), b = Add({.rows = 3, .tokens = 6}), c = Add({.rows = 3}),
                d = Add({.rows = 1});
  EXPECT_THAT(Step(), ElementsAre(a.job->id(), b.job->id(), d.job->id()));
  while (!b.sink->is_done()) EXPECT_THAT(Step(), IsEmpty());
  EXPECT_THAT(Step(), ElementsAre(c.job->id()));
  // A batch that was cancelled has to leave the engine first.
  const TestJob e = Add({});
  Cancel(c);
  EXPECT_THAT(Step(), IsEmpty());
  EXPECT_THAT(Step(), ElementsAre(e.job->id()));
  RunToEnd();
}

TEST_F(SchedulerTest, EndAllEndsEverythingOnce) {
  const TestJob running = Add({.rows = 8, .tokens = 100});
  Step();
  const TestJob queued = Add({.deadline = now_ + milliseconds(5)});
  scheduler().EndAll(now_, absl::InternalError("in flight"), absl::UnavailableError("queued"));
  EXPECT_TRUE(absl::IsInternal(running.sink->result.status));
  EXPECT_TRUE(absl::IsUnavailable(queued.sink->result.status));
  EXPECT_FALSE(scheduler().idle());  // the engine has to hear of it
  Step();
  EXPECT_TRUE(scheduler().idle());
  EXPECT_EQ(engine_.free(), kCapacity);
}

TEST_F(SchedulerTest, AJobThatAnIdleEngineHasNoRoomForFails) {
  TestJob made = MakeJob({});
  scheduler().Add(now_, {.job = made.job, .resources = {.rows = 9}, .submitted = now_});
  const TestJob next = Add({});
  RunToEnd();
  EXPECT_TRUE(absl::IsInternal(made.sink->result.status));
  EXPECT_TRUE(next.sink->result.status.ok());
}

TEST_F(SchedulerTest, ASinkMayHoldItsJob) {
  std::weak_ptr<Job> weak;
  {
    TestJob job = Add({});
    weak = job.job;
    job.sink->on_done = [keep = job.job] {};
  }
  RunToEnd();
  EXPECT_TRUE(weak.expired());
}

// With a cost that grows with the queue this would take minutes.
TEST_F(SchedulerTest, ALongQueueCostsNothingPerStep) {
  Add({.rows = 1, .tokens = kEndless});
  Step();
  const std::vector<TestJob> queue = AddMany(100000, {.rows = 8, .deadline = now_ + seconds(100000)});
  const Resources free = engine_.free();
  for (int i = 0; i < 100000; ++i) scheduler().Plan(now_, free, &plan_);
  EXPECT_EQ(scheduler().queued(), 100000u);
  now_ += seconds(100001);
  Step();
  EXPECT_EQ(scheduler().queued(), 0u);
}

}  // namespace
}  // namespace elserve
