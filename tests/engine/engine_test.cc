// What the engine reports while sequences run, what it refuses to run, and that it gets its memory back wherever they
// end.
#include "engine/engine.h"

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/engine/engine_fixture.h"

namespace elserve {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Three encoder layers and 48 positions: a document takes three steps if the budget pays one layer a step.
std::string SlowCheckpoint() { return ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/bart-relu"; }
TEST_F(EngineTest, MeasureCountsTheWorstCase) {
  const std::unique_ptr<Engine> engine = Load(TinyCheckpoint());
  ASSERT_TRUE(engine);
  DecodingSpec d = Decoding(3, 20);
  absl::StatusOr<Resources> r = engine->Measure({65, &d});
  ASSERT_TRUE(r.ok()) << r.status();
  EXPECT_EQ(*r, (Resources{.rows = 3, .encoder_pages = 2, .decoder_blocks = 4, .edits = 0}));  // 3 x 19 = 57 cells
  d = Decoding(1, 17);
  d.eos_token_id = {2, 3};
  d.min_length = 5;
  r = engine->Measure({64, &d});
  ASSERT_TRUE(r.ok()) << r.status();
  EXPECT_EQ(*r, (Resources{.rows = 1, .encoder_pages = 1, .decoder_blocks = 1, .edits = 2}));
}

TEST_F(EngineTest, MeasureNamesTheLimitThatCanNeverBeMet) {
  const std::unique_ptr<Engine> engine = Load(TinyCheckpoint());
  ASSERT_TRUE(engine);
  const auto error = [&](int source, const DecodingSpec& d) {
    const absl::Status status = engine->Measure({source, &d}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(error(0, Decoding(1, 20)), HasSubstr("no tokens"));
  EXPECT_THAT(error(97, Decoding(1, 20)), AllOf(HasSubstr("tokens is 97"), HasSubstr("is 96")));
  EXPECT_THAT(error(96, Decoding(1, 97)), AllOf(HasSubstr("max_length is 97"), HasSubstr("is 96")));
  EXPECT_THAT(error(96, Decoding(25, 20)), AllOf(HasSubstr("num_beams is 25"), HasSubstr("max_rows is 24")));
  DecodingSpec alternatives = Decoding(13, 20);
  alternatives.top_logprobs = 1;
  EXPECT_THAT(error(96, alternatives),
              AllOf(HasSubstr("num_beams x 2 (for top_logprobs) is 26"), HasSubstr("max_rows is 24")));
  EXPECT_THAT(error(96, Decoding(11, 96)),
              AllOf(HasSubstr("num_beams x (max_length - 1) is 1045"), HasSubstr("is 1024")));
  const DecodingSpec longest = Decoding(1, 96), widest = Decoding(24, 40);
  EXPECT_TRUE(engine->Measure({96, &longest}).ok());
  EXPECT_TRUE(engine->Measure({96, &widest}).ok());
}

// Streams only grow, and end as the best answer.
TEST_F(EngineTest, StreamsAreTheBestAnswer) {
  const std::unique_ptr<Engine> engine = Load(TinyCheckpoint());
  ASSERT_TRUE(engine);
  std::vector<Request> requests = RandomRequests(120, {96, 40, 283}, /*seed=*/41);
  for (size_t i = 0; i < requests.size(); i += 3) {
    requests[i].end_after_decode_steps = static_cast<int>(i) / 3 % requests[i].decoding.max_length;
    requests[i].end = EndKind::kFinish;
  }
  const std::vector<Outcome> outcomes = RunTogether(engine.get(), requests, 3, 42);
  int streamed_before_end = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const Outcome& outcome = outcomes[i];
    ASSERT_TRUE(outcome.finished) << "request " << i;
    const bool ended = requests[i].end_after_decode_steps >= 0;
    if (!ended) {
      ASSERT_EQ(outcome.hypotheses.size(), static_cast<size_t>(requests[i].decoding.num_return_sequences));
      const bool given = requests[i].decoding.score_from > 0;  // nothing is generated
      EXPECT_EQ(outcome.streamed, given ? std::vector<int32_t>() : outcome.hypotheses[0].tokens) << "request " << i;
    } else if (outcome.hypotheses.empty()) {
      EXPECT_TRUE(outcome.streamed.empty());
    } else {
      const std::vector<int32_t>& best = outcome.hypotheses[0].tokens;
      ASSERT_LE(outcome.streamed.size(), best.size());
      EXPECT_TRUE(std::equal(outcome.streamed.begin(), outcome.streamed.end(), best.begin())) << "request " << i;
      streamed_before_end += !outcome.streamed.empty();
    }
  }
  EXPECT_GT(streamed_before_end, 5);
}

TEST_F(EngineTest, TokensAreReportedOnlyToStreams) {
  const std::unique_ptr<Engine> engine = Load(TinyCheckpoint());
  ASSERT_TRUE(engine);
  StepPlan plan;
  plan.admissions.push_back({1, {0, 5, 2}, Decoding(2, 10), /*stream=*/false});
  StepResult result;
  for (int step = 0; step < 30; ++step) {
    ASSERT_TRUE(engine->Step(plan, &result).ok());
    plan = {};
    for (const SequenceUpdate& update : result.updates) EXPECT_TRUE(update.tokens.empty());
    if (result.idle) break;
  }
  EXPECT_TRUE(result.idle);
  EXPECT_EQ(engine->free(), engine->info().capacity);
}

// What has been decoded is reported, for each number of steps.
TEST_F(EngineTest, FinishReportsWhatThereIs) {
  EngineOptions options = OptionsFor(TinyCheckpoint(), kFloat32El, &pool_);
  options.encoder_cache = false;  // so that each run encodes in a step of its own
  const std::unique_ptr<Engine> engine = LoadEngine(options);
  ASSERT_TRUE(engine);
  std::mt19937 rng(51);
  const std::vector<int32_t> source = RandomSource(30, 283, rng);
  for (const int beams : {1, 4}) {
    Request request{source, Decoding(beams, 20)};
    request.decoding.num_return_sequences = beams == 1 ? 1 : 3;
    const Outcome whole = RunAlone(engine.get(), std::vector<Request>{request})[0];
    request.end = EndKind::kFinish;
    for (int steps = 0; steps < 19; ++steps) {
      request.end_after_decode_steps = steps;
      const Outcome part = RunAlone(engine.get(), std::vector<Request>{request})[0];
      EXPECT_TRUE(part.finished);
      EXPECT_EQ(part.decode_steps, steps);
      ASSERT_EQ(part.hypotheses.size(), steps == 0 ? 0u : request.decoding.num_return_sequences);
      for (const Hypothesis& hypothesis : part.hypotheses) {
        EXPECT_EQ(hypothesis.tokens.size(), static_cast<size_t>(steps));  // no token ends a hypothesis here
        EXPECT_EQ(hypothesis.logprobs.size(), hypothesis.tokens.size());
        EXPECT_EQ(hypothesis.reason, FinishReason::kLength);
      }
      if (beams == 1 && steps > 0) {
        const std::vector<int32_t>& tokens = whole.hypotheses[0].tokens;
        EXPECT_EQ(part.hypotheses[0].tokens, std::vector<int32_t>(tokens.begin(), tokens.begin() + steps));
      }
    }
  }
}

// Three sequences of which one is encoded first (a layer a step), while the others wait: ended at every step, they
// report nothing before they decode, and always return everything.
TEST_F(EngineTest, MemoryComesBackFromEveryStage) {
  const std::unique_ptr<Engine> engine = Load(SlowCheckpoint(), /*encode_tokens_per_step=*/1);
  ASSERT_TRUE(engine);
  std::mt19937 rng(61);
  uint64_t id = 1;
  StepResult result;
  int waiting = 0, encoding = 0, decoding = 0;
  for (const EndKind kind : {EndKind::kDiscard, EndKind::kFinish}) {
    for (int steps = 1; steps <= 16; ++steps) {
      StepPlan plan;
      for (uint64_t i = 0; i < 3; ++i) {
        plan.admissions.push_back({id + i, RandomSource(40, 271, rng), Decoding(2 + static_cast<int>(i), 30)});
      }
      std::vector<int> encoded_at(3, -1);
      for (int step = 0; step < steps; ++step) {
        ASSERT_TRUE(engine->Step(plan, &result).ok());
        plan = {};
        for (const SequenceUpdate& update : result.updates) {
          ASSERT_FALSE(update.finished);
          if (update.encoded) encoded_at[update.id - id] = step;
        }
      }
      EXPECT_EQ(encoded_at[0], steps >= 3 ? 2 : -1);
      EXPECT_EQ(encoded_at[1], steps >= 6 ? 5 : -1);
      EXPECT_EQ(encoded_at[2], steps >= 9 ? 8 : -1);
      for (uint64_t i = 0; i < 3; ++i) plan.ends.push_back({id + i, kind});
      ASSERT_TRUE(engine->Step(plan, &result).ok());
      EXPECT_TRUE(result.idle) << "ended after step " << steps;
      EXPECT_EQ(result.rows, 0);
      EXPECT_EQ(engine->free(), engine->info().capacity) << "ended after step " << steps;
      ASSERT_EQ(result.updates.size(), kind == EndKind::kFinish ? 3u : 0u);
      for (const SequenceUpdate& update : result.updates) {
        const int at = encoded_at[update.id - id];
        EXPECT_TRUE(update.finished);
        EXPECT_EQ(update.hypotheses.size(), at >= 0 && at < steps - 1 ? 1u : 0u);
        waiting += at < 0;
        encoding += at == steps - 1;
        decoding += at >= 0 && at < steps - 1;
      }
      id += 3;
    }
  }
  EXPECT_GT(waiting, 5);
  EXPECT_GT(encoding, 0);
  EXPECT_GT(decoding, 10);
}

// Documents are encoded together while their tokens fit the budget, and a step pays as many layers as their tokens
// allow.
TEST_F(EngineTest, EncodingKeepsToItsBudgetToTheToken) {
  const std::unique_ptr<Engine> engine = Load(SlowCheckpoint(), /*encode_tokens_per_step=*/40);
  ASSERT_TRUE(engine);
  std::mt19937 rng(74);
  struct Case {
    std::vector<int> sources;
    std::vector<int> encoded;  // tokens, by step
  };
  uint64_t id = 1;
  for (const Case& c : {Case{{40}, {40}},              // three layers in one step
                        Case{{41}, {0, 41}},           // 120 / 41: two, then one
                        Case{{20, 20}, {40}},          //
                        Case{{20, 20, 1}, {40, 1}},    //
                        Case{{20, 21}, {20, 21}},      //
                        Case{{48, 1}, {0, 48, 1}},     // longer than the budget: alone
                        Case{{1, 39, 1}, {40, 1}}}) {  // in order of arrival
    StepPlan plan;
    StepResult result;
    for (const int tokens : c.sources)
      plan.admissions.push_back({id++, RandomSource(tokens, 271, rng), Decoding(1, 40)});
    std::vector<int> encoded;
    for (size_t step = 0; step < c.encoded.size(); ++step) {
      ASSERT_TRUE(engine->Step(plan, &result).ok());
      plan = {};
      encoded.push_back(result.encoded_tokens);
    }
    EXPECT_EQ(encoded, c.encoded);
    for (uint64_t i = id - c.sources.size(); i < id; ++i) plan.ends.push_back({i, EndKind::kDiscard});
    ASSERT_TRUE(engine->Step(plan, &result).ok());
    ASSERT_TRUE(result.idle);
  }
}

// A document that is dropped while its batch is encoded gives its pages to another at once; what the batch computes
// for it must not land there.
TEST_F(EngineTest, PagesOfADroppedDocumentAreNotWritten) {
  EngineOptions options = OptionsFor(SlowCheckpoint(), kFloat32El, &pool_);
  options.encode_tokens_per_step = 1;
  options.encoder_memory_tokens = 64;  // one document at a time
  const std::unique_ptr<Engine> engine = LoadEngine(options);
  ASSERT_TRUE(engine);
  std::mt19937 rng(71);
  const Request kept{RandomSource(33, 271, rng), Decoding(3, 12)};
  const Outcome alone = RunAlone(engine.get(), std::vector<Request>{kept})[0];
  for (int steps = 1; steps <= 4; ++steps) {
    Request dropped{RandomSource(48, 271, rng), Decoding(1, 12)};
    dropped.discard_after_steps = steps;
    const std::vector<Request> requests = {dropped, kept};
    Traffic traffic(engine.get(), requests);
    const std::vector<size_t> order = {0, 1};
    const std::vector<Outcome> outcomes = traffic.Run(order, 2);
    EXPECT_EQ(BitDifference(alone, outcomes[1]), "") << "dropped after step " << steps;
  }
}

// To the last page, block and row.
// Those that come later and share a document with one in flight stand before others, but do not go before them.
TEST_F(EngineTest, PrefixesAreFedInTheOrderOfAdmission) {
  EngineOptions options = OptionsFor(TinyCheckpoint(), kFloat32El, &pool_);
  options.max_rows = 64;
  options.decoder_memory_tokens = 8192;
  const std::unique_ptr<Engine> engine = LoadEngine(options);
  ASSERT_TRUE(engine);
  std::mt19937 rng(9);
  const std::vector<int32_t> shared = RandomSource(20, 283, rng), own = RandomSource(20, 283, rng);
  DecodingSpec spec = Decoding(1, 80);
  while (spec.prefix.size() < 70) spec.prefix.push_back(7);
  constexpr SequenceId kOwn = 1000;
  StepResult result;
  bool done = false;
  for (SequenceId id = 1; id <= 40 && !done; ++id) {
    StepPlan plan;
    plan.admissions.push_back({.id = id, .source = shared, .decoding = spec});
    if (id == 2) plan.admissions.push_back({.id = kOwn, .source = own, .decoding = spec});
    ASSERT_TRUE(engine->Step(plan, &result).ok());
    for (const SequenceUpdate& update : result.updates) done = done || (update.id == kOwn && update.finished);
  }
  EXPECT_TRUE(done);
}

TEST_F(EngineTest, AdmissionsThatFitAlwaysSucceed) {
  const std::unique_ptr<Engine> engine = Load(TinyCheckpoint());
  ASSERT_TRUE(engine);
  struct Shape {
    int source, beams, max_length;
    int fit;
  };
  uint64_t id = 1;
  for (const Shape& shape : {Shape{1, 1, 2, 16}, Shape{64, 8, 2, 3}, Shape{65, 1, 17, 8}, Shape{10, 4, 65, 4}}) {
    StepPlan plan;
    StepResult result;
    const DecodingSpec d = Decoding(shape.beams, shape.max_length);
    for (int i = 0; i < shape.fit; ++i) {
      const auto token = static_cast<int32_t>(5 + id);  // each a source of its own
      plan.admissions.push_back({id++, std::vector<int32_t>(shape.source, token), d});
    }
    ASSERT_TRUE(engine->Step(plan, &result).ok());
    const absl::StatusOr<Resources> more = engine->Measure({shape.source, &d});
    ASSERT_TRUE(more.ok());
    EXPECT_FALSE(more->Fits(engine->free()));
    plan.admissions.clear();
    while (!result.idle) ASSERT_TRUE(engine->Step(plan, &result).ok());
    EXPECT_EQ(engine->free(), engine->info().capacity);
  }
}

TEST_F(EngineTest, APlanThatDoesNotFitIsAnError) {
  const std::unique_ptr<Engine> engine = Load(TinyCheckpoint());
  ASSERT_TRUE(engine);
  StepPlan plan;
  for (uint64_t i = 0; i < 4; ++i) plan.admissions.push_back({i + 1, {0, 5, 2}, Decoding(8, 10)});
  StepResult result;
  EXPECT_EQ(engine->Step(plan, &result).code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace elserve
