// What equal jobs are promised, under thousands of random arrivals of few kinds, with streams, deadlines of both kinds,
// cancellations and failures, in made-up time.
#include <algorithm>
#include <chrono>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "server/scheduling/scheduler.h"
#include "tests/server/scheduling/fake_engine.h"

namespace elserve {
namespace {

using std::chrono::milliseconds;

constexpr Resources kCapacity{.rows = 12, .encoder_pages = 40, .decoder_blocks = 60, .edits = 20};

struct Traffic {
  int kinds = 10;        // of jobs that are equal among themselves
  bool streams = false;  // some do
  bool ends = false;     // some are cancelled, have deadlines or fail
  int most_at_once = 40;
  SchedulerOptions options = {};
};

class Simulation {
 public:
  Simulation(int seed, const Traffic& traffic)
      : random_(static_cast<uint32_t>(seed)),
        traffic_(traffic),
        scheduler_(traffic.options, /*shares_documents=*/true),
        engine_(kCapacity) {
    for (int kind = 0; kind < traffic.kinds; ++kind) {
      shapes_.push_back({.rows = Uniform(1, 6),
                         .tokens = Uniform(1, 30),
                         .source_tokens = Uniform(1, 10 * 64),
                         .document = Uniform(1, traffic.kinds / 2),
                         .question = kind + 1,
                         .seed = static_cast<uint64_t>(1000 * kind)});
    }
  }

  void Run(int arrivals) {
    while (arrivals > 0 || !scheduler_.idle()) {
      const int burst = Uniform(0, 9) == 0 ? Uniform(0, traffic_.most_at_once) : 0;
      for (int n = std::min(burst, arrivals); n > 0; --n, --arrivals) Arrive();
      if (traffic_.ends && Uniform(0, 2) == 0) CancelOne();
      Step();
      if (::testing::Test::HasFailure()) return;
      ASSERT_LT(++steps_, 1000000) << "somebody waits for ever";
    }
    CheckEnd();
  }
  // All at once, then to the end.
  void RunAtOnce(int arrivals) {
    for (int n = 0; n < arrivals; ++n) Arrive();
    Run(0);
  }

  const Scheduler& scheduler() const { return scheduler_; }
  int cut() const { return cut_; }

 private:
  struct Known {
    size_t kind;
    TestJob made;
    bool cancelled = false;
  };

  int Uniform(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  void Arrive() {
    Known known{.kind = static_cast<size_t>(Uniform(0, traffic_.kinds - 1)), .made = {}};
    JobShape shape = shapes_[known.kind];
    if (traffic_.streams) shape.stream = Uniform(0, 2) == 0;
    if (traffic_.ends) {
      if (Uniform(0, 2) == 0) shape.deadline = now_ + milliseconds(Uniform(-5, 1000));
      if (Uniform(0, 1) == 0) shape.at_deadline = EndKind::kDiscard;
    }
    known.made = MakeJob(shape);
    const SequenceId id = known.made.job->id();
    if (traffic_.ends && Uniform(0, 60) == 0) {
      engine_.failing.insert(id);
      failing_kinds_.insert(known.kind);
    }
    const Resources resources =
        *engine_.Measure({.source_tokens = shape.source_tokens, .decoding = &known.made.job->decoding()});
    jobs_.emplace(id, known);
    open_.push_back(id);
    scheduler_.Add(now_, {.job = known.made.job, .resources = resources, .submitted = now_});
  }

  void CancelOne() {
    if (open_.empty()) return;
    Known& known = jobs_.at(open_[static_cast<size_t>(Uniform(0, static_cast<int>(open_.size()) - 1))]);
    const bool was_done = known.made.sink->is_done();
    known.cancelled = true;
    const size_t others = Open() - (was_done ? 0 : 1);
    scheduler_.Cancel(now_, known.made.job->id());
    ASSERT_TRUE(known.made.sink->is_done());
    ASSERT_TRUE(was_done || absl::IsCancelled(known.made.sink->result.status));
    ASSERT_EQ(Open(), others) << "cancelling one ended another";
  }

  size_t Open() const {
    return static_cast<size_t>(std::count_if(open_.begin(), open_.end(),
                                             [this](SequenceId id) { return !jobs_.at(id).made.sink->is_done(); }));
  }

  void Step() {
    const TimePoint planned = now_;
    scheduler_.Plan(now_, engine_.free(), &plan_);
    ASSERT_TRUE(engine_.Step(plan_, &result_).ok());
    now_ += milliseconds(Uniform(1, 20));
    scheduler_.Commit(now_, &result_);
    ASSERT_EQ(engine_.in_flight(), scheduler_.in_flight());
    if (traffic_.options.single_flight) {
      // An equal one beside it only where it streams and the first does not.
      ASSERT_LE(scheduler_.in_flight() + scheduler_.queued(),
                static_cast<size_t>(traffic_.kinds * (traffic_.streams ? 2 : 1)));
    }
    std::erase_if(open_, [this](SequenceId id) { return jobs_.at(id).made.sink->is_done(); });
    for (const SequenceId id : open_) {
      const std::optional<JobDeadline>& deadline = jobs_.at(id).made.job->deadline();
      ASSERT_TRUE(!deadline || deadline->at > planned) << "a deadline was missed";
    }
  }

  std::vector<int32_t> AnswerOf(size_t kind) const {
    std::vector<int32_t> tokens(static_cast<size_t>(shapes_[kind].tokens));
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(shapes_[kind].seed + i);
    return tokens;
  }
  static bool Begins(const std::vector<int32_t>& whole, const std::vector<int32_t>& part) {
    return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
  }

  void CheckAnswer(const Known& known) {
    const JobResult& result = known.made.sink->result;
    const std::vector<int32_t>& streamed = known.made.sink->streamed;
    const std::vector<int32_t> whole = AnswerOf(known.kind);
    ASSERT_EQ(result.hypotheses.size(), 1u);
    const std::vector<int32_t>& tokens = result.hypotheses[0].tokens;
    if (result.deadline_reached) {
      ++cut_;
      ASSERT_EQ(known.made.job->deadline()->end, EndKind::kFinish);
      ASSERT_NE(result.answered_by, AnsweredBy::kCache);
      ASSERT_TRUE(Begins(whole, tokens));
      ASSERT_FALSE(tokens.empty());
      ASSERT_LT(tokens.size(), whole.size());
    } else {
      ASSERT_EQ(tokens, whole);
    }
    const bool told = known.made.job->stream() && result.answered_by != AnsweredBy::kCache;
    ASSERT_EQ(streamed, told ? tokens : std::vector<int32_t>());
  }

  void CheckEnd() {
    EXPECT_EQ(engine_.free(), kCapacity);
    EXPECT_EQ(scheduler_.queued(), 0u);
    Scheduler::Counters seen;
    for (const auto& [id, known] : jobs_) {
      ASSERT_TRUE(known.made.sink->is_done());
      const JobResult& result = known.made.sink->result;
      ++seen.added;
      ASSERT_TRUE(Begins(AnswerOf(known.kind), known.made.sink->streamed));
      if (result.status.ok()) {
        ++seen.finished;
        if (result.answered_by == AnsweredBy::kSharing) ++seen.shared;
        if (result.answered_by == AnsweredBy::kCache) ++seen.cached;
        if (result.answered_by == AnsweredBy::kComputing) {
          seen.generated_tokens += static_cast<int64_t>(result.hypotheses[0].tokens.size());
        }
        CheckAnswer(known);
      } else if (absl::IsDeadlineExceeded(result.status)) {
        ++seen.expired;
        ASSERT_TRUE(known.made.job->deadline().has_value());
      } else if (absl::IsCancelled(result.status)) {
        ++seen.cancelled;
        ASSERT_TRUE(known.cancelled);
      } else {
        ++seen.failed;
        ASSERT_TRUE(failing_kinds_.contains(known.kind)) << result.status;
      }
    }
    const Scheduler::Counters& counters = scheduler_.counters();
    EXPECT_EQ(counters.added, seen.added);
    EXPECT_EQ(counters.finished, seen.finished);
    EXPECT_EQ(counters.shared, seen.shared);
    EXPECT_EQ(counters.cached, seen.cached);
    EXPECT_EQ(counters.cancelled, seen.cancelled);
    EXPECT_EQ(counters.expired, seen.expired);
    EXPECT_EQ(counters.failed, seen.failed);
    EXPECT_EQ(counters.generated_tokens, seen.generated_tokens);
    EXPECT_EQ(seen.added, static_cast<int64_t>(jobs_.size()));
    EXPECT_LE(scheduler_.answer_cache().bytes, traffic_.options.answer_cache_bytes);
    if (!traffic_.ends) {
      EXPECT_EQ(seen.finished, seen.added);
    }
  }

  std::mt19937 random_;
  const Traffic traffic_;
  Scheduler scheduler_;
  FakeEngine engine_;
  std::vector<JobShape> shapes_;  // of each kind
  std::set<size_t> failing_kinds_;
  TimePoint now_{std::chrono::seconds(1000)};
  StepPlan plan_;
  StepResult result_;
  std::map<SequenceId, Known> jobs_;
  std::vector<SequenceId> open_;  // of jobs_
  int steps_ = 0, cut_ = 0;
};

class SingleFlightPropertyTest : public ::testing::TestWithParam<int> {};

TEST_P(SingleFlightPropertyTest, AThousandJobsOfTenKindsCostTen) {
  Simulation simulation(GetParam(), {});
  simulation.RunAtOnce(1000);
  EXPECT_EQ(simulation.scheduler().counters().admitted, 10);
  EXPECT_EQ(simulation.scheduler().counters().shared, 990);
}

TEST_P(SingleFlightPropertyTest, WithACacheEachKindIsComputedOnceEver) {
  Simulation simulation(GetParam(), {.options = {.answer_cache_bytes = 1 << 20}});
  simulation.Run(1000);
  const Scheduler::Counters& counters = simulation.scheduler().counters();
  EXPECT_EQ(counters.admitted, 10);
  EXPECT_EQ(counters.shared + counters.cached, 990);
  EXPECT_GT(std::min(counters.shared, counters.cached), 0);
}

// A stream may find one in flight that does not stream: two of a kind.
TEST_P(SingleFlightPropertyTest, StreamsCostOneMoreOfAKindAtMost) {
  Simulation simulation(GetParam(), {.streams = true, .options = {.answer_cache_bytes = 1 << 20}});
  simulation.Run(1000);
  EXPECT_LE(simulation.scheduler().counters().admitted, 20);
}

TEST_P(SingleFlightPropertyTest, EachEndsForItself) {
  Simulation simulation(GetParam(), {.streams = true, .ends = true});
  simulation.Run(3000);
  const Scheduler::Counters& counters = simulation.scheduler().counters();
  EXPECT_LT(counters.admitted, counters.finished);
  EXPECT_GT(counters.shared, 0);
  EXPECT_GT(std::min({counters.finished, counters.cancelled, counters.expired, counters.failed}), 0);
  EXPECT_GT(simulation.cut(), 0);
}

TEST_P(SingleFlightPropertyTest, EachEndsForItselfBesideACacheOfAnySize) {
  for (const int64_t bytes : {400, 6000, 12000, 1 << 20}) {
    Simulation simulation(GetParam(), {.streams = true, .ends = true, .options = {.answer_cache_bytes = bytes}});
    simulation.Run(1000);
    const AnswerCacheCounts& cache = simulation.scheduler().answer_cache();
    EXPECT_EQ(cache.evictions > 0, bytes == 6000 || bytes == 12000) << bytes;
    EXPECT_EQ(cache.entries > 0, bytes > 400) << bytes;
    EXPECT_EQ(simulation.scheduler().counters().cached > 0, bytes > 400) << bytes;
  }
}

TEST_P(SingleFlightPropertyTest, ManyKindsAndStaticBatches) {
  Simulation simulation(
      GetParam(),
      {.kinds = 60, .streams = true, .ends = true, .options = {.max_overtakes = 2, .admit_only_when_idle = true}});
  simulation.Run(1000);
}

TEST_P(SingleFlightPropertyTest, SwitchedOff) {
  Simulation simulation(
      GetParam(), {.streams = true, .ends = true, .options = {.single_flight = false, .answer_cache_bytes = 20000}});
  simulation.Run(1000);
  EXPECT_EQ(simulation.scheduler().counters().shared, 0);
}

INSTANTIATE_TEST_SUITE_P(Seeds, SingleFlightPropertyTest, ::testing::Range(0, 5));

}  // namespace
}  // namespace elserve
