// The Scheduler's promises under thousands of random arrivals, sizes, durations, deadlines, cancellations and failures,
// in made-up time. A plain list beside it says what each plan may and must admit.
#include <algorithm>
#include <chrono>
#include <list>
#include <map>
#include <random>

#include "gtest/gtest.h"
#include "server/scheduling/scheduler.h"
#include "tests/server/scheduling/fake_engine.h"

namespace elserve {
namespace {

using std::chrono::milliseconds;

constexpr Resources kCapacity{.rows = 32, .encoder_pages = 40, .decoder_blocks = 60, .edits = 20};

class Simulation {
 public:
  // `documents`: how many different sources come, besides those that come once.
  Simulation(int seed, const SchedulerOptions& options, int documents = 0)
      : random_(static_cast<uint32_t>(seed)),
        options_(options),
        documents_(documents),
        scheduler_(options, /*shares_documents=*/true),
        engine_(kCapacity) {}

  void Run(int arrivals) {
    while (arrivals > 0 || !scheduler_.idle()) {
      // Bursts and lulls.
      for (int n = Uniform(0, 9) == 0 ? Uniform(0, 80) : 0; n > 0 && arrivals > 0; --n, --arrivals) Arrive();
      if (Uniform(0, 3) == 0) CancelOne();
      PlanAndCheck();
      if (::testing::Test::HasFailure()) return;
      ASSERT_TRUE(engine_.Step(plan_, &result_).ok());
      now_ += milliseconds(Uniform(1, 20));
      scheduler_.Commit(now_, &result_);
      ASSERT_EQ(engine_.in_flight(), scheduler_.in_flight());
      ASSERT_LT(++steps_, 1000000) << "somebody waits for ever";
    }
    CheckEnd();
  }

 private:
  struct Known {
    TestJob made;
    Resources resources;
    bool cancelled = false;
  };

  int Uniform(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  void Arrive() {
    JobShape shape{.rows = Uniform(1, 8), .tokens = Uniform(1, 30), .source_tokens = Uniform(1, 10 * 64)};
    if (Uniform(0, 30) == 0) shape.rows = 32;  // needs the engine for itself
    if (documents_ > 0 && Uniform(0, 3) != 0) {
      shape.document = Uniform(1, documents_);
      shape.source_tokens = 1 + 37 * shape.document % (10 * 64);
    }
    shape.blocks = Uniform(0, 20);
    shape.edits = Uniform(0, 6);
    if (Uniform(0, 3) == 0) shape.deadline = now_ + milliseconds(Uniform(-5, 2000));
    if (Uniform(0, 1) == 0) shape.at_deadline = EndKind::kDiscard;
    Known known{.made = MakeJob(shape), .resources = {}};
    const SequenceId id = known.made.job->id();
    known.resources = *engine_.Measure({.source_tokens = shape.source_tokens, .decoding = &known.made.job->decoding()});
    if (Uniform(0, 20) == 0) engine_.failing.insert(id);
    scheduler_.Add(now_, {.job = known.made.job, .resources = known.resources, .submitted = now_});
    jobs_.emplace(id, std::move(known));
    waiting_.push_back(id);
  }

  void CancelOne() {
    if (jobs_.empty()) return;
    auto it = jobs_.lower_bound(jobs_.rbegin()->first - static_cast<SequenceId>(Uniform(0, 150)));
    if (it == jobs_.end()) it = jobs_.begin();
    const bool was_done = it->second.made.sink->is_done();
    it->second.cancelled = true;
    scheduler_.Cancel(now_, it->first);
    ASSERT_TRUE(it->second.made.sink->is_done());
    ASSERT_TRUE(was_done || absl::IsCancelled(it->second.made.sink->result.status));
  }

  void PlanAndCheck() {
    const bool nothing_in_flight = engine_.in_flight() == 0;
    Resources free = engine_.free();
    scheduler_.Plan(now_, free, &plan_);
    // Cancelled and expired ones left the queue before anybody was admitted.
    const auto done = [this](SequenceId id) { return jobs_.at(id).made.sink->is_done(); };
    waiting_.remove_if(done);
    in_flight_.remove_if(done);
    if (options_.admit_only_when_idle && !nothing_in_flight) {
      ASSERT_TRUE(plan_.admissions.empty());
      return;
    }
    for (const Admission& admission : plan_.admissions) {
      ASSERT_EQ(FirstThatFits(free), admission.id);
      NoteHead();
      if (waiting_.front() != admission.id) {
        ++overtakes_;
        ASSERT_LE(overtakes_, options_.max_overtakes) << "the head was overtaken too often";
      }
      free -= Cost(admission.id);
      in_flight_.push_back(admission.id);
      waiting_.remove(admission.id);
    }
    // Nobody who could have been admitted was left.
    NoteHead();
    if (overtakes_ < options_.max_overtakes) {
      ASSERT_EQ(FirstThatFits(free), SequenceId{0});
    } else if (!waiting_.empty()) {
      ASSERT_FALSE(Cost(waiting_.front()).Fits(free));
    }
  }

  // 0: none of the first 64.
  SequenceId FirstThatFits(const Resources& free) const {
    int looked = 0;
    for (const SequenceId id : waiting_) {
      if (++looked > 64) break;
      if (Cost(id).Fits(free)) return id;
    }
    return 0;
  }

  // No pages where a job in flight has the source.
  Resources Cost(SequenceId id) const {
    const Known& known = jobs_.at(id);
    Resources cost = known.resources;
    for (const SequenceId other : in_flight_) {
      if (jobs_.at(other).made.job->source() == known.made.job->source()) cost.encoder_pages = 0;
    }
    return cost;
  }

  void NoteHead() {
    const SequenceId head = waiting_.empty() ? 0 : waiting_.front();
    if (head != head_) overtakes_ = 0;
    head_ = head;
  }

  void CheckEnd() {
    EXPECT_EQ(engine_.free(), kCapacity);
    EXPECT_EQ(scheduler_.queued(), 0u);
    const Scheduler::Counters& counters = scheduler_.counters();
    EXPECT_EQ(counters.added, static_cast<int64_t>(jobs_.size()));
    EXPECT_EQ(counters.added, counters.finished + counters.cancelled + counters.expired + counters.failed);
    EXPECT_GT(std::min({counters.finished, counters.cancelled, counters.expired, counters.failed}), 0);
    for (const auto& [id, known] : jobs_) {
      ASSERT_TRUE(known.made.sink->is_done());
      const JobResult& result = known.made.sink->result;
      if (result.status.ok()) {
        ASSERT_EQ(result.hypotheses.size(), 1u);
        const int tokens = static_cast<int>(result.hypotheses[0].tokens.size());
        ASSERT_TRUE(result.deadline_reached || tokens == known.made.job->decoding().max_length - 1);
        ASSERT_TRUE(!result.deadline_reached || known.made.job->deadline()->end == EndKind::kFinish);
        ASSERT_EQ(result.timings.steps, tokens);
      } else if (absl::IsDeadlineExceeded(result.status)) {
        ASSERT_TRUE(known.made.job->deadline().has_value());
      } else if (absl::IsCancelled(result.status)) {
        ASSERT_TRUE(known.cancelled);
      } else {
        ASSERT_TRUE(engine_.failing.contains(id)) << result.status;
      }
    }
  }

  std::mt19937 random_;
  const SchedulerOptions options_;
  const int documents_;
  Scheduler scheduler_;
  FakeEngine engine_;
  TimePoint now_{std::chrono::seconds(1000)};
  StepPlan plan_;
  StepResult result_;
  std::map<SequenceId, Known> jobs_;
  std::list<SequenceId> waiting_, in_flight_;  // as the rules say
  SequenceId head_ = 0;
  int overtakes_ = 0;  // of head_
  int steps_ = 0;
};

class SchedulerPropertyTest : public ::testing::TestWithParam<int> {};

TEST_P(SchedulerPropertyTest, Continuous) { Simulation(GetParam(), {}).Run(2000); }
TEST_P(SchedulerPropertyTest, FewOvertakes) { Simulation(GetParam(), {.max_overtakes = 2}).Run(1000); }
TEST_P(SchedulerPropertyTest, NoOvertakes) { Simulation(GetParam(), {.max_overtakes = 0}).Run(1000); }
TEST_P(SchedulerPropertyTest, StaticBatches) {
  Simulation(GetParam(), {.max_overtakes = 16, .admit_only_when_idle = true}).Run(1000);
}
TEST_P(SchedulerPropertyTest, SharedDocuments) { Simulation(GetParam(), {}, /*documents=*/40).Run(1000); }
TEST_P(SchedulerPropertyTest, FewSharedDocuments) {
  Simulation(GetParam(), {.max_overtakes = 2}, /*documents=*/4).Run(1000);
}

INSTANTIATE_TEST_SUITE_P(Seeds, SchedulerPropertyTest, ::testing::Range(0, 5));

}  // namespace
}  // namespace elserve
