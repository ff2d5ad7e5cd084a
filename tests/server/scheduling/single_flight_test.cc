// Equal jobs in the Scheduler: they are computed once, and each has its own end.
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
using ::testing::IsEmpty;

TEST_F(SingleFlightTest, EqualJobsAreComputedOnce) {
  const std::vector<TestJob> jobs = AddMany(5, {.rows = 2, .tokens = 3, .question = 1, .seed = 7});
  EXPECT_EQ(scheduler().queued(), 1u);
  EXPECT_THAT(Step(), ElementsAre(jobs[0].job->id()));
  EXPECT_EQ(scheduler().in_flight(), 1u);
  EXPECT_EQ(engine_.free().rows, kCapacity.rows - 2);
  RunToEnd();
  for (const TestJob& job : jobs) {
    const bool first = job.job == jobs[0].job;
    ExpectAnswer(job, {7, 8, 9}, first ? AnsweredBy::kComputing : AnsweredBy::kSharing);
    EXPECT_FALSE(job.sink->result.deadline_reached);
    const JobTimings& timings = job.sink->result.timings;
    EXPECT_DOUBLE_EQ(timings.queue_seconds, first ? 0 : 0.040);
    EXPECT_DOUBLE_EQ(timings.encode_seconds, first ? 0.010 : 0);
    EXPECT_DOUBLE_EQ(timings.decode_seconds, first ? 0.030 : 0);
    EXPECT_EQ(timings.steps, first ? 3 : 0);
  }
  const Scheduler::Counters& counters = scheduler().counters();
  EXPECT_EQ(counters.added, 5);
  EXPECT_EQ(counters.admitted, 1);
  EXPECT_EQ(counters.finished, 5);
  EXPECT_EQ(counters.shared, 4);
  EXPECT_EQ(counters.cached, 0);
  EXPECT_EQ(counters.generated_tokens, 3);
}

TEST_F(SingleFlightTest, WhatDiffersIsComputedApart) {
  const JobShape shape{.question = 1};
  const std::vector<JobShape> others = {{.rows = 2, .question = 1},
                                        {.tokens = 4, .question = 1},
                                        {.source_tokens = 65, .question = 1},
                                        {.document = 2, .question = 1},
                                        {.question = 2},
                                        {.question = 1, .seed = 1},
                                        {.question = 1, .principal = "a"},
                                        {.question = 1, .principal = "b"}};
  Use({});
  std::vector<TestJob> jobs = {Add(shape)};
  for (const JobShape& other : others) jobs.push_back(Add(other));
  EXPECT_EQ(scheduler().queued(), jobs.size());
  for (const JobShape& other : others) jobs.push_back(Add(other));  // of one principal as well
  EXPECT_EQ(scheduler().queued(), 1 + others.size());
  RunToEnd();
  EXPECT_EQ(scheduler().counters().shared, static_cast<int64_t>(others.size()));
}

TEST_F(SingleFlightTest, IsSwitchedOff) {
  Use({.single_flight = false});
  const std::vector<TestJob> jobs = AddMany(3, {.question = 1});
  EXPECT_EQ(Step().size(), 3u);
  RunToEnd();
  for (const TestJob& job : jobs) ExpectAnswer(job, {0, 1, 2}, AnsweredBy::kComputing);
}

TEST_F(SingleFlightTest, AJobJoinsWhatIsInFlightAtAnyStage) {
  const JobShape shape{.rows = 8, .tokens = 4, .question = 1};
  const TestJob first = Add(shape), other = Add({.rows = 8});
  std::vector<TestJob> later;
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Step().size(), i == 0 ? 1u : 0u);
    later.push_back(Add(shape));
  }
  EXPECT_FALSE(first.sink->is_done());
  Step();
  for (size_t i = 0; i < later.size(); ++i) {
    ExpectAnswer(later[i], {0, 1, 2, 3}, AnsweredBy::kSharing);
    EXPECT_DOUBLE_EQ(later[i].sink->result.timings.queue_seconds, 0.040 - 0.010 * static_cast<double>(i));
  }
  ExpectAnswer(first, {0, 1, 2, 3}, AnsweredBy::kComputing);
  EXPECT_THAT(Step(), ElementsAre(other.job->id()));
  // What has ended is joined by nobody.
  const TestJob again = Add(shape);
  RunToEnd();
  ExpectAnswer(again, {0, 1, 2, 3}, AnsweredBy::kComputing);
}

TEST_F(SingleFlightTest, CancellingOneCancelsNoOther) {
  const JobShape shape{.tokens = 5, .question = 1};
  const TestJob first = Add(shape), second = Add(shape);
  Steps(3);
  const TestJob third = Add(shape);
  Cancel(first);
  EXPECT_TRUE(absl::IsCancelled(first.sink->result.status));
  EXPECT_FALSE(second.sink->is_done());
  Step();
  EXPECT_THAT(plan_.ends, IsEmpty());
  Cancel(second);
  RunToEnd();
  // The oldest that is left counts as the one that computed, from when it came.
  ExpectAnswer(third, {0, 1, 2, 3, 4}, AnsweredBy::kComputing);
  EXPECT_DOUBLE_EQ(third.sink->result.timings.queue_seconds, 0);
  EXPECT_DOUBLE_EQ(third.sink->result.timings.encode_seconds, 0);
  EXPECT_DOUBLE_EQ(third.sink->result.timings.decode_seconds, 0.030);
  EXPECT_EQ(third.sink->result.timings.steps, 5);
  EXPECT_EQ(scheduler().counters().cancelled, 2);
  EXPECT_EQ(scheduler().counters().shared, 0);
  EXPECT_EQ(scheduler().counters().generated_tokens, 5);
}

TEST_F(SingleFlightTest, TheLastOneThatLeavesEndsTheSequence) {
  const JobShape shape{.tokens = 100, .question = 1};
  const TestJob first = Add(shape), second = Add(shape), last = Add(shape);
  Steps(2);
  Cancel(second);
  Cancel(first);
  Cancel(last);
  EXPECT_EQ(scheduler().in_flight(), 0u);
  EXPECT_FALSE(scheduler().idle());
  const TestJob again = Add(shape);  // not a member of what is to be discarded
  EXPECT_THAT(Step(), ElementsAre(again.job->id()));
  ASSERT_EQ(plan_.ends.size(), 1u);
  EXPECT_EQ(plan_.ends[0].id, first.job->id());
  EXPECT_EQ(plan_.ends[0].kind, EndKind::kDiscard);
  Cancel(again);
  RunToEnd();
}

TEST_F(SingleFlightTest, AFlightKeepsItsPlaceInTheQueue) {
  Add({.rows = 8, .tokens = 2});
  Step();
  const JobShape shape{.rows = 8, .tokens = 2, .question = 1};
  const TestJob first = Add(shape), other = Add({.rows = 8}), second = Add(shape);
  const TestJob gone = Add({.rows = 8, .question = 2});
  EXPECT_EQ(scheduler().queued(), 3u);
  Cancel(first);
  EXPECT_EQ(scheduler().queued(), 3u);
  Cancel(gone);
  EXPECT_EQ(scheduler().queued(), 2u);
  std::vector<SequenceId> order;
  for (int i = 0; i < 20; ++i) {
    for (const SequenceId id : Step()) order.push_back(id);
  }
  // The sequence keeps the name of the job that began it.
  EXPECT_THAT(order, ElementsAre(first.job->id(), other.job->id()));
  ExpectAnswer(second, {0, 1}, AnsweredBy::kComputing);
}

TEST_F(SingleFlightTest, MembersTakeNoPlaceInTheWindow) {
  Add({.rows = 4, .tokens = 50});
  Step();
  AddMany(Scheduler::kWindow + 10, {.rows = 8, .tokens = 1, .question = 1});
  const TestJob small = Add({.rows = 1, .tokens = 1});
  EXPECT_THAT(Step(), ElementsAre(small.job->id()));
  RunToEnd();
}

// Whoever holds the document: the job that asked for it first, or one that joined.
TEST_F(SingleFlightTest, TheSourceStaysWithTheFlight) {
  const JobShape large{.tokens = 100, .source_tokens = 900 * 64, .question = 1};
  const TestJob first = Add(large), second = Add(large);
  Step();
  Cancel(first);
  Step();
  const TestJob other = Add({.rows = 2, .source_tokens = 900 * 64, .document = 1});
  EXPECT_THAT(Step(), ElementsAre(other.job->id()));
  Cancel(second);
  RunToEnd();
}

TEST_F(SingleFlightTest, AFailureIsEveryMembers) {
  Use({.answer_cache_bytes = 1 << 20});
  const TestJob first = Add({.question = 1}), second = Add({.question = 1});
  engine_.failing.insert(first.job->id());
  RunToEnd();
  EXPECT_TRUE(absl::IsInternal(first.sink->result.status));
  EXPECT_EQ(first.sink->result.status, second.sink->result.status);
  EXPECT_EQ(scheduler().counters().failed, 2);
  EXPECT_EQ(scheduler().answer_cache().entries, 0);
}

TEST_F(SingleFlightTest, AStreamJoinsWhatWaits) {
  const TestJob unary = Add({.question = 1}), stream = Add({.question = 1, .stream = true});
  EXPECT_EQ(Step().size(), 1u);
  EXPECT_TRUE(plan_.admissions[0].stream);
  Step();
  EXPECT_THAT(stream.sink->streamed, ElementsAre(0));
  RunToEnd();
  EXPECT_THAT(stream.sink->streamed, ElementsAre(0, 1, 2));
  EXPECT_THAT(unary.sink->streamed, IsEmpty());
  ExpectAnswer(unary, {0, 1, 2}, AnsweredBy::kComputing);
  ExpectAnswer(stream, {0, 1, 2}, AnsweredBy::kSharing);
}

TEST_F(SingleFlightTest, AStreamThatJoinsAStreamIsGivenWhatItMissed) {
  const TestJob first = Add({.tokens = 5, .question = 1, .stream = true});
  Step();
  const TestJob early = Add({.tokens = 5, .question = 1, .stream = true});
  EXPECT_THAT(early.sink->streamed, IsEmpty());
  Steps(2);
  const TestJob late = Add({.tokens = 5, .question = 1, .stream = true});
  EXPECT_THAT(late.sink->streamed, ElementsAre(0, 1));
  const TestJob unary = Add({.tokens = 5, .question = 1});
  Step();
  EXPECT_THAT(late.sink->streamed, ElementsAre(0, 1, 2));
  RunToEnd();
  for (const TestJob* stream : {&first, &early, &late}) {
    EXPECT_THAT(stream->sink->streamed, ElementsAre(0, 1, 2, 3, 4));
  }
  EXPECT_THAT(unary.sink->streamed, IsEmpty());
  EXPECT_EQ(scheduler().counters().admitted, 1);
}

// The engine reports no tokens of it, so a stream begins a sequence of its own. Who comes then joins what is further
// on, if it can.
TEST_F(SingleFlightTest, AStreamDoesNotJoinWhatDoesNotStream) {
  const JobShape shape{.tokens = 6, .question = 1};
  JobShape streaming = shape;
  streaming.stream = true;
  const TestJob unary = Add(shape);
  Steps(2);
  const TestJob stream = Add(streaming);
  EXPECT_EQ(scheduler().queued(), 1u);
  const TestJob second = Add(shape), third = Add(streaming);
  EXPECT_THAT(Step(), ElementsAre(stream.job->id()));
  Steps(4);
  ExpectAnswer(unary, {0, 1, 2, 3, 4, 5}, AnsweredBy::kComputing);
  ExpectAnswer(second, {0, 1, 2, 3, 4, 5}, AnsweredBy::kSharing);
  EXPECT_FALSE(stream.sink->is_done());
  const TestJob fourth = Add(shape);
  RunToEnd();
  EXPECT_THAT(third.sink->streamed, ElementsAre(0, 1, 2, 3, 4, 5));
  ExpectAnswer(third, {0, 1, 2, 3, 4, 5}, AnsweredBy::kSharing);
  ExpectAnswer(fourth, {0, 1, 2, 3, 4, 5}, AnsweredBy::kSharing);
  EXPECT_EQ(scheduler().counters().admitted, 2);
}

TEST_F(SingleFlightTest, StaticBatchesAreJoinedToo) {
  Use({.admit_only_when_idle = true});
  const JobShape shape{.tokens = 6, .question = 1};
  const TestJob first = Add(shape);
  Steps(2);
  const TestJob second = Add(shape), other = Add({});
  EXPECT_THAT(Step(), IsEmpty());
  while (!first.sink->is_done()) EXPECT_THAT(Step(), IsEmpty());
  EXPECT_TRUE(second.sink->is_done());
  EXPECT_THAT(Step(), ElementsAre(other.job->id()));
  RunToEnd();
}

TEST_F(SingleFlightTest, EndAllEndsEveryMember) {
  const std::vector<TestJob> running = AddMany(3, {.rows = 8, .tokens = 100, .question = 1});
  Step();
  const std::vector<TestJob> queued = AddMany(3, {.rows = 8, .question = 2});
  scheduler().EndAll(now_, absl::InternalError("in flight"), absl::UnavailableError("queued"));
  for (const TestJob& job : running) EXPECT_TRUE(absl::IsInternal(job.sink->result.status));
  for (const TestJob& job : queued) EXPECT_TRUE(absl::IsUnavailable(job.sink->result.status));
  Step();
  EXPECT_EQ(plan_.ends.size(), 1u);
  EXPECT_TRUE(scheduler().idle());
  EXPECT_EQ(engine_.free(), kCapacity);
}

TEST_F(SingleFlightTest, WhatAnIdleEngineHasNoRoomForFailsEveryMember) {
  std::vector<TestJob> made = {MakeJob({.question = 1}), MakeJob({.question = 1})};
  for (const TestJob& job : made) {
    scheduler().Add(now_, {.job = job.job, .resources = {.rows = 9}, .submitted = now_});
  }
  RunToEnd();
  for (const TestJob& job : made) EXPECT_TRUE(absl::IsInternal(job.sink->result.status));
}

TEST_F(SingleFlightTest, AJobThatWasCancelledBeforeJoinsNothing) {
  const TestJob first = Add({.question = 1});
  const TestJob made = MakeJob({.question = 1});
  made.job->Cancel();
  scheduler().Add(now_ + milliseconds(5), {.job = made.job, .resources = {.rows = 1}, .submitted = now_});
  ASSERT_TRUE(made.sink->is_done());
  EXPECT_TRUE(absl::IsCancelled(made.sink->result.status));
  EXPECT_DOUBLE_EQ(made.sink->result.timings.queue_seconds, 0.005);
  RunToEnd();
  EXPECT_EQ(scheduler().counters().cancelled, 1);
  EXPECT_EQ(scheduler().counters().added, 2);
}

TEST_F(SingleFlightTest, AnAnswerIsKept) {
  Use({.answer_cache_bytes = 1 << 20});
  const JobShape shape{.question = 1, .seed = 3};
  Add(shape);
  RunToEnd();
  const int steps = engine_.steps;
  const TestJob made = MakeJob({.question = 1, .seed = 3, .stream = true});
  scheduler().Add(now_ + milliseconds(7), {.job = made.job, .resources = {.rows = 1}, .submitted = now_});
  ExpectAnswer(made, {3, 4, 5}, AnsweredBy::kCache);
  EXPECT_THAT(made.sink->streamed, IsEmpty());
  EXPECT_DOUBLE_EQ(made.sink->result.timings.queue_seconds, 0.007);
  EXPECT_EQ(made.sink->result.timings.steps, 0);
  EXPECT_TRUE(scheduler().idle());
  const TestJob other = Add({.question = 1, .seed = 3, .principal = "a"});
  EXPECT_FALSE(other.sink->is_done());
  RunToEnd();
  EXPECT_GT(engine_.steps, steps);
  const Scheduler::Counters& counters = scheduler().counters();
  EXPECT_EQ(counters.added, 3);
  EXPECT_EQ(counters.admitted, 2);
  EXPECT_EQ(counters.finished, 3);
  EXPECT_EQ(counters.cached, 1);
  EXPECT_EQ(counters.shared, 0);
  EXPECT_EQ(counters.generated_tokens, 6);
  EXPECT_EQ(scheduler().answer_cache().entries, 2);
}

TEST_F(SingleFlightTest, AnswersAreKeptWithoutSharingToo) {
  Use({.single_flight = false, .answer_cache_bytes = 1 << 20});
  AddMany(2, {.question = 1});
  RunToEnd();
  EXPECT_EQ(scheduler().counters().admitted, 2);
  EXPECT_EQ(scheduler().answer_cache().entries, 1);
  ExpectAnswer(Add({.question = 1}), {0, 1, 2}, AnsweredBy::kCache);
}

TEST_F(SingleFlightTest, NothingIsKeptUnlessAsked) {
  Add({.question = 1});
  RunToEnd();
  EXPECT_FALSE(Add({.question = 1}).sink->is_done());
  EXPECT_EQ(scheduler().answer_cache().bytes, 0);
}

// With a cost that grows with the members this would take minutes.
TEST_F(SingleFlightTest, ManyMembersCostNothingPerStep) {
  Add({.tokens = kEndless, .question = 1});
  Step();
  std::vector<TestJob> members =
      AddMany(100000, {.tokens = kEndless, .question = 1, .deadline = now_ + seconds(10000)});
  const Resources free = engine_.free();
  for (int i = 0; i < 100000; ++i) scheduler().Plan(now_, free, &plan_);
  for (size_t i = 0; i < members.size(); i += 2) Cancel(members[members.size() / 2 + i / 2]);
  now_ += seconds(10001);
  Steps(2);
  EXPECT_EQ(scheduler().counters().cancelled, 50000);
  EXPECT_EQ(scheduler().counters().finished + scheduler().counters().expired, 50000);
}

}  // namespace
}  // namespace elserve
