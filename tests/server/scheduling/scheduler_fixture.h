// What tests of the Scheduler share.
#ifndef ELSERVE_TESTS_SERVER_SCHEDULING_SCHEDULER_FIXTURE_H_
#define ELSERVE_TESTS_SERVER_SCHEDULING_SCHEDULER_FIXTURE_H_

#include <chrono>
#include <optional>
#include <vector>

#include "gtest/gtest.h"
#include "server/scheduling/scheduler.h"
#include "tests/server/scheduling/fake_engine.h"

namespace elserve {

inline constexpr Resources kCapacity{.rows = 8, .encoder_pages = 1000, .decoder_blocks = 1000, .edits = 1000};

// A scheduler, an engine and a time that passes by hand.
class SchedulerTest : public ::testing::Test {
 protected:
  void Use(const SchedulerOptions& options) { scheduler_.emplace(options, /*shares_documents=*/true); }
  Scheduler& scheduler() {
    if (!scheduler_.has_value()) Use({});
    return *scheduler_;
  }

  TestJob Add(const JobShape& shape) {
    TestJob made = MakeJob(shape);
    const Resources resources =
        *engine_.Measure({.source_tokens = shape.source_tokens, .decoding = &made.job->decoding()});
    scheduler().Add(now_, {.job = made.job, .resources = resources, .submitted = now_});
    return made;
  }
  std::vector<TestJob> AddMany(int count, const JobShape& shape) {
    std::vector<TestJob> jobs;
    for (int i = 0; i < count; ++i) jobs.push_back(Add(shape));
    return jobs;
  }
  // The ids that this step admitted.
  std::vector<SequenceId> Step() {
    scheduler().Plan(now_, engine_.free(), &plan_);
    std::vector<SequenceId> admitted;
    for (const Admission& admission : plan_.admissions) admitted.push_back(admission.id);
    EXPECT_TRUE(engine_.Step(plan_, &result_).ok());
    now_ += std::chrono::milliseconds(10);
    scheduler().Commit(now_, &result_);
    return admitted;
  }
  void Steps(int count) {
    for (int i = 0; i < count; ++i) Step();
  }
  void RunToEnd() {
    for (int i = 0; i < 1000 && !scheduler().idle(); ++i) Step();
    EXPECT_TRUE(scheduler().idle());
    EXPECT_EQ(engine_.free(), kCapacity);
  }
  void Cancel(const TestJob& job) { scheduler().Cancel(now_, job.job->id()); }

  FakeEngine engine_{kCapacity};
  TimePoint now_{std::chrono::seconds(1000)};
  StepPlan plan_;
  StepResult result_;
  std::optional<Scheduler> scheduler_;
};

// The fixture's jobs of one question and shape are equal. A job of n tokens takes n + 1 steps of 10 ms.
class SingleFlightTest : public SchedulerTest {
 protected:
  static void ExpectAnswer(const TestJob& job, const std::vector<int32_t>& tokens, AnsweredBy answered_by) {
    ASSERT_TRUE(job.sink->is_done());
    const JobResult& result = job.sink->result;
    ASSERT_TRUE(result.status.ok()) << result.status;
    ASSERT_EQ(result.hypotheses.size(), 1u);
    EXPECT_EQ(result.hypotheses[0].tokens, tokens);
    EXPECT_EQ(result.answered_by, answered_by);
  }
  // An answer in part, at a deadline.
  static void ExpectCut(const TestJob& job, const std::vector<int32_t>& tokens, AnsweredBy answered_by) {
    ExpectAnswer(job, tokens, answered_by);
    EXPECT_TRUE(job.sink->result.deadline_reached);
  }
};

}  // namespace elserve

#endif  // ELSERVE_TESTS_SERVER_SCHEDULING_SCHEDULER_FIXTURE_H_
