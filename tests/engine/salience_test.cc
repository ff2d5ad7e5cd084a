// Salience: where it acts, whom it touches, and what it takes. That it acts as in the paper is what the golden cases
// show.
#include "engine/salience.h"

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "tests/engine/engine_fixture.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kHidden = -std::numeric_limits<float>::infinity();

ModelConfig Config(int layers, int heads) {
  ModelConfig config;
  config.encoder.layers = 1;
  config.decoder.layers = layers;
  config.decoder.heads = heads;
  return config;
}

TEST(ResolveSalience, IsTheFirstLayerAndAllHeadsIfNothingIsSaid) {
  EXPECT_EQ(*ResolveSalience({}, Config(3, 4)), (SalientHeads{.layers = {1}, .heads = {1, 2, 3, 4}}));
  EXPECT_EQ(*ResolveSalience({.layers = {3, 2}, .heads = {}}, Config(3, 2)),
            (SalientHeads{.layers = {2, 3}, .heads = {1, 2}}));
  EXPECT_EQ(*ResolveSalience({.layers = {}, .heads = {4, 1}}, Config(3, 4)),
            (SalientHeads{.layers = {1}, .heads = {1, 4}}));
}

TEST(ResolveSalience, NamesWhatTheModelDoesNotHave) {
  const auto error = [](const SalientHeads& options, const ModelConfig& config) {
    const absl::Status status = ResolveSalience(options, config).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(error({.layers = {4}, .heads = {}}, Config(3, 4)),
            "salience.layers has 4; the model's decoder has 3 layers, which count from 1: allowed are 1 to 3");
  EXPECT_EQ(error({.layers = {0}, .heads = {}}, Config(3, 4)),
            "salience.layers has 0; the model's decoder has 3 layers, which count from 1: allowed are 1 to 3");
  EXPECT_THAT(error({.layers = {}, .heads = {1, 5}}, Config(3, 4)), HasSubstr("salience.heads has 5"));
  EXPECT_THAT(error({.layers = {}, .heads = {2, 2}}, Config(3, 4)), HasSubstr("salience.heads has 2 twice"));
  ModelConfig decoder_only = Config(3, 4);
  decoder_only.encoder.layers = 0;
  ASSERT_TRUE(decoder_only.decoder_only());
  EXPECT_THAT(error({.layers = {1}, .heads = {}}, decoder_only), HasSubstr("decoder-only"));
  EXPECT_EQ(*ResolveSalience({}, decoder_only), SalientHeads());
}

TEST(CheckSalience, WantsRangesOfTheSourceThatAreApart) {
  const auto check = [](std::vector<TokenRange> tokens, float addition = -1.0f) {
    return CheckSalience({.tokens = std::move(tokens), .addition = addition}, 9).ok();
  };
  EXPECT_TRUE(check({}));
  EXPECT_TRUE(check({{0, 9}}, kHidden));
  EXPECT_TRUE(check({{0, 2}, {3, 4}, {8, 9}}, 0.0f));
  EXPECT_FALSE(check({{-1, 2}}));
  EXPECT_FALSE(check({{0, 10}}));
  EXPECT_FALSE(check({{2, 2}}));
  EXPECT_FALSE(check({{3, 4}, {0, 2}}));
  EXPECT_FALSE(check({{0, 2}, {2, 4}}));
  EXPECT_FALSE(check({{0, 2}}, 0.5f));
  EXPECT_FALSE(check({{0, 2}}, std::nanf("")));
}

TEST(SalienceBiases, LowersOtherTokensInItsHeadsAlone) {
  SalienceBiases biases({.layers = {1}, .heads = {1, 3}}, /*heads=*/3, /*max_source_tokens=*/8, /*sequences=*/2);
  const auto hidden = biases.Take({.tokens = {{1, 2}, {3, 4}}, .addition = kHidden}, 4);
  const auto soft = biases.Take({.tokens = {{0, 3}}, .addition = -2.0f}, 5);
  EXPECT_THAT(hidden, ElementsAre(kHidden, 0, kHidden, 0, 0, 0, 0, 0, kHidden, 0, kHidden, 0));
  EXPECT_THAT(soft, ElementsAre(0, 0, 0, -2, -2, 0, 0, 0, 0, 0, 0, 0, 0, -2, -2));
  const float* const place = hidden.data();
  biases.Return(hidden);
  const auto again = biases.Take({.tokens = {{7, 8}}, .addition = -1.0f}, 8);
  EXPECT_EQ(again.data(), place);
  EXPECT_THAT(again.first(8), ElementsAre(-1, -1, -1, -1, -1, -1, -1, 0));
  EXPECT_EQ(soft[3], -2);
}

TEST(MostSalient, IsBoundedByMemory) {
  EXPECT_EQ(MostSalient(24, 16, 1024), 24);
  EXPECT_EQ(MostSalient(4096, 16, 1024), 256);  // 64 KiB each
  EXPECT_EQ(MostSalient(4096, 16, 1 << 20), 1);
  EXPECT_EQ(MostSalient(24, 16, 0), 0);
}

class SalienceTest : public EngineTest {
 protected:
  void Start(const EngineOptions& options) {
    engine_ = LoadEngine(options);
    ASSERT_TRUE(engine_);
  }
  EngineOptions Tiny() { return OptionsFor(TinyCheckpoint(), kFloat32El, &pool_); }
  SequenceId Join(const std::vector<int32_t>& source, const Salience& salience, int beams = 1) {
    Admission& admission = plan_.admissions.emplace_back();
    admission.id = next_id_++;
    admission.source = source;
    admission.decoding = Decoding(beams, 16);
    admission.decoding.salience = salience;
    return admission.id;
  }
  StepResult Step() {
    StepResult result;
    EXPECT_TRUE(engine_->Step(plan_, &result).ok());
    plan_ = {};
    return result;
  }
  // The answer to one sequence.
  Hypothesis Answer(const std::vector<int32_t>& source, const Salience& salience) {
    Join(source, salience);
    for (;;) {
      StepResult result = Step();
      for (SequenceUpdate& update : result.updates) {
        if (update.finished) return update.hypotheses.at(0);
      }
      if (result.idle) break;
    }
    ADD_FAILURE() << "no answer";
    return {};
  }

  std::mt19937 rng_{91};
  std::vector<int32_t> source_ = RandomSource(40, 283, rng_);
  std::unique_ptr<Engine> engine_;
  SequenceId next_id_ = 1;
  StepPlan plan_;
};

TEST_F(SalienceTest, ATinyAdditionChangesNextToNothingAndAGreatOneHides) {
  Start(Tiny());
  EXPECT_EQ(engine_->info().salience, (SalientHeads{.layers = {1}, .heads = {1, 2, 3, 4, 5}}));
  const std::vector<TokenRange> some = {{3, 9}, {20, 21}};
  const Hypothesis plain = Answer(source_, {});
  const Hypothesis tiny = Answer(source_, {.tokens = some, .addition = -1e-4f});
  ASSERT_EQ(tiny.tokens, plain.tokens);
  for (size_t i = 0; i < plain.logprobs.size(); ++i) EXPECT_NEAR(tiny.logprobs[i], plain.logprobs[i], 1e-2);
  EXPECT_NE(tiny.logprobs, plain.logprobs);
  const Hypothesis hidden = Answer(source_, {.tokens = some, .addition = kHidden});
  const Hypothesis great = Answer(source_, {.tokens = some, .addition = -200.0f});
  ASSERT_EQ(hidden.tokens, great.tokens);
  EXPECT_NE(hidden.tokens, plain.tokens);
  for (size_t i = 0; i < great.logprobs.size(); ++i) EXPECT_NEAR(hidden.logprobs[i], great.logprobs[i], 1e-4);
  // All tokens salient: nothing is added.
  const Hypothesis all = Answer(source_, {.tokens = {{0, 40}}, .addition = kHidden});
  EXPECT_EQ(all.tokens, plain.tokens);
}

TEST_F(SalienceTest, ActsInTheLayersAndHeadsThatTheOptionsName) {
  const Salience salience = {.tokens = {{3, 9}}, .addition = kHidden};
  std::vector<std::vector<float>> logprobs;
  for (const SalientHeads& where : std::vector<SalientHeads>{
           {}, {.layers = {3}, .heads = {}}, {.layers = {1}, .heads = {2}}, {.layers = {1, 2, 3}, .heads = {}}}) {
    EngineOptions options = Tiny();
    options.salience = where;
    Start(options);
    logprobs.push_back(Answer(source_, salience).logprobs);
  }
  for (size_t i = 0; i < logprobs.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(logprobs[i], logprobs[j]) << i << " " << j;
  }
}

// One encoding; one reading of its states for all whose salience is equal.
TEST_F(SalienceTest, SequencesOfOneDocumentReadItOnceForEachSalience) {
  Start(Tiny());
  const Salience some = {.tokens = {{3, 9}}, .addition = kHidden};
  const Salience other = {.tokens = {{3, 9}}, .addition = -1.0f};
  int encoded = 0;
  for (const Salience& salience : {some, Salience(), other, some, Salience(), other}) Join(source_, salience, 2);
  for (int step = 0; step < 3; ++step) {
    const StepResult result = Step();
    encoded += result.encoded_tokens;
    if (result.rows > 0) {
      EXPECT_EQ(result.documents, 3);
    }
  }
  EXPECT_EQ(encoded, 40);
}

TEST_F(SalienceTest, TakesOneOfTheSequencesThatMayHaveIt) {
  Start(Tiny());
  const Resources all = engine_->info().capacity;
  EXPECT_EQ(all.salient, all.rows);
  const SequenceId first = Join(source_, {.tokens = {{3, 9}}, .addition = kHidden});
  Join(source_, {});
  Step();
  EXPECT_EQ(engine_->free().salient, all.salient - 1);
  plan_.ends.push_back({first, EndKind::kDiscard});
  Step();
  EXPECT_EQ(engine_->free().salient, all.salient);
}

TEST_F(SalienceTest, MeasureRefusesWhatIsNotOfTheSource) {
  Start(Tiny());
  DecodingSpec d = Decoding(1, 16);
  d.salience = {.tokens = {{3, 41}}, .addition = kHidden};
  EXPECT_THAT(std::string(engine_->Measure({40, &d}).status().message()), HasSubstr("salience has tokens 3 to 41"));
  EXPECT_EQ(engine_->Measure({41, &d})->salient, 1);
}

TEST_F(SalienceTest, NumbersThatTheModelDoesNotHaveAreLoadErrors) {
  EngineOptions options = Tiny();
  options.salience.layers = {4};
  const auto engine = Engine::Load(options);
  EXPECT_THAT(std::string(engine.status().message()), HasSubstr("salience.layers has 4"));
}

}  // namespace
}  // namespace elserve
