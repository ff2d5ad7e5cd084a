// A report tells what a sequence has and changes nothing: it is what the end in its place would have told.
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_fixture.h"

namespace elserve {
namespace {

using EngineReportTest = EngineTest;

struct Reported {
  Outcome outcome;  // of the sequence
  // By the number of decode steps before: what a report told.
  std::map<int, std::vector<Hypothesis>> reports;
};

// The request alone, with a report of it in every step.
Reported RunWithReports(Engine* engine, const Request& request, SequenceId id) {
  Reported run;
  StepPlan plan;
  plan.admissions.push_back({id, request.source, request.decoding, /*stream=*/true});
  StepResult result;
  for (int step = 0; step < 300 && !run.outcome.finished; ++step) {
    const int before = run.outcome.decode_steps;
    EXPECT_TRUE(engine->Step(plan, &result).ok());
    EXPECT_EQ(result.updates.size(), 1u);
    if (result.updates.size() != 1) break;
    SequenceUpdate& update = result.updates[0];
    EXPECT_EQ(update.id, id);
    run.outcome.encoded |= update.encoded;
    run.outcome.finished = update.finished;
    run.outcome.decode_steps += update.decoded_rows > 0;
    run.outcome.streamed.insert(run.outcome.streamed.end(), update.tokens.begin(), update.tokens.end());
    if (update.finished) {
      run.outcome.hypotheses = update.hypotheses;
    } else if (step > 0) {
      run.reports[before] = update.hypotheses;
    } else {
      EXPECT_TRUE(update.hypotheses.empty()) << "a report that nobody asked for";
    }
    plan = {};
    plan.ends.push_back({id, EndKind::kReport});
  }
  EXPECT_TRUE(result.idle);
  EXPECT_EQ(engine->free(), engine->info().capacity);
  return run;
}

// Requests of all kinds: greedy, beams, groups of them, drawn, given; with rules and alternatives.
TEST_F(EngineReportTest, TellsWhatAnEndWouldTell) {
  EngineOptions options = OptionsFor(TinyCheckpoint(), kFloat32El, &pool_);
  options.encoder_cache = false;  // so that each run encodes in steps of its own
  const std::unique_ptr<Engine> engine = LoadEngine(options);
  ASSERT_TRUE(engine);
  const std::vector<Request> requests = RandomRequests(60, {96, 16, 283}, /*seed=*/81);
  const std::vector<Outcome> alone = RunAlone(engine.get(), requests);
  SequenceId id = uint64_t{1} << 50;
  int greedy = 0, beams = 0, drawn = 0, alternatives = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const Reported run = RunWithReports(engine.get(), requests[i], id++);
    ASSERT_EQ(BitDifference(alone[i], run.outcome), "") << "request " << i;
    for (const auto& [steps, hypotheses] : run.reports) {
      if (steps % 3 == 2) continue;  // for the time that it takes
      Request ended = requests[i];
      ended.end_after_decode_steps = steps;
      ended.end = EndKind::kFinish;
      const Outcome expected = RunAlone(engine.get(), std::vector<Request>{ended})[0];
      Outcome reported = expected;
      reported.hypotheses = hypotheses;
      ASSERT_EQ(BitDifference(expected, reported), "") << "request " << i << " after " << steps << " steps";
      const DecodingSpec& d = requests[i].decoding;
      if (hypotheses.empty()) continue;
      greedy += d.num_beams == 1 && !d.do_sample;
      beams += d.num_beams > 1;
      drawn += d.do_sample;
      alternatives += d.top_logprobs > 0;
    }
  }
  EXPECT_GT(greedy, 20);
  EXPECT_GT(beams, 20);
  EXPECT_GT(drawn, 20);
  EXPECT_GT(alternatives, 20);
}

// Of some sequences at any step, others beside them; what is done with the reports' memory is the caller's.
TEST_F(EngineReportTest, ChangesNoAnswer) {
  const std::unique_ptr<Engine> engine = Load(TinyCheckpoint());
  ASSERT_TRUE(engine);
  const std::vector<Request> requests = RandomRequests(80, {96, 30, 283}, /*seed=*/82);
  const std::vector<Outcome> alone = RunAlone(engine.get(), requests);
  std::vector<StepPlan> plans;
  Traffic recorded(engine.get(), requests);
  recorded.Record(&plans);
  std::vector<size_t> order(requests.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  recorded.Run(order, 3);

  std::mt19937 rng(84);
  const SequenceId first = plans[0].admissions[0].id, renewed = uint64_t{1} << 51;
  std::map<SequenceId, Outcome> outcomes;
  std::vector<SequenceId> in_flight;
  StepResult result;
  int reports = 0;
  for (StepPlan& plan : plans) {
    for (const SequenceId id : in_flight) {
      if (rng() % 3 == 0) plan.ends.push_back({id, EndKind::kReport});
    }
    for (Admission& admission : plan.admissions) {
      admission.id += renewed;
      in_flight.push_back(admission.id);
    }
    ASSERT_TRUE(engine->Step(plan, &result).ok());
    for (SequenceUpdate& update : result.updates) {
      Outcome& outcome = outcomes[update.id];
      outcome.encoded |= update.encoded;
      outcome.decode_steps += update.decoded_rows > 0;
      outcome.streamed.insert(outcome.streamed.end(), update.tokens.begin(), update.tokens.end());
      if (!update.finished) {
        reports += !update.hypotheses.empty();
        if (rng() % 2 == 0) std::vector<Hypothesis>().swap(update.hypotheses);
        continue;
      }
      outcome.finished = true;
      outcome.hypotheses = update.hypotheses;
      std::erase(in_flight, update.id);
    }
  }
  EXPECT_TRUE(result.idle);
  EXPECT_EQ(engine->free(), engine->info().capacity);
  EXPECT_GT(reports, 200);
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_EQ(BitDifference(alone[i], outcomes[first + renewed + i]), "") << "request " << i;
  }
}

TEST_F(EngineReportTest, OfASequenceThatDoesNotDecodeIsEmpty) {
  // Three encoder layers, one a step.
  const std::string checkpoint = ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/bart-relu";
  const std::unique_ptr<Engine> engine = Load(checkpoint, /*encode_tokens_per_step=*/1);
  ASSERT_TRUE(engine);
  StepPlan plan;
  plan.admissions.push_back({1, std::vector<int32_t>(40, 7), Decoding(2, 8), false});
  StepResult result;
  ASSERT_TRUE(engine->Step(plan, &result).ok());
  ASSERT_EQ(result.encoded_tokens, 0) << "it is to be under way";
  plan = {};
  plan.ends.push_back({1, EndKind::kReport});
  plan.ends.push_back({2, EndKind::kReport});  // not in flight: it finished in the step before
  ASSERT_TRUE(engine->Step(plan, &result).ok());
  ASSERT_EQ(result.updates.size(), 1u);
  EXPECT_FALSE(result.updates[0].finished);
  EXPECT_TRUE(result.updates[0].hypotheses.empty());
  plan = {};
  while (!result.idle) ASSERT_TRUE(engine->Step(plan, &result).ok());
  ASSERT_EQ(result.updates.size(), 1u);
  EXPECT_EQ(result.updates[0].hypotheses.size(), 1u);
}

}  // namespace
}  // namespace elserve
